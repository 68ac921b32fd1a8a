"""export and import on the command line: formats, many files, names."""

from __future__ import annotations

import warnings

import pytest

from deepfinder_dask.cli import main
from deepfinder_dask.particles import ParticleClass, Particles, ParticlesWarning, TomogramFacts

FACTS = TomogramFacts(8.0, (100, 200, 300))
CLASSES = (ParticleClass("ribosome", 1), ParticleClass("proteasome", 2))


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = [
        Particles.from_voxels([[1, 2, 3], [4, 5, 6]], tomogram=name, facts=FACTS, labels=[1, 2], classes=CLASSES)
        for name in ("rec_007", "rec_TS_01")
    ]
    Particles.concat(parts).write("table.parquet")
    return Particles.concat(parts)


def test_many_files_there_and_back(table, tmp_path, capsys):
    assert main(["export", "table.parquet", "-o", "picks/{tomogram}.mod", "--rename", "rec_*=*"]) == 0
    assert sorted(path.name for path in (tmp_path / "picks").iterdir()) == ["007.mod", "TS_01.mod"]
    assert "and 1 more files" in capsys.readouterr().out
    assert main(["import", "picks/{tomogram}.mod", "-o", "back.parquet", "--rename", "*=rec_*"]) == 0
    back = Particles.read("back.parquet")
    assert list(back.tomograms) == ["rec_007", "rec_TS_01"]
    assert abs(back.positions() - table.positions()).max() < 1e-3
    assert set(back.table["class"]) == {"ribosome", "proteasome"}


@pytest.mark.parametrize("name", ["relion4", "warp", "stopgap", "dynamo", "imod", "portal", "eman2", "deepfinder_txt"])
def test_formats_by_name(table, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParticlesWarning)
        out = "out" if name in ("imod", "portal", "eman2", "deepfinder_txt") else "out.star"
        assert main(["export", "table.parquet", "-o", out, "--to", name]) == 0
        told = ["--voxel-size", "8", "--shape", "100,200,300", "--no-tidy-names"]
        assert main(["import", out, "-o", "back.parquet", "--from", name, *told]) == 0
    back = Particles.read("back.parquet")
    assert sorted(back.table["tomogram"]) == sorted(table.table["tomogram"])
    assert abs(back.positions().sum(0) - table.positions().sum(0)).max() < 1e-3


def test_errors_are_one_line(table, capsys):
    assert main(["export", "table.parquet", "-o", "a.mod"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "{tomogram}.mod" in error
    assert main(["export", "table.parquet", "-o", "a.csv", "--rename", "x=y"]) == 2
    assert "fits none of the tomograms" in capsys.readouterr().err
