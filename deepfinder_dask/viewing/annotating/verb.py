"""``annotate``: a page in the browser, and a table of particles that grows with every click."""

from __future__ import annotations

import html
import os
import sys
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.particles import Particles
from deepfinder_dask.tomograms import Tomogram
from deepfinder_dask.viewing.annotating.opening import open_session
from deepfinder_dask.viewing.annotating.serving import AnnotationServer
from deepfinder_dask.viewing.annotating.settings import AnnotateSettings


class Annotator:
    """An annotation that is under way: the page is served until :meth:`close`. Also a context manager."""

    def __init__(self, server: AnnotationServer) -> None:
        self._server = server

    @property
    def url(self) -> str:
        """Address of the page, for a browser on this machine."""
        return self._server.url

    @property
    def particles(self) -> Particles:
        """The particles as they stand, without rejected ones."""
        return self._server.session.particles()

    @property
    def rejected(self) -> Particles:
        """The rejected particles, which training can take as negatives."""
        return self._server.session.rejected()

    def open(self) -> bool:
        """Open the page in the browser of this machine; whether there is a screen to do so."""
        screen = sys.platform in ("darwin", "win32") or any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY"))
        return screen and webbrowser.open(self.url)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until *Finish* is pressed in the page; False where ``seconds`` pass before."""
        return self._server.ended.wait(seconds)

    def close(self) -> None:
        """Save, stop serving, and let go of the output.

        Raises
        ------
        StorageError
            The table cannot be written; all edits are in the journal beside it.
        """
        self._server.close()

    def __enter__(self) -> Annotator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Annotator({self.url} → {self._server.session.output})"

    def _repr_html_(self) -> str:
        name = html.escape(self._server.session.tomogram.name)
        return f'<a href="{self.url}" target="_blank">Annotate {name}</a>'


def annotate(
    tomogram: Tomogram | str | Path, output: str | Path, settings: AnnotateSettings | None = None, **options: Any
) -> Annotator:
    """Mark particles in the slices of a tomogram, in the browser.

    Every edit is on disk when the page shows it, in a journal beside the output; the table is written shortly after.
    Called again with the same output, it goes on where it stopped, however that was. Slices are read from the pyramid
    as they are shown: memory does not grow with the tomogram.

    Parameters
    ----------
    tomogram : Tomogram, str or path
        As ``convert`` made it, or any Zarr volume (z, y, x) whose voxel size is known.
    output : str or path
        Table of particles to write, .parquet: what ``target`` takes.
    settings : AnnotateSettings, optional
        How; single settings can be given as keyword options instead.
    **options
        Fields of :class:`AnnotateSettings`.

    Returns
    -------
    Annotator
        With the address of the page; to be closed.

    Raises
    ------
    InputError
        Another process annotates this output, it belongs to another tomogram or other classes, or was changed since.
    SettingsError
        There are no classes to annotate with, or an option cannot work.
    OutputExistsError
        There is an output, and particles to start from are given as well.
    FormatError, GeometryError, VoxelSizeError
        A file is damaged, or belongs to another volume.
    StorageError
        The output cannot be written.
    """
    chosen = options_to_settings(AnnotateSettings, settings, options)
    session = open_session(tomogram, output, chosen)
    with ExitStack() as stack:
        stack.callback(session.close)
        server = AnnotationServer(session, chosen.port)
        stack.pop_all()
    annotator = Annotator(server)
    if chosen.open:
        annotator.open()
    return annotator
