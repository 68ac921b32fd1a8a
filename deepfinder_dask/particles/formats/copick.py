"""copick's picks: one JSON file for each tomogram (run) and class (pickable object), positions in Å.

::

    ExperimentRuns/<run>/Picks/<user>_<session>_<object>.json

A pick's ``transformation_`` is a 4 × 4 matrix object → tomogram in x, y, z; its last column shifts the location.
Names of users, sessions and objects have no underscores, so ``class_1`` becomes ``class-1``. A missing score is read
as unknown, and an unknown one is written as null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepfinder_dask.errors import FormatError, InputError, SettingsError
from deepfinder_dask.particles.angles import from_matrices, to_matrices
from deepfinder_dask.particles.classes import ParticleClass
from deepfinder_dask.particles.facts import TomogramFacts, as_voxel_size
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.formats.base import Hints, complete, number_names
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import ORIENTATION, Particles

_AXES = ("x", "y", "z")


class CopickFormat:
    """A copick project's folder of picks, any part of it, or one picks file."""

    name = "copick"
    suffixes: tuple[str, ...] = (".json",)
    carries = frozenset({"tomogram", "score", "orientation", "empty"})
    layout = ""

    def recognises(self, path: Path, head: str) -> bool:
        """Whether a folder holds picks, or a file begins like JSON."""
        return bool(_files(path)) if path.is_dir() else head.lstrip().startswith("{")

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read all picks under a folder, or one file; ``user`` and ``session`` of the settings choose among them."""
        files = _files(path) if path.is_dir() else [path]
        if not files:
            raise FormatError(f"{path}: expected a copick project, found no ExperimentRuns/<run>/Picks/*.json")
        documents = [(file, _document(file)) for file in files]
        wanted = [one for one in documents if _chosen(one[1], hints)]
        if not wanted:
            found = sorted({(d.get("user_id"), d.get("session_id")) for _, d in documents}, key=str)
            raise FormatError(f"{path}: no picks of this user and session; the (user, session) pairs are {found}")
        names = {object_name(one.name): one.name for one in hints.classes}
        parts: list[pd.DataFrame] = []
        tomograms: dict[str, TomogramFacts] = {}
        seen: dict[tuple[str, str], Path] = {}
        for file, document in wanted:
            run, name = _run(file, document, hints), str(document["pickable_object_name"])
            name = names.get(object_name(name), name)
            if (run, name) in seen:
                both = f"{seen[run, name].name} and {file.name}"
                raise FormatError(f"{path}: {both} both hold {name!r} of {run!r}; choose by --user or --session")
            seen[run, name] = file
            spacing = document.get("voxel_spacing")
            facts = TomogramFacts(as_voxel_size(spacing) if isinstance(spacing, (int, float)) and spacing > 0 else None)
            tomograms[run] = tomograms.get(run, facts).merged(facts)
            parts.append(_frame(file, document).assign(tomogram=run, **{"class": name}))
        frame = pd.concat([one for one in parts if len(one)] or parts[:1], ignore_index=True)
        for column in ("instance_id", *ORIENTATION):
            if frame[column].isna().all():
                del frame[column]
        try:
            unknown = {name for _, name in seen} - set(names.values())
            return complete(frame, hints, tomograms, number_names(unknown, hints.classes))
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """One file for each tomogram and class of particles, also where there are none."""
        return [file for file, _, _ in _targets(particles, path, settings)]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write the picks under the folder ``path``."""
        targets = list(_targets(particles, path, settings))
        groups, nobody = particles.groups(), Particles.empty()
        for file, run, one in targets:
            size = particles.tomograms[run].voxel_size
            rows = groups.get((run, one.name), nobody)
            document = {
                "pickable_object_name": object_name(one.name),
                "user_id": settings.user,
                "session_id": settings.session,
                "run_name": run,
                "voxel_spacing": size[0] if size is not None and len(set(size)) == 1 else None,
                "unit": "angstrom",
                "points": _points(rows),
                "trust_orientation": rows.oriented,
            }
            with atomic_write(file) as temporary:
                temporary.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
        return [file for file, _, _ in targets]


def object_name(name: str) -> str:
    """Name of a class as copick allows it: no underscore, blank, or character that a file name can't have."""
    return re.sub(r"[\s_<>:\"/\\|?*\x00-\x1f\x7f]", "-", name)


def _targets(particles: Particles, path: Path, settings: ExportSettings) -> Iterator[tuple[Path, str, ParticleClass]]:
    """File, tomogram and class of each picks file to write.

    Raises
    ------
    SettingsError
        A name cannot be one of copick's.
    """
    for what in ("user", "session"):
        value = getattr(settings, what)
        if not value or object_name(value) != value:
            raise SettingsError(f"copick: {what} {value!r} may have no underscore, blank or slash")
    counts = particles.counts()
    names: dict[str, str] = {}
    for one in particles.classes:
        if one.kind != "particle" and not counts[one.name]:
            continue
        name = object_name(one.name)
        if name in names:
            raise SettingsError(f"copick: classes {names[name]!r} and {one.name!r} would both be named {name!r}")
        names[name] = one.name
        for run in particles.tomograms:
            if "/" in run or "\\" in run or run.startswith("."):
                raise SettingsError(f"copick: tomogram {run!r} cannot name a folder; rename it")
            file = f"{settings.user}_{settings.session}_{name}.json"
            yield path / "ExperimentRuns" / run / "Picks" / file, run, one


def _points(rows: Particles) -> list[dict[str, Any]]:
    """Picks as copick writes them."""
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3, :3] = to_matrices(rows.orientations())
    table = rows.table
    ids = table["instance_id"] if "instance_id" in table.columns else [0] * len(table)
    columns = zip(*(table[name].tolist() for name in ("x", "y", "z", "score")), ids, strict=True)
    return [
        {
            "location": {"x": x, "y": y, "z": z},
            "transformation_": matrix,
            "instance_id": 0 if pd.isna(number) else int(number),
            "score": None if isnan(score) else score,
        }
        for (x, y, z, score, number), matrix in zip(columns, matrices.tolist(), strict=True)
    ]


def _files(folder: Path) -> list[Path]:
    """Picks files of a project, of its runs, of one run, or of one folder of picks, in order of their paths."""
    patterns = {"Picks": "*.json", "ExperimentRuns": "*/Picks/*.json"}
    pattern = patterns.get(folder.name)
    if pattern is None:
        pattern = "Picks/*.json" if (folder / "Picks").is_dir() else "ExperimentRuns/*/Picks/*.json"
    return sorted(folder.glob(pattern))


def _document(file: Path) -> dict[str, Any]:
    """The JSON of one picks file, checked for what is needed."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{file}: not a whole JSON file: {error}") from error
    if not isinstance(document, dict) or not document.get("pickable_object_name"):
        raise FormatError(f"{file}: expected copick picks with a pickable_object_name")
    if not isinstance(document.get("points") or [], list):
        raise FormatError(f"{file}: expected a list of points")
    if document.get("unit", "angstrom") != "angstrom":
        raise FormatError(f"{file}: expected positions in angstrom, found unit {document['unit']!r}")
    return document


def _chosen(document: dict[str, Any], hints: Hints) -> bool:
    """Whether picks are of the user and session asked for."""
    settings = hints.settings
    pairs = ((settings.user, document.get("user_id")), (settings.session, document.get("session_id")))
    return all(wanted is None or wanted == str(found) for wanted, found in pairs)


def _run(file: Path, document: dict[str, Any], hints: Hints) -> str:
    """Tomogram of a picks file: by its folder, else as the file says, else as told, else the file's own name."""
    folder = file.resolve().parent
    if folder.name == "Picks" and folder.parent.parent.name == "ExperimentRuns":
        return folder.parent.name
    return str(document.get("run_name") or (hints.settings.tomograms or (file.stem,))[0])


def _frame(file: Path, document: dict[str, Any]) -> pd.DataFrame:
    """Columns x, y, z, score, instance_id, rot, tilt, psi of one file's points."""
    points = document.get("points") or []
    positions, scores, ids = np.zeros((len(points), 3)), np.full(len(points), np.nan), []
    matrices = np.tile(np.eye(4), (len(points), 1, 1))
    for index, point in enumerate(points):
        try:
            positions[index] = [float(point["location"][axis]) for axis in _AXES]
            scores[index] = np.nan if point.get("score") is None else float(point["score"])
            if point.get("transformation_") is not None:
                matrices[index] = point["transformation_"]
            ids.append(int(point.get("instance_id") or 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{file}: point {index} is not one of copick's: {error!r}") from error
    try:
        trusted = document.get("trust_orientation", True)
        angles = from_matrices(matrices[:, :3, :3]) if trusted else np.full((len(points), 3), np.nan)
    except ValueError as error:
        raise FormatError(f"{file}: transformation_: {error}") from error
    columns: dict[str, Any] = dict(zip(_AXES, (positions + matrices[:, :3, 3]).T, strict=True))
    columns["score"] = scores
    columns["instance_id"] = pd.array(ids if any(ids) else [pd.NA] * len(ids), dtype="Int64")
    columns.update(zip(ORIENTATION, angles.T, strict=True))
    return pd.DataFrame(columns)
