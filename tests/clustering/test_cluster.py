"""The verb with connected components: segmentations, label maps of other programs, settings, errors."""

from __future__ import annotations

import bz2
import gzip
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import zarr
from scipy import ndimage

from deepfinder_dask.blocks import Box
from deepfinder_dask.clustering import ClusterSettings
from deepfinder_dask.clustering import cluster as cluster_by_any_method
from deepfinder_dask.clustering.planning import plan_blocks, projected_bytes
from deepfinder_dask.clustering.sources import open_label_map
from deepfinder_dask.errors import (
    FormatError,
    GeometryError,
    InputError,
    OutputExistsError,
    SettingsError,
    VoxelSizeError,
)
from deepfinder_dask.particles import ParticleClass, Particles, classes_to_dicts, write_classes
from deepfinder_dask.tomograms import create_group, create_image, finish_group, finish_image, open_image

VOXEL = (10.0, 11.0, 12.0)
CLASSES = (
    ParticleClass("ribosome", 1, radius=120.0),
    ParticleClass("membrane", 2, kind="structure"),
    ParticleClass("proteasome", 5),
)


def cluster(*places, method="components", **options):
    """Components, unless a test says otherwise."""
    return cluster_by_any_method(*places, method=method, **options)


def balls(shape=(40, 48, 56), seed=0):
    """Balls of the three classes, some touching, and a probability volume of noise."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    index = np.indices(shape).reshape(3, -1).T
    for _ in range(25):
        centre, radius = rng.uniform(0, shape), rng.uniform(1.5, 6)
        inside = ((index - centre) ** 2).sum(1) <= radius**2
        labels.ravel()[inside] = rng.choice([1, 2, 5])
    return labels, rng.integers(100, 256, shape, dtype=np.uint8)


def write_image(path, values, **options):
    volume = create_image(path, shape=values.shape, dtype=values.dtype, voxel_size=VOXEL, chunk=16, shard=(32, 32, 32))
    unit = volume.write_unit
    for start in np.ndindex(*(-(-n // u) for n, u in zip(values.shape, unit, strict=True))):
        corner = tuple(i * u for i, u in zip(start, unit, strict=True))
        box = Box(corner, tuple(a + u for a, u in zip(corner, unit, strict=True))).clip(values.shape)
        volume.write(box, np.ascontiguousarray(values[box.slices()]))
    finish_image(path, **options)


def write_segmentation(path, labels, probability=None, classes=CLASSES, *, finished=True):
    create_group(path, kind="segmentation")
    write_image(f"{path}/labels", labels, method="mode", label_colours={1: "#ff0000"})
    if probability is not None:
        write_image(f"{path}/probability", probability)
    if finished:
        finish_group(path, {"tomogram": "TS_01", "classes": classes_to_dicts(classes)})
    return path


def write_mrc(path, values, voxel_size=10.0):
    with mrcfile.new(path) as file:
        file.set_data(values)
        file.voxel_size = voxel_size
    return path


def expected(labels, probability, connectivity=1):
    """(class, z, y, x [Å], size, score) by the plain way, pooled over the particle classes."""
    mask = np.isin(labels, [1, 5])
    numbers, n = ndimage.label(mask, ndimage.generate_binary_structure(3, connectivity))
    rows = []
    for k in range(1, n + 1):
        voxels = np.argwhere(numbers == k)
        inside = labels[tuple(voxels.T)]
        label = 1 if (inside == 1).sum() >= (inside == 5).sum() else 5
        own = probability[tuple(voxels[inside == label].T)].astype(np.int64)
        rows.append((label, *(voxels.sum(0) / len(voxels) * VOXEL), len(voxels), own.sum() / (255 * len(own))))
    return rows


@pytest.fixture(scope="module")
def volumes():
    return balls()


@pytest.fixture(scope="module")
def segmentation(volumes, tmp_path_factory):
    return str(write_segmentation(str(tmp_path_factory.mktemp("seg") / "seg.zarr"), *volumes))


def rows_of(particles):
    table = particles.table
    return list(
        zip(table["label"], table["z"], table["y"], table["x"], table["size_voxels"], table["score"], strict=True)
    )


@pytest.mark.parametrize("block", [None, (12, 16, 20), (4, 48, 8), (400, 400, 400)])
def test_a_segmentation_becomes_a_table(segmentation, volumes, tmp_path, block):
    output = tmp_path / "out" / "particles.parquet"
    found = cluster(segmentation, output, block=block)
    assert rows_of(found) == expected(*volumes)  # exact: floats too
    assert [one.name for one in found.classes] == ["ribosome", "proteasome"]
    assert found.classes[0].radius == 120.0
    assert set(found.table["tomogram"]) == {"TS_01"}
    assert found.tomograms["TS_01"].voxel_size == VOXEL
    assert found.tomograms["TS_01"].shape == volumes[0].shape
    assert Particles.read(output).table.equals(found.table)


def test_two_workers_write_the_same_bytes_as_one_process(segmentation, volumes, tmp_path):
    alone, together = tmp_path / "alone.parquet", tmp_path / "together.parquet"
    cluster(segmentation, alone, block=(400, 400, 400), connectivity=26)
    found = cluster(segmentation, together, block=(12, 16, 20), connectivity=26, workers=2)
    assert rows_of(found) == expected(*volumes, connectivity=3)
    assert alone.read_bytes() == together.read_bytes()


def test_without_probabilities_scores_are_unknown(volumes, tmp_path):
    path = write_segmentation(str(tmp_path / "seg.zarr"), volumes[0])
    found = cluster(path)
    assert len(found) > 5
    assert found.table["score"].isna().all()


def test_sizes_of_classes_and_of_the_settings(tmp_path):
    labels = np.zeros((8, 8, 32), np.uint8)
    labels[1, 1, 1:11] = 1  # 10 voxels across three blocks
    labels[1, 3, 1:5] = 1
    labels[1, 5, 1:11] = 5
    labels[1, 7, 1:3] = 5
    classes = (replace(CLASSES[0], min_size=5, max_size=12), CLASSES[1], replace(CLASSES[2], max_size=9))
    path = write_segmentation(str(tmp_path / "seg.zarr"), labels, classes=classes)
    for block in [None, (4, 4, 4)]:
        assert cluster(path, block=block).table["size_voxels"].tolist() == [10, 2]
        assert cluster(path, block=block, min_size=0).table["size_voxels"].tolist() == [10, 4, 2]
        assert cluster(path, block=block, min_size=3).table["size_voxels"].tolist() == [10, 4]
        assert cluster(path, block=block, min_size={"proteasome": 3}).table["size_voxels"].tolist() == [10]
        assert cluster(path, block=block, max_size={"ribosome": 9}).table["size_voxels"].tolist() == [2]
        assert cluster(path, block=block, max_size=10).table["size_voxels"].tolist() == [10, 10, 2]
    with pytest.raises(SettingsError, match="above the max_size 9 of class 'proteasome'"):
        cluster(path, min_size=10)
    plain = write_segmentation(str(tmp_path / "plain.zarr"), labels)
    assert cluster(plain, block=(4, 4, 4)).table["size_voxels"].tolist() == [10, 4, 10, 2]
    bare = str(tmp_path / "bare.zarr")
    write_image(bare, labels)
    assert cluster(bare, min_size={"class_1": 5}, max_size={"class_5": 9}).table["size_voxels"].tolist() == [10, 2]


def test_per_class_keeps_touching_classes_apart(tmp_path):
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2, 2, 1:4], labels[2, 2, 4:8] = 5, 1
    path = write_segmentation(str(tmp_path / "seg.zarr"), labels)
    assert cluster(path, block=(4, 4, 4)).table["class"].tolist() == ["ribosome"]
    apart = cluster(path, block=(4, 4, 4), per_class=True)
    assert apart.table["class"].tolist() == ["proteasome", "ribosome"]
    assert apart.table["size_voxels"].tolist() == [3, 4]


def test_an_empty_label_map_gives_an_empty_table(tmp_path):
    path = write_segmentation(str(tmp_path / "seg.zarr"), np.full((8, 8, 8), 2, np.uint8))  # membrane only
    output = tmp_path / "none.parquet"
    assert len(cluster(path, output)) == 0
    back = Particles.read(output)
    assert len(back) == 0
    assert list(back.tomograms) == ["TS_01"]


def test_label_maps_of_other_programs(volumes, tmp_path):
    labels = np.where(volumes[0] == 2, 0, volumes[0])
    reference = [(row[0], row[4]) for row in expected(*volumes)]
    write_image(str(tmp_path / "image.zarr"), labels)
    zarr.save_array(tmp_path / "plain.zarr", labels.astype(np.int64), zarr_format=2)
    group = zarr.open_group(tmp_path / "bare.zarr", mode="w")
    group.create_array("labels/0", data=labels, chunks=(16, 20, 24))
    write_mrc(tmp_path / "bytes.mrc", labels.astype(np.int8))
    write_mrc(tmp_path / "floats.mrc", labels.astype(np.float32))
    (tmp_path / "packed.mrc.gz").write_bytes(gzip.compress((tmp_path / "bytes.mrc").read_bytes()))
    (tmp_path / "packed.mrc.bz2").write_bytes(bz2.compress((tmp_path / "bytes.mrc").read_bytes()))
    for name, options in {
        "image.zarr": {},
        "image.zarr/0": {"voxel_size": 10.0},
        "plain.zarr": {"voxel_size": 10.0},
        "bare.zarr": {"voxel_size": (10.0, 10.0, 10.0)},
        "bytes.mrc": {},
        "floats.mrc": {},
        "packed.mrc.gz": {},
        "packed.mrc.bz2": {},
    }.items():
        found = cluster(tmp_path / name, block=(12, 16, 20), **options)
        assert list(zip(found.table["label"], found.table["size_voxels"], strict=True)) == reference, name
        assert [one.name for one in found.classes] == ["class_1", "class_5"]
        assert found.table["score"].isna().all()
        assert found.tomograms[next(iter(found.tomograms))].shape == labels.shape
    assert not list(tmp_path.glob("*.partial"))


def test_files_travel_to_workers(volumes, tmp_path):
    labels = volumes[0].astype(np.int8)
    write_mrc(tmp_path / "labels.mrc", labels)
    (tmp_path / "labels.mrc.gz").write_bytes(gzip.compress((tmp_path / "labels.mrc").read_bytes()))
    box = Box((3, 5, 7), (9, 48, 50))
    with open_label_map(tmp_path / "labels.mrc.gz", tmp_path) as source:
        elsewhere = pickle.loads(pickle.dumps(source.labels))  # noqa: S301  # our own object, as Dask sends it
        np.testing.assert_array_equal(elsewhere.read(box), labels[box.slices()])
        assert str(elsewhere) == str(tmp_path / "labels.mrc.gz")


def test_classes_voxel_size_and_name_can_be_given(volumes, tmp_path):
    path = write_mrc(tmp_path / "TS_7.rec", volumes[0].astype(np.int8), voxel_size=0.0)
    write_classes(CLASSES, tmp_path / "classes.toml")
    with pytest.raises(VoxelSizeError, match="does not say its voxel size: give it with --voxel-size"):
        cluster(path)
    found = cluster(path, voxel_size=VOXEL, classes=str(tmp_path / "classes.toml"))
    assert [row[:5] for row in rows_of(found)] == [row[:5] for row in expected(*volumes)]
    assert set(found.table["tomogram"]) == {"TS_7"}
    named = cluster(path, voxel_size=VOXEL, classes=str(tmp_path / "classes.toml"), tomogram="grid1/7")
    assert set(named.table["tomogram"]) == {"grid1/7"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_membranes_come_out_as_scipy_labels_them(data_dir, tmp_path):
    # Three hand-made membrane maps of the paper's own size, with holes, loops and contacts between sheets.
    with zipfile.ZipFile(data_dir / "real" / "thylakoid_membranes" / "membranes.zip") as archive:
        names = [n for n in archive.namelist() if n.endswith(".mrc") and "__MACOSX" not in n]
        assert len(names) == 3
        for name in names:
            path = archive.extract(name, tmp_path)
            options = {"voxel_size": 13.68, "block": (128, 256, 256), "connectivity": 26}
            found = cluster(path, instances=str(tmp_path / "instances.zarr"), overwrite=True, **options)
            with open_label_map(path, tmp_path) as source:
                labels = source.labels.read(Box.whole(source.shape))
            start = [int(np.flatnonzero(labels.any(axis=axes))[0]) for axes in [(1, 2), (0, 2), (0, 1)]]
            labels = labels[start[0] :, start[1] :, start[2] :]  # scipy takes minutes over what is empty
            numbers, n = ndimage.label(labels, np.ones((3, 3, 3)))
            voxels = np.nonzero(numbers)
            owner = numbers[voxels]
            sizes = np.bincount(owner)[1:]
            assert found.table["size_voxels"].tolist() == sizes.tolist()
            assert len(found) == n > 0
            for axis, index, first in zip("zyx", voxels, start, strict=True):
                total = np.bincount(owner, weights=index + first)[1:]  # exact: far below 2**53
                np.testing.assert_array_equal(found.table[axis], total / sizes * 13.68)
            painted = open_image(str(tmp_path / "instances.zarr")).levels[0]
            for z in range(0, painted.shape[0], 32):  # every voxel, band by band
                band = painted.read(Box((z, 0, 0), (min(z + 32, painted.shape[0]), *painted.shape[1:])))
                expected = np.zeros(band.shape, np.uint32)
                part = numbers[max(0, z - start[0]) : max(0, z + len(band) - start[0])]
                if len(part):
                    expected[len(band) - len(part) :, start[1] :, start[2] :] = part
                np.testing.assert_array_equal(band, expected)
            del labels, numbers, voxels, owner
            (tmp_path / name).unlink()


def one_line(error, *parts):
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


def test_bad_inputs_are_one_clear_line(volumes, tmp_path):
    labels, probability = volumes
    with pytest.raises(InputError) as error:
        cluster(tmp_path / "nothing.zarr")
    one_line(error, "no such label map", "nothing.zarr")

    path = write_segmentation(str(tmp_path / "half.zarr"), labels, finished=False)
    with pytest.raises(FormatError) as error:
        cluster(path)
    one_line(error, "half.zarr was never finished")

    path = write_segmentation(str(tmp_path / "misfit.zarr"), labels, probability[:, :, :-4].copy())
    with pytest.raises(GeometryError) as error:
        cluster(path)
    one_line(error, "(40, 48, 56)", "(40, 48, 52)")

    path = write_segmentation(str(tmp_path / "floats.zarr"), labels, (probability / 255).astype(np.float32))
    with pytest.raises(FormatError) as error:
        cluster(path)
    one_line(error, "expected uint8 in the probability volume", "float32")

    path = write_segmentation(str(tmp_path / "unknown.zarr"), labels, classes=CLASSES[:2])
    with pytest.raises(FormatError) as error:
        cluster(path)
    one_line(error, "label 5 in", "none of the classes", "[1, 2]", "--classes")

    grey = write_mrc(tmp_path / "grey.mrc", np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32))
    with pytest.raises(FormatError) as error:
        cluster(grey)
    one_line(error, "expected a label map in", "grey.mrc", "segment the tomogram first")

    write_image(str(tmp_path / "scores.zarr"), np.zeros((8, 8, 8), np.float32) + 0.25)
    with pytest.raises(FormatError) as error:
        cluster(str(tmp_path / "scores.zarr"))
    one_line(error, "found the value 0.25")

    (tmp_path / "packed.mrc.gz").write_bytes(gzip.compress((tmp_path / "grey.mrc").read_bytes()[:-100]))
    with pytest.raises(FormatError) as error:
        cluster(tmp_path / "packed.mrc.gz")
    one_line(error, "packed.mrc.gz is truncated")
    assert ".unpacking" not in str(error.value)

    empty = zarr.open_group(tmp_path / "empty.zarr", mode="w")
    empty.create_array("scores", data=np.zeros((2, 4, 4, 4), np.float32))
    with pytest.raises(FormatError) as error:
        cluster(tmp_path / "empty.zarr")
    one_line(error, "expected an OME-Zarr image")
    with pytest.raises(FormatError) as error:
        cluster(tmp_path / "empty.zarr" / "scores", voxel_size=10.0)
    one_line(error, "expected a label map (z, y, x)", "(2, 4, 4, 4)")


def test_an_output_is_never_replaced_unasked(segmentation, tmp_path):
    output = tmp_path / "particles.parquet"
    cluster(segmentation, output)
    before = output.stat().st_mtime_ns
    with pytest.raises(OutputExistsError, match="exists already"):
        cluster(segmentation, output)
    assert output.stat().st_mtime_ns == before
    cluster(segmentation, output, min_size=10**6, overwrite=True)
    assert len(Particles.read(output)) == 0
    with pytest.raises(SettingsError, match="particles are written as Parquet"):
        cluster(segmentation, tmp_path / "particles.csv")
    with pytest.raises(SettingsError, match="local file"):
        cluster(segmentation, "s3://bucket/particles.parquet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "watershed"}, "expected method components or mean-shift, got 'watershed'"),
        ({"bandwidth": 5}, "bandwidth belongs to mean-shift, found method 'components'"),
        ({"bandwidth_angstrom": 50.0}, "bandwidth_angstrom belongs to mean-shift"),
        ({"method": "mean-shift", "bandwidth": 0}, "bandwidth is a length above 0, got 0"),
        ({"method": "mean-shift", "bandwidth": True}, "bandwidth is a length above 0, got True"),
        ({"method": "mean-shift", "bandwidth": 5, "bandwidth_angstrom": 50.0}, "either in voxels or in Å"),
        ({"method": "mean-shift", "position": "middle"}, "expected position mode or centroid, got 'middle'"),
        ({"method": "mean-shift", "connectivity": 6}, "connectivity belongs to components, found method 'mean-shift'"),
        ({"method": None, "connectivity": 6, "bandwidth": 5}, "bandwidth belongs to mean-shift, found a connectivity"),
        ({"connectivity": 4}, "expected connectivity 6, 18 or 26, got 4"),
        ({"min_size": -1}, "min_size is a number of voxels"),
        ({"min_size": 2.5}, "min_size is a number of voxels"),
        (
            {"min_size": {"ribosome": -1}},
            "min_size is a number of voxels, 0 or more, or one for each class by its name",
        ),
        ({"min_size": {1: 5}}, "min_size is a number of voxels, 0 or more, or one for each class by its name"),
        ({"max_size": True}, "max_size is a number of voxels"),
        (
            {"max_size": {"membrane": 5}},
            "max_size names 'membrane', which is none of the classes: ribosome, proteasome",
        ),
        ({"min_size": 5, "max_size": {"proteasome": 4}}, "min_size 5 is above the max_size 4 of class 'proteasome'"),
        ({"min_distance": "1 mile"}, "min_distance is a length above 0"),
        ({"min_distance": "1r"}, "class 'proteasome' has none: give radii in a file of classes"),
        ({"block": (10, 16, 16)}, "three positive multiples of 4 voxels"),
        ({"block": (16, 16)}, "three positive multiples of 4 voxels"),
        ({"block": "16"}, "three positive multiples of 4 voxels"),
        ({"memory": 0}, "positive number of bytes"),
        ({"conectivity": 6}, "did you mean 'connectivity'"),
        ({"workers": 0}, "at least 1 worker"),
        ({"workers": 2, "scheduler": "tcp://here:1"}, "not both"),
        ({"memory": 300 * 2**20}, "needs 32[0-9] MiB, allowed are 300: use a smaller block, or at least --memory"),
    ],
)
def test_settings_that_cannot_work(segmentation, options, message):
    with pytest.raises(SettingsError, match=message) as error:
        cluster(segmentation, **options)
    one_line(error)


def test_one_number_is_a_cube():
    assert ClusterSettings(block=64).block == (64, 64, 64)  # type: ignore[arg-type]
    assert ClusterSettings(block=[8, 12, 16]).block == (8, 12, 16)  # type: ignore[arg-type]


def test_blocks_are_whole_shards_that_fit_the_memory():
    shape, shard = (464, 928, 928), (128, 256, 256)
    grid = plan_blocks(shape, shard, 1, block=None, memory=None)
    assert all(c % s == 0 or c == n for c, s, n in zip(grid.core, shard, shape, strict=True))
    assert 2**24 < np.prod(grid.core) <= 2**25
    small = plan_blocks(shape, shard, 1, block=None, memory=400 * 2**20)
    assert projected_bytes(int(np.prod(small.core)), 1) <= 400 * 2**20
    assert plan_blocks((30, 40, 50), shard, 1, block=None, memory=None).core == (30, 40, 50)
    planes = plan_blocks((1000, 4096, 4096), (1, 4096, 4096), 1, block=None, memory=None)
    assert planes.core == (2, 4096, 4096)
    huge = plan_blocks((1000, 30000, 30000), (1, 30000, 30000), 1, block=None, memory=None)
    assert np.prod(huge.core) <= 2**25
    with pytest.raises(SettingsError, match=r"a block of 464×928×928 voxels needs 3\d+ MiB, allowed are 1024"):
        plan_blocks(shape, shard, 1, block=(500, 1000, 1000), memory=2**30)
    with pytest.raises(SettingsError, match="at most 4294967295 voxels"):
        plan_blocks((2000, 4000, 4000), shard, 1, block=(2000, 4000, 4000), memory=None)


def test_the_settings_are_light():
    code = (
        "import sys, deepfinder_dask.clustering.settings, deepfinder_dask.clustering as c; c.ClusterSettings();"
        "print([m for m in ('torch', 'dask', 'zarr', 'pandas', 'numpy', 'scipy', 'cc3d') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_bar_is_shown_only_when_asked_for(segmentation, capsys):
    cluster(segmentation, progress=False)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
