"""Distances to a structure: bit for bit those of SciPy on the whole label map, for any blocks; the verb, its filter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial import KDTree

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.cli import main
from deepfinder_dask.clustering import distance
from deepfinder_dask.clustering.nearest_voxel import DistanceJob, distances_to
from deepfinder_dask.errors import InputError, OutputExistsError, SettingsError
from deepfinder_dask.execution import SerialExecutor, open_executor
from deepfinder_dask.particles import (
    ParticleClass,
    Particles,
    TomogramFacts,
    classes_to_dicts,
    export,
    import_particles,
)
from deepfinder_dask.tomograms import create_group, create_image, finish_group, finish_image
from deepfinder_dask.tomograms.boxes import ArraySource

CLASSES = (
    ParticleClass("ribosome", 1, radius=120.0),
    ParticleClass("membrane", 2, kind="structure"),
    ParticleClass("proteasome", 3),
)


def measured(labels, positions, voxel_size, core, **options):
    """Distances to label 2."""
    job = DistanceJob(ArraySource(labels), 2, voxel_size)
    return distances_to(job, positions, BlockGrid(labels.shape, core), SerialExecutor(), **options)


@given(
    st.tuples(*[st.integers(1, 40)] * 3),
    st.sampled_from([0.0003, 0.01, 0.3]),
    st.tuples(*[st.floats(2.0, 30.0)] * 3),
    st.integers(0, 99),
    st.data(),
)
@settings(max_examples=40)
def test_as_a_tree_of_all_voxels(shape, density, voxel_size, seed, data) -> None:
    """Sub-voxel positions, inside and outside of the volume; every float is that of SciPy's tree."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2], shape, p=[0.5, 0.5 - density, density]).astype(np.uint8)
    positions = rng.uniform(-10, np.array(shape) + 10, (60, 3)) * voxel_size
    core = data.draw(st.tuples(*[st.integers(4, 45)] * 3))
    found = measured(labels, positions, voxel_size, core)
    voxels = np.argwhere(labels == 2)
    if not len(voxels):
        assert np.isnan(found).all()
        return
    expected = KDTree(voxels * voxel_size).query(positions)[0]
    np.testing.assert_array_equal(found, expected)
    limit = float(np.median(expected))
    near = measured(labels, positions, voxel_size, core, maximum=limit)
    np.testing.assert_array_equal(near, np.where(expected <= limit, expected, np.nan))


@pytest.mark.parametrize("voxel_size", [(10.0, 10.0, 10.0), (13.68, 13.68, 13.68), (10.0, 12.5, 20.0)])
def test_as_the_distance_transform(voxel_size) -> None:
    """At the centres of voxels: bit for bit where index times voxel size is exact, else to the last digits."""
    shape = (33, 47, 40)
    labels = (np.random.default_rng(2).random(shape) < 0.002).astype(np.uint8) * 2
    expected = ndimage.distance_transform_edt(labels != 2, sampling=voxel_size)
    voxels = np.argwhere(np.ones(shape))[::11]
    found = measured(labels, voxels * np.array(voxel_size), voxel_size, (16, 20, 24))
    if 13.68 in voxel_size:
        np.testing.assert_allclose(found, expected[tuple(voxels.T)], rtol=1e-12, atol=1e-10)
    else:
        np.testing.assert_array_equal(found, expected[tuple(voxels.T)])


class Watched(SerialExecutor):
    """Says what was asked of it."""

    def __init__(self) -> None:
        self.items = []

    def run(self, function, items, **options):
        items = list(items)
        self.items.append(items)
        return super().run(function, items, **options)


def test_only_what_may_hold_the_nearest_voxel_is_measured() -> None:
    """The second pass reads few blocks; with a maximum the first one too."""
    labels = np.zeros((40, 200, 200), np.uint8)
    labels[:, 100:103] = 2
    positions = np.array([[200.0, 500.0, 250.0], [200.0, 1500.0, 1000.0]])
    job, grid = DistanceJob(ArraySource(labels), 2, (10.0,) * 3), BlockGrid(labels.shape, (40, 20, 20))
    executor = Watched()
    np.testing.assert_array_equal(distances_to(job, positions, grid, executor), [500.0, 480.0])
    assert len(executor.items[0]) == len(grid) == 100
    assert len(executor.items[1]) < 8
    assert sum(len(search.tile) for search in executor.items[1]) < 40
    executor = Watched()
    np.testing.assert_array_equal(distances_to(job, positions, grid, executor, maximum=490.0), [np.nan, 480.0])
    assert 0 < len(executor.items[0]) < len(grid)


def write_segmentation(path, labels, voxel_size, name, classes=CLASSES):
    create_group(path, kind="segmentation")
    volume = create_image(
        f"{path}/labels", shape=labels.shape, dtype="uint8", voxel_size=voxel_size, chunk=16, shard=(32, 32, 32)
    )
    for block in BlockGrid(labels.shape, (32, 32, 32)):
        volume.write(block.write, np.ascontiguousarray(labels[block.write.slices()]))
    finish_image(f"{path}/labels", method="mode", label_colours={1: "#ff0000"})
    finish_group(path, {"tomogram": name, "classes": classes_to_dicts(classes)})
    return str(path)


def scene(seed, name, voxel_size):
    """A curved membrane, and particles at random."""
    shape = (40, 60, 70)
    z, y, x = np.indices(shape)
    labels = (np.abs(y - 25 - 6 * np.sin(x / 9) - z / 8) < 1.5).astype(np.uint8) * 2
    rng = np.random.default_rng(seed)
    particles = Particles.from_voxels(
        rng.uniform(0, np.array(shape) - 1, (50, 3)),
        tomogram=name,
        facts=TomogramFacts(voxel_size, shape),
        labels=rng.choice([1, 3], 50),
        classes=[CLASSES[0], CLASSES[2]],
    )
    tree = KDTree(np.argwhere(labels == 2) * np.array(voxel_size))
    return labels, particles, tree.query(particles.positions())[0]


@pytest.fixture(scope="module")
def tomograms(tmp_path_factory):
    """Two tomograms of different voxel sizes: segmentations, particles of both, distances."""
    folder = tmp_path_factory.mktemp("distance")
    scenes = [scene(1, "TS_1", (10.0, 10.0, 10.0)), scene(2, "TS_2", (13.68, 12.5, 15.0))]
    paths = [
        write_segmentation(folder / f"{n}.zarr", labels, particles.voxel_size(f"TS_{n}"), f"TS_{n}")
        for n, (labels, particles, _) in enumerate(scenes, 1)
    ]
    table = Particles.concat([particles for _, particles, _ in scenes])
    mixed = np.random.default_rng(3).permutation(len(table))
    table = table.with_table(table.table.iloc[mixed].reset_index(drop=True))
    return paths, table, np.concatenate([found for _, _, found in scenes])[mixed]


def column(particles):
    return particles.table["distance_membrane"].to_numpy(dtype=float)


def test_many_tomograms_and_the_filter(tomograms, tmp_path) -> None:
    """One column for all, in the order of the table; within and beyond part the table in two."""
    paths, table, expected = tomograms
    found = distance(table, paths[::-1], block=(16, 20, 24))
    np.testing.assert_array_equal(column(found), expected)
    pd.testing.assert_frame_equal(found.table.drop(columns="distance_membrane"), table.table)
    near = distance(table, paths, tmp_path / "near.parquet", structure="membrane", within=120.0)
    far = distance(found, paths, structure="2", beyond=120.0, maximum=200.0)
    np.testing.assert_array_equal(column(near), expected[expected <= 120.0])
    kept = expected[expected > 120.0]
    np.testing.assert_array_equal(column(far), np.where(kept <= 200.0, kept, np.nan))
    assert len(near) + len(far) == len(table)
    pd.testing.assert_frame_equal(Particles.read(tmp_path / "near.parquet").table, near.table, check_exact=True)


def test_workers_change_nothing(tomograms) -> None:
    paths, table, expected = tomograms
    with open_executor(2) as executor:
        found = distance(table, paths, block=(16, 20, 24), executor=executor)
    np.testing.assert_array_equal(column(found), expected)


def test_files_keep_the_distances(tomograms, tmp_path) -> None:
    paths, table, _ = tomograms
    found = distance(table, paths, maximum=150.0)
    for name in ("p.parquet", "p.csv"):
        export(found, tmp_path / name)
        back = import_particles(tmp_path / name)
        np.testing.assert_array_equal(column(back), column(found))
        assert back.table["distance_membrane"].dtype == np.float64


def test_on_the_command_line(tomograms, tmp_path, capsys) -> None:
    paths, table, expected = tomograms
    table.write(tmp_path / "all.parquet")
    words = ["distance", str(tmp_path / "all.parquet"), "-o", str(tmp_path / "bound.parquet"), "--within", "120"]
    assert main([*words, "--segmentation", *paths, "--structure", "membrane"]) == 0
    bound = Particles.read(tmp_path / "bound.parquet")
    np.testing.assert_array_equal(column(bound), expected[expected <= 120])
    assert (tmp_path / "bound.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert f"measured 100 particles to membrane, kept {len(bound)} particles" in said
    assert main([*words, "--segmentation", *paths]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_label_map_that_names_nothing(tomograms, tmp_path) -> None:
    """A plain array of labels: the label says what is meant, and the table knows the voxel size."""
    labels, particles, expected = scene(1, "any", (10.0, 10.0, 10.0))
    zarr.create_array(tmp_path / "membrane.zarr", data=labels, chunks=(32, 32, 32))
    found = distance(particles, tmp_path / "membrane.zarr", structure="2")
    np.testing.assert_array_equal(found.table["distance_class_2"], expected)
    nothing = distance(particles, tmp_path / "membrane.zarr", structure="7", beyond=50.0)
    assert nothing.table["distance_class_7"].isna().all()
    assert len(nothing) == len(particles)
    none = distance(particles.where(np.zeros(len(particles), bool)), tmp_path / "membrane.zarr", structure="2")
    assert len(none) == 0
    with pytest.raises(SettingsError, match="does not name its labels"):
        distance(particles, tmp_path / "membrane.zarr", structure="membrane")
    with pytest.raises(SettingsError, match="0 classes of kind structure"):
        distance(particles, tmp_path / "membrane.zarr")


def test_refusals(tomograms, tmp_path) -> None:
    paths, table, _ = tomograms
    with pytest.raises(InputError, match=r"no segmentation of tomogram 'TS_2' \(1 of 2"):
        distance(table, paths[0])
    with pytest.raises(InputError, match="both of tomogram 'TS_1'"):
        distance(table, [paths[0], paths[0]])
    with pytest.raises(SettingsError, match=r"no structure 'actin'.*ribosome \(1\), membrane \(2\)"):
        distance(table, paths, structure="actin")
    for options in ({"within": -1.0}, {"beyond": 10.0, "within": 5.0}, {"within": 300.0, "maximum": 200.0}):
        with pytest.raises(SettingsError):
            distance(table, paths, **options)
    table.write(tmp_path / "p.parquet")
    with pytest.raises(OutputExistsError):
        distance(table, paths, tmp_path / "p.parquet")
