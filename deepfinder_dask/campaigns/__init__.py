"""Campaigns: the main job, ``locate``, for one tomogram.

In: a tomogram file and weights. Out: a folder with the converted tomogram, its segmentation, the particles, exports for
other programs, pictures and a summary that says where they come from; the same particles made again from it; and
for many tomograms a page that shows what was found.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.campaigns.reporting.settings import ReportSettings
from deepfinder_dask.campaigns.settings import LocateSettings

if TYPE_CHECKING:
    from deepfinder_dask.campaigns.provenance import (
        campaign_facts,
        locating_facts,
        read_provenance,
        write_provenance,
    )
    from deepfinder_dask.campaigns.reporting import write_report
    from deepfinder_dask.campaigns.reproduction import Reproduced, reproduce
    from deepfinder_dask.campaigns.verb import Located, locate

_HOMES = {
    **dict.fromkeys(("Located", "locate"), "verb"),
    **dict.fromkeys(("campaign_facts", "locating_facts", "read_provenance", "write_provenance"), "provenance"),
    **dict.fromkeys(("Reproduced", "reproduce"), "reproduction"),
    "write_report": "reporting",
}

__all__ = [
    "LocateSettings",
    "Located",
    "ReportSettings",
    "Reproduced",
    "campaign_facts",
    "locate",
    "locating_facts",
    "read_provenance",
    "reproduce",
    "write_provenance",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load what needs torch only when asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
