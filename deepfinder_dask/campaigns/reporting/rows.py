"""Rows of the page: what it says of each tomogram, in words and numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from deepfinder_dask.campaigns.reporting.digests import Digest
from deepfinder_dask.campaigns.reporting.outliers import Flag
from deepfinder_dask.campaigns.reporting.snapshots import Snapshot
from deepfinder_dask.campaigns.reporting.states import STAGES, State
from deepfinder_dask.campaigns.reporting.words import duration, whole
from deepfinder_dask.particles import ParticleClass

FILES = ("slices.png", "projection.png", "particles.csv", "particles.star", "provenance.json")
"""Files of a tomogram that the page links to, where they are."""


@dataclass(frozen=True)
class Row:
    """One tomogram on the page."""

    number: int
    """Its place, from 0."""
    name: str
    """What it is called."""
    state: str
    """Its state."""
    stage: str | None
    """Step that it is in, or in which it failed."""
    attempts: int
    """How often it was begun."""
    reason: str | None
    """Why it failed."""
    counts: tuple[int | None, ...]
    """Particles of each class of the campaign; None where it is not done."""
    count: int | None
    """All particles; None where it is not done."""
    f1: float | None
    """F1, where it was evaluated."""
    seconds: float
    """Wall time of all steps, in seconds."""
    flags: tuple[Flag, ...]
    """Why it deserves a look, the strongest first."""
    remark: str
    """In a line: the reason, the step, or the first flag."""
    facts: tuple[tuple[str, str], ...]
    """What else is known, name and value."""
    notes: tuple[str, ...]
    """What steps had to assume."""
    files: tuple[tuple[str, str], ...]
    """Files beside it, name and link."""
    picture: Snapshot | None
    """None where there is none on this page."""


def make_row(
    number: int,
    state: State,
    digest: Digest,
    classes: Sequence[ParticleClass],
    flags: tuple[Flag, ...],
    *,
    beside: Path,
    picture: bool,
) -> Row:
    """What the page says of a tomogram.

    Parameters
    ----------
    number : int
        Its place on the page.
    state, digest
        What is known of it.
    classes : sequence of ParticleClass
        Those of the whole campaign, kind particle.
    flags : tuple of Flag
        Why it deserves a look.
    beside : Path
        Folder of the page, from which links go.
    picture : bool
        Whether its picture is on the page.
    """
    found = digest.particles
    counts = tuple(found[one.name].count if one.name in found else None for one in classes)
    done = state.done and bool(found)
    if state.failed:
        remark = state.reason or "no reason was written down"
    elif flags:
        remark = flags[0].words + (f", and {len(flags) - 1} more" if len(flags) > 1 else "")
    else:
        remark = f"in {state.stage}" if state.stage and not state.done else ""
    return Row(
        number=number,
        name=state.name,
        state=state.state,
        stage=state.stage,
        attempts=state.attempts,
        reason=None if state.done else state.reason,
        counts=counts if done else (None,) * len(classes),
        count=digest.count if done else None,
        f1=digest.f1,
        seconds=sum(state.seconds.values()),
        flags=flags,
        remark=remark,
        facts=tuple(_facts(state, digest)),
        notes=digest.notes if state.done else (),
        files=tuple(_links(state.folder, beside)),
        picture=digest.picture if picture else None,
    )


def stage_times(states: Sequence[State]) -> list[dict[str, Any]]:
    """Of each step that was done: how often, median, longest (and of which), and sum of its times in seconds."""
    names = [*STAGES, *sorted({name for one in states for name in one.seconds} - set(STAGES))]
    found = []
    for name in names:
        times = {one.name: one.seconds[name] for one in states if name in one.seconds}
        if times:
            slowest = max(times, key=lambda key: times[key])
            found.append(
                {
                    "name": name,
                    "number": len(times),
                    "median": median(times.values()),
                    "longest": times[slowest],
                    "of": slowest,
                    "total": sum(times.values()),
                }
            )
    return found


def _facts(state: State, digest: Digest) -> list[tuple[str, str]]:
    lines = []
    if digest.shape:
        lines.append(("voxels (z, y, x)", " × ".join(str(n) for n in digest.shape)))
    if digest.voxel_size:
        sizes = digest.voxel_size if len(set(digest.voxel_size)) > 1 else digest.voxel_size[:1]
        lines.append(("voxel size", " × ".join(f"{v:g}" for v in sizes) + " Å"))
    if digest.picture:
        lines.append(("slice at z", f"{digest.picture.z:g} nm"))
    for name, one in digest.particles.items():
        middle = [] if one.size is None else [f"median size {whole(one.size)} voxels"]
        middle += [] if one.score is None else [f"score {one.score:.2f}"]
        if middle:
            lines.append((name, ", ".join(middle)))
    if digest.grey.get("std"):
        lines.append(("grey values", f"{digest.grey['mean']:.3g} ± {digest.grey['std']:.3g}".replace("-", "−")))
    overall = digest.evaluation.get("overall", {})
    if digest.f1 is not None:
        parts = [f"{key} {overall[key]:.3f}" for key in ("precision", "recall") if overall.get(key) is not None]
        lines.append(("F1", f"{digest.f1:.3f}" + (f" ({', '.join(parts)})" if parts else "")))
    lines += [(name, duration(seconds)) for name, seconds in state.seconds.items()]
    if state.attempts > 1:
        lines.append(("attempts", str(state.attempts)))
    if state.source:
        lines.append(("source", state.source))
    return lines


def _links(folder: Path, beside: Path) -> list[tuple[str, str]]:
    """Files in a folder, with links that hold wherever the page is opened."""
    place = Path(os.path.relpath(folder.resolve(), beside.resolve())).as_posix()
    return [(name, quote(f"./{place}/{name}")) for name in FILES if (folder / name).is_file()]
