"""One process at a time in one place."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deepfinder_dask.errors import InputError, StorageError

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What file systems without locks answer."""


@contextmanager
def hold(file: Path, place: str | Path) -> Iterator[None]:
    """Keep other processes out of a place until this one lets go of it or ends, even by a kill.

    Parameters
    ----------
    file : Path
        What is locked; made, with its folder, and removed in the end. It must not lie in what the holder removes.
    place : str or path
        What it stands for, for messages.

    Raises
    ------
    InputError
        If another process holds it.
    StorageError
        If the file cannot be made.
    """
    from filelock import FileLock, Timeout

    made = not file.parent.exists()
    lock = FileLock(file, timeout=0)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()  # where that cannot be, waiting for a lock would tell of another process
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another process is at work in {place}: wait until it ends, or choose another output"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            reason = error.strerror or str(error)
            raise StorageError(f"cannot write {file.parent}: {reason}: choose another output") from error
    try:
        yield
    finally:
        if lock.is_locked:
            file.unlink(missing_ok=True)  # first, so that nobody takes hold of a file that goes away
            lock.release()
        if made:
            with suppress(OSError):  # it holds something now
                file.parent.rmdir()
