"""What there is to do in a campaign: states read back, inputs compared, changed settings refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from deepfinder_dask.campaigns.planning.entries import Entry
from deepfinder_dask.campaigns.running.conductor import is_done
from deepfinder_dask.campaigns.running.inputs import has_changed
from deepfinder_dask.campaigns.running.stages import Place, Stage, identities
from deepfinder_dask.campaigns.running.states import GIVEN_UP, TomogramState
from deepfinder_dask.errors import OutputExistsError, SettingsError

CAMPAIGN = "campaign.json"
FREE = ("name", "output", "tomograms", "workers", "limits", "keep", "file", "weights", "truth")
"""Parts of the configuration that may change from run to run (weights and truth are compared by what they are)."""


@dataclass
class Survey:
    """What there is to do."""

    todo: list[tuple[Entry, TomogramState]] = field(default_factory=list)
    """Tomograms to be done or gone on with, in order."""
    rest: list[TomogramState] = field(default_factory=list)
    """States of the others."""
    changed: list[tuple[str, str]] = field(default_factory=list)
    """Tomograms that are done and whose file has other bytes now, with what to do about it."""


def read_record(home: Path) -> dict[str, Any]:
    """What ``campaign.json`` of an earlier run says; empty where there is none."""
    try:
        facts = json.loads((home / CAMPAIGN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def check_settings(record: Mapping[str, Any], facts: Mapping[str, Any], weights: Mapping[str, Any], home: Path) -> None:
    """Refuse to go on with a campaign whose settings have changed.

    Parameters
    ----------
    record : mapping
        What the earlier run left (:func:`read_record`).
    facts : mapping
        The configuration now, JSON.
    weights : mapping
        The weights now.
    home : Path
        Folder of the campaign.

    Raises
    ------
    OutputExistsError
        If anything changed that results follow from; each change is named.
    """
    if not record:
        return
    held, now = record.get("config", {}), json.loads(json.dumps(facts))
    changes = []
    for key in now:
        if key in FREE:
            continue
        changes += _changes(key, held.get(key), now[key])
    for key in ("sha256", "classes"):
        if (record.get("weights") or {}).get(key) != weights.get(key):
            changes.append("other weights" if key == "sha256" else "other classes")
    if changes:
        raise OutputExistsError(
            f"{home} holds a campaign with other settings ({'; '.join(changes)}): give those it was begun with, choose "
            "another output, or do again with --overwrite what follows from them"
        )


def _changes(name: str, held: Any, now: Any) -> list[str]:
    """What changed, in words."""
    if held == now:
        return []
    if isinstance(held, dict) and isinstance(now, dict):
        found: list[str] = []
        for key in now:
            if key in ("memory", "block", "workers", "scheduler") and name != "stages":
                continue
            found += _changes(f"{name}.{key}", held.get(key), now[key])
        return found
    return [f"{name} was {json.dumps(held)}, now {json.dumps(now)}"]


def survey(
    home: Path,
    entries: Sequence[Entry],
    stages: Sequence[Stage],
    *,
    only: Sequence[str] = (),
    retry_failed: bool = False,
    overwrite: bool = False,
) -> Survey:
    """Read all states, and say what there is to do.

    Parameters
    ----------
    home : Path
        Folder of the campaign.
    entries : sequence of Entry
        Its tomograms.
    stages : sequence of Stage
        Its stages.
    only : sequence of str
        Names of tomograms, or patterns, that are done; by default all.
    retry_failed : bool
        Whether those that were given up are tried again.
    overwrite : bool
        Whether results of other settings are made anew.

    Raises
    ------
    SettingsError
        ``only`` fits no tomogram.
    OutputExistsError
        A done tomogram was done with other values in its manifest, and may not be done again.
    """
    chosen = [one for one in entries if not only or any(fnmatchcase(one.name, pattern) for pattern in only)]
    if not chosen:
        raise SettingsError(f"--only {' '.join(only)} fits no tomogram: there are {_some([e.name for e in entries])}")
    wanted = {one.name for one in chosen}
    found = Survey()
    for entry in entries:
        folder = home / "tomograms" / entry.name
        state = TomogramState.read(folder, entry.name, entry.source)
        if state.source != entry.source:
            if state.state == "done" and not overwrite:
                raise OutputExistsError(
                    f"{entry.name} was found in {state.source}, and is {entry.source} now: give it another name in a "
                    "manifest, or do it again with --overwrite"
                )
            state = TomogramState(entry.name, entry.source)
        if entry.name not in wanted:
            found.rest.append(state)
        elif state.state == "done":
            _forget_lost(Place(entry, folder), state, stages)
            _of_done(found, entry, state, stages, overwrite=overwrite)
        elif state.state in GIVEN_UP and not (retry_failed or overwrite):
            found.rest.append(state)
        elif state.state in GIVEN_UP:
            found.todo.append((entry, _to_retry(state)))
        else:
            found.todo.append((entry, state))
    return found


def _forget_lost(place: Place, state: TomogramState, stages: Sequence[Stage]) -> None:
    """Forget stages whose results somebody has removed since, so that they are done again."""
    for stage in stages:
        if stage.lasting and stage.name in state.stages and not stage.present(place):
            del state.stages[stage.name]


def _of_done(found: Survey, entry: Entry, state: TomogramState, stages: Sequence[Stage], *, overwrite: bool) -> None:
    """What to do with a tomogram that is done."""
    names = identities(stages, entry)
    stale = [stage.name for stage in stages if stage.name in names and not is_done(state, stage, names)]
    missing = [name for name in stale if name not in state.stages]
    if has_changed(entry.source, state.input):
        if overwrite:
            found.todo.append((entry, state))
            return
        found.changed.append(
            (entry.name, f"its file {entry.source} has changed since it was done: do it again with --overwrite")
        )
        found.rest.append(state)
    elif stale == missing and stale:  # a stage was switched on, or a truth was added
        found.todo.append((entry, state))
    elif stale:
        if not overwrite:
            raise OutputExistsError(
                f"{entry.name} was done with other settings of {stale[0]}: give those it was done with, or do it again "
                "with --overwrite"
            )
        found.todo.append((entry, state))
    else:
        found.rest.append(state)


def _to_retry(state: TomogramState) -> TomogramState:
    """A tomogram that was given up: what its stage read may be damaged, and is made again.

    The converted tomogram is made anew. Recorded blocks of its segmentation are kept, unless a later stage failed.
    """
    if state.stage == "segment":
        state.stages.pop("convert", None)
    else:
        state.stages.clear()
    return state


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
