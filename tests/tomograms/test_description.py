"""``info`` tells what a file or store is, without converting or unpacking it."""

from __future__ import annotations

import gzip
import json

import h5py
import numpy as np
import pytest
import zarr

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms import convert, create_group, create_image, finish_group, finish_image, info


def test_a_converted_tomogram_is_described_in_full(tmp_path, mrc, noise):
    convert(mrc(tmp_path / "a.mrc", noise((30, 40, 150)), voxel_size=12.0), tmp_path / "a.zarr")
    facts = json.loads(json.dumps(info(tmp_path / "a.zarr")))
    assert facts["kind"] == "tomogram"
    assert facts["format"] == "Zarr v3"
    assert facts["state"] == "complete"
    assert facts["shape"] == [30, 40, 150]
    assert facts["voxel_size"] == [12.0, 12.0, 12.0]
    assert facts["size_nm"] == [36.0, 48.0, 180.0]
    assert facts["axes"] == ["z", "y", "x"]
    assert facts["levels"] == [[30, 40, 150], [15, 20, 75]]
    assert facts["statistics"]["count"] == 180_000
    assert facts["imaging"] == {"contrast": "dark", "tilt_axis": "y", "beam_axis": "z"}
    assert facts["source"]["header"]["mode"] == 2
    assert facts["compression"] == "none"


def test_files_are_described_by_their_headers(tmp_path, mrc, noise):
    path = mrc(tmp_path / "a.mrc", noise((3, 4, 5), "int16"), voxel_size=1.0)
    facts = info(path)
    assert (facts["format"], facts["shape"], facts["voxel_size"], facts["size_nm"]) == ("MRC", [3, 4, 5], None, None)
    assert facts["dtype"] == "int16"
    assert facts["header"]["mode"] == 1
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress(path.read_bytes())[:-20])  # only the header is unpacked
    assert info(tmp_path / "a.mrc.gz")["shape"] == [3, 4, 5]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["v"] = np.zeros((2, 3, 4), "f4")
    assert info(f"{tmp_path}/a.h5:/v")["format"] == "HDF5, dataset /v"
    json.dumps(info(tmp_path / "a.h5"))


def test_stores_of_other_kinds_are_described(tmp_path):
    root = tmp_path / "seg.zarr"
    create_group(root, kind="segmentation", attributes={"tomogram": "t"})
    assert info(root)["state"] == "writing"
    create_image(f"{root}/labels", shape=(9, 9, 9), dtype="u1", voxel_size=10)
    finish_image(f"{root}/labels")
    create_image(f"{root}/probability", shape=(9, 9, 9), dtype="u1", voxel_size=10)
    finish_group(root)
    facts = info(root)
    assert (facts["kind"], facts["tomogram"], list(facts["images"])) == ("segmentation", "t", ["labels"])
    assert facts["images"]["labels"]["shape"] == [9, 9, 9]
    zarr.create_array(tmp_path / "plain.zarr", shape=(4, 5, 6), dtype="f4", chunks=(2, 2, 2))
    facts = info(tmp_path / "plain.zarr")
    assert (facts["shape"], facts["voxel_size"], facts["chunks"], facts["shards"]) == ([4, 5, 6], None, [2, 2, 2], None)


def test_what_is_not_there_gives_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.mrc", "memory://nothing-here/a.zarr"):
        with pytest.raises(FormatError) as caught:
            info(path)
        assert "\n" not in str(caught.value)
