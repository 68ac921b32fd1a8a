from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.simulation.phantoms import HOOK, RING, ROD, SHELL, capsule, hook
from deepfinder_dask.simulation.scene import build_scene, random_rotation, sampled_distance

VOXEL = 20.0


@pytest.fixture(scope="module")
def scene():
    species = [("ring", 1, RING, 6), ("rod", 2, ROD, 5), ("shell", 3, SHELL, 4)]
    return build_scene(species, (40, 72, 64), VOXEL, gap=40.0, rng=np.random.default_rng(5))


def test_truth_is_consistent(scene):
    assert [sum(p.label == label for p in scene.particles) for label in (1, 2, 3)] == [6, 5, 4]
    assert ((scene.labels > 0) == (scene.instances > 0)).all()
    assert ((scene.labels > 0) == (scene.density >= 0.5)).mean() > 0.9999
    for number, particle in enumerate(scene.particles, start=1):
        voxels = np.argwhere(scene.instances == number)
        assert set(scene.labels[scene.instances == number]) == {particle.label}
        assert voxels.mean(axis=0) == pytest.approx(particle.position, abs=0.25)
        volume = {1: RING, 2: ROD, 3: SHELL}[particle.label].volume / VOXEL**3
        assert len(voxels) == pytest.approx(volume, rel=0.08)


def test_particles_keep_their_gap(scene):
    for number in range(1, len(scene.particles) + 1):
        others = (scene.instances > 0) & (scene.instances != number)
        nearest = ndimage.distance_transform_edt(~others)[scene.instances == number].min() * VOXEL
        assert nearest > 40.0 - VOXEL


def test_a_particle_lands_where_its_angles_say():
    """The knob of the hook, moved by the rotation of the table, is dense; the place opposite is not."""
    rng = np.random.default_rng(11)
    one = build_scene([("hook", 1, HOOK, 5)], (48, 80, 80), 10.0, gap=20.0, rng=rng)
    knob = np.array([35 + 0.8 * 40, 0.0, 65.0])
    for particle in one.particles:
        turn = Rotation.from_euler("ZYZ", particle.angles, degrees=True).inv()
        for point, dense in ((knob, True), (knob * [-1, 1, 1], False), (knob * [1, 1, -1], False)):
            where = np.array(particle.position) + turn.apply(point)[::-1] / 10.0
            value = ndimage.map_coordinates(one.density, where[:, None], order=1)[0]
            assert (value > 0.9) if dense else (value < 0.1)


def test_orientations_are_uniform():
    rng = np.random.default_rng(2)
    axes = np.array([random_rotation(rng).apply([0.0, 0.0, 1.0]) for _ in range(4000)])
    assert np.abs(axes.mean(axis=0)).max() < 0.04
    assert np.allclose((axes**2).mean(axis=0), 1 / 3, atol=0.02)


def test_the_phantom_is_sampled_at_its_subvoxel_centre():
    fraction = np.array([0.3, -0.45, 0.1])
    distance = sampled_distance(ROD, Rotation.identity(), fraction, 5.0, margin=20.0)
    middle = distance.shape[0] // 2
    assert ndimage.center_of_mass(distance < 0) == pytest.approx(middle + fraction, abs=0.02)
    spread = np.ptp(np.argwhere(distance < 0), axis=0)
    assert spread[0] > 1.8 * spread[2], "along z, the first axis"


def test_same_seed_same_scene():
    def build(seed):
        return build_scene([("rod", 1, ROD, 3)], (40, 48, 48), VOXEL, 20.0, np.random.default_rng(seed))

    assert build(1).density.tobytes() == build(1).density.tobytes()
    assert build(1).density.tobytes() != build(2).density.tobytes()


@pytest.mark.parametrize(("shape", "count"), [((40, 40, 40), 60), ((8, 8, 8), 1)])
def test_a_full_scene_is_refused_with_the_fix(shape, count):
    with pytest.raises(SettingsError, match=r"cannot place .* use lower counts, a smaller gap or a larger shape"):
        build_scene([("ring", 1, RING, count)], shape, VOXEL, 40.0, np.random.default_rng(0))


def test_particles_smaller_than_a_voxel_are_refused():
    with pytest.raises(SettingsError, match="ring falls between the voxels of 2000 Å: use a smaller voxel_size"):
        build_scene([("ring", 1, RING, 1)], (40, 40, 40), 2000.0, 0.0, np.random.default_rng(0))


def test_an_empty_scene_is_fine():
    empty = build_scene([("ring", 1, RING, 0)], (16, 16, 16), VOXEL, 0.0, np.random.default_rng(0))
    assert not empty.density.any()
    assert empty.particles == ()


def test_other_sizes_of_phantoms_work():
    assert hook("small", 10.0, 60.0, 12.0).volume > capsule("stem", 10.0, 2e4).volume * 0.5
