"""Values as they are written on the command line."""

from __future__ import annotations

import pytest

from deepfinder_dask.cli.values import format_bytes, to_bytes, to_shape, to_sizes, to_voxel_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 * 1024**3),
        ("8gib", 8 * 1024**3),
        ("8G", 8 * 1024**3),
        ("8GB", 8 * 1000**3),
        ("500 MB", 500 * 1000**2),
        ("1.5KiB", 1536),
        ("12345", 12345),
        ("12345B", 12345),
        ("2T", 2 * 1024**4),
    ],
)
def test_sizes_in_bytes(text: str, size: int) -> None:
    assert to_bytes(text) == size


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1536, 4 * 1024**3, 5 * 1024**4])
def test_formatted_sizes_are_read_back(size: int) -> None:
    assert to_bytes(format_bytes(size)) == size


@pytest.mark.parametrize("text", ["", "GiB", "8 GiBB", "-8GiB", "8,5GiB", "8e9", "1/2", "inf", "nan"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as 8GiB"):
        to_bytes(text)


def test_one_number_or_three() -> None:
    assert to_shape("64") == (64, 64, 64)
    assert to_shape("64,128,256") == (64, 128, 256)
    assert to_voxel_size("13.5") == 13.5
    assert to_voxel_size("13.5,10,10") == (13.5, 10.0, 10.0)


@pytest.mark.parametrize("text", ["", "64,", "64,64", "64,64,64,64", "6.5", "a", "64 64 64"])
def test_other_shapes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a whole number, or three as Z,Y,X"):
        to_shape(text)


def test_one_size_or_one_for_each_class() -> None:
    assert to_sizes("50") == 50
    assert to_sizes("ring=50, rod = 20") == {"ring": 50, "rod": 20}
    assert to_sizes("a=b=3") == {"a=b": 3}


@pytest.mark.parametrize("text", ["", "ring", "ring=", "=5", "5,6", "ring=5,6", "ring=5,ring=6", "ring=5.5", "ring=5,"])
def test_other_sizes_by_class_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number of voxels, or one for each class"):
        to_sizes(text)
