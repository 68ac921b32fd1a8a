"""Campaigns: the main job, ``locate``, for one tomogram.

In: a tomogram file and weights. Out: a folder with the converted tomogram, its segmentation, the particles, exports for
other programs, pictures and a summary.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.campaigns.settings import LocateSettings

if TYPE_CHECKING:
    from deepfinder_dask.campaigns.verb import Located, locate

_LAZY = ("Located", "locate")

__all__ = ["LocateSettings", "Located", "locate"]


def __getattr__(name: str) -> Any:
    """Load what needs torch only when asked for."""
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.verb"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
