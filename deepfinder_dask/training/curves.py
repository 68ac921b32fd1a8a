"""Curves of a run while it goes on: a picture, a page that renews itself, and TensorBoard's logs."""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepfinder_dask.particles.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deepfinder_dask.particles import ParticleClass

Entry = Mapping[str, float]
POINTS = 2000
"""Most points of the curve of losses: further ones are means of their neighbours."""
RENEW = 20
"""Seconds after which the page renews itself."""


def draw_curves(record: Sequence[Entry], classes: Sequence[ParticleClass], folder: Path, *, total: int) -> None:
    """Draw loss and validation F1 of each class over the steps into ``curves.png`` and ``curves.html``.

    The page holds everything it shows; while the run goes on it renews itself.

    Parameters
    ----------
    record : sequence of mappings
        One per step.
    classes : sequence of ParticleClass
    folder : Path
    total : int
        Steps that the run is to have; as many as there are when it has ended.
    """
    figure = _figure(record, classes)
    with atomic_write(folder / "curves.png") as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    svg = BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    drawing = svg.getvalue().decode()
    with atomic_write(folder / "curves.html") as temporary:
        page = _page(folder.name, record, classes, drawing[drawing.index("<svg") :], total)
        temporary.write_text(page, encoding="utf-8")


def _figure(record: Sequence[Entry], classes: Sequence[ParticleClass]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counted = [e for e in record if "particles_f1" in e]
    panels = 3 if counted else 2
    figure = Figure(figsize=(8, 3 * panels), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(panels, 1, sharex=True)
    steps, losses = _thinned(record)
    axes[0].plot(steps, losses, color="0.4", linewidth=0.8)
    axes[0].set_ylabel("loss")
    _draw_scores(axes[1], [e for e in record if "f1" in e], classes, "f1")
    axes[1].set_ylabel("F1 of voxels, validation patches")
    if counted:
        _draw_scores(axes[2], counted, classes, "particles_f1")
        found = [e["particles_localisation"] for e in counted]
        axes[2].plot([e["step"] for e in counted], found, color="0.4", linestyle="--", label="localisation")
        axes[2].set_ylabel("F1 of particles, whole tomograms")
    for one in axes[1:]:
        one.set_ylim(0, 1)
        if one.get_legend_handles_labels()[1]:
            one.legend(loc="lower right", frameon=False, ncols=1 + len(classes) // 7)
    axes[-1].set_xlabel("step")
    return figure


def _draw_scores(axes: Any, entries: Sequence[Entry], classes: Sequence[ParticleClass], key: str) -> None:
    for one in classes:
        steps = [e["step"] for e in entries if f"{key}_{one.label}" in e]
        scores = [e[f"{key}_{one.label}"] for e in entries if f"{key}_{one.label}" in e]
        if steps:
            axes.plot(steps, scores, color=one.colour, marker=".", label=one.name)


def _thinned(record: Sequence[Entry]) -> tuple[list[float], list[float]]:
    """Steps and losses, neighbours pooled where there are too many to be seen."""
    pool = -(-len(record) // POINTS)
    parts = [record[i : i + pool] for i in range(0, len(record), pool)] if record else []
    return [p[-1]["step"] for p in parts], [float(np.mean([e["loss"] for e in p])) for p in parts]


def _page(name: str, record: Sequence[Entry], classes: Sequence[ParticleClass], drawing: str, total: int) -> str:
    last = record[-1] if record else {"step": 0}
    going_on = last["step"] < total
    rows = [("step", f"{last['step']:g} of {total}")]
    if record:
        seconds = float(np.median([e["seconds"] for e in record[-50:]]))
        rows += [("loss, mean of the last 50", f"{np.mean([e['loss'] for e in record[-50:]]):.4f}")]
        rows += [("seconds a step", f"{seconds:.3g}")]
        rows += [("left, about", f"{(total - last['step']) * seconds / 60:.0f} min")] if going_on else []
    for key, words in (("f1", "F1 of voxels"), ("particles_f1", "F1 of particles")):
        checked = [e for e in record if key in e]
        if checked:
            rows += [(words, f"{checked[-1][key]:.3f} (best {max(e[key] for e in checked):.3f})")]
            rows += [
                (f"— {one.name}", f"{checked[-1][f'{key}_{one.label}']:.3f}")
                for one in classes
                if f"{key}_{one.label}" in checked[-1]
            ]
    table = "".join(f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in rows)
    renew = f'<meta http-equiv="refresh" content="{RENEW}">' if going_on else ""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{renew}<title>{html.escape(name)}</title>'
        "<style>body{font:15px sans-serif;margin:2em;display:flex;flex-wrap:wrap;gap:2em}"
        "td{padding:.15em 1em .15em 0}svg{max-width:100%;height:auto}</style></head>"
        f"<body><div><h1>{html.escape(name)}</h1><table>{table}</table></div><div>{drawing}</div></body></html>\n"
    )


class Board:
    """TensorBoard's logs of a run, in the folder ``tensorboard``; nothing where that package is not installed."""

    def __init__(self, writer: Any, classes: Sequence[ParticleClass]) -> None:
        self._writer = writer
        self._names = {str(one.label): one.name for one in classes}

    def add(self, entry: Entry) -> None:
        """Log a step."""
        if self._writer is None:
            return
        step = int(entry["step"])
        for key, value in entry.items():
            if key != "step":
                tag, _, label = key.rpartition("_")
                known = tag.endswith("f1") and label in self._names
                self._writer.add_scalar(f"{tag}/{self._names[label]}" if known else key, value, step)
        if "f1" in entry:
            self._writer.flush()


@contextmanager
def open_board(folder: Path, classes: Sequence[ParticleClass], step: int) -> Iterator[Board]:
    """Logs for TensorBoard from a step on: what a killed run logged after it is hidden."""
    writer: Any = None
    if importlib.util.find_spec("tensorboard") is not None:
        from torch.utils.tensorboard import SummaryWriter

        kind: Any = SummaryWriter  # without types
        writer = kind(str(folder / "tensorboard"), purge_step=step + 1)
    try:
        yield Board(writer, classes)
    finally:
        if writer is not None:
            writer.close()
