"""Evaluation: found particles compared with true ones.

In: two tables of particles, or files of them in any readable format, and a tolerance. Out: an :class:`Evaluation`
with precision, recall and F1 by class, over all classes and class-blind, matched one to one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.evaluation.result import Evaluation, Score
from deepfinder_dask.evaluation.settings import EvaluateSettings, Tolerance

if TYPE_CHECKING:
    from deepfinder_dask.evaluation.compare import evaluate
    from deepfinder_dask.evaluation.matching import Matches, match

_LAZY = {
    "Matches": "deepfinder_dask.evaluation.matching",
    "evaluate": "deepfinder_dask.evaluation.compare",
    "match": "deepfinder_dask.evaluation.matching",
}

__all__ = ["EvaluateSettings", "Evaluation", "Matches", "Score", "Tolerance", "evaluate", "match"]


def __getattr__(name: str) -> Any:
    """Load what needs pandas and scipy only when asked for."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
