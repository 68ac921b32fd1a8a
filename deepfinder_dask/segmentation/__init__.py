"""Segmentation: a tomogram and weights in; label map, probabilities and scores out.

In: a :class:`~deepfinder_dask.tomograms.Tomogram` and :class:`~deepfinder_dask.networks.Weights`. Out: a
:class:`Segmentation` in a store, computed block by block and bit-identical to one pass over the whole volume; or the
same as lazy Dask arrays.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.segmentation.settings import SegmentSettings

if TYPE_CHECKING:
    from deepfinder_dask.segmentation.forecasting import Forecast, forecast
    from deepfinder_dask.segmentation.lazy import segment_lazily
    from deepfinder_dask.segmentation.store import LazySegmentation, Segmentation
    from deepfinder_dask.segmentation.verb import segment
    from deepfinder_dask.segmentation.verification import verify

_HOMES = {
    "Forecast": "forecasting",
    "LazySegmentation": "store",
    "Segmentation": "store",
    "forecast": "forecasting",
    "segment": "verb",
    "segment_lazily": "lazy",
    "verify": "verification",
}

__all__ = [
    "Forecast",
    "LazySegmentation",
    "SegmentSettings",
    "Segmentation",
    "forecast",
    "segment",
    "segment_lazily",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load what needs torch only when asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
