"""The verb: what is written, what is refused, and that no executor or block changes a voxel."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zarr

from deepfinder_dask.blocks import Box
from deepfinder_dask.clustering import cluster
from deepfinder_dask.errors import (
    DeepFinderError,
    FormatError,
    GeometryError,
    InputError,
    OutputExistsError,
    SettingsError,
    VoxelSizeError,
)
from deepfinder_dask.particles import ParticleClass, Particles, write_classes
from deepfinder_dask.targets import Overlap, Target, TargetSettings, target
from deepfinder_dask.targets.job import TargetWarning
from deepfinder_dask.targets.planning import plan_blocks
from deepfinder_dask.tomograms import create_image, finish_image

from .conftest import CLASSES, SHAPE, table

CENTRES = [(12.25, 14.5, 12.0), (14.0, 30.75, 40.1), (28.0, 36.0, 10.4), (30.5, 10.0, 44.0)]
NAMES = ["ribosome", "proteasome", "proteasome", "ribosome"]
QUIET = {"progress": False}


@pytest.fixture
def particles() -> Particles:
    return table(CENTRES, NAMES)


@pytest.fixture
def tomogram(empty_tomogram):
    return empty_tomogram()


@pytest.fixture
def classes_file(tmp_path):
    """Write a classes file: text of TOML."""

    def write(text: str) -> str:
        path = tmp_path / "classes.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def membrane(value=1, dtype=np.int8):
    values = np.zeros(SHAPE, dtype)
    values[:, 20:23] = value
    return values


def test_the_store(particles, tomogram, tmp_path) -> None:
    made = target(particles, tomogram, tmp_path / "t.zarr", **QUIET)
    labels = made.label_map.read()
    assert labels.dtype == np.uint8
    assert np.asarray(made.labels).sum() == labels.sum()
    assert made.annotated == ("ribosome", "proteasome")
    assert made.particles == {"ribosome": 2, "proteasome": 2, "membrane": 0}
    counts = np.bincount(labels.ravel(), minlength=256)
    assert made.voxels == {
        "background": counts[0],
        "ribosome": counts[1],
        "proteasome": counts[2],
        "membrane": 0,
        "ignore": 0,
    }
    assert counts[1] == pytest.approx(2 * 4 / 3 * np.pi * 8**3, rel=0.03)
    assert counts[2] == pytest.approx(2 * 4 / 3 * np.pi * 5**3, rel=0.03)
    assert Target.open(made.path) == made
    attributes = zarr.open_group(made.path, mode="r").attrs.asdict()
    assert attributes["deepfinder"]["annotated"] == ["ribosome", "proteasome"]
    colours = {one["label-value"] for one in attributes["ome"]["image-label"]["colors"]}
    assert colours == {0, 1, 2, 3, 255}


def test_clusters_of_the_target_are_the_particles(particles, tomogram, tmp_path) -> None:
    """Back within half a voxel: the rasteriser rounds no position."""
    made = target(particles, tomogram, tmp_path / "t.zarr", **QUIET)
    found = cluster(made.path, progress=False)
    assert sorted(found.counts().items()) == [("proteasome", 2), ("ribosome", 2)]
    positions = found.voxel_positions("t" if "t" in found.tomograms else "TS_01")
    for centre, name in zip(CENTRES, NAMES, strict=True):
        distance = np.linalg.norm(positions - np.array(centre), axis=1)
        assert distance.min() < 0.25
        assert found.table["class"][int(distance.argmin())] == name


def test_the_original_placement_is_half_a_voxel_off(particles, tomogram, tmp_path) -> None:
    """The same comparison fails for centres that are rounded down: it can fail."""
    made = target(particles, tomogram, tmp_path / "t.zarr", compat=True, **QUIET)
    found = cluster(made.path, progress=False)
    positions = found.positions() / 10.0
    worst = max(np.linalg.norm(positions - np.array(centre), axis=1).min() for centre in CENTRES)
    assert worst > 0.5


def test_executors_and_blocks_change_nothing(particles, tomogram, tmp_path, write_mrc) -> None:
    given = {"add": f"{write_mrc('m.mrc', membrane())}=membrane", "ignore_shell": 25.0, **QUIET}
    made = target(particles, tomogram, tmp_path / "a.zarr", **given)
    expected = made.label_map.read()
    assert made.overlaps
    for name, options in (
        ("b", {"block": (8, 12, 20)}),
        ("c", {"block": 16, "workers": 2}),
        ("d", {"memory": 322 * 2**20}),
    ):
        other = target(particles, tomogram, tmp_path / f"{name}.zarr", **options, **given)
        np.testing.assert_array_equal(other.label_map.read(), expected)
        assert other.overlaps == made.overlaps
        assert other.voxels == made.voxels
    assert other.label_map.shards != made.label_map.shards, "less memory, smaller blocks"
    lazy = target(particles, tomogram, compute=False, block=16, add=given["add"], ignore_shell=25.0)
    assert lazy.chunks[0] == (16, 16, 8)
    np.testing.assert_array_equal(np.asarray(lazy), expected)


def test_lazy_targets_compute_nothing(particles, tomogram, tmp_path) -> None:
    import dask

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        lazy = target(particles, tomogram, compute=False, block=8)
        with pytest.raises(AssertionError, match="computed"):
            lazy.sum().compute()
    assert list(tmp_path.glob("*target*")) == []


def test_memory_is_bounded_by_the_block(empty_tomogram, tmp_path) -> None:
    """Eight times the volume and the particles take no more memory."""
    peaks = []
    for name, factor in (("warm", 1), ("one", 1), ("eight", 2)):
        shape = tuple(64 * factor for _ in range(3))
        rng = np.random.default_rng(4)
        places = rng.uniform(0, np.array(shape) - 1, (20 * factor**3, 3))
        particles = table(places, ["ribosome"] * len(places), classes=CLASSES[:1])
        tomogram = empty_tomogram(shape, name=name)
        tracemalloc.start()
        target(particles, tomogram, tmp_path / f"{name}_t.zarr", block=32, **QUIET)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.3 * peaks[1] + 2**20


def test_overlaps_are_counted_by_pair(tomogram, tmp_path) -> None:
    particles = table([(20, 20, 20), (20, 20, 30), (20, 40, 50)], ["ribosome", "proteasome", "proteasome"])
    made = target(particles, tomogram, tmp_path / "t.zarr", **QUIET)
    index = np.indices(SHAPE).reshape(3, -1).T
    first, second = (((index - np.array(c)) ** 2).sum(1) for c in ((20, 20, 20), (20, 20, 30)))
    both = (first <= 64) & (second <= 25)
    large, small = int((both & (first <= second)).sum()), int((both & (first > second)).sum())
    assert made.overlaps == (
        Overlap("ribosome", "proteasome", large),
        Overlap("proteasome", "ribosome", small),
    )
    assert large > 0


class TestGiven:
    """Label maps, masks and shells."""

    def test_a_structure_needs_no_positions(self, particles, tomogram, tmp_path, write_mrc) -> None:
        path = write_mrc("membranes.mrc", membrane(), 0.0)
        for word in ("3", "membrane"):
            made = target(particles, tomogram, tmp_path / f"{word}.zarr", add=f"{path}={word}", **QUIET)
            labels = made.label_map.read()
            alone = target(particles, tomogram, tmp_path / f"{word}_alone.zarr", **QUIET).label_map.read()
            np.testing.assert_array_equal(labels, np.where(alone > 0, alone, 3 * membrane()))
            assert made.annotated == ("ribosome", "proteasome", "membrane")
            kept = {(one.kept, one.lost): one.voxels for one in made.overlaps}
            assert kept[("ribosome", "membrane")] == ((alone == 1) & (membrane() > 0)).sum()

    def test_in_the_classes_file(self, particles, tomogram, tmp_path, write_mrc, classes_file) -> None:
        values = membrane()
        values[:5] = 2
        write_mrc("TS_01_seg.mrc", values)
        path = classes_file(
            '[[class]]\nname = "ribosome"\nlabel = 1\nradius = 80\n'
            '[[class]]\nname = "proteasome"\nlabel = 2\nradius = 50\n'
            '[[class]]\nname = "membrane"\nlabel = 9\nkind = "structure"\n'
            'target.labels = "{tomogram}_seg.mrc"\ntarget.value = 2\n'
        )
        made = target(particles, tomogram, tmp_path / "t.zarr", classes=path, **QUIET)
        labels = made.label_map.read()
        assert set(np.unique(labels)) == {0, 1, 2, 9}
        assert ((labels == 9) == ((values == 2) & (labels != 1) & (labels != 2))).all()
        assert made.annotated == ("ribosome", "proteasome", "membrane")
        found = cluster(made.path, classes=path, progress=False)
        assert len(found) == 4, "other verbs read the same file"

    def test_own_labels_of_a_store(self, particles, tomogram, tmp_path) -> None:
        values = membrane(3, np.uint8)
        values[0, 0] = 255
        volume = create_image(tmp_path / "given.zarr", shape=SHAPE, dtype="uint8", voxel_size=10.0)
        volume.write(Box.whole(SHAPE), values)
        finish_image(tmp_path / "given.zarr")
        labels = target(
            particles, tomogram, tmp_path / "t.zarr", add=str(tmp_path / "given.zarr"), **QUIET
        ).label_map.read()
        assert (labels[0, 0] == 255).all()
        assert (labels == 3).sum() > 5000

    def test_compressed_maps(self, particles, tomogram, tmp_path, write_mrc) -> None:
        import gzip

        path = Path(write_mrc("m.mrc", membrane()))
        packed = path.with_suffix(".mrc.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        both = [
            target(particles, tomogram, tmp_path / f"{n}.zarr", add=f"{one}=3", block=16, **QUIET).label_map.read()
            for n, one in enumerate((path, packed))
        ]
        np.testing.assert_array_equal(*both)
        assert not list(tmp_path.glob("*.partial*"))
        with pytest.raises(FormatError, match="must not be compressed"):
            target(particles, tomogram, compute=False, add=f"{packed}=3")

    def test_outside_the_mask_everything_is_ignored(self, particles, tomogram, tmp_path, write_mrc) -> None:
        inside = np.zeros(SHAPE, np.int8)
        inside[5:35, 5:40, 8:50] = 1
        alone = target(particles, tomogram, tmp_path / "a.zarr", **QUIET).label_map.read()
        made = target(particles, tomogram, tmp_path / "m.zarr", mask=write_mrc("mask.mrc", inside), **QUIET)
        np.testing.assert_array_equal(made.label_map.read(), np.where(inside, alone, 255))
        assert made.voxels["ignore"] == (inside == 0).sum()


class TestClasses:
    """Which classes, and which of them are annotated."""

    def test_classes_that_are_not_annotated_are_ignored(self, particles, tomogram, tmp_path) -> None:
        made = target(particles, tomogram, tmp_path / "t.zarr", annotated=("ribosome",), **QUIET)
        everything = target(particles, tomogram, tmp_path / "a.zarr", **QUIET).label_map.read()
        np.testing.assert_array_equal(made.label_map.read(), np.where(everything == 2, 255, everything))
        assert made.annotated == ("ribosome",)

    def test_names_decide_and_placeholders_go_by_label(self, particles, tomogram, tmp_path) -> None:
        renumbered = [ParticleClass("ribosome", 7, radius=80.0), ParticleClass("proteasome", 1, radius=50.0)]
        write_classes(renumbered, tmp_path / "c.toml")
        labels = target(particles, tomogram, tmp_path / "t.zarr", classes=str(tmp_path / "c.toml"), **QUIET)
        assert {name: labels.voxels[name] > 0 for name in labels.particles} == {"ribosome": True, "proteasome": True}
        assert labels.label_map.read()[12, 14, 12] == 7
        frame = particles.table.assign(**{"class": [f"class_{n}" for n in particles.table["label"]]})
        unnamed = Particles(frame, particles.tomograms)
        write_classes(CLASSES[:2], tmp_path / "d.toml")
        again = target(unnamed, tomogram, tmp_path / "u.zarr", classes=str(tmp_path / "d.toml"), **QUIET)
        assert again.label_map.read()[12, 14, 12] == 1

    def test_mixed_spheres_and_shapes(self, tomogram, tmp_path, write_mrc) -> None:
        cube = np.zeros((20, 20, 20), np.float32)
        cube[4:16, 8:12, 8:12] = 1
        angles = np.array([[0, 90, 0], [np.nan] * 3, [0, 0, 0], [np.nan] * 3])
        particles = table(CENTRES, NAMES, angles=angles)
        shapes = f"proteasome={write_mrc('rod.mrc', cube)}"
        with pytest.warns(TargetWarning, match="1 of 2 particles of class 'proteasome' have no angles.*50 Å"):
            made = target(particles, tomogram, tmp_path / "t.zarr", shapes=shapes, **QUIET)
        labels = made.label_map.read()
        rod = np.argwhere(labels[20:, 25:] == 2)
        assert np.ptp(rod, axis=0).tolist() == [11, 3, 3]
        assert (labels[:24, 22:] == 2).sum() == pytest.approx(4 / 3 * np.pi * 125, rel=0.08)
        bare = Particles(particles.table, particles.tomograms, (CLASSES[0], ParticleClass("proteasome", 2), CLASSES[2]))
        with pytest.raises(SettingsError, match=r"1 of its 2 particles have no angles.*no radius"):
            target(bare, tomogram, tmp_path / "u.zarr", shapes=shapes, **QUIET)

    def test_a_class_that_is_elsewhere_only(self, tomogram, tmp_path) -> None:
        both = Particles.concat([table(CENTRES[:1], NAMES[:1]), table(CENTRES[1:2], NAMES[1:2], tomogram="TS_02")])
        with pytest.warns(TargetWarning, match="'proteasome' has no positions in this tomogram, but 1 in others"):
            made = target(both, tomogram, tmp_path / "t.zarr", **QUIET)
        assert made.annotated == ("ribosome", "proteasome")
        made = target(both, tomogram, tmp_path / "u.zarr", annotated=("ribosome",), **QUIET)
        assert made.annotated == ("ribosome",)

    def test_particles_without_a_voxel_are_named(self, tomogram, tmp_path) -> None:
        tiny = (ParticleClass("ribosome", 1, radius=2.0),)
        with pytest.warns(TargetWarning, match="without a voxel in TS_01: 1 of 'ribosome'"):
            target(table([(12.5, 12.5, 12.5)], ["ribosome"], classes=tiny), tomogram, tmp_path / "t.zarr", **QUIET)


class TestTomograms:
    """Which rows of a table."""

    def test_of_many_tomograms_the_rows_of_this_one(self, particles, tomogram, tmp_path) -> None:
        moved = table(np.array(CENTRES) + 3.0, NAMES, tomogram="TS_02")
        both = Particles.concat([moved, particles])
        one = target(particles, tomogram, tmp_path / "a.zarr", **QUIET).label_map.read()
        two = target(both, tomogram, tmp_path / "b.zarr", **QUIET).label_map.read()
        np.testing.assert_array_equal(one, two)
        other = target(both, tomogram, tmp_path / "c.zarr", name="TS_02", **QUIET)
        assert other.tomogram == "TS_02"
        assert (other.label_map.read() != one).any()

    def test_a_name_that_is_not_there(self, particles, tomogram, tmp_path, empty_tomogram) -> None:
        both = Particles.concat([particles, table(CENTRES, NAMES, tomogram="TS_02")])
        with pytest.raises(InputError, match="no tomogram 'TS_09' in the table of particles, which has TS_01, TS_02"):
            target(both, empty_tomogram(name="TS_09"), tmp_path / "t.zarr", **QUIET)
        with pytest.raises(InputError, match=r"no tomogram 'TS_03'.*--name"):
            target(particles, tomogram, tmp_path / "t.zarr", name="TS_03", **QUIET)

    def test_another_shape(self, tomogram, tmp_path) -> None:
        particles = table(CENTRES, NAMES, shape=(40, 48, 57))
        with pytest.raises(GeometryError, match=r"were found in \(40, 48, 57\) voxels"):
            target(particles, tomogram, tmp_path / "t.zarr", **QUIET)


REFUSED = {
    "outside": (
        GeometryError,
        r"a position is outside its tomogram: particle 4 .*\[40\.0, 5\.0, 5\.0\] of \[40, 48, 56\]",
    ),
    "no positions": (InputError, "class 'ribosome' is a particle without positions"),
    "no positions, a map of labels": (InputError, "class 'ribosome' is a particle without positions"),
    "no radius": (SettingsError, "class 'ribosome' has no radius and no shape to draw its 2 particles from"),
    "unknown class": (InputError, r"has 2 particles of class 'proteasome' \(label 2\), which is none of the classes"),
    "label map": (GeometryError, r"label map and tomogram must have one shape: .*\(39, 48, 56\)"),
    "mask": (GeometryError, "expected the mask .* to have the shape"),
    "voxel size": (VoxelSizeError, "label map and tomogram must have one voxel size"),
    "label": (SettingsError, "label 8 belongs to none of the classes"),
    "class of a map": (SettingsError, "names the class 'gold'; the classes in the table of particles are"),
    "labels in a map": (FormatError, "holds the label 7, which belongs to none of the classes"),
    "grey map": (FormatError, "expected a label map of whole numbers"),
    "annotated": (SettingsError, "--annotated names the class 'gold'"),
    "shape of nothing": (SettingsError, "names the class 'gold'"),
    "no file": (FormatError, "no such label map"),
    "memory": (SettingsError, "needs .* MiB, allowed are"),
    "block": (SettingsError, "multiples of 4"),
    "output": (SettingsError, "would replace the tomogram"),
    "input": (SettingsError, "would replace .*given.zarr"),
    "anisotropic": (SettingsError, "compat needs cubic voxels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_clear_line(case, particles, tomogram, tmp_path, write_mrc, empty_tomogram) -> None:
    output, given, options = tmp_path / "t.zarr", particles, {}
    if case == "outside":
        given = table([*CENTRES, (40.0, 5.0, 5.0)], [*NAMES, "ribosome"])
    elif case == "no positions":
        given = table(CENTRES[1:3], NAMES[1:3])
    elif case == "no positions, a map of labels":
        given, options = table(CENTRES[1:3], NAMES[1:3]), {"add": write_mrc("m.mrc", membrane(3))}
    elif case == "no radius":
        given = Particles(particles.table, particles.tomograms, (ParticleClass("ribosome", 1), *CLASSES[1:]))
    elif case == "unknown class":
        write_classes(CLASSES[:1], tmp_path / "c.toml")
        options = {"classes": str(tmp_path / "c.toml")}
    elif case == "label map":
        options = {"add": f"{write_mrc('m.mrc', membrane()[:-1])}=3"}
    elif case == "mask":
        options = {"mask": write_mrc("m.mrc", membrane()[:-1])}
    elif case == "voxel size":
        options = {"add": f"{write_mrc('m.mrc', membrane(), 12.0)}=3"}
    elif case in ("label", "class of a map"):
        options = {"add": f"{write_mrc('m.mrc', membrane())}={'8' if case == 'label' else 'gold'}"}
    elif case == "labels in a map":
        options = {"add": write_mrc("m.mrc", membrane(7))}
    elif case == "grey map":
        options = {"add": write_mrc("m.mrc", membrane(0.5, np.float32))}
    elif case == "annotated":
        options = {"annotated": ("gold",)}
    elif case == "shape of nothing":
        options = {"shapes": "gold=gold.mrc"}
    elif case == "no file":
        options = {"add": str(tmp_path / "none.mrc=3")}
    elif case == "memory":
        options = {"memory": 2**20}
    elif case == "block":
        options = {"block": 6}
    elif case == "output":
        output = Path(tomogram.path)
    elif case == "input":
        create_image(tmp_path / "given.zarr", shape=SHAPE, dtype="uint8", voxel_size=10.0)
        finish_image(tmp_path / "given.zarr")
        output, options = tmp_path / "given.zarr", {"add": str(tmp_path / "given.zarr=3"), "overwrite": True}
    elif case == "anisotropic":
        tomogram, options = empty_tomogram(voxel_size=(10.0, 10.0, 12.0), name="uneven"), {"compat": True}
    error, words = REFUSED[case]
    with pytest.raises(error, match=words) as caught:
        target(given, tomogram, output, **options, **QUIET)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DeepFinderError)
    if not output.exists() or case in ("output", "input"):
        return
    with pytest.raises(FormatError, match="never finished"):
        Target.open(str(output))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("target.shapes = 'a.mrc'", "unknown key target.shapes; known are"),
        ("target.threshold = 0.5", "target.threshold belongs to target.shape, which is missing"),
        ("target.shape = 'a.mrc'\ntarget.threshold = 'high'", "target.threshold is a number"),
        ("target.labels = 'a.mrc'\ntarget.value = 0", "target.value is a label from 1 to 255"),
        ("target = 'a.mrc'", "target is a table with some of"),
    ],
)
def test_classes_files_that_cannot_work(lines, words, particles, tomogram, tmp_path, classes_file) -> None:
    path = classes_file(f'[[class]]\nname = "ribosome"\nlabel = 1\nradius = 80\n{lines}\n')
    with pytest.raises(FormatError, match=words):
        target(particles, tomogram, tmp_path / "t.zarr", classes=path, **QUIET)


def test_outputs_are_replaced_on_request_only_and_never_half(particles, tomogram, tmp_path, monkeypatch) -> None:
    output = tmp_path / "t.zarr"
    target(particles, tomogram, output, **QUIET)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        target(particles, tomogram, output, **QUIET)
    moved = table(np.array(CENTRES) + 1.0, NAMES)
    target(moved, tomogram, output, overwrite=True, **QUIET)

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("deepfinder_dask.targets.verb.finish_target", interrupt)
        with pytest.raises(KeyboardInterrupt):
            target(particles, tomogram, output, overwrite=True, **QUIET)
    with pytest.raises(FormatError, match="never finished"):
        Target.open(str(output))
    assert target(particles, tomogram, output, **QUIET).particles["ribosome"] == 2, "what is unfinished is replaced"
    assert not list(tmp_path.glob(".*.lock"))


def test_settings_take_one_text_for_several() -> None:
    assert TargetSettings(add="a.mrc=1").add == ("a.mrc=1",)
    with pytest.raises(SettingsError, match="CLASS=FILE"):
        TargetSettings(shapes="a.mrc")
    with pytest.raises(SettingsError, match="length in Å"):
        TargetSettings(ignore_shell=-3.0)
    with pytest.raises(SettingsError, match=r"unknown option 'shells'.*'shapes'"):
        target("a", "b", "c", shells=3)


def test_blocks_fit_the_memory() -> None:
    grid = plan_blocks((928, 928, 928), (), halo=(0, 0, 0), block=None, memory=400 * 2**20)
    assert np.prod(grid.core) * 32 <= 80 * 2**20
    shell = plan_blocks((928, 928, 928), (), halo=(8, 8, 8), block=None, memory=400 * 2**20)
    assert np.prod(shell.core) < np.prod(grid.core)
    with pytest.raises(SettingsError, match="use a smaller block, or at least --memory 448MiB"):
        plan_blocks((928, 928, 928), (), halo=(0, 0, 0), block=(128, 128, 256), memory=400 * 2**20)


def test_settings_are_light() -> None:
    code = "import deepfinder_dask.targets, sys; print([m for m in ('numpy', 'pandas', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
