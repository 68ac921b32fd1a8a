"""Formats of other programs: files they wrote, conventions worked out by hand, and every pair of formats."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from deepfinder_dask.errors import FormatError, GeometryError, InputError, SettingsError, VoxelSizeError
from deepfinder_dask.particles import (
    ParticleClass,
    Particles,
    ParticlesWarning,
    TomogramFacts,
    read_particles,
    write_particles,
)
from deepfinder_dask.particles import angles as euler
from deepfinder_dask.particles.formats import FORMATS, format_of_file
from deepfinder_dask.particles.formats.star import read_star

FACTS = TomogramFacts(8.0, (101, 200, 301))
CLASSES = (ParticleClass("ribosome", 1, radius=120.0), ParticleClass("ATP synthase", 2))


def one(tomogram="TS_01", **changes) -> Particles:
    """One particle at voxel x, y, z = 30.25, 20, 10."""
    options = {"labels": [2], "scores": [0.25], "sizes": [77], "orientations": [[10.0, 20.0, 30.0]]} | changes
    return Particles.from_voxels([[10.0, 20.0, 30.25]], tomogram=tomogram, facts=FACTS, classes=CLASSES, **options)


def many(**changes) -> Particles:
    """Particles of two tomograms and classes."""
    first = Particles.from_voxels(
        [[10.0, 20.0, 30.25], [100.0, 199.0, 0.0], [50.125, 1.0, 2.0]],
        tomogram="007",
        facts=FACTS,
        labels=[1, 2, 2],
        classes=CLASSES,
        orientations=[[10.0, 20.0, 30.0], [-170.0, 150.0, 5.0], [1.0, 90.0, 0.0]],
        **changes,
    )
    return Particles.concat([first, one("rec_TS_01")])


def quietly(function, *words, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParticlesWarning)
        return function(*words, **options)


TOLD = {"voxel_size": 8.0, "shape": (101, 200, 301), "classes": CLASSES, "binning": 1.0, "tidy_names": False}


class TestPairs:
    """From any format to any other, through Å."""

    def there_and_back(self, particles, name, folder) -> Particles:
        suffix = {"parquet": ".parquet", "csv": ".csv", "deepfinder_xml": ".xml", "dynamo": ".tbl"}.get(name, ".star")
        folded = next(one for one in FORMATS if one.name == name).layout or name == "copick"
        path = folder / (name if folded else f"p{suffix}")
        quietly(write_particles, particles, path, name)
        return quietly(read_particles, path, name, **TOLD)

    @pytest.mark.parametrize("first", [one.name for one in FORMATS])
    def test_positions_and_turns_survive(self, tmp_path, first):
        truth = many()
        between = self.there_and_back(truth, first, tmp_path / "first")
        for second in (one.name for one in FORMATS):
            after = self.there_and_back(between, second, tmp_path / "second" / second)
            order = [after.table.sort_values(["tomogram", "x"]).index, truth.table.sort_values(["tomogram", "x"]).index]
            assert after.table["tomogram"][order[0]].tolist() == truth.table["tomogram"][order[1]].tolist()
            voxels = np.abs(after.positions()[order[0]] - truth.positions()[order[1]]) / 8.0
            assert voxels.max() < 1e-3, (first, second)
            carry = [one.carries for one in FORMATS if one.name in (first, second)]
            if all("orientation" in one for one in carry):
                turn = euler.rotation(after.orientations()[order[0]]).inv() * euler.rotation(
                    truth.orientations()[order[1]]
                )
                assert np.rad2deg(turn.magnitude()).max() < 5e-3, (first, second)
            else:
                assert not after.oriented


ANGLE = st.floats(-180, 180)


class TestTurns:
    @given(st.tuples(ANGLE, st.floats(0, 180), ANGLE))
    def test_matrices_are_kept_by_all_angles(self, angles):
        """Also at 0 and 180 degrees, where two of the three angles turn about one axis."""
        given = np.array([angles])
        before = euler.rotation(given)
        slicer = euler.from_slicer(euler.to_slicer(given))
        original = euler.from_original(euler.to_original(given))
        for after in (slicer, original):
            assert (before.inv() * euler.rotation(after)).magnitude()[0] < 1e-6
        if before.magnitude()[0] > 1e-6:
            dynamo = euler.from_dynamo(euler.to_dynamo(given))
            assert (before.inv() * euler.rotation(dynamo)).magnitude()[0] < 1e-6

    def test_dynamo_by_hand(self):
        """Turn about fixed z by tdrot, x by tilt, z by narot: that takes the tomogram to the object."""

        def rz(a):
            c, s = np.cos(np.deg2rad(a)), np.sin(np.deg2rad(a))
            return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

        def rx(a):
            c, s = np.cos(np.deg2rad(a)), np.sin(np.deg2rad(a))
            return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])

        tdrot, tilt, narot = 20.0, 50.0, 80.0
        expected = (rz(narot) @ rx(tilt) @ rz(tdrot)).T
        found = euler.to_matrices(euler.from_dynamo([[tdrot, tilt, narot]]))[0]
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert np.isnan(euler.from_dynamo([[0, 0, 0]])).all()


class TestDynamo:
    def test_a_table_of_dynamo(self, data_dir):
        path = data_dir / "annotations" / "dynamo" / "t_double.tbl"
        with pytest.raises(VoxelSizeError, match="--voxel-size"):
            read_particles(path)
        particles = read_particles(path, voxel_size=2.0)
        assert len(particles) == 300
        first = np.array([141.28 + 2.5178, 114.71 - 3.523, 163.08 + 2.1043]) - 1  # counted from 1
        np.testing.assert_allclose(particles.table[["x", "y", "z"]].iloc[0], first * 2, atol=1e-9)
        assert particles.table["score"].iloc[0] == 0.15858
        expected = Rotation.from_euler("zxz", [175.66, 90.681, -129.51], degrees=True).inv().as_matrix()
        np.testing.assert_allclose(euler.to_matrices(particles.orientations())[0], expected, atol=1e-9)

    def test_first_voxel_is_one_and_names_are_listed(self, tmp_path):
        written = write_particles(many(), tmp_path / "t.tbl")
        assert [path.name for path in written] == ["t.tbl", "t.doc"]
        row = (tmp_path / "t.tbl").read_text().splitlines()[0].split()
        assert row[23:26] == ["31.25", "21", "11"]
        assert row[35] == "8"
        assert (tmp_path / "t.doc").read_text() == "1 007\n2 rec_TS_01\n"
        particles = read_particles(tmp_path / "t.tbl")  # column 36 has the voxel size
        assert particles.tomograms == {"007": TomogramFacts(8.0), "TS_01": TomogramFacts(8.0)}
        with pytest.warns(ParticlesWarning, match="has voxels of 8 Å"):
            assert read_particles(tmp_path / "t.tbl", voxel_size=10.0).table["x"].iloc[0] == 302.5
        assert list(read_particles(tmp_path / "t.tbl", tidy_names=False).tomograms) == ["007", "rec_TS_01"]
        assert list(read_particles(tmp_path / "t.tbl", tomograms=("a", "b")).tomograms) == ["a", "b"]
        with pytest.raises(SettingsError, match="names 1 tomograms"):
            read_particles(tmp_path / "t.tbl", tomograms="a")

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("1 2 3\n", "3 columns"),
            ("1 " * 35 + "\n" + "1 " * 34, "34 columns"),
            ("1 " * 23 + "nan " + "1 " * 11, "row 0"),
            ("1 " * 30 + "word " * 5, "numbers"),
            ("1 " * 19 + "1.5 " + "1 " * 15, "column 20"),
        ],
    )
    def test_refused_in_one_line(self, tmp_path, text, word):
        path = tmp_path / "t.tbl"
        path.write_text(text)
        with pytest.raises(FormatError, match=word) as error:
            read_particles(path, "dynamo", voxel_size=1.0)
        assert "\n" not in str(error.value)

    def test_lists_of_tomograms_are_checked(self, tmp_path):
        write_particles(many(), tmp_path / "t.tbl")
        for text, word in (("1 a\n", "tomogram 2 is not in"), ("1 a\n1 b\n", "twice"), ("one a\n", "line 1")):
            (tmp_path / "t.doc").write_text(text)
            with pytest.raises(FormatError, match=word):
                read_particles(tmp_path / "t.tbl")
        (tmp_path / "t.doc").write_text("1 a/rec_x.mrc\n2 b/x.rec\n")
        with pytest.raises(FormatError, match="both be named 'x'"):
            read_particles(tmp_path / "t.tbl")


class TestImod:
    def test_models_of_imod(self, data_dir):
        folder = data_dir / "annotations" / "imod"
        with pytest.raises(VoxelSizeError, match="--voxel-size"):
            read_particles(folder / "points_hist.mod")
        particles = read_particles(folder / "points_hist.mod", voxel_size=10.0)
        expected = np.array([[0.5, 1.5, 3], [-0.5, 0.5, 1], [7.5, 3.5, 5]]) * 10
        np.testing.assert_allclose(particles.table[["x", "y", "z"]], expected)
        sizes = quietly(read_particles, folder / "point_sizes_example.mod")
        assert sizes.tomograms["point_sizes_example"].voxel_size == (12.399, 12.399, 12.399)
        # Points clicked at centres of pixels are whole voxels here, though the header's origin is -281, -293, 539.
        np.testing.assert_allclose(sizes.voxel_positions("point_sizes_example")[0], (46, 898, 438), atol=1e-4)
        with pytest.warns(ParticlesWarning, match="1 names stand for several objects.*chemo-array"):
            several = read_particles(folder / "multiple_objects_example.mod")
        assert several.counts()["chemo-array"] == len(several)
        assert len(read_particles(folder / "slicer_angle_example.mod")) == 4

    def test_another_reader_finds_what_was_written(self, tmp_path):
        part = many().of_tomogram("007")
        write_particles(part, tmp_path / "007.mod")
        code = (
            "import imodmodel, json, sys; path = sys.argv[1]; table = imodmodel.read(path); "
            "model = imodmodel.ImodModel.from_file(path); head = model.header; "
            "print(json.dumps({'points': table[['x', 'y', 'z']].values.tolist(), 'ids': table['object_id'].tolist(), "
            "'names': [one.header.name for one in model.objects], 'size': [head.xmax, head.ymax, head.zmax], "
            "'pixel': [head.pixelsize, head.units], 'slicers': len(model.slicer_angles)}))"
        )
        # In a process of its own: it loads pydantic, which changes how the command line is parsed.
        words = [sys.executable, "-c", code, str(tmp_path / "007.mod")]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        expected = [[30.75, 20.5, 10], [0.5, 199.5, 100], [2.5, 1.5, 50.125]]
        np.testing.assert_allclose(found["points"], expected, atol=1e-5)
        assert found["ids"] == [0, 1, 1]
        assert found["names"] == ["ribosome", "ATP synthase"]
        assert found["size"] == [301, 200, 101]
        assert found["pixel"] == [pytest.approx(0.8), -9]
        assert found["slicers"] == 3

    def test_damage_is_one_line(self, tmp_path):
        write_particles(one(), tmp_path / "a.mod")
        whole = (tmp_path / "a.mod").read_bytes()
        for content in (whole[:-4], whole[:300], whole.replace(b"CONT\x00\x00\x00\x01", b"CONT\x7f\xff\xff\xff")):
            (tmp_path / "a.mod").write_bytes(content)
            with pytest.raises(FormatError, match="not a whole model") as error:
                read_particles(tmp_path / "a.mod")
            assert "\n" not in str(error.value)


class TestStar:
    def test_chlamy_lists(self, data_dir):
        folder = data_dir / "annotations" / "chlamy_star"
        with pytest.raises(VoxelSizeError, match="--voxel-size and --binning"):
            read_particles(folder / "ps2.star")
        ps2 = read_particles(folder / "ps2.star", voxel_size=7.84, binning=4.0)  # pixels of 1.96 Å
        np.testing.assert_allclose(
            ps2.table[["x", "y", "z"]].iloc[0], np.array([3726.465173, 3862.465173, 1041.465173]) * 1.96
        )
        assert set(ps2.table["class"]) == {"PSII"}
        assert "tomo_0024" in ps2.tomograms
        with pytest.warns(ParticlesWarning, match="taken as unbinned"):
            ribosomes = read_particles(folder / "mitoribosome.star", voxel_size=1.96)
        assert len(ribosomes) > 200
        assert ribosomes.table["tomogram"].iloc[0] == "tomo_0054"

    def test_warp_export_names_its_file(self, data_dir):
        particles = read_particles(data_dir / "annotations" / "star" / "one_loop.star")
        np.testing.assert_allclose(particles.table[["x", "y", "z"]].iloc[0], [7862.22, 5422.5, 4822.5])
        assert list(particles.tomograms) == ["tomo_ts01"]
        raw = read_particles(data_dir / "annotations" / "star" / "one_loop.star", tidy_names=False)
        assert list(raw.tomograms) == ["tomo_ts01.mrc_15.00Apx.mrc"]

    def test_star_files_that_are_no_lists(self, data_dir):
        folder = data_dir / "annotations" / "star"
        for name in ("empty_loop.star", "two_basic_blocks.star"):
            with pytest.raises(FormatError) as error:
                read_particles(folder / name, voxel_size=1.0)
            assert "\n" not in str(error.value)
        with pytest.warns(ParticlesWarning, match="2 blocks have positions"):
            assert len(read_particles(folder / "rln3.1_data_style.star", voxel_size=1.0, binning=1.0)) == 2

    def test_relion4_is_bin1(self, tmp_path):
        write_particles(one(), tmp_path / "p.star", "relion4", binning=4.0)
        blocks = read_star(tmp_path / "p.star")
        row = blocks["particles"].iloc[0]
        assert [row[f"rlnCoordinate{axis}"] for axis in "XYZ"] == [121.0, 80.0, 40.0]
        assert row["rlnTomoName"] == row["rlnMicrographName"] == "TS_01"
        assert blocks["optics"].iloc[0]["rlnTomoTiltSeriesPixelSize"] == 2.0
        assert (tmp_path / "p.star").read_text().lstrip().startswith("# version 30001")
        back = read_particles(tmp_path / "p.star")
        np.testing.assert_allclose(back.positions(), [[80.0, 160.0, 242.0]])

    def test_warp_is_single_block(self, tmp_path):
        write_particles(one("rec_7"), tmp_path / "p.star", "warp", binning=4.0)
        row = read_star(tmp_path / "p.star")[""].iloc[0]
        assert row["rlnMicrographName"] == "rec_7.tomostar"
        assert (row["rlnDetectorPixelSize"], row["rlnMagnification"]) == (2.0, 10000.0)
        assert row["rlnCoordinateX"] == 121.0
        assert list(read_particles(tmp_path / "p.star").tomograms) == ["7"]

    def test_subtomograms_are_composed_and_origins_turned(self, tmp_path):
        path = tmp_path / "p.star"
        path.write_text(
            "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n1 2.0\n\ndata_particles\n\nloop_\n"
            "_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnTomoSubtomogramRot\n"
            "_rlnTomoSubtomogramTilt\n_rlnTomoSubtomogramPsi\n_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n"
            "_rlnOriginXAngst\n_rlnOriginYAngst\n_rlnOriginZAngst\n_rlnOpticsGroup\n"
            "007 10 20 30 90 0 0 0 90 0 3 0 0 1\n"
        )
        particles = read_particles(path)
        # Rot 90 alone: the inverse of a turn by 90 about z takes x to -y, so an origin of 3 in x is -3 in y.
        np.testing.assert_allclose(particles.table[["x", "y", "z"]].iloc[0], [20, 40 + 3, 60], atol=1e-9)
        assert list(particles.tomograms) == ["007"]
        subtomogram = Rotation.from_euler("ZYZ", [90, 0, 0], degrees=True).inv()
        particle = Rotation.from_euler("ZYZ", [0, 90, 0], degrees=True).inv()
        expected = (subtomogram * particle).as_matrix()
        np.testing.assert_allclose(euler.to_matrices(particles.orientations())[0], expected, atol=1e-9)

    def test_tomograms_star_knows_the_pixels(self, tmp_path):
        star = tmp_path / "tomograms.star"
        head = "data_global\n\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesPixelSize\n_rlnTomoTomogramBinning\n"
        head += "_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n"
        star.write_text(head + "TS_01 2.0 4.0 1204 800 404\n")
        write_particles(one("rec_TS_01"), tmp_path / "p.star", "relion4", tomograms_star=str(star))
        assert read_star(tmp_path / "p.star")["particles"]["rlnCoordinateX"].tolist() == [121.0]
        particles = read_particles(tmp_path / "p.star", tomograms_star=str(star))
        assert particles.tomograms["TS_01"].voxel_size == (8.0, 8.0, 8.0)
        star.write_text(head + "TS_01 2.0 4.0 1204 800 404\nTS_01 2.0 4.0 1204 800 404\n")
        with pytest.raises(FormatError, match="'TS_01' stands there twice"):
            read_particles(tmp_path / "p.star", tomograms_star=str(star))

    COLUMNS = "_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnPixelSize\n"

    @pytest.mark.parametrize(
        ("columns", "row", "word"),
        [
            ("", "a 1 nan 3 2", "particle 0"),
            ("", "a 1 two 3 2", "numbers"),
            ("", "a 1 2 3 0", "rlnPixelSize should be above 0"),
            ("_rlnAngleRot\n", "a 1 2 3 2 5", "all of"),
            ("_rlnCoordinateX\n", "a 1 2 3 2 5", "twice"),
            ("_rlnClassNumber\n", "a 1 2 3 2 0", "label"),
        ],
    )
    def test_refused_in_one_line(self, tmp_path, columns, row, word):
        path = tmp_path / "p.star"
        path.write_text(f"data_\n\nloop_\n{self.COLUMNS}{columns}{row}\n")
        with pytest.raises(FormatError, match=word) as error:
            read_particles(path)
        assert "\n" not in str(error.value)

    def test_unknown_columns_are_counted_and_named(self, tmp_path):
        path = tmp_path / "p.star"
        path.write_text(f"data_\n\nloop_\n{self.COLUMNS}_mine\n_rlnAngelRot\n_rlnAngleRott\na 1 2 3 2 4 5 6\n")
        with pytest.warns(ParticlesWarning, match=r"2 columns .* \['mine', 'rlnAngleRott'\]"):
            assert len(read_particles(path)) == 1

    def test_one_name_for_two_tomograms(self, tmp_path):
        path = tmp_path / "p.star"
        path.write_text(f"data_\n\nloop_\n{self.COLUMNS}rec_a.mrc 1 2 3 2\na 1 2 3 2\n")
        with pytest.raises(FormatError, match="both be named 'a'; give --no-tidy-names"):
            read_particles(path)
        assert list(read_particles(path, tidy_names=False).tomograms) == ["rec_a.mrc", "a"]

    def test_stopgap_counts_from_one(self, tmp_path):
        write_particles(one(), tmp_path / "m.star", "stopgap")
        row = read_star(tmp_path / "m.star")["stopgap_motivelist"].iloc[0]
        assert [row["orig_x"] + row["x_shift"], row["orig_y"], row["orig_z"]] == [31.25, 21, 11]
        assert row["tomo_num"] == 1
        assert list(read_particles(tmp_path / "m.star", voxel_size=8.0).tomograms) == ["TS_01"]


class TestEman2:
    def test_centre_and_pixels_by_hand(self, tmp_path):
        (path,) = write_particles(one(), tmp_path / "TS_01_info.json", binning=4.0)
        document = json.loads(path.read_text())
        assert document["apix_unbin"] == 2.0
        (box,) = document["boxes_3d"]
        # Counted from n // 2 of 301, 200 and 101.
        assert box == [(30.25 - 150) * 4, (20 - 100) * 4, (10 - 50) * 4, "deepfinder", 0.25, 2]
        assert document["class_list"]["1"] == {"name": "ribosome", "boxsize": 180}
        assert format_of_file(path).name == "eman2"
        back = read_particles(path, voxel_size=8.0, shape=(101, 200, 301))
        np.testing.assert_allclose(back.positions(), [[80, 160, 242]])
        assert list(back.tomograms) == ["TS_01"]

    def test_what_is_missing_is_said(self, tmp_path):
        path = tmp_path / "a_info.json"
        path.write_text('{"boxes_3d": [[1, 2, 3, "manual", 0.0, 0]], "apix_unbin": 2.0}')
        with pytest.raises(GeometryError, match="--shape"):
            read_particles(path, voxel_size=8.0)
        with pytest.raises(VoxelSizeError, match="--voxel-size"):
            read_particles(path, shape=(10, 10, 10))
        particles = read_particles(path, voxel_size=8.0, shape=(10, 10, 10))
        assert particles.table["score"].isna().all()
        assert particles.table["class"].tolist() == ["particles_00"]
        for text, word in (('{"boxes_3d": []}', "apix_unbin"), ('{"boxes_3d": [[1]], "apix_unbin": 1}', "EMAN2's")):
            path.write_text(text)
            with pytest.raises(FormatError, match=word):
                read_particles(path, voxel_size=8.0, shape=(10, 10, 10))


class TestPortal:
    def test_lines_as_the_portal_has_them(self, tmp_path):
        path = tmp_path / "a.ndjson"
        write_particles(one(orientations=[[0.0, 90.0, 0.0]]), path)
        (line,) = path.read_text().splitlines()
        point = json.loads(line)
        assert point["type"] == "orientedPoint"
        assert point["location"] == {"x": 30.25, "y": 20.0, "z": 10.0}
        np.testing.assert_allclose(point["xyz_rotation_matrix"], [[0, 0, -1], [0, 1, 0], [1, 0, 0]], atol=1e-12)

    def test_all_three_kinds(self, tmp_path):
        path = tmp_path / "a.ndjson"
        matrix = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
        points = [
            {"type": "point", "location": {"x": 1, "y": 2, "z": 3}},
            {"type": "orientedPoint", "location": {"x": 1, "y": 2, "z": 4.5}, "rotation_matrix": matrix},
            {"type": "instancePoint", "location": {"x": 1, "y": 2, "z": 5}, "instance_id": 7},
        ]
        path.write_text("\n".join(json.dumps(point) for point in points))  # no line break at the end
        particles = read_particles(path, voxel_size=10.0)
        assert particles.table["z"].tolist() == [30.0, 45.0, 50.0]
        assert particles.table["instance_id"].isna().tolist() == [True, True, False]
        np.testing.assert_allclose(euler.to_matrices(particles.orientations())[1], matrix, atol=1e-12)
        for text, word in (
            ('{"type": "mesh", "location": {}}', "mesh"),
            ('{"type": "point", "location": {"x": 1}}', "line 1"),
            ('{"type": "point", "location": {"x": NaN, "y": 1, "z": 1}}', "no position"),
        ):
            path.write_text(text)
            with pytest.raises(FormatError, match=word) as error:
                read_particles(path, "portal", voxel_size=10.0)
            assert "\n" not in str(error.value)


class TestDeepFinderTxt:
    def test_text_as_the_original_writes_it(self, tmp_path):
        path = tmp_path / "TS_01.txt"
        write_particles(one(), path)
        assert path.read_text() == "2 10.0 20.0 30.25 77\n"  # label z y x size
        assert format_of_file(path).name == "deepfinder_txt"
        particles = read_particles(path, voxel_size=(1.0, 2.0, 3.0))
        assert particles.table[["x", "y", "z"]].iloc[0].tolist() == [90.75, 40.0, 10.0]
        for text, word in (("1 2 3\n", "line 1"), ("1 2 3 x\n", "line 1"), ("1 2 3 nan\n", "position")):
            path.write_text(text)
            with pytest.raises(FormatError, match=word):
                read_particles(path, "deepfinder_txt", voxel_size=1.0)


class TestManyTomograms:
    def test_names_are_mapped(self, tmp_path):
        rules = ("rec_*=*_bin4", "007=TS_07")
        write_particles(many(), tmp_path / "p.csv", rename=rules)
        assert list(read_particles(tmp_path / "p.csv").table["tomogram"].unique()) == ["TS_07", "TS_01_bin4"]
        back = read_particles(tmp_path / "p.csv", rename=("*_bin4=rec_*", "TS_07=007"))
        assert list(back.tomograms) == ["007", "rec_TS_01"]
        for wrong, word in (
            (("a",), "OLD=NEW"),
            (("nobody=x",), "fits none"),
            (("*=x",), "one name 'x'"),
            (("a=*",), "OLD=NEW"),
        ):
            with pytest.raises(SettingsError, match=word) as error:
                write_particles(many(), tmp_path / "q.csv", rename=wrong)
            assert "\n" not in str(error.value)
        assert not (tmp_path / "q.csv").exists()

    def test_a_file_for_each_tomogram(self, tmp_path):
        written = write_particles(many(), tmp_path / "m" / "x_{tomogram}.mod")
        assert [path.name for path in written] == ["x_007.mod", "x_rec_TS_01.mod"]
        back = read_particles(tmp_path / "m" / "x_{tomogram}.mod")
        assert back.table["tomogram"].tolist() == ["007"] * 3 + ["rec_TS_01"]
        assert back.tomograms["007"] == FACTS
        assert read_particles(tmp_path / "m" / "x_{tomogram}.mod", rename="rec_*=*").tomograms["TS_01"] == FACTS
        written = write_particles(many(), tmp_path / "{tomogram}" / "{class}.csv")  # any format can be split
        assert len(written) == 4
        assert len(read_particles(tmp_path / "{tomogram}" / "{class}.csv")) == 4

    def test_what_one_file_cannot_hold_is_said(self, tmp_path):
        with pytest.raises(SettingsError, match=r"imod holds one tomogram, these are 2.*\{tomogram\}\.mod") as error:
            write_particles(many(), tmp_path / "a.mod")
        assert "\n" not in str(error.value)
        with pytest.raises(SettingsError, match=r"portal holds one class, these are 2.*\{class\}\.ndjson"):
            write_particles(many().of_tomogram("007"), tmp_path / "a.ndjson")
        with pytest.raises(SettingsError, match=r"unknown placeholder \{tomo\}"):
            write_particles(many(), tmp_path / "{tomo}.mod")
        with pytest.raises(SettingsError, match="--rename"):
            write_particles(one("a/b"), tmp_path / "{tomogram}.mod")
        with pytest.raises(InputError, match="no such files"):
            read_particles(tmp_path / "{tomogram}.mod")
        assert not list(tmp_path.iterdir())

    def test_labels_stay_apart_between_files(self, tmp_path):
        """Files that name classes, without labels: each name keeps one label in all of them."""
        write_particles(many(), tmp_path / "portal", "portal")
        (tmp_path / "portal" / "007" / "ribosome.ndjson").unlink()
        back = quietly(read_particles, tmp_path / "portal", voxel_size=8.0)
        labels = {(row["class"], row["label"]) for row in back.table.to_dict("records")}
        assert len(labels) == len({name for name, _ in labels})


class TestOddInput:
    def test_particles_outside_are_counted_and_named(self, tmp_path):
        write_particles(many(), tmp_path / "p.csv")
        with pytest.warns(ParticlesWarning, match=r"1 of 4 particles lie outside .* first particle 1 .* '007'"):
            read_particles(tmp_path / "p.csv", voxel_size=8.0, shape=(101, 199, 301))

    def test_an_empty_table_is_named(self, tmp_path):
        write_particles(Particles.empty({"a": FACTS}, CLASSES), tmp_path / "p.csv")
        with pytest.warns(ParticlesWarning, match=r"p\.csv: no particles in it"):
            assert len(read_particles(tmp_path / "p.csv")) == 0

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("x,y,z\n1,nan,3\n", "row 0 has no position"),
            ("x,y,z\n1,inf,3\n", "infinite"),
            ("a,b,c\n1,2,3\n", "known format"),
            ("x,y\n1,2\n", "known format|'z'"),
        ],
    )
    def test_refused_in_one_line(self, tmp_path, text, word):
        path = tmp_path / "p.dat"
        path.write_text(text)
        with pytest.raises(FormatError, match=word) as error:
            read_particles(path)
        assert "\n" not in str(error.value)

    def test_all_annotations_read(self, data_dir):
        """Every particle list among the annotations, by its content alone and with the voxel size told."""
        folder = data_dir / "annotations"
        lists = [*folder.glob("czi_portal/*.*"), *folder.glob("chlamy_star/*.star"), *folder.glob("imod/*.mod")]
        lists += [*folder.glob("dynamo/*.tbl"), *folder.glob("copick_TS_5_4/ExperimentRuns/*/Picks/*.json")]
        lists += [folder / "star" / "one_loop.star", folder / "star" / "rln3.1_data_style.star"]
        lists += [*folder.glob("relion5/test_jobs/*/*/*optimisation_set.star")]
        lists += [
            *folder.glob("relion5/test_jobs/*/*/*data.star"),
            *folder.glob("relion5/test_jobs/*/*/particles.star"),
        ]
        read = 0
        for path in lists:
            if path.suffix in (".mrc", ".zarr") or path.name == "run_it040_optimisation_set.star":
                continue  # volumes; an optimisation set whose particles are not there
            particles = quietly(read_particles, path, voxel_size=10.52, shape=(44, 136, 84))
            assert len(particles), path
            assert np.isfinite(particles.positions()).all()
            read += 1
        assert read > 25
