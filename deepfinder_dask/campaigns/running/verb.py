"""``run``: all tomograms of a campaign, until they are done or given up; the same call goes on after anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from deepfinder_dask.campaigns.planning.config import CampaignConfig, read_campaign
from deepfinder_dask.campaigns.planning.entries import Entry, find_entries
from deepfinder_dask.campaigns.running.conductor import Conductor
from deepfinder_dask.campaigns.running.handle import Campaign
from deepfinder_dask.campaigns.running.locating import (
    config_facts,
    damaged_stage,
    finish,
    settings_for,
    stages_of,
    tidy,
)
from deepfinder_dask.campaigns.running.results import (
    PARTICLES,
    SUMMARY,
    TIMINGS,
    CampaignResult,
    Summing,
    gather_particles,
    mark_of,
    write_json,
    write_summary,
)
from deepfinder_dask.campaigns.running.showing import shown
from deepfinder_dask.campaigns.running.stages import Place, Stage
from deepfinder_dask.campaigns.running.states import TomogramState, now
from deepfinder_dask.campaigns.running.survey import CAMPAIGN, Survey, check_settings, read_record, survey
from deepfinder_dask.campaigns.running.watching import Board
from deepfinder_dask.campaigns.running.weighing import weights_record
from deepfinder_dask.campaigns.settings import RunSettings
from deepfinder_dask.errors import DeepFinderError, OutputExistsError, StorageError
from deepfinder_dask.execution.locking import hold
from deepfinder_dask.execution.options import options_to_settings
from deepfinder_dask.execution.protocol import Attempt

if TYPE_CHECKING:
    from deepfinder_dask.execution import Executor

PAGE = "report.html"
LOCK = ".campaign.lock"
"""Held by the driver."""


@dataclass(frozen=True)
class Prepared:
    """A campaign, looked over."""

    config: CampaignConfig
    """Its file."""
    entries: list[Entry]
    """Its tomograms."""
    stages: list[Stage]
    """Its stages."""
    weights: dict[str, Any]
    """What identifies its weights."""
    survey: Survey
    """What there is to do."""
    until: str | None
    """The last stage that is done."""


@overload
def run(
    campaign: str | Path | CampaignConfig,
    settings: RunSettings | None = None,
    *,
    wait: Literal[True] = True,
    progress: bool | None = None,
    **options: Any,
) -> CampaignResult: ...


@overload
def run(
    campaign: str | Path | CampaignConfig,
    settings: RunSettings | None = None,
    *,
    wait: Literal[False],
    progress: bool | None = None,
    **options: Any,
) -> Campaign: ...


def run(
    campaign: str | Path | CampaignConfig,
    settings: RunSettings | None = None,
    *,
    wait: bool = True,
    progress: bool | None = None,
    **options: Any,
) -> CampaignResult | Campaign:
    """Find the particles in all tomograms of a campaign.

    Killed at any instant, the same call goes on from the blocks already recorded. A tomogram that cannot be done never
    stops the others. Tomograms that are done are not touched, unless ``overwrite`` says so and something that they
    follow from has changed.

    Parameters
    ----------
    campaign : str, path or CampaignConfig
        Campaign file (TOML), or the name of one that comes with the package.
    settings : RunSettings, optional
        How; single settings can be given as keyword options instead.
    wait : bool
        False returns at once, with a handle of what goes on in the background.
    progress : bool, optional
        Show progress bars; by default on a terminal.
    **options
        Fields of :class:`RunSettings`.

    Returns
    -------
    CampaignResult
        What it has come to: tomograms by state, failures with their reasons. A :class:`Campaign` for ``wait=False``.

    Raises
    ------
    SettingsError
        The file cannot be used; key and line are named.
    InputError
        There are no tomograms or weights, or another driver is at work.
    OutputExistsError
        The folder holds a campaign with other settings, or other files.
    StorageError
        The output cannot be written, or its disk was full for too long.
    PartialFailure
        The scheduler went away.
    """
    chosen = options_to_settings(RunSettings, settings, options)
    config = configured(campaign, chosen)
    board = Board()
    if wait:
        return _run(config, chosen, board, progress, None)
    handle = Campaign(config.name, config.home, board)

    def work() -> None:
        result: CampaignResult | None = None
        with Attempt() as attempt:
            result = _run(config, chosen, board, False, handle)
        handle.finish(result, attempt.error)

    threading.Thread(target=work, name=f"campaign-{config.name}", daemon=True).start()
    return handle


def configured(campaign: str | Path | CampaignConfig, settings: RunSettings) -> CampaignConfig:
    """A campaign file, with the workers that the settings say."""
    config = campaign if isinstance(campaign, CampaignConfig) else read_campaign(campaign)
    if settings.workers is not None:
        config = replace(config, workers=_local(config, settings.workers))
    if settings.scheduler is not None:
        config = replace(config, workers={"kind": "scheduler", "address": settings.scheduler})
    return config


def _local(config: CampaignConfig, processes: int) -> dict[str, Any]:
    """Processes on this machine, one for each GPU where there are GPUs to be used."""
    if config.stages.segment and config.segment.device != "cpu":
        import torch

        if torch.cuda.is_available():
            return {"kind": "gpu", "processes": processes}
    return {"kind": "local", "processes": processes}


def prepare(config: CampaignConfig, settings: RunSettings) -> Prepared:
    """Look a campaign over: nothing is written.

    Raises
    ------
    InputError
        As :func:`run`.
    """
    home = config.home
    record = read_record(home)
    ours = (LOCK, f".{CAMPAIGN}.*.partial")  # what a kill leaves of the first file
    if not record and home.exists() and not all(any(fnmatch(f.name, own) for own in ours) for f in home.iterdir()):
        raise OutputExistsError(f"{home} holds other files: choose a new or an empty folder")
    known = {one["source"]: one["name"] for one in record.get("tomograms", [])}
    entries = find_entries(config, known)
    weights = weights_record(config, record.get("weights") or {})
    stages = stages_of(config, weights)
    if not settings.overwrite:
        check_settings(record, config_facts(config), weights, home)
    steps = [name for name in settings.only if name in config.stages.names()]
    until = None if not steps else max(steps, key=config.stages.names().index)
    settings_for(config, entries[0])  # refuses what no tomogram could be located with
    found = survey(
        home,
        entries,
        stages,
        only=[name for name in settings.only if name not in steps],
        retry_failed=settings.retry_failed,
        overwrite=settings.overwrite,
    )
    return Prepared(config, entries, stages, weights, found, until)


def _run(
    config: CampaignConfig, settings: RunSettings, board: Board, progress: bool | None, handle: Campaign | None
) -> CampaignResult:
    started, begun = time.monotonic(), now()
    home = config.home
    with hold(home / LOCK, home):
        prepared = prepare(config, settings)
        todo = prepared.survey.todo
        _write_record(prepared)
        board.total = len(prepared.entries)
        for state in prepared.survey.rest:
            board.counts[state.state] += 1
        idle: dict[str, Any] = {}
        with Attempt() as attempt:
            if todo:
                idle = _conduct(prepared, board, progress, handle)
        states = [state for _, state in todo] + prepared.survey.rest
        order = {entry.name: i for i, entry in enumerate(prepared.entries)}
        states.sort(key=lambda state: order[state.tomogram])
        error, attempt.error = attempt.error, None
        try:
            return _conclude(prepared, states, begun, time.monotonic() - started, idle.get("idle"))
        except StorageError:
            if error is None:
                raise
            raise error from None
        finally:
            if error is not None:
                raise error


def _conduct(prepared: Prepared, board: Board, progress: bool | None, handle: Campaign | None) -> dict[str, Any]:
    """Do what there is to do; how busy the workers were."""
    config = prepared.config
    with open_place(config) as executor, shown(config.name, board, progress):
        conductor = Conductor(
            config.home,
            prepared.stages,
            executor,
            limits=config.limits,
            finish=lambda place, state, where: finish(config, prepared.weights, place, state, where),
            tidy=lambda place, where: tidy(config, place, where),
            board=board,
            until=prepared.until,
            doubted=damaged_stage,
            asked=None if handle is None else lambda: handle.stopping,
        )
        try:
            conductor.run(prepared.survey.todo)
        finally:
            measured = conductor.pool.idleness.to_dict()
            if measured["workers"]:
                with suppress(StorageError):
                    write_json(config.home / TIMINGS, measured)
    return measured


@contextmanager
def open_place(config: CampaignConfig) -> Iterator[Executor]:
    """The executor that a campaign asks for; this process where it asks for none."""
    if not config.workers:
        from deepfinder_dask.execution import SerialExecutor

        yield SerialExecutor()
        return
    from deepfinder_dask.execution.clusters import open_workforce

    with open_workforce(config.workers) as executor:
        yield executor


def _write_record(prepared: Prepared) -> None:
    """Write ``campaign.json`` where it is not there, or says something else."""
    config = prepared.config
    held = read_record(config.home)
    facts = config_facts(config)
    tomograms: list[dict[str, Any]] = [{"name": one.name, "source": one.source} for one in prepared.entries]
    known = {one["name"] for one in tomograms}
    former = [one for one in held.get("tomograms", []) if one["name"] not in known]
    tomograms += [{**one, "removed": True} for one in former]  # they keep their names, should they come back
    wanted: dict[str, Any] = {"config": facts, "weights": prepared.weights or None, "tomograms": tomograms}
    if all(held.get(key) == value for key, value in _plain(wanted).items()):
        return
    if config.stages.segment and prepared.survey.todo:
        from deepfinder_dask.campaigns.provenance import campaign_facts

        held = campaign_facts(facts)
    config.home.mkdir(parents=True, exist_ok=True)
    write_json(config.home / CAMPAIGN, {**held, "name": config.name, "file": config.file or None, **wanted})


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    import json

    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def _conclude(
    prepared: Prepared, states: Sequence[TomogramState], begun: str, seconds: float, idle: float | None
) -> CampaignResult:
    """Gather what there is, and say what it has come to."""
    config, home = prepared.config, prepared.config.home
    summing = Summing(list(states), prepared.survey.changed)
    done = [state.tomogram for state in states if state.state == "done"]
    now_done = sum(state.state == "done" for _, state in prepared.survey.todo)
    earlier = _read_summary(home)
    particles = earlier.get("particles")
    changed = earlier.get("mark") != mark_of(states)  # also by an earlier run that was killed just before this
    if config.stages.cluster and (changed or not (home / PARTICLES).exists()):
        particles = gather_particles(home, done)
    result = CampaignResult(
        config.name, home, summing.counts(), summing.failures(), particles, round(seconds, 3), now_done, idle
    )
    finished = set(done)
    for entry in prepared.entries:  # what a kill left between the end of a tomogram and this
        if entry.name in finished:
            with suppress(DeepFinderError, OSError):  # the next run tries again
                tidy(config, Place(entry, home / "tomograms" / entry.name))
    if changed:
        (home / PAGE).unlink(missing_ok=True)  # a kill after the summary leaves no older page beside it
    write_summary(home, result, begun, now(), states)
    if not (home / PAGE).exists():
        report(home)
    return result


def report(home: Path) -> None:
    """Write the page of a campaign."""
    if (home / "tomograms").is_dir():
        from deepfinder_dask.campaigns.reporting import write_report

        write_report(home)


def _read_summary(home: Path) -> dict[str, Any]:
    import json

    try:
        facts: dict[str, Any] = json.loads((home / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts
