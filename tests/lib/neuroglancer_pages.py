"""Looking at pages of neuroglancer: wait until they are drawn, and where a voxel is on screen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from browsing import Browser

PLANES = {"xy": ("x", 1, "y", 1), "xz": ("x", 1, "z", 1), "yz": ("z", -1, "y", 1)}
"""Of the four panels: which axis goes right and which goes down, and with which sign (neuroglancer's choice)."""
AXES = "zyx"
_PANELS = """
return [...viewer.display.panels].filter(one => one.sliceView !== undefined).map(one => {
  const box = one.element.getBoundingClientRect();
  return [box.left + one.element.clientLeft, box.top + one.element.clientTop,
          one.element.clientWidth, one.element.clientHeight];
});
"""


def settle(browser: Browser, page: Any, seconds: float = 240) -> None:
    """Wait until the page shows the state of its viewer, and has drawn all of it."""
    layers = [one.name for one in page.state.layers]

    def drawn() -> bool:
        for _ in range(3):
            same = browser.run(
                "return typeof viewer !== 'undefined' && viewer.isReady() && "
                "JSON.stringify((viewer.state.toJSON().layers || []).map(one => one.name)) == arguments[0]",
                json.dumps(layers, separators=(",", ":"), ensure_ascii=False),
            )
            if not same:
                return False
            time.sleep(0.15)
        return True

    browser.wait(drawn, seconds, what="the viewer to draw its layers")


@contextmanager
def changed(browser: Browser, page: Any) -> Iterator[Any]:
    """Change the state of a viewer, and wait until the page has taken it and drawn it."""
    with page.txn() as state:
        yield state
        title = f"{time.monotonic_ns()}"
        state.title = title  # comes back when the page has the state
    browser.wait(lambda: browser.run("return viewer.state.toJSON().title") == title, 120, what="the new state")
    settle(browser, page)


def plain(state: Any) -> None:
    """Take away what is drawn beside the layers: axes, boxes, scale bar, side panel."""
    state.show_axis_lines = state.show_default_annotations = state.show_scale_bar = False
    state.selected_layer.visible = False
    state.enable_adaptive_downsampling = False
    state.layout = "4panel"


class Planes:
    """Where voxels are on the screen, computed from the state alone: panel, position and zoom.

    Parameters
    ----------
    browser, page
        A page in the layout of four panels.
    voxel_size : (z, y, x)
        Å per voxel.
    """

    def __init__(self, browser: Browser, page: Any, voxel_size: Sequence[float]) -> None:
        boxes = sorted(browser.run(_PANELS), key=lambda box: (round(box[1] / 50), box[0]))
        assert len(boxes) == 3
        self.boxes = dict(zip(("xy", "xz", "yz"), boxes, strict=True))
        state = page.state
        self.position = np.asarray(state.position, float)[::-1]
        self.size = np.asarray(voxel_size, float)
        self.zoom = float(state.cross_section_scale) * min(voxel_size)  # Å per pixel

    def pixel(self, plane: str, voxel: Sequence[float]) -> tuple[int, int] | None:
        """(row, column) on the screenshot of a place (z, y, x) in voxels; None where it is outside the panel."""
        right, right_sign, down, down_sign = PLANES[plane]
        offset = (np.asarray(voxel, float) - self.position) * self.size / self.zoom
        left, top, width, height = self.boxes[plane]
        x = right_sign * offset[AXES.index(right)]
        y = down_sign * offset[AXES.index(down)]
        if abs(x) > width / 2 - 30 or abs(y) > height / 2 - 30:  # buttons lie in the corners
            return None
        return int(np.floor(top + height / 2 + y)), int(np.floor(left + width / 2 + x))

    def axes(self, plane: str) -> tuple[int, int, int]:
        """Numbers in (z, y, x) of the axis to the right, the one downwards, and the one into the screen."""
        right, _, down, _ = PLANES[plane]
        a, b = AXES.index(right), AXES.index(down)
        return a, b, 3 - a - b
