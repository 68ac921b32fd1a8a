"""How far each tomogram is: one small file in its folder, written whole, never touched again once it is done."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from deepfinder_dask.errors import StorageError

State = Literal["pending", "running", "done", "failed", "quarantined"]
"""pending: not begun, or to be gone on with; running: a driver is at it, or was when it ended; failed: its input or a
step is wrong; quarantined: it killed workers, or failed again and again."""
STATES: tuple[State, ...] = ("done", "running", "pending", "failed", "quarantined")
GIVEN_UP = ("failed", "quarantined")
"""States that only ``--retry-failed`` tries again."""
FILE = "state.json"


@dataclass
class StageState:
    """How far one stage of a tomogram is."""

    state: State = "pending"
    """Only ``done`` stages are kept."""
    started: str | None = None
    """When it began, ISO 8601 in UTC."""
    ended: str | None = None
    """When it ended."""
    seconds: float = 0.0
    """Wall time of the last try."""
    blocks: int = 0
    """Blocks, or tasks, that it took."""
    identity: str | None = None
    """SHA-256 over everything that its result follows from."""
    notes: list[str] = field(default_factory=list)
    """What it had to assume, one sentence each."""


@dataclass
class TomogramState:
    """How far a tomogram is."""

    tomogram: str
    """Its name."""
    source: str
    """Its file."""
    state: State = "pending"
    """How it stands."""
    stage: str | None = None
    """The stage under way, or where it failed."""
    attempts: int = 0
    """How often it was begun or tried again."""
    reason: str | None = None
    """Why it is not done, in one line."""
    stages: dict[str, StageState] = field(default_factory=dict)
    """By name."""
    input: dict[str, Any] = field(default_factory=dict)
    """What tells whether the file is still the same: size, time and SHA-256."""

    @classmethod
    def read(cls, folder: Path, name: str, source: str) -> TomogramState:
        """State of a tomogram; ``pending`` where there is none, or a torn one."""
        try:
            facts = json.loads((folder / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls(name, source)
        return cls.of(facts, name, source)

    @classmethod
    def of(cls, facts: Mapping[str, Any], name: str, source: str) -> TomogramState:
        """State from its JSON."""
        stages = {key: StageState(**value) for key, value in facts.get("stages", {}).items()}
        kept = {key: facts[key] for key in ("state", "stage", "attempts", "reason", "input") if key in facts}
        return cls(name, str(facts.get("source", source)), stages=stages, **kept)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all.

        It is renamed into place without waiting for the disk: a machine that loses its power may forget the last
        states, never tear them, and stages are done again.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        path = folder / FILE
        half = path.with_name(f".{FILE}.{secrets.token_hex(4)}.partial")
        text = json.dumps(self.to_dict(), indent=1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            half.write_text(text, encoding="utf-8")
            half.replace(path)
        except OSError as error:
            half.unlink(missing_ok=True)
            raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def now() -> str:
    """The time, ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
