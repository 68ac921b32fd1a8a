"""Whether a tomogram and weights go together: if not, a network would silently find nothing."""

from __future__ import annotations

from deepfinder_dask.errors import VoxelSizeError, WeightsError
from deepfinder_dask.networks import Weights
from deepfinder_dask.segmentation.settings import SegmentSettings
from deepfinder_dask.tomograms import Tomogram, VoxelSize

TOLERANCE = 0.05
"""Relative difference of voxel sizes that the network bears."""


def check_match(tomogram: Tomogram, weights: Weights, settings: SegmentSettings, name: str | None = None) -> None:
    """Refuse a tomogram that the weights were not made for: they would silently find nothing.

    Parameters
    ----------
    tomogram, weights, settings
        As for :func:`segment`.
    name : str, optional
        What the user calls the tomogram; default its path.

    Raises
    ------
    VoxelSizeError
        If the voxel sizes differ by more than 5 % and ``rescale`` is not set.
    WeightsError
        If contrast or tilt axis differ.
    """
    name = name or tomogram.path
    off = max(abs(v / weights.voxel_size - 1) for v in tomogram.voxel_size)
    if off > TOLERANCE and not settings.rescale:
        found = " × ".join(f"{v:g}" for v in dict.fromkeys(tomogram.voxel_size))
        raise VoxelSizeError(
            f"{name} has voxels of {found} Å, the weights were trained at {weights.voxel_size:g} Å: "
            "pass --rescale to resample it, or use other weights"
        )
    if not tomogram.imaging_known:
        return
    theirs, ours = weights.imaging, tomogram.imaging
    if (theirs.contrast == ours.contrast) == settings.invert:
        fix = "leave out --invert" if settings.invert else "pass --invert"
        raise WeightsError(
            f"{name} has {ours.contrast} particles, the weights were trained on {theirs.contrast} ones: {fix}"
        )
    if (theirs.tilt_axis, theirs.beam_axis) != (ours.tilt_axis, ours.beam_axis):
        raise WeightsError(
            f"{name} has tilt axis {ours.tilt_axis} and beam axis {ours.beam_axis}, the weights were trained "
            f"with {theirs.tilt_axis} and {theirs.beam_axis}: turn the tomogram, or use other weights"
        )


def target_voxel_size(tomogram: Tomogram, weights: Weights, settings: SegmentSettings) -> VoxelSize | None:
    """Voxel size to resample to; None where the tomogram has it already."""
    same = all(abs(v / weights.voxel_size - 1) < 1e-3 for v in tomogram.voxel_size)
    return None if same or not settings.rescale else (weights.voxel_size,) * 3
