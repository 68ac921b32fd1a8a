"""Shapes: turned the right way about the right centre, of any voxel size; and what cannot be a shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.errors import FormatError, GeometryError, VoxelSizeError
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.targets.objects import objects_of
from deepfinder_dask.targets.painting import Canvas, Task, paint
from deepfinder_dask.targets.recipes import ShapeFile
from deepfinder_dask.targets.shapes import read_shape

ARMS = {"x": 9, "y": 6, "z": 3}
"""Voxels that the arms of the test object reach along its own axes."""
EDGE = 24
CENTRE = np.array([14.0, 15.0, 16.0])
CLASS = {"arms": ParticleClass("arms", 1)}


def arms() -> np.ndarray:
    """Three arms of different length from the centre, (z, y, x): no rotation or mirror maps it onto itself."""
    values = np.zeros((EDGE,) * 3, np.float32)
    m = EDGE // 2
    values[m - 1 : m + 2, m - 1 : m + 2, m - 1 : m + 1 + ARMS["x"]] = 1
    values[m - 1 : m + 2, m - 1 : m + 1 + ARMS["y"], m - 1 : m + 2] = 1
    values[m - 1 : m + 1 + ARMS["z"], m - 1 : m + 2, m - 1 : m + 2] = 1
    return values


def drawn(shape, angles, *, shape_of=(30, 31, 32), voxel_size=(10.0,) * 3, centre=CENTRE, fault=None) -> np.ndarray:
    """Where the object is, (z, y, x) bool."""
    objects = objects_of(centre[None], np.array([angles]), ["arms"], CLASS, (shape,), voxel_size)
    if fault is not None:
        objects = replace(objects, turn=fault(objects.turn))
    labels, _ = paint(
        Canvas(voxel_size, (shape,), (), None, None, (1,)), Task(BlockGrid(shape_of, shape_of)[0], objects)
    )
    return labels == 1


def stands(inside: np.ndarray, directions: dict[str, tuple[int, int, int]]) -> bool:
    """Whether the arms point where they should, (x, y, z) unit vectors in the tomogram, and end there."""
    right = True
    for axis, direction in directions.items():
        step = np.array(direction[::-1])
        tip = (CENTRE + ARMS[axis] * step).round().astype(int)
        beyond = (CENTRE + (ARMS[axis] + 2) * step).round().astype(int)
        behind = (CENTRE - 3 * step).round().astype(int)
        others = [d for d in directions.values() if np.allclose(d, -np.array(direction))]
        right &= bool(inside[tuple(tip)]) and not inside[tuple(beyond)] and (bool(others) or not inside[tuple(behind)])
    return right


# By hand: RELION's angles turn the axes, so the object turns by the inverse; +90° of rot takes the object's x to -y.
TURNS = [
    ((0.0, 0.0, 0.0), {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1)}),
    ((90.0, 0.0, 0.0), {"x": (0, -1, 0), "y": (1, 0, 0), "z": (0, 0, 1)}),
    ((0.0, 90.0, 0.0), {"x": (0, 0, 1), "y": (0, 1, 0), "z": (-1, 0, 0)}),
    ((90.0, 90.0, 0.0), {"x": (0, -1, 0), "y": (0, 0, 1), "z": (-1, 0, 0)}),
    ((0.0, 90.0, 90.0), {"x": (0, 0, 1), "y": (1, 0, 0), "z": (0, 1, 0)}),
]


@pytest.fixture
def shape(write_mrc):
    return read_shape("arms", ShapeFile(write_mrc("arms.mrc", arms())), None, (10.0,) * 3)


@pytest.mark.parametrize(("angles", "directions"), TURNS)
def test_shapes_are_turned_by_the_angles(shape, angles, directions) -> None:
    assert stands(drawn(shape, angles), directions)


FAULTS = {
    "inverted rotation": lambda turn: np.swapaxes(turn, 1, 2),
    "axes x and z swapped": lambda turn: turn[:, ::-1, ::-1],
    "axes x and y swapped": lambda turn: turn[:, [0, 2, 1]][:, :, [0, 2, 1]],
    "mirror": lambda turn: turn * np.array([1.0, 1.0, -1.0]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_turns_are_found(shape, fault) -> None:
    """Each planted fault fails the test above for some angles."""
    assert not all(stands(drawn(shape, angles, fault=FAULTS[fault]), directions) for angles, directions in TURNS)


def test_any_angles_agree_with_turning_the_points(write_mrc) -> None:
    """Against SciPy: the tomogram's voxels, turned back into the object, sampled there."""
    rng = np.random.default_rng(8)
    values = ndimage.gaussian_filter(arms(), 1)
    shape = read_shape("arms", ShapeFile(write_mrc("a.mrc", values, 8.0), 0.3), None, (8.0, 10.0, 12.0))
    assert shape.voxel_size == (8.0, 8.0, 8.0)
    size = np.array([8.0, 10.0, 12.0])
    for _ in range(5):
        angles, centre = rng.uniform(-180, 180, 3), CENTRE + rng.uniform(-0.5, 0.5, 3)
        ours = drawn(shape, angles, voxel_size=tuple(size), centre=centre)
        offset = (np.indices(ours.shape).reshape(3, -1).T - centre) * size
        in_object = Rotation.from_euler("ZYZ", angles, degrees=True).apply(offset[:, ::-1])[:, ::-1] / 8.0 + EDGE // 2
        sampled = ndimage.map_coordinates(values, in_object.T, order=1, mode="constant").reshape(ours.shape)
        clear = np.abs(sampled - 0.3) > 1e-4
        np.testing.assert_array_equal(ours[clear], (sampled >= 0.3)[clear])
        assert ours.sum() > 100


@pytest.mark.parametrize("scale", [0.25, 0.4, 0.5, 1.0, 1.5])
def test_a_map_of_another_voxel_size_keeps_its_place_and_volume(write_mrc, scale) -> None:
    """An off-centre ellipsoid of known volume and centroid, sampled at many voxel sizes, is drawn alike."""
    size, half, offset = 10.0 * scale, np.array([60.0, 45.0, 90.0]), np.array([12.0, -18.0, 25.0])
    edge = 2 * int(140 / size) + 2
    grid = (np.indices((edge,) * 3).reshape(3, -1).T - edge // 2) * size - offset
    values = (((grid / half) ** 2).sum(axis=1) <= 1).reshape((edge,) * 3).astype(np.float32)
    shape = read_shape("arms", ShapeFile(write_mrc("e.mrc", values, size)), None, (10.0,) * 3)
    inside = drawn(shape, (0.0, 0.0, 0.0))
    volume = 4 / 3 * np.pi * half.prod() / 1000
    assert inside.sum() == pytest.approx(volume, rel=0.04)
    assert np.argwhere(inside).mean(axis=0) == pytest.approx(CENTRE + offset / 10, abs=0.1)


def test_anisotropic_voxels_draw_the_same_body(write_mrc) -> None:
    """In voxels of 10 × 5 × 20 Å the body has the same extent in Å, whatever its turn."""
    shape = read_shape("arms", ShapeFile(write_mrc("arms.mrc", arms())), None, (5.0, 10.0, 20.0))
    fine = read_shape("arms", ShapeFile(write_mrc("arms.mrc", arms())), None, (10.0,) * 3)
    rng = np.random.default_rng(2)
    for _ in range(4):
        angles = rng.uniform(-180, 180, 3)
        even = np.argwhere(drawn(fine, angles)) * 10.0 - CENTRE * 10.0
        size = np.array([5.0, 10.0, 20.0])
        centre = CENTRE * 10.0 / size
        uneven = drawn(shape, angles, voxel_size=tuple(size), shape_of=(60, 31, 17), centre=centre)
        places = (np.argwhere(uneven) - centre) * size
        assert places.mean(axis=0) == pytest.approx(even.mean(axis=0), abs=4.0)
        assert np.linalg.eigvalsh(np.cov(places.T)) == pytest.approx(np.linalg.eigvalsh(np.cov(even.T)), rel=0.12)


def test_a_density_is_cut_at_the_threshold_or_by_the_volume_of_the_class(data_dir) -> None:
    path = str(data_dir / "maps_10A" / "1bxn.mrc")
    by_radius = read_shape("1bxn", ShapeFile(path), 55.0, (10.0,) * 3)
    assert by_radius.volume == pytest.approx(4 / 3 * np.pi * 55.0**3, rel=0.01)
    again = read_shape("1bxn", ShapeFile(path, by_radius.threshold), None, (10.0,) * 3)
    np.testing.assert_array_equal(again.values, by_radius.values)
    higher = read_shape("1bxn", ShapeFile(path, by_radius.threshold * 1.5), None, (10.0,) * 3)
    assert higher.volume < by_radius.volume
    with pytest.raises(FormatError, match=r"density map from .*: give its threshold .*or the radius"):
        read_shape("1bxn", ShapeFile(path), None, (10.0,) * 3)


def test_what_is_no_shape_is_refused(write_mrc, tmp_path) -> None:
    def refused(values, error, words, *, voxel_size=10.0, file=None, **options):
        given = ShapeFile(write_mrc("bad.mrc", np.asarray(values, np.float32), voxel_size), **(file or {}))
        with pytest.raises(error, match=words) as caught:
            read_shape("odd", given, None, (10.0,) * 3, **options)
        assert "\n" not in str(caught.value)

    cube = arms()
    refused(cube[:-1], GeometryError, r"must be cubic.*found 23 × 24 × 24 voxels")
    for unknown in (0.0, 1.0):
        refused(cube, VoxelSizeError, "does not say its voxel size.*--shape-voxel-size", voxel_size=unknown)
    refused(cube, FormatError, "is empty: no value reaches the threshold 2", file={"threshold": 2.0})
    refused(np.ones((8, 8, 8)), FormatError, "one value only")
    with pytest.warns(RuntimeWarning, match="NaN"):
        refused(np.full((8, 8, 8), np.nan), FormatError, "no finite numbers")
    refused(cube, VoxelSizeError, "compat places masks as they are", voxel_size=12.0, as_it_is=True)
    refused(np.pad(cube, (0, 1)), GeometryError, "n must be even", as_it_is=True)
    with pytest.raises(FormatError, match="no such"):
        read_shape("odd", ShapeFile(str(tmp_path / "none.mrc")), None, (10.0,) * 3)
    told = read_shape("odd", ShapeFile(write_mrc("bad.mrc", cube, 0.0), None, 10.0), None, (10.0,) * 3)
    assert told.voxel_size == (10.0, 10.0, 10.0)
