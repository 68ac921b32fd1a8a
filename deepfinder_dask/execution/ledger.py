"""The ledger of a long piece of work: its plan, and one small record for every part that is finished.

::

    LEDGER/
    ├── plan.json              what is being done, and with what
    ├── records/000/17.json    part 17 is finished: facts about it, and the plan it belongs to
    └── progress.json          how far it is, for other programs

Every file is written whole, under another name, and never changed: a process that is killed at any instant leaves
either a record or none. Nothing is ever appended, so that it works on object stores too. A record is written by
whoever did the part, after everything else of it: *finished means recorded*.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from deepfinder_dask.errors import SettingsError, StorageError
from deepfinder_dask.execution.small_files import SmallFiles, files_in

PLAN = "plan.json"
PROGRESS = "progress.json"
RECORDS = "records"
PER_FOLDER = 1000
"""Records in one folder: file systems are slow with folders of a hundred thousand files."""


class Ledger:
    """Plan and records of a piece of work.

    Cheap to make and to pickle; what it knows of the plan goes along, so that a worker left over from an earlier plan
    cannot record its parts for the next one.

    Parameters
    ----------
    folder : str or path
        Local folder or fsspec URL; it need not exist.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        text = os.fspath(folder)
        if text.startswith("file://"):
            text = unquote(urlsplit(text).path)
        self.folder = text if "://" in text else str(Path(text).absolute())  # workers may be elsewhere
        self._files: SmallFiles = files_in(self.folder)
        self._identity: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder, self._identity)

    def plan(self) -> dict[str, Any] | None:
        """The plan, or None where no work was begun."""
        plan = _parsed(self._files.read(PLAN))
        return plan if isinstance(plan, dict) else None

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Begin the work of a plan, or go on with it; what a kill left half-written is removed.

        Parameters
        ----------
        plan : mapping
            JSON-serialisable. All that decides the result belongs into it.

        Raises
        ------
        SettingsError
            If the ledger holds the records of another plan; the first difference is named.
        StorageError
            If the ledger cannot be written.
        """
        wanted = _plain(plan)
        held = self.plan()
        if held is not None and held != wanted:
            raise SettingsError(
                f"{self.folder} holds the records of other work ({_difference(held, wanted)}): "
                "give the same input, weights and settings to go on with it, or choose another output"
            )
        self._identity = _digest(wanted)
        with self._writing():
            for name, text in list(self._files.walk(RECORDS)):
                if held is None or self._facts(name, text) is None:
                    self._files.remove(name)
            self._files.sweep()
            if held is None:
                self._files.write(PLAN, _text(wanted))

    def record(self, number: int, facts: Mapping[str, Any]) -> None:
        """Declare a part finished; all that belongs to it must have been written.

        Recorded twice, the last one counts; both writers succeed.

        Parameters
        ----------
        number : int
            The part, from 0.
        facts : mapping
            JSON-serialisable: what it was, what it took.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        identity = self._known_identity()
        if identity is None:
            raise SettingsError(f"{self.folder} has no plan: begin one before its parts are recorded")
        entry = {"number": number, "plan": identity, "facts": dict(facts)}
        with self._writing():
            self._files.write(_name(number), _text(entry))

    def recorded(self) -> dict[int, dict[str, Any]]:
        """Facts of all finished parts, by number, in order; what is torn or belongs to another plan is left out."""
        found = (self._facts(name, text) for name, text in self._files.walk(RECORDS))
        return dict(sorted(entry for entry in found if entry is not None))

    def has(self, number: int) -> bool:
        """Whether a part is finished."""
        name = _name(number)
        return self._facts(name, self._files.read(name)) is not None

    def write_progress(self, numbers: Mapping[str, Any]) -> None:
        """Say how far the work is, for other programs.

        Parameters
        ----------
        numbers : mapping
            As :class:`~deepfinder_dask.execution.Progress` reports them.
        """
        with self._writing():
            self._files.write(PROGRESS, _text({**numbers, "written_at": round(time.time(), 3)}))

    def progress(self) -> dict[str, Any] | None:
        """What was last said about how far the work is."""
        numbers = _parsed(self._files.read(PROGRESS))
        return numbers if isinstance(numbers, dict) else None

    def clear(self) -> None:
        """Forget everything; interrupted, the rest is forgotten when work begins."""
        with self._writing():
            self._files.remove(PLAN)
            for name, _ in list(self._files.walk(RECORDS, contents=False)):
                self._files.remove(name)
            self._files.remove(PROGRESS)
        self._identity = None

    def _known_identity(self) -> str | None:
        """What ties records to their plan; None where there is no plan."""
        if self._identity is None:
            plan = self.plan()
            self._identity = None if plan is None else _digest(plan)
        return self._identity

    def _facts(self, name: str, text: bytes | None) -> tuple[int, dict[str, Any]] | None:
        """Number and facts of a record; None for what is none, or none of this plan."""
        entry = _parsed(text)
        if not isinstance(entry, dict):
            return None
        number, facts = entry.get("number"), entry.get("facts")
        if not isinstance(number, int) or not isinstance(facts, dict) or name != _name(number):
            return None
        identity = self._known_identity()
        return (number, facts) if identity is not None and entry.get("plan") == identity else None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(f"cannot write {self.folder}: {reason}: choose another output") from error


def _reopen(folder: str, identity: str | None) -> Ledger:
    ledger = Ledger(folder)
    ledger._identity = identity
    return ledger


def _name(number: int) -> str:
    return f"{RECORDS}/{number // PER_FOLDER:03d}/{number}.json"


def _text(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=None, separators=(",", ":")).encode()


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from a file."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain


def _parsed(text: bytes | None) -> Any:
    """Content of a JSON file; None where it is torn or missing."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None


def _digest(plan: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def _difference(held: Any, wanted: Any, name: str = "plan") -> str:
    """The first value in which two plans differ, in words."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        for key in [*held, *wanted]:
            if held.get(key) != wanted.get(key):
                return _difference(held.get(key), wanted.get(key), key if name == "plan" else f"{name}.{key}")
    return f"{name} is {_short(held)} there and {_short(wanted)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
