"""Files of every family give the right voxels in z, y, x, or one clear line."""

from __future__ import annotations

import bz2
import gzip
import subprocess
import sys

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.sources import open_source

AXES = [(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_all(path, tmp_path, z=None, y=None):
    with open_source(path, tmp_path) as source:
        values = source.read(z or (0, source.shape[0]), y or (0, source.shape[1]))
        assert values.dtype == source.dtype
        assert values.dtype.isnative
        assert values.flags.c_contiguous
        return source, values


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    dtype=st.sampled_from(["int8", "int16", "uint16", "float16", "float32", "packed"]),
    order=st.sampled_from("<>"),
    axes=st.sampled_from(AXES),
    extended=st.sampled_from([0, 80, 1000]),
    data=st.data(),
)
@QUICK
def test_mrc_files_of_every_kind_come_back(tmp_path, mrc, noise, shape, dtype, order, axes, extended, data):
    values = noise(shape, "uint8") & 15 if dtype == "packed" else noise(shape, dtype)
    mode = 101 if dtype == "packed" else None
    size = (3.5, 4.25, 5.0)
    path = mrc(tmp_path / "a.mrc", values, order=order, axes=axes, extended=extended, mode=mode, voxel_size=size)
    z = data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(1, shape[0]))
    y = data.draw(st.integers(0, shape[1] - 1)), data.draw(st.integers(1, shape[1]))
    z, y = (min(z), max(z)), (min(y), max(y))
    source, found = read_all(path, tmp_path, z, y)
    assert source.shape == shape
    assert source.dtype == values.dtype
    assert source.voxel_size == size[::-1]
    np.testing.assert_array_equal(found, values[slice(*z), slice(*y)])


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float16", "float32"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_files_of_mrcfile_come_back(tmp_path, noise, dtype, order):
    values = noise((5, 6, 7), dtype)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(values.astype(np.dtype(dtype).newbyteorder(order)))
        file.voxel_size = (2.0, 3.0, 4.0)
        file.set_volume()
    source, found = read_all(tmp_path / "a.mrc", tmp_path)
    assert source.voxel_size == (4.0, 3.0, 2.0)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "int8"),
        ({"stamp": b""}, "uint8"),
        ({"stamp": b"", "extremes": (-100, 90)}, "int8"),
        ({"extremes": (0, 255)}, "uint8"),
        ({"imod_flags": 1}, "int8"),
        ({"imod_flags": 0}, "uint8"),
        ({"stamp": b"", "imod_flags": 1}, "int8"),
    ],
)
def test_bytes_are_signed_or_not_as_their_program_meant(tmp_path, mrc, noise, options, expected):
    values = noise((3, 4, 5), "uint8")
    source, found = read_all(mrc(tmp_path / "a.mrc", values, **options), tmp_path)
    assert found.dtype == expected
    np.testing.assert_array_equal(found, values.view(expected))
    assert source.facts["bytes_are"].startswith("signed" if expected == "int8" else "unsigned")


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((4, 5, 6), {"voxel_size": 0}, None),
        ((4, 5, 6), {"voxel_size": 1.0}, None),
        ((4, 5, 6), {"voxel_size": (1.0, 1.0, 1.5)}, (1.5, 1.0, 1.0)),
        ((4, 5, 6), {"cell": (60, 0, 40)}, None),
        ((4, 5, 6), {"cell": (np.nan, 50, 40)}, None),
        ((4, 5, 6), {"cell": (164, 164, 164), "grid": (10, 10, 10)}, (16.4, 16.4, 16.4)),
        ((4, 5, 6), {"grid": (5, 6, 4), "cell": (60, 50, 40)}, (10.0, 10.0, 10.0)),  # grid swapped, cell not
        ((4, 5, 6), {"grid": (5, 6, 4), "cell": (50, 60, 40)}, (10.0, 10.0, 10.0)),  # both swapped, as EMD-1155
        ((4, 5, 6), {"grid": (6, 5, 1), "cell": (60, 50, 40)}, (10.0, 10.0, 10.0)),
        ((1, 5, 6), {"cell": (60, 50, 0)}, (10.0, 10.0, 10.0)),
    ],
)
def test_the_voxel_size_is_the_one_meant_or_unknown(tmp_path, mrc, noise, shape, options, expected):
    source, _ = read_all(mrc(tmp_path / "a.mrc", noise(shape), **options), tmp_path)
    assert source.voxel_size == expected


def test_header_facts_are_recorded(tmp_path, mrc, noise):
    path = mrc(tmp_path / "a.rec", noise((3, 4, 5)), origin=(10.0, -20.0, 30.5), labels=(b"made by hand",))
    source, _ = read_all(path, tmp_path)
    assert source.facts["origin"] == [10.0, -20.0, 30.5]
    assert source.facts["labels"] == ["made by hand"]
    assert source.facts["mode"] == 2


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: cut(p, 1500), "truncated.*1504 bytes, found 1500"),
        (lambda p: cut(p, 500), "truncated"),
        (lambda p: cut(p, 0), "truncated"),
        (lambda p: p.write_bytes(p.read_bytes() + b"12"), "disagree.*1504 bytes, found 1506"),
        (lambda p: p.write_bytes(b"not a tomogram" * 200), "another format"),
        (lambda p: p.write_bytes(bytes(2000)), "another format"),
    ],
)
def test_damaged_mrc_files_give_one_line(tmp_path, mrc, noise, change, message):
    path = mrc(tmp_path / "a.mrc", noise((4, 5, 6)))
    change(path)
    with pytest.raises(FormatError, match=message) as caught:
        read_all(path, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, 0, "at least one voxel"),
        (8, 0, "at least one voxel"),
        (12, 4, "Fourier"),
        (12, 3, "complex"),
        (12, 55, "mode 55"),
        (64, 2, "MAPC"),
        (92, -80, "extended header"),
    ],
)
def test_headers_that_cannot_be_served_give_one_line(tmp_path, mrc, noise, offset, value, message):
    path = mrc(tmp_path / "a.mrc", noise((4, 5, 6)))
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 4] = int(value).to_bytes(4, "little", signed=True)
    path.write_bytes(raw)
    with pytest.raises(FormatError, match=message) as caught:
        read_all(path, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_compressed_files_are_unpacked_and_the_copy_removed(tmp_path, mrc, noise, pack):
    values = noise((4, 5, 6))
    plain = mrc(tmp_path / "a.mrc", values)
    path = tmp_path / "named_wrongly.mrc"
    path.write_bytes(pack(plain.read_bytes()))
    scratch = tmp_path / "scratch"
    source, found = read_all(path, scratch)
    np.testing.assert_array_equal(found, values)
    assert source.path == str(path)
    assert not any(scratch.iterdir())
    for size in (len(path.read_bytes()) // 2, 12):
        cut(path, size)
        with pytest.raises(FormatError, match="damaged"):
            read_all(path, scratch)
        assert not any(scratch.iterdir())


def test_copies_left_by_killed_processes_are_swept(tmp_path, mrc, noise):
    path = tmp_path / "a.mrc.gz"
    path.write_bytes(gzip.compress(mrc(tmp_path / "a.mrc", noise((4, 5, 6))).read_bytes()))
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom deepfinder_dask.tomograms.sources import open_source\n"
        "with open_source(sys.argv[1], Path(sys.argv[2])):\n    os.kill(os.getpid(), 9)"
    )
    scratch = tmp_path / "scratch"
    subprocess.run([sys.executable, "-c", code, str(path), str(scratch)], timeout=60, check=False)
    assert len(list(scratch.iterdir())) == 1
    with open_source(path, scratch), open_source(path, scratch):
        assert len(list(scratch.iterdir())) == 2  # of two living users, none of the killed one
    assert not any(scratch.iterdir())


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"imagej": True}, {"byteorder": ">"}, {"bigtiff": True}]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiff_stacks_come_back(tmp_path, noise, options, dtype):
    values = noise((5, 6, 7), dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    source, found = read_all(tmp_path / "a.tif", tmp_path, (1, 4), (2, 6))
    assert source.shape == (5, 6, 7)
    np.testing.assert_array_equal(found, values[1:4, 2:6])
    assert source.voxel_size is None


def test_tiff_voxel_sizes_of_imagej_and_ome(tmp_path, noise):
    values = noise((5, 6, 7), "uint8")
    metadata = {"spacing": 1.4, "unit": "nm", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, resolution=(1 / 1.2, 1 / 1.3), metadata=metadata)
    assert read_all(tmp_path / "a.tif", tmp_path)[0].voxel_size == pytest.approx((14.0, 13.0, 12.0))
    sizes = {f"PhysicalSize{a}": s for a, s in zip("ZYX", (0.0014, 0.0013, 0.0012), strict=True)}
    tifffile.imwrite(tmp_path / "b.ome.tif", values, metadata={"axes": "ZYX", **sizes})
    source, found = read_all(tmp_path / "b.ome.tif", tmp_path)
    assert source.voxel_size == pytest.approx((14.0, 13.0, 12.0))
    np.testing.assert_array_equal(found, values)


def test_tiff_files_that_are_no_volume_give_one_line(tmp_path, noise):
    tifffile.imwrite(tmp_path / "rgb.tif", noise((5, 6, 3), "uint8"), photometric="rgb")
    with pytest.raises(FormatError, match="one grey volume"):
        read_all(tmp_path / "rgb.tif", tmp_path)
    tifffile.imwrite(tmp_path / "c.tif", noise((2, 5, 6, 7), "uint8"), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(FormatError, match="one grey volume"):
        read_all(tmp_path / "c.tif", tmp_path)
    tifffile.imwrite(tmp_path / "d.tif", noise((50, 60, 70), "uint8"))
    cut(tmp_path / "d.tif", 100_000)
    with pytest.raises(FormatError, match=r"truncated|cannot be read|no page"):
        read_all(tmp_path / "d.tif", tmp_path)


def test_hdf5_volumes_come_back(tmp_path, noise):
    values = noise((5, 6, 7), "float32")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "MDF/images/0/image", data=values.astype(">f4"), chunks=(2, 3, 4), compression="gzip"
        )
        data.parent.attrs.update({f"EMAN.apix_{a}": s for a, s in zip("zyx", (3.0, 2.0, 4.0), strict=True)})
        file["flat"] = np.zeros((3, 3))
    source, found = read_all(path, tmp_path, (1, 5), (2, 3))
    assert source.voxel_size == (3.0, 2.0, 4.0)
    np.testing.assert_array_equal(found, values[1:5, 2:3])
    with h5py.File(path, "a") as file:
        file.create_dataset("other", data=values[None] + 1).attrs["element_size_um"] = (0.001, 0.001, 0.0012)
    with pytest.raises(FormatError, match=r"found 2 .*:/MDF/images/0/image"):
        read_all(path, tmp_path)
    source, found = read_all(f"{path}:/other", tmp_path)
    assert source.voxel_size == (10.0, 10.0, 12.0)
    np.testing.assert_array_equal(found, values + 1)
    for name in ("flat", "missing"):
        with pytest.raises(FormatError, match=name):
            read_all(f"{path}:/{name}", tmp_path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(FormatError, match="no HDF5 file"):
        read_all(path, tmp_path)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_arrays_come_back_with_axes_in_order(tmp_path, noise, version):
    values = noise((5, 6, 7), "int16")  # stored as x, y, z
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    group.create_array("full", shape=values.shape, chunks=(2, 3, 4), dtype="i2")[:] = values
    transforms = [{"type": "scale", "scale": [2.0, 3.0, 4.0]}]
    axes = [{"name": a, "type": "space"} for a in "xyz"]
    entry = {"multiscales": [{"axes": axes, "datasets": [{"path": "full", "coordinateTransformations": transforms}]}]}
    group.attrs.put({"ome": entry} if version == 3 else entry)
    source, found = read_all(tmp_path / "a.zarr", tmp_path, (1, 6), (0, 4))
    assert source.shape == (7, 6, 5)
    assert source.voxel_size == (4.0, 3.0, 2.0)
    np.testing.assert_array_equal(found, values.transpose(2, 1, 0)[1:6, 0:4])


def test_values_that_are_no_real_numbers_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["complex"] = np.zeros((2, 2, 2), "c8")
    with pytest.raises(FormatError, match="real numbers"):
        read_all(tmp_path / "a.h5", tmp_path)
    zarr.create_array(tmp_path / "c.zarr", shape=(2, 2, 2), dtype="c8")
    with pytest.raises(FormatError, match="expected numbers"):
        read_all(tmp_path / "c.zarr", tmp_path)


def test_what_is_not_there_gives_one_line(tmp_path):
    with pytest.raises(FormatError, match="no such tomogram"):
        read_all(tmp_path / "nothing.mrc", tmp_path)
    with pytest.raises(FormatError, match="a folder that is no Zarr store"):
        read_all(tmp_path, tmp_path)
    with pytest.raises(FormatError, match="files of other formats must be local"):
        read_all("memory://nothing/a.mrc", tmp_path)


# Shape (z, y, x), type, voxel size (z, y, x) and extremes, from independent readers or the files' documentation.
REAL = {
    "odd_mrc/EMD-3001.map": ((73, 25, 43), "float32", (0.45875, 0.3925, 0.44825)),
    "odd_mrc/EMD-3001.map.bz2": ((73, 25, 43), "float32", (0.45875, 0.3925, 0.44825)),
    "odd_mrc/emd_3001.map.gz": ((73, 25, 43), "float32", (0.45875, 0.3925, 0.44825)),
    "odd_mrc/EMD-3197.map": ((20, 20, 20), "float32", (11.4, 11.4, 11.4)),
    "odd_mrc/EMD-3197.map.bz2": ((20, 20, 20), "float32", (11.4, 11.4, 11.4)),
    "odd_mrc/emd_3197.map.gz": ((20, 20, 20), "float32", (11.4, 11.4, 11.4)),
    "odd_mrc/float16.mrc": ((1, 64, 64), "float16", (3.59531, 3.59531, 3.59531)),
    "real/emd_1155.ccp4": ((281, 91, 141), "int8", (16.4, 16.4, 16.4)),
    "real/microtubules_tardis/mrc3D.mrc": ((78, 64, 32), "uint8", (23.2, 23.2, 23.2)),
    "real/microtubules_tardis/0_0_30_47_25.tif": ((96, 96, 96), "uint8", None),
    "real/microtubules_tardis/0_0_30_47_25_mask.tif": ((96, 96, 96), "uint8", None),
    "real/microtubules_tardis/3_0_25_54_25.tif": ((96, 96, 96), "uint8", None),
    "real/microtubules_tardis/3_0_25_54_25_mask.tif": ((96, 96, 96), "uint8", None),
    "real/microtubules_cylindra/13pf_MT.tif": ((36, 206, 94), "uint8", (10.52, 10.52, 10.52)),
    "real/microtubules_cylindra/14pf_MT.tif": ((44, 136, 84), "uint8", (10.52, 10.52, 10.52)),
}


def independent_values(path):
    if path.suffix == ".tif":
        return tifffile.imread(path)
    with mrcfile.open(path, permissive=True) as file:
        values, header = file.data, file.header
        axes = int(header.mapc), int(header.mapr), int(header.maps)
    if "mrc3D" in path.name:
        values = values.view("uint8")
    values = values.reshape((1,) * (3 - values.ndim) + values.shape)
    return values.transpose([(axes[2], axes[1], axes[0]).index(a) for a in (3, 2, 1)])


@pytest.mark.parametrize("name", REAL)
@pytest.mark.filterwarnings("ignore::RuntimeWarning:mrcfile")  # it warns of the missing MAP stamp
def test_real_and_odd_files_read_right(data_dir, tmp_path, name):
    shape, dtype, voxel_size = REAL[name]
    source, found = read_all(data_dir / name, tmp_path)
    assert (source.shape, source.dtype.name, source.voxel_size) == (shape, dtype, voxel_size)
    np.testing.assert_array_equal(found, independent_values(data_dir / name))


def test_every_odd_and_real_file_is_tabulated_or_refused(data_dir, tmp_path):
    for file in sorted([*data_dir.glob("odd_mrc/*"), *data_dir.glob("real/*"), *data_dir.glob("real/*/*")]):
        if str(file.relative_to(data_dir)) not in REAL:
            with pytest.raises(FormatError) as caught:
                read_all(file, tmp_path)
            assert "\n" not in str(caught.value)
