"""The instance map: every voxel says its particle's row, whatever the blocks; half of one never looks whole."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from deepfinder_dask.blocks import BlockGrid, Box, triple
from deepfinder_dask.campaigns.settings import LocateSettings
from deepfinder_dask.cli import main
from deepfinder_dask.clustering import ClusterSettings, cluster, find_clusters, instances, painting
from deepfinder_dask.errors import FormatError, OutputExistsError, SettingsError, StorageError
from deepfinder_dask.particles import ParticleClass, Particles, classes_to_dicts, write_classes
from deepfinder_dask.tomograms import create_group, create_image, finish_group, finish_image, open_image
from deepfinder_dask.tomograms.pyramid import halve

VOXEL = (10.0, 11.0, 12.0)
CLASSES = (
    ParticleClass("ribosome", 1, radius=40.0, colour="#ff8000"),
    ParticleClass("membrane", 2, kind="structure"),
    ParticleClass("proteasome", 5, radius=45.0, colour="#0080ff"),
)


def balls(shape=(40, 48, 56), seed=0):
    """Balls of the three classes, some touching."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    index = np.indices(shape).reshape(3, -1).T
    for _ in range(25):
        centre, radius = rng.uniform(0, shape), rng.uniform(1.5, 6)
        inside = ((index - centre) ** 2).sum(1) <= radius**2
        labels.ravel()[inside] = rng.choice([1, 2, 5])
    return labels


@pytest.fixture(scope="module")
def labels():
    return balls()


@pytest.fixture
def segmentation(labels, tmp_path):
    path = str(tmp_path / "seg.zarr")
    create_group(path, kind="segmentation")
    volume = create_image(f"{path}/labels", shape=labels.shape, dtype="uint8", voxel_size=VOXEL)
    volume.write(Box.whole(labels.shape), labels)
    finish_image(f"{path}/labels", method="mode", label_colours={1: "#ff0000"})
    finish_group(path, {"tomogram": "TS_01", "classes": classes_to_dicts(CLASSES)})
    return path


def numbered(labels, connectivity=1):
    """What scipy numbers the objects of the two particle classes, taken together."""
    return ndimage.label(np.isin(labels, [1, 5]), ndimage.generate_binary_structure(3, connectivity))[0]


def painted(path):
    """Values of the full resolution."""
    return open_image(path).levels[0].read()


@pytest.mark.parametrize(
    ("block", "connectivity", "workers"),
    [(None, 6, None), ((12, 16, 20), 6, None), ((4, 48, 8), 26, None), ((400, 400, 400), 18, None), ((20,) * 3, 6, 2)],
)
def test_without_filters_it_numbers_as_scipy_does(segmentation, labels, tmp_path, block, connectivity, workers):
    output = tmp_path / "particles.parquet"
    options = {"block": block, "connectivity": connectivity, "workers": workers}
    found = cluster(segmentation, output, instances="auto", **options)
    values = painted(f"{segmentation}/instances")
    assert values.dtype == np.uint32
    np.testing.assert_array_equal(values, numbered(labels, {6: 1, 18: 2, 26: 3}[connectivity]))
    assert found.table["instance"].tolist() == list(range(1, len(found) + 1))
    assert Particles.read(output).table["instance"].dtype == "Int64"


@pytest.mark.parametrize("block", [(400, 400, 400), (12, 16, 20), (8, 8, 8)])
@pytest.mark.parametrize("options", [{"min_size": 60}, {"per_class": True}, {"per_class": True, "min_size": 60}])
def test_a_voxel_says_the_row_of_its_particle_and_dropped_ones_are_background(
    segmentation, labels, tmp_path, block, options
):
    path = str(tmp_path / "instances.zarr")
    options = {"method": "components", **options}
    found = cluster(segmentation, instances=path, block=block, **options)
    values = painted(path)
    assert np.bincount(values.ravel())[1:].tolist() == found.table["size_voxels"].tolist()
    assert not values[~np.isin(labels, [1, 5])].any()
    centres = np.array(ndimage.center_of_mass(values > 0, values, range(1, len(found) + 1)))
    np.testing.assert_allclose(centres * VOXEL, found.positions())
    if "min_size" in options:
        assert len(found) < len(cluster(segmentation, **{**options, "min_size": 0}))
    else:
        for row, label in enumerate(found.table["label"], start=1):
            assert set(labels[values == row]) == {label}


def test_mean_shift_paints_the_clusters_that_scikit_learn_finds(segmentation, labels, tmp_path):
    members = find_clusters(labels, bandwidth=4.0, structures=(2,), members=True).members
    expected = np.zeros(labels.shape, np.int64)
    expected[np.isin(labels, [1, 5])] = members + 1
    for number, block in enumerate([(400, 400, 400), (12, 16, 20)]):
        path = str(tmp_path / f"{number}.zarr")
        found = cluster(segmentation, instances=path, method="mean-shift", bandwidth=4.0, block=block)
        np.testing.assert_array_equal(painted(path), expected)
        assert np.bincount(expected.ravel())[1:].tolist() == found.table["size_voxels"].tolist()


def test_classes_clustered_apart_share_one_numbering(segmentation, labels, tmp_path):
    path = str(tmp_path / "i.zarr")
    options = {"method": "mean-shift", "bandwidth": 4, "per_class": True, "min_size": 30}
    found = cluster(segmentation, instances=path, block=(16, 16, 16), **options)
    values = painted(path)
    whole = cluster(segmentation, **{**options, "min_size": 0})
    assert len(set(found.table["label"])) == 2
    assert 0 < len(found) < len(whole)  # some were dropped
    assert np.bincount(values.ravel())[1:].tolist() == found.table["size_voxels"].tolist()
    for row, label in enumerate(found.table["label"], start=1):
        assert set(labels[values == row]) == {label}
    again = cluster(segmentation, instances=path, overwrite=True, **options)
    np.testing.assert_array_equal(painted(path), values)
    assert again.table.equals(found.table)


def test_voxels_that_two_centres_want_equally_are_painted_as_they_are_counted(tmp_path):
    labels = np.zeros((5, 5, 40), np.uint8)
    labels[1:4, 1:4, 2:38] = 1  # a bar: centres at equal distances, ties in whole planes
    zarr.save_array(tmp_path / "bar.zarr", labels)
    whole = find_clusters(labels, bandwidth=3, members=True)
    for number, block in enumerate([None, (4, 4, 8)]):
        path = str(tmp_path / f"{number}.zarr")
        cluster(tmp_path / "bar.zarr", instances=path, method="mean-shift", bandwidth=3, voxel_size=10.0, block=block)
        np.testing.assert_array_equal(painted(path)[labels > 0], whole.members + 1)


def test_metadata_validates_and_colours_are_those_of_the_classes(tmp_path):
    from ome_zarr_models.v05.image import Image
    from ome_zarr_models.v05.image_label import ImageLabel

    labels = np.zeros((20, 140, 40), np.uint8)
    labels[3:9, 3:9, 3:9], labels[3:9, 120:131, 3:9] = 5, 1
    zarr.save_array(tmp_path / "labels.zarr", labels)
    classes = (ParticleClass("a", 1, colour="#ff8000"), ParticleClass("b", 5, colour="#0080ff"))
    write_classes(classes, tmp_path / "classes.toml")
    path = tmp_path / "i.zarr"
    options = {
        "method": "components",
        "voxel_size": VOXEL,
        "classes": str(tmp_path / "classes.toml"),
        "block": (16, 64, 16),
    }
    cluster(tmp_path / "labels.zarr", instances=str(path), **options)
    ImageLabel.from_zarr(zarr.open_group(path, mode="r"))
    image = Image.from_zarr(zarr.open_group(path, mode="r")).ome_attributes.multiscales[0]
    assert [d.coordinateTransformations[0].scale for d in image.datasets] == [[10, 11, 12], [20, 22, 24]]
    assert image.type == "mode"
    colours = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["image-label"]["colors"]
    assert colours[1:] == [
        {"label-value": 1, "rgba": [0, 128, 255, 255]},
        {"label-value": 2, "rgba": [255, 128, 0, 255]},
    ]
    full, half = (level.read() for level in open_image(path).levels)
    np.testing.assert_array_equal(half, halve(full, "mode"))
    assert set(np.unique(half)) == {0, 1, 2}  # never a mean of two numbers


class Broken(Exception):
    """Planted."""


def test_half_of_one_never_looks_whole(segmentation, tmp_path, monkeypatch):
    path, output = f"{segmentation}/instances", tmp_path / "p.parquet"
    paint, calls = painting._paint_block, []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise Broken
        paint(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(painting, "_paint_block", broken)
        with pytest.raises(Broken):
            cluster(segmentation, output, instances="auto", block=(12, 16, 20), method="components")
    with pytest.raises(FormatError, match="instances was never finished"):
        open_image(path)
    assert not output.exists()

    def full(*_):
        raise StorageError("disk full")

    with monkeypatch.context() as patch:  # all is painted, and the table cannot be written
        patch.setattr(Particles, "write", full)
        with pytest.raises(StorageError, match="disk full"):
            cluster(segmentation, output, instances="auto", method="components")
    with pytest.raises(FormatError, match="instances was never finished"):
        open_image(path)
    cluster(segmentation, output, instances="auto", method="components")  # half of one is replaced unasked
    assert painted(path).any()
    monkeypatch.setattr("deepfinder_dask.clustering.verb.find", full)
    with pytest.raises(OutputExistsError, match="instances is already there"):
        cluster(segmentation, instances="auto")  # refused before anything is computed


def test_where_it_may_go(segmentation, labels, tmp_path):
    zarr.save_array(tmp_path / "plain.zarr", labels)
    with pytest.raises(SettingsError, match=r"plain.zarr is none: give a path"):
        cluster(tmp_path / "plain.zarr", instances="auto", voxel_size=10.0, connectivity=6)
    for place in (segmentation, f"{segmentation}/labels", f"{segmentation}/mine", str(tmp_path)):
        with pytest.raises(SettingsError, match="lie in, or replace, the label map"):
            cluster(segmentation, instances=place, overwrite=True)
    assert open_image(f"{segmentation}/labels").levels[0].read().any()


def test_an_empty_label_map_has_an_empty_instance_map(tmp_path):
    zarr.save_array(tmp_path / "none.zarr", np.zeros((9, 10, 11), np.uint8))
    for number, options in enumerate([{"method": "components"}, {"method": "mean-shift", "bandwidth": 3}]):
        path = str(tmp_path / f"{number}.zarr")
        assert len(cluster(tmp_path / "none.zarr", instances=path, voxel_size=10.0, **options)) == 0
        values = painted(path)
        assert values.shape == (9, 10, 11)
        assert not values.any()


@given(
    shape=st.tuples(*[st.integers(1, 700)] * 3),
    core=st.tuples(*[st.integers(1, 700)] * 3),
)
def test_a_block_is_whole_shards(shape, core):
    core = triple(min(c, n) for c, n in zip(core, shape, strict=True))
    chunk, shard = instances._layout(BlockGrid(shape, core))
    for n, c, size, unit in zip(shape, core, shard, chunk, strict=True):
        assert c == n or (c % size == 0 and size % unit == 0)


def test_the_command_writes_both(segmentation, tmp_path, capsys):
    output = tmp_path / "found.parquet"
    words = ["cluster", segmentation, "-o", str(output), "--instances", "auto", "--split", "--split-distance", "3"]
    assert main(words) == 0, capsys.readouterr().err
    assert "found" in capsys.readouterr().out
    table = Particles.read(output).table
    values = painted(f"{segmentation}/instances")
    assert np.bincount(values.ravel())[1:].tolist() == table["size_voxels"].tolist()
    assert table["instance"].tolist() == list(range(1, len(table) + 1))
    assert len(table) > numbered(painted(f"{segmentation}/labels")).max()  # some were split
    assert main(words) == 2
    assert "already" in capsys.readouterr().err


def test_locate_leaves_it_in_its_folder():
    assert LocateSettings(instances="auto").part(ClusterSettings).instances == "auto"
    with pytest.raises(SettingsError, match="give --instances auto"):
        LocateSettings(instances="elsewhere.zarr")
