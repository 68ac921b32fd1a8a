from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.simulation import PHANTOMS, Membranes, Species, place_scene, render
from deepfinder_dask.simulation.occupancy import Occupancy
from deepfinder_dask.simulation.phantoms import ROD
from deepfinder_dask.simulation.scene import angles_of, cube_around, object_points, random_rotation, to_tomogram

VOXEL = 20.0


def build(config):
    """The scene of a configuration of one tomogram, and all its voxels."""
    scene = place_scene(config, config.tomograms[0])
    return scene, render(scene, Box.whole(scene.shape))


def least_gap(instances, count, voxel_size):
    """Least distance in Å between voxels of two particles; a voxel less than between their surfaces at most."""
    nearest = np.inf
    for number in range(1, count + 1):
        others = (instances > 0) & (instances <= count) & (instances != number)
        if others.any():
            distance = ndimage.distance_transform_edt(~others)[instances == number]
            nearest = min(nearest, distance.min(initial=np.inf) * voxel_size)
    return nearest


@pytest.fixture(scope="module")
def built(scene_of):
    return build(scene_of({"ring": 6, "rod": 5, "shell": 4}))


def test_truth_is_consistent(built):
    scene, truth = built
    assert [sum(p.label == label for p in scene.particles) for label in (1, 2, 3)] == [6, 5, 4]
    assert ((truth.labels > 0) == (truth.instances > 0)).all()
    assert ((truth.labels > 0) == (truth.density >= 0.5)).mean() > 0.9999
    for number, particle in enumerate(scene.particles, start=1):
        voxels = np.argwhere(truth.instances == number)
        assert set(truth.labels[truth.instances == number]) == {particle.label}
        assert voxels.mean(axis=0) == pytest.approx(particle.position, abs=0.25)
        volume = scene.body(particle.name).volume / VOXEL**3
        assert len(voxels) == pytest.approx(volume, rel=0.08)


def test_particles_keep_their_gap(built):
    scene, truth = built
    assert least_gap(truth.instances, len(scene.particles), VOXEL) > 40.0 - VOXEL


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(20, 32), st.integers(24, 48), st.integers(24, 48)),
    crowding=st.floats(0.02, 0.3),
    gap=st.sampled_from([0.0, 20.0, 50.0]),
    names=st.lists(st.sampled_from(sorted(PHANTOMS)), min_size=1, max_size=3, unique=True),
)
def test_nothing_overlaps_however_crowded(scene_of, seed, shape, crowding, gap, names):
    scene, truth = build(scene_of(dict.fromkeys(names, 1), shape, seed=seed, gap=gap, crowding=crowding))
    assert least_gap(truth.instances, len(scene.particles), VOXEL) > gap - VOXEL
    # Had one been hidden by another, it would have lost voxels, and so it would had it been cut by the border.
    sizes = np.bincount(truth.instances.ravel(), minlength=len(scene.particles) + 1)[1:]
    for particle, size in zip(scene.particles, sizes, strict=True):
        assert size == pytest.approx(scene.body(particle.name).volume / VOXEL**3, rel=0.25)


def test_the_check_for_overlaps_finds_them(scene_of, monkeypatch):
    """Planted fault: voxels that are taken are called free."""
    monkeypatch.setattr(Occupancy, "taken", lambda self, voxels: np.zeros(voxels.shape[:-1], bool))
    scene, truth = build(scene_of({"ring": 20}, (24, 32, 32)))
    assert least_gap(truth.instances, len(scene.particles), VOXEL) <= 20.0


@settings(max_examples=10)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 30)), st.integers(0, 1000))
def test_taken_voxels_are_those_that_were_taken(shape, seed):
    rng = np.random.default_rng(seed)
    mask = rng.uniform(size=shape) < 0.3
    occupancy = Occupancy(shape)
    occupancy.take(np.argwhere(mask))
    before = occupancy.copy()
    everywhere = np.argwhere(np.ones(shape, bool))
    assert (occupancy.taken(everywhere).reshape(shape) == mask).all()
    assert occupancy.count() == mask.sum()
    occupancy.take(everywhere)
    assert before.count() == mask.sum()


def test_a_particle_lands_where_its_angles_say(scene_of):
    """The knob of the hook, moved by the rotation of the table, is dense; the place opposite is not."""
    scene, truth = build(scene_of({"hook": 5}, (48, 80, 80), 10.0, gap=20.0, seed=11))
    knob = np.array([35 + 0.8 * 40, 0.0, 65.0])
    for particle in scene.particles:
        turn = Rotation.from_euler("ZYZ", particle.angles, degrees=True).inv()
        for point, dense in ((knob, True), (knob * [-1, 1, 1], False), (knob * [1, 1, -1], False)):
            where = np.array(particle.position) + turn.apply(point)[::-1] / 10.0
            value = ndimage.map_coordinates(truth.density, where[:, None], order=1)[0]
            assert (value > 0.9) if dense else (value < 0.1)


def test_orientations_are_uniform():
    rng = np.random.default_rng(2)
    axes = np.array([random_rotation(rng).apply([0.0, 0.0, 1.0]) for _ in range(4000)])
    assert np.abs(axes.mean(axis=0)).max() < 0.04
    assert np.allclose((axes**2).mean(axis=0), 1 / 3, atol=0.02)


@given(st.integers(0, 2**32))
def test_angles_and_matrices_are_one_rotation(seed):
    rotation = random_rotation(np.random.default_rng(seed))
    assert np.allclose(to_tomogram(angles_of(rotation)), rotation.as_matrix(), atol=1e-9)


def test_the_phantom_is_sampled_at_its_subvoxel_centre():
    position = (10.3, 19.55, 30.1)
    box = cube_around(position, (ROD.extent + 20) / 5.0)
    distance = ROD.distance(object_points(box, position, np.eye(3), 5.0))
    assert np.array(ndimage.center_of_mass(distance < 0)) + box.start == pytest.approx(position, abs=0.02)
    spread = np.ptp(np.argwhere(distance < 0), axis=0)
    assert spread[0] > 1.8 * spread[2], "along z, the first axis"


@settings(max_examples=8)
@given(st.lists(st.integers(0, 39), min_size=2, max_size=2, unique=True), st.integers(0, 60), st.integers(1, 30))
def test_any_box_has_the_voxels_of_the_whole(everything, z, y, width):
    scene, whole = everything
    box = Box((min(z), y, 10), (max(z), y + width, 10 + width)).clip(scene.shape)
    part = render(scene, box)
    for mine, all_of_it in zip(vars(part).values(), vars(whole).values(), strict=True):
        assert mine.tobytes() == all_of_it[box.slices()].tobytes()


@pytest.fixture(scope="module")
def everything(scene_of, blobs):
    """A scene with a map, a phantom, gold, a vesicle and a tube, and an empty region."""
    species = (Species("ring", 1), Species("blobs", 2, map=str(blobs)), Species("stuck", 3, phantom="rod", bound=True))
    membranes = (Membranes("sphere", radius=(250.0, 300.0)), Membranes("tube", radius=(100.0, 120.0)))
    counts = {"ring": 4, "blobs": 6, "stuck": 3}
    return build(
        scene_of(counts, (40, 90, 84), species=species, membranes=membranes, gold=5, empty=0.2, gap=20.0, seed=9)
    )


def test_a_scene_travels_to_workers(everything):
    scene, whole = everything
    z, y, x = (round(p) for p in scene.beads[0])
    box = Box((z - 9, y - 9, x - 9), (z + 10, y + 20, x + 20)).clip(scene.shape)
    again = render(pickle.loads(pickle.dumps(scene)), box)  # noqa: S301  # what was pickled a moment ago
    assert again.density.tobytes() == whole.density[box.slices()].tobytes()
    assert (again.labels == 202).any()


def test_instances_are_numbered_by_kind(everything):
    scene, whole = everything
    first_bead = len(scene.particles) + 1
    first_membrane = first_bead + len(scene.beads)
    assert set(whole.labels[whole.instances >= first_membrane]) == {201}
    beads = (whole.instances >= first_bead) & (whole.instances < first_membrane)
    assert set(whole.labels[beads]) == {202}
    assert len(np.unique(whole.instances[beads])) == 5
    assert whole.instances.max() == first_membrane + len(scene.membranes) - 1


def test_gold_is_densest_and_free_particles_keep_off_everything(everything):
    scene, whole = everything
    assert whole.density[whole.labels == 202].mean() > 3 * whole.density[whole.labels == 1].mean()
    free = [n for n, p in enumerate(scene.particles, start=1) if p.name != "stuck"]
    structure = ndimage.distance_transform_edt(whole.labels < 200)
    assert structure[np.isin(whole.instances, free)].min() * VOXEL > 20.0 - VOXEL


def test_free_particles_leave_the_empty_region(everything):
    scene, _ = everything
    y, x = (np.arange(n) * VOXEL for n in scene.shape[1:])
    assert scene.ice.empty(y[:, None], x[None, :]).mean() == pytest.approx(0.2, abs=0.03)
    for particle in scene.particles:
        if particle.name != "stuck":
            _, y, x = (np.array(p * VOXEL) for p in particle.position)
            assert not scene.ice.empty(y, x)


def test_same_seed_same_scene(scene_of):
    one, two, other = (build(scene_of({"rod": 3}, (40, 48, 48), seed=seed)) for seed in (1, 1, 2))
    assert one[1].density.tobytes() == two[1].density.tobytes()
    assert one[0].particles == two[0].particles
    assert one[1].density.tobytes() != other[1].density.tobytes()


@pytest.mark.parametrize(("shape", "count"), [((40, 40, 40), 60), ((16, 16, 16), 2)])
def test_a_full_scene_is_refused_with_what_did_not_fit(scene_of, shape, count):
    message = rf"no room for \d+ of {count} ring; use lower counts, a smaller gap or a larger shape"
    with pytest.raises(SettingsError, match=message):
        build(scene_of({"ring": count, "ball": 1}, shape))


def test_crowding_fills_the_volume_and_names_what_is_left_out(scene_of):
    scene, truth = build(scene_of({"ball": 3, "ring": 1}, (40, 60, 60), crowding=0.1, gap=0.0))
    assert (truth.labels > 0).mean() == pytest.approx(0.1, rel=0.1)
    assert scene.counts()["ball"] == pytest.approx(3 * scene.counts()["ring"], abs=3)
    full, _ = build(scene_of({"ball": 1, "ring": 1}, (24, 30, 30), crowding=0.6, gap=20.0))
    assert full.counts()["ring"] < full.asked["ring"]


def test_what_fits_only_with_the_largest_first_is_placed(scene_of):
    """In random order the balls take the room of the shells."""
    config = scene_of({"shell": 4, "ball": 8}, (17, 44, 44), gap=10.0, seed=3)
    scene, _ = build(config)
    assert scene.counts() == {"shell": 4, "ball": 8}
    assert scene.particles[0].name == "shell"


def test_particles_smaller_than_a_voxel_are_refused(scene_of):
    with pytest.raises(SettingsError, match="ring falls between the voxels of 2000 Å: use a smaller voxel_size"):
        build(scene_of({"ring": 1}, (40, 40, 40), 2000.0))


def test_an_empty_scene_is_fine(scene_of):
    scene, truth = build(scene_of({"ring": 0}, (16, 16, 16)))
    assert not truth.density.any()
    assert scene.particles == ()
