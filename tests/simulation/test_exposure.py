from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from deepfinder_dask.simulation import TiltImaging
from deepfinder_dask.simulation.exposure import damage, dose_before, exposures, noise_pattern
from deepfinder_dask.simulation.ice import random_ice
from deepfinder_dask.simulation.tilt_series import tilt_angles

TILTS = tilt_angles(60, 3)


def levels(imaging, ice=None):
    """Variance of the noise of each image against the 0° one."""
    patterns = [noise_pattern(imaging, TILTS, n, (48, 64), 20.0, ice) for n in range(len(TILTS))]
    return np.array([(p.astype(np.float64) ** 2).mean() for p in patterns])


def test_equal_dose_and_no_ice_is_equal_noise():
    assert (levels(TiltImaging()) == 1).all()


def test_noise_is_one_over_the_electrons():
    ice = levels(TiltImaging(ice_thickness=1000.0))
    lean = np.cos(np.deg2rad(TILTS))
    assert ice == pytest.approx(np.exp(1000 / 3100 * (1 / lean - 1)), rel=1e-6)
    assert levels(TiltImaging(dose_scheme="cosine")) == pytest.approx(lean, rel=1e-6)


def test_dose_is_taken_from_the_middle_outwards():
    imaging = TiltImaging(dose=120.0, dose_scheme="cosine")
    assert exposures(imaging, TILTS).sum() == pytest.approx(1)
    before = dose_before(imaging, TILTS)
    assert before.argmin() == 20
    assert (np.diff(before[20:]) > 0).all()
    assert (np.diff(before[:21]) < 0).all()
    assert before.max() < 120
    assert before[-1] == pytest.approx(120 - exposures(imaging, TILTS)[-1] * 60)


def test_damage_fades_fine_detail_first():
    factor = damage((64, 64), 2.0, 40.0)
    assert factor[0, 0] == pytest.approx(1)
    assert (np.diff(factor[0]) < 0).all()
    k = fft.rfftfreq(64, 2.0)[16]
    assert factor[0, 16] == pytest.approx(np.exp(-40 / (2 * (0.245 * k**-1.665 + 2.81))), rel=1e-5)
    assert damage((8, 8), 2.0, 0.0).min() == 1


def test_thick_ice_is_noisy_where_it_is_and_moves_with_the_tilt():
    ice = random_ice(np.random.default_rng(4), (48 * 20.0, 64 * 20.0), 0.2, 0.3)
    y, x = np.arange(48)[:, None] * 20.0, np.arange(64)[None, :] * 20.0
    thick = ice.thick(y, x)
    assert (thick > 0.5).mean() == pytest.approx(0.3, abs=0.03)
    assert not (ice.empty(y, x) & (thick > 0.5)).any()
    flat = noise_pattern(TiltImaging(), TILTS, 20, (48, 64), 20.0, ice)
    assert (flat.astype(np.float64) ** 2).mean() == pytest.approx(1, rel=1e-5)
    assert (flat[thick == 1].mean() / flat[thick == 0].mean()) ** 2 == pytest.approx(np.exp(1500 / 3100), rel=1e-3)
    # At 60° the column of the detector at half the distance from the axis sees the same ice.
    tilted = noise_pattern(TiltImaging(), TILTS, 40, (48, 64), 20.0, ice)
    share = np.log(tilted.astype(np.float64) ** 2)
    share = (share - share.min()) / np.ptp(share)
    at_half = ice.thick(y, ((np.arange(64)[None, :] - 31.5) * 2 + 31.5) * 20.0)
    assert np.allclose(share, (at_half - at_half.min()) / np.ptp(at_half), atol=1e-3)


def test_no_regions_no_field():
    assert random_ice(np.random.default_rng(0), (100.0, 100.0), 0.0, 0.0) is None
