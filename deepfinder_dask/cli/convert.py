"""``deepfinder convert``."""

from __future__ import annotations

from pathlib import Path

from deepfinder_dask.cli.options import Output, verb
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.tomograms.settings import ConvertSettings


@verb(ConvertSettings)
def convert(sources: list[str], /, *, output: Output, settings: ConvertSettings) -> str:
    """Convert tomograms to OME-Zarr with a pyramid and statistics.

    Reads MRC of every kind (.mrc .rec .map .st .ccp4, also .gz and .bz2), TIFF, HDF5 and Zarr, once and piece by piece:
    the memory needed does not grow with the tomogram.

    Parameters
    ----------
    sources
        Files, or folders whose tomograms are all converted.
    output
        NAME.zarr for one file; otherwise a folder, in which each gets a name of its own.
    """
    from deepfinder_dask.cli.words import described
    from deepfinder_dask.tomograms import convert, convert_many

    if output.rstrip("/").endswith(".zarr"):
        if len(sources) > 1:
            raise SettingsError(f"{len(sources)} sources cannot become one {output}: give a folder as the output")
        return f"converted {described(convert(sources[0], output, settings))}"
    converted = convert_many(sources, output, settings)
    return f"converted {len(converted)} tomograms to {Path(output)}"
