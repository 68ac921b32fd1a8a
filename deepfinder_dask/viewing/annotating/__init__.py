"""Annotating: a person marks particles in the slices of a tomogram, in the browser.

In: a tomogram, classes, perhaps the particles that a network found. Out: a table of particles that ``target`` takes,
and on request the rejected ones as negatives. Every edit is on disk before the browser hears of it.

::

    page/ (browser) ──► server ──► session ──► journal     every edit, at once
                          │           └──────► particles   shortly after, whole
                          └──► slices ◄── pyramid of the tomogram
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.viewing.annotating.settings import AnnotateSettings

if TYPE_CHECKING:
    from deepfinder_dask.viewing.annotating.opening import open_session
    from deepfinder_dask.viewing.annotating.session import Session
    from deepfinder_dask.viewing.annotating.verb import Annotator, annotate

_HOMES = {"Annotator": "verb", "annotate": "verb", "Session": "session", "open_session": "opening"}

__all__ = ["AnnotateSettings", "Annotator", "Session", "annotate", "open_session"]


def __getattr__(name: str) -> Any:
    """Load servers and tables only when somebody annotates."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
