"""Viewing: pictures of tomograms, label maps and particles, and a viewer in the browser.

In: a :class:`~deepfinder_dask.tomograms.Tomogram`, the label map of its segmentation, a table of particles, what
evaluation says of them. Out: Matplotlib figures and PNG files, which read slices, never whole volumes, and need no
display; and :mod:`~deepfinder_dask.viewing.browser`, whose page reads what is on screen.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfinder_dask.viewing.agreement import agreement_diagram
    from deepfinder_dask.viewing.annotating import AnnotateSettings, Annotator, annotate
    from deepfinder_dask.viewing.browser import View, ViewSettings, view
    from deepfinder_dask.viewing.distances import distance_histogram
    from deepfinder_dask.viewing.evaluations import (
        EVALUATION_FILES,
        evaluation_figure,
        evaluation_sheet,
        write_evaluation_pictures,
    )
    from deepfinder_dask.viewing.histograms import distributions
    from deepfinder_dask.viewing.lazy_layers import napari_layers
    from deepfinder_dask.viewing.means import projection
    from deepfinder_dask.viewing.pictures import write_pictures
    from deepfinder_dask.viewing.slices import orthoslices
    from deepfinder_dask.viewing.thresholds import threshold_curves

_HOMES = {
    "AnnotateSettings": "annotating",
    "Annotator": "annotating",
    "annotate": "annotating",
    "EVALUATION_FILES": "evaluations",
    "View": "browser",
    "ViewSettings": "browser",
    "agreement_diagram": "agreement",
    "distance_histogram": "distances",
    "distributions": "histograms",
    "evaluation_figure": "evaluations",
    "evaluation_sheet": "evaluations",
    "napari_layers": "lazy_layers",
    "orthoslices": "slices",
    "projection": "means",
    "threshold_curves": "thresholds",
    "view": "browser",
    "write_evaluation_pictures": "evaluations",
    "write_pictures": "pictures",
}

__all__ = [
    "EVALUATION_FILES",
    "AnnotateSettings",
    "Annotator",
    "View",
    "ViewSettings",
    "agreement_diagram",
    "annotate",
    "distance_histogram",
    "distributions",
    "evaluation_figure",
    "evaluation_sheet",
    "napari_layers",
    "orthoslices",
    "projection",
    "threshold_curves",
    "view",
    "write_evaluation_pictures",
    "write_pictures",
]


def __getattr__(name: str) -> Any:
    """Load Matplotlib only when a picture is asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
