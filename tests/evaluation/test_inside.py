"""Masks and borders: what counts, and pairs across the edge."""

from __future__ import annotations

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.errors import GeometryError, SettingsError, VoxelSizeError
from deepfinder_dask.evaluation import evaluate
from deepfinder_dask.particles import Particles, TomogramFacts

from .conftest import scene, table


def counts(score):
    return score.true, score.found, score.matched


@pytest.fixture
def halves(tmp_path):
    """A mask of 100³ voxels: region 1 where x < 50, region 2 where x >= 50 and y >= 50, else outside."""
    values = np.zeros((100, 100, 100), np.int8)
    values[:, :, :50] = 1
    values[:, 50:, 50:] = 2
    path = tmp_path / "mask.mrc"
    with mrcfile.new(path) as file:
        file.set_data(values)
        file.voxel_size = 10.0
    return str(path)


def test_pairs_across_the_edge_count_neither_way(halves):
    """(z, y, x) in Å; the edge of region 1 lies at x = 495, outside begins there where y < 495."""
    truth = table([(1, 100, 100, 100), (1, 100, 100, 480), (1, 500, 100, 600), (1, 900, 100, 480)])
    found = table([(1, 100, 100, 110), (1, 100, 100, 520), (1, 500, 100, 600), (1, 700, 100, 480)])
    result = evaluate(truth, found, mask=halves)
    # The first pair is inside, the second across, the third outside; one is missed, one false.
    assert counts(result.overall) == counts(result.localisation) == (2, 2, 1)
    assert result.confusion == ((1, 0, 1), (0, 0, 0), (1, 0, 0))
    said = next(note for note in result.notes if "outside" in note)
    assert said.startswith("1 true and 2 found particles lie outside")
    assert "1 pairs" in said
    back = evaluate(found, truth, mask=halves)
    assert counts(back.overall) == (2, 2, 1)
    assert result.pairs is not None
    assert set(result.pairs["truth_row"]) == {0}


def test_one_inside_is_preferred_to_a_nearer_one_outside(halves):
    truth = table([(1, 100, 100, 490)])
    found = table([(1, 100, 100, 500), (1, 100, 100, 470)])
    assert counts(evaluate(truth, found, mask=halves).overall) == (1, 1, 1)


def test_a_second_find_of_a_particle_outside_stays_false(halves):
    """The one outside has its own partner outside; the one inside is no excuse for it."""
    truth = table([(1, 100, 100, 510)])
    found = table([(1, 100, 100, 512), (1, 100, 100, 480)])
    assert counts(evaluate(truth, found, mask=halves).overall) == (0, 1, 0)


def test_figures_of_each_region(halves):
    truth = table([(1, 100, 600, 100), (1, 100, 600, 900), (2, 300, 600, 900), (1, 500, 600, 490)])
    found = table([(1, 100, 600, 100), (2, 300, 600, 900), (1, 500, 600, 500)])
    result = evaluate(truth, found, mask=halves)
    assert counts(result.overall) == (4, 3, 3), "a pair in two regions counts for the whole mask"
    assert {number: counts(one.overall) for number, one in result.regions.items()} == {1: (1, 1, 1), 2: (2, 1, 1)}
    assert counts(result.regions[2].classes["a"]) == (1, 0, 0)
    document = result.to_dict()["regions"]
    assert document["2"]["classes"]["b"]["f1"] == 1
    assert document["1"]["localisation"]["recall"] == 1


def test_border():
    truth = table([(1, 100, 500, 500), (1, 500, 500, 500), (1, 500, 500, 904)])
    found = table([(1, 100, 500, 500), (1, 500, 500, 500), (1, 500, 500, 890)])
    result = evaluate(truth, found, border=100.0)
    assert counts(result.overall) == (2, 2, 2), "voxel 10 is the first and voxel 89 the last inside; 90.4 is outside"
    assert counts(evaluate(truth, found, border=110.0).overall) == (1, 1, 1)
    assert not result.regions


@settings(max_examples=20)
@given(st.integers(0, 500), st.floats(0, 400))
def test_no_more_counts_than_lies_inside(seed, border):
    """Counts never exceed what lies inside, matches are as many as without the mask could be, and all is all."""
    truth, found = scene(seed, spread=40.0)
    result = evaluate(truth, found, border=border, bootstrap=0)
    margin = np.ceil(border / 10 - 1e-6)
    for side, count in ((truth, result.overall.true), (found, result.overall.found)):
        voxels = np.floor(side.positions() / 10 + 0.5)
        assert count <= ((voxels >= margin) & (voxels < 100 - margin)).all(axis=1).sum()
    whole = evaluate(truth, found, bootstrap=0)
    assert result.localisation.matched <= whole.localisation.matched
    if margin == 0 and whole.notes == ():
        assert counts(result.overall) == counts(whole.overall)


def test_masks_that_cannot_be_used(halves):
    truth, _ = scene(1)
    small = TomogramFacts(10.0, (100, 100, 90))
    other = [(1, 0.0, 0.0, 0.0)]
    with pytest.raises(GeometryError, match="shape"):
        evaluate(table(other, facts=small), table(other, facts=small), mask=halves)
    unknown = table(other, facts=TomogramFacts(10.0))
    with pytest.raises(GeometryError, match="--shape"):
        evaluate(unknown, unknown, mask=halves)
    nowhere = table(other, facts=TomogramFacts(None, (100, 100, 100)))
    with pytest.raises(VoxelSizeError, match="--voxel-size"):
        evaluate(nowhere, nowhere, mask=halves)
    assert evaluate(unknown, table(other), mask=halves).overall.matched == 1, "the found side knows the shape"
    many = Particles.concat([truth, table(other, tomogram="other")])
    with pytest.raises(SettingsError, match=r"--mask with \{tomogram\}"):
        evaluate(many, many, mask=halves)
