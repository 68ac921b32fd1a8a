"""What every format keeps: each format inherits the same cases."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from deepfinder_dask.errors import DeepFinderError, OutputExistsError, SettingsError
from deepfinder_dask.particles import (
    ParticleClass,
    Particles,
    ParticlesWarning,
    TomogramFacts,
    read_particles,
    write_particles,
)
from deepfinder_dask.particles import angles as euler
from deepfinder_dask.particles.formats import FORMATS, format_named, format_of_file
from deepfinder_dask.particles.table import ORIENTATION

CLASSES = (ParticleClass("class_1", 1, radius=60.0), ParticleClass("4cr2", 3), ParticleClass("late one", 200))
FACTS = TomogramFacts((13.48, 13.48, 13.48), (101, 203, 304))
FINITE = st.floats(0, 400, allow_nan=False)
ROW = st.tuples(
    st.sampled_from(["007", "TS_5_4", "tomo-1.5", "1e5"]),
    st.sampled_from(CLASSES),
    st.tuples(FINITE, FINITE, FINITE),
    st.one_of(st.just(float("nan")), st.floats(0, 1)),
    st.one_of(st.none(), st.integers(1, 2**40)),
    st.tuples(st.floats(-180, 180), st.floats(0, 180), st.floats(-180, 180)),
)


def table(rows, oriented=True) -> Particles:
    """Particles from drawn rows, positions in voxels z, y, x."""
    names, classes, voxels, scores, sizes, angles = zip(*rows, strict=True) if rows else ((),) * 6
    zyx = np.reshape(voxels, (-1, 3)) * np.asarray(FACTS.voxel_size)
    frame = pd.DataFrame(
        {
            "tomogram": list(names),
            "class": [one.name for one in classes],
            "label": [one.label for one in classes],
            "x": zyx[:, 2],
            "y": zyx[:, 1],
            "z": zyx[:, 0],
            "score": list(scores),
            "size_voxels": pd.array(list(sizes), dtype="Int64"),
        }
    )
    if oriented:
        frame[ORIENTATION] = np.reshape(angles, (-1, 3))
    return Particles(frame, {"007": FACTS, "empty": FACTS, **dict.fromkeys(names, FACTS)}, CLASSES)


FIXED = table(
    [
        ("007", CLASSES[0], (1.0, 2.0, 3.0), 0.5, 10, (10.0, 20.0, 30.0)),
        ("007", CLASSES[1], (50.25, 60.125, 70.0625), float("nan"), None, (-170.0, 90.0, 0.0)),
        ("TS_5_4", CLASSES[1], (0.0, 200.0, 300.0), 1.0, 2**33, (0.0, 180.0, 45.0)),
        ("0042", CLASSES[2], (100.0, 0.0, 0.0), 1e-9, 1, (33.0, 0.0, 21.0)),
    ]
)


class OneLine(Exception):
    """An error of ours, in one line."""


@contextmanager
def one_line():
    try:
        yield
    except DeepFinderError as error:
        if "\n" in str(error):
            raise
        raise OneLine from error


class FormatContract:
    """Cases that hold for every format; a subclass names the format and the file."""

    format: str
    file: str

    def there_and_back(self, particles, folder, **options) -> Particles:
        path = folder / self.file
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParticlesWarning)
            written = write_particles(particles, path, self.format, overwrite=True)
            back = read_particles(path, classes=CLASSES, voxel_size=13.48, shape=(101, 203, 304), **options)
        assert written
        assert all(one.is_file() for one in written)
        assert not list(folder.rglob("*.partial"))
        return back

    @property
    def carries(self):
        return format_named(self.format).carries

    def assert_kept(self, before: Particles, after: Particles):
        """Rows may come back in another order (one file a class), but all of them and nothing else."""
        keys = ["tomogram", "label", "x", "y", "z"]
        a = before.table.assign(**before.table[["x", "y", "z"]].round(2)).sort_values(keys).index
        b = after.table.assign(**after.table[["x", "y", "z"]].round(2)).sort_values(keys).index
        if list(before.table.index) != list(a) and np.allclose(before.positions(), after.positions(), atol=0.0135):
            a = b = before.table.index  # order kept
        left, right = before.table.loc[a], after.table.loc[b]
        assert list(left["tomogram"]) == list(right["tomogram"])
        assert list(left["class"]) == list(right["class"])
        assert list(left["label"]) == list(right["label"])
        voxels = np.abs(left[["x", "y", "z"]].to_numpy() - right[["x", "y", "z"]].to_numpy()) / 13.48
        assert voxels.max(initial=0) < 1e-3
        if "score" in self.carries:
            np.testing.assert_array_equal(left["score"], right["score"])
        else:
            assert right["score"].isna().all()
        if "size_voxels" in self.carries:
            assert left["size_voxels"].tolist() == right["size_voxels"].tolist()
        else:
            assert right["size_voxels"].isna().all()
        if "orientation" in self.carries and before.oriented:
            turn = euler.rotation(left[ORIENTATION]).inv() * euler.rotation(right[ORIENTATION])
            assert np.rad2deg(turn.magnitude()).max() < 5e-3
        else:
            assert not after.oriented

    def test_positions_names_scores_sizes_orientations(self, tmp_path):
        self.assert_kept(FIXED, self.there_and_back(FIXED, tmp_path))

    def test_without_orientation_none_is_invented(self, tmp_path):
        bare = FIXED.with_table(FIXED.table.drop(columns=ORIENTATION))
        back = self.there_and_back(bare, tmp_path)
        self.assert_kept(bare, back)
        assert not back.oriented

    def test_partly_unknown_orientations_and_scores(self, tmp_path):
        frame = FIXED.table.copy()
        frame.loc[[0, 2], ORIENTATION] = np.nan
        frame["score"] = np.nan
        back = self.there_and_back(FIXED.with_table(frame), tmp_path)
        if "orientation" in self.carries:
            assert sorted(back.table.loc[back.table["rot"].notna(), "tomogram"]) == ["0042", "007"]
        assert back.oriented == ("orientation" in self.carries)
        assert back.table["score"].isna().all()

    def test_empty_table(self, tmp_path):
        back = self.there_and_back(Particles.empty({"007": FACTS}, CLASSES), tmp_path)
        assert len(back) == 0
        assert back.classes == CLASSES
        if "empty" in self.carries:
            assert list(back.tomograms) == ["007"]

    def test_known_classes_come_back_whole(self, tmp_path):
        assert self.there_and_back(FIXED, tmp_path).classes == CLASSES

    def test_facts_come_back_or_are_told(self, tmp_path):
        back = self.there_and_back(FIXED, tmp_path)
        assert back.tomograms["007"] == FACTS

    def test_format_is_recognised(self, tmp_path):
        self.there_and_back(FIXED, tmp_path)
        assert format_of_file(tmp_path / self.file).name == self.format

    def test_existing_files_are_refused_untouched(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParticlesWarning)
            written = write_particles(FIXED, tmp_path / self.file, self.format)
            before = [one.read_bytes() for one in written]
            with pytest.raises(OutputExistsError, match="--overwrite") as error:
                write_particles(FIXED.of_tomogram("007"), tmp_path / self.file, self.format)
        assert "\n" not in str(error.value)
        assert [one.read_bytes() for one in written] == before

    def test_the_same_table_gives_the_same_bytes(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParticlesWarning)
            first = write_particles(FIXED, tmp_path / "a" / self.file, self.format)
            second = write_particles(FIXED, tmp_path / "b" / self.file, self.format)
        for one, other in zip(first, second, strict=True):
            if "optimisation" not in one.name:
                assert one.read_bytes() == other.read_bytes()

    def test_damaged_files_give_one_line(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParticlesWarning)
            file = write_particles(FIXED, tmp_path / self.file, self.format)[0]
        whole = file.read_bytes()
        random = np.random.default_rng(0)
        cuts = [whole[:n] for n in random.integers(0, len(whole) - 1, 10)]
        swaps = [whole[:n] + bytes([b]) + whole[n + 1 :] for n, b in random.integers(0, (len(whole), 256), (30, 2))]
        for content in [b"", b"\x00" * 100, b"hello\n", *cuts, *swaps]:
            file.write_bytes(content)
            with suppress(OneLine), one_line(), warnings.catch_warnings():
                warnings.simplefilter("ignore", ParticlesWarning)
                read_particles(file, self.format, classes=CLASSES, voxel_size=13.48, shape=(101, 203, 304), binning=1)

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(rows=st.lists(ROW, min_size=1, max_size=4), oriented=st.booleans())
    def test_any_table(self, tmp_path_factory, rows, oriented):
        voxels = [(row[0], row[1].label, *np.round(row[2], 1)) for row in rows]
        assume(len(set(voxels)) == len(voxels))
        particles = table(rows, oriented)
        if oriented:
            turns = euler.rotation(particles.orientations()).magnitude()
            assume((turns > 1e-6).all())
        self.assert_kept(particles, self.there_and_back(particles, tmp_path_factory.mktemp("any")))

    def test_a_swapped_axis_is_noticed(self, tmp_path):
        """The cases above can fail: x and z exchanged, or an angle's sign, or a shift by a voxel."""
        back = self.there_and_back(FIXED, tmp_path)
        faults = [
            back.table.rename(columns={"x": "z", "z": "x"}),
            back.table.assign(x=back.table["x"] + 13.48),
            back.table.assign(label=1, **{"class": "class_1"}),
        ]
        if "orientation" in self.carries:
            faults.append(back.table.assign(psi=-back.table["psi"] + 1.0))
        for wrong in faults:
            with pytest.raises(AssertionError):
                self.assert_kept(FIXED, back.with_table(wrong))


class TestParquet(FormatContract):
    format, file = "parquet", "particles.parquet"


class TestCsv(FormatContract):
    format, file = "csv", "particles.csv"


class TestTsv(FormatContract):
    format, file = "csv", "particles.tsv"


class TestDeepFinderXml(FormatContract):
    format, file = "deepfinder_xml", "particles.xml"


class TestDeepFinderTxt(FormatContract):
    format, file = "deepfinder_txt", "lists"


class TestRelion4(FormatContract):
    format, file = "relion4", "particles.star"


class TestWarp(FormatContract):
    format, file = "warp", "particles.star"


class TestStopgap(FormatContract):
    format, file = "stopgap", "motl.star"


class TestDynamo(FormatContract):
    format, file = "dynamo", "particles.tbl"


class TestImod(FormatContract):
    format, file = "imod", "models"


class TestPortal(FormatContract):
    format, file = "portal", "annotations"


class TestEman2(FormatContract):
    format, file = "eman2", "info"


class TestRelion5(FormatContract):
    format, file = "relion5", "particles.star"


class TestRelion5Folder(FormatContract):
    format, file = "relion5", "job"


class TestCopick(FormatContract):
    format, file = "copick", "project"


def test_every_format_is_under_contract():
    tested = {one.format for one in FormatContract.__subclasses__()}
    assert tested == {one.name for one in FORMATS}


def test_formats_by_name_and_by_suffix(tmp_path):
    assert format_named("deepfinder-xml").name == "deepfinder_xml"
    with pytest.raises(SettingsError, match="no particle format 'peet'"):
        format_named("peet")
    with pytest.raises(SettingsError, match="suffix"):
        write_particles(FIXED, tmp_path / "particles.xyz")
    with pytest.raises(SettingsError, match="unknown option 'colour'"):
        write_particles(FIXED, tmp_path / "particles.csv", colour="red")


def test_rotations_agree_with_matrices_written_out():
    """One particle by hand: the conventions, without scipy's."""

    def rz(a):
        c, s = np.cos(np.deg2rad(a)), np.sin(np.deg2rad(a))
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    def ry(a):
        c, s = np.cos(np.deg2rad(a)), np.sin(np.deg2rad(a))
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])

    def rx(a):
        c, s = np.cos(np.deg2rad(a)), np.sin(np.deg2rad(a))
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])

    rot, tilt, psi = 20.0, 50.0, 80.0
    relion = (rz(rot) @ ry(tilt) @ rz(psi)).T
    np.testing.assert_allclose(euler.rotation([[rot, tilt, psi]]).as_matrix()[0], relion, atol=1e-12)
    phi, psi_o, the = 12.0, 34.0, 56.0
    original = rz(psi_o) @ rx(the) @ rz(phi)
    table_angles = euler.from_original([[phi, psi_o, the]])
    np.testing.assert_allclose(euler.to_matrices(table_angles)[0], original, atol=1e-12)
    np.testing.assert_allclose(euler.to_original(table_angles), [[phi, psi_o, the]], atol=1e-9)
    np.testing.assert_allclose(euler.to_matrices(euler.from_matrices(original[None]))[0], original, atol=1e-12)
    with pytest.raises(ValueError, match="matrix 0"):
        euler.from_matrices(np.diag([1.0, 1.0, -1.0])[None])
    assert isinstance(euler.rotation([[1, 2, 3]]), Rotation)
