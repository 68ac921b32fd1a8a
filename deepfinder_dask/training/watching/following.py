"""Following a run by its files: who it is (``run.json``) and what it has done so far (``log.jsonl``)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deepfinder_dask.errors import FormatError
from deepfinder_dask.particles.classes import classes_from_dicts, classes_to_dicts
from deepfinder_dask.particles.files import atomic_write

if TYPE_CHECKING:
    from deepfinder_dask.particles import ParticleClass

Entry = Mapping[str, float]
"""What the log says of a step."""
FACTS = "run.json"
"""File that says what a run is."""


@dataclass(frozen=True)
class RunFacts:
    """What those who watch a run need to know beside its log."""

    steps: int
    """Steps that the run is to have."""
    classes: tuple[ParticleClass, ...]
    """Its classes."""
    ended: bool = False
    """Whether nothing more is to come: all steps taken, stopped early, or interrupted."""

    def write(self, folder: Path) -> None:
        """Write them into the folder of the run."""
        facts = {"steps": self.steps, "ended": self.ended, "classes": classes_to_dicts(self.classes)}
        with atomic_write(folder / FACTS) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> RunFacts | None:
        """Read them; None where no run has begun yet.

        Raises
        ------
        FormatError
            If the file is damaged.
        """
        path = folder / FACTS
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(facts["steps"]), classes_from_dicts(facts["classes"]), bool(facts["ended"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path}: expected what a training run says of itself, found a damaged file") from error


@dataclass
class Log:
    """The log of a run that may go on: only what is new is read, and a line that is half written waits."""

    path: Path
    """``log.jsonl``."""
    record: list[Entry] = field(default_factory=list)
    """Its entries so far, one per step."""
    _file: int = -1
    _read: int = 0

    def catch_up(self) -> Sequence[Entry]:
        """Read what is new; everything, where the log was replaced as a resumed run does.

        Raises
        ------
        FormatError
            If a line is no entry of a log.
        """
        try:
            with self.path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_ino != self._file or status.st_size < self._read:
                    self.record, self._file, self._read = [], status.st_ino, 0
                stream.seek(self._read)
                new = stream.read()
        except FileNotFoundError:
            self.record, self._file, self._read = [], -1, 0
            return self.record
        whole = new[: new.rfind(b"\n") + 1]
        try:
            entries = [json.loads(line) for line in whole.splitlines()]
            self.record += [{"step": e["step"], "loss": e["loss"], **e} for e in entries]
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{self.path}: expected one JSON object per step, found a damaged line") from error
        self._read += len(whole)
        return self.record
