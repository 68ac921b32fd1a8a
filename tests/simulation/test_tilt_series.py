from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage

from deepfinder_dask.simulation.config import TiltImaging
from deepfinder_dask.simulation.imaging import image_scene, reconstruct
from deepfinder_dask.simulation.phantoms import RING, ROD
from deepfinder_dask.simulation.reconstruction import CUTOFF, ramp
from deepfinder_dask.simulation.scene import build_scene
from deepfinder_dask.simulation.tilt_series import ctf, project, projection_matrix, tilt_angles, transfer, wavelength

VOXEL = 20.0


@pytest.fixture(scope="module")
def density():
    species = [("ring", 1, RING, 7), ("rod", 2, ROD, 7)]
    return build_scene(species, (37, 70, 64), VOXEL, 40.0, np.random.default_rng(5)).density


def test_the_untilted_projection_is_the_sum_over_z(density):
    assert np.allclose(project(density, np.zeros(1))[0], density.sum(axis=0), atol=1e-4)


@pytest.mark.parametrize("tilt", [-60.0, -33.0, 17.0, 45.0])
def test_a_point_falls_where_geometry_says(tilt):
    volume = np.zeros((21, 5, 41), dtype=np.float32)
    volume[16, 3, 25] = 1
    image = project(volume, np.array([tilt]))[0]
    z, x = 16 - 10, 25 - 20
    column = x * np.cos(np.deg2rad(tilt)) + z * np.sin(np.deg2rad(tilt)) + 20
    assert image.sum() == pytest.approx(1, abs=1e-5)
    assert ndimage.center_of_mass(image) == pytest.approx((3, column), abs=1e-4)


def test_projection_does_not_depend_on_slabs(density):
    """Slabs are a matter of memory: one matrix over the whole depth gives the same image."""
    whole = projection_matrix(0, 37, (37, 70, 64), 21.0) @ density.transpose(0, 2, 1).reshape(-1, 70)
    assert np.allclose(project(density, np.array([21.0]))[0], whole.T, atol=1e-3)


def test_tilts_hold_zero_and_stay_within_the_limit():
    assert tilt_angles(60, 3).tolist() == list(range(-60, 61, 3))
    assert tilt_angles(50, 3)[[0, 16, -1]].tolist() == [-48, 0, 48]


def test_the_wavelength_of_300_kv():
    assert wavelength(300) == pytest.approx(0.019687, rel=1e-3)


def test_the_ctf_starts_at_the_amplitude_contrast_and_first_vanishes_where_theory_says():
    values = ctf((8, 4096), 2.0, defocus=3.0, voltage=300.0, spherical=0.0, amplitude=0.07)
    assert values[0, 0] == pytest.approx(0.07, abs=1e-6)
    first = fft.rfftfreq(4096, 2.0)[np.argmax(values[0] < 0)]
    phase = np.pi - np.arcsin(0.07)
    assert first == pytest.approx(np.sqrt(phase / (np.pi * wavelength(300) * 3e4)), rel=0.01)


def test_shifts_move_images(density):
    images = project(density, np.zeros(1))
    flat = np.ones((70, 33), dtype=np.float32)
    moved = transfer(images, flat, np.array([[3.0, -5.0]]))
    assert np.allclose(moved[0], np.roll(images[0], (3, -5), axis=(0, 1)), atol=1e-3)


@pytest.mark.parametrize("snr", [0.02, 0.1])
def test_the_snr_is_the_one_stated(density, snr):
    series = image_scene(density, VOXEL, TiltImaging(snr=snr, alignment_error=0), np.random.SeedSequence(1))
    straight = -transfer(density.sum(axis=0)[None], ctf((70, 64), VOXEL, 3.0, 300.0, 2.7, 0.07))[0]
    noise = series.images - series.clean
    assert straight.var() / noise.var() == pytest.approx(snr, rel=0.02)
    assert abs(noise.mean()) < 0.01 * noise.std()
    levels = noise.std(axis=(1, 2))
    assert levels.max() / levels.min() < 1.1
    white = np.abs(fft.rfft2(noise)) ** 2
    assert white[:, :8].mean() == pytest.approx(white[:, -8:].mean(), rel=0.05)


def test_particles_are_dark(density):
    quiet = TiltImaging(snr=1e6, alignment_error=0)
    series = image_scene(density, VOXEL, quiet, np.random.SeedSequence(1))
    tomogram = reconstruct(series.images, series.tilts, 37)
    inside, outside = tomogram[density > 0.9].mean(), tomogram[density < 0.1].mean()
    assert inside < outside - 2 * tomogram[density < 0.1].std()
    assert np.corrcoef(tomogram.ravel(), density.ravel())[0, 1] < -0.6


def test_the_missing_wedge_is_missing(density):
    """Fourier energy beyond the greatest tilt, where no image has any, is a small part of what it is within."""
    series = image_scene(density, VOXEL, TiltImaging(snr=0.1), np.random.SeedSequence(1))
    cube = reconstruct(series.images, series.tilts, 64) * np.hanning(64)[:, None, None] * np.hanning(64)[None, None, :]
    power = (np.abs(fft.fftn(cube)) ** 2).sum(axis=1)
    kz, kx = np.meshgrid(fft.fftfreq(64), fft.fftfreq(64), indexing="ij")
    radius, angle = np.hypot(kz, kx), np.rad2deg(np.arctan2(np.abs(kz), np.abs(kx)))
    ring = (radius > 0.1) & (radius < CUTOFF)
    inside, outside = power[ring & (angle > 68)].mean(), power[ring & (angle < 55)].mean()
    assert inside < 0.03 * outside


def test_the_ramp_rises_and_ends():
    k = fft.rfftfreq(512)
    assert ramp(k[k <= CUTOFF]) == pytest.approx(k[k <= CUTOFF])
    assert ramp(np.array([0.5]))[0] < 0.01


def test_same_seed_same_images(density):
    def bytes_of(seed):
        return image_scene(density, VOXEL, TiltImaging(), np.random.SeedSequence(seed)).images.tobytes()

    assert bytes_of(1) == bytes_of(1)
    assert bytes_of(1) != bytes_of(2)
