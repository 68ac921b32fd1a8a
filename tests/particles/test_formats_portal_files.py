"""Each particle list of the CZ portal's test files, against positions worked out by hand from its own convention."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from deepfinder_dask.errors import VoxelSizeError
from deepfinder_dask.particles import ParticlesWarning, read_particles
from deepfinder_dask.particles import angles as euler
from deepfinder_dask.particles.formats import format_of_file

PLACES = np.array([[4, 8, 12], [4, 4, 4], [6, 4, 2], [0, 6, 0], [8, 4, 2], [3, 2, 1]], dtype=float)
"""Coordinates that all STAR files hold, x, y, z."""
SHIFTS = np.array([[-1.2, -2.4, -3.2], [3.2, 2.4, 1.2], [-1, -2, -3], [3, 2, 1], [0, 3, 0], [2, 2, 2]])
"""Their origins (RELION, subtracted) or shifts (STOPGAP, added)."""
CSV = np.array([[1, 2, 3], [2, 2, 2], [0, 3, 0]], dtype=float)
TOMOGRAMS = [1, 1, 2, 2, 2, 3]

EXPECTED = {
    # Pixels of rlnDetectorPixelSize 1.7005 µm x 1e4 / rlnMagnification 10000 Å, from 0; the origin is in pixels too.
    "relion_3_star.star": ("warp", (PLACES - SHIFTS) * 1.7005, [f"tomo_{n}" for n in TOMOGRAMS]),
    # Unbinned pixels, which rlnMicrographOriginalPixelSize says are 0.5 Å, from 0; the origin is in Å.
    "relion_4_star.star": ("relion4", PLACES * 0.5 - SHIFTS, [f"TS_00{n}" for n in TOMOGRAMS]),
    # Pixels of rlnPixelSize 1.96 Å, from 0; the origin is in pixels, as in RELION 3.
    "tomoman_relion_star.star": (
        "relion4",
        (PLACES - SHIFTS) * 1.96,
        [f"grid_1_lamella1_pos{n}" for n in TOMOGRAMS],
    ),
    # Voxels (of 10 Å, as told) from 1, as MATLAB counts; shifts are added.
    "stopgap_star.star": ("stopgap", (PLACES + SHIFTS - 1) * 10.0, [str(n) for n in TOMOGRAMS]),
    # Pixels (of 10 Å, as told: the model has none) whose centres lie at a half in x and y, and sections at whole z.
    "points.mod": ("imod", (CSV - (0.5, 0.5, 0.0)) * 10.0, ["points"] * 3),
    # Lines without a header are voxels from 0: (of 10 Å, as told).
    "points.csv": ("csv", CSV * 10.0, ["points"] * 3),
    "points_tab_delim.csv": ("csv", CSV * 10.0, ["points_tab_delim"] * 3),
    # A header x, y, z is our own: Å, whatever the voxel size.
    "points_with_header.csv": ("csv", CSV, ["points_with_header"] * 3),
    "points_with_header_pipe_delim.csv": ("csv", CSV, ["points_with_header_pipe_delim"] * 3),
    # The header says [A].
    "tardis.csv": (
        "csv",
        np.array([[4, 8, 12], [4, 4, 4], [6, 4, 2], [0, 6, 0], [8, 4, 2], [3, 2, 1]], dtype=float),
        ["tardis"] * 6,
    ),
    # Å from the corner; the last column of its matrices is 0.
    "copick.json": (
        "copick",
        np.array([[40, 20, 30], [0, 50, 10], [30, 15, 92], [30, 10, 50]], dtype=float),
        ["copick"] * 4,
    ),
    "copick_instance.json": (
        "copick",
        np.array([[10, 20, 30], [10, 10, 10], [15, 10, 5], [0, 15, 0], [20, 10, 5], [7.5, 5, 2.5]], dtype=float),
        ["Position_94_Vol"] * 6,
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_file_lands_where_its_convention_says(data_dir, name):
    path = data_dir / "annotations" / "czi_portal" / name
    kind, positions, tomograms = EXPECTED[name]
    assert format_of_file(path).name == kind
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParticlesWarning)
        particles = read_particles(path, voxel_size=10.0)
    found = particles.table[["x", "y", "z"]].to_numpy()
    np.testing.assert_allclose(found, positions, rtol=0, atol=1e-9)
    assert particles.table["tomogram"].tolist() == tomograms
    assert len(particles) == len(positions)


def test_every_list_is_in_the_table(data_dir):
    """Nothing that holds particles is left out."""
    folder = data_dir / "annotations" / "czi_portal"
    lists = {path.name for path in folder.iterdir() if path.suffix in (".star", ".mod", ".csv", ".json")}
    assert lists - set(EXPECTED) == {"oriented_points.mod"}


def test_units_can_be_told(data_dir):
    folder = data_dir / "annotations" / "czi_portal"
    for name in ("points_with_header.csv", "points_with_header_pipe_delim.csv"):
        particles = read_particles(folder / name, voxel_size=14.08, unit="voxel")  # as the portal takes them
        np.testing.assert_allclose(particles.table[["x", "y", "z"]], CSV * 14.08)
    particles = read_particles(folder / "points.csv", unit="angstrom")
    np.testing.assert_array_equal(particles.table[["x", "y", "z"]], CSV)
    with pytest.raises(VoxelSizeError, match="--unit angstrom"):
        read_particles(folder / "points.csv")
    assert read_particles(folder / "tardis.csv").table["instance_id"].tolist() == [0, 0, 1, 1, 1, 2]


def test_sizes_of_pixels_that_disagree_are_named(data_dir):
    path = data_dir / "annotations" / "czi_portal" / "relion_4_star.star"
    with pytest.warns(ParticlesWarning, match=r"0\.5 Å \(rlnMicrographOriginalPixelSize\).*rlnMicrographPixelSize 1"):
        read_particles(path)
    particles = read_particles(path, voxel_size=2.0, binning=2.0)  # told: pixels of 1 Å
    np.testing.assert_allclose(particles.table[["x", "y", "z"]], PLACES - SHIFTS)


def test_stopgap_and_relion_angles(data_dir):
    """STOPGAP's are active zxz, RELION's passive ZYZ: written out as matrices."""

    def turn(axis, degrees):
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        i, j = {"z": (0, 1), "x": (1, 2), "y": (2, 0)}[axis]
        matrix = np.eye(3)
        matrix[i, i] = matrix[j, j] = c
        matrix[i, j], matrix[j, i] = -s, s
        return matrix

    folder = data_dir / "annotations" / "czi_portal"
    particles = read_particles(folder / "stopgap_star.star", voxel_size=10.0)
    phi, psi, the = -45, 120, 90
    expected = turn("z", psi) @ turn("x", the) @ turn("z", phi)
    np.testing.assert_allclose(euler.to_matrices(particles.orientations())[1], expected, atol=1e-9)
    particles = read_particles(folder / "relion_3_star.star")
    rot, tilt, psi = -45, 90, 120
    expected = (turn("z", rot) @ turn("y", tilt) @ turn("z", psi)).T
    np.testing.assert_allclose(euler.to_matrices(particles.orientations())[1], expected, atol=1e-9)
    assert np.isnan(particles.orientations()[5]).all()  # all zero


def test_oriented_points_have_the_slicer_angles_in_order(data_dir):
    """Clicked points, whose slicer centres differ by a fraction of a pixel; the model knows its pixel size."""
    path = data_dir / "annotations" / "czi_portal" / "oriented_points.mod"
    particles = read_particles(path)
    assert particles.tomograms["oriented_points"].shape == (500, 924, 956)
    np.testing.assert_allclose(particles.tomograms["oriented_points"].voxel_size, 16.14545, atol=1e-4)
    voxels = particles.voxel_positions("oriented_points")[:, ::-1]
    first = (235.42158508 - 0.5, 682.91247559 - 0.5, 301.9546814)
    np.testing.assert_allclose(voxels[0], first, atol=1e-5)
    a, b, c = np.deg2rad([13.1, 0.0, -30.2])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    assert b == 0
    np.testing.assert_allclose(euler.to_matrices(particles.orientations())[0], (rx @ rz).T, atol=1e-6)
