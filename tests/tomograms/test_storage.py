"""The store: what is written is read back, what is not finished is not taken for whole, what is not ours stays."""

from __future__ import annotations

import errno
import json
import pickle

import dask
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.blocks import BlockGrid, Box
from deepfinder_dask.errors import FormatError, GeometryError, OutputExistsError, StorageError, VoxelSizeError
from deepfinder_dask.tomograms import (
    Tomogram,
    Volume,
    build_pyramid,
    create_group,
    create_image,
    finish_group,
    finish_image,
    fit_chunks,
    is_finished,
    open_image,
    read_attributes,
    write_attributes,
)

VERSIONS = pytest.mark.parametrize("version", ["0.5", "0.4"])


def make(path, values, *, version="0.5", finish=True, **options):
    options = {"voxel_size": (10, 11, 12), "chunk": 16, "shard": (32, 32, 64)} | options
    volume = create_image(path, shape=values.shape, dtype=values.dtype, ome_zarr=version, **options)
    for block in BlockGrid(volume.space, volume.write_unit[-3:]):
        volume.write(block.write, values[(..., *block.write.slices())])
    if finish:
        finish_image(path)
    return volume


@VERSIONS
@pytest.mark.parametrize("where", ["local", "file://", "memory://"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_what_is_written_is_read_back(tmp_path, noise, version, where, dtype):
    path = {"local": str(tmp_path / "a.zarr"), "file://": f"file://{tmp_path}/a.zarr"}.get(where)
    path = path or f"memory://{tmp_path.name}-{version}-{dtype}/a.zarr"
    values = noise((37, 50, 70), dtype)
    make(path, values, version=version)
    tomogram = Tomogram.open(path)
    assert tomogram.shape == (37, 50, 70)
    assert tomogram.dtype == values.dtype
    assert tomogram.voxel_size == (10.0, 11.0, 12.0)
    assert tomogram.name == "a"
    np.testing.assert_array_equal(tomogram.read(), values)
    np.testing.assert_array_equal(tomogram.read(Box((3, 4, 5), (30, 20, 66))), values[3:30, 4:20, 5:66])
    np.testing.assert_array_equal(tomogram.data[2:9, ::3, 5], values[2:9, ::3, 5])


@VERSIONS
def test_classes_are_read_and_written_together(tmp_path, noise, version):
    values = noise((3, 20, 33, 17), "float16")
    volume = make(tmp_path / "s", values, version=version, axes=("class", "z", "y", "x"))
    assert volume.space == (20, 33, 17)
    assert volume.chunks[0] == 1
    box = Box((1, 2, 3), (9, 20, 17))
    np.testing.assert_array_equal(volume.read(box), values[:, 1:9, 2:20, 3:17])
    np.testing.assert_array_equal(volume.lazy().compute(), values)


@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    chunk=st.tuples(*[st.integers(1, 17)] * 3),
    shard=st.tuples(*[st.integers(1, 50)] * 3),
)
@settings(max_examples=200, deadline=None)
def test_shards_are_whole_chunks_and_no_larger_than_needed(shape, chunk, shard):
    chunks, shards = fit_chunks(shape, chunk, shard)
    for n, c, s, wished in zip(shape, chunks, shards, shard, strict=True):
        assert 1 <= c <= n
        assert s % c == 0
        assert s < min(wished, n) + c


def test_a_volume_pickles_as_its_place(tmp_path, noise):
    values = noise((8, 9, 10))
    volume = make(tmp_path / "a.zarr", values)
    volume.read()
    data = pickle.dumps(volume)
    assert len(data) < 500
    again = pickle.loads(data)  # noqa: S301  # made two lines above
    assert again == volume
    np.testing.assert_array_equal(again.read(), values)


def test_opening_and_planning_read_no_voxel(tmp_path, noise, monkeypatch):
    make(tmp_path / "a.zarr", noise((40, 40, 70)))

    def refuse(*args, **kwargs):
        raise AssertionError("a voxel was read")

    monkeypatch.setattr(zarr.Array, "__getitem__", refuse)
    with dask.config.set(scheduler=refuse):
        tomogram = Tomogram.open(tmp_path / "a.zarr")
        lazy = tomogram.data[3:9].mean()
        assert lazy.shape == ()
        assert tomogram.statistics is None
        assert tomogram.volume.shards == (32, 32, 64)


def test_lazy_arrays_of_different_volumes_have_different_names(tmp_path, noise):
    a, b = make(tmp_path / "a.zarr", noise((8, 8, 8))), make(tmp_path / "b.zarr", noise((8, 8, 8)))
    assert a.lazy().name == a.lazy().name != b.lazy().name
    assert dask.base.tokenize(a) != dask.base.tokenize(b)


@pytest.mark.parametrize(
    ("start", "stop"), [((0, 0, 0), (16, 32, 64)), ((16, 0, 0), (40, 32, 64)), ((0, 0, 0), (41, 32, 64))]
)
def test_only_whole_shards_can_be_written(tmp_path, start, stop):
    volume = create_image(tmp_path / "a", shape=(40, 40, 70), dtype="f4", voxel_size=1, chunk=16, shard=(32, 32, 64))
    box = Box(start, stop)
    with pytest.raises(GeometryError, match=r"whole shards \(32, 32, 64\)"):
        volume.write(box, np.zeros(box.shape, "f4"))


def test_values_that_do_not_fit_are_not_written(tmp_path):
    volume = create_image(tmp_path / "a", shape=(8, 8, 8), dtype="f4", voxel_size=1)
    with pytest.raises(GeometryError, match="shape"):
        volume.write(Box.whole((8, 8, 8)), np.zeros((8, 8, 7), "f4"))
    with pytest.raises(GeometryError, match="cast"):
        volume.write(Box.whole((8, 8, 8)), np.zeros((8, 8, 8), "f8"))
    with pytest.raises(GeometryError, match="inside"):
        volume.read(Box((0, 0, 0), (9, 8, 8)))


@VERSIONS
def test_an_unfinished_image_is_refused_by_us_and_by_others(tmp_path, noise, version):
    make(tmp_path / "a.zarr", noise((8, 8, 8)), version=version, finish=False)
    with pytest.raises(FormatError, match="never finished"):
        Tomogram.open(tmp_path / "a.zarr")
    attributes = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs.asdict()
    assert set(attributes) == {"deepfinder"}
    assert not is_finished(tmp_path / "a.zarr")
    finish_image(tmp_path / "a.zarr")
    assert is_finished(tmp_path / "a.zarr")


def test_an_output_is_replaced_only_when_it_may_be(tmp_path, noise):
    path = tmp_path / "a.zarr"
    facts = {"shape": (4, 4, 4), "dtype": "f4", "voxel_size": 1}
    create_image(path, kind="tomogram", **facts)
    create_image(path, kind="tomogram", **facts)  # unfinished and of the same kind
    with pytest.raises(OutputExistsError, match="--overwrite"):
        create_image(path, kind="segmentation", **facts)
    finish_image(path)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        create_image(path, kind="tomogram", **facts)
    (path / "note.txt").write_text("left by someone")
    create_image(path, kind="tomogram", overwrite=True, **facts)
    assert not (path / "note.txt").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_zarr_store_is_never_deleted(tmp_path, overwrite):
    facts = {"shape": (4, 4, 4), "dtype": "f4", "voxel_size": 1, "overwrite": overwrite}
    file = tmp_path / "a.mrc"
    file.write_text("data")
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "thesis.tex").write_text("words")
    link = tmp_path / "link.zarr"
    create_image(tmp_path / "real.zarr", shape=(4, 4, 4), dtype="f4", voxel_size=1)
    link.symlink_to(tmp_path / "real.zarr")
    for path in (file, folder, link):
        with pytest.raises(OutputExistsError, match="never deleted"):
            create_image(path, **facts)
    assert file.read_text() == "data"
    assert (folder / "thesis.tex").read_text() == "words"
    assert (tmp_path / "real.zarr" / "zarr.json").exists()


def test_a_folder_above_that_is_a_file_gives_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write") as caught:
        create_image(tmp_path / "file" / "a.zarr", shape=(4, 4, 4), dtype="f4", voxel_size=1)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_a_storage_error(tmp_path, monkeypatch):
    volume = create_image(tmp_path / "a", shape=(8, 8, 8), dtype="f4", voxel_size=1)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zarr.storage._local._put", full)
    with pytest.raises(StorageError, match="disk is full"):
        volume.write(Box.whole((8, 8, 8)), np.ones((8, 8, 8), "f4"))
    with pytest.raises(StorageError, match="disk is full"):
        finish_image(tmp_path / "a")
    assert not is_finished(tmp_path / "a")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_turned_bit_is_never_read_as_a_value(tmp_path, noise, dtype):
    """Also where nothing is compressed, so that any bits are values."""
    values = noise((20, 20, 20), dtype)
    volume = make(tmp_path / "v.zarr", values)
    for shard in sorted(path for path in (tmp_path / "v.zarr" / "0" / "c").rglob("*") if path.is_file()):
        whole = shard.read_bytes()
        for part in (0.1, 0.5, 0.9):
            turned = bytearray(whole)
            turned[int(part * len(whole))] ^= 4
            shard.write_bytes(bytes(turned))
            with pytest.raises(FormatError, match="cannot be read: damaged"):
                volume.read()
        shard.write_bytes(whole)
    assert np.array_equal(volume.read(), values)
    assert volume.codec in ("none", "blosc")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_damaged_shards_give_one_line(tmp_path, noise, dtype):
    volume = make(tmp_path / "a.zarr", noise((20, 20, 20), dtype))
    shard = tmp_path / "a.zarr" / "0" / "c" / "0" / "0" / "0"
    raw = bytearray(shard.read_bytes())
    shard.write_bytes(raw[:-7])
    with pytest.raises(FormatError, match="cannot be read: damaged") as caught:
        volume.read()
    assert "\n" not in str(caught.value)


def test_urls_that_cannot_be_served_give_one_line():
    for url in ("nonsense://a/b.zarr", "https://localhost:1/b.zarr"):
        with pytest.raises(FormatError, match="cannot open") as caught:
            Tomogram.open(url)
        assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="read-only"):
        create_image("https://localhost:1/b.zarr", shape=(4, 4, 4), dtype="f4", voxel_size=1)


def test_groups_hold_images_and_attributes(tmp_path, noise):
    root = tmp_path / "seg.zarr"
    create_group(root, kind="segmentation", attributes={"tomogram": "t"})
    make(f"{root}/labels", noise((9, 9, 9), "uint8"), finish=False)
    finish_image(f"{root}/labels", label_colours={1: "#ff8000", 7: "#0000ff"})
    write_attributes(root, {"classes": [{"name": "ribosome"}], "state": "complete"})
    assert not is_finished(root)
    finish_group(root)
    assert read_attributes(root) == {
        "tomogram": "t",
        "kind": "segmentation",
        "state": "complete",
        "classes": [{"name": "ribosome"}],
    }
    colours = json.loads((root / "labels" / "zarr.json").read_text())["attributes"]["ome"]["image-label"]["colors"]
    assert colours[1:] == [{"label-value": 1, "rgba": [255, 128, 0, 255]}, {"label-value": 7, "rgba": [0, 0, 255, 255]}]
    assert open_image(f"{root}/labels").levels == (Volume(f"{root}/labels", "0"),)
    with pytest.raises(FormatError, match="group of 0 arrays"):
        open_image(root)


@VERSIONS
def test_metadata_validates_against_the_specification(tmp_path, noise, version):
    from ome_zarr_models.v04.image import Image as Image04
    from ome_zarr_models.v04.image_label import ImageLabel as Label04
    from ome_zarr_models.v05.image import Image as Image05
    from ome_zarr_models.v05.image_label import ImageLabel as Label05

    make(tmp_path / "a.zarr", noise((150, 20, 37)), version=version, finish=False)
    build_pyramid(tmp_path / "a.zarr")
    finish_image(tmp_path / "a.zarr", {"statistics": {"mean": 1.0}})
    make(tmp_path / "l.zarr", noise((20, 20, 20), "uint8"), version=version, finish=False)
    finish_image(tmp_path / "l.zarr", label_colours={1: "#102030"})
    images, labels = (Image05, Label05) if version == "0.5" else (Image04, Label04)
    image = images.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    labels.from_zarr(zarr.open_group(tmp_path / "l.zarr", mode="r"))
    entry = (image.ome_attributes if version == "0.5" else image.attributes).multiscales[0]
    assert [a.name for a in entry.axes] == ["z", "y", "x"]
    assert {(a.type, a.unit) for a in entry.axes} == {("space", "angstrom")}
    transforms = [d.coordinateTransformations for d in entry.datasets]
    assert [t[0].scale for t in transforms] == [[10, 11, 12], [20, 22, 24]]
    assert [t[1].translation for t in transforms] == [[0, 0, 0], [5, 5.5, 6]]


def test_stores_of_other_programs_open(tmp_path, noise):
    values = noise((1, 1, 9, 10, 11))
    group = zarr.open_group(tmp_path / "five.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=values.shape, dtype="f4", chunks=(1, 1, 4, 4, 4))[:] = values
    units = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    units += [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"]
    transforms = [{"type": "scale", "scale": [1, 1, 1.3, 1.3, 1.3]}]
    datasets = [{"path": "0", "coordinateTransformations": transforms}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": units, "datasets": datasets}]
    tomogram = Tomogram.open(tmp_path / "five.zarr")
    assert tomogram.voxel_size == (13.0, 13.0, 13.0)
    np.testing.assert_array_equal(tomogram.read(), values[0, 0])
    assert tomogram.data.shape == (9, 10, 11)

    zarr.create_array(tmp_path / "plain.zarr", data=values[0, 0], chunks=(4, 5, 6))
    with pytest.raises(VoxelSizeError, match="--voxel-size"):
        Tomogram.open(tmp_path / "plain.zarr")
    assert Tomogram.open(tmp_path / "plain.zarr", voxel_size=7.5).voxel_size == (7.5, 7.5, 7.5)


@pytest.mark.parametrize("bad", [0, -3, "ten", (1, 2), float("nan"), (1, 2, 0)])
def test_a_voxel_size_that_cannot_be_is_refused(tmp_path, noise, bad):
    make(tmp_path / "a.zarr", noise((4, 4, 4)))
    with pytest.raises(VoxelSizeError, match=r"positive|expected"):
        Tomogram.open(tmp_path / "a.zarr", voxel_size=bad)


def test_what_cannot_be_opened_says_why(tmp_path, noise):
    with pytest.raises(FormatError, match="no such tomogram"):
        Tomogram.open(tmp_path / "nothing.zarr")
    (tmp_path / "a.mrc").write_bytes(b"data")
    with pytest.raises(FormatError, match="deepfinder convert"):
        Tomogram.open(tmp_path / "a.mrc")
    make(tmp_path / "flat.zarr", noise((2, 4, 4, 4)), axes=("class", "z", "y", "x"))
    with pytest.raises(FormatError, match="one volume"):
        Tomogram.open(tmp_path / "flat.zarr")
    make(tmp_path / "broken.zarr", noise((4, 4, 4)))
    (tmp_path / "broken.zarr" / "0" / "zarr.json").write_text("{")
    with pytest.raises(FormatError, match="Zarr array"):
        Tomogram.open(tmp_path / "broken.zarr")
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    with pytest.raises(FormatError, match="metadata"):
        Tomogram.open(tmp_path / "broken.zarr")
    create_image(tmp_path / "broken.zarr", shape=(1, 1, 1), dtype="u1", voxel_size=1, overwrite=True)
