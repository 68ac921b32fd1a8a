"""``deepfinder view``."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from deepfinder_dask.cli.options import verb
from deepfinder_dask.viewing.browser.settings import ViewSettings

Sets = Annotated[tuple[str, ...], Parameter(alias="-p", consume_multiple=True, metavar="FILE", show_default=False)]
One = Annotated[str | None, Parameter(metavar="FILE", show_default=False)]


@verb(
    ViewSettings,
    labels=Parameter(alias="-l", metavar="SEG.zarr"),
    scores=Parameter(metavar="SEG.zarr"),
    names=Parameter(consume_multiple=True, metavar="NAME"),
    colours=Parameter(consume_multiple=True, metavar="#rrggbb"),
    port=Parameter(metavar="N"),
)
def view(
    tomogram: str,
    /,
    *,
    particles: Sets = (),
    truth: One = None,
    found: One = None,
    open: bool = True,
    settings: ViewSettings,
) -> None:
    """Look at a tomogram in the browser, with its labels, scores and particles.

    The page is on this machine only, and ends with Ctrl-C. It reads what is on screen, whatever the size of the
    tomogram. A right click on a particle in the list at the side goes there.

    Parameters
    ----------
    tomogram
        OME-Zarr or plain Zarr, also a URL, or the folder that locate left.
    particles
        Tables or lists of particles in any readable format, each shown as a layer.
    truth
        True particles, to be compared with the found ones: green where they were found, yellow where they were missed.
    found
        Found particles, shown in blue.
    open
        Open the page in the browser of this machine.

    Examples
    --------
    deepfinder view TS_01.zarr --labels TS_01_seg.zarr --particles TS_01.parquet
    # all that locate left
    deepfinder view found
    # true particles green, found ones blue, missed ones yellow
    deepfinder view TS_01.zarr --truth truth.parquet --found found.parquet --tolerance 0.5r
    # on another machine: ssh -L 8123:127.0.0.1:8123 to it, then
    deepfinder view TS_01.zarr --port 8123 --no-open
    """
    from deepfinder_dask.viewing import view

    with view(tomogram, list(particles) or None, truth=truth, found=found, settings=settings) as shown:
        try:
            sys.stderr.write(f"view at {shown.url} — Ctrl-C here ends it\n")
            sys.stderr.flush()
            if open:
                shown.open()
            shown.wait()
        except KeyboardInterrupt:
            sys.stderr.write("\n")  # after the ^C of the terminal
