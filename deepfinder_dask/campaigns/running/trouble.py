"""What to do about an error in a stage: wait, try again, give the tomogram up, or end the campaign."""

from __future__ import annotations

import errno
from typing import Literal

from deepfinder_dask.errors import InputError, PartialFailure, StorageError
from deepfinder_dask.execution.window import DEADLY

Verdict = Literal["wait", "retry", "fail", "quarantine", "end"]
"""wait: for free disk; retry: some time later; fail: this input or step is wrong; quarantine: it kills workers; end:
all tomograms would meet with it."""

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_WORDS = ("disk is full", "No space left", "disk quota", "Disk quota")
PASSING = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.ENOTCONN,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.EREMOTEIO,
)
"""Errors of reading and writing that may be over a little later."""
LOST = ("connection to the scheduler was lost", "the scheduler dropped")


class PassingError(StorageError):
    """An error of reading or writing that may be over a little later, told by a worker."""


def judge(error: BaseException) -> Verdict:
    """What to do about an error.

    Parameters
    ----------
    error : BaseException
        What a stage raised.
    """
    words = str(error)
    if not isinstance(error, Exception):
        return "end"
    if _number(error) in FULL or (isinstance(error, StorageError) and any(word in words for word in FULL_WORDS)):
        return "wait"
    if isinstance(error, PartialFailure):
        if any(word in words for word in LOST):
            return "end"
        return "quarantine" if DEADLY in words else "retry"
    if is_passing(error):
        return "retry"
    if isinstance(error, StorageError):
        return "end"
    if isinstance(error, InputError):
        return "fail"
    here = FileNotFoundError | PermissionError | NotADirectoryError | IsADirectoryError
    return "retry" if isinstance(error, OSError | MemoryError) and not isinstance(error, here) else "fail"


def is_passing(error: BaseException) -> bool:
    """Whether an error of reading or writing, here or where it came from, may be over a little later."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, PassingError | ConnectionError | TimeoutError):
            return True
        if isinstance(one, OSError) and one.errno in PASSING:
            return True
        one = one.__cause__ or one.__context__
    return False


def _number(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None
