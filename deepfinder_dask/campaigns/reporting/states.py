"""What a campaign's folder says: its own files, and the state of each tomogram. Nothing here reads voxels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import InputError

STATES = ("done", "running", "pending", "failed", "quarantined")
"""States of a tomogram, in the order of the page."""
UNKNOWN = "unknown"
"""State of a tomogram whose file cannot be read."""
STAGES = ("convert", "segment", "cluster", "export", "evaluate")
"""Steps of a campaign, in order."""


@dataclass(frozen=True)
class State:
    """One tomogram of a campaign."""

    name: str
    """What it is called."""
    folder: Path
    """Its folder."""
    state: str
    """One of ``STATES``, or unknown."""
    stage: str | None
    """Step that it is in, or in which it failed."""
    attempts: int
    """How often it was begun."""
    reason: str | None
    """Why it failed, one line."""
    source: str | None
    """File that it comes from."""
    seconds: Mapping[str, float]
    """Wall time of each step that was done, in seconds."""
    key: str
    """Changes when a step is done anew."""

    @property
    def done(self) -> bool:
        """Whether everything was done."""
        return self.state == "done"

    @property
    def failed(self) -> bool:
        """Whether it failed, and needs somebody."""
        return self.state in ("failed", "quarantined", UNKNOWN)


@dataclass(frozen=True)
class Campaign:
    """A campaign's folder, without what is in the volumes."""

    folder: Path
    """The folder."""
    facts: Mapping[str, Any]
    """``campaign.json``: configuration and provenance; empty where it is not there."""
    summary: Mapping[str, Any]
    """``summary.json`` of the last run; empty where none has ended."""
    tomograms: tuple[State, ...]
    """All tomograms, by name."""

    @property
    def name(self) -> str:
        """What the campaign is called."""
        named = self.facts.get("name") or _dig(self.facts, "settings", "name")
        return str(named or self.folder.resolve().name)

    @property
    def counts(self) -> dict[str, int]:
        """Tomograms by state, all states in order, unknown ones only where there are any."""
        found = Counter(one.state for one in self.tomograms)
        return {name: found[name] for name in (*STATES, UNKNOWN) if name in STATES or found[name]}

    @property
    def started(self) -> datetime | None:
        """When the last run began."""
        return as_time(self.summary.get("started"))

    @property
    def ended(self) -> datetime | None:
        """When the last run ended."""
        return as_time(self.summary.get("ended"))


def read_campaign(folder: str | Path) -> Campaign:
    """Read the files of a campaign's folder; a tomogram whose file is torn is listed as unknown.

    Raises
    ------
    InputError
        If it is no campaign's folder.
    """
    folder = Path(folder)
    if not (folder / "tomograms").is_dir():
        raise InputError(f"{folder}: expected the folder of a campaign, with tomograms/ in it, found none")
    facts = _object(folder / "campaign.json")
    listed = facts.get("tomograms")
    named = [one for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)]
    removed = {one.get("name") for one in named if one.get("removed")}  # from the campaign's file, since it was begun
    folders = sorted(one for one in (folder / "tomograms").iterdir() if one.name not in removed)
    found = [read_state(one) for one in folders if _is_tomogram(one)]
    return Campaign(
        folder=folder,
        facts=facts,
        summary=_object(folder / "summary.json"),
        tomograms=tuple(sorted(found, key=lambda one: one.name)),
    )


def as_time(text: Any) -> datetime | None:
    """A time in UTC from ISO 8601 text; None where it is none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _is_tomogram(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".") and any(folder.iterdir())


def read_state(folder: Path) -> State:
    """How far the tomogram of a folder is; unknown where its file is torn."""
    facts = _object(folder / "state.json")
    stages = {str(name): one for name, one in _mapping(facts.get("stages")).items() if isinstance(one, dict)}
    state = str(facts.get("state")) if facts.get("state") in STATES else UNKNOWN
    reason = facts.get("reason")
    if state == UNKNOWN:
        reason = "state.json is missing or torn: run the campaign again"
    seconds = {name: float(one["seconds"]) for name, one in stages.items() if _is_number(one.get("seconds"))}
    marks = {name: [one.get("identity"), one.get("ended"), one.get("state")] for name, one in stages.items()}
    return State(
        name=str(facts.get("tomogram") or folder.name),
        folder=folder,
        state=state,
        stage=facts.get("stage") if isinstance(facts.get("stage"), str) else None,
        attempts=int(facts["attempts"]) if _is_number(facts.get("attempts")) else 0,
        reason=None if reason is None else " ".join(str(reason).split()),
        source=None if facts.get("source") is None else str(facts["source"]),
        seconds=seconds,
        key=json.dumps([state, marks], sort_keys=True),
    )


def _object(path: Path) -> dict[str, Any]:
    """Content of a JSON file that holds an object; empty where it is torn or missing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _dig(value: Any, *keys: str) -> Any:
    for key in keys:
        value = _mapping(value).get(key)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
