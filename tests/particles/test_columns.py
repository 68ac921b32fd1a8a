"""Columns of measures: their types, round trips, joining, and formats that have no room for them."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from deepfinder_dask.errors import InputError
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, read_particles, write_particles
from deepfinder_dask.particles.columns import MEASURES, measure_in
from deepfinder_dask.particles.formats import FORMATS

FACTS = TomogramFacts((10.0, 10.0, 10.0), (60, 70, 80))
CLASSES = (ParticleClass("class_1", 1), ParticleClass("class_2", 2))
WHOLE = {name: pd.array([3, 2**40, 0], dtype="Int64") for name, one in MEASURES.items() if one.dtype == "Int64"}
REAL = {name: np.array([0.1, np.nan, 1e9 / 3]) for name, one in MEASURES.items() if one.dtype == "float64"}


def plain(n=3) -> Particles:
    return Particles.from_voxels(
        np.arange(3.0 * n).reshape(n, 3), tomogram="t", facts=FACTS, labels=[1, 2, 1][:n], classes=CLASSES
    )


def measured() -> Particles:
    return plain().with_columns({**WHOLE, **REAL, "touches_border": [True, None, False], "note": ["a", "b", "c"]})


def test_measures_have_types_and_other_columns_stay_as_they_are():
    table = measured().table
    assert {str(table[name].dtype) for name in WHOLE} == {"Int64"}
    assert {str(table[name].dtype) for name in REAL} == {"float64"}
    assert str(table["touches_border"].dtype) == "boolean"
    assert table["touches_border"].isna().tolist() == [False, True, False]
    assert table["note"].tolist() == ["a", "b", "c"]
    assert measure_in("distance_membrane") is MEASURES["distance_*"]
    assert measure_in("note") is None


@pytest.mark.parametrize("rows", [[0, 1, 2], [1]])
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv"])
def test_they_read_back_as_they_were_written(tmp_path, suffix, rows):
    some = measured().where(np.isin(np.arange(3), rows))
    write_particles(some, tmp_path / f"particles{suffix}")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        back = read_particles(tmp_path / f"particles{suffix}")
    pd.testing.assert_frame_equal(back.table, some.table, check_exact=True)
    unknown = [str(one.message) for one in said]
    assert all(text.endswith("1 unknown column is kept: ['note']") for text in unknown), "measures are known"
    assert len(unknown) == (suffix != ".parquet")


def test_an_empty_table_keeps_its_types(tmp_path):
    none = measured().where([False] * 3)
    none.write(tmp_path / "none.parquet")
    pd.testing.assert_frame_equal(Particles.read(tmp_path / "none.parquet").table, none.table)


@pytest.mark.parametrize("form", [one for one in FORMATS if "extra" not in one.carries], ids=lambda one: one.name)
def test_formats_without_room_leave_them_out(tmp_path, form):
    """The files are byte for byte those of the table without the measures."""
    written = []
    name = f"{{class}}{form.suffixes[0]}" if form.suffixes else "out"
    for some in (plain(), measured()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_particles(some, tmp_path / name, format=form.name, overwrite=True)
        written.append({p.relative_to(tmp_path): p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()})
    assert written[0]
    assert written[0] == written[1]


def test_tables_with_and_without_them_are_joined():
    other = Particles.from_voxels([[1, 2, 3]], tomogram="u", facts=FACTS, labels=[1], classes=CLASSES)
    joined = Particles.concat([measured(), other]).table
    assert joined["touches_border"].tolist()[:3:2] == [True, False]
    assert joined["touches_border"].isna().tolist() == [False, True, False, True]
    assert joined["z_start"].tolist()[:3] == [3, 2**40, 0]
    assert {str(joined[name].dtype) for name in WHOLE} == {"Int64"}
    none = measured().where([False] * 3)
    assert list(Particles.concat([none, none]).table.columns) == list(measured().table.columns)


def test_columns_replace_measures_but_none_of_every_table():
    again = measured().with_columns({"z_start": [1, 2, 3]})
    assert again.table["z_start"].tolist() == [1, 2, 3]
    assert list(again.table.columns) == list(measured().table.columns)
    shuffled = pd.Series([7.0, 8.0, 9.0], index=[2, 1, 0])
    assert plain().with_columns({"note": shuffled}).table["note"].tolist() == [7.0, 8.0, 9.0]
    with pytest.raises(InputError, match="'x' is a column of every table"):
        plain().with_columns({"x": [1.0, 2.0, 3.0]})
    with pytest.raises(InputError, match=r"'note': expected 3 values, got an array \(2,\)"):
        plain().with_columns({"note": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("touches_border", ["True", "maybe", "False"], "expected True or False, row 1 holds 'maybe'"),
        ("x_stop", [1, 2.5, 3], "expected whole numbers, row 1"),
        ("distance_membrane", [1.0, 2.0, np.inf], "row 2 is infinite"),
        ("size_angstrom3", ["a", "b", "c"], "expected numbers"),
    ],
)
def test_nonsense_is_refused_in_one_line(column, values, message):
    with pytest.raises(InputError, match=message) as error:
        plain().with_columns({column: values})
    assert "\n" not in str(error.value)
