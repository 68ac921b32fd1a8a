"""Pictures: axes in place, circles on the particles, nothing that breaks on odd input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import GeometryError
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.tomograms import Image, Tomogram, create_image, finish_image, open_image
from deepfinder_dask.viewing import distributions, orthoslices, projection, write_pictures
from deepfinder_dask.viewing.greys import grey_range
from deepfinder_dask.viewing.marks import densest_index, marks_of

VOXEL = 10.0
AXES = {"z": ("y", "x"), "y": ("z", "x"), "x": ("y", "z")}
"""Axes shown (up, right) in the slice across each axis."""


def rings(figure: Figure) -> list[tuple[str, float, float, float]]:
    """(name of the panel, right, up, diameter) in nm of every coloured ring."""
    found = []
    for panel in figure.axes:
        for collection in panel.collections:
            if isinstance(collection, EllipseCollection) and collection.get_alpha() == 1.0:
                widths = np.asarray(collection.get_widths()).ravel()
                found += [
                    (str(panel.get_gid()), x, y, w) for (x, y), w in zip(collection.get_offsets(), widths, strict=True)
                ]
    return found


def test_panels_show_the_planes_they_say(tomogram: Tomogram, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    """Grey values in each panel are those of the voxel that the axes name: no axis is swapped or mirrored."""
    figure = orthoslices(tomogram, at=(12, 40, 70), thickness=1)
    assert len(figure.axes) == 3
    at = {"z": 12, "y": 40, "x": 70}
    for panel, across in zip(figure.axes, AXES, strict=True):
        up, right = AXES[across]
        assert panel.get_gid() == f"tomogram across {across}"
        assert panel.get_ylabel() in ("", f"{up} (nm)"), "empty where the panel beside it says it"
        assert panel.get_xlabel() in ("", f"{right} (nm)")
        image = panel.images[0]
        left, end, bottom, top = image.get_extent()
        assert panel.get_ylim()[0] < panel.get_ylim()[1], "upwards"
        values = np.asarray(image.get_array())
        for u, r in ((3.0, 5.0), (20.0, 30.0)):  # nm, which are voxels of 10 Å
            row = int((u - bottom) / (top - bottom) * values.shape[0])
            column = int((r - left) / (end - left) * values.shape[1])
            voxel = {across: at[across], up: int(u), right: int(r)}
            assert values[row, column] == arrays[0][voxel["z"], voxel["y"], voxel["x"]]


def test_circles_are_where_spheres_cut_the_slice(tomogram: Tomogram, particles: Particles) -> None:
    figure = orthoslices(tomogram, particles=particles, at=(22, 40, 60))
    found = sorted(ring for ring in rings(figure) if ring[0] == "particles across z")
    expected = sorted(
        [
            ("particles across z", 20.0, 15.0, 2 * np.sqrt(64 - 4)),
            ("particles across z", 100.0, 15.0, 2 * np.sqrt(64 - 4)),
            ("particles across z", 60.0, 40.0, 2 * np.sqrt(25 - 4)),
        ]
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a[1:], b[1:])


def test_dark_balls_lie_inside_their_circles(tomogram: Tomogram, particles: Particles) -> None:
    """The grey values under each circle are darker than elsewhere, in every panel."""
    figure = orthoslices(tomogram, particles=particles, at=(20, 15, 60))
    for panel in figure.axes[3:]:
        image = panel.images[0]
        left, end, bottom, top = image.get_extent()
        values = np.asarray(image.get_array())
        xs = left + (np.arange(values.shape[1]) + 0.5) * (end - left) / values.shape[1]
        ys = bottom + (np.arange(values.shape[0]) + 0.5) * (top - bottom) / values.shape[0]
        inside = np.zeros(values.shape, bool)
        for collection in panel.collections:
            for (x, y), w in zip(collection.get_offsets(), np.ravel(collection.get_widths()), strict=True):
                inside |= (xs - x) ** 2 + (ys[:, None] - y) ** 2 < (w / 2 - 1) ** 2
        assert inside.any()
        assert values[inside].mean() < values[~inside].mean() - 1


def test_projection_holds_every_particle_twice(tomogram: Tomogram, particles: Particles) -> None:
    found = rings(projection(tomogram, particles))
    above = sorted((x, y) for label, x, y, _ in found if label == "mean along z")
    beside = sorted((x, z) for label, x, z, _ in found if label == "mean along y")
    z, y, x = (particles.positions() / VOXEL).T
    np.testing.assert_allclose(above, sorted(zip(x, y, strict=True)))
    np.testing.assert_allclose(beside, sorted(zip(x, z, strict=True)))


def test_anisotropic_voxels_are_drawn_to_scale(arrays: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    volume = create_image(tmp_path / "a.zarr", shape=arrays[0].shape, dtype="f4", voxel_size=(30, 20, 10))
    volume.write(Box.whole(volume.space), arrays[0])
    finish_image(tmp_path / "a.zarr")
    figure = orthoslices(Tomogram.open(tmp_path / "a.zarr"))
    for panel, (height, width) in zip(figure.axes, ((144, 120), (120, 120), (144, 120)), strict=True):
        box = panel.get_position()
        inches = box.height * figure.get_figheight() / (box.width * figure.get_figwidth())
        assert inches == pytest.approx(height / width, rel=0.01)


def test_pictures_are_written(tomogram: Tomogram, labels: Image, particles: Particles, tmp_path: Path) -> None:
    from matplotlib.image import imread

    folder = tmp_path / "new" / "pictures"
    paths = write_pictures(tomogram, labels, particles, folder)
    assert [p.name for p in paths] == ["slices.png", "projection.png", "distributions.png"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in paths), "no temporary files stay"
    for path in paths:
        pixels = imread(path)
        assert pixels.shape[0] > 200
        assert pixels.std() > 0.02


def test_labels_are_coloured_by_class(tomogram: Tomogram, labels: Image, particles: Particles) -> None:
    figure = orthoslices(tomogram, labels, particles, at=(20, 15, 60))
    panel = figure.axes[3]
    overlay = np.asarray(panel.images[1].get_array())
    assert overlay.shape == (72, 120, 4)
    red, green, blue = particles.classes[0].rgb
    np.testing.assert_allclose(overlay[15, 20, :3] * 255, (red, green, blue), atol=0.6)
    assert overlay[30, 5, 3] == 0, "background is transparent"
    assert overlay[65, 100, 3] > 0, "structures are shown"


def test_no_particles_is_no_reason_to_fail(tomogram: Tomogram, labels: Image, tmp_path: Path) -> None:
    classes = (ParticleClass("ribosome", 1, radius=80.0), ParticleClass("membrane", 3, kind="structure"))
    with_classes = Particles.empty({"cell": TomogramFacts()}, classes)
    assert len(write_pictures(tomogram, labels, with_classes, tmp_path)) == 3
    for empty in (with_classes, Particles.empty()):
        assert rings(projection(tomogram, empty)) == []
        assert rings(orthoslices(tomogram, labels, empty)) == []
        assert distributions(empty).texts


def test_class_names_are_taken_literally(tomogram: Tomogram, tmp_path: Path) -> None:
    names = ["$x^2$", "_hidden", "70S & 80S", "リボソーム", "a" * 60]
    classes = [ParticleClass(name, label) for label, name in enumerate(names, 1)]
    found = Particles.from_voxels(
        [(20, 15, 20 * n) for n in range(1, 6)],
        tomogram="cell",
        facts=TomogramFacts(VOXEL),
        labels=range(1, 6),
        classes=classes,
    )
    assert len(write_pictures(tomogram, None, found, tmp_path)) == 3
    texts = [t.get_text() for t in projection(tomogram, found).texts]
    assert {f"{name} (1)" for name in names} <= set(texts)


def test_unknown_sizes_and_scores_are_said_to_be_unknown(tomogram: Tomogram) -> None:
    found = Particles.from_voxels(
        [(20, 15, 20)],
        tomogram="cell",
        facts=TomogramFacts(VOXEL),
        labels=[1],
        classes=[ParticleClass("a", 1), ParticleClass("b", 2)],
    )
    words = [text.get_text() for panel in distributions(found).axes for text in panel.texts]
    assert words == ["not known", "not known", "none", "none"]


def test_constant_and_partly_invalid_grey_values() -> None:
    assert grey_range([np.zeros((4, 4))]) == (-0.5, 0.5)
    low, high = grey_range([np.array([0.0, 1.0, np.nan, np.inf])])
    assert 0 <= low < high <= 1
    assert grey_range([np.full(3, np.nan)]) == (0.0, 1.0)


def test_radius_falls_back_to_size_then_to_a_default(tomogram: Tomogram) -> None:
    found = Particles.from_voxels(
        [(1, 1, 1), (2, 2, 2), (3, 3, 3)],
        tomogram="cell",
        facts=TomogramFacts(VOXEL),
        labels=[1, 2, 2],
        classes=[ParticleClass("known", 1, radius=33.0), ParticleClass("other", 2)],
        sizes=np.array([5, round(4 / 3 * np.pi * 6**3), 0]),
    )
    radii = marks_of(tomogram, found).radii
    assert radii[0] == 33
    assert radii[1] == pytest.approx(60, rel=1e-3)
    assert radii[2] == pytest.approx(0.02 * 1200)


def test_crowded_particles_do_not_hide_the_tomogram(tomogram: Tomogram) -> None:
    """Where rings would cover everything, there are dots of a fixed share of their size."""
    positions = np.random.default_rng(0).uniform(0, 40, (400, 3)) * (1, 1.8, 3)
    found = Particles.from_voxels(
        positions,
        tomogram="cell",
        facts=TomogramFacts(VOXEL),
        labels=[1] * 400,
        classes=[ParticleClass("a", 1, radius=100.0)],
    )
    for panel in projection(tomogram, found).axes:
        (dots,) = (c for c in panel.collections if isinstance(c, EllipseCollection))
        assert len(dots.get_offsets()) == 400
        assert np.ravel(dots.get_widths()) == pytest.approx(0.3 * 20)


def test_slices_go_where_most_particles_are() -> None:
    centres = np.array([10.0, 11.0, 12.0, 50.0])
    assert densest_index(centres, np.full(4, 5.0), 100) in range(9, 14)
    assert densest_index(np.empty(0), np.empty(0), 100) == 50
    assert densest_index(np.array([-20.0]), np.array([3.0]), 30) == 15, "outside: nothing to cut"


def test_only_the_particles_of_the_tomogram_are_drawn(tomogram: Tomogram, particles: Particles) -> None:
    other = Particles.from_voxels(
        [(1, 1, 1)], tomogram="other", facts=TomogramFacts(VOXEL), labels=[1], classes=particles.classes
    )
    assert len(rings(projection(tomogram, Particles.concat([particles, other])))) == 2 * len(particles)


def test_labels_of_another_shape_are_refused(tomogram: Tomogram, tmp_path: Path) -> None:
    create_image(tmp_path / "l", shape=(8, 8, 8), dtype="u1", voxel_size=10)
    finish_image(tmp_path / "l")
    with pytest.raises(GeometryError, match="expected labels of shape"):
        orthoslices(tomogram, open_image(tmp_path / "l"))


def test_no_global_state_is_touched() -> None:
    """Neither pyplot nor a display: figures work in threads and on clusters."""
    code = (
        "import deepfinder_dask.viewing.pictures, sys; assert 'matplotlib.pyplot' not in sys.modules;"
        "import deepfinder_dask.viewing.means"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
