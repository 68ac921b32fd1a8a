"""Viewing: pictures of tomograms, label maps and particles.

In: a :class:`~deepfinder_dask.tomograms.Tomogram`, the label map of its segmentation, a table of particles, what
evaluation says of them. Out: Matplotlib figures, and PNG files. Pictures read slices, never whole volumes, and need no
display.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfinder_dask.viewing.agreement import agreement_diagram
    from deepfinder_dask.viewing.annotating import AnnotateSettings, Annotator, annotate
    from deepfinder_dask.viewing.distances import distance_histogram
    from deepfinder_dask.viewing.evaluations import (
        EVALUATION_FILES,
        evaluation_figure,
        evaluation_sheet,
        write_evaluation_pictures,
    )
    from deepfinder_dask.viewing.histograms import distributions
    from deepfinder_dask.viewing.means import projection
    from deepfinder_dask.viewing.pictures import write_pictures
    from deepfinder_dask.viewing.slices import orthoslices
    from deepfinder_dask.viewing.thresholds import threshold_curves

_HOMES = {
    "AnnotateSettings": "annotating",
    "Annotator": "annotating",
    "annotate": "annotating",
    "EVALUATION_FILES": "evaluations",
    "agreement_diagram": "agreement",
    "distance_histogram": "distances",
    "distributions": "histograms",
    "evaluation_figure": "evaluations",
    "evaluation_sheet": "evaluations",
    "orthoslices": "slices",
    "projection": "means",
    "threshold_curves": "thresholds",
    "write_evaluation_pictures": "evaluations",
    "write_pictures": "pictures",
}

__all__ = [
    "EVALUATION_FILES",
    "AnnotateSettings",
    "Annotator",
    "agreement_diagram",
    "annotate",
    "distance_histogram",
    "distributions",
    "evaluation_figure",
    "evaluation_sheet",
    "orthoslices",
    "projection",
    "threshold_curves",
    "write_evaluation_pictures",
    "write_pictures",
]


def __getattr__(name: str) -> Any:
    """Load Matplotlib only when a picture is asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
