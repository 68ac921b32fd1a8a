"""Campaigns: the main job, ``locate`` for one tomogram and ``run`` for any number of them.

In: a tomogram file and weights, or a campaign file that names many. Out: for each tomogram a folder with the converted
tomogram, its segmentation, the particles, exports for other programs, pictures and what they follow from; the same
particles made again from it; and for many tomograms a page that shows what was found.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.campaigns.reporting.settings import ReportSettings
from deepfinder_dask.campaigns.settings import LocateSettings, RunSettings

if TYPE_CHECKING:
    from deepfinder_dask.campaigns.locating.verb import Located, locate
    from deepfinder_dask.campaigns.planning.config import CampaignConfig, read_campaign
    from deepfinder_dask.campaigns.planning.forecast import CampaignPlan, plan_campaign
    from deepfinder_dask.campaigns.provenance import (
        campaign_facts,
        locating_facts,
        read_provenance,
        write_provenance,
    )
    from deepfinder_dask.campaigns.reporting import write_report
    from deepfinder_dask.campaigns.reproduction import Reproduced, reproduce
    from deepfinder_dask.campaigns.running.handle import Campaign
    from deepfinder_dask.campaigns.running.results import CampaignResult
    from deepfinder_dask.campaigns.running.status import CampaignStatus, status
    from deepfinder_dask.campaigns.running.verb import run

_HOMES = {
    **dict.fromkeys(("Located", "locate"), "locating.verb"),
    **dict.fromkeys(("campaign_facts", "locating_facts", "read_provenance", "write_provenance"), "provenance"),
    **dict.fromkeys(("Reproduced", "reproduce"), "reproduction"),
    "write_report": "reporting",
    **dict.fromkeys(("CampaignConfig", "read_campaign"), "planning.config"),
    **dict.fromkeys(("CampaignPlan", "plan_campaign"), "planning.forecast"),
    "Campaign": "running.handle",
    "CampaignResult": "running.results",
    **dict.fromkeys(("CampaignStatus", "status"), "running.status"),
    "run": "running.verb",
}

__all__ = [
    "Campaign",
    "CampaignConfig",
    "CampaignPlan",
    "CampaignResult",
    "CampaignStatus",
    "LocateSettings",
    "Located",
    "ReportSettings",
    "Reproduced",
    "RunSettings",
    "campaign_facts",
    "locate",
    "locating_facts",
    "plan_campaign",
    "read_campaign",
    "read_provenance",
    "reproduce",
    "run",
    "status",
    "write_provenance",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load what needs torch only when asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
