"""Against targets that the original DeepFinder made of the same objects and masks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from deepfinder_dask.particles import ParticleClass, read_particles
from deepfinder_dask.targets import target

NAMES = ("4cr2", "3d2f", "1qvr")
RADII = (12, 8, 9)
SHAPE = (96, 136, 156)
CLASSES = tuple(ParticleClass(n, i, radius=10.0 * r) for i, (n, r) in enumerate(zip(NAMES, RADII, strict=True), 1))


@pytest.fixture
def golden(data_dir):
    return np.load(data_dir / "original_deepfinder" / "targets.npz")


@pytest.fixture
def objects(data_dir):
    particles = read_particles(data_dir / "original_deepfinder" / "objects.xml", classes=CLASSES, voxel_size=10.0)
    assert len(particles) == 24
    return particles


@pytest.fixture
def masks(data_dir, write_mrc):
    """The three masks as files, as the option takes them."""
    stored = np.load(data_dir / "original_deepfinder" / "masks.npz")
    return tuple(f"{name}={write_mrc(f'{name}.mrc', stored[name])}" for name in NAMES)


def draw(objects, tomogram, tmp_path, name, **options):
    made = target(objects, tomogram, tmp_path / f"{name}.zarr", progress=False, **options)
    return made.label_map.read(), made


def differing(ours, theirs):
    """Voxels that differ, by class of either."""
    return {label: int(((ours != theirs) & ((ours == label) | (theirs == label))).sum()) for label in (1, 2, 3)}


def test_spheres_as_the_original_places_them(golden, objects, empty_tomogram, tmp_path) -> None:
    ours, made = draw(objects, empty_tomogram(SHAPE), tmp_path, "spheres", compat=True)
    assert differing(ours, golden["spheres_12_8_9"]) == {1: 0, 2: 0, 3: 0}
    assert made.voxels["4cr2"] == 52889


def test_shapes_as_the_original_places_them(golden, objects, masks, empty_tomogram, tmp_path) -> None:
    ours, _ = draw(objects, empty_tomogram(SHAPE), tmp_path, "shapes", compat=True, shapes=masks, block=(48, 64, 64))
    assert differing(ours, golden["shapes"]) == {1: 0, 2: 0, 3: 0}


def floored(objects):
    """The objects at whole voxels, where the original puts them."""
    places = {axis: np.floor(objects.table[axis] / 10.0) * 10.0 for axis in "xyz"}
    return objects.with_table(objects.table.assign(**places))


def test_spheres_at_whole_voxels_differ_by_the_rim_and_the_policy_only(golden, objects, empty_tomogram, tmp_path):
    """Without compat but at the original's whole voxels: all that is left are the 22 voxels where its cube cuts the
    largest spheres, and those where a later object lies over one whose centre is nearer."""
    ours, made = draw(floored(objects), empty_tomogram(SHAPE), tmp_path, "floored")
    theirs = golden["spheres_12_8_9"]
    differ = ours != theirs
    centres = floored(objects).positions() / 10.0
    labels = objects.table["label"].to_numpy()
    voxels = np.argwhere(differ)
    distance = np.linalg.norm(voxels[:, None] - centres[None], axis=2)
    claims = distance <= np.array([RADII[n - 1] for n in labels])
    offset = voxels[:, None] - centres[None]
    pole = (claims & (labels == 1) & (offset.max(axis=2) == 12)).any(axis=1)
    several = claims.sum(axis=1) > 1
    assert (pole | several).all()
    assert differing(ours, theirs) == {1: 608, 2: 5, 3: 592}
    assert (theirs[differ] == 0).sum() == 21
    # Where it is a matter of policy, ours is the nearer centre.
    nearest = labels[np.where(claims, distance, np.inf).argmin(axis=1)]
    assert (ours[differ] == nearest).all()
    assert sum(one.voxels for one in made.overlaps) >= several.sum() > 0


def test_shapes_at_whole_voxels_differ_by_the_policy_only(golden, objects, masks, empty_tomogram, tmp_path) -> None:
    ours, made = draw(floored(objects), empty_tomogram(SHAPE), tmp_path, "floored", shapes=masks)
    theirs = golden["shapes"]
    differ = ours != theirs
    mixed = sum(one.voxels for one in made.overlaps if one.kept != one.lost)
    assert not ((ours == 0) & differ).any()
    assert not ((theirs == 0) & differ).any()
    assert differ.sum() <= mixed


def test_true_positions_move_borders_by_less_than_two_voxels(golden, objects, masks, empty_tomogram, tmp_path) -> None:
    """At their true positions objects lie up to a voxel further on each axis than where the original rounds them down
    to: what differs is at a border, or where objects of two classes meet."""
    tomogram = empty_tomogram(SHAPE)
    centres, labels = objects.positions() / 10.0, objects.table["label"].to_numpy()
    reached = np.zeros((3, *SHAPE), bool)
    for centre, label in zip(centres, labels, strict=True):
        z, y, x = (np.arange(n) - c for n, c in zip(SHAPE, centre, strict=True))
        reached[label - 1] |= z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= (RADII[label - 1] + 2) ** 2
    meeting = reached.sum(axis=0) > 1
    counts = {}
    for name, options in (("spheres_12_8_9", {}), ("shapes", {"shapes": masks})):
        ours, _ = draw(objects, tomogram, tmp_path, name, **options)
        theirs = golden[name]
        counts[name] = differing(ours, theirs)
        near = np.zeros(SHAPE, bool)
        for label in range(4):
            near |= (ndimage.maximum_filter(theirs == label, 5)) & (theirs != label)
        assert not ((ours != theirs) & ~near & ~meeting).any()
    # Shifts of half a voxel on average, on surfaces of 8 × 1,800, 800 and 1,000 voxels for the spheres.
    assert counts == {
        "spheres_12_8_9": {1: 6372, 2: 2793, 3: 3694},
        "shapes": {1: 6028, 2: 1594, 3: 2000},
    }
