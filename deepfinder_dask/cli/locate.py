"""``deepfinder locate``: the main job."""

from __future__ import annotations

from pathlib import Path

from deepfinder_dask.campaigns.settings import LocateSettings
from deepfinder_dask.cli.options import Outcome, Output, Weights, verb


@verb(LocateSettings)
def locate(tomogram: str, /, *, weights: Weights, output: Output, settings: LocateSettings) -> Outcome:
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

    Examples
    --------
    deepfinder locate TS_01.mrc -w demo -o TS_01
    # 8 GiB for each of four workers; a voxel size that the file does not say
    deepfinder locate TS_01.mrc -w weights.safetensors -o TS_01 --workers 4 --memory 8GiB --voxel-size 10
    # bright particles, another voxel size than that of the weights, nothing of fewer than 200 voxels
    deepfinder locate TS_01.rec -w weights.safetensors -o TS_01 --invert --rescale --min-size 200
    """
    from deepfinder_dask.campaigns import locate
    from deepfinder_dask.cli.words import counted, facts_of

    located = locate(tomogram, weights, output, settings)
    done = f"found {counted(located.particles)} → {Path(output)}, see {Path(output, 'slices.png')}"
    words = "\n".join([done, *(f"note: {note}" for note in located.summary["notes"])])
    facts = {"folder": output, **facts_of(located.particles), "pictures": [str(path) for path in located.pictures]}
    return Outcome(words, {**facts, "summary": dict(located.summary)})
