"""What the page and the server say to each other: positions in voxels there, in Å here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from deepfinder_dask.errors import InputError
from deepfinder_dask.viewing.annotating.edits import Edit, Position
from deepfinder_dask.viewing.annotating.session import Session
from deepfinder_dask.viewing.annotating.settings import Smoothing
from deepfinder_dask.viewing.annotating.slabs import SlabReader
from deepfinder_dask.viewing.marks import FALLBACK_RADIUS


def facts_of_session(session: Session, slabs: SlabReader) -> dict[str, Any]:
    """Everything that a page begins with, for JSON."""
    tomogram, shown = session.tomogram, [one for one in session.classes if one.kind == "particle"]
    smooth = Smoothing.parse(session.settings.smooth)
    fallback = FALLBACK_RADIUS * float(np.max(np.asarray(tomogram.shape) * tomogram.voxel_size))
    (name,) = session.start.tomograms
    return {
        "tomogram": name,
        "output": session.output.name,
        "shape": tomogram.shape,
        "voxel_size": tomogram.voxel_size,
        "levels": [
            {"shape": level.space, "factor": factor, "chunk": level.chunks[-3:]}
            for level, factor in zip(tomogram.levels, slabs.factors, strict=True)
        ],
        "range": slabs.range,
        "classes": [
            {
                "label": one.label,
                "name": one.name,
                "colour": one.colour,
                "radius": one.radius or fallback,
                "known": one.radius is not None,
            }
            for one in shown
        ],
        "smooth": {"amount": smooth.amount, "unit": smooth.unit},
        "review": len(session.start) > 0,
        **describe(session, session.annotations),
    }


def describe(session: Session, numbers: Iterable[int]) -> dict[str, Any]:
    """Some particles as they stand, None for those that are gone, and the state of the session."""
    annotations, size = session.annotations, session.tomogram.voxel_size
    scores = session.scores
    changed: dict[int, Any] = {}
    for number in numbers:
        one = annotations.get(number)
        changed[number] = one and {
            "label": one.label,
            "voxel": [a / s for a, s in zip(one.position, size, strict=True)],
            "verdict": one.verdict,
            "score": scores.get(number),
        }
    return {"changed": changed, "undo": session.can_undo, "redo": session.can_redo, "unsaved": session.unsaved}


def apply_request(session: Session, asked: Mapping[str, Any]) -> Edit | None:
    """Do what a page asks for.

    Returns
    -------
    Edit or None
        What has changed, None where there was nothing to undo.

    Raises
    ------
    InputError
        It cannot be done.
    StorageError
        It cannot be kept.
    ValueError, TypeError, KeyError
        It is no request.
    """
    match asked["do"]:
        case "add":
            return session.add(int(asked["label"]), _position(session, asked))
        case "move":
            return session.move(int(asked["particle"]), _position(session, asked))
        case "relabel":
            return session.relabel(int(asked["particle"]), int(asked["label"]))
        case "judge" if asked["verdict"] in ("open", "accepted", "rejected"):
            return session.judge(int(asked["particle"]), asked["verdict"])
        case "remove":
            return session.remove(int(asked["particle"]))
        case "undo":
            return session.undo()
        case "redo":
            return session.redo()
    raise InputError(f"nothing known of {asked['do']!r}")


def _position(session: Session, asked: Mapping[str, Any]) -> Position:
    """Å of a voxel, its index times the voxel size."""
    z, y, x = (float(v) * s for v, s in zip(asked["voxel"], session.tomogram.voxel_size, strict=True))
    return z, y, x
