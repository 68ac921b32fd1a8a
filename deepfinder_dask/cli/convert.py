"""``deepfinder convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfinder_dask.cli.options import Outcome, Output, verb
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.tomograms.settings import ConvertSettings

if TYPE_CHECKING:
    from deepfinder_dask.tomograms import Tomogram


@verb(ConvertSettings)
def convert(sources: list[str], /, *, output: Output, settings: ConvertSettings) -> Outcome:
    """Convert tomograms to OME-Zarr with a pyramid and statistics.

    Reads MRC of every kind (.mrc .rec .map .st .ccp4, also .gz and .bz2), TIFF, HDF5 and Zarr, once and piece by piece:
    the memory needed does not grow with the tomogram.

    Parameters
    ----------
    sources
        Files, or folders whose tomograms are all converted.
    output
        NAME.zarr for one file; otherwise a folder, in which each gets a name of its own.

    Examples
    --------
    deepfinder convert TS_01.mrc -o TS_01.zarr
    # a folder of tomograms whose headers do not say the voxel size
    deepfinder convert reconstructions/ -o tomograms --voxel-size 13.48
    # one dataset of an HDF5 file, for readers that know OME-Zarr 0.4 only
    deepfinder convert scan.h5::/data/volume -o scan.zarr --voxel-size 10 --ome-zarr 0.4
    """
    from deepfinder_dask.cli.words import described
    from deepfinder_dask.tomograms import convert, convert_many

    if output.rstrip("/").endswith(".zarr"):
        if len(sources) > 1:
            raise SettingsError(f"{len(sources)} sources cannot become one {output}: give a folder as the output")
        made = convert(sources[0], output, settings)
        return Outcome(f"converted {described(made)}", {"tomograms": [_facts(made)]})
    converted = convert_many(sources, output, settings)
    words = f"converted {len(converted)} tomograms to {Path(output)}"
    return Outcome(words, {"tomograms": [_facts(made) for made in converted]})


def _facts(tomogram: Tomogram) -> dict[str, Any]:
    """Path, shape (z, y, x) and Å per voxel."""
    return {"path": tomogram.path, "shape": list(tomogram.shape), "voxel_size": list(tomogram.voxel_size)}
