"""What a campaign leaves for all its tomograms together: one table of particles, and a summary."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepfinder_dask.campaigns.running.states import STATES, TomogramState
from deepfinder_dask.errors import FormatError
from deepfinder_dask.particles.files import atomic_write

SUMMARY = "summary.json"
PARTICLES = "particles.parquet"
TIMINGS = "timings.json"


@dataclass(frozen=True)
class Failed:
    """A tomogram that is not done, or needs somebody's attention."""

    tomogram: str
    """Its name."""
    stage: str | None
    """Where it failed."""
    reason: str
    """Why, in one line."""


@dataclass(frozen=True)
class CampaignResult:
    """What a campaign has come to."""

    name: str
    """The campaign."""
    folder: Path
    """Where everything is."""
    counts: Mapping[str, int]
    """Tomograms by state."""
    failures: tuple[Failed, ...] = ()
    """Those that were given up, and done ones whose files have changed."""
    particles: int | None = None
    """Particles of all done tomograms; None where nothing is clustered."""
    seconds: float = 0.0
    """Wall time of this run."""
    done_now: int = 0
    """Tomograms that this run finished."""
    idle: float | None = None
    """Share of time in which workers were idle while there was enough to do; None without a cluster."""

    @property
    def complete(self) -> bool:
        """Whether every tomogram is done, and nothing needs attention."""
        return not self.failures and self.counts.get("done", 0) == sum(self.counts.values())

    def in_words(self) -> str:
        """``17 of 20 tomograms done, 2 failed, 1 quarantined``."""
        total = sum(self.counts.values())
        words = [f"{self.counts.get('done', 0)} of {total} tomogram{'' if total == 1 else 's'} done"]
        words += [f"{self.counts[state]} {state}" for state in STATES if state != "done" and self.counts.get(state)]
        return ", ".join(words)


@dataclass
class Summing:
    """Gathers the states of a campaign."""

    states: list[TomogramState] = field(default_factory=list)
    """Of all its tomograms."""
    changed: Sequence[tuple[str, str]] = ()
    """Done ones whose files have changed, and why that matters."""

    def counts(self) -> dict[str, int]:
        """Tomograms by state."""
        found = Counter(str(state.state) for state in self.states)
        return {state: found[state] for state in STATES if found[state]}

    def failures(self) -> tuple[Failed, ...]:
        """What needs attention."""
        given_up = [
            Failed(one.tomogram, one.stage, one.reason or "unknown")
            for one in self.states
            if one.state in ("failed", "quarantined")
        ]
        return (*given_up, *(Failed(name, None, reason) for name, reason in self.changed))


def mark_of(states: Sequence[TomogramState]) -> str:
    """What changes whenever a tomogram is done, given up, added or taken away: a digest of all states."""
    facts = [
        [one.tomogram, one.state, one.reason, *((name, stage.ended) for name, stage in sorted(one.stages.items()))]
        for one in states
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def write_summary(
    folder: Path, result: CampaignResult, started: str, ended: str, states: Sequence[TomogramState]
) -> None:
    """Write ``summary.json``, the last file of every run."""
    waiting = [one for one in states if one.state in ("pending", "running") and one.reason]
    facts: dict[str, Any] = {
        "campaign": result.name,
        "counts": dict(result.counts),
        "failures": [{"tomogram": one.tomogram, "stage": one.stage, "reason": one.reason} for one in result.failures],
        "waiting": [{"tomogram": one.tomogram, "stage": one.stage, "reason": one.reason} for one in waiting],
        "particles": result.particles,
        "seconds": round(result.seconds, 3),
        "idle": result.idle,
        "started": started,
        "ended": ended,
        "mark": mark_of(states),
    }
    with atomic_write(folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def gather_particles(folder: Path, names: Sequence[str]) -> int | None:
    """Write the particles of tomograms into one table, in the order of their names; how many there are.

    None, and no table, where none has particles.
    """
    tables = [folder / "tomograms" / name / PARTICLES for name in names]
    tables = [path for path in tables if path.exists()]
    if not tables:
        return None
    from deepfinder_dask.particles import Particles

    read = []
    for path in tables:
        try:
            read.append(Particles.read(path))
        except FormatError as error:
            raise FormatError(f"{path} is damaged: remove it and run the same command, which makes it again") from error
    together = Particles.concat(read)
    together.write(folder / PARTICLES)
    return len(together)
