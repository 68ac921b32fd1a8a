"""The handle of an open viewer."""

from __future__ import annotations

import html
import os
import sys
import threading
import webbrowser
from types import TracebackType
from typing import Any

from deepfinder_dask.viewing.browser.serving import Page, PageServer

HEIGHT = 640
"""Pixels of the frame in a notebook."""


class View:
    """A page with a viewer; it is served until :meth:`close`, or the end of the process.

    In a notebook it shows itself.

    Parameters
    ----------
    server : PageServer
        Answers the page.
    page : Page
        State of the viewer.
    """

    def __init__(self, server: PageServer, page: Page) -> None:
        self.server = server
        self.page = page
        self._closed = threading.Event()

    @property
    def url(self) -> str:
        """Address of the page on this machine; it holds a secret, as whoever has it sees what is shown."""
        return self.page.url

    @property
    def state(self) -> Any:
        """What is shown now: a ``neuroglancer.ViewerState``; change it in ``with view.page.txn() as state``."""
        return self.page.state

    def open(self) -> bool:
        """Open the page in the browser of this machine; whether there is a screen to do so."""
        screen = sys.platform in ("darwin", "win32") or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))
        return screen and webbrowser.open(self.url)

    def wait(self) -> None:
        """Return when the viewer is closed, by another thread or by an interrupt."""
        while not self._closed.wait(3600):
            pass

    def close(self) -> None:
        """Stop serving."""
        if not self._closed.is_set():
            self._closed.set()
            self.server.close()

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"View({self.url}{', closed' if self._closed.is_set() else ''})"

    def _repr_html_(self) -> str:
        if self._closed.is_set():
            return "<p>This viewer was closed.</p>"
        address = html.escape(self.url, quote=True)
        return (
            f'<iframe src="{address}" width="100%" height="{HEIGHT}" style="border:0"></iframe>'
            f'<p><a href="{address}" target="_blank">Open in a tab of its own</a></p>'
        )
