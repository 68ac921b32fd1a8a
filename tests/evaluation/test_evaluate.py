"""Evaluation: counts by class, over all, class-blind; tomograms; files; what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from math import isnan

import numpy as np
import pytest

from deepfinder_dask.errors import InputError, SettingsError, VoxelSizeError
from deepfinder_dask.evaluation import Score, evaluate
from deepfinder_dask.particles import ParticleClass, Particles, ParticlesWarning, TomogramFacts, write_particles

A = ParticleClass("a", 1, radius=50.0)
B = ParticleClass("b", 2, radius=100.0)
FACTS = TomogramFacts((10.0, 10.0, 20.0), (100, 100, 100))


def some(*rows, tomogram="t", classes=(A, B), facts=FACTS, extra=()):
    """Particles from (label, z, y, x) in Å."""
    size = np.asarray(facts.voxel_size or (1, 1, 1))
    made = Particles.from_voxels(
        np.reshape([row[1:] for row in rows], (-1, 3)) / size,
        tomogram=tomogram,
        facts=TomogramFacts(tuple(size), facts.shape),
        labels=[row[0] for row in rows],
        classes=classes,
    )
    made = Particles(made.table, {tomogram: facts}, classes)
    return Particles.concat([made, *extra])


def counts(score: Score):
    return score.true, score.found, score.matched


def test_classes_overall_and_localisation():
    truth = some((1, 100, 100, 100), (1, 500, 500, 500), (2, 900, 900, 900))
    found = some(
        (1, 100, 100, 140),  # right
        (1, 100, 100, 110),  # beside the same truth: nearer, so this one is the hit
        (2, 500, 500, 520),  # right place, wrong class
        (2, 900, 950, 950),  # right
        (2, 50, 950, 50),  # nothing there
    )
    result = evaluate(truth, found)
    assert counts(result.classes["a"]) == (2, 2, 1)
    assert counts(result.classes["b"]) == (1, 3, 1)
    assert counts(result.overall) == (3, 5, 2)
    assert counts(result.localisation) == (3, 5, 3)
    assert result.confusion_names == ("a", "b", "(none)")
    assert result.confusion == ((1, 1, 0), (0, 1, 0), (1, 1, 0))
    assert result.overall.precision == 2 / 5
    assert result.overall.recall == 2 / 3
    assert result.overall.f1 == pytest.approx(2 * (2 / 5) * (2 / 3) / (2 / 5 + 2 / 3))
    assert counts(result.tomograms["t"]) == (3, 5, 2)


def test_itself_is_perfect_and_an_axis_exchanged_is_not():
    random = np.random.default_rng(1)
    rows = [(int(random.integers(1, 3)), *random.uniform(0, 900, 3)) for _ in range(40)]
    truth = some(*rows)
    perfect = evaluate(truth, truth, tolerance="0.1vox")
    assert perfect.overall.f1 == perfect.localisation.f1 == 1
    swapped = truth.with_table(truth.table.rename(columns={"x": "z", "z": "x"}))
    assert evaluate(truth, swapped).overall.f1 < 0.5


def test_json_is_the_promised_object():
    result = evaluate(some((1, 0, 0, 0)), some())
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert set(document) >= {"localisation", "overall", "classes"}
    missed = {"precision": None, "recall": 0.0, "f1": 0.0, "true": 1, "found": 0, "matched": 0}
    absent = {"precision": None, "recall": None, "f1": None, "true": 0, "found": 0, "matched": 0}
    assert {key: document["overall"][key] for key in missed} == missed
    assert {key: document["classes"]["b"][key] for key in absent} == absent
    assert document["overall"]["intervals"]["precision"] is None
    rows = result.rows()
    assert [row["name"] for row in rows] == ["a", "b", "overall", "localisation"]
    assert isnan(rows[1]["f1"])


@pytest.mark.parametrize(
    ("tolerance", "hits"),
    [
        ("1r", [1, 1, 1, 0]),  # radius 50 Å
        ("0.5r", [1, 0, 0, 0]),
        ("45A", [1, 0, 1, 0]),
        ("2.5vox", [1, 0, 1, 0]),  # x counts 20 Å a voxel, z and y 10 Å
        ("5vox", [1, 1, 1, 0]),
        ("box", [1, 1, 1, 1]),
    ],
)
def test_tolerances_reach_as_far_as_they_say(tolerance, hits):
    truth = (1, 500, 500, 500)
    offsets = [(20, 0, 0), (50, 0, 0), (0, 0, 45), (45, 45, 45)]
    for offset, hit in zip(offsets, hits, strict=True):
        found = (1, *np.add(truth[1:], offset))
        assert evaluate(some(truth), some(found), tolerance=tolerance).overall.matched == hit, offset


def test_reach_is_the_true_particles_radius_also_class_blind():
    truth = some((1, 0, 0, 0), (2, 500, 0, 0))
    found = some((2, 80, 0, 0), (1, 580, 0, 0))
    result = evaluate(truth, found)
    assert counts(result.localisation) == (2, 2, 1)
    assert counts(result.overall) == (2, 2, 0)


def test_tomograms_are_compared_one_by_one():
    truth = some((1, 0, 0, 0), tomogram="007", extra=[some((1, 0, 0, 0), tomogram="8"), some(tomogram="empty")])
    found = some((1, 500, 0, 0), tomogram="007", extra=[some((1, 0, 0, 0), tomogram="9"), some(tomogram="8")])
    result = evaluate(truth, found)
    assert counts(result.overall) == (2, 1, 0)
    assert list(result.tomograms) == ["007", "8", "empty"]
    assert any("'empty'" in note and "missed" in note for note in result.notes)
    assert any("'9'" in note and "left out" in note for note in result.notes)
    assert not any("tomograms are" in note or "missed" in note for note in evaluate(truth, truth).notes)


def test_single_tomograms_of_different_names_are_compared_and_it_is_said():
    result = evaluate(some((1, 0, 0, 0), tomogram="x"), some((1, 0, 0, 0), tomogram="y"))
    assert result.overall.matched == 1
    assert "'x'" in result.notes[0]
    assert "'y'" in result.notes[0]
    two = some((1, 0, 0, 0), tomogram="y", extra=[some((1, 0, 0, 0), tomogram="z")])
    with pytest.raises(InputError, match="no tomogram in common") as error:
        evaluate(some((1, 0, 0, 0), tomogram="x"), two)
    assert "\n" not in str(error.value)


def test_nothing_at_all_is_no_error():
    empty = some(classes=(), facts=TomogramFacts(10.0, (9, 9, 9)))
    result = evaluate(empty, empty)
    assert counts(result.overall) == (0, 0, 0)
    assert result.classes == {}
    json.dumps(result.to_dict(), allow_nan=False)


def test_structures_are_not_counted():
    membrane = ParticleClass("membrane", 3, kind="structure")
    truth = some((1, 0, 0, 0), (3, 500, 0, 0), classes=(A, membrane))
    found = some((1, 0, 0, 0), (3, 500, 0, 0), classes=(A, ParticleClass("membrane", 3)))
    result = evaluate(truth, found)
    assert counts(result.localisation) == (1, 1, 1)
    assert list(result.classes) == ["a"]
    assert "membrane" in result.notes[0]


def test_classes_go_by_name_and_bare_labels_by_label():
    truth = some((1, 0, 0, 0), (2, 500, 0, 0))
    renumbered = some(
        (2, 0, 0, 0), (1, 500, 0, 0), classes=(ParticleClass("b", 1, radius=1.0), ParticleClass("a", 2, radius=1.0))
    )
    assert evaluate(truth, renumbered).overall.matched == 2
    bare = some((1, 0, 0, 0), (2, 500, 0, 0), classes=(ParticleClass("class_1", 1), ParticleClass("class_2", 2)))
    for left, right in ((truth, bare), (bare, truth)):
        result = evaluate(left, right)
        assert list(result.classes) == ["a", "b"]
        assert result.overall.matched == 2
    other = some((1, 0, 0, 0), classes=(ParticleClass("c", 1, radius=5.0),))
    result = evaluate(truth, other)
    assert counts(result.classes["c"]) == (0, 1, 0)
    assert result.localisation.matched == 1


def test_radii_are_asked_for_and_can_be_given(tmp_path):
    bare = (ParticleClass("a", 1), ParticleClass("b", 2))
    truth = some((1, 0, 0, 0), classes=bare)
    for tolerance in ("1r", "box"):
        with pytest.raises(SettingsError, match=r"\['a'\] have none.*--classes") as error:
            evaluate(truth, truth, tolerance=tolerance)
        assert "\n" not in str(error.value)
    assert evaluate(truth, truth, tolerance="1A").overall.matched == 1
    assert evaluate(truth, some((1, 0, 0, 50.0))).overall.matched == 1  # the found side knows the radius
    path = tmp_path / "classes.toml"
    path.write_text('[[class]]\nname = "a"\nlabel = 1\nradius = 5.0\n')
    assert evaluate(truth, some((1, 0, 0, 50.0)), classes=str(path)).overall.matched == 0
    assert evaluate(truth, some((1, 0, 0, 5.0)), classes=str(path)).overall.matched == 1
    unnamed = some((1, 0, 0, 0), classes=(ParticleClass("class_1", 1),))
    assert list(evaluate(unnamed, unnamed, classes=str(path)).classes) == ["a"]


def test_voxels_need_a_voxel_size():
    truth = some((1, 0, 0, 0), facts=TomogramFacts())
    with pytest.raises(VoxelSizeError, match="--voxel-size"):
        evaluate(truth, truth, tolerance="1vox")
    assert evaluate(truth, some((1, 0, 0, 20)), tolerance="1vox").overall.matched == 1
    with pytest.raises(SettingsError, match="'tolerence'"):
        evaluate(truth, truth, tolerence="1vox")


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.xml", "t.star", "project"])
def test_files_of_every_format(tmp_path, name):
    truth = some((1, 0, 0, 0), (2, 400, 300, 500), facts=TomogramFacts(10.0, (100, 100, 100)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParticlesWarning)
        write_particles(truth, tmp_path / name)
        for left, right in ((tmp_path / name, truth), (truth, tmp_path / name)):
            result = evaluate(left, right, tolerance="0.01vox")
            assert result.overall.f1 == 1
            assert list(result.classes) == ["a", "b"]
        if name in ("t.xml", "t.star"):
            with pytest.raises(VoxelSizeError):
                evaluate(tmp_path / name, tmp_path / name)
            same = evaluate(tmp_path / name, tmp_path / name, tolerance="1A", voxel_size=10.0, shape=(100, 100, 100))
            assert same.overall.f1 == 1


def test_the_originals_objects_as_truth(data_dir):
    path = data_dir / "original_deepfinder" / "tomogram_objects.xml"
    result = evaluate(path, path, tolerance="1vox", voxel_size=10.0)
    assert counts(result.overall) == (60, 60, 60)
    assert list(result.classes) == ["class_1", "class_2"]


def test_settings_need_no_heavy_library():
    code = (
        "import sys; from deepfinder_dask.evaluation import EvaluateSettings, Score; EvaluateSettings(); "
        "print(sorted({'pandas', 'torch', 'numpy', 'scipy', 'dask'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
