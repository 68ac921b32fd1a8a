"""``--verbose``: what a command does, on standard error."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from deepfinder_dask.errors import DeepFinderError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LOGGERS = ("distributed", "tornado", "asyncio", "matplotlib")
"""Libraries whose chatter is kept off standard error unless it is asked for."""


@contextmanager
def narrated(name: str, settings: DataclassInstance | None, *, wanted: bool) -> Iterator[None]:
    """Say what the work inside is done with, and where its errors come from; unless it is wanted, nothing.

    Parameters
    ----------
    name : str
        Name of the verb.
    settings : dataclass instance, optional
        Its settings.
    wanted : bool
        Whether anything is said.
    """
    if not wanted:
        yield
        return
    for line in _lines_of(name, settings):
        sys.stderr.write(f"{line}\n")
    levels = {logger: logging.getLogger(logger).level for logger in LOGGERS}
    with warnings.catch_warnings():
        warnings.filterwarnings("default")
        warnings.showwarning = _show_any
        for logger in LOGGERS:
            logging.getLogger(logger).setLevel(logging.WARNING)
        try:
            yield
        except DeepFinderError:
            traceback.print_exc()
            raise
        finally:
            for logger, level in levels.items():
                logging.getLogger(logger).setLevel(level)


def _show_any(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in one line, with where it comes from."""
    where = f"{Path(filename).parent.name}/{Path(filename).name}:{lineno}"
    sys.stderr.write(f"warning: {' '.join(str(message).split())} ({category.__name__}, {where})\n")


def _lines_of(name: str, settings: DataclassInstance | None) -> Iterator[str]:
    """The settings, one line each, those that differ from their defaults marked."""
    from deepfinder_dask import __version__

    yield f"deepfinder {name.rstrip('_')} {__version__}"
    for one in fields(settings) if settings is not None else ():
        value = getattr(settings, one.name)
        yield f"  {one.name} = {value!r}{'' if value == one.default else '  (given)'}"
