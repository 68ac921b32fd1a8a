"""What the verb does unless told otherwise, what it drops, and what it measures."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from deepfinder_dask.blocks import Box
from deepfinder_dask.cli import main
from deepfinder_dask.clustering import ClusterWarning, cluster
from deepfinder_dask.particles import ParticleClass, Particles, classes_to_dicts, read_particles, write_classes
from deepfinder_dask.particles.spacing import keep_apart
from deepfinder_dask.tomograms import create_group, create_image, finish_group, finish_image

VOXEL = (10.0, 12.0, 15.0)
CLASSES = (ParticleClass("ring", 1, radius=60.0), ParticleClass("rod", 5, radius=50.0))
SHAPE = (24, 32, 40)
CENTRES = ((6, 8, 8), (6, 8, 17), (17, 23, 3), (12, 16, 30))
"""The first two balls touch; the third reaches out of the volume."""


def touching_balls() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    index = np.ogrid[tuple(slice(n) for n in SHAPE)]
    for label, centre in zip((1, 1, 5, 5), CENTRES, strict=True):
        labels[sum((i - c) ** 2 for i, c in zip(index, centre, strict=True)) <= 25] = label
    return labels


def write_labels(path, labels, classes) -> str:
    create_group(path, kind="segmentation")
    create_image(
        f"{path}/labels", shape=labels.shape, dtype=labels.dtype, voxel_size=VOXEL, chunk=16, shard=(64, 64, 64)
    ).write(Box.whole(labels.shape), labels)
    finish_image(f"{path}/labels", method="mode")
    finish_group(path, {"tomogram": "t", "classes": classes_to_dicts(classes)})
    return str(path)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return touching_balls()


@pytest.fixture(scope="module")
def segmentation(labels, tmp_path_factory) -> str:
    return write_labels(tmp_path_factory.mktemp("seg") / "seg.zarr", labels, CLASSES)


def same(a: Particles, b: Particles) -> None:
    pd.testing.assert_frame_equal(a.table, b.table, check_exact=True)


def test_mean_shift_is_the_default_and_parts_what_touches(segmentation):
    found = cluster(segmentation)
    same(found, cluster(segmentation, method="mean-shift"))
    assert len(found) == 4
    assert len(cluster(segmentation, method="components")) == 3
    same(cluster(segmentation, connectivity=6), cluster(segmentation, method="components"))


def test_without_radii_components_are_found_and_a_note_says_so(labels, segmentation, tmp_path):
    bare = write_labels(tmp_path / "bare.zarr", labels, [ParticleClass("ring", 1), ParticleClass("rod", 5)])
    with pytest.warns(ClusterWarning, match="no radius is known, so particles are its connected components") as noted:
        found = cluster(bare)
    assert [one.filename for one in noted] == [__file__]
    assert len(found) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(cluster(bare, bandwidth=4)) == len(cluster(bare, bandwidth_angstrom=48.0)) == 4
        assert len(cluster(bare, method="components")) == len(cluster(bare, connectivity=26)) == 3
        write_classes(CLASSES, tmp_path / "classes.toml")
        same(cluster(bare, classes=str(tmp_path / "classes.toml")), cluster(segmentation))
    classes = [CLASSES[0], ParticleClass("rod", 5, radius=20.0), ParticleClass("dot", 7)]
    uneven = write_labels(tmp_path / "uneven.zarr", labels, classes)
    with pytest.warns(ClusterWarning, match="each with a bandwidth from its radius, and class 'dot' has none"):
        assert len(cluster(uneven)) == 3


def test_the_command_says_the_note_and_goes_on(labels, tmp_path, capsys):
    bare = write_labels(tmp_path / "bare.zarr", labels, [ParticleClass("ring", 1), ParticleClass("rod", 5)])
    with warnings.catch_warnings():
        assert main(["cluster", bare, "-o", str(tmp_path / "p.parquet")]) == 0
    said = capsys.readouterr()
    assert "found 3 particles (1 ring, 2 rod)" in said.out
    assert said.err.startswith(f"warning: {bare}: the bandwidth of mean-shift is about the radius")
    assert said.err.count("\n") == 1


def test_sizes_and_distances_by_class_on_the_command_line(segmentation, tmp_path, capsys):
    sizes = cluster(segmentation).table.groupby("class")["size_voxels"].apply(list)
    assert [len(sizes["ring"]), len(sizes["rod"])] == [2, 2]
    words = {
        "min": ["--min-size", f"rod={max(sizes['rod'])}"],
        "max": ["--max-size", f"ring=1,rod={min(sizes['rod'])}"],
        "far": ["--min-distance", "7vox"],
        "radii": ["--min-distance", "2.5r"],
        "alone": ["--min-distance", "5r", "--distance-per-class", "--min-size=0"],
    }
    counts = {}
    for name, more in words.items():
        assert main(["cluster", segmentation, "-o", str(tmp_path / f"{name}.parquet"), *more]) == 0, capsys.readouterr()
        counts[name] = Particles.read(tmp_path / f"{name}.parquet").counts()
    assert counts == {
        "min": {"ring": 2, "rod": 1},
        "max": {"ring": 0, "rod": 1},
        "far": {"ring": 2, "rod": 2},
        "radii": {"ring": 1, "rod": 2},
        "alone": {"ring": 1, "rod": 2},
    }
    assert main(["cluster", segmentation, "-o", str(tmp_path / "no.parquet"), "--min-size", "disc=5"]) == 2
    assert "error: min_size names 'disc', which is none of the classes: ring, rod\n" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["mean-shift", "components"])
def test_particles_too_close_are_dropped_after_those_of_odd_sizes(segmentation, method):
    """The largest suppresses its neighbours, unless its size is none that counts."""
    everyone = cluster(segmentation, method=method)
    kept = cluster(segmentation, method=method, min_distance=400.0)
    same(kept, everyone.where(keep_apart(everyone, 400.0)))
    assert 0 < len(kept) < len(everyone)
    largest = int(everyone.table["size_voxels"].max()) - 1
    some = everyone.where(everyone.table["size_voxels"] <= largest)
    kept = cluster(segmentation, method=method, min_distance=400.0, max_size=largest)
    same(kept, some.where(keep_apart(some, 400.0)))


@pytest.mark.parametrize("options", [{"method": "components"}, {}, {"position": "centroid"}])
@pytest.mark.parametrize("block", [None, (8, 12, 16)])
def test_measures_are_those_of_the_voxels(segmentation, labels, options, block):
    """Against the voxels of each particle, picked out one by one."""
    found = cluster(segmentation, measures=True, block=block, **options)
    mode = options == {}
    plain = cluster(segmentation, **options)
    pd.testing.assert_frame_equal(found.table[plain.table.columns], plain.table, check_exact=True)
    owners = np.argwhere(labels > 0)
    if "method" in options:
        from scipy import ndimage

        numbers = ndimage.label(labels)[0][tuple(owners.T)] - 1
    else:
        from sklearn.cluster import MeanShift

        side = np.prod(VOXEL) ** (1 / 3)
        numbers = MeanShift(bandwidth=1.25 * (60 / side + 50 / side) / 2, bin_seeding=True).fit(owners).labels_
    assert len(found) == numbers.max() + 1
    touching = 0
    for n, row in enumerate(found.table.to_dict("records")):
        own = owners[numbers == n]
        assert row["size_voxels"] == len(own)
        assert row["size_angstrom3"] == len(own) * 10 * 12 * 15
        assert [row[f"{axis}_start"] for axis in "zyx"] == own.min(axis=0).tolist()
        assert [row[f"{axis}_stop"] for axis in "zyx"] == (own.max(axis=0) + 1).tolist()
        at_border = bool((own == 0).any() or (own == np.array(SHAPE) - 1).any())
        assert row["touches_border"] == at_border
        touching += at_border
        centroid = own.sum(axis=0) / len(own) * VOXEL
        names = "centroid_{}" if mode else "{}"
        assert [row[names.format(axis)] for axis in "zyx"] == centroid.tolist()
    assert touching == 1
    assert ("centroid_x" in found.table.columns) == mode


def test_measures_go_through_files(segmentation, tmp_path, capsys):
    path = tmp_path / "measured.parquet"
    assert main(["cluster", segmentation, "-o", str(path), "--measures"]) == 0, capsys.readouterr().err
    found = Particles.read(path)
    assert "touches_border" in found.table.columns
    assert main(["export", str(path), "-o", str(tmp_path / "measured.csv")]) == 0, capsys.readouterr().err
    pd.testing.assert_frame_equal(read_particles(tmp_path / "measured.csv").table, found.table, check_exact=True)
    assert len(cluster(segmentation, measures=True, min_size=10**6)) == 0
