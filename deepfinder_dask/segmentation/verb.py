"""``segment``: a tomogram and weights in, label map and probabilities out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.errors import InputError, SettingsError, VoxelSizeError, WeightsError
from deepfinder_dask.execution import Executor, Progress, open_executor, options_to_settings
from deepfinder_dask.networks import Weights, load_weights
from deepfinder_dask.particles import classes_to_dicts
from deepfinder_dask.segmentation.block import SegmentBlock
from deepfinder_dask.segmentation.plan import Plan, plan_blocks
from deepfinder_dask.segmentation.settings import DEFAULT_MEMORY, SegmentSettings
from deepfinder_dask.segmentation.store import Outputs, Segmentation, create_outputs, finish_outputs
from deepfinder_dask.tomograms import Tomogram, VoxelSize, create_group, finish_group
from deepfinder_dask.tomograms.location import is_inside
from deepfinder_dask.tomograms.location import normalise as normalise_path
from deepfinder_dask.tomograms.resampling import resample_labels, rescale, rescaled_shape
from deepfinder_dask.tomograms.statistics import statistics_of
from deepfinder_dask.tomograms.storage import check_output, discard

TOLERANCE = 0.05
"""Relative difference of voxel sizes that the network bears."""


def segment(
    tomogram: Tomogram | str | Path,
    weights: Weights | str | Path,
    output: str | Path,
    settings: SegmentSettings | None = None,
    *,
    executor: Executor | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Segmentation:
    """Classify every voxel of a tomogram, block by block.

    The result is the network in one pass over the whole normalised volume, with zero padding in each layer at its
    borders (sizes that are no multiple of 4 are padded on the high side), whatever the blocks and workers.

    Parameters
    ----------
    tomogram : Tomogram, str or path
        A converted tomogram, or any Zarr volume (z, y, x) whose voxel size is known.
    weights : Weights, str or path
        A weights file, or the name of weights that come with the package (``demo``).
    output : str or path
        Store to make; its layout is in :mod:`deepfinder_dask.segmentation.store`.
    settings : SegmentSettings, optional
        How; single settings can be given as keyword options instead.
    executor : Executor, optional
        Where block tasks run; by default as the settings say.
    progress : bool, optional
        Show a progress bar; by default on a terminal.
    **options
        Fields of :class:`SegmentSettings`.

    Returns
    -------
    Segmentation
        Handles of the label map and probabilities.

    Raises
    ------
    InputError
        If there is no such tomogram or weights, or they do not go together: voxel size, contrast or tilt axis differ.
    OutputExistsError
        If the output exists and may not be overwritten.
    SettingsError
        If no block fits the memory, or the output would replace the tomogram.
    """
    settings = options_to_settings(SegmentSettings, settings, options)
    tomogram = tomogram if isinstance(tomogram, Tomogram) else Tomogram.open(tomogram)
    weights = weights if isinstance(weights, Weights) else load_weights(weights)
    check_match(tomogram, weights, settings)
    scale = _target_voxel_size(tomogram, weights, settings)
    shape = tomogram.shape if scale is None else rescaled_shape(tomogram.shape, tomogram.voxel_size, scale)
    path = normalise_path(output)
    if is_inside(tomogram.path, path):
        raise SettingsError(f"the output {path} would replace the tomogram {tomogram.path}: choose another output")
    check_output(path, kind="segmentation", overwrite=settings.overwrite)
    memory = settings.memory or DEFAULT_MEMORY
    place = nullcontext(executor) if executor else open_executor(settings.workers, settings.scheduler)
    with place as where:
        classes = len(weights.classes) + 1
        plan = plan_blocks(classes, shape, block=settings.block, memory=memory, workers=where.workers)
        facts = _facts(tomogram, weights, settings, plan)
        create_group(path, kind="segmentation", overwrite=settings.overwrite, attributes=facts)
        _segment_into(path, tomogram, weights, settings, plan, scale, where, progress)
    finish_group(path)
    return Segmentation.open(path)


def _segment_into(
    path: str,
    tomogram: Tomogram,
    weights: Weights,
    settings: SegmentSettings,
    plan: Plan,
    scale: VoxelSize | None,
    executor: Executor,
    progress: bool | None,
) -> None:
    classes = len(weights.classes) + 1 if settings.scores else None
    core = plan.grid.core
    outputs = create_outputs(path, tomogram.shape, tomogram.voxel_size, core, classes=classes)

    def network_over(source: Tomogram, grid: BlockGrid, into: Outputs) -> None:
        statistics = source.statistics or statistics_of(source.volume)
        if not statistics.std > 0:
            raise InputError(f"{tomogram.path} is constant ({statistics.mean}): there is nothing to find")
        block = SegmentBlock(
            tomogram=source.volume,
            weights=weights,
            mean=statistics.mean,
            std=statistics.std,
            invert=settings.invert,
            labels=into.labels,
            probability=into.probability,
            scores=into.scores,
        )
        with Progress(f"segment {tomogram.name}", len(grid), enabled=progress) as bar:
            for _ in executor.run(block, list(grid), label=f"segment-{tomogram.name}"):
                bar.advance()

    if scale is None:
        network_over(tomogram, plan.grid, outputs)
    else:
        work = f"{path}/rescaled"
        bars = progress is not False
        create_group(work, kind="work")
        rescale(tomogram.volume, f"{work}/tomogram", tomogram.voxel_size, scale, executor=executor, progress=bars)
        fine = create_outputs(work, plan.grid.shape, scale, core, classes=classes)
        network_over(Tomogram.open(f"{work}/tomogram"), plan.grid, fine)
        for here, there in zip(fine.volumes(), outputs.volumes(), strict=True):
            resample_labels(here, there, scale, tomogram.voxel_size, executor=executor, progress=bars)
        discard(work)
    finish_outputs(path, weights.classes, executor, scores=settings.scores)


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


def _target_voxel_size(tomogram: Tomogram, weights: Weights, settings: SegmentSettings) -> VoxelSize | None:
    """Voxel size to resample to; None where the tomogram has it already."""
    same = all(abs(v / weights.voxel_size - 1) < 1e-3 for v in tomogram.voxel_size)
    return None if same or not settings.rescale else (weights.voxel_size,) * 3


def _facts(tomogram: Tomogram, weights: Weights, settings: SegmentSettings, plan: Plan) -> Mapping[str, Any]:
    from deepfinder_dask import __version__

    return {
        "tomogram": tomogram.name,
        "tomogram_path": tomogram.path,
        "voxel_size": list(tomogram.voxel_size),
        "shape": list(tomogram.shape),
        "classes": classes_to_dicts(weights.classes),
        "weights": {"sha256": weights.sha256, "voxel_size": weights.voxel_size},
        "settings": asdict(settings),
        "plan": {"core": list(plan.grid.core), "blocks": len(plan.grid), "waste": round(plan.waste, 4)},
        "version": __version__,
    }
