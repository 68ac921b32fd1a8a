"""What identifies the weights of a campaign, without loading PyTorch where they are the ones of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepfinder_dask.campaigns.planning.config import CampaignConfig


def weights_record(config: CampaignConfig, held: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies the weights, and the classes they are used with.

    Parameters
    ----------
    config : CampaignConfig
        The campaign.
    held : mapping
        What an earlier run found, or nothing.

    Returns
    -------
    dict
        JSON values, as :func:`~deepfinder_dask.campaigns.provenance.weights_facts` gives them, ``file`` and
        ``stamp`` among them; empty where nothing is segmented.

    Raises
    ------
    InputError
        If the weights or the file of classes cannot be read, or do not go together.
    """
    if not config.stages.segment or config.weights is None:
        return {}
    asked = {"weights": config.weights, "classes": config.cluster.classes}
    stamp = held.get("stamp")
    if stamp and stamp.get("asked") == asked and stamp.get("files") == _stamps(stamp.get("paths", [])):
        return dict(held)
    from deepfinder_dask.campaigns.provenance import lasting_name, weights_facts
    from deepfinder_dask.campaigns.running.tasks import weights_of
    from deepfinder_dask.networks import resolve_weights

    weights = weights_of(config.weights, config.cluster.classes)
    facts = weights_facts(weights, lasting_name(config.weights))
    paths = [str(Path(resolve_weights(config.weights)).absolute())]
    paths += [] if config.cluster.classes is None else [config.cluster.classes]
    plain: dict[str, Any] = json.loads(
        json.dumps({**facts, "stamp": {"asked": asked, "paths": paths, "files": _stamps(paths)}}, default=str)
    )
    return plain


def _stamps(paths: list[str]) -> list[list[int]] | None:
    """Sizes and times of files; None where one is not there."""
    try:
        return [[s.st_size, s.st_mtime_ns] for s in (Path(path).stat() for path in paths)]
    except OSError:
        return None
