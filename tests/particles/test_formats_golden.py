"""Files that other programs wrote, against values tabulated here by hand."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from scipy.ndimage import affine_transform

from deepfinder_dask.errors import FormatError, InputError, OutputExistsError, VoxelSizeError
from deepfinder_dask.particles import (
    ParticleClass,
    Particles,
    ParticlesWarning,
    TomogramFacts,
    export,
    import_particles,
    read_particles,
    write_particles,
)
from deepfinder_dask.particles import angles as euler
from deepfinder_dask.particles.formats.star import read_star


def passive(rot, tilt, psi):
    """RELION's matrix as its documentation writes it: rotations of the axes about z, y, z."""
    ca, sa, cb, sb, cg, sg = (f(np.deg2rad(a)) for a in (rot, tilt, psi) for f in (np.cos, np.sin))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


class TestOriginalXml:
    def test_tomogram_objects(self, data_dir):
        path = data_dir / "original_deepfinder" / "tomogram_objects.xml"
        particles = read_particles(path, voxel_size=10.0, tomograms=("tomogram",))
        assert len(particles) == 60
        assert particles.counts() == {"class_1": 30, "class_2": 30}
        assert list(particles.tomograms) == ["tomogram"]
        np.testing.assert_array_equal(
            particles.table[["label", "x", "y", "z"]].head(3),
            [[1, 810, 870, 810], [2, 130, 460, 300], [1, 310, 70, 110]],
        )
        voxels = particles.voxel_positions("tomogram")
        assert (voxels >= 0).all()
        assert (voxels < (100, 140, 160)).all()  # the tomogram's shape, z, y, x: an exchange of axes does not fit

    def test_angles_place_the_masks_as_the_original_did(self, data_dir):
        """Masks turned by the imported orientations give the original's own target (it puts them at whole voxels)."""
        folder = data_dir / "original_deepfinder"
        particles = read_particles(folder / "objects.xml", voxel_size=10.0)
        target = np.load(folder / "targets.npz")["shapes"]
        masks = np.load(folder / "masks.npz")
        zyx = [2, 1, 0]
        turns = euler.to_matrices(particles.orientations())[:, zyx][:, :, zyx]
        middle = np.full(3, 20.0)
        overlaps: dict[str, list[float]] = {"as read": [], "inverse": [], "x and z exchanged": []}
        corners = np.floor(particles.voxel_positions("0")).astype(int) - 20
        for corner, label, turn in zip(corners, particles.table["label"], turns, strict=True):
            if (corner < 0).any() or (corner + 40 > target.shape).any():
                continue
            theirs = target[tuple(slice(c, c + 40) for c in corner)] == label
            mask = masks[["4cr2", "3d2f", "1qvr"][label - 1]].astype(float)
            for how, one in zip(overlaps, (turn, turn.T, turn[zyx][:, zyx]), strict=True):
                ours = affine_transform(mask, one.T, offset=middle - one.T @ middle, order=1) > 0.5
                overlaps[how].append(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
        assert len(overlaps["as read"]) > 5
        assert np.median(overlaps["as read"]) > 0.99
        assert np.median(overlaps["inverse"]) < 0.8
        assert np.median(overlaps["x and z exchanged"]) < 0.8

    def test_voxels_need_a_voxel_size(self, data_dir):
        with pytest.raises(VoxelSizeError, match="--voxel-size"):
            read_particles(data_dir / "original_deepfinder" / "objects.xml")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
    @pytest.mark.parametrize("declared", ["utf-16", "latin-1", None])
    def test_any_encoding(self, tmp_path, encoding, declared):
        if encoding in ("latin-1", "utf-8") and declared not in (encoding, None):
            declared = "utf-16" if encoding == "utf-8" else "latin-1"  # ASCII text that claims to be UTF-16 exists
        head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
        path = tmp_path / "objects.xml"
        path.write_bytes(f'{head}<objlist><object class_label="2" x="1.5" y="2" z="3"/></objlist>'.encode(encoding))
        particles = read_particles(path, voxel_size=(4, 2, 1))
        assert particles.table[["x", "y", "z"]].to_numpy().tolist() == [[1.5, 4.0, 12.0]]

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ('<!DOCTYPE a [<!ENTITY b "c">]><objlist><object class_label="&b;"/></objlist>', "DTD"),
            ('<!DOCTYPE objlist SYSTEM "file:///etc/passwd"><objlist/>', "DTD"),
            ("<Session><object/></Session>", "<Session>"),
            ('<objlist><object x="1" y="1" z="1"/></objlist>', "class_label"),
            ('<objlist><object class_label="1" x="1" y="one" z="1"/></objlist>', "'one'"),
            ('<objlist><object class_label="1" x="1" y="nan" z="1"/></objlist>', "'y'"),
            ('<objlist><object class_label="0" x="1" y="1" z="1"/></objlist>', "label"),
            ('<objlist><object class_label="1" x="1"', "whole XML"),
            ('<objlist><object class_label="1.5" x="1" y="1" z="1"/></objlist>', "whole numbers"),
        ],
    )
    def test_refused_in_one_line(self, tmp_path, text, word):
        path = tmp_path / "objects.xml"
        path.write_text(text)
        with pytest.raises(FormatError, match=word) as error:
            read_particles(path, voxel_size=1.0)
        assert "\n" not in str(error.value)

    def test_text_as_the_original_writes_it(self, tmp_path):
        particles = Particles.from_voxels(
            [[12.3456, 2.0, 1.0]],
            tomogram='a "b" & <c>',
            facts=TomogramFacts((3.0, 2.0, 1.0)),
            labels=[2],
            classes=[ParticleClass("x", 2)],
            scores=[0.5],
            sizes=[77],
            orientations=euler.from_original([[10.0, 20.0, 30.0]]),
        )
        write_particles(particles, tmp_path / "o.xml")
        assert (tmp_path / "o.xml").read_text().splitlines()[1].strip() == (
            '<object tomo_idx="0" obj_id="0" class_label="2" x="1.000" y="2.000" z="12.346" phi="10.000" psi="20.000" '
            'the="30.000" cluster_size="77" tomo_name=\'a "b" &amp; &lt;c&gt;\' class_name="x" score="0.5"/>'
        )
        back = read_particles(tmp_path / "o.xml", voxel_size=(3.0, 2.0, 1.0))
        assert list(back.tomograms) == ['a "b" & <c>']


class TestCopick:
    def test_real_project(self, data_dir):
        particles = read_particles(data_dir / "annotations" / "copick_TS_5_4")
        assert particles.counts() == {
            "apo-ferritin": 46,
            "beta-amylase": 10,
            "beta-galactosidase": 12,
            "ribosome": 31,
            "thyroglobulin": 30,
            "virus-like-particle": 11,
        }
        assert list(particles.tomograms) == ["TS_5_4"]
        assert not particles.oriented  # identities everywhere say nothing, whatever trust_orientation says
        assert particles.table["score"].isna().all()
        first = {
            "apo-ferritin": (468.514, 5915.906, 604.167),
            "beta-amylase": (5417.091, 1120.574, 567.527),
            "ribosome": (4601.271, 601.066, 600.934),
            "virus-like-particle": (626.933, 1151.091, 637.139),
        }
        for name, position in first.items():
            row = particles.of_class(name).table.iloc[0]
            assert (row["x"], row["y"], row["z"]) == position

    @pytest.mark.parametrize("part", ["ExperimentRuns", "ExperimentRuns/TS_5_4", "ExperimentRuns/TS_5_4/Picks"])
    def test_parts_of_a_project(self, data_dir, part):
        assert len(read_particles(data_dir / "annotations" / "copick_TS_5_4" / part)) == 140

    def test_one_file_with_labels_told(self, data_dir):
        path = data_dir / "annotations" / "copick_TS_5_4" / "ExperimentRuns" / "TS_5_4" / "Picks" / "ribosome.json"
        classes = (ParticleClass("ribosome", 7, radius=150.0), ParticleClass("other", 1))
        particles = read_particles(path, classes=classes)
        assert set(particles.table["label"]) == {7}
        assert list(particles.tomograms) == ["TS_5_4"]

    def test_matrices_are_the_angles_of_the_same_points_in_relion(self, data_dir):
        """The portal's test files hold the same poses as RELION angles and as copick matrices."""
        copick = read_particles(data_dir / "annotations" / "czi_portal" / "copick.json")
        relion = read_star(data_dir / "annotations" / "czi_portal" / "relion_4_star.star")["particles"]
        for row, source in enumerate((0, 1, 3, 4)):
            angles = relion[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float)
            turns = [passive(*one) for one in angles]
            ours = euler.to_matrices(copick.orientations()[row][None])[0]
            assert min(np.abs(ours - one).max() for one in turns) < 1e-6, source

    def test_users_and_sessions(self, tmp_path):
        facts = TomogramFacts(10.0)
        classes = [ParticleClass("a_b c", 1), ParticleClass("ice", 2, kind="structure")]
        particles = Particles.from_voxels([[1, 2, 3]], tomogram="t_1", facts=facts, labels=[1], classes=classes)
        written = write_particles(particles, tmp_path / "p", user="me")
        assert [str(one.relative_to(tmp_path)) for one in written] == ["p/ExperimentRuns/t_1/Picks/me_0_a-b-c.json"]
        document = json.loads(written[0].read_text())
        assert document["points"][0]["location"] == {"x": 30.0, "y": 20.0, "z": 10.0}
        assert document["points"][0]["score"] is None
        assert document["trust_orientation"] is False
        write_particles(particles, tmp_path / "p", user="you", session="3")
        with pytest.raises(FormatError, match="--user or --session"):
            read_particles(tmp_path / "p")
        assert len(read_particles(tmp_path / "p", user="you")) == 1
        with pytest.raises(FormatError, match=r"\('me', '0'\), \('you', '3'\)"):
            read_particles(tmp_path / "p", user="nobody")
        for options in ({"user": "a_b"}, {"session": ""}):
            with pytest.raises(InputError):
                write_particles(particles, tmp_path / "q", **options)
        twins = Particles.empty({"t": facts}, [ParticleClass("a_b", 1), ParticleClass("a-b", 2)])
        with pytest.raises(InputError, match="both be named"):
            write_particles(twins, tmp_path / "q")
        with pytest.raises(InputError, match="folder"):
            write_particles(Particles.empty({"../t": facts}, [ParticleClass("a", 1)]), tmp_path / "q")
        assert not (tmp_path / "q").exists()

    def test_shift_of_the_transformation_and_instances(self, tmp_path):
        matrix = np.eye(4)
        matrix[:3, :3] = passive(10, 20, 30)
        matrix[:3, 3] = (1, 2, 3)
        point = {"location": {"x": 10, "y": 20, "z": 30}, "transformation_": matrix.tolist(), "instance_id": 4}
        document = {"pickable_object_name": "a", "unit": "angstrom", "run_name": "r", "points": [point]}
        path = tmp_path / "a.json"
        path.write_text(json.dumps(document))
        particles = read_particles(path)
        assert particles.table[["x", "y", "z"]].iloc[0].tolist() == [11, 22, 33]
        np.testing.assert_allclose(particles.orientations(), [[10, 20, 30]])
        assert particles.table["instance_id"].tolist() == [4]
        path.write_text(json.dumps({**document, "unit": "pixel"}))
        with pytest.raises(FormatError, match="'pixel'"):
            read_particles(path)
        path.write_text(json.dumps({**document, "points": [{**point, "transformation_": (2 * matrix).tolist()}]}))
        with pytest.raises(FormatError, match="no rotation"):
            read_particles(path)


class TestVerbs:
    def test_import_and_export(self, tmp_path, data_dir):
        source = data_dir / "original_deepfinder" / "tomogram_objects.xml"
        kept = tmp_path / "kept.parquet"
        particles = import_particles(source, kept, voxel_size=10.0, shape=(100, 140, 160), tomograms="tomogram")
        assert len(Particles.read(kept)) == len(particles) == 60
        with pytest.raises(OutputExistsError):
            import_particles(source, kept, voxel_size=10.0)
        import_particles(source, kept, voxel_size=10.0, shape=(100, 140, 160), overwrite=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParticlesWarning)
            for name in ("a.csv", "a.tsv", "a.xml", "a.star", "project"):
                assert export(kept, tmp_path / name)
        with pytest.raises(OutputExistsError):
            export(kept, tmp_path / "a.csv")

    def test_things_that_are_not_there_or_not_files(self, tmp_path):
        (tmp_path / "folder.csv").mkdir()
        for path in (tmp_path / "none.xml", tmp_path / "folder.csv"):
            for format in (None, "csv", "deepfinder_xml", "relion5", "copick", "parquet"):
                with pytest.raises(InputError) as error:
                    read_particles(path, format, voxel_size=1.0)
                assert "\n" not in str(error.value)

    def test_the_folder_of_a_run_is_read_by_its_table(self, tmp_path):
        particles = Particles.empty({"t": TomogramFacts(10.0)}, [ParticleClass("a", 1)])
        particles.write(tmp_path / "run" / "particles.parquet")
        write_particles(particles, tmp_path / "run" / "particles.csv")
        assert read_particles(tmp_path / "run").tomograms == particles.tomograms

    def test_unknown_files_are_named(self, tmp_path, data_dir):
        with pytest.raises(FormatError) as error:
            read_particles(data_dir / "annotations" / "relion5")
        assert "\n" not in str(error.value)
        with pytest.raises(FormatError):
            read_particles(data_dir / "real" / "emd_1155.ccp4")
        with pytest.raises(InputError, match="no such file"):
            read_particles(tmp_path / "none.csv")

    def test_csv_of_others(self, tmp_path, data_dir):
        for name in ("points_with_header.csv", "points_with_header_pipe_delim.csv"):
            particles = read_particles(data_dir / "annotations" / "czi_portal" / name, classes=[ParticleClass("a", 3)])
            np.testing.assert_array_equal(particles.table[["x", "y", "z"]], [[1, 2, 3], [2, 2, 2], [0, 3, 0]])
            assert set(particles.table["class"]) == {"a"}
        path = tmp_path / "t.csv"
        path.write_text("tomogram;class;x;y;z;note\r\n007;NA;1;2;3;\r\n'8';nan;1e1;2;3;b\r\n")
        with pytest.warns(ParticlesWarning, match=r"t\.csv: 1 unknown column is kept: \['note'\]"):
            table = read_particles(path).table
        assert table["tomogram"].tolist() == ["007", "'8'"]
        assert table["class"].tolist() == ["NA", "nan"]
        assert table["note"].tolist() == ["", "b"]
        for text, word in (("x,y,z\n1,2\n", "line 2"), ("x,y\n1,2\n", "'z'"), ("x,y,z,x\n", "twice")):
            path.write_text(text)
            with pytest.raises(FormatError, match=word):
                read_particles(path)

    def test_labels_and_names_are_completed_from_known_classes(self, tmp_path):
        path = tmp_path / "t.csv"
        known = (ParticleClass("a", 1, radius=5.0), ParticleClass("b", 2))
        path.write_text("x,y,z,label\n1,2,3,2\n1,2,3,9\n")
        particles = read_particles(path, classes=known)
        assert particles.table["class"].tolist() == ["b", "class_9"]
        path.write_text("x,y,z,class\n1,2,3,b\n1,2,3,class_3\n1,2,3,c\n")
        particles = read_particles(path, classes=known)
        assert particles.table["label"].tolist() == [2, 3, 4]
        path.write_text("x,y,z,class,label\n1,2,3,c,1\n")
        particles = read_particles(path, classes=known)
        assert [(one.name, one.label) for one in particles.classes] == [("c", 1), ("b", 2)]
