"""``segment`` inside a region: the bits of the whole inside, background outside, and nothing computed there."""

from __future__ import annotations

import json

import dask
import numpy as np
import pytest
import zarr

from deepfinder_dask.blocks import BlockGrid
from deepfinder_dask.cli import main
from deepfinder_dask.errors import GeometryError, OutputExistsError, SettingsError
from deepfinder_dask.execution import SerialExecutor
from deepfinder_dask.networks import save_weights
from deepfinder_dask.segmentation import Segmentation, forecast, segment, segment_lazily, verify
from deepfinder_dask.segmentation.block import Classifier
from deepfinder_dask.segmentation.store import ledger_of

SHAPE = (21, 34, 46)
BLOCK = (12, 16, 16)
BLOCKS = 2 * 3 * 3


def slanted(shape=SHAPE):
    """Whether a voxel is in a part that cuts through blocks and leaves some empty."""
    z, y, x = np.indices(shape)
    return (x + y + z > 45) & (x + 2 * y - z < 62)


def empty_blocks(inside, block=BLOCK):
    """How many blocks have nothing inside."""
    starts = np.ndindex(*(-(-n // b) for n, b in zip(inside.shape, block, strict=True)))
    corners = [tuple(slice(i * b, (i + 1) * b) for i, b in zip(at, block, strict=True)) for at in starts]
    return sum(not inside[corner].any() for corner in corners)


@pytest.fixture
def mask(tmp_path):
    zarr.create_array(tmp_path / "mask.zarr", data=slanted().astype(np.int16) * 300, chunks=(8, 8, 8))
    return str(tmp_path / "mask.zarr")


@pytest.fixture
def tomogram(make_tomogram):
    return make_tomogram(SHAPE)


def arrays(done):
    return [v.read() for v in (done.label_map, done.probability_map, done.score_map) if v is not None]


def outside_zero(values, inside):
    return [np.where(inside, one, 0) for one in values]


@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"augment": True}, marks=pytest.mark.slow), pytest.param({"workers": 2}, marks=pytest.mark.slow)],
)
def test_inside_as_without_a_mask_and_background_outside(tomogram, weights, mask, tmp_path, options, monkeypatch):
    expected = outside_zero(
        arrays(segment(tomogram, weights, tmp_path / "whole.zarr", scores=True, **options)), slanted()
    )
    read = []
    original = Classifier.read
    monkeypatch.setattr(Classifier, "read", lambda self, box: (read.append(box), original(self, box))[1])
    done = segment(tomogram, weights, tmp_path / "s.zarr", mask=mask, block=BLOCK, scores=True, **options)
    for found, wanted in zip(arrays(done), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert verify(done) == BLOCKS == len(ledger_of(done.path).recorded())
    skipped = empty_blocks(slanted())
    assert skipped > 2
    if "workers" not in options:
        assert len(read) == BLOCKS - skipped
        cores = {block.write for block in BlockGrid(SHAPE, BLOCK)}
        assert any(box not in cores for box in read)  # only the part of a block that has voxels inside


def test_a_border_and_a_mask(tomogram, weights, mask, tmp_path):
    inner = np.zeros(SHAPE, bool)
    inner[3:-3, 3:-3, 3:-3] = True
    whole = arrays(segment(tomogram, weights, tmp_path / "whole.zarr"))
    for name, options, inside in (
        ("border", {"border": 25.0}, inner),
        ("both", {"border": 25.0, "mask": mask}, inner & slanted()),
    ):
        found = arrays(segment(tomogram, weights, tmp_path / f"{name}.zarr", block=BLOCK, **options))
        for one, wanted in zip(found, outside_zero(whole, inside), strict=True):
            np.testing.assert_array_equal(one, wanted)


def test_lazily(tomogram, weights, mask, tmp_path):
    done = arrays(segment(tomogram, weights, tmp_path / "s.zarr", mask=mask, scores=True))
    lazy = segment_lazily(tomogram, weights, mask=mask, scores=True, block=BLOCK)
    for found, wanted in zip(dask.compute(lazy.labels, lazy.probability, lazy.scores), done, strict=True):
        np.testing.assert_array_equal(found, wanted)
    whole = segment(tomogram, weights, compute=False, block=BLOCK)
    masked = segment(tomogram, weights, compute=False, block=BLOCK, mask=mask)
    assert whole.name != masked.name


def test_resampled(make_tomogram, weights, tmp_path):
    """Another voxel size: the mask lies on the tomogram's grid, the blocks on that of the weights."""
    shape = (17, 20, 24)
    tomogram = make_tomogram(shape, voxel_size=16.0)
    inside = np.zeros(shape, bool)
    inside[:7, 5:11, 4:] = True
    inside[3, 4, 23] = True
    zarr.create_array(tmp_path / "small.zarr", data=inside)
    whole = arrays(segment(tomogram, weights, tmp_path / "whole.zarr", rescale=True, scores=True))
    options = {"rescale": True, "scores": True, "block": (12, 12, 16), "mask": str(tmp_path / "small.zarr")}
    done = arrays(segment(tomogram, weights, tmp_path / "s.zarr", **options))
    for found, wanted in zip(done, outside_zero(whole, inside), strict=True):
        np.testing.assert_array_equal(found, wanted)
    plan = forecast(tomogram, weights, **options)
    assert 0 < plan.skipped < np.prod(plan.counts)


class Interrupting(SerialExecutor):
    """Stops after some items, as Ctrl-C would."""

    def run(self, function, items, **options):
        for number, result in enumerate(super().run(function, items, **options)):
            if number == 5:
                raise KeyboardInterrupt
            yield result


def test_a_resume_wants_the_same_mask(tomogram, weights, mask, tmp_path):
    expected = arrays(segment(tomogram, weights, tmp_path / "undisturbed.zarr", mask=mask))
    out = tmp_path / "s.zarr"
    options = {"mask": mask, "block": BLOCK}
    with pytest.raises(KeyboardInterrupt):
        segment(tomogram, weights, out, executor=Interrupting(), **options)
    begun = ledger_of(str(out)).recorded()
    assert 5 <= len(begun) < BLOCKS
    other = slanted()
    other[20, 33, 45] ^= True
    zarr.create_array(tmp_path / "other.zarr", data=other)
    for changed in ({"mask": str(tmp_path / "other.zarr")}, {}, {"mask": mask, "border": 10.0}):
        with pytest.raises(OutputExistsError, match="begun with another mask"):
            segment(tomogram, weights, out, block=BLOCK, **changed)
    zarr.create_array(tmp_path / "copy.zarr", data=slanted(), chunks=(21, 34, 46))  # the same voxels
    done = segment(tomogram, weights, out, mask=str(tmp_path / "copy.zarr"))
    assert begun.items() <= ledger_of(str(out)).recorded().items()
    for found, wanted in zip(arrays(done), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_plan_counts_skipped_blocks(tomogram, weights, mask, tmp_path, capsys):
    save_weights(weights, tmp_path / "w.safetensors")
    words = [
        "segment",
        tomogram.path,
        "-w",
        str(tmp_path / "w.safetensors"),
        "-b",
        "12,16,16",
        "--mask",
        mask,
        "--plan",
    ]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == empty_blocks(slanted())
    assert main(words) == 0
    assert f"{empty_blocks(slanted())} of them outside and skipped" in capsys.readouterr().out


def test_masks_that_cannot_be(tomogram, weights, mask, tmp_path):
    zarr.create_array(tmp_path / "half.zarr", data=np.ones((10, 17, 23), bool))
    with pytest.raises(GeometryError, match=r"half.zarr to have the shape \(21, 34, 46\)"):
        segment(tomogram, weights, tmp_path / "s.zarr", mask=str(tmp_path / "half.zarr"))
    assert not (tmp_path / "s.zarr").exists()
    done = segment(tomogram, weights, tmp_path / "s.zarr", mask=tmp_path / "mask.zarr")
    assert Segmentation.open(done.path).attributes["settings"]["mask"] == mask
    with pytest.raises(SettingsError, match="would replace the mask"):
        segment(tomogram, weights, tmp_path / "s.zarr", mask=f"{done.path}/labels", overwrite=True)
