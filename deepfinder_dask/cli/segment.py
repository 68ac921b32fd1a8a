"""``deepfinder segment``."""

from __future__ import annotations

from deepfinder_dask.cli.options import Output, Weights, verb
from deepfinder_dask.segmentation.settings import SegmentSettings


@verb(SegmentSettings)
def segment(tomogram: str, /, *, weights: Weights, output: Output, settings: SegmentSettings) -> str:
    """Give each voxel of a tomogram a class and a probability.

    Parameters
    ----------
    tomogram
        A converted tomogram, or any Zarr volume of known voxel size.
    weights
        Weights file (.safetensors), or demo for those that come with the package.
    output
        Store of the segmentation, SEG.zarr.
    """
    from deepfinder_dask.segmentation import segment

    segment(tomogram, weights, output, settings)
    return f"segmented {tomogram} → {output}"
