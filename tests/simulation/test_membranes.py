from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.simulation import Membranes, Species, place_scene, render
from deepfinder_dask.simulation.bodies import bottom_of
from deepfinder_dask.simulation.membranes import Membrane, random_membrane
from deepfinder_dask.simulation.scene import to_tomogram

VOXEL = 20.0
EXTENT = np.array([1600.0, 1500.0, 700.0])
SHAPES = ("sphere", "sheet", "tube")


def membranes(shapes=SHAPES):
    seeds = st.integers(0, 2**32)
    return st.builds(
        lambda shape, seed: random_membrane(
            Membranes(shape, radius=(150.0, 400.0)), EXTENT, np.random.default_rng(seed)
        ),
        st.sampled_from(shapes),
        seeds,
    )


@given(membranes(), st.floats(-100, 100), st.integers(0, 1000))
def test_normals_lead_away_at_the_rate_of_the_distance(membrane, height, seed):
    points, normals = membrane.draw(np.random.default_rng(seed), 50, 2000.0)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1)
    assert membrane.distance(points) == pytest.approx(0, abs=1e-6)
    assert membrane.distance(points + height * normals) == pytest.approx(height, abs=1e-6)


@given(membranes(), st.integers(0, 1000))
def test_distances_are_distances(membrane, seed):
    """No two points differ by more than they are apart: what the tests for room rely on."""
    one, two = np.random.default_rng(seed).uniform(0, 1600, size=(2, 200, 3))
    apart = np.linalg.norm(one - two, axis=1)
    assert (np.abs(membrane.distance(one) - membrane.distance(two)) <= apart + 1e-6).all()


def test_places_are_spread_evenly_over_a_sphere():
    ball = Membrane("sphere", (0.0, 0.0, 0.0), (0.0, 0.0, 1.0), 100.0, 50.0)
    _, normals = ball.draw(np.random.default_rng(0), 20000, 1.0)
    assert np.abs(normals.mean(axis=0)).max() < 0.02
    assert (normals**2).mean(axis=0) == pytest.approx(1 / 3, abs=0.01)


def test_a_bilayer_has_two_faces():
    sheet = Membrane("sheet", (0.0, 0.0, 0.0), (0.0, 0.0, 1.0), 0.0, 50.0)
    profile = sheet.density(np.linspace(-50, 50, 201))
    peaks = np.flatnonzero((profile[1:-1] > profile[:-2]) & (profile[1:-1] > profile[2:])) + 1
    assert np.linspace(-50, 50, 201)[peaks] == pytest.approx([-18, 18], abs=0.5)
    assert profile[100] < 0.1 * profile.max()


@pytest.fixture(scope="module", params=SHAPES)
def bound(request, scene_of):
    """Bound and free states of one body beside membranes of one shape."""
    species = (Species("bound", 1, phantom="hook", bound=True), Species("free", 2, phantom="hook"))
    kinds = (Membranes(request.param, 2 if request.param == "sphere" else 1, radius=(250.0, 300.0)),)
    config = scene_of({"bound": 6, "free": 6}, (40, 84, 84), species=species, membranes=kinds, gap=20.0, seed=2)
    scene = place_scene(config, config.tomograms[0])
    return scene, render(scene, Box.whole(scene.shape))


def test_bound_particles_stand_on_their_membrane(bound):
    scene, truth = bound
    height = 25.0 + bottom_of(scene.body("bound"))
    for number, particle in enumerate(scene.particles, start=1):
        if particle.name != "bound":
            continue
        centre = np.array(particle.position)[::-1] * VOXEL
        membrane = min(scene.membranes, key=lambda m: abs(float(m.distance(centre)) - height))
        assert float(membrane.distance(centre)) == pytest.approx(height, abs=1e-6)
        up = to_tomogram(particle.angles) @ [0.0, 0.0, 1.0]
        step = np.array([float(membrane.distance(centre + d)) for d in np.eye(3) * 0.01])
        normal = (step - height) / 0.01
        assert up @ normal == pytest.approx(1, abs=1e-3)
        # It touches the membrane and does not enter it.
        voxels = np.argwhere(truth.instances == number)[:, ::-1] * VOXEL
        assert 25 - VOXEL < membrane.distance(voxels).min() < 25 + 2 * VOXEL


def test_free_particles_are_the_same_elsewhere(bound):
    scene, truth = bound
    assert scene.counts() == {"bound": 6, "free": 6}
    for number, particle in enumerate(scene.particles, start=1):
        voxels = np.argwhere(truth.instances == number)[:, ::-1] * VOXEL
        nearest = min(np.abs(m.distance(voxels)).min() for m in scene.membranes)
        assert (nearest >= 25 + 20) == (particle.name == "free")
    free, stuck = (
        [truth.density[truth.instances == n].sum() for n, p in enumerate(scene.particles, 1) if p.name == name]
        for name in ("free", "bound")
    )
    assert np.mean(free) == pytest.approx(np.mean(stuck), rel=0.05)


def test_an_embedded_particle_takes_the_place_of_the_membrane(scene_of):
    species = (Species("through", 1, phantom="rod", bound=True, height=0.0),)
    config = scene_of({"through": 3}, species=species, membranes=(Membranes("sheet"),), gap=20.0, seed=8)
    scene = place_scene(config, config.tomograms[0])
    truth = render(scene, Box.whole(scene.shape))
    inside = truth.labels == 1
    assert inside.sum() == pytest.approx(3 * scene.body("through").volume / VOXEL**3, rel=0.08)
    assert truth.density[inside].max() < 1.4
    assert (truth.labels == 201).any()


def test_membranes_without_room_are_named(scene_of):
    config = scene_of({"ring": 1}, membranes=(Membranes("sphere", 40),))
    with pytest.raises(SettingsError, match=r"cannot place 40 sphere membranes .* no room for number \d+"):
        place_scene(config, config.tomograms[0])


def test_bound_particles_without_room_are_named(scene_of):
    species = (Species("stuck", 1, phantom="ring", bound=True),)
    config = scene_of({"stuck": 500}, species=species, membranes=(Membranes("sphere", radius=(200.0, 210.0)),))
    with pytest.raises(SettingsError, match=r"no room for \d+ of 500 stuck; use lower counts"):
        place_scene(config, config.tomograms[0])
