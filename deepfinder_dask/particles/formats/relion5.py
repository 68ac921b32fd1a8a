"""RELION 5: particles and optimisation set as STAR files.

Coordinates are Å from the centre of the unbinned tomogram. The pose of a particle is A_subtomogram · A_particle, and
the origin, in Å, is subtracted after a turn by A_subtomogram. All angles 0 mean that the orientation is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepfinder_dask.errors import FormatError, InputError
from deepfinder_dask.particles.facts import TomogramFacts
from deepfinder_dask.particles.formats.base import Hints, complete
from deepfinder_dask.particles.formats.relion_geometry import (
    Unbinned,
    compare_extent,
    from_facts,
    look_up,
    read_tomograms_star,
)
from deepfinder_dask.particles.formats.relion_poses import (
    ORIGIN,
    PARTICLE,
    SCORE,
    SUBTOMOGRAM,
    numbers,
    optics_table,
    poses,
    warn_of_columns,
)
from deepfinder_dask.particles.formats.star import read_star, write_star
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import ORIENTATION, Particles

_CENTRED = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")
_PARTICLES_FILE, _TOMOGRAMS_FILE = "rlnTomoParticlesFile", "rlnTomoTomogramsFile"


class Relion5Format:
    """RELION 5 particles, or an optimisation set that names them and their tomograms."""

    name = "relion5"
    suffixes: tuple[str, ...] = (".star",)
    carries = frozenset({"tomogram", "score", "orientation"})
    layout = ""

    def recognises(self, path: Path, head: str) -> bool:
        """Whether a line of the text begins a data block, or a folder holds particles.star."""
        if path.is_dir():
            return (path / "particles.star").is_file()
        return any(line.strip().startswith("data_") for line in head.splitlines())

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read particles; centres come from tomograms.star, else from the shape and voxel size of the hints."""
        path = path / "particles.star" if path.is_dir() else path
        blocks = read_star(path)
        tomograms_star: str | Path | None = hints.settings.tomograms_star
        for block in blocks.values():
            if _PARTICLES_FILE in block.columns and len(block):
                named = block.iloc[0]
                if tomograms_star is None and str(named.get(_TOMOGRAMS_FILE) or ""):
                    tomograms_star = _in_project(path, str(named[_TOMOGRAMS_FILE]))
                path = _in_project(path, str(named[_PARTICLES_FILE]))
                blocks = read_star(path)
                break
        table = _particles(path, blocks)
        known = {} if tomograms_star is None else read_tomograms_star(tomograms_star)
        settings = hints.settings
        centres: dict[str, Unbinned] = {}
        facts: dict[str, TomogramFacts] = {}
        for name in (str(one) for one in table["rlnTomoName"].unique()):
            if tomograms_star is not None:
                centres[name] = look_up(known, name, tomograms_star)
            else:
                centres[name] = from_facts(name, hints.facts, settings.binning)
            facts[name] = hints.facts.merged(centres[name].facts if tomograms_star is not None else TomogramFacts())
        warn_of_columns(path, table)
        middle = {name: one.centre(settings.relion_center) for name, one in centres.items()}
        start = numbers(path, table, list(_CENTRED))
        start = start + np.array([middle[str(name)] for name in table["rlnTomoName"].tolist()]).reshape(-1, 3)
        positions, angles = poses(path, table, start)
        frame = pd.DataFrame({"tomogram": table["rlnTomoName"].astype(str)})
        frame[["x", "y", "z"]] = positions
        if not np.isnan(angles).all():
            frame[ORIENTATION] = angles
        if "rlnClassNumber" in table.columns:
            frame["label"] = numbers(path, table, ["rlnClassNumber"])[:, 0]
        if SCORE in table.columns:
            frame["score"] = numbers(path, table, [SCORE], allow_missing=True)[:, 0]
        try:
            return complete(frame, hints, facts)
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The particles, and the optimisation set beside them; in a folder ``particles.star``."""
        path = path if path.suffix.lower() == ".star" else path / "particles.star"
        return [path, optimisation_set(path)]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write particles and optimisation set; without tomograms.star every tomogram needs shape and voxel size."""
        path, optimisation = self.outputs(particles, path, settings)
        table = particles.table
        known = None if settings.tomograms_star is None else read_tomograms_star(settings.tomograms_star)
        shown: dict[str, Unbinned] = {}
        for name in (str(one) for one in table["tomogram"].unique()):
            facts = particles.tomograms[name]
            if known is not None and settings.tomograms_star is not None:
                shown[name] = look_up(known, name, settings.tomograms_star)
                compare_extent(shown[name], facts)
            else:
                shown[name] = from_facts(name, facts, settings.binning)
        optics, groups = optics_table(shown)
        centres = {name: one.centre(settings.relion_center) for name, one in shown.items()}
        names = table["tomogram"].tolist()
        middle = np.array([centres[name] for name in names]).reshape(-1, 3)
        columns: dict[str, Any] = {"rlnTomoName": [shown[name].name for name in names]}
        columns.update(zip(_CENTRED, (particles.positions()[:, ::-1] - middle).T, strict=True))
        columns.update(zip(PARTICLE, np.nan_to_num(particles.orientations()).T, strict=True))
        columns.update({name: np.zeros(len(table)) for name in (*SUBTOMOGRAM, *ORIGIN)})
        ranks = table.groupby("tomogram").cumcount() + 1
        columns["rlnTomoParticleName"] = [f"{n}/{k}" for n, k in zip(columns["rlnTomoName"], ranks, strict=True)]
        columns["rlnOpticsGroup"] = [groups[name] for name in names]
        columns["rlnClassNumber"] = table["label"].tolist()
        if table["score"].notna().any():
            columns[SCORE] = table["score"].tolist()
        write_star({"optics": optics, "particles": pd.DataFrame(columns)}, path)
        files = {_PARTICLES_FILE: [_from_here(path)]}
        if settings.tomograms_star is not None:
            files[_TOMOGRAMS_FILE] = [settings.tomograms_star]
        write_star({"optimisation_set": pd.DataFrame(files)}, optimisation)
        return [path, optimisation]


def optimisation_set(path: Path) -> Path:
    """Optimisation set that goes with a particles file, named as RELION names it."""
    prefix = path.stem.removesuffix("particles").removesuffix("data").rstrip("_")
    return path.with_name(f"{prefix}_optimisation_set.star" if prefix else "optimisation_set.star")


def _from_here(path: Path) -> str:
    """Path as RELION wants it: from the project folder, which it runs in; else absolute."""
    whole = path.resolve()
    here = Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)


def _in_project(beside: Path, name: str) -> Path:
    """File that a STAR file names relative to the project folder, which is one of the folders above it."""
    named = Path(name)
    places = [folder / named for folder in beside.resolve().parents] + [named, beside.with_name(named.name)]
    for place in places:
        if place.is_file():
            return place
    raise FormatError(f"{beside}: names {name!r}, which is in none of the folders above it")


def _particles(path: Path, blocks: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Table of particles among the blocks of a file."""
    table = blocks.get("particles")
    if table is None:
        table = next((block for block in blocks.values() if "rlnTomoName" in block.columns), None)
    if table is None:
        raise FormatError(f"{path}: expected particles of RELION 5, found no rlnTomoName in blocks {list(blocks)}")
    missing = [name for name in ("rlnTomoName", *_CENTRED) if name not in table.columns]
    if missing:
        older = " (rlnCoordinateX is RELION 4 or older: --from relion4)" if "rlnCoordinateX" in table.columns else ""
        raise FormatError(f"{path}: expected particles of RELION 5, columns {missing} missing{older}")
    return table
