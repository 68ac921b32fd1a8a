"""The table: columns, what is refused, voxel positions, Parquet."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.errors import FormatError, GeometryError, InputError, StorageError, VoxelSizeError
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.particles import parquet as parquet_module

CLASSES = (ParticleClass("ribosome", 1, radius=130.0), ParticleClass("proteasome", 4, min_size=3))
FACTS = TomogramFacts((10.0, 12.0, 14.0), (20, 30, 40))


def rows(**changes):
    columns = {
        "tomogram": ["007", "007", "b"],
        "class": ["ribosome", "proteasome", "ribosome"],
        "label": [1, 4, 1],
        "x": [1.0, 2.0, 3.0],
        "y": [4.0, 5.0, 6.0],
        "z": [7.0, 8.0, 9.0],
        "score": [0.25, np.nan, 1.0],
        "size_voxels": pd.array([5, pd.NA, 2**53 - 1], dtype="Int64"),
    }
    columns.update(changes)
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


def some(**changes):
    return Particles(rows(**changes), {"007": FACTS, "empty": FACTS}, CLASSES)


def assert_same(a: Particles, b: Particles):
    pd.testing.assert_frame_equal(a.table, b.table)
    assert dict(a.tomograms) == dict(b.tomograms)
    assert a.classes == b.classes


def test_columns_are_ordered_and_typed():
    table = some(rot=[1.0, np.nan, 2], tilt=[1.0, np.nan, 2], psi=[1.0, np.nan, 2], note=["a", "b", "c"]).table
    wanted = ["tomogram", "class", "label", "x", "y", "z", "score", "size_voxels", "rot", "tilt", "psi", "note"]
    assert list(table.columns) == wanted
    assert [str(table[name].dtype) for name in ("label", "x", "score", "size_voxels")] == [
        "int64",
        "float64",
        "float64",
        "Int64",
    ]
    bare = some(score=None, size_voxels=None).table
    assert bare["score"].isna().all()
    assert bare["size_voxels"].isna().all()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"x": None}, r"\['x'\] missing"),
        ({"tomogram": None, "label": None}, "missing"),
        ({"y": [1.0, np.nan, 2.0]}, "'y': row 1"),
        ({"z": [1.0, np.inf, 2.0]}, "'z': row 1 is infinite"),
        ({"x": ["1", "two", "3"]}, "'x'"),
        ({"class": ["ribosome", "unknown", "ribosome"]}, "'unknown'"),
        ({"label": [1, 1, 1]}, "label 4"),
        ({"label": [1, 4.5, 1]}, "whole"),
        ({"label": [1, np.nan, 1]}, "whole"),
        ({"tomogram": ["a", None, "b"]}, "'tomogram'"),
        ({"tomogram": [7.0, 7.0, 8.0]}, "'tomogram'"),
        ({"rot": [1.0, 2.0, 3.0]}, "together"),
        ({"rot": [1.0, np.nan, 3.0], "tilt": [1.0, 2, 3], "psi": [1.0, 2, 3]}, "row 1 has some"),
    ],
)
def test_nonsense_is_refused_in_one_line(changes, word):
    with pytest.raises(InputError, match=word) as error:
        some(**changes)
    assert "\n" not in str(error.value)


def test_classes_come_from_the_table_when_not_given():
    particles = Particles(rows())
    assert [(one.name, one.label) for one in particles.classes] == [("ribosome", 1), ("proteasome", 4)]
    assert set(particles.tomograms) == {"007", "b"}
    assert particles.counts() == {"ribosome": 2, "proteasome": 1}
    with pytest.raises(InputError, match="label 1"):
        Particles(rows(label=[1, 1, 1]))


def test_voxels_to_angstrom_and_back_on_an_anisotropic_grid():
    voxels = np.array([[1.0, 2.0, 3.0], [4.5, 5.5, 6.25]])
    particles = Particles.from_voxels(
        voxels, tomogram="t", facts=FACTS, labels=[4, 1], classes=CLASSES, scores=[0.1, 0.2], sizes=[3, 4]
    )
    np.testing.assert_array_equal(particles.table["x"], [42.0, 87.5])
    np.testing.assert_array_equal(particles.table["z"], [10.0, 45.0])
    np.testing.assert_allclose(particles.voxel_positions("t"), voxels, atol=1e-12)
    assert list(particles.table["class"]) == ["proteasome", "ribosome"]
    with pytest.raises(InputError, match="label 9"):
        Particles.from_voxels(voxels, tomogram="t", facts=FACTS, labels=[9, 1], classes=CLASSES)
    with pytest.raises(InputError, match="lengths"):
        Particles.from_voxels(voxels, tomogram="t", facts=FACTS, labels=[1], classes=CLASSES)
    with pytest.raises(VoxelSizeError):
        Particles.from_voxels(voxels, tomogram="t", facts=TomogramFacts(), labels=[1, 1], classes=CLASSES)
    with pytest.raises(VoxelSizeError):
        some().voxel_positions("b")


def test_parts_and_joining():
    particles = some()
    assert len(particles.of_tomogram("007")) == 2
    assert len(particles.of_tomogram("empty")) == 0
    assert len(particles.of_class("ribosome")) == 2
    joined = Particles.concat([particles.of_tomogram(name) for name in particles.tomograms])
    assert_same(joined, Particles(rows(), {"007": FACTS, "empty": FACTS, "b": TomogramFacts()}, CLASSES))
    with pytest.raises(InputError, match="'b'"):
        Particles.concat([particles]).of_class("b")
    with pytest.raises(InputError, match="two shapes"):
        Particles.concat([particles, Particles.empty({"007": TomogramFacts(3.0)})])


def test_parquet_round_trip_and_empty_table(tmp_path):
    particles = some(rot=[1.0, np.nan, 2], tilt=[1.0, np.nan, 2], psi=[1.0, np.nan, 2], note=["a", "b", "c"])
    for one in (particles, Particles.empty({"007": FACTS}, CLASSES), Particles.empty()):
        one.write(tmp_path / "new" / "particles.parquet")
        assert_same(Particles.read(tmp_path / "new" / "particles.parquet"), one)
    assert len(list((tmp_path / "new").iterdir())) == 1


@settings(max_examples=12, deadline=None)
@given(
    data=st.lists(
        st.tuples(
            st.from_regex(r"[0-9a-c_é][0-9a-c_é .-]{0,5}", fullmatch=True),
            st.sampled_from(CLASSES),
            st.tuples(*[st.floats(-1e7, 1e7)] * 3),
            st.one_of(st.just(float("nan")), st.floats(0, 1)),
            st.one_of(st.none(), st.integers(0, 2**40)),
        ),
        max_size=8,
    )
)
def test_parquet_keeps_every_bit(tmp_path_factory, data):
    names, classes, positions, scores, sizes = zip(*data, strict=True) if data else ((), (), (), (), ())
    table = pd.DataFrame(
        {
            "tomogram": list(names),
            "class": [one.name for one in classes],
            "label": [one.label for one in classes],
            **{axis: [p[i] for p in positions] for i, axis in enumerate("xyz")},
            "score": list(scores),
            "size_voxels": pd.array(list(sizes), dtype="Int64"),
        }
    )
    particles = Particles(table, classes=CLASSES)
    path = tmp_path_factory.mktemp("parquet") / "p.parquet"
    particles.write(path)
    assert_same(Particles.read(path), particles)


def test_bad_files_give_one_line(tmp_path):
    good = tmp_path / "good.parquet"
    some().write(good)
    whole = good.read_bytes()
    bad = tmp_path / "bad.parquet"
    for content in (b"", b"x,y,z\n1,2,3\n", whole[:-30], whole[: len(whole) // 2], b"PAR1" * 20):
        bad.write_bytes(content)
        with pytest.raises(FormatError, match=r"bad\.parquet") as error:
            Particles.read(bad)
        assert "\n" not in str(error.value)
    pq.write_table(pa.table({"x": [1.0]}), bad)
    with pytest.raises(FormatError, match="missing"):
        Particles.read(bad)
    for value in (b"{", b"[]", b'{"tomograms": 3}', b'{"version": 99}', b'{"classes": [{"name": "a"}]}'):
        pq.write_table(pq.read_table(good).replace_schema_metadata({"deepfinder": value}), bad)
        with pytest.raises(FormatError, match=r"bad\.parquet") as error:
            Particles.read(bad)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        Particles.read(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="folder"):
        Particles.read(tmp_path)


def test_parquet_of_others_is_read_without_our_metadata(tmp_path):
    path = tmp_path / "plain.parquet"
    rows().to_parquet(path)
    assert len(Particles.read(path)) == 3


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "p.parquet"
    some().write(path)
    before = path.read_bytes()

    def full(table, where, **_):
        where.write_bytes(b"PAR1 half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet_module.pq, "write_table", full)
    with pytest.raises(StorageError, match="No space left") as error:
        some().write(path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["p.parquet"]


def test_who_reads_the_old_file_keeps_it_whole(tmp_path):
    path = tmp_path / "p.parquet"
    some().write(path)
    before = path.read_bytes()
    with path.open("rb") as reader:
        Particles.empty().write(path)
        assert reader.read() == before
    assert len(Particles.read(path)) == 0


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), (1, 2), "ten", (1, 2, float("inf"))])
def test_voxel_sizes_that_cannot_be(value):
    with pytest.raises(VoxelSizeError):
        TomogramFacts(value)


@pytest.mark.parametrize("value", [(1, 2), (0, 1, 1), (1.5, 2, 3), 5])
def test_shapes_that_cannot_be(value):
    with pytest.raises(GeometryError):
        TomogramFacts(None, value)
