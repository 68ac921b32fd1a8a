from __future__ import annotations

import numpy as np
import pytest
from scipy import fft, ndimage

from deepfinder_dask.blocks import Box
from deepfinder_dask.simulation import Species, TiltImaging, place_scene, render
from deepfinder_dask.simulation.imaging import Camera
from deepfinder_dask.simulation.reconstruction import CUTOFF, back_project, ramp, ramp_filter
from deepfinder_dask.simulation.tilt_series import ctf, project, projection_matrix, tilt_angles, transfer, wavelength

VOXEL = 20.0


@pytest.fixture(scope="module")
def density(scene_of):
    config = scene_of({"ring": 7, "rod": 7}, (37, 70, 64))
    return render(place_scene(config, config.tomograms[0]), Box.whole((37, 70, 64))).density


def take_series(density, imaging, seed=1, voxel_size=VOXEL, ice=None):
    """Camera, images and what they are without noise, (n, y, x) each, of a density volume."""
    camera = Camera(imaging, voxel_size, np.random.SeedSequence(seed), ice)
    projections = project(density, camera.true_tilts)
    level = camera.noise_level(projections[camera.untilted])
    images = np.stack([camera.take(image, number, level)[0] for number, image in enumerate(projections)])
    clean = np.stack([camera.clean(image, number) for number, image in enumerate(projections)])
    return camera, images, clean


def rebuild(camera, images, depth):
    return camera.reconstruct(images, [float(i.mean(dtype=np.float64)) for i in images], depth)


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
    image = project(density, np.zeros(1))[0]
    flat = np.ones((70, 33), dtype=np.float32)
    moved = transfer(image, flat, (3.0, -5.0))
    assert np.allclose(moved, np.roll(image, (3, -5), axis=(0, 1)), atol=1e-3)


@pytest.mark.parametrize("snr", [0.02, 0.1])
def test_the_snr_is_the_one_stated(density, snr):
    _, images, clean = take_series(density, TiltImaging(snr=snr, alignment_error=0))
    straight = -transfer(density.sum(axis=0), ctf((70, 64), VOXEL, 3.0, 300.0, 2.7, 0.07))
    noise = images - clean
    assert straight.var() / noise.var() == pytest.approx(snr, rel=0.02)
    assert abs(noise.mean()) < 0.01 * noise.std()
    levels = noise.std(axis=(1, 2))
    assert levels.max() / levels.min() < 1.1
    white = np.abs(fft.rfft2(noise)) ** 2
    assert white[:, :8].mean() == pytest.approx(white[:, -8:].mean(), rel=0.05)


def test_particles_are_dark(density):
    camera, images, _ = take_series(density, TiltImaging(snr=1e6, alignment_error=0))
    tomogram = rebuild(camera, images, 37)
    inside, outside = tomogram[density > 0.9].mean(), tomogram[density < 0.1].mean()
    assert inside < outside - 2 * tomogram[density < 0.1].std()
    assert np.corrcoef(tomogram.ravel(), density.ravel())[0, 1] < -0.6


@pytest.mark.parametrize("mirror", [0, 1, 2])
def test_the_reconstruction_is_no_mirror_image(scene_of, blobs, mirror):
    """A chiral object comes back as it is, not flipped along any axis: each sign of the tilt geometry matters."""
    config = scene_of({"blobs": 1}, (32, 40, 40), 10.0, species=(Species("blobs", 1, map=str(blobs)),), gap=0.0)
    scene = place_scene(config, config.tomograms[0])
    truth = render(scene, Box.whole(scene.shape)).density
    camera, images, _ = take_series(truth, TiltImaging(snr=1e6, alignment_error=0, defocus=1.0), voxel_size=10.0)
    tomogram = -rebuild(camera, images, 32)
    # Both about the particle's own centre, so that only the shape can tell.
    z, y, x = (round(p) for p in scene.particles[0].position)
    around = np.s_[z - 9 : z + 10, y - 9 : y + 10, x - 9 : x + 10]
    right, wrong = (
        np.corrcoef(tomogram[around].ravel(), other.ravel())[0, 1]
        for other in (truth[around], np.flip(truth[around], axis=mirror))
    )
    assert right > 0.8
    assert wrong < right - 0.1
    # Planted fault: tilts put back with the other sign.
    turned = -back_project(ramp_filter(images, images.mean(axis=(1, 2))), -camera.tilts, 32)
    assert np.corrcoef(turned[around].ravel(), truth[around].ravel())[0, 1] < right - 0.1


def wedge_energy(tomogram):
    """Fourier energy per voxel beyond 68° over that below 55°, where |k| is between 0.1 and the cutoff."""
    n = tomogram.shape[0]
    window = np.hanning(n)
    power = (np.abs(fft.fftn(tomogram * window[:, None, None] * window[None, None, :])) ** 2).sum(axis=1)
    kz, kx = np.meshgrid(fft.fftfreq(n), fft.fftfreq(n), indexing="ij")
    radius, angle = np.hypot(kz, kx), np.rad2deg(np.arctan2(np.abs(kz), np.abs(kx)))
    ring = (radius > 0.1) & (radius < CUTOFF)
    return power[ring & (angle > 68)].mean() / power[ring & (angle < 55)].mean()


def test_the_missing_wedge_is_missing(density):
    """Fourier energy beyond the greatest tilt, where no image has any, is a small part of what it is within."""
    camera, images, _ = take_series(density, TiltImaging(snr=0.1))
    assert wedge_energy(rebuild(camera, images, 64)) < 0.03


def test_the_check_of_the_wedge_sees_tilts_that_should_not_be_there(density):
    """Planted fault: images taken at 60° are put back at 85°."""
    camera, images, _ = take_series(density, TiltImaging(snr=0.1))
    wrong = camera.tilts * 85 / 60
    assert wedge_energy(back_project(ramp_filter(images, images.mean(axis=(1, 2))), wrong, 64)) > 0.3


def test_rows_are_filtered_and_put_back_on_their_own(density):
    camera, images, _ = take_series(density, TiltImaging(tilt_step=10.0))
    means = [float(i.mean(dtype=np.float64)) for i in images]
    whole = camera.reconstruct(images, means, 37)
    some = camera.reconstruct(np.ascontiguousarray(images[:, 21:40]), means, 37)
    assert some.tobytes() == np.ascontiguousarray(whole[:, 21:40]).tobytes()
    rows = project(np.ascontiguousarray(density[:, 5:9]), camera.tilts)
    assert rows.tobytes() == np.ascontiguousarray(project(density, camera.tilts)[:, 5:9]).tobytes()


def test_tilt_errors_move_the_truth_not_the_reconstruction(density):
    camera = Camera(TiltImaging(tilt_error=0.5), VOXEL, np.random.SeedSequence(1))
    assert (camera.tilts == tilt_angles(60, 3)).all()
    assert 0.3 < (camera.true_tilts - camera.tilts).std() < 0.7
    straight = Camera(TiltImaging(), VOXEL, np.random.SeedSequence(1))
    assert (straight.true_tilts == straight.tilts).all()
    assert (straight.shifts == camera.shifts).all()


def test_the_ramp_rises_and_ends():
    k = fft.rfftfreq(512)
    assert ramp(k[k <= CUTOFF]) == pytest.approx(k[k <= CUTOFF])
    assert ramp(np.array([0.5]))[0] < 0.01


def test_same_seed_same_images(density):
    def bytes_of(seed):
        return take_series(density, TiltImaging(tilt_step=20.0), seed)[1].tobytes()

    assert bytes_of(1) == bytes_of(1)
    assert bytes_of(1) != bytes_of(2)
