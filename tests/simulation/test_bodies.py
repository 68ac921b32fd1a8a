from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import FormatError, VoxelSizeError
from deepfinder_dask.simulation import MapBody, Species, body_of, place_scene, render
from deepfinder_dask.simulation.bodies import ROOM, bottom_of
from deepfinder_dask.simulation.scene import to_tomogram


def map_body(path, voxel_size=10.0, **more) -> MapBody:
    body = body_of(Species("x", 1, map=str(path), **more), voxel_size)
    assert isinstance(body, MapBody)
    return body


def on_grid(body, voxel_size, n=12):
    """Density and inside of a body on a grid about its centre, (z, y, x)."""
    axis = np.arange(-n, n + 1) * voxel_size
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return body.sample(np.stack([x, y, z], axis=-1))


def test_a_map_is_itself_on_its_own_voxels(blobs, chiral):
    values = chiral
    body = map_body(blobs)
    density, inside = on_grid(body, 10.0, 11)
    whole = values[1:, 1:, 1:]
    scale = 1 / values[values > values.max() / 2].mean()
    kept = whole > 0.02 * values.max()
    assert np.allclose(density[kept], whole[kept] * scale, rtol=1e-3, atol=1e-3)
    assert (inside == (whole >= 0.1 * values.max())).mean() > 0.9999
    assert body.volume == pytest.approx((values >= 0.1 * values.max()).sum() * 1000)


@pytest.mark.parametrize("voxel_size", [5.0, 16.0, 20.0])
def test_another_voxel_size_keeps_mass_and_place(blobs, voxel_size):
    fine, _ = on_grid(map_body(blobs), 10.0)
    other, _ = on_grid(map_body(blobs, voxel_size), voxel_size, round(120 / voxel_size))
    mass, again = fine.sum() * 10.0**3, other.sum() * voxel_size**3
    assert again == pytest.approx(mass, rel=0.05)
    middles = [
        (np.array(ndimage.center_of_mass(d)) - d.shape[0] // 2) * v for d, v in ((fine, 10.0), (other, voxel_size))
    ]
    assert middles[0] == pytest.approx(middles[1], abs=1.5)


def test_the_extent_holds_the_map(blobs, chiral):
    body = map_body(blobs)
    values = chiral
    far = np.linalg.norm(np.argwhere(values > 0.02 * values.max()) - 12, axis=1).max() * 10
    assert far < body.extent < far + 11


def test_distances_are_those_to_the_surface(blobs, chiral):
    """From voxels inside the body, told without its own distances, never more than it says, far outside too."""
    body = map_body(blobs)
    values = chiral
    inside = (np.argwhere(values >= 0.1 * values.max()) - 12)[:, ::-1] * 10.0
    points = np.random.default_rng(0).uniform(-400, 400, size=(400, 3))
    true = np.linalg.norm(points[:, None] - inside, axis=-1).min(axis=1)
    said = body.distance(points)
    assert (said <= true + 5).all()
    near = (said > 0) & (said < ROOM - 20)
    assert near.any()
    assert said[near] == pytest.approx(true[near] - 5, abs=6)
    assert (body.distance(inside) < 0).all()
    assert bottom_of(body) == pytest.approx(-inside[:, 2].min(), abs=10)


def test_turning_the_map_by_the_angles_gives_the_scene(scene_of, blobs, chiral):
    """Rotating the file with SciPy, by the angles of the table about voxel n // 2, gives the clean density."""
    config = scene_of({"blobs": 2}, (64, 100, 64), 10.0, species=(Species("blobs", 1, map=str(blobs)),), gap=110.0)
    scene = place_scene(config, config.tomograms[0])
    density = render(scene, Box.whole(scene.shape)).density
    values = chiral
    for particle in scene.particles:
        zyx = to_tomogram(particle.angles)[::-1, ::-1]
        middle = np.array([round(p) for p in particle.position])
        part = density[tuple(slice(m - 10, m + 11) for m in middle)]
        offset = middle - 10 - np.array(particle.position)
        for matrix, right in ((zyx.T, True), (zyx, False)):
            turned = ndimage.affine_transform(values, matrix, 12 + matrix @ offset, part.shape, order=3)
            same = np.corrcoef(turned.ravel(), part.ravel())[0, 1]
            assert (same > 0.995) if right else (same < 0.95)


def test_thresholds_are_in_units_of_the_map(blobs, chiral):
    values = chiral
    level = 0.4 * values.max()
    assert map_body(blobs, threshold=float(level)).volume == pytest.approx((values >= level).sum() * 1000)
    with pytest.raises(FormatError, match="change threshold"):
        map_body(blobs, threshold=1e9)


def test_a_changed_file_is_read_again(tmp_path, write_map, chiral):
    path = write_map(tmp_path / "m.mrc", chiral, 10.0)
    before = map_body(path).volume
    write_map(path, chiral**2, 10.0)
    assert map_body(path).volume != before


@pytest.mark.parametrize(
    ("values", "voxel_size", "error", "message"),
    [
        ("chiral", 0.0, VoxelSizeError, "does not say its voxel size"),
        ("chiral", (10.0, 10.0, 12.0), VoxelSizeError, "one voxel size on all axes"),
        (np.zeros((8, 8, 8)), 10.0, FormatError, "some above 0"),
        (np.full((8, 8, 8), np.nan), 10.0, FormatError, "finite densities"),
        ("chiral", 0.5, FormatError, "use a smaller voxel_size"),
    ],
)
def test_maps_that_cannot_be_used_are_refused(tmp_path, write_map, chiral, values, voxel_size, error, message):
    values = chiral if isinstance(values, str) else values
    path = write_map(tmp_path / "bad.mrc", values, voxel_size)
    with pytest.raises(error, match=message) as caught:
        map_body(path, 100.0)
    assert "\n" not in str(caught.value)


def test_a_missing_map_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"no density map .*none.mrc for species 'x'"):
        map_body(tmp_path / "none.mrc")


def test_real_maps_have_the_sizes_that_are_known(data_dir):
    """Volume-equivalent radii in Å as their README states them."""
    for name, radius in (("1bxn", 55), ("1qvr", 60), ("3d2f", 55)):
        assert map_body(data_dir / "maps_10A" / f"{name}.mrc").radius == pytest.approx(radius, abs=1)
