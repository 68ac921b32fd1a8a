"""From a scene to a tomogram: project, modulate, add noise, filter, back-project."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box
from deepfinder_dask.simulation.exposure import damage, dose_before, noise_pattern
from deepfinder_dask.simulation.ice import IceField
from deepfinder_dask.simulation.placing import place_scene
from deepfinder_dask.simulation.recipe import SimulationConfig, TiltImaging, TomogramConfig
from deepfinder_dask.simulation.reconstruction import back_project, ramp_filter
from deepfinder_dask.simulation.rendering import Rendered, render
from deepfinder_dask.simulation.scene import Scene
from deepfinder_dask.simulation.tilt_series import ctf, noise_level, project, tilt_angles, transfer


@dataclass(frozen=True)
class Measured:
    """What an image turned out to be."""

    signal: float
    """Variance of the image without noise."""
    noise: float
    """Variance of its noise."""
    mean: float
    """Mean of the image with noise."""


@dataclass(frozen=True)
class Camera:
    """How each image of a tilt series is taken; what is random in it follows from the seed and the image's number."""

    imaging: TiltImaging
    """Settings."""
    voxel_size: float
    """Å."""
    seed: np.random.SeedSequence
    """One child draws the alignment errors, one the noise of each image, one the errors of the tilts."""
    ice: IceField | None = None
    """Thick regions of the scene."""
    device: str = "cpu"
    """Where torch computes."""

    @property
    def tilts(self) -> NDArray[np.float64]:
        """(n,) degrees about y, as the reconstruction takes them."""
        return tilt_angles(self.imaging.tilt_limit, self.imaging.tilt_step)

    @property
    def untilted(self) -> int:
        """Number of the 0° image."""
        return len(self.tilts) // 2

    def _generator(self, child: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed.entropy, spawn_key=(*self.seed.spawn_key, child)))

    @property
    def true_tilts(self) -> NDArray[np.float64]:
        """(n,) degrees about y, as the images are taken."""
        errors = self._generator(1 + len(self.tilts)).normal(0.0, 1.0, size=len(self.tilts))
        return np.asarray(self.tilts + self.imaging.tilt_error * errors)

    @property
    def shifts(self) -> NDArray[np.float64]:
        """(n, 2) voxels, y and x, by which images are off."""
        spread = self.imaging.alignment_error / self.voxel_size
        return self._generator(0).normal(0.0, spread, size=(len(self.tilts), 2))

    def clean(self, projection: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        """Image (y, x) without noise of a projection (y, x); particles are dark."""
        shape, how = (projection.shape[0], projection.shape[1]), self.imaging
        factor = ctf(shape, self.voxel_size, how.defocus, how.voltage, how.spherical_aberration, how.amplitude_contrast)
        if how.dose:
            factor = factor * damage(shape, self.voxel_size, float(dose_before(how, self.tilts)[number]))
        shift = self.shifts[number]
        return -transfer(projection, factor, (float(shift[0]), float(shift[1])), self.device)

    def noise_level(self, untilted: NDArray[np.float32]) -> float:
        """Standard deviation of the noise of the 0° image that gives the stated SNR, from its projection (y, x)."""
        return noise_level(self.clean(untilted, self.untilted), self.imaging.snr)

    def take(self, projection: NDArray[np.float32], number: int, level: float) -> tuple[NDArray[np.float32], Measured]:
        """Image (y, x) of a projection (y, x), with noise of this level in the 0° image."""
        clean = self.clean(projection, number)
        shape = (clean.shape[0], clean.shape[1])
        white = self._generator(1 + number).standard_normal(shape, dtype=np.float32)
        pattern = noise_pattern(self.imaging, self.tilts, number, shape, self.voxel_size, self.ice)
        image = clean + np.float32(level) * pattern * white
        signal, noise = (float(part.var(dtype=np.float64)) for part in (clean, image - clean))
        return image, Measured(signal, noise, float(image.mean(dtype=np.float64)))

    def reconstruct(self, images: NDArray[np.float32], means: list[float], depth: int) -> NDArray[np.float32]:
        """Tomogram (depth, y, x) of some rows of all images (n, y, x), whose means are known."""
        return back_project(ramp_filter(images, np.array(means), self.device), self.tilts, depth)


def camera_of(config: SimulationConfig, tomogram: TomogramConfig, scene: Scene, device: str = "cpu") -> Camera:
    """The camera of a tomogram."""
    _, seed, _ = np.random.SeedSequence(tomogram.seed).spawn(3)
    return Camera(tomogram.imaging, config.voxel_size, seed, scene.ice, device)


@dataclass(frozen=True)
class Simulated:
    """A tomogram in memory, with its truth."""

    scene: Scene
    """What is where."""
    truth: Rendered
    """Density, labels and instances, (z, y, x) each."""
    images: NDArray[np.float32]
    """(n, y, x) float32: the tilt series; particles are dark."""
    measured: tuple[Measured, ...]
    """Signal and noise of each image."""
    values: NDArray[np.float32]
    """(z, y, x) float32: the tomogram; particles are dark, the tilt axis is y, the beam z."""


def simulate_tomogram(config: SimulationConfig, tomogram: TomogramConfig) -> Simulated:
    """One tomogram of a configuration, whole in memory: the same bits as :func:`simulate` writes block by block.

    Raises
    ------
    SettingsError
        If the particles do not fit.
    """
    scene = place_scene(config, tomogram)
    camera = camera_of(config, tomogram, scene)
    truth = render(scene, Box.whole(tomogram.shape))
    projections = project(truth.density, camera.true_tilts)
    level = camera.noise_level(projections[camera.untilted])
    taken = [camera.take(image, number, level) for number, image in enumerate(projections)]
    images, measured = np.stack([image for image, _ in taken]), tuple(m for _, m in taken)
    values = camera.reconstruct(images, [m.mean for m in measured], tomogram.shape[0])
    return Simulated(scene, truth, images, measured, values)
