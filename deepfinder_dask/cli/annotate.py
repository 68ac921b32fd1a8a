"""``deepfinder annotate``."""

from __future__ import annotations

import sys

from cyclopts import Parameter

from deepfinder_dask.cli.options import Outcome, Output, verb
from deepfinder_dask.viewing.annotating.settings import AnnotateSettings


@verb(
    AnnotateSettings,
    found=Parameter(name="--from", alias="-f", metavar="FOUND"),
    negatives=Parameter(metavar="FILE.parquet"),
    smooth=Parameter(metavar="SLICES|Å"),
    name=Parameter(metavar="NAME"),
)
def annotate(tomogram: str, /, *, output: Output, settings: AnnotateSettings) -> Outcome:
    """Mark particles in the slices of a tomogram, in the browser; or accept and reject what a network found.

    Every edit is on disk when the page shows it, in a journal beside the output, and the same command goes on where it
    stopped, however that was. Ends with the page's button Finish, or Ctrl-C.

    Parameters
    ----------
    tomogram
        As `deepfinder convert` wrote it.
    output
        Table of particles, PARTICLES.parquet: what `deepfinder target` takes.

    Examples
    --------
    deepfinder annotate TS_01.zarr --classes classes.toml -o TS_01.parquet
    # correct what was found, lowest score first; the rejected ones become negatives of the next training
    deepfinder annotate TS_01.zarr --from found.parquet -o TS_01.parquet --negatives TS_01_no.parquet
    # slices of 60 Å, on a port for ssh -L 8123:127.0.0.1:8123
    deepfinder annotate TS_01.zarr -c classes.toml -o TS_01.parquet --smooth 60A --port 8123 --no-open
    """
    from deepfinder_dask.cli.words import counted, facts_of
    from deepfinder_dask.viewing import annotate

    with annotate(tomogram, output, settings) as annotator:
        try:
            sys.stderr.write(f"annotate at {annotator.url} — Finish in the page, or Ctrl-C here, ends it\n")
            sys.stderr.flush()
            annotator.wait()
        except KeyboardInterrupt:
            sys.stderr.write("\n")
    particles, rejected = annotator.particles, annotator.rejected
    words = f"annotated {counted(particles)}" + (f", {len(rejected)} rejected" if len(rejected) else "")
    facts = {"path": output, **facts_of(particles), "rejected": len(rejected), "negatives": settings.negatives}
    return Outcome(f"{words} → {output}", facts)
