"""Particles made for evaluation."""

from __future__ import annotations

import numpy as np

from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts

A = ParticleClass("a", 1, radius=50.0)
B = ParticleClass("b", 2, radius=100.0)
FACTS = TomogramFacts(10.0, (100, 100, 100))


def table(rows, *, tomogram="t", classes=(A, B), facts=FACTS, **columns):
    """Particles of one tomogram from (label, z, y, x) in Å."""
    positions = np.reshape([row[1:4] for row in rows], (-1, 3)) / np.asarray(facts.voxel_size or (1.0, 1.0, 1.0))
    known = facts if facts.voxel_size is not None else TomogramFacts(1.0)
    made = Particles.from_voxels(
        positions, tomogram=tomogram, facts=known, labels=[row[0] for row in rows], classes=classes, **columns
    )
    return Particles(made.table, {tomogram: facts}, classes)


def scene(seed, *, tomograms=1, count=40, found=0.7, false=10, spread=15.0, scored=True):
    """Random truth and what was found of it: some missed, some false, some of the wrong class."""
    random = np.random.default_rng(seed)
    sides = [], []
    for number in range(tomograms):
        name = f"TS_{number:02}"
        labels = random.integers(1, 3, count)
        places = random.uniform(0, 990, (count, 3))
        kept = random.uniform(size=count) < found
        seen = np.concatenate(
            [places[kept] + random.normal(0, spread, (kept.sum(), 3)), random.uniform(0, 990, (false, 3))]
        ).clip(0, 990)
        named = np.concatenate([labels[kept], random.integers(1, 3, false)])
        wrong = random.uniform(size=len(named)) < 0.1
        named[wrong] = 3 - named[wrong]
        scores = np.round(random.uniform(size=len(named)), 2) if scored else None
        sides[0].append(table([(n, *p) for n, p in zip(labels.tolist(), places, strict=True)], tomogram=name))
        rows = [(n, *p) for n, p in zip(named.tolist(), seen, strict=True)]
        sides[1].append(table(rows, tomogram=name, scores=scores))
    return Particles.concat(sides[0]), Particles.concat(sides[1])
