"""Segmentation: a tomogram and weights in; label map, probabilities and scores out.

In: a :class:`~deepfinder_dask.tomograms.Tomogram` and :class:`~deepfinder_dask.networks.Weights`. Out: a
:class:`Segmentation` in a store, computed block by block and bit-identical to one pass over the whole volume.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.segmentation.settings import SegmentSettings

if TYPE_CHECKING:
    from deepfinder_dask.segmentation.block import normalise
    from deepfinder_dask.segmentation.store import Segmentation
    from deepfinder_dask.segmentation.verb import segment

_HOMES = {"normalise": "block", "segment": "verb", "Segmentation": "store"}

__all__ = ["SegmentSettings", "Segmentation", "normalise", "segment"]


def __getattr__(name: str) -> Any:
    """Load what needs torch only when asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
