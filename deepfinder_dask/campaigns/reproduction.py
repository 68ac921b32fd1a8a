"""Particles made again from what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepfinder_dask.campaigns.locating.verb import Located, locate
from deepfinder_dask.campaigns.provenance import (
    PARTICLES,
    hash_file,
    input_facts,
    read_provenance,
    versions,
)
from deepfinder_dask.campaigns.settings import LocateSettings
from deepfinder_dask.errors import InputError, WeightsError
from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.networks import load_weights, machine_kind
from deepfinder_dask.particles import classes_from_dicts


@dataclass(frozen=True)
class Reproduced:
    """What :func:`reproduce` made, and whether it is what was there."""

    located: Located
    """Everything that was made again."""
    same: bool
    """Whether ``particles.parquet`` is the recorded one, byte for byte."""
    differences: tuple[str, ...]
    """What is different now: versions, the machine; one line each."""


def reproduce(
    provenance: str | Path,
    output: str | Path,
    *,
    source: str | Path | None = None,
    weights: str | Path | None = None,
    progress: bool | None = None,
) -> Reproduced:
    """Make the particles of a tomogram again, from its provenance alone, in a fresh folder.

    Parameters
    ----------
    provenance : str or path
        ``provenance.json`` of a tomogram of a campaign, ``summary.json`` of :func:`~deepfinder_dask.locate`, or the
        folder of either.
    output : str or path
        New folder, laid out as by :func:`~deepfinder_dask.locate`.
    source, weights : str or path, optional
        Where the tomogram and the weights are now, if they were moved; their hashes must be the recorded ones.
    progress : bool, optional
        Show progress bars; by default on a terminal.

    Returns
    -------
    Reproduced
        The results, whether the particles are the same bytes, and what is different now.

    Raises
    ------
    InputError
        If the tomogram, the mask or the weights are not those that were used.
    """
    facts = read_provenance(provenance)
    if "input" not in facts:
        raise InputError(f"{provenance} is the provenance of a campaign: give that of one of its tomograms")
    origin = source or facts["input"]["path"]
    _check_input(origin, facts["input"], "the tomogram")
    used = facts["weights"]
    file = weights or used["file"]
    if file is None:
        raise InputError(f"{provenance} does not say which file held the weights: give it")
    network = load_weights(file)
    if network.sha256 != used["sha256"]:
        raise WeightsError(f"expected weights {used['sha256'][:12]}…, found {network.sha256[:12]}… in {file}")
    settings = settings_of(facts)
    if settings.mask is not None:
        _check_input(settings.mask, facts["mask"], "the mask")
    located = locate(
        origin, network.with_classes(classes_from_dicts(used["classes"])), output, settings, progress=progress
    )
    recorded = facts["outputs"].get(PARTICLES)
    return Reproduced(located, hash_file(located.folder / PARTICLES) == recorded, _differences(facts))


def settings_of(facts: Mapping[str, Any]) -> LocateSettings:
    """Settings that make the same particles: as asked for, with what was left open as it was used then.

    Blocks are kept, for GPUs, where they decide the last bits; workers are not, since they decide none.

    Parameters
    ----------
    facts : mapping
        As :func:`~deepfinder_dask.campaigns.provenance.read_provenance` gives them.
    """
    resolved = facts["resolved"]
    asked = {name: tuple(value) if isinstance(value, list) else value for name, value in facts["settings"].items()}
    asked |= {name: resolved[name] for name in ("device", "precision") if name in resolved}
    asked |= {"tomogram": facts["tomogram"]["name"], "block": tuple(resolved["grid"]["core"])}
    # The classes stand in the provenance as they were used.
    asked |= {"classes": None, "workers": None, "scheduler": None, "overwrite": False}
    return options_to_settings(LocateSettings, None, asked)


def _check_input(path: str | Path, recorded: Mapping[str, Any], what: str) -> None:
    """Refuse an input that is not the recorded one."""
    found = input_facts(path)
    for key in ("sha256", "metadata_sha256"):
        if found.get(key) != recorded.get(key):
            raise InputError(
                f"{path} is not {what} that was used: expected SHA-256 {str(recorded.get(key))[:12]}…, "
                f"found {str(found.get(key))[:12]}…: give the file that was used"
            )


def _differences(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What is different now from what was then."""
    then, now = facts["versions"], versions()
    lines = [f"{name} {then[name]} then, {now.get(name)} now" for name in then if then[name] != now.get(name)]
    device, machine = facts["resolved"].get("device", "cpu"), facts["resolved"].get("machine")
    if device == "cpu" and machine is not None and machine != (here := machine_kind()):
        lines.append(f"machine {machine} then, {here} now")
    return tuple(lines)
