"""Tuning: counts at every threshold against matching anew, choices against trying all, what is held out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deepfinder_dask.cli import main
from deepfinder_dask.errors import InputError, OutputExistsError, SettingsError
from deepfinder_dask.evaluation import Score, evaluate, match, tune
from deepfinder_dask.evaluation.sweeping import Hits, Sweep, gains, near_truths
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, read_classes

A = ParticleClass("a", 1, radius=30.0)
B = ParticleClass("b", 2, radius=50.0)
ICE = ParticleClass("ice", 3, kind="structure")
FACTS = TomogramFacts(10.0, (64, 64, 64))
POINT = st.tuples(*[st.integers(0, 4)] * 3)


def table(rows, tomogram="t", classes=(A, B)):
    """Particles from (label, (z, y, x) in voxels, size, score)."""
    labels, places, sizes, scores = zip(*rows, strict=True) if rows else ((),) * 4
    return Particles.from_voxels(
        np.reshape(places, (-1, 3)),
        tomogram=tomogram,
        facts=FACTS,
        labels=list(labels),
        classes=classes,
        sizes=list(sizes),
        scores=list(scores),
    )


def simulated(seed, tomogram, wrong=1.0):
    """True particles, and found ones of which the small ones are more often wrong."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for label, size in ((1, 100), (2, 400)):
        for place in random.uniform(4, 60, (15, 3)):
            truth.append((label, place, 1, 1.0))
            if random.random() < 0.85:
                found.append((label, place + random.normal(0, 1, 3), int(size * random.uniform(0.5, 1.5)), 0.8))
        for place in random.uniform(4, 60, (int(12 * wrong), 3)):
            found.append((label, place, int(size * random.uniform(0.02, 0.9)), random.uniform(0.3, 0.8)))
    return table(truth, tomogram), table(found, tomogram)


@given(
    st.lists(POINT, max_size=8),
    st.lists(st.tuples(POINT, st.sampled_from([1.0, 2.0, 3.0, 5.0, 8.0, float("nan")])), max_size=8),
    st.sampled_from([1.0, 1.5, 2.0, 3.0]),
    st.booleans(),
    st.sampled_from([0.5, 1.0, 4.0]),
)
@example([(0, 0, 0), (0, 0, 2)], [((0, 0, 1), 3.0), ((0, 0, 3), 2.0), ((0, 0, 0), 1.0)], 1.0, False, 1.0)
def test_every_threshold_is_matched_anew(truth, found, reach, box, beta):
    """One pass from the top down gives what the matching of evaluation gives at each threshold by itself."""
    a, b = np.reshape(truth, (-1, 3)).astype(float), np.reshape([p for p, _ in found], (-1, 3)).astype(float)
    values = np.array([value for _, value in found], dtype=float)
    sweep = Sweep.of([Hits.of(len(a), values, near_truths(a, b, reach, box=box))])
    assert list(sweep.thresholds) == [None, *np.unique(values[~np.isnan(values)])]
    expected = []
    for threshold in sweep.thresholds:
        kept = b if threshold is None else b[values >= threshold]
        expected.append(Score(len(a), len(kept), len(match(a, kept, reach, box=box))))
    assert list(sweep.scores) == expected
    ratios = [np.nan_to_num(score.f_beta(beta)) for score in expected]
    best = next(n for n, value in enumerate(ratios) if value == pytest.approx(max(ratios), rel=1e-12, abs=0))
    assert sweep.best(beta) == best


def test_gains_do_not_depend_on_the_order_of_equals_in_number():
    near = [[0], [0, 1], [1], [0, 1, 2]]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        flags = gains(near, order)
        assert flags.sum() == 3
        assert not gains(near, order[:2])[order[2:]].any(), "those left out gain nothing"


def test_a_long_chain_of_exchanges():
    """Each found position first takes the true one that the next needs; the last moves all of them."""
    n = 3000
    near = [[k, k + 1] for k in range(n)] + [[0]]
    assert gains(near, range(n + 1)).all()
    assert not gains([*near, [0]], range(n + 2))[-1]


def test_f_beta():
    score = Score(true=10, found=8, matched=6)
    precision, recall = 6 / 8, 6 / 10
    assert score.f_beta(1) == pytest.approx(score.f1)
    assert score.f_beta(4) == pytest.approx(17 * precision * recall / (16 * precision + recall))
    assert np.isnan(Score(0, 0, 0).f_beta(1))


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_choices_against_trying_all(beta):
    """The chosen size is the one for which evaluation of the particles that are left gives most."""
    truth, found = (Particles.concat(parts) for parts in zip(simulated(1, "t"), simulated(2, "u"), strict=True))
    tuning = tune(truth, found, beta=beta, joint=True)
    for one in tuning.classes:
        sizes = found.table["size_voxels"].to_numpy(float)
        scores = found.table["score"].to_numpy(float)
        here = (found.table["class"] == one.name).to_numpy()

        def at(keep, name=one.name):
            return evaluate(truth, found.where(keep)).classes[name].f_beta(beta)

        for kind, values in (("size", sizes), ("score", scores)):
            results = {value: at(here & (values >= value)) for value in np.unique(values[here])}
            best = min(value for value in results if results[value] == max(results.values()))
            choice = one.choices[kind]
            assert getattr(choice, kind) == best
            assert choice.tuned.f_beta(beta) == pytest.approx(results[best])
        both = one.choices["joint"]
        assert both.tuned.f_beta(beta) == pytest.approx(at(here & (sizes >= both.size) & (scores >= both.score)))
        assert both.tuned.f_beta(beta) >= max(one.choices[kind].tuned.f_beta(beta) for kind in ("size", "score"))
    assert tuning.overall["size"].tuned == sum((c.choices["size"].tuned for c in tuning.classes), Score(0, 0, 0))


def test_joint_choice_against_all_pairs():
    random = np.random.default_rng(5)
    truth = table([(1, place, 1, 1.0) for place in random.uniform(0, 30, (12, 3))])
    found = table(
        [(1, place, int(random.integers(1, 9)), random.integers(1, 6) / 5) for place in random.uniform(0, 30, (25, 3))]
        + [(1, place[::-1], int(random.integers(5, 15)), random.integers(3, 8) / 5) for place in truth.positions() / 10]
    )
    both = tune(truth, found, tolerance="2vox", joint=True).classes[0].choices["joint"]
    sizes, scores = found.table["size_voxels"].to_numpy(float), found.table["score"].to_numpy(float)
    every = [
        evaluate(truth, found.where((sizes >= size) & (scores >= score)), tolerance="2vox").classes["a"].f1
        for size in np.unique(sizes)
        for score in np.unique(scores)
    ]
    assert both.tuned.f1 == max(every)


def test_ties_go_to_the_smaller_threshold():
    truth = table([(1, (5, 5, 5), 1, 1.0)])
    assert tune(truth, table([(1, (5, 5, 5), 90, 1.0)])).classes[0].choices["size"].size is None, "all is kept"
    found = table([(1, (5, 5, 5), 90, 0.9), (1, (40, 5, 5), 20, 0.5)])
    assert tune(truth, found).classes[0].choices["size"].size == 90
    truth = table([(1, (5, 5, 5), 1, 1.0), (1, (20, 20, 20), 1, 1.0), (1, (30, 30, 30), 1, 1.0)])
    found = table([(1, (5, 5, 5), 9, 1.0), (1, (50, 5, 5), 8, 1.0), (1, (60, 5, 5), 7, 1.0), (1, (20, 20, 20), 6, 1.0)])
    thresholds = tune(truth, found).classes[0].choices["size"]  # 2/4 at 9, 4/7 for all
    assert (thresholds.size, thresholds.tuned.f1) == (None, 4 / 7)


def test_held_out_is_not_what_was_tuned_on():
    """Leave one out, by hand: each tomogram with the thresholds of the others."""
    pairs = [simulated(seed, name, wrong) for seed, name, wrong in ((3, "t", 0.3), (4, "u", 3.0), (5, "v", 1.0))]
    truth, found = (Particles.concat(parts) for parts in zip(*pairs, strict=True))
    tuning = tune(truth, found)
    assert tuning.judged == ("t", "u", "v")
    for one in tuning.classes:
        total = Score(0, 0, 0)
        for name, (mine, seen) in zip(tuning.judged, pairs, strict=True):
            others = [n for n in tuning.judged if n != name]
            named = tune(truth, found, held_out=(name,))
            choice = next(c for c in named.classes if c.name == one.name).choices["size"]
            assert named.tomograms == tuple(others)
            kept = seen.where(seen.table["size_voxels"].to_numpy(float) >= (choice.size or 0))
            score = evaluate(mine, kept).classes[one.name]
            assert choice.held_out == score
            total += score
        assert one.choices["size"].held_out == total
    with pytest.raises(SettingsError, match="'w'"):
        tune(truth, found, held_out="w")
    with pytest.raises(SettingsError, match="nothing is left"):
        tune(truth, found, held_out=("t", "u", "v"))


def test_what_a_reader_should_know():
    truth, found = simulated(7, "t")
    notes = " ".join(tune(truth, found).notes)
    assert "flatters" in notes
    only = tune(truth.of_class("a"), found)
    assert "No true particles, so no threshold: ['b']" in " ".join(only.notes)
    b = next(one for one in only.classes if one.name == "b")
    assert b.choices == {}
    assert next(one for one in only.particle_classes if one.name == "b").min_size is None
    assert only.overall["size"].tuned.found > only.classes[0].choices["size"].tuned.found, "all of b is found wrongly"
    cut = Particles(found.table, found.tomograms, (ParticleClass("a", 1, radius=30.0, min_size=9), B))
    assert "{'a': 9}" in " ".join(tune(truth, cut).notes)
    sizes = found.table["size_voxels"].copy()
    sizes.iloc[:3] = None
    assert "3 of" in " ".join(tune(truth, found.with_table(found.table.assign(size_voxels=sizes))).notes)
    bare = found.with_table(found.table.drop(columns=["score", "size_voxels"]))
    with pytest.raises(InputError, match="neither sizes nor scores"):
        tune(truth, bare)
    scored = found.with_table(found.table.drop(columns=["size_voxels"]))
    assert list(tune(truth, scored).overall) == ["score"]
    with pytest.raises(InputError, match="joint"):
        tune(truth, scored, joint=True)
    nothing = tune(truth, found.where(np.zeros(len(found), bool)))
    assert nothing.classes[0].choices["size"].tuned == Score(15, 0, 0)


def test_largest_sizes_of_classes_are_kept_to(tmp_path):
    """What the largest size drops in clustering takes no part; structures stay in the file of classes."""
    truth, found = simulated(8, "t")
    (tmp_path / "classes.toml").write_text(
        "[[class]]\nname = 'a'\nlabel = 1\nradius = 30\nmax_size = 80\n"
        "[[class]]\nname = 'b'\nlabel = 2\nradius = 50\n[[class]]\nname = 'ice'\nlabel = 3\nkind = 'structure'\n"
    )
    tuning = tune(truth, found, classes=str(tmp_path / "classes.toml"))
    small = found.table.query("`class` == 'a' and size_voxels <= 80")
    assert tuning.classes[0].before.found == len(small)
    assert [one.name for one in tuning.particle_classes] == ["a", "b", "ice"]
    assert tuning.particle_classes[0].max_size == 80


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, (truth, found) in {"t": simulated(1, "t"), "u": simulated(2, "u")}.items():
        truth.write(f"truth/{name}.parquet")
        found.write(f"found/{name}.parquet")
    files = ["truth/{tomogram}.parquet", "found/{tomogram}.parquet"]
    assert main(["tune", *files, "-o", "tuned"]) == 0
    said = capsys.readouterr().out
    expected = tune(*files)
    sizes = {one.name: one.choices["size"].size for one in expected.classes}
    for size in sizes.values():
        assert f"size ≥ {size}" in said
    assert sorted(path.name for path in (tmp_path / "tuned").iterdir()) == [
        "classes.toml",
        "curves.csv",
        "tuning.json",
        "tuning.png",
    ]
    assert {one.name: one.min_size for one in read_classes("tuned/classes.toml")} == sizes
    assert json.loads((tmp_path / "tuned" / "tuning.json").read_text()) == expected.to_dict()
    lines = (tmp_path / "tuned" / "curves.csv").read_text().splitlines()
    assert lines[0] == "class,by,threshold,true,found,matched,recall,precision,f_beta"
    assert len(lines) == 1 + sum(len(sweep.thresholds) for one in expected.classes for sweep in one.sweeps.values())
    assert main(["tune", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected.to_dict()
    assert main(["tune", *files, "-o", "tuned"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["tune", *files, "--beta", "0"]) == 2
    assert capsys.readouterr().err == "error: beta is a number above 0, got 0.0\n"
    with pytest.raises(OutputExistsError):
        expected.write("tuned")


def test_clustering_takes_the_classes(tmp_path, monkeypatch, capsys):
    """Balls and crumbs: clustered without a minimum, tuned, and clustered again with what tuning wrote."""
    from deepfinder_dask.blocks import Box
    from deepfinder_dask.tomograms import create_image, finish_image

    monkeypatch.chdir(tmp_path)
    grid = np.stack(np.indices((40, 40, 40)), -1)
    labels = np.zeros((40, 40, 40), np.uint8)
    places = [(10, 10, 10), (10, 30, 30), (30, 12, 28)]
    for place in places:
        labels[((grid - place) ** 2).sum(-1) <= 16] = 1
    labels[20, 2:4, 5:8] = labels[35, 35, 1:3] = 1
    volume = create_image("seg.zarr", shape=labels.shape, dtype=labels.dtype, voxel_size=10.0, chunk=(16, 16, 16))
    volume.write(Box.whole(volume.space), labels)
    finish_image("seg.zarr")
    truth = table([(1, place, 1, 1.0) for place in places], "seg", (ParticleClass("ball", 1, radius=40.0),))
    truth.write("truth.parquet")
    assert main(["cluster", "seg.zarr", "--method", "components", "--min-size", "0", "-o", "all.parquet"]) == 0
    assert main(["tune", "truth.parquet", "all.parquet", "-o", "tuned"]) == 0
    assert (
        main(
            ["cluster", "seg.zarr", "--method", "components", "--classes", "tuned/classes.toml", "-o", "found.parquet"]
        )
        == 0
    )
    assert len(Particles.read("all.parquet")) == 5
    kept = Particles.read("found.parquet")
    assert len(kept) == 3
    assert set(kept.table["size_voxels"]) == {int((labels[6:15, 6:15, 6:15] == 1).sum())}
