"""``status``: how far a campaign is, from its files alone; whether it runs or not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepfinder_dask.campaigns.planning.config import CampaignConfig, read_campaign
from deepfinder_dask.campaigns.planning.entries import find_entries
from deepfinder_dask.campaigns.running.states import STATES, TomogramState
from deepfinder_dask.campaigns.running.survey import read_record


@dataclass(frozen=True)
class CampaignStatus:
    """How far a campaign is."""

    name: str
    """The campaign."""
    folder: Path
    """Where everything is."""
    active: bool
    """Whether a driver is at work on it just now."""
    tomograms: tuple[TomogramState, ...]
    """In the order of its file."""
    progress: Mapping[str, tuple[int, int]]
    """Blocks segmented, and how many there are, of tomograms being segmented."""

    def counts(self) -> dict[str, int]:
        """Tomograms by state."""
        found = Counter(one.state for one in self.tomograms)
        return {state: found[state] for state in STATES if found[state]}

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "campaign": self.name,
            "folder": str(self.folder),
            "active": self.active,
            "counts": self.counts(),
            "tomograms": [
                {
                    "tomogram": one.tomogram,
                    "source": one.source,
                    "state": one.state,
                    "stage": one.stage,
                    "attempts": one.attempts,
                    "reason": one.reason,
                    "seconds": round(sum(stage.seconds for stage in one.stages.values()), 3),
                    "blocks": list(self.progress[one.tomogram]) if one.tomogram in self.progress else None,
                }
                for one in self.tomograms
            ],
        }


def status(campaign: str | Path | CampaignConfig) -> CampaignStatus:
    """How far a campaign is; reads small files, writes nothing.

    Parameters
    ----------
    campaign : str, path or CampaignConfig
        Campaign file (TOML), or the name of one that comes with the package.

    Raises
    ------
    InputError
        As :func:`~deepfinder_dask.run`, for the file and its tomograms.
    """
    config = campaign if isinstance(campaign, CampaignConfig) else read_campaign(campaign)
    record = read_record(config.home)
    known = {one["source"]: one["name"] for one in record.get("tomograms", [])}
    states, progress = [], {}
    for entry in find_entries(config, known):
        folder = config.home / "tomograms" / entry.name
        state = TomogramState.read(folder, entry.name, entry.source)
        states.append(state)
        if state.state in ("running", "pending") and state.stage == "segment":
            numbers = _numbers(folder / "segmentation.zarr" / ".ledger" / "progress.json")
            if numbers:
                progress[entry.name] = (int(numbers["done"]), int(numbers["total"]))
    return CampaignStatus(config.name, config.home, _is_held(config.home), tuple(states), progress)


def _numbers(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts


def _is_held(home: Path) -> bool:
    """Whether a driver holds the lock of a campaign."""
    from filelock import FileLock, Timeout

    file = home / ".campaign.lock"
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except (Timeout, OSError):
        return True
