"""The experiments of benchmarks/accuracy.py, tiny: they state what is in their files, and do nothing twice."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepfinder_dask.evaluation import evaluate
from deepfinder_dask.particles import read_particles
from deepfinder_dask.tomograms import open_image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def accuracy():
    """The script as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import accuracy

        yield accuracy
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in [name for name in sys.modules if name in ("accuracy", "lib") or name.startswith("lib.")]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def done(accuracy, tmp_path_factory):
    """Folder and figures of the study of amounts."""
    folder = tmp_path_factory.mktemp("accuracy")
    return folder, accuracy.run(_options(folder))


def _options(folder, **changes):
    plain = {"study": "amounts", "size": "tiny", "network": [], "folder": folder, "device": "cpu", "threads": 1}
    return Namespace(**{**plain, "json": True, **changes})


def _labels(path):
    return open_image(path).levels[0].read()


def test_figures_are_those_of_the_particles_above_the_thresholds(done):
    folder, figures = done
    home = folder / "networks" / "multi"
    known = json.loads((home / "result.json").read_text())
    thresholds = known["thresholds"]
    found = read_particles(home / "found" / "test.parquet")
    table = found.table
    keep = [
        size >= (thresholds[name]["size"] or 0) and score >= (thresholds[name]["score"] or 0)
        for name, size, score in zip(table["class"], table["size_voxels"], table["score"], strict=True)
    ]
    truth = folder / "scenes" / "test" / "test_particles.parquet"
    expected = evaluate(truth, found.where(keep), tolerance="1r")
    anywhere = evaluate(truth, found.where(table["size_voxels"] >= known["smallest_localised"]), tolerance="1r")
    stated = figures["networks"]["multi"]["tomograms"]["test"]
    assert stated["localisation"] == round(anywhere.localisation.f1, 3)
    assert stated["classes"] == {
        name: round(s.f1, 3) if s.true + s.found else 0.0 for name, s in expected.classes.items()
    }


def test_particles_below_a_threshold_of_their_class_are_dropped(accuracy, done):
    from lib.accuracy.networks import _tune, kept

    truth = read_particles(done[0] / "scenes" / "test" / "test_particles.parquet")
    n = len(truth)
    table = truth.table.assign(size_voxels=100, score=0.9)
    false = table.assign(size_voxels=50, x=table["x"] + 5000.0)  # smaller than any real one, and nowhere near
    both = truth.with_table(pd.concat([table, false], ignore_index=True))
    left = kept(both, _tune(truth, both))
    assert len(left) == n
    assert (left.table["size_voxels"] == 100).all()


def test_particles_that_are_not_annotated_are_ignored(done):
    folder, _ = done
    scene, data = folder / "scenes" / "training", folder / "networks" / "particles_2" / "data"
    full, some = read_particles(scene / "train_1_particles.parquet"), read_particles(data / "train_1_particles.parquet")
    assert some.counts() == dict.fromkeys(full.counts(), 2)
    truth, labels = _labels(scene / "train_1_labels.zarr"), _labels(data / "train_1_labels.zarr")
    np.testing.assert_array_equal(labels[labels != 255], truth[labels != 255])
    assert not (labels[truth == 0] == 255).any()
    centres = {tuple(np.round(p / 10).astype(int)) for p in some.positions()}
    for position in full.positions() / 10:
        place = tuple(np.round(position).astype(int))
        if truth[place]:  # rings are hollow
            assert (labels[place] == 255) == (place not in centres)


def test_nothing_is_done_twice_and_an_interrupted_training_goes_on(accuracy, done):
    folder, figures = done
    home = folder / "networks" / "multi"
    log = (home / "run" / "log.jsonl").read_bytes()
    changed = (home / "run" / "best.safetensors").stat().st_mtime_ns
    again = accuracy.run(_options(folder))
    assert again["networks"] == figures["networks"]
    (home / "trained.json").unlink()  # killed after its last step
    (home / "result.json").unlink()
    once_more = accuracy.run(_options(folder, network=["multi"]))
    assert (home / "run" / "log.jsonl").read_bytes() == log
    assert (home / "run" / "best.safetensors").stat().st_mtime_ns == changed
    assert once_more["networks"]["multi"] == figures["networks"]["multi"]


def test_a_network_of_one_class_knows_no_other(accuracy, done):
    from lib.accuracy.networks import Experiments, Network, _derive, _known
    from lib.accuracy.sizes import SIZES

    folder, _ = done
    scene = Experiments(SIZES["tiny"], folder, {}).scene("training")
    labels, table = _derive(Network("only_shell", species="shell"), scene, "train_1", folder / "only")
    np.testing.assert_array_equal(_labels(labels), _labels(scene / "train_1_labels.zarr") == 2)
    particles = read_particles(table)
    assert [(one.name, one.label) for one in particles.classes] == [("shell", 1)]
    assert len(particles) == len(_known(read_particles(scene / "train_1_particles.parquet"), Network("", "shell"))) > 0


def test_scenes_for_tests_share_neither_seed_nor_defocus_with_training(accuracy):
    import tomllib

    from lib.accuracy.sizes import SIZES

    for size in SIZES.values():
        learnt, judged = (
            {
                (kind, value)
                for one in tomllib.loads(size.scenes(part).read_text())["tomogram"]
                for kind, value in (("seed", one["seed"]), ("defocus", one["imaging"]["defocus"]))
            }
            for part in ("training", "test")
        )
        assert not learnt & judged
