"""What a campaign does with a tomogram: stages in a row, each of which leaves its result in the tomogram's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from deepfinder_dask.campaigns.planning.entries import Entry

if TYPE_CHECKING:
    from deepfinder_dask.execution import Executor


@dataclass(frozen=True)
class Place:
    """A tomogram in hand."""

    entry: Entry
    """The tomogram."""
    folder: Path
    """Its folder."""


@dataclass
class Outcome:
    """What a stage tells beside its result."""

    notes: list[str] = field(default_factory=list)
    """What it had to assume."""
    input: dict[str, Any] | None = None
    """What identifies the input, from the stage that read it."""


class Stage(Protocol):
    """One stage of a campaign.

    Any object with these does: a benchmark gives one whose blocks compute nothing.
    """

    @property
    def name(self) -> str:
        """Name in ``state.json``."""
        ...

    @property
    def kind(self) -> str:
        """Kind of work, each with a window of its own: conversion, inference or clustering."""
        ...

    @property
    def lasting(self) -> bool:
        """Whether its result stays when the tomogram is done: where it is gone, it is made again."""
        ...

    def applies(self, entry: Entry) -> bool:
        """Whether there is anything to do for a tomogram."""
        ...

    def facts(self, entry: Entry) -> Mapping[str, Any]:
        """What its result follows from beside the stages before it; JSON."""
        ...

    def present(self, place: Place) -> bool:
        """Whether its result, once done, is still there for later stages."""
        ...

    def clear(self, place: Place) -> None:
        """Remove what it left, whole or half."""
        ...

    def run(self, place: Place, executor: Executor, outcome: Outcome) -> None:
        """Do it, or go on with what an interruption left."""
        ...


@dataclass(frozen=True)
class BlocksStage:
    """A stage that applies a function to numbers and leaves nothing: for benchmarks of what scheduling costs."""

    function: Callable[[int], Any]
    """Called with 0 to ``blocks - 1`` on workers."""
    blocks: int
    """How many."""
    name: str = "blocks"
    """Name in ``state.json``."""
    kind: str = "inference"
    """Kind of work."""
    lasting = False

    def applies(self, entry: Entry) -> bool:
        """Always."""
        return True

    def facts(self, entry: Entry) -> Mapping[str, Any]:
        """How many blocks."""
        return {"blocks": self.blocks}

    def present(self, place: Place) -> bool:
        """Always."""
        return True

    def clear(self, place: Place) -> None:
        """Nothing is left."""

    def run(self, place: Place, executor: Executor, outcome: Outcome) -> None:
        """Run all blocks."""
        for _ in executor.run(self.function, range(self.blocks), label=f"{self.name}-{place.entry.name}"):
            pass


def identities(stages: Sequence[Stage], entry: Entry) -> dict[str, str]:
    """SHA-256 by stage over everything that its result follows from, but for the content of the input."""
    before, found = "", {}
    for stage in stages:
        if stage.applies(entry):
            text = json.dumps([stage.name, before, stage.facts(entry)], sort_keys=True)
            before = found[stage.name] = hashlib.sha256(text.encode()).hexdigest()
    return found
