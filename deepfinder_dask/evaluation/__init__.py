"""Evaluation: found particles compared with true ones.

In: two tables of particles, or files of them in any readable format, and a tolerance. Out: an :class:`Evaluation`
with precision, recall and F1 by class, over all classes and class-blind, matched one to one; the thresholds for which
F1 is largest; or the consensus of two tables and more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.evaluation.result import Evaluation, Score
from deepfinder_dask.evaluation.settings import ConsensusSettings, EvaluateSettings, Tolerance, TuneSettings

if TYPE_CHECKING:
    from deepfinder_dask.evaluation.agreed import Consensus
    from deepfinder_dask.evaluation.agreement import consensus
    from deepfinder_dask.evaluation.compare import evaluate
    from deepfinder_dask.evaluation.matching import Matches, match
    from deepfinder_dask.evaluation.tuned import Tuning
    from deepfinder_dask.evaluation.tuning import tune

_LAZY = {
    "Consensus": "deepfinder_dask.evaluation.agreed",
    "consensus": "deepfinder_dask.evaluation.agreement",
    "Matches": "deepfinder_dask.evaluation.matching",
    "evaluate": "deepfinder_dask.evaluation.compare",
    "match": "deepfinder_dask.evaluation.matching",
    "Tuning": "deepfinder_dask.evaluation.tuned",
    "tune": "deepfinder_dask.evaluation.tuning",
}

__all__ = [
    "Consensus",
    "ConsensusSettings",
    "EvaluateSettings",
    "Evaluation",
    "Matches",
    "Score",
    "Tolerance",
    "TuneSettings",
    "Tuning",
    "consensus",
    "evaluate",
    "match",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Load what needs pandas and scipy only when asked for."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
