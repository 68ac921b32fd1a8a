"""The stages that find particles: convert, segment, cluster, export, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfinder_dask.campaigns.locating.steps import EVALUATION, Steps, noted
from deepfinder_dask.campaigns.planning.config import CampaignConfig
from deepfinder_dask.campaigns.planning.entries import Entry
from deepfinder_dask.campaigns.running.stages import Outcome, Place, Stage
from deepfinder_dask.campaigns.running.states import TomogramState
from deepfinder_dask.campaigns.settings import LocateSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepfinder_dask.execution import Executor

WHOLE_VOXELS = 2**27
"""Most voxels of a label map that one worker clusters alone, while others are busy with other tomograms."""
DAMAGED = "cannot be read: damaged"
"""What is said of stored values whose checksum is wrong."""
WHOLE_BLOCKS = 4
"""Most blocks, where their size was given."""


@dataclass(frozen=True)
class LocatingStage:
    """What the stages of a campaign that finds particles have in common; each kind adds ``run``."""

    config: CampaignConfig
    """The campaign."""
    weights: Mapping[str, Any]
    """What identifies the weights: ``file`` and ``sha256``; empty where nothing is segmented."""
    name = ""
    kind = "clustering"
    lasting = False

    def applies(self, entry: Entry) -> bool:
        """Always."""
        return True

    def facts(self, entry: Entry) -> Mapping[str, Any]:
        """Settings of the verb."""
        return self.config.relevant(self.name)

    def present(self, place: Place) -> bool:
        """Whether the result is there."""
        return True

    def clear(self, place: Place) -> None:
        """Remove nothing: small files are replaced."""

    def steps(self, place: Place) -> Steps:
        """The tomogram on its way."""
        converted = None if self.config.stages.convert else place.entry.source
        settings, own = settings_for(self.config, place.entry), self.config.cluster
        blocks = {"block": own.block, "memory": own.memory}
        return Steps(place.entry.source, place.entry.name, place.folder, settings, converted, blocks)

    def alone(self, place: Place, executor: Executor, task: Callable[[Steps], Any], verb: str) -> Any:
        """Run a task for the whole tomogram on a worker."""
        ((_, result),) = executor.run(task, [self.steps(place)], label=f"{verb}-{place.entry.name}")
        return result


class ConvertStage(LocatingStage):
    """File to OME-Zarr."""

    name = "convert"
    kind = "conversion"

    def facts(self, entry: Entry) -> Mapping[str, Any]:
        """Settings, and what the manifest says of the file."""
        own = {"source": entry.source, "voxel_size": entry.voxel_size}
        return {**super().facts(entry), **own, "imaging": [entry.contrast, entry.tilt_axis]}

    def present(self, place: Place) -> bool:
        """Whether the converted tomogram is there."""
        return (place.folder / "tomogram.zarr" / "zarr.json").exists() or (
            place.folder / "tomogram.zarr" / ".zgroup"
        ).exists()

    def clear(self, place: Place) -> None:
        """Remove the converted tomogram."""
        from deepfinder_dask.tomograms.storage import discard

        discard(place.folder / "tomogram.zarr")

    def run(self, place: Place, executor: Executor, outcome: Outcome) -> None:
        """Convert on a worker."""
        from deepfinder_dask.campaigns.running.tasks import Convert

        outcome.input = self.alone(place, executor, Convert(), self.name)


class SegmentStage(LocatingStage):
    """OME-Zarr to label map."""

    name = "segment"
    kind = "inference"

    def facts(self, entry: Entry) -> Mapping[str, Any]:
        """Settings, weights and mask."""
        facts = {**super().facts(entry), "weights": self.weights["sha256"], "classes": self.weights["classes"]}
        mask = entry.mask or self.config.segment.mask
        return facts | {"mask": mask, "source": None if self.config.stages.convert else entry.source}

    def present(self, place: Place) -> bool:
        """Whether the segmentation is there."""
        return (place.folder / "segmentation.zarr" / "zarr.json").exists()

    def clear(self, place: Place) -> None:
        """Remove the segmentation."""
        from deepfinder_dask.tomograms.storage import discard

        discard(place.folder / "segmentation.zarr")

    def run(self, place: Place, executor: Executor, outcome: Outcome) -> None:
        """Segment block by block."""
        from deepfinder_dask.campaigns.running.tasks import Identify, weights_of

        if not self.config.stages.convert:
            ((_, outcome.input),) = executor.run(Identify(), [place.entry.source], label=f"hash-{place.entry.name}")
        steps = self.steps(place)
        weights = weights_of(self.weights["file"], steps.settings.classes)
        steps.check(weights)
        steps.segment(weights, executor, progress=False)


class ClusterStage(LocatingStage):
    """Label map to particles."""

    name = "cluster"
    lasting = True

    def present(self, place: Place) -> bool:
        """Whether the table is there."""
        return (place.folder / "particles.parquet").exists()

    def clear(self, place: Place) -> None:
        """Remove the table."""
        (place.folder / "particles.parquet").unlink(missing_ok=True)

    def run(self, place: Place, executor: Executor, outcome: Outcome) -> None:
        """Cluster on one worker, or a large label map block by block."""
        from deepfinder_dask.campaigns.running.tasks import Cluster
        from deepfinder_dask.segmentation import Segmentation

        steps = self.steps(place)
        voxels = prod(Segmentation.open(str(steps.segmented)).label_map.space)
        block = self.config.cluster.block
        if voxels <= (WHOLE_VOXELS if block is None else WHOLE_BLOCKS * prod(block)):
            outcome.notes += self.alone(place, executor, Cluster(), self.name)
            return
        with noted(outcome.notes):
            steps.cluster(executor, progress=False)


class ExportStage(LocatingStage):
    """Particles to files of other programs, and pictures."""

    name = "export"
    lasting = True

    def present(self, place: Place) -> bool:
        """Whether the files are there."""
        return all((place.folder / name).exists() for name in self.config.exports.files)

    def run(self, place: Place, executor: Executor, outcome: Outcome) -> None:
        """Export on a worker."""
        from deepfinder_dask.campaigns.running.tasks import Export

        exports = self.config.exports
        task = Export(exports.files, exports.pictures, self.config.export)
        outcome.notes += self.alone(place, executor, task, self.name)


class EvaluateStage(LocatingStage):
    """Particles against true ones."""

    name = "evaluate"
    lasting = True

    def applies(self, entry: Entry) -> bool:
        """Where there is a truth."""
        return entry.truth is not None

    def facts(self, entry: Entry) -> Mapping[str, Any]:
        """Settings and truth."""
        return {**super().facts(entry), "truth": entry.truth}

    def present(self, place: Place) -> bool:
        """Whether the comparison is there."""
        return (place.folder / EVALUATION).exists()

    def run(self, place: Place, executor: Executor, outcome: Outcome) -> None:
        """Evaluate on a worker."""
        from deepfinder_dask.campaigns.running.tasks import Evaluate

        task = Evaluate(str(place.entry.truth), self.config.evaluate)
        outcome.notes += self.alone(place, executor, task, self.name)


KINDS: dict[str, Callable[[CampaignConfig, Mapping[str, Any]], Stage]] = {
    kind.name: kind for kind in (ConvertStage, SegmentStage, ClusterStage, ExportStage, EvaluateStage)
}
"""Stages by name, in the order of the work."""


def damaged_stage(place: Place, reason: str) -> str | None:
    """The stage whose result cannot be read any more, as a later one says; None where it says nothing like it."""
    stores = {"convert": "tomogram.zarr", "segment": "segmentation.zarr"}
    for name, store in stores.items():
        if DAMAGED in reason and f"{place.folder / store}/" in reason:
            return name
    return None


def stages_of(config: CampaignConfig, weights: Mapping[str, Any]) -> list[Stage]:
    """Stages that a campaign asks for, in order."""
    return [KINDS[name](config, weights) for name in config.stages.names()]


def settings_for(config: CampaignConfig, entry: Entry) -> LocateSettings:
    """Settings of one tomogram, as ``locate`` would take them."""
    values = {f.name: getattr(config.cluster, f.name) for f in fields(config.cluster)}
    values |= {f.name: getattr(config.segment, f.name) for f in fields(config.segment)}
    values |= {f.name: getattr(config.convert, f.name) for f in fields(config.convert)}
    values |= {"tomogram": entry.name, "classes": config.cluster.classes, "workers": None, "scheduler": None}
    mask = entry.mask or config.segment.mask
    values["mask"] = None if mask is None else mask.replace("{tomogram}", entry.name)
    for name in ("voxel_size", "contrast", "tilt_axis"):
        if getattr(entry, name) is not None:
            values[name] = getattr(entry, name)
    values["overwrite"] = False
    return LocateSettings(**values)


def finish(
    config: CampaignConfig, weights: Mapping[str, Any], place: Place, state: TomogramState, executor: Executor
) -> None:
    """What is done when all stages are: tell where the results come from."""
    from deepfinder_dask.campaigns.running.tasks import Tell

    if config.stages.segment:
        seconds = {name: stage.seconds for name, stage in state.stages.items()}
        notes = tuple(note for stage in state.stages.values() for note in stage.notes)
        task = Tell(weights["file"], seconds, notes, dict(state.input))
        ExportStage(config, weights).alone(place, executor, task, "provenance")


def tidy(config: CampaignConfig, place: Place, executor: Executor | None = None) -> None:
    """Drop what is not kept of a tomogram that is done; the report's picture of it is made before.

    Parameters
    ----------
    config : CampaignConfig
        What is kept.
    place : Place
        The tomogram.
    executor : Executor, optional
        Where the picture is made; by default here.
    """
    dropped = [("tomogram.zarr", config.keep.tomogram or not config.stages.convert)]
    dropped.append(("segmentation.zarr", config.keep.segmentation))
    stores = [place.folder / name for name, kept in dropped if not kept and (place.folder / name).exists()]
    if not stores:
        return
    from deepfinder_dask.campaigns.running.tasks import Digest
    from deepfinder_dask.execution import SerialExecutor
    from deepfinder_dask.tomograms.storage import discard

    for _ in (executor or SerialExecutor()).run(Digest(), [str(place.folder)], label=f"digest-{place.entry.name}"):
        pass
    for store in stores:
        discard(store)


def config_facts(config: CampaignConfig) -> dict[str, Any]:
    """The whole configuration as JSON values."""
    facts = asdict(replace(config, folder=Path()))
    facts.pop("folder")
    return facts
