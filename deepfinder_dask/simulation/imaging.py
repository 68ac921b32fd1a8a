"""From a scene to a tomogram: project, modulate, add noise, filter, back-project."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.simulation.config import SimulationConfig, TiltImaging, TomogramConfig
from deepfinder_dask.simulation.reconstruction import back_project, ramp_filter
from deepfinder_dask.simulation.scene import Scene, build_scene
from deepfinder_dask.simulation.tilt_series import ctf, noise_level, project, tilt_angles, transfer


@dataclass(frozen=True)
class TiltSeries:
    """Images of a scene."""

    images: NDArray[np.float32]
    """(n, y, x) float32; particles are dark."""
    clean: NDArray[np.float32]
    """The same without noise."""
    tilts: NDArray[np.float64]
    """(n,) degrees, about y."""
    noise: float
    """Standard deviation of the noise."""


def image_scene(
    density: NDArray[np.float32], voxel_size: float, imaging: TiltImaging, seeds: np.random.SeedSequence
) -> TiltSeries:
    """Take a tilt series of a density volume.

    Parameters
    ----------
    density : (z, y, x) float32
    voxel_size : float
        Å.
    imaging : TiltImaging
    seeds : numpy.random.SeedSequence
        One child draws the alignment errors, one the noise of each image: images do not depend on each other.

    Returns
    -------
    TiltSeries
    """
    tilts = tilt_angles(imaging.tilt_limit, imaging.tilt_step)
    align, *grains = seeds.spawn(1 + len(tilts))
    shifts = np.random.default_rng(align).normal(0.0, imaging.alignment_error / voxel_size, size=(len(tilts), 2))
    projections = project(density, tilts)
    contrast = ctf(
        (density.shape[1], density.shape[2]),
        voxel_size,
        imaging.defocus,
        imaging.voltage,
        imaging.spherical_aberration,
        imaging.amplitude_contrast,
    )
    clean = -transfer(projections, contrast, shifts)
    noise = noise_level(clean[len(tilts) // 2], imaging.snr)
    images = np.empty_like(clean)
    for number, grain in enumerate(grains):
        white = np.random.default_rng(grain).standard_normal(clean.shape[1:], dtype=np.float32)
        images[number] = clean[number] + np.float32(noise) * white
    return TiltSeries(images, clean, tilts, noise)


def reconstruct(images: NDArray[np.float32], tilts: NDArray[np.float64], depth: int) -> NDArray[np.float32]:
    """Tomogram (depth, y, x) float32 by weighted back-projection of images (n, y, x) taken at ``tilts`` (degrees)."""
    return back_project(ramp_filter(images), tilts, depth)


def simulate_tomogram(config: SimulationConfig, tomogram: TomogramConfig) -> tuple[Scene, NDArray[np.float32]]:
    """One tomogram of a configuration, in memory.

    Returns
    -------
    scene : Scene
        Density, labels, instances and particles.
    values : (z, y, x) float32
        The tomogram; particles are dark, the tilt axis is y, the beam z.

    Raises
    ------
    SettingsError
        If the particles do not fit.
    """
    places, imaging = np.random.SeedSequence(tomogram.seed).spawn(2)
    species = [(s.name, s.label, s.body, tomogram.counts.get(s.name, 0)) for s in config.species]
    scene = build_scene(species, tomogram.shape, config.voxel_size, tomogram.gap, np.random.default_rng(places))
    series = image_scene(scene.density, config.voxel_size, tomogram.imaging, imaging)
    return scene, reconstruct(series.images, series.tilts, tomogram.shape[0])
