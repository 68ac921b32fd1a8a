"""A minimum distance between particles: what stays is what the plain way leaves, and no two are too close."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepfinder_dask.errors import SettingsError, VoxelSizeError
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.particles.lengths import Length
from deepfinder_dask.particles.spacing import check_distance, keep_apart

CLASSES = (ParticleClass("ring", 1, radius=6.0), ParticleClass("rod", 2, radius=3.0), ParticleClass("dot", 7))
FACTS = TomogramFacts((2.0, 3.0, 4.0))
PLACE = st.integers(0, 12).map(lambda n: n / 2)  # on a grid, so that distances tie and equal the limit


def table_of(rows) -> Particles:
    """Particles from (tomogram, class, (z, y, x) in Å, score, size)."""
    names, classes, places, scores, sizes = zip(*rows, strict=True) if rows else ((),) * 5
    zyx = np.reshape(places, (-1, 3)).astype(float)
    frame = pd.DataFrame(
        {
            "tomogram": list(names),
            "class": [one.name for one in classes],
            "label": [one.label for one in classes],
            **dict(zip("zyx", zyx.T, strict=True)),
            "score": list(scores),
            "size_voxels": pd.array(list(sizes), dtype="Int64"),
        }
    )
    return Particles(frame, dict.fromkeys(names, FACTS), CLASSES)


def plain_way(rows, amount, unit, per_class):
    """One after the other in the order of scores, against all that stay."""

    def order(n):
        score, size = rows[n][3], rows[n][4]
        known = not np.isnan(score)
        return (not known, -score if known else 0, 0 if known else -(-1 if size is None else size), n)

    kept = []
    for n in sorted(range(len(rows)), key=order):
        name, kind, place = rows[n][:3]
        for other in kept:
            other_name, other_kind, other_place = rows[other][:3]
            if name != other_name or (per_class and kind != other_kind):
                continue
            scale = FACTS.voxel_size if unit == "vox" else (1.0, 1.0, 1.0)
            gaps = [(a / s - b / s) for a, b, s in zip(place, other_place, scale, strict=True)]
            limit = amount * kind.radius / 2 + amount * other_kind.radius / 2 if unit == "r" else amount
            if gaps[0] ** 2 + gaps[1] ** 2 + gaps[2] ** 2 < limit**2:
                break
        else:
            kept.append(n)
    return [n in kept for n in range(len(rows))]


ROW = st.tuples(
    st.sampled_from(["t", "u"]),
    st.sampled_from(CLASSES[:2]),
    st.tuples(PLACE, PLACE, PLACE),
    st.one_of(st.just(float("nan")), st.sampled_from([0.0, 0.5, 0.75, 1.0])),
    st.one_of(st.none(), st.integers(1, 4)),
)


@given(
    rows=st.lists(ROW, max_size=40),
    length=st.tuples(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.5, 5.0]), st.sampled_from(["A", "r", "vox"])),
    per_class=st.booleans(),
)
@example([("t", CLASSES[0], (0, 0, n / 2), 0.5, None) for n in range(12)], (1.0, "A"), False)
@settings(max_examples=80, deadline=None)
def test_what_stays_is_what_the_plain_way_leaves(rows, length, per_class):
    amount, unit = length
    found = keep_apart(table_of(rows), f"{amount}{unit}", per_class=per_class)
    assert found.tolist() == plain_way(rows, amount, unit, per_class)


def test_a_crowd_and_a_crystal_take_no_more_than_n_log_n():
    """Everything in one place, and everything apart: in both cases a second or two, not the hour of all pairs."""
    rng = np.random.default_rng(0)
    n = 20_000
    crowd = rng.normal(scale=0.1, size=(n, 3))
    crystal = 10.0 * np.stack(np.unravel_index(np.arange(n), (40, 20, 25)), axis=1)
    both = np.concatenate([crowd, crystal + 100])
    particles = Particles.from_voxels(
        both,
        tomogram="t",
        facts=TomogramFacts(1.0),
        labels=np.ones(2 * n, int),
        classes=CLASSES,
        scores=rng.random(2 * n),
    )
    begin = time.process_time()
    stays = keep_apart(particles, 10)
    assert time.process_time() - begin < 4
    assert stays[:n].sum() == 1  # the crowd's best
    assert stays[np.argmax(particles.table["score"].to_numpy()[:n])]
    assert stays[n:].all()  # exactly ten apart is far enough


def test_numbers_are_angstrom_and_radii_are_those_of_both():
    ring, rod = CLASSES[:2]
    pair = table_of([("t", ring, (0, 0, 0), 0.5, 1), ("t", rod, (0, 0, 9), 0.75, 1)])
    for distance, both in [("2r", True), ("2.01r", False), (9, True), (9.5, False), ("9 Å", True), ("2.26vox", False)]:
        assert keep_apart(pair, distance).tolist() == ([True, True] if both else [False, True])
    assert keep_apart(pair, "5r", per_class=True).all()
    assert len(keep_apart(Particles.empty(), "1r")) == 0


def test_what_cannot_be_judged_is_refused():
    dots = table_of([("t", CLASSES[2], (0, 0, 0), 0.5, 1)])
    with pytest.raises(SettingsError, match=r"class 'dot' has none: give radii in a file of classes \(--classes\)"):
        keep_apart(dots, "1r")
    assert keep_apart(dots, "1vox").all()
    with pytest.raises(VoxelSizeError, match="voxel size is unknown"):
        keep_apart(Particles(dots.table, {"t": TomogramFacts()}, CLASSES), "1vox")
    with pytest.raises(SettingsError, match="no class is known"):
        check_distance("1r", None)
    check_distance("1r", [replace(CLASSES[2], radius=2.0)])
    check_distance(30, None)


@pytest.mark.parametrize("value", [0, -1, "0r", "r", "1 nm", "1e3", "nan", float("nan"), float("inf"), True, "1rr", ""])
def test_what_is_no_length_is_refused(value):
    with pytest.raises(SettingsError, match="a minimum distance is a length above 0, written like 120") as error:
        keep_apart(Particles.empty(), value)
    assert "\n" not in str(error.value)


def test_lengths():
    assert Length.parse("1.5r", "x") == Length(1.5, "r")
    assert Length.parse(120, "x") == Length.parse("120", "x") == Length.parse(" 120.0A ", "x") == Length(120.0, "A")
    assert Length.parse(".5vox", "x") == Length(0.5, "vox")
