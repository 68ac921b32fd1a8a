"""A campaign's folder, as ``run`` lays it out: balls in noise, their label maps and their particles, in no time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepfinder_dask.blocks import Box
from deepfinder_dask.campaigns import write_provenance
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, classes_to_dicts
from deepfinder_dask.tomograms import (
    Tomogram,
    build_pyramid,
    create_group,
    create_image,
    finish_group,
    finish_image,
    statistics_of,
    write_attributes,
)

VOXEL = 13.48
"""Å."""
CLASSES = (
    ParticleClass("ribosome", 1, radius=130.0),
    ParticleClass("proteasome", 2, radius=75.0),
    ParticleClass("membrane", 3, kind="structure"),
)
STEPS = {"convert": 2.0, "segment": 40.0, "cluster": 5.0, "export": 0.4}
"""Seconds that steps usually take."""


def make_tomogram(
    folder: Path,
    name: str,
    *,
    number: int = 0,
    shape: tuple[int, int, int] = (24, 96, 96),
    counts: tuple[int, int] = (14, 18),
    classes: Sequence[ParticleClass] = CLASSES,
    noise: float = 1.0,
    size: float = 1.0,
    score: float = 0.85,
    slow: float = 1.0,
    evaluated: bool = True,
    volumes: bool = True,
    source: str = "data",
) -> Path:
    """The folder of a tomogram that is done.

    Parameters
    ----------
    folder : Path
        Folder of the campaign.
    name : str
        What it is called; may be no name for a folder.
    number : int
        Seed.
    counts : tuple of int
        Particles of each class.
    noise, size, score, slow : float
        What makes it unlike the others.
    """
    rng = np.random.default_rng(number)
    here = folder / "tomograms" / name
    here.mkdir(parents=True)
    labels = np.zeros(shape, np.uint8)
    grid = np.indices(shape, sparse=True)
    centres, kinds = [], []
    for label, count in enumerate(counts, start=1):
        radius = (classes[label - 1].radius or 60.0) / VOXEL
        for _ in range(count):
            for _ in range(30):
                centre = rng.uniform(2, np.array(shape) - 3)
                apart = [np.hypot(*(centre - c)[1:]) for c in centres]
                if min(apart, default=99) > radius + 5:
                    break
            centres.append(centre)
            kinds.append(label)
            if volumes:
                labels[sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2] = label
    if volumes:
        sheet = np.abs(grid[1] - shape[1] * 0.5 - 12 * np.sin(grid[2] / 17 + number)) < 1.5
        labels[np.broadcast_to(sheet, shape) & (labels == 0)] = 3
        grey = rng.normal(0, noise, shape) - 1.1 * noise * (labels > 0)
        _image(here / "tomogram.zarr", grey.astype(np.float32))
        tomogram = Tomogram.open(here / "tomogram.zarr")
        statistics = statistics_of(tomogram.volume).to_dict()
        _segmentation(here / "segmentation.zarr", labels, classes)
    else:
        percentiles = {"0.1": -3.1 * noise, "50": 0.0, "99.9": 3.1 * noise}
        statistics = {"count": int(np.prod(shape)), "mean": 0.0, "std": noise * rng.uniform(0.98, 1.02)}
        statistics |= {"minimum": -5.0, "maximum": 5.0, "percentiles": percentiles}
    volumes_of = [4.19 * ((classes[k - 1].radius or 60) / VOXEL) ** 3 * size for k in kinds]
    particles = Particles.from_voxels(
        np.reshape(centres, (-1, 3)),
        tomogram=name,
        facts=TomogramFacts((VOXEL,) * 3, shape),
        labels=kinds,
        classes=[one for one in classes if one.kind == "particle"],
        scores=np.clip(rng.normal(score, 0.06, len(kinds)), 0, 1),
        sizes=[max(1, round(v * rng.normal(1, 0.08))) for v in volumes_of],
    )
    particles.write(here / "particles.parquet")
    facts = {
        "layout": 1,
        "tomogram": {"name": name, "shape": shape, "voxel_size": [VOXEL] * 3, "statistics": statistics},
        "notes": [],
    }
    write_provenance(here, facts)
    if evaluated:
        (here / "evaluation.json").write_text(json.dumps(_evaluation(counts, classes, rng)))
    stages = {
        step: {"state": "done", "seconds": round(usual * slow * rng.uniform(0.97, 1.03), 2), "identity": f"{number}"}
        for step, usual in STEPS.items()
    }
    write_state(here, name, "done", stages=stages, source=f"{source}/{here.name}.mrc")
    return here


def write_state(here: Path, name: str, state: str, **more: Any) -> None:
    """The state of a tomogram."""
    here.mkdir(parents=True, exist_ok=True)
    facts = {"tomogram": name, "source": f"data/{name}.mrc", "state": state, "stage": None, "attempts": 1}
    (here / "state.json").write_text(json.dumps({**facts, "reason": None, "stages": {}, **more}))


def finish_campaign(folder: Path, facts: Mapping[str, Any] | None = None) -> None:
    """``campaign.json`` and ``summary.json``."""
    (folder / "campaign.json").write_text(json.dumps(dict(facts or {})))
    summary = {"started": "2026-03-01T08:00:00+00:00", "ended": "2026-03-01T09:30:00+00:00", "seconds": 5400}
    (folder / "summary.json").write_text(json.dumps(summary))


def _image(path: Path, values: np.ndarray) -> None:
    volume = create_image(path, shape=values.shape, dtype=values.dtype, voxel_size=(VOXEL,) * 3, chunk=(32, 64, 64))
    volume.write(Box.whole(volume.space), values)
    build_pyramid(str(path), method="mode" if values.dtype == np.uint8 else "mean")
    finish_image(path)


def _segmentation(path: Path, labels: np.ndarray, classes: Sequence[ParticleClass]) -> None:
    create_group(str(path), kind="segmentation")
    write_attributes(str(path), {"classes": classes_to_dicts(classes)})
    _image(path / "labels", labels)
    finish_group(str(path))


def _evaluation(counts: tuple[int, int], classes: Sequence[ParticleClass], rng: np.random.Generator) -> dict[str, Any]:
    each = {}
    for one, count in zip(classes, counts, strict=False):
        matched = int(rng.binomial(count, 0.9))
        each[one.name] = _score(count, count + int(rng.integers(0, 2)), matched)
    total = [sum(one[key] for one in each.values()) for key in ("true", "found", "matched")]
    return {"overall": _score(*total), "classes": each}


def _score(true: int, found: int, matched: int) -> dict[str, Any]:
    return {
        "precision": matched / found if found else None,
        "recall": matched / true if true else None,
        "f1": 2 * matched / (true + found) if true + found else None,
        "true": true,
        "found": found,
        "matched": matched,
    }
