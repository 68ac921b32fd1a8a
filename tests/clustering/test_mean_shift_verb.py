"""The verb with mean-shift: bandwidths from classes, positions, sizes, structures, bytes of the table."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.cluster import MeanShift

from deepfinder_dask.blocks import Box
from deepfinder_dask.clustering import ClusterSettings, cluster
from deepfinder_dask.clustering.bandwidths import groups_of
from deepfinder_dask.clustering.planning import plan_shift_blocks
from deepfinder_dask.clustering.shift_job import Group
from deepfinder_dask.errors import FormatError, SettingsError
from deepfinder_dask.particles import ParticleClass, Particles, classes_to_dicts
from deepfinder_dask.tomograms import create_group, create_image, finish_group, finish_image

VOXEL = 10.0
CLASSES = (
    ParticleClass("ribosome", 1, radius=50.0),
    ParticleClass("membrane", 2, kind="structure"),
    ParticleClass("proteasome", 5, radius=40.0),
)


def balls():
    """Touching balls of two classes, a membrane through them, and probabilities."""
    rng = np.random.default_rng(4)
    labels = np.zeros((32, 40, 48), np.uint8)
    index = np.ogrid[0:32, 0:40, 0:48]
    for n in range(14):
        centre, radius = rng.integers(4, (28, 36, 44)), rng.integers(3, 6)
        labels[sum((i - c) ** 2 for i, c in zip(index, centre, strict=True)) <= radius**2] = (1, 5)[n % 2]
    labels[15:17] = 2
    return labels, rng.integers(100, 256, labels.shape, dtype=np.uint8)


def write_image(path, values, **options):
    volume = create_image(path, shape=values.shape, dtype=values.dtype, voxel_size=VOXEL, chunk=16, shard=(32, 32, 32))
    for corner in np.ndindex(*(-(-n // u) for n, u in zip(values.shape, volume.write_unit, strict=True))):
        start = tuple(i * u for i, u in zip(corner, volume.write_unit, strict=True))
        box = Box(start, tuple(a + u for a, u in zip(start, volume.write_unit, strict=True))).clip(values.shape)
        volume.write(box, np.ascontiguousarray(values[box.slices()]))
    finish_image(path, **options)


def write_segmentation(path, labels, probability=None, classes=CLASSES):
    create_group(path, kind="segmentation")
    write_image(f"{path}/labels", labels, method="mode", label_colours={1: "#ff0000"})
    if probability is not None:
        write_image(f"{path}/probability", probability)
    finish_group(path, {"tomogram": "TS_01", "classes": classes_to_dicts(classes)})
    return path


@pytest.fixture(scope="module")
def volumes():
    return balls()


@pytest.fixture(scope="module")
def segmentation(volumes, tmp_path_factory):
    return write_segmentation(str(tmp_path_factory.mktemp("seg") / "seg.zarr"), *volumes)


def expected(labels, probability, chosen, bandwidth, *, centroid=False):
    """(label, z, y, x [Å], size, score) by scikit-learn."""
    voxels = np.argwhere(np.isin(labels, chosen))
    found = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(voxels)
    rows = []
    for n, centre in enumerate(found.cluster_centers_):
        own = voxels[found.labels_ == n]
        inside = labels[tuple(own.T)]
        label = int(np.bincount(inside).argmax())
        weights = probability[tuple(own[inside == label].T)].astype(np.int64)
        place = own.sum(axis=0) / len(own) if centroid else centre
        rows.append((label, *(place * VOXEL), len(own), weights.sum() / (255 * len(weights))))
    return rows


def rows_of(particles):
    table = particles.table
    return list(
        zip(table["label"], table["z"], table["y"], table["x"], table["size_voxels"], table["score"], strict=True)
    )


@pytest.mark.parametrize("block", [None, (12, 16, 20)])
def test_pooled_classes_come_out_as_scikit_learn_finds_them(segmentation, volumes, tmp_path, block):
    output = tmp_path / "particles.parquet"
    found = cluster(segmentation, output, method="mean-shift", bandwidth=4, block=block)
    assert rows_of(found) == expected(*volumes, [1, 5], 4)  # exact: floats too
    assert [one.name for one in found.classes] == ["ribosome", "proteasome"]
    assert Particles.read(output).table.equals(found.table)


def test_the_bandwidth_comes_from_radii_that_agree(segmentation, volumes):
    found = cluster(segmentation, method="mean-shift")
    assert rows_of(found) == expected(*volumes, [1, 5], 1.25 * 4.5)
    assert rows_of(cluster(segmentation, method="mean-shift", bandwidth_angstrom=56.25)) == rows_of(found)


def test_the_centroid_can_be_had_instead_of_the_mode(segmentation, volumes):
    found = cluster(segmentation, method="mean-shift", bandwidth=4, position="centroid")
    assert rows_of(found) == expected(*volumes, [1, 5], 4, centroid=True)
    assert rows_of(found) != expected(*volumes, [1, 5], 4)


def test_classes_of_other_sizes_are_clustered_one_by_one(volumes, tmp_path):
    classes = (ParticleClass("ribosome", 1, radius=50.0), CLASSES[1], ParticleClass("proteasome", 5, radius=30.0))
    path = write_segmentation(str(tmp_path / "seg.zarr"), *volumes, classes=classes)
    apart = expected(*volumes, [1], 1.25 * 5) + expected(*volumes, [5], 1.25 * 3)
    for block in [None, (12, 16, 20)]:
        assert rows_of(cluster(path, method="mean-shift", block=block)) == apart
    assert rows_of(cluster(path, method="mean-shift", bandwidth=4)) == expected(*volumes, [1, 5], 4)
    each = expected(*volumes, [1], 4) + expected(*volumes, [5], 4)
    assert rows_of(cluster(path, method="mean-shift", bandwidth=4, per_class=True)) == each


def test_two_workers_write_the_same_bytes_as_one_process(segmentation, tmp_path):
    alone, together = tmp_path / "alone.parquet", tmp_path / "together.parquet"
    cluster(segmentation, alone, method="mean-shift", block=(400, 400, 400))
    cluster(segmentation, together, method="mean-shift", block=(12, 16, 20), workers=2)
    assert alone.read_bytes() == together.read_bytes()


def test_sizes_are_judged_by_class(segmentation, volumes):
    rows = expected(*volumes, [1, 5], 4)
    smallest = sorted(row[4] for row in rows)[len(rows) // 2]
    found = cluster(segmentation, method="mean-shift", bandwidth=4, min_size=smallest)
    assert rows_of(found) == [row for row in rows if row[4] >= smallest]


def test_a_label_map_without_particles_gives_an_empty_table(tmp_path):
    for n, values in enumerate((0, 2)):
        path = write_segmentation(str(tmp_path / f"{n}.zarr"), np.full((8, 8, 8), values, np.uint8))
        output = tmp_path / f"{n}.parquet"
        assert len(cluster(path, output, method="mean-shift")) == 0
        assert list(Particles.read(output).tomograms) == ["TS_01"]


def test_errors_are_one_line_with_the_fix(volumes, tmp_path):
    path = str(tmp_path / "plain.zarr")
    write_image(path, volumes[0])
    with pytest.raises(SettingsError, match=r"no radius is known: give --bandwidth VOXELS, or radii .* \(--classes\)"):
        cluster(path, method="mean-shift")
    assert len(cluster(path, method="mean-shift", bandwidth=5))
    path = write_segmentation(str(tmp_path / "unknown.zarr"), volumes[0], classes=CLASSES[:2])
    with pytest.raises(FormatError, match=r"label 5 in .* none of the classes, whose labels are \[1, 2\]"):
        cluster(path, method="mean-shift")


def test_bandwidths_of_classes():
    def groups(*radii, **options):
        classes = [ParticleClass(f"c{n}", n, radius=r) for n, r in enumerate(radii, 1)]
        settings = ClusterSettings(method="mean-shift", **options)
        return groups_of(classes, (9,), settings, (10.0, 10.0, 10.0), "seg")

    assert groups(100.0, 140.0) == (Group((1, 2), 15.0),)
    assert groups(100.0, 150.0, None) == (Group((1, 2, 3), 15.625),)
    assert groups(100.0, 151.0) == (Group((1,), 12.5), Group((2,), 1.25 * 15.1))
    assert groups(100.0, 140.0, per_class=True) == (Group((1,), 12.5), Group((2,), 17.5))
    assert groups(100.0, 300.0, None, bandwidth=7) == (Group((1, 2, 3), 7.0),)
    assert groups(None, bandwidth_angstrom=70) == (Group((1,), 7.0),)
    assert groups(None, 30.0, bandwidth=7, per_class=True) == (Group((1,), 7.0), Group((2,), 7.0))
    assert groups() == ()
    with pytest.raises(SettingsError, match="class 'c3' has none: give --bandwidth VOXELS"):
        groups(100.0, 300.0, None)
    with pytest.raises(SettingsError, match="no radius is known"):
        groups(None, None)
    any_label = groups_of(None, (9,), ClusterSettings(method="mean-shift", bandwidth=3), (10.0, 12.0, 12.0), "map")
    assert [len(group.labels) for group in any_label] == [253]
    wide = ClusterSettings(method="mean-shift", bandwidth_angstrom=100.0)
    assert groups_of([ParticleClass("a", 1)], (), wide, (5.0, 10.0, 20.0), "map")[0].bandwidth == pytest.approx(10)


def test_blocks_fit_the_memory_with_their_halo():
    shape, unit = (464, 928, 928), (128, 256, 256)
    free = plan_shift_blocks(shape, unit, 1, halo=29, block=None, memory=None)
    assert np.prod(free.core) <= 2**25
    small = plan_shift_blocks(shape, unit, 1, halo=29, block=None, memory=450 * 2**20)
    assert np.prod(small.core) < np.prod(free.core)
    with pytest.raises(SettingsError, match=r"mean-shift reads blocks of .* with 100 voxels around, which needs"):
        plan_shift_blocks(shape, unit, 1, halo=100, block=(64, 64, 64), memory=400 * 2**20)


def test_the_verb_loads_no_compiler_for_components():
    code = (
        "import sys\n"
        "from deepfinder_dask.clustering import cluster\n"
        "print([m for m in ('numba', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
