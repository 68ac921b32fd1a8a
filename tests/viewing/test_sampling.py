"""What pictures read: the right plane, the right place, and no more than is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import GeometryError
from deepfinder_dask.tomograms import Volume, create_image, finish_image, open_image
from deepfinder_dask.tomograms.storage import create_level
from deepfinder_dask.viewing import sampling
from deepfinder_dask.viewing.sampling import PLANES, pick_level, read_means, read_slice


@pytest.fixture
def pyramid(tmp_path: Path) -> tuple[np.ndarray, tuple[Volume, ...]]:
    """Three levels of means of a ramp that differs on every axis, and the ramp, (z, y, x)."""
    z, y, x = np.indices((16, 24, 40))
    values = (z + 100.0 * y + 10000.0 * x).astype(np.float32)
    path = tmp_path / "ramp.zarr"
    create_image(path, shape=values.shape, dtype="f4", voxel_size=10, chunk=8)
    level = values
    for number in range(3):
        if number:
            nz, ny, nx = (n // 2 for n in level.shape)
            level = level.reshape(nz, 2, ny, 2, nx, 2).mean(axis=(1, 3, 5), dtype=np.float32)
            create_level(path, number, shape=level.shape, dtype="f4", chunk=8)
        Volume(str(path), str(number)).write(Box.whole(level.shape), level)
    finish_image(path)
    return values, open_image(path).levels


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("thickness", [1, 4, 5])
def test_slice_is_the_mean_of_its_planes(pyramid, axis: int, thickness: int) -> None:
    values, levels = pyramid
    image = read_slice(levels, axis, 9, thickness=thickness)
    low, high = 9 - (thickness - 1) // 2, 9 + thickness // 2 + 1
    planes = np.moveaxis(values, (axis, *PLANES[axis]), (0, 1, 2))[low:high]
    np.testing.assert_allclose(image.values, planes.mean(0), rtol=1e-6)
    up, right = PLANES[axis]
    assert image.extent == (-0.5, values.shape[right] - 0.5, -0.5, values.shape[up] - 0.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("index", [0, 15])
def test_slices_are_cut_at_the_border(pyramid, axis: int, index: int) -> None:
    values, levels = pyramid
    index = index if index == 0 else values.shape[axis] - 1
    image = read_slice(levels, axis, index, thickness=9)
    planes = np.moveaxis(values, (axis, *PLANES[axis]), (0, 1, 2))
    inside = planes[: 9 // 2 + 1] if index == 0 else planes[-(9 // 2 + 1) :]
    np.testing.assert_allclose(image.values, inside.mean(0), rtol=1e-6)


def test_coarse_levels_stay_in_place(pyramid) -> None:
    """A level of half the size covers the same extent, and its pixels have the grey values of their place."""
    _, levels = pyramid
    image = read_slice(levels, 0, 8, pixels=20)
    assert image.values.shape == (12, 20)
    assert image.extent == (-0.5, 39.5, -0.5, 23.5)
    left, right, bottom, top = image.extent
    xs = left + (np.arange(20) + 0.5) * (right - left) / 20
    ys = bottom + (np.arange(12) + 0.5) * (top - bottom) / 12
    expected = 8.5 + 100.0 * ys[:, None] + 10000.0 * xs
    np.testing.assert_allclose(image.values, expected, rtol=1e-6)


def test_no_picture_reads_more_than_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large plane without a pyramid is read strip by strip and thinned out."""
    volume = create_image(tmp_path / "flat.zarr", shape=(1, 300, 500), dtype="u1", voxel_size=10, chunk=64)
    values = np.random.default_rng(0).integers(0, 255, (1, 300, 500), dtype=np.uint8)
    volume.write(Box.whole(volume.space), values)
    sizes = []
    read = Volume.read

    def spy(self: Volume, box: Box) -> np.ndarray:
        sizes.append(box.size)
        return read(self, box)

    monkeypatch.setattr(Volume, "read", spy)
    monkeypatch.setattr(sampling, "READ_BYTES", 20_000)
    image = read_slice((volume,), 0, 0, mean=False, pixels=128)
    assert max(image.values.shape) <= 128
    np.testing.assert_array_equal(image.values, values[0, ::4, ::4])
    assert max(sizes) <= 20_000
    assert sum(sizes) == 300 * 500


def test_means_are_those_of_the_volume(pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    values, levels = pyramid
    monkeypatch.setattr(sampling, "READ_BYTES", 8 * 8 * 40 * 4)  # one row of chunks
    along_z, along_y = read_means(levels)
    np.testing.assert_allclose(along_z.values, values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(along_y.values, values.mean(1), rtol=1e-6)


def test_finest_level_that_fits_is_taken(pyramid) -> None:
    _, levels = pyramid
    assert [pick_level(levels, (0, 1, 2), n) for n in (64, 40, 39, 20, 10, 4)] == [0, 0, 1, 1, 2, 2]


def test_slice_outside_is_refused(pyramid) -> None:
    with pytest.raises(GeometryError, match="slice 16 is outside"):
        read_slice(pyramid[1], 0, 16)
