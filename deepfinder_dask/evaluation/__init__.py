"""Evaluation: found particles compared with true ones.

In: two tables of particles, or files of them in any readable format, and a tolerance. Out: an :class:`Evaluation`
with precision, recall and F1 by class, over all classes and class-blind, matched one to one, with average precision,
distances and confidence intervals; the thresholds for which F1 is largest; or the consensus of two tables and more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.evaluation.result import Bootstrap, Details, Evaluation, RegionScores, Score, Spread
from deepfinder_dask.evaluation.settings import ConsensusSettings, EvaluateSettings, Tolerance, TuneSettings

if TYPE_CHECKING:
    from deepfinder_dask.evaluation.agreed import Consensus
    from deepfinder_dask.evaluation.agreement import consensus
    from deepfinder_dask.evaluation.compare import evaluate
    from deepfinder_dask.evaluation.matching import Matches, match
    from deepfinder_dask.evaluation.pairs import check_pairs_path, write_pairs
    from deepfinder_dask.evaluation.ranking import Curve
    from deepfinder_dask.evaluation.tuned import Tuning
    from deepfinder_dask.evaluation.tuning import tune

_LAZY = {
    "Consensus": "deepfinder_dask.evaluation.agreed",
    "Curve": "deepfinder_dask.evaluation.ranking",
    "Matches": "deepfinder_dask.evaluation.matching",
    "Tuning": "deepfinder_dask.evaluation.tuned",
    "check_pairs_path": "deepfinder_dask.evaluation.pairs",
    "consensus": "deepfinder_dask.evaluation.agreement",
    "evaluate": "deepfinder_dask.evaluation.compare",
    "match": "deepfinder_dask.evaluation.matching",
    "tune": "deepfinder_dask.evaluation.tuning",
    "write_pairs": "deepfinder_dask.evaluation.pairs",
}

__all__ = [
    "Bootstrap",
    "Consensus",
    "ConsensusSettings",
    "Curve",
    "Details",
    "EvaluateSettings",
    "Evaluation",
    "Matches",
    "RegionScores",
    "Score",
    "Spread",
    "Tolerance",
    "TuneSettings",
    "Tuning",
    "check_pairs_path",
    "consensus",
    "evaluate",
    "match",
    "tune",
    "write_pairs",
]


def __getattr__(name: str) -> Any:
    """Load what needs pandas and scipy only when asked for."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
