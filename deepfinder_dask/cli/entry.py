"""From the command line to a verb, and from errors to exit codes."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from cyclopts import CycloptsError

from deepfinder_dask.cli.app import app
from deepfinder_dask.cli.interrupts import interrupted
from deepfinder_dask.cli.narration import LOGGERS
from deepfinder_dask.errors import DeepFinderError

DONE = 0
BAD_INPUT = 2
INTERRUPTED = 130
PACKAGE = str(Path(__file__).parents[1])


def run(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    words : sequence of str, optional
        Arguments; default those of this process.

    Returns
    -------
    int
        0 done, 1 done in part (failures are named), 2 bad input or settings, 130 interrupted. An error that nobody
        foresaw keeps its traceback.
    """
    _hush()
    words = list(sys.argv[1:] if words is None else words)
    try:
        app(
            list(words),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(str(error), BAD_INPUT)
    except DeepFinderError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(interrupted(words), INTERRUPTED)
    except MemoryError as error:
        return _fail(f"out of memory: use smaller blocks or fewer workers ({error or 'no details'})", BAD_INPUT)
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough. Python would complain again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror}", BAD_INPUT)
    return DONE


def _fail(message: str, code: int) -> int:
    """Say what went wrong in one line."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code


def _hush() -> None:
    """Keep the chatter of libraries off standard error; our own warnings are one line each."""
    # Worker processes read the first of these; this one may have read it already.
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("distributed.client").disabled = True  # its level is set anew when it is loaded
    if not sys.warnoptions:
        warnings.filterwarnings("ignore")
        warnings.filterwarnings("always", category=UserWarning)
        warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line for what this package warns of, nothing for what libraries do."""
    if filename.startswith(PACKAGE):
        sys.stderr.write(f"warning: {' '.join(str(message).split())}\n")
