"""What a campaign would take: blocks, hours, disk and memory of each tomogram, before anything is written."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfinder_dask.campaigns.planning.config import CampaignConfig
from deepfinder_dask.campaigns.planning.entries import Entry
from deepfinder_dask.campaigns.settings import RunSettings
from deepfinder_dask.errors import DeepFinderError
from deepfinder_dask.execution.sizes import bytes_in_words

if TYPE_CHECKING:
    from deepfinder_dask.blocks import Shape3
    from deepfinder_dask.segmentation.speed import Speed

NOTE_WORKERS = "times are those of this machine, with all its cores"


@dataclass(frozen=True)
class Line:
    """What one tomogram would take."""

    tomogram: str
    """Its name."""
    state: str
    """How it stands now."""
    shape: tuple[int, int, int] | None = None
    """Voxels, (z, y, x); None where its file cannot be read."""
    source_bytes: int | None = None
    """Size of its file."""
    blocks: int = 0
    """Blocks that are segmented."""
    core: tuple[int, int, int] | None = None
    """What one of them writes, in voxels, (z, y, x)."""
    hours: float = 0.0
    """Estimated time of its segmentation, by which all else is small."""
    disk_bytes: int = 0
    """What is written, before compression."""
    kept_bytes: int = 0
    """What of it stays."""
    memory_bytes: int = 0
    """Projected peak memory of a worker."""
    problem: str | None = None
    """Why it cannot be done, in one line."""


@dataclass(frozen=True)
class CampaignPlan:
    """What a campaign would take."""

    name: str
    """The campaign."""
    folder: str
    """Where everything would be left."""
    lines: tuple[Line, ...]
    """Its tomograms; those that are done take nothing more."""
    free_bytes: int
    """Free space on the disk of the output."""
    machine: str
    """What the hours were estimated for."""

    @property
    def hours(self) -> float:
        """Of all tomograms that are not done."""
        return sum(line.hours for line in self.lines)

    @property
    def disk_bytes(self) -> int:
        """What stays of all tomograms that are not done."""
        return sum(line.kept_bytes for line in self.lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "hours": self.hours, "disk_bytes": self.disk_bytes}

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        table.add_column("tomogram", overflow="fold")
        for column in ("voxels (z, y, x)", "file", "blocks", "of voxels", "hours", "disk", "memory"):
            table.add_column(column, justify="right")
        table.add_column("", overflow="fold")
        for one in self.lines:
            doable = one.shape is not None and one.problem is None and one.state != "done"
            row = (
                str(one.blocks),
                "" if one.core is None else _times(one.core),
                f"{one.hours:.3g}",
                bytes_in_words(one.disk_bytes),
                bytes_in_words(one.memory_bytes),
            )
            table.add_row(
                one.tomogram,
                "" if one.shape is None else _times(one.shape),
                "" if one.source_bytes is None else bytes_in_words(one.source_bytes),
                *(row if doable else ("",) * 5),
                one.problem or ("" if one.state == "pending" else one.state),
            )
        console = Console(width=140)
        with console.capture() as capture:
            console.print(table)
        problems = sum(line.problem is not None for line in self.lines)
        wrong = f", {problems} cannot be done" if problems else ""
        return (
            f"{capture.get()}{self.name}: {len(self.lines)} tomograms{wrong}; about {self.hours:.3g} hours "
            f"({self.machine}); {bytes_in_words(self.disk_bytes)} stay on disk before compression, "
            f"{bytes_in_words(self.free_bytes)} are free → {self.folder}"
        )


def plan_campaign(
    campaign: str | Path | CampaignConfig, settings: RunSettings | None = None, **options: Any
) -> CampaignPlan:
    """What a campaign would take; writes nothing. Takes a few seconds: this process classifies a small block.

    Parameters
    ----------
    campaign, settings, **options
        As for :func:`~deepfinder_dask.run`.

    Raises
    ------
    InputError
        As :func:`~deepfinder_dask.run`; a tomogram that cannot be read is named in its line.
    """
    from deepfinder_dask.campaigns.running.verb import configured, prepare
    from deepfinder_dask.execution import options_to_settings

    chosen = options_to_settings(RunSettings, settings, options)
    config = configured(campaign, chosen)
    prepared = prepare(config, chosen)
    todo = {entry.name for entry, _ in prepared.survey.todo}
    states = {state.tomogram: state.state for state in prepared.survey.rest}
    states |= {entry.name: state.state for entry, state in prepared.survey.todo}
    speed = _speed(config) if config.stages.segment and todo else None
    lines = [
        _line(config, entry, states[entry.name], speed) if entry.name in todo else Line(entry.name, states[entry.name])
        for entry in prepared.entries
    ]
    machine = NOTE_WORKERS if speed is None else f"{speed.machine}, {speed.precision}: {NOTE_WORKERS}"
    return CampaignPlan(config.name, str(config.home), tuple(lines), _free(config.home), machine)


def _line(config: CampaignConfig, entry: Entry, state: str, speed: Speed | None) -> Line:
    """What one tomogram would take, from the header of its file."""
    from deepfinder_dask.campaigns.running.inputs import stamp_of
    from deepfinder_dask.campaigns.running.tasks import reading_and_writing
    from deepfinder_dask.tomograms.sources import open_source

    line = Line(entry.name, state, source_bytes=stamp_of(entry.source).get("bytes"))
    try:
        with (
            reading_and_writing(),
            tempfile.TemporaryDirectory() as scratch,
            open_source(entry.source, Path(scratch)) as source,
        ):
            shape, itemsize = source.shape, source.dtype.itemsize
            known = source.voxel_size is not None or entry.voxel_size or config.convert.voxel_size
        line = replace(line, shape=shape)
        if not known:
            return replace(line, problem="its voxel size is unknown: give it in [convert] or in a manifest")
        converted = int(prod(shape) * itemsize * (8 / 7 if config.convert.pyramid else 1)) * config.stages.convert
        if speed is None:
            return replace(line, disk_bytes=converted, kept_bytes=converted * config.keep.tomogram)
        plan = speed.plan(shape)
    except (DeepFinderError, OSError) as error:
        return replace(line, problem=" ".join(str(error).split()))
    scores = {"float16": 2, "uint8": 1}[config.segment.score_type] * speed.classes if config.segment.scores else 0
    segmented = int(prod(shape) * (2 * 8 / 7 + scores))
    return replace(
        line,
        blocks=len(plan.grid),
        core=plan.grid.core,
        hours=plan.work * speed.passes / speed.rate / 3600,
        disk_bytes=converted + segmented,
        kept_bytes=converted * config.keep.tomogram + segmented * config.keep.segmentation,
        memory_bytes=plan.memory,
    )


def _free(home: Path) -> int:
    """Free bytes on the disk that a folder is, or would be, on."""
    place = home
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _speed(config: CampaignConfig) -> Speed:
    from deepfinder_dask.campaigns.running.tasks import weights_of
    from deepfinder_dask.segmentation.speed import measure_speed

    workers = config.workers.get("processes") if config.workers.get("kind") == "local" else None
    return measure_speed(
        weights_of(str(config.weights), config.cluster.classes),
        config.segment,
        workers=workers if isinstance(workers, int) else 1,
    )


def _times(shape: Shape3) -> str:
    return " × ".join(str(n) for n in shape)
