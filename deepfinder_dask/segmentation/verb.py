"""``segment``: a tomogram and weights in, label map and probabilities out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from deepfinder_dask.blocks import Block
from deepfinder_dask.errors import PartialFailure, SettingsError
from deepfinder_dask.execution import Executor, Failure, Ledger, Progress, options_to_settings
from deepfinder_dask.networks import Weights, load_weights
from deepfinder_dask.particles import classes_to_dicts
from deepfinder_dask.segmentation.block import SegmentBlock
from deepfinder_dask.segmentation.claiming import begun_at, claim
from deepfinder_dask.segmentation.job import Job, settle
from deepfinder_dask.segmentation.settings import SegmentSettings
from deepfinder_dask.segmentation.store import (
    Outputs,
    Segmentation,
    create_outputs,
    finish_outputs,
    outputs_of,
)
from deepfinder_dask.segmentation.workers import open_workers
from deepfinder_dask.tomograms import Tomogram, create_group, finish_group, read_attributes, write_attributes
from deepfinder_dask.tomograms.location import is_inside
from deepfinder_dask.tomograms.location import normalise as normalise_path
from deepfinder_dask.tomograms.opening import is_finished
from deepfinder_dask.tomograms.resampling import resample_labels, rescale
from deepfinder_dask.tomograms.storage import discard

if TYPE_CHECKING:
    import dask.array

NAMED = 3
"""Most failed blocks that an error names."""


@overload
def segment(
    tomogram: Tomogram | str | Path,
    weights: Weights | str | Path,
    output: str | Path,
    settings: SegmentSettings | None = None,
    *,
    compute: Literal[True] = True,
    executor: Executor | None = None,
    progress: bool | None = None,
    name: str | None = None,
    **options: Any,
) -> Segmentation: ...


@overload
def segment(
    tomogram: Tomogram | str | Path,
    weights: Weights | str | Path,
    output: None = None,
    settings: SegmentSettings | None = None,
    *,
    compute: Literal[False],
    **options: Any,
) -> dask.array.Array: ...


def segment(
    tomogram: Tomogram | str | Path,
    weights: Weights | str | Path,
    output: str | Path | None = None,
    settings: SegmentSettings | None = None,
    *,
    compute: bool = True,
    executor: Executor | None = None,
    progress: bool | None = None,
    name: str | None = None,
    **options: Any,
) -> Segmentation | dask.array.Array:
    """Classify every voxel of a tomogram, block by block.

    The result is the network in one pass over the whole normalised volume, with zero padding in each layer at its
    borders (sizes that are no multiple of 4 are padded on the high side), whatever the blocks and workers.

    Finished blocks are recorded in the output. Interrupted or killed at any instant, the same call goes on with the
    blocks that are missing, and gives the same bytes; ``.ledger/progress.json`` in the output tells other programs
    how far it is.

    Parameters
    ----------
    tomogram : Tomogram, str or path
        A converted tomogram, or any Zarr volume (z, y, x) whose voxel size is known.
    weights : Weights, str or path
        A weights file, or the name of weights that come with the package (``demo``).
    output : str or path
        Store to make; its layout is in :mod:`deepfinder_dask.segmentation.store`. None for ``compute=False``.
    settings : SegmentSettings, optional
        How; single settings can be given as keyword options instead.
    compute : bool
        False computes and writes nothing, and returns the label map as a lazy Dask array
        (:func:`~deepfinder_dask.segmentation.segment_lazily` also gives probability and scores).
    executor : Executor, optional
        Where block tasks run; by default as the settings say.
    progress : bool, optional
        Show a progress bar; by default on a terminal.
    name : str, optional
        What the tomogram is called; by default as its store.
    **options
        Fields of :class:`SegmentSettings`.

    Returns
    -------
    Segmentation
        Handles of the label map and probabilities; a dask.array.Array (z, y, x) uint8 for ``compute=False``.

    Raises
    ------
    InputError
        If there is no such tomogram or weights, or they do not go together: voxel size, contrast or tilt axis differ;
        or the mask cannot be read or has another shape.
    OutputExistsError
        If the output exists and may not be overwritten, was begun with something else, or another process is at work
        in it.
    SettingsError
        If no block fits the memory, no worker has the device, or the output would replace the tomogram or the mask.
    PartialFailure
        If blocks failed or killed their workers; the others are done and recorded.
    """
    settings = options_to_settings(SegmentSettings, settings, options)
    tomogram = tomogram if isinstance(tomogram, Tomogram) else Tomogram.open(tomogram)
    weights = weights if isinstance(weights, Weights) else load_weights(weights)
    if not compute:
        from deepfinder_dask.segmentation.lazy import segment_lazily

        if output is not None:
            raise SettingsError("compute=False writes nothing: leave out the output")
        return segment_lazily(tomogram, weights, settings).labels
    if output is None:
        raise SettingsError("expected an output, a store to make: give one, or compute=False")
    path = normalise_path(output)
    if is_inside(tomogram.path, path) or any(is_inside(str(level), path) for level in tomogram.levels):
        raise SettingsError(f"the output {path} would replace the tomogram {tomogram.path}: choose another output")
    if settings.mask is not None and is_inside(settings.mask, path):
        raise SettingsError(f"the output {path} would replace the mask {settings.mask}: choose another output")
    begun = begun_at(path, overwrite=settings.overwrite)
    place = nullcontext(executor) if executor else open_workers(settings)
    with place as where:
        job = settle(tomogram, weights, settings, where, begun, path=path, name=name)
        with claim(path, begun, overwrite=settings.overwrite, facts=_facts(job)) as ledger:
            _segment_into(path, job, ledger, where, progress, begun=begun)
            finish_group(path)
    return Segmentation.open(path)


def _segment_into(
    path: str,
    job: Job,
    ledger: Ledger,
    executor: Executor,
    progress: bool | None,
    *,
    begun: Mapping[str, Any] | None,
) -> None:
    """Compute all blocks that are not recorded, resample if need be, and make the outputs complete."""
    tomogram, scale, scores = job.tomogram, job.scale, job.settings.scores
    bars = progress is not False
    work = f"{path}/rescaled"
    if begun is None:
        classes = len(job.weights.classes) + 1 if scores else None
        for group, shape, voxel_size in (
            (path, tomogram.shape, tomogram.voxel_size),
            *([(work, job.plan.grid.shape, scale)] if scale else []),
        ):
            if group == work:
                create_group(work, kind="work")
            create_outputs(
                group, shape, voxel_size, job.plan.grid.core, classes=classes, score_type=job.settings.score_type
            )
    ledger.begin(job.record() if begun is None else begun)
    outputs = outputs_of(path, scores=scores)
    if scale is None:
        _run_blocks(job, tomogram, outputs, ledger, executor, progress)
    else:
        if not read_attributes(path).get("resampled"):
            source = f"{work}/tomogram"
            if not is_finished(source):
                rescale(
                    tomogram.volume,
                    source,
                    tomogram.voxel_size,
                    scale,
                    executor=executor,
                    progress=bars,
                    overwrite=True,
                )
            fine = outputs_of(work, scores=scores)
            _run_blocks(job, Tomogram.open(source), fine, ledger, executor, progress)
            for here, there in zip(fine.volumes(), outputs.volumes(), strict=True):
                resample_labels(
                    here, there, scale, tomogram.voxel_size, region=job.region, executor=executor, progress=bars
                )
            write_attributes(path, {"resampled": True})  # an interruption may leave half of what goes now
        discard(work)
    finish_outputs(path, job.weights.classes, executor, scores=scores)


def _run_blocks(
    job: Job, source: Tomogram, outputs: Outputs, ledger: Ledger, executor: Executor, progress: bool | None
) -> None:
    """Segment the blocks that are not recorded.

    Raises
    ------
    PartialFailure
        If some of them failed; all others are recorded then.
    """
    grid = job.plan.grid
    recorded = ledger.recorded()
    todo = [block for block in grid if block.number not in recorded]
    function = SegmentBlock(job.classifier(source), outputs, ledger, job.token)
    failures: list[Failure] = []
    with Progress(
        f"segment {job.name}",
        len(grid),
        enabled=progress,
        done=len(grid) - len(todo),
        voxels=prod(grid.shape),
        voxels_done=prod(grid.shape) - sum(block.write.size for block in todo),
        report=ledger.write_progress,
    ) as bar:
        label = f"segment-{job.name}"
        for index, _ in executor.run(function, todo, label=label, failures=failures, among=job.workers.among):
            bar.advance(voxels=todo[index].write.size)
    if failures:
        raise PartialFailure(_failed(job.name, todo, failures, len(grid)))


def _failed(name: str, todo: list[Block], failures: list[Failure], blocks: int) -> str:
    named = []
    for failure in failures[:NAMED]:
        block = todo[failure.index]
        named.append(f"block {block.number} (voxels {block.write.start} to {block.write.stop}): {failure.reason}")
    more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
    return (
        f"{name}: {len(failures)} of {blocks} blocks failed, all others are recorded: {'; '.join(named)}{more}; "
        "the same command tries them again"
    )


def _facts(job: Job) -> dict[str, Any]:
    """Attributes of the store."""
    from deepfinder_dask import __version__

    tomogram, weights, plan = job.tomogram, job.weights, job.plan
    grid = plan.grid
    return {
        "tomogram": job.name,
        "tomogram_path": tomogram.path,
        "voxel_size": list(tomogram.voxel_size),
        "shape": list(tomogram.shape),
        "classes": classes_to_dicts(weights.classes),
        "weights": {"sha256": weights.sha256, "voxel_size": weights.voxel_size},
        "settings": asdict(replace(job.settings, precision=job.workers.kind.precision, device=job.workers.kind.device)),
        "workers": asdict(job.workers.kind),
        "plan": {"core": list(grid.core), "blocks": len(grid), "waste": round(plan.waste, 4)},
        "version": __version__,
    }
