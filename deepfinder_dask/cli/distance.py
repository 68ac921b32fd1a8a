"""``deepfinder distance``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deepfinder_dask.cli.options import Outcome, Output, verb
from deepfinder_dask.clustering.settings import DistanceSettings
from deepfinder_dask.errors import SettingsError

_LENGTH = Parameter(metavar="Å")


@verb(DistanceSettings, structure=Parameter(metavar="CLASS"), within=_LENGTH, beyond=_LENGTH, maximum=_LENGTH)
def distance(
    particles: str,
    /,
    *,
    segmentation: Annotated[list[str], Parameter(alias="-s", consume_multiple=True, metavar="SEG.zarr")],
    output: Output,
    settings: DistanceSettings,
) -> Outcome:
    r"""Measure how far particles are from a structure, and filter by it.

    Parameters
    ----------
    particles
        Table of particles (.parquet), or any format that says everything itself.
    segmentation
        Label maps with the structure, one for each tomogram.
    output
        Table of particles, PARTICLES.parquet, with the distances in Å as a column; their histogram goes beside it as
        PARTICLES.png, before the filter.

    Examples
    --------
    # ribosomes bound to a membrane, as in Moebel et al. (2021)
    deepfinder distance ribosomes.parquet --segmentation TS_01_labels.zarr --structure membrane --within 273.6 \
        -o bound.parquet
    # those that are free
    deepfinder distance ribosomes.parquet -s TS_01_labels.zarr --structure membrane --beyond 300 -o free.parquet
    """
    from deepfinder_dask.cli.words import counted, facts_of
    from deepfinder_dask.clustering.distancing import filter_by_distance, measure_distances
    from deepfinder_dask.clustering.verb import checked_output
    from deepfinder_dask.particles.files import refuse_existing
    from deepfinder_dask.viewing import distance_histogram
    from deepfinder_dask.viewing.drawing import save_png

    target = checked_output(output, settings.overwrite) or Path(output)
    picture = target.with_suffix(".png")
    if picture == target:
        raise SettingsError(f"particles are written as Parquet, got {output}: name it {target.stem}.parquet")
    refuse_existing([picture], settings.overwrite)
    measured, structure = measure_distances(particles, segmentation, settings, scratch=target.absolute().parent)
    found = filter_by_distance(measured, structure, within=settings.within, beyond=settings.beyond)
    marks = [length for length in (settings.within, settings.beyond) if length is not None]
    found.write(target)
    save_png(distance_histogram(measured, structure, marks=sorted(marks)), picture)
    words = f"measured {len(measured)} particles to {structure}, kept {counted(found)} → {target}, {picture}"
    facts = {"particles": str(target), "picture": str(picture), "structure": structure, "measured": len(measured)}
    return Outcome(words, {**facts, **facts_of(found)})
