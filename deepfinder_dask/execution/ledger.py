"""The ledger of a long piece of work: its plan, and one small record for every part that is finished.

::

    LEDGER/
    ├── plan.json              what is being done, and with what
    ├── records/000/17.json    part 17 is finished: facts about it, and the plan it belongs to
    ├── progress.json          how far it is, for other programs
    └── lock                   held by the process that drives the work

Every file is written whole, under another name, and never changed: a process that is killed at any instant leaves
either a record or none. Nothing is ever appended, so that it works on object stores too. A record is written by
whoever did the part, after everything else of it: *finished means recorded*.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from deepfinder_dask.errors import InputError, SettingsError, StorageError

PLAN = "plan.json"
PROGRESS = "progress.json"
RECORDS = "records"
LOCK = "lock"
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
        self.folder = os.fspath(folder)
        self._files: _Files = _RemoteFiles(self.folder) if "://" in self.folder else _LocalFiles(self.folder)
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
        entry = {"number": number, "plan": self._known_identity(), "facts": dict(facts)}
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

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from driving the same work; the end of this process, even by a kill, lets go of it.

        On a URL nothing is locked.

        Raises
        ------
        InputError
            If another process is at work in the folder.
        """
        with self._files.lock():
            yield

    def _known_identity(self) -> str:
        if self._identity is None:
            plan = self.plan()
            if plan is None:
                raise SettingsError(f"{self.folder} has no plan: begin one before its parts are recorded")
            self._identity = _digest(plan)
        return self._identity

    def _facts(self, name: str, text: bytes | None) -> tuple[int, dict[str, Any]] | None:
        """Number and facts of a record; None for what is none, or none of this plan."""
        entry = _parsed(text)
        if not isinstance(entry, dict):
            return None
        number, facts = entry.get("number"), entry.get("facts")
        if not isinstance(number, int) or not isinstance(facts, dict) or name != _name(number):
            return None
        return (number, facts) if entry.get("plan") == self._known_identity() else None

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


class _Files(Protocol):
    """Small files by name, a slash between folders."""

    def read(self, name: str) -> bytes | None: ...
    def write(self, name: str, content: bytes) -> None: ...
    def remove(self, name: str) -> None: ...
    def walk(self, folder: str, *, contents: bool = True) -> Iterator[tuple[str, bytes | None]]: ...
    def sweep(self) -> None: ...
    def lock(self) -> Any: ...


class _LocalFiles:
    """Files of a local folder."""

    def __init__(self, folder: str) -> None:
        self.root = Path(folder)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        path = self.root / name
        half = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        try:
            half.write_bytes(content)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            half.write_bytes(content)
        half.replace(path)

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def walk(self, folder: str, *, contents: bool = True) -> Iterator[tuple[str, bytes | None]]:
        top = self.root / folder
        if not top.is_dir():
            return
        for parent, _, names in os.walk(top):
            inner = Path(parent).relative_to(self.root).as_posix()
            for name in names:
                content = None
                if contents and not name.endswith(".partial"):
                    content = self.read(f"{inner}/{name}")
                yield f"{inner}/{name}", content

    def sweep(self) -> None:
        """Remove what a kill left half-written beside the plan."""
        for half in self.root.glob(".*.partial"):
            half.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / LOCK, timeout=0)
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"another process is at work in {self.root}: wait until it ends, or choose another output"
            ) from error
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):  # a file system without locks
                yield
                return
            raise StorageError(f"cannot write {self.root}: {error.strerror}: choose another output") from error
        try:
            yield
        finally:
            lock.release()


class _RemoteFiles:
    """Objects under an fsspec URL; a store writes an object whole or not at all."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def _open(self) -> tuple[Any, str]:
        import fsspec

        file_system, root = fsspec.core.url_to_fs(self.url)
        return file_system, root

    def read(self, name: str) -> bytes | None:
        files, root = self._open()
        try:
            return bytes(files.cat_file(f"{root}/{name}"))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        files, root = self._open()
        parent = f"{root}/{name}".rsplit("/", 1)[0]
        files.makedirs(parent, exist_ok=True)
        files.pipe_file(f"{root}/{name}", content)

    def remove(self, name: str) -> None:
        files, root = self._open()
        try:
            files.rm_file(f"{root}/{name}")
        except FileNotFoundError:
            return

    def walk(self, folder: str, *, contents: bool = True) -> Iterator[tuple[str, bytes | None]]:
        files, root = self._open()
        files.invalidate_cache()
        paths = files.find(f"{root}/{folder}")
        held = files.cat(paths, on_error="omit") if contents and paths else {}
        for path in paths:
            yield path[len(root) + 1 :], held.get(path)

    def sweep(self) -> None:
        """Nothing is ever half-written here."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        yield
