from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.simulation.phantoms import HOOK, PHANTOMS, RING, ROD, capsule, density_of, phantom_of
from deepfinder_dask.simulation.scene import cube_around, object_points, random_rotation


@pytest.mark.parametrize("name", sorted(PHANTOMS))
@pytest.mark.parametrize("voxel_size", [6.0, 10.0])
def test_the_density_holds_the_volume_that_is_stated(name, voxel_size):
    phantom = PHANTOMS[name]
    turn = random_rotation(np.random.default_rng(3))
    position = (0.2, -0.4, 0.1)
    box = cube_around(position, (phantom.extent + 30) / voxel_size)
    distance = phantom.distance(object_points(box, position, turn.as_matrix(), voxel_size))
    measured = density_of(distance).sum(dtype=np.float64) * voxel_size**3
    # Where two bodies meet at an angle, as in the hook, the softened edge fills the corner.
    assert measured == pytest.approx(phantom.volume, rel={"hook": 0.05, "barrel": 0.03}.get(name, 0.02))
    assert (distance <= 0).sum() * voxel_size**3 == pytest.approx(phantom.volume, rel=0.03)
    assert not (distance <= 0)[0].any(), "the body must not reach the border of its cube"


def test_ring_and_rod_have_one_volume_and_two_shapes():
    assert ROD.volume == RING.volume
    assert ROD.radius == pytest.approx((3 * RING.volume / (4 * np.pi)) ** (1 / 3))
    assert RING.distance(np.zeros(3)) > 0 > ROD.distance(np.zeros(3))


def test_the_extent_holds_the_body():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(5000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for phantom in PHANTOMS.values():
        assert phantom.distance(directions * (phantom.extent + 0.01)).min() > 0
        reach = phantom.distance(directions * (phantom.extent - 12)).min()
        assert reach < 0, f"{phantom.name} claims a larger extent than it has"


def test_only_the_hook_tells_all_orientations_apart():
    points = np.random.default_rng(1).uniform(-120, 120, size=(4000, 3))
    for axis in ("x", "y", "z"):
        turned = Rotation.from_euler(axis, 180, degrees=True).apply(points)
        assert np.abs(HOOK.distance(turned) - HOOK.distance(points)).max() > 20


def test_the_edge_is_half_at_the_surface_and_smooth():
    assert density_of(np.array([-1e3, 0.0, 1e3])) == pytest.approx([1, 0.5, 0])
    assert density_of(np.array([-1e3])).dtype == np.float32


def test_bad_phantoms_are_refused():
    with pytest.raises(SettingsError, match=r"one of ring, .* got 'cube'"):
        phantom_of("cube")
    with pytest.raises(SettingsError, match="at least its ball's"):
        capsule("fat", radius=100.0, volume=1e6)
