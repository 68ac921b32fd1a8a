"""SHREC's rule: the voxel that a found position lies on says which particle it hits."""

from __future__ import annotations

from math import sqrt

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import dilation

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import FormatError, SettingsError
from deepfinder_dask.evaluation import evaluate
from deepfinder_dask.evaluation.occupancy import spread_values
from deepfinder_dask.particles import Particles, TomogramFacts
from deepfinder_dask.tomograms import create_image, finish_image

from .conftest import table

FACTS = TomogramFacts(10.0, (80, 90, 100))


class Memory:
    """A volume in memory that is read box by box."""

    def __init__(self, values):
        self.values = values
        self.shape = values.shape

    def read(self, box):
        assert max(box.shape) <= 66, "no more than a block and its neighbours"
        return self.values[box.slices()]


@pytest.fixture
def rods():
    """Particle 1 is a rod along x with a hole, 2 a bent one whose centre is empty, 3 one voxel at the corner."""
    values = np.zeros(FACTS.shape, np.int32)
    values[20, 20, 10:60] = 1
    values[20, 20, 40] = 0
    values[60, 20:60, 20] = 2
    values[60, 60, 20:60] = 2
    values[79, 89, 99] = 3
    return values


def write_volume(values, path):
    volume = create_image(path, shape=values.shape, dtype=values.dtype, voxel_size=10.0, chunk=(32, 32, 32))
    volume.write(Box.whole(volume.space), values)
    finish_image(path)
    return str(path)


TRUTH = [(1, 200, 200, 350), (2, 600, 400, 400), (1, 790, 890, 990)]
FOUND = [
    (1, 200, 200, 580),  # on the rod's far end: no sphere would reach it
    (1, 204, 196, 404),  # in its hole, which is closed: the same particle again
    (2, 600, 300, 200),  # on the bend
    (1, 1500, 1500, 1500),  # outside: counts at the corner
    (1, 600, 400, 400),  # at the centre of the bent one, where nothing is
]


def test_hits_by_voxel(rods, tmp_path):
    truth, found = table(TRUTH, facts=FACTS), table(FOUND, facts=FACTS)
    result = evaluate(truth, found, truth_volume=write_volume(rods, tmp_path / "t.zarr"))
    assert (result.localisation.true, result.localisation.found, result.localisation.matched) == (3, 5, 3)
    assert (result.classes["a"].found, result.classes["a"].matched) == (4, 2)
    assert result.classes["b"].f1 == 1
    assert "voxels" in result.tolerance
    pairs = result.pairs
    assert pairs is not None
    nearest = pairs[(pairs["rule"] == "class") & (pairs["truth_row"] == 0)]
    assert nearest["found_row"].tolist() == [1], "of two hits the nearer to the centre is the match"
    assert evaluate(truth, found).localisation.matched == 1, "within the radius only one is"


def test_a_hit_of_the_right_class_counts_whichever_it_is(rods, tmp_path):
    found = table([(2, 200, 200, 350), (1, 200, 200, 580)], facts=FACTS)
    result = evaluate(table(TRUTH, facts=FACTS), found, truth_volume=write_volume(rods, tmp_path / "t.zarr"))
    assert result.classes["a"].matched == 1


def test_files_and_numbers(rods, tmp_path):
    """An MRC file; numbers by instance_id, in whatever order the rows are; one volume for each tomogram."""
    for name in ("x", "y"):
        with mrcfile.new(tmp_path / f"{name}.mrc") as file:
            file.set_data(rods.astype(np.int16))
            file.voxel_size = 10.0
    template = str(tmp_path / "{tomogram}.mrc")
    turned = table(TRUTH[::-1], facts=FACTS, tomogram="x", extra={"instance_id": [3, 2, 1]})
    found = table(FOUND, facts=FACTS, tomogram="x")
    assert evaluate(turned, found, truth_volume=template).overall.matched == 3
    both = [Particles.concat([table(rows, facts=FACTS, tomogram=n) for n in "xy"]) for rows in (TRUTH, FOUND)]
    assert evaluate(*both, truth_volume=template).overall.matched == 6
    with pytest.raises(SettingsError, match=r"--truth-volume with {tomogram}"):
        evaluate(*both, truth_volume=str(tmp_path / "x.mrc"))
    wrong = table(TRUTH[::-1], facts=FACTS, tomogram="x")
    with pytest.raises(FormatError, match="other numbers at 2 of 2") as error:
        evaluate(wrong, found, truth_volume=template)
    assert "\n" not in str(error.value)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.tuples(*[st.integers(1, 90)] * 3))
def test_blockwise_lookup_is_that_in_the_dilated_volume(seed, shape):
    random = np.random.default_rng(seed)
    values = (random.integers(1, 2**31 - 1, shape) * (random.uniform(size=shape) < 0.05)).astype(np.int32)
    positions = random.uniform(-3, max(shape) + 3, (200, 3))
    index = np.clip(np.round(positions), 0, np.array(shape) - 1).astype(int)
    np.testing.assert_array_equal(spread_values(Memory(values), positions), dilation(values)[tuple(index.T)])


def test_box_rule_reaches_the_corner():
    """Without a volume, the bounding box of a ball of the class's radius (50 Å): its corner is a hit."""
    truth = table([(1, 500, 500, 500)])
    for offset, hit in ((50, 1), (50.1, 0)):
        assert evaluate(truth, table([(1, *[500 + offset] * 3)]), tolerance="box").overall.matched == hit
    assert evaluate(truth, table([(1, 550, 550, 550)])).overall.matched == 0
    assert 50 * sqrt(3) > 50
