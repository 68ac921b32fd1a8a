from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import irfftn, rfftn

from deepfinder_dask.training.augmentation import NONE, Augmentation


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(1.0, 1.0, size=(12, 16, 20)).astype(np.float32)


def changed(values, augmentation, seed=(1, 2, 3)):
    copy = values.copy()
    augmentation.apply(copy, seed)
    return copy


def test_the_seed_decides_and_nothing_changes_unasked(values):
    both = Augmentation(0.2, 0.3)
    assert (changed(values, both) == changed(values, both)).all()
    assert not np.allclose(changed(values, both), changed(values, both, (1, 2, 4)))
    assert (changed(values, NONE) == values).all()


def test_intensity_is_one_factor_and_one_offset(values):
    got = changed(values, Augmentation(intensity=0.3))
    factor, offset = np.polyfit(values.ravel(), got.ravel(), 1)
    assert np.allclose(got, factor * values + offset, atol=1e-5)
    assert factor > 0
    assert abs(offset) > 1e-3
    assert abs(factor - 1) > 1e-3


def test_amplitudes_change_by_frequency_alone(values):
    """Phases stay, the factor is the same all around, and what was empty (the missing wedge) stays empty."""
    spectrum = rfftn(values)
    spectrum[3:10] = 0
    emptied = irfftn(spectrum, values.shape).astype(np.float32)
    before, after = rfftn(emptied), rfftn(changed(emptied, Augmentation(amplitudes=0.5)))
    assert np.abs(after[4:8]).max() < 1e-3 * np.abs(after).max()
    strong = np.abs(before) > 5
    ratio = after[strong] / before[strong]
    assert np.abs(ratio.imag).max() < 1e-3
    assert ratio.real.min() > 0
    assert np.ptp(ratio.real) > 0.1
    assert after[0, 0, 0] == pytest.approx(before[0, 0, 0], rel=1e-4)
    assert after[0, 4, 0] / before[0, 4, 0] == pytest.approx(after[0, 0, 5] / before[0, 0, 5], rel=1e-2)
