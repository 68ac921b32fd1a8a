"""``deepfinder locate``: the main job."""

from __future__ import annotations

from pathlib import Path

from deepfinder_dask.campaigns.settings import LocateSettings
from deepfinder_dask.cli.options import Output, Weights, verb


@verb(LocateSettings)
def locate(tomogram: str, /, *, weights: Weights, output: Output, settings: LocateSettings) -> str:
    """Find the particles in a tomogram: convert, segment, cluster, export, draw.

    Leaves the converted tomogram, its segmentation, the particles, exports for other programs, pictures and
    summary.json. Interrupted, the same command goes on after the last step that was finished.

    Parameters
    ----------
    tomogram
        MRC (also .gz and .bz2), TIFF, HDF5 or Zarr.
    weights
        Weights file (.safetensors), or demo for those that come with the package.
    output
        Folder.
    """
    from deepfinder_dask.campaigns import locate
    from deepfinder_dask.cli.words import counted

    located = locate(tomogram, weights, output, settings)
    done = f"found {counted(located.particles)} → {Path(output)}, see {Path(output, 'slices.png')}"
    return "\n".join([done, *(f"note: {note}" for note in located.summary["notes"])])
