"""Many tomograms: files, folders and patterns on both sides, and names that formats have changed."""

from __future__ import annotations

import json
import warnings

import pytest

from deepfinder_dask.cli import main
from deepfinder_dask.errors import FormatError, InputError
from deepfinder_dask.evaluation import evaluate
from deepfinder_dask.particles import Particles, ParticlesWarning, write_particles

from .conftest import scene, table


def counts(score):
    return score.true, score.found, score.matched


@pytest.fixture
def sides(tmp_path):
    """Three tomograms, as one table on the true side and one file each on the found side."""
    truth, found = scene(5, tomograms=3)
    truth.write(tmp_path / "truth.parquet")
    (tmp_path / "found").mkdir()
    for name in found.tomograms:
        found.of_tomogram(name).write(tmp_path / "found" / f"{name}.parquet")
    return truth, found


def test_files_folders_and_patterns_say_the_same(sides, tmp_path):
    truth, found = sides
    expected = evaluate(truth, found, bootstrap=20).to_dict()
    (tmp_path / "located").mkdir()
    for name in found.tomograms:
        (tmp_path / "located" / name).mkdir()
        found.of_tomogram(name).write(tmp_path / "located" / name / "particles.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParticlesWarning)
        write_particles(found, tmp_path / "picks" / "{tomogram}.csv")
    for source in ("found", "found/*.parquet", "found/TS_0?.parquet", "located", "located/*", "picks", "picks/*.csv"):
        assert evaluate(tmp_path / "truth.parquet", tmp_path / source, bootstrap=20).to_dict() == expected, source
    assert evaluate(truth, tmp_path / "picks" / "{tomogram}.csv", bootstrap=20).to_dict() == expected
    assert evaluate(tmp_path / "found", tmp_path / "found").overall.f1 == 1


def test_means_over_tomograms_and_pooled(sides):
    truth, found = sides
    result = evaluate(truth, found, bootstrap=0)
    single = [evaluate(truth.of_tomogram(n), found.of_tomogram(n), bootstrap=0) for n in truth.tomograms]
    assert counts(result.overall) == tuple(sum(counts(one.overall)[i] for one in single) for i in range(3))
    for name in ("precision", "recall", "f1"):
        means = result.mean_over_tomograms()
        assert means["overall"][name] == pytest.approx(sum(getattr(one.overall, name) for one in single) / 3)
        assert means["localisation"][name] == pytest.approx(sum(getattr(o.localisation, name) for o in single) / 3)
    for name, one in zip(truth.tomograms, single, strict=True):
        assert result.tomogram_classes[name] == one.classes
        assert result.tomogram_localisation[name] == one.localisation
    document = result.to_dict()["tomograms"]["TS_01"]
    assert document["f1"] == single[1].overall.f1
    assert document["classes"]["a"]["true"] == single[1].classes["a"].true
    rows = result.tomogram_table()
    assert len(rows) == 3 * 4
    assert rows["class"].tolist()[:4] == ["a", "b", "overall", "localisation"]


def test_names_as_formats_change_them(tmp_path):
    row = [(1, 500, 500, 500)]
    truth = [table(row, tomogram=name) for name in ("TS_01", "007", "7")]
    found = [table(row, tomogram=name) for name in ("rec_TS_01.mrc", "7", "007.tomostar")]
    result = evaluate(Particles.concat(truth), Particles.concat(found))
    assert counts(result.overall) == (3, 3, 3)
    assert "TS_01 = rec_TS_01.mrc" in result.notes[0]
    assert "007 = 007.tomostar" in result.notes[0]
    zeros = evaluate(Particles.concat(truth), Particles.concat([found[0], table(row, tomogram="07")]))
    assert counts(zeros.overall) == (3, 1, 1)
    assert "2 tomograms" in zeros.notes[1]
    assert "07" in zeros.notes[2]
    twice = Particles.concat([found[0], table(row, tomogram="TS_01.rec"), table(row, tomogram="7")])
    assert evaluate(Particles.concat(truth), twice).overall.matched == 1, "two for one name: neither is taken"


def test_a_damaged_file_is_named_and_the_rest_goes_on(sides, tmp_path, capsys):
    truth, _ = sides
    (tmp_path / "found" / "TS_01.parquet").write_bytes(b"PAR1 and no more")
    result = evaluate(truth, tmp_path / "found", bootstrap=0)
    assert list(result.tomograms) == ["TS_00", "TS_02"], "not counted as missed"
    assert "TS_01" in result.notes[0]
    assert list(result.failures) == [str(tmp_path / "found" / "TS_01.parquet")]
    assert "cannot be read" in result.notes[1]
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "truth.parquet"), str(tmp_path / "found"), "--json"]) == 1
    captured = capsys.readouterr()
    assert set(json.loads(captured.out)["tomograms"]) == {"TS_00", "TS_02"}
    assert "TS_01.parquet" in captured.err
    assert captured.err.count("\n") == 1
    for name in ("TS_00", "TS_02"):
        (tmp_path / "found" / f"{name}.parquet").write_bytes(b"PAR1")
    with pytest.raises(FormatError, match=r"TS_00\.parquet"):
        evaluate(truth, tmp_path / "found")
    with pytest.raises(FormatError, match=r"TS_00\.parquet"):
        evaluate(truth, tmp_path / "found" / "TS_00.parquet")


def test_sources_with_nothing_in_them(sides, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.doc").write_text("hello")
    for source in ("empty", "nothing/*.star", "missing.parquet"):
        with pytest.raises(InputError) as error:
            evaluate(tmp_path / "truth.parquet", tmp_path / source)
        assert "\n" not in str(error.value)


def test_files_that_would_become_one_tomogram_are_refused(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "picks.csv").write_text("x,y,z\n1.0,2.0,3.0\n")
    with pytest.raises(InputError, match=r"\{tomogram\}"):
        evaluate(tmp_path / "*" / "picks.csv", tmp_path / "*" / "picks.csv", tolerance="1A")
    result = evaluate(tmp_path / "{tomogram}" / "picks.csv", tmp_path / "{tomogram}" / "picks.csv", tolerance="1A")
    assert list(result.tomograms) == ["x", "y"]


def test_the_command_writes_pictures_and_tables(sides, tmp_path, capsys):
    words = ["evaluate", str(tmp_path / "truth.parquet"), str(tmp_path / "found"), "--bootstrap", "20"]
    folder = tmp_path / "report"
    extra = ["-o", str(folder), "--pairs", str(tmp_path / "pairs.csv"), "--picture", str(tmp_path / "all.png")]
    assert main([*words, *extra, "--czii", "--class-weights", "a=2", "b=1", "--border", "50"]) == 0
    said = capsys.readouterr().out
    for part in ("mean of classes", "mean of tomograms", "CZII score", "TS_02", "seed 0", "lie outside"):
        assert part in said
    names = {path.name for path in folder.iterdir()}
    assert names == {"precision_recall.png", "thresholds.png", "f1.png", "distances.png", "confusion.png"} | {
        "evaluation.png",
        "evaluation.json",
        "tomograms.csv",
        "pairs.parquet",
    }
    document = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert document["czii"]["score"] > 0
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    for again in (["-o", str(folder)], extra[2:4], extra[4:]):
        assert main([*words, *again]) == 2
        assert "--overwrite" in capsys.readouterr().err
    assert main([*words, *extra, "--overwrite", "-q", "--json"]) == 0
