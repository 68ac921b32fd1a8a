"""``convert``: every value arrives, nothing half-done is taken for whole, and refusals are one line."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from deepfinder_dask import errors
from deepfinder_dask.tomograms import (
    ConvertSettings,
    Tomogram,
    conversion,
    convert,
    convert_many,
    copying,
    create_image,
    finish_image,
    is_finished,
    statistics_of,
)
from deepfinder_dask.tomograms.pyramid import halve
from deepfinder_dask.tomograms.sources import open_source


def one_line(caught):
    return "\n" not in str(caught.value) and str(caught.value)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("dtype", ["int8", "uint16", "float16", "float32"])
def test_values_type_voxel_size_and_facts_arrive(tmp_path, mrc, noise, version, dtype):
    values = noise((33, 40, 150), dtype)
    path = mrc(tmp_path / "ts_01.rec", values, voxel_size=13.5, origin=(5.0, 6.0, 7.0))
    tomogram = convert(path, tmp_path / "o.zarr", ome_zarr=version, contrast="bright", tilt_axis="x", chunk=16)
    assert tomogram == Tomogram.open(tmp_path / "o.zarr")
    np.testing.assert_array_equal(tomogram.read(), values)
    assert tomogram.dtype == dtype
    assert tomogram.voxel_size == (13.5, 13.5, 13.5)
    assert (tomogram.imaging.contrast, tomogram.imaging.tilt_axis, tomogram.imaging_known) == ("bright", "x", True)
    assert tomogram.source["header"]["origin"] == [5.0, 6.0, 7.0]
    assert tomogram.source["file"] == str(path)
    assert tomogram.statistics == statistics_of(tomogram.volume)
    assert tomogram.volume.chunks == (16, 16, 16)
    assert zarr.open_array(tmp_path / "o.zarr" / "0", mode="r").metadata.zarr_format == (3 if version == "0.5" else 2)
    np.testing.assert_array_equal(tomogram.level(1).read(), halve(values))
    assert len(tomogram.levels) == 2


@pytest.mark.parametrize("pyramid", [True, False])
def test_bands_and_chunks_change_no_bit(tmp_path, mrc, noise, monkeypatch, pyramid):
    values = noise((22, 17, 140))
    path = mrc(tmp_path / "a.mrc", values)
    whole = convert(path, tmp_path / "whole.zarr", pyramid=pyramid)
    assert len(whole.levels) == (2 if pyramid else 1)
    for number, (chunk, shard) in enumerate([(8, (16, 16, 32)), (7, (7, 21, 7))]):
        monkeypatch.setattr(copying, "SHARD", shard)
        found = convert(path, tmp_path / f"{number}.zarr", chunk=chunk, pyramid=pyramid)
        assert found.statistics == whole.statistics
        for a, b in zip(found.levels, whole.levels, strict=True):
            np.testing.assert_array_equal(a.read(), b.read())


@pytest.mark.parametrize("shape", [(464, 928, 928), (64, 8192, 8192), (30, 40, 50), (10, 20, 40000)])
@pytest.mark.parametrize("chunk", [64, 32, 50, 33])
def test_bands_fit_the_memory_and_half_of_them_is_a_shard(shape, chunk):
    z, y, x = copying.shard_for(shape, chunk, 4)
    assert all(edge % chunk == 0 and edge % 2 == 0 for edge in (z, y, x))
    band = min(z, shape[0]) * min(y, shape[1]) * shape[2] * 4
    smallest = chunk if chunk % 2 == 0 else 2 * chunk
    assert band <= copying.BAND_BYTES or (z, y) == (smallest, smallest)


def test_converting_a_conversion_keeps_every_bit(tmp_path, mrc, noise):
    first = convert(mrc(tmp_path / "a.mrc", noise((9, 10, 11))), tmp_path / "a.zarr")
    second = convert(tmp_path / "a.zarr", "memory://again/b.zarr", ome_zarr="0.4")
    assert second.statistics == first.statistics
    assert second.voxel_size == first.voxel_size
    np.testing.assert_array_equal(second.data.compute(), first.read())


def test_an_unknown_voxel_size_is_asked_for(tmp_path, mrc, noise):
    path = mrc(tmp_path / "a.mrc", noise((4, 5, 6)), voxel_size=1.0)
    with pytest.raises(errors.VoxelSizeError, match="--voxel-size") as caught:
        convert(path, tmp_path / "o.zarr")
    assert one_line(caught)
    assert not (tmp_path / "o.zarr").exists()
    assert convert(path, tmp_path / "o.zarr", voxel_size=(9, 8, 7.5)).voxel_size == (9.0, 8.0, 7.5)


def test_values_that_are_not_finite_are_counted_and_refused(tmp_path, mrc, noise):
    values = noise((40, 41, 150))
    values[0, 0, :7] = np.nan
    values[39, 40, 149] = np.inf
    values[20, 3, 4] = -np.inf
    path = mrc(tmp_path / "a.mrc", values)
    with pytest.raises(errors.FormatError, match=r"7 NaN and 2 infinite.*--replace-nonfinite") as caught:
        convert(path, tmp_path / "o.zarr", chunk=8)
    assert one_line(caught)
    assert not (tmp_path / "o.zarr").exists()
    tomogram = convert(path, tmp_path / "o.zarr", chunk=8, replace_nonfinite=-1.5)
    np.testing.assert_array_equal(tomogram.read(), np.nan_to_num(values, nan=-1.5, posinf=-1.5, neginf=-1.5))
    assert tomogram.source["replaced_nonfinite"] == 9
    values[:] = np.nan
    with pytest.raises(errors.FormatError, match="246000 NaN and 0 infinite"):
        convert(mrc(tmp_path / "b.mrc", values), tmp_path / "p.zarr")


@pytest.mark.parametrize("where", ["0/c", "1/c", "o.zarr/zarr.json"])
def test_a_disk_that_fills_leaves_nothing_that_looks_whole(tmp_path, mrc, noise, monkeypatch, where):
    path = mrc(tmp_path / "a.mrc", noise((40, 41, 150)))
    put = zarr.storage._local._put
    writes = []

    def full(target, *args, **kwargs):
        writes.append(str(target))
        if where in str(target) and ("/c" in where or any("1/c" in w for w in writes)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(target, *args, **kwargs)

    monkeypatch.setattr(zarr.storage._local, "_put", full)
    with pytest.raises(errors.StorageError, match="the disk is full") as caught:
        convert(path, tmp_path / "o.zarr", chunk=16)
    assert one_line(caught)
    assert not (tmp_path / "o.zarr").exists()


def test_a_real_limit_on_the_size_of_files_is_one_line(tmp_path, mrc, noise):
    path = mrc(tmp_path / "a.mrc", noise((40, 64, 64)))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "from deepfinder_dask.tomograms import convert\n"
        "from deepfinder_dask.errors import StorageError\n"
        "try:\n    convert(sys.argv[1], sys.argv[2])\nexcept StorageError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "o.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "a file grew over the allowed size" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not (tmp_path / "o.zarr").exists()


def test_a_killed_conversion_is_unfinished_and_the_same_command_replaces_it(tmp_path, mrc, noise):
    path = mrc(tmp_path / "a.mrc", noise((40, 41, 42)))
    code = (
        "import os, sys\nfrom deepfinder_dask.tomograms import convert, conversion\n"
        "conversion.build_pyramid = lambda *a, **k: os.kill(os.getpid(), 9)\n"
        "convert(sys.argv[1], sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "o.zarr")]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    assert not is_finished(tmp_path / "o.zarr")
    with pytest.raises(errors.FormatError, match="never finished"):
        Tomogram.open(tmp_path / "o.zarr")
    assert convert(path, tmp_path / "o.zarr").shape == (40, 41, 42)


def test_an_output_that_exists_stays_unless_told(tmp_path, mrc, noise):
    path = mrc(tmp_path / "a.mrc", noise((4, 5, 6)))
    convert(path, tmp_path / "o.zarr")
    with pytest.raises(errors.OutputExistsError, match="--overwrite") as caught:
        convert(path, tmp_path / "o.zarr", voxel_size=3.0)
    assert one_line(caught)
    assert Tomogram.open(tmp_path / "o.zarr").voxel_size == (10.0, 10.0, 10.0)
    assert convert(path, tmp_path / "o.zarr", voxel_size=3.0, overwrite=True).voxel_size == (3.0, 3.0, 3.0)
    with pytest.raises(errors.FormatError, match="no such tomogram"):
        convert(tmp_path / "missing.mrc", tmp_path / "o.zarr", overwrite=True)
    assert Tomogram.open(tmp_path / "o.zarr").voxel_size == (3.0, 3.0, 3.0)
    create_image(tmp_path / "seg.zarr", shape=(2, 2, 2), dtype="u1", voxel_size=1, kind="segmentation")
    with pytest.raises(errors.OutputExistsError):
        convert(path, tmp_path / "seg.zarr")


def test_a_source_is_never_its_own_output(tmp_path, mrc, noise):
    convert(mrc(tmp_path / "a.mrc", noise((4, 5, 6))), tmp_path / "a.zarr")
    (tmp_path / "link").symlink_to(tmp_path)
    for output in (tmp_path / "a.zarr", tmp_path / "a.zarr" / "inner", tmp_path / "link" / "a.zarr"):
        with pytest.raises(errors.SettingsError, match="the same"):
            convert(tmp_path / "a.zarr", output, overwrite=True)
    assert is_finished(tmp_path / "a.zarr")


def test_truncated_and_empty_files_leave_nothing(tmp_path, mrc, noise):
    path = mrc(tmp_path / "a.mrc", noise((20, 30, 40)))
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])
    with pytest.raises(errors.FormatError, match="truncated") as caught:
        convert(path, tmp_path / "o.zarr")
    assert one_line(caught)
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress(raw)[:-100])
    with pytest.raises(errors.FormatError, match="damaged"):
        convert(tmp_path / "a.mrc.gz", tmp_path / "o.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mrc", "a.mrc.gz"]


def test_many_files_one_of_them_bad(tmp_path, mrc, noise):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        mrc(folder / f"ts_{number}.mrc", noise((4, 5, 6), seed=number))
    mrc(folder / "ts_0.rec", noise((4, 5, 6), seed=9))
    (folder / "ts_1.mrc").write_bytes(b"not a tomogram")
    (folder / "notes.txt").write_text("not looked at")
    with pytest.raises(errors.PartialFailure, match=r"1 of 4 files.*ts_1.mrc") as caught:
        convert_many(folder, tmp_path / "out", voxel_size=7.0)
    assert one_line(caught)
    assert caught.value.exit_code == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["ts_0.mrc.zarr", "ts_0.rec.zarr", "ts_2.zarr"]
    done = convert_many([folder / "ts_2.mrc", folder / "ts_0.rec"], tmp_path / "more")
    assert [t.name for t in done] == ["ts_2", "ts_0"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.FormatError, match="found none"):
        convert_many(tmp_path / "empty", tmp_path / "none")


def test_a_tilt_stack_is_warned_of(tmp_path, mrc, noise):
    path = mrc(tmp_path / "ts.st", noise((4, 5, 6)))
    with pytest.warns(UserWarning, match="tilt series"):
        convert(path, tmp_path / "o.zarr")


def test_options_are_those_of_the_settings(tmp_path):
    with pytest.raises(errors.SettingsError, match="did you mean 'voxel_size'"):
        convert("a.mrc", tmp_path / "o.zarr", voxelsize=3)
    for name, value in {
        "contrast": "black",
        "tilt_axis": "z",
        "ome_zarr": "0.3",
        "chunk": 0,
        "compression": "zip",
        "voxel_size": -1.0,
    }.items():
        with pytest.raises(errors.InputError) as caught:
            dataclasses.replace(ConvertSettings(), **{name: value})
        assert one_line(caught)


def test_floats_that_are_all_background_and_negative_zeros_keep_their_bits(tmp_path, mrc):
    values = np.zeros((8, 8, 8), np.float32)
    values[:4] = -0.0
    tomogram = convert(mrc(tmp_path / "a.mrc", values), tmp_path / "o.zarr", chunk=4)
    np.testing.assert_array_equal(tomogram.read().view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize(
    "name",
    ["odd_mrc/EMD-3001.map.bz2", "odd_mrc/float16.mrc", "real/emd_1155.ccp4", "real/microtubules_tardis/mrc3D.mrc"],
)
def test_real_files_convert(data_dir, tmp_path, name):
    tomogram = convert(data_dir / name, tmp_path / "o.zarr")
    with open_source(data_dir / name, tmp_path) as source:
        np.testing.assert_array_equal(tomogram.read(), source.read((0, source.shape[0]), (0, source.shape[1])))
        assert tomogram.voxel_size == source.voxel_size
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.zarr"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel does not say the peak memory")
def test_peak_memory_does_not_grow_with_the_volume(tmp_path, noise, mrc):
    peaks = []
    for planes in (128, 512):
        plane = noise((1, 192, 192))
        path = mrc(tmp_path / f"{planes}.mrc", np.broadcast_to(plane, (planes, 192, 192)).copy())
        code = (
            "import re, sys\nfrom pathlib import Path\nfrom deepfinder_dask.tomograms import convert\n"
            "convert(sys.argv[1], sys.argv[2])\n"
            "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
        )
        command = [sys.executable, "-c", code, str(path), str(tmp_path / f"{planes}.zarr")]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout))
        path.unlink()
    assert peaks[1] - peaks[0] < 24 * 1024, peaks  # KiB; the file grew by 54 MiB


def test_kinds_are_told_apart(tmp_path):
    create_image(tmp_path / "a.zarr", shape=(2, 2, 2), dtype="f4", voxel_size=3, kind=conversion.KIND)
    finish_image(tmp_path / "a.zarr")
    assert Tomogram.open(tmp_path / "a.zarr").statistics is None


def test_imaging_travels_through_conversions_unless_told_otherwise(tmp_path, mrc, noise):
    first = convert(mrc(tmp_path / "a.mrc", noise((4, 4, 4))), tmp_path / "a.zarr", contrast="bright", tilt_axis="x")
    assert (first.imaging.contrast, first.imaging.tilt_axis) == ("bright", "x")
    again = convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert again.imaging == first.imaging
    told = convert(tmp_path / "a.zarr", tmp_path / "c.zarr", contrast="dark")
    assert (told.imaging.contrast, told.imaging.tilt_axis) == ("dark", "x")
    unsaid = convert(tmp_path / "a.mrc", tmp_path / "d.zarr")
    assert (unsaid.imaging.contrast, unsaid.imaging.tilt_axis) == ("dark", "y")
