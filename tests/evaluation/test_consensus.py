"""Consensus: groups one to one, whatever the order of sets and rows; counts by hand; what is refused."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepfinder_dask.cli import main
from deepfinder_dask.errors import InputError, OutputExistsError, SettingsError, VoxelSizeError
from deepfinder_dask.evaluation import consensus, evaluate, match
from deepfinder_dask.evaluation.grouping import group_positions
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.viewing import agreement_diagram
from deepfinder_dask.viewing.agreement import region_places

A = ParticleClass("a", 1, radius=30.0)
B = ParticleClass("b", 2, radius=50.0)
FACTS = TomogramFacts(10.0, (64, 64, 64))
POINTS = st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=5)
ROWS = st.lists(st.tuples(st.integers(1, 2), st.tuples(*[st.integers(0, 5)] * 3), st.integers(0, 3)), max_size=6)


def table(*rows, tomogram="t", classes=(A, B), facts=FACTS):
    """Particles from (label, (z, y, x) in voxels of 10 Å[, score])."""
    return Particles.from_voxels(
        np.reshape([row[1] for row in rows], (-1, 3)),
        tomogram=tomogram,
        facts=facts,
        labels=[row[0] for row in rows],
        classes=classes,
        scores=[row[2] if len(row) > 2 else np.nan for row in rows],
    )


class TestGroups:
    @given(st.lists(POINTS, min_size=2, max_size=4), st.sampled_from([0.5, 1.0, 1.5, 2.5]))
    def test_every_row_once_and_one_of_each_set(self, points, reach):
        sets = {f"s{n}": np.reshape(one, (-1, 3)).astype(float) for n, one in enumerate(points)}
        groups = group_positions(sets, reach)
        for column, one in enumerate(sets.values()):
            rows = groups[:, column]
            assert sorted(rows[rows >= 0].tolist()) == list(range(len(one)))
        linked = {}
        for (i, a), (j, b) in combinations(enumerate(sets.values()), 2):
            pairs = match(a, b, reach)
            linked[i, j] = set(zip(pairs.truth.tolist(), pairs.found.tolist(), strict=True))
        for group in groups:
            there = np.flatnonzero(group >= 0).tolist()
            joined = {there[0]}
            for _ in there:  # connected by matches
                joined |= {
                    m
                    for i, j in combinations(there, 2)
                    if (int(group[i]), int(group[j])) in linked[i, j] and joined & {i, j}
                    for m in (i, j)
                }
            assert joined == set(there)

    @given(POINTS, POINTS, st.sampled_from([1.0, 1.5, 2.5]), st.booleans())
    def test_two_sets_are_the_matches_of_evaluation(self, a, b, reach, box):
        a, b = np.reshape(a, (-1, 3)).astype(float), np.reshape(b, (-1, 3)).astype(float)
        groups = group_positions({"a": a, "b": b}, reach, box=box)
        pairs = match(a, b, reach, box=box)
        both = groups[(groups >= 0).all(axis=1)]
        assert both.tolist() == [list(one) for one in zip(pairs.truth.tolist(), pairs.found.tolist(), strict=True)]

    def test_a_chain_breaks_at_its_longest_link(self):
        """a0 - b0 - c0 - a1: both of a cannot be in one group; the farthest link goes."""
        groups = group_positions({"a": [[0, 0, 0], [0, 0, 30]], "b": [[0, 0, 9]], "c": [[0, 0, 20]]}, 12.0)
        assert groups.tolist() == [[0, 0, -1], [1, -1, 0]]

    def test_members_need_not_be_near_each_other(self):
        groups = group_positions({"a": [[0, 0, 0]], "b": [[0, 0, 9]], "c": [[0, 0, 18]]}, 10.0)
        assert groups.tolist() == [[0, 0, 0]]


def as_rows(result):
    """What the union says, without numbers of rows and in an order of its own."""
    columns = ["tomogram", "class", "x", "y", "z", "score", "sets", "confidence", "spread"]
    frame = result.union.table[columns]
    return sorted(map(repr, frame.to_numpy(dtype=object).tolist()))


@settings(max_examples=25)
@given(st.lists(ROWS, min_size=2, max_size=4), st.randoms(use_true_random=False), st.booleans(), st.booleans())
@example([[(1, (0, 0, 0), 1), (1, (0, 0, 2), 1)], [(1, (0, 0, 1), 2)], [(1, (0, 0, 1), 2)]], None, False, True)
def test_the_order_of_sets_and_rows_changes_nothing(rows, random, blind, best):
    """Permuting the sets permutes the result; permuting rows only their numbers."""
    options = {"tolerance": "2vox", "class_blind": blind, "position": "best" if best else "mean"}
    sets = {f"s{n}": table(*one) for n, one in enumerate(rows)}
    first = consensus(sets, **options)
    names = list(sets)
    if random is not None:
        random.shuffle(names)
    else:
        names = names[::-1]
    second = consensus({name: sets[name] for name in names}, **options)
    order = [names.index(name) for name in sets]
    np.testing.assert_array_equal(first.members, second.members[:, order])
    columns = [column for column in first.union.table.columns if column != "found_by"]
    pd.testing.assert_frame_equal(first.union.table[columns], second.union.table[columns])
    mixed = {name: one.with_table(one.table.iloc[::-1]) for name, one in sets.items()}
    assert as_rows(consensus(mixed, **options)) == as_rows(first)


def test_counts_by_hand():
    a = table((1, (5, 5, 5), 0.9), (1, (20, 20, 20), 0.8), (2, (40, 40, 40), 0.7), (2, (50, 5, 5), 0.1))
    b = table((1, (5, 5, 7), 0.3), (1, (40, 40, 40), 0.6), (2, (50, 5, 8), 0.4))
    c = table((1, (5, 6, 6)), (1, (60, 60, 60)))
    result = consensus({"A": a, "B": b, "C": c})
    shares = result.shares()
    assert shares.sets == {"A": 4, "B": 3, "C": 2}
    assert shares.combinations == {("A",): 2, ("B",): 1, ("C",): 1, ("A", "B"): 1, ("A", "B", "C"): 1}
    assert (shares.union, shares.intersection, shares.agreement) == (6, 1, 1 / 6)
    assert result.shares(class_name="b").combinations == {("A",): 1, ("A", "B"): 1}
    row = result.intersection.table.iloc[0]
    assert (row["x"], row["y"], row["z"]) == (60.0, pytest.approx(160 / 3), 50.0)
    assert row["score"] == pytest.approx(0.6), "the mean of those known"
    assert (row["sets"], row["confidence"], row["found_by"]) == (3, 1.0, "A, B, C")
    assert row["spread"] == 20.0
    assert (row["row_A"], row["row_B"], row["row_C"]) == (0, 0, 0)
    only = result.only("A")
    assert only.table[["x", "y", "z"]].to_numpy().tolist() == [[200, 200, 200], [400, 400, 400]]
    best = consensus({"A": a, "B": b, "C": c}, position="best").intersection.table.iloc[0]
    assert (best["x"], best["y"], best["z"]) == (50.0, 50.0, 50.0)


def test_class_blind_votes():
    a, b = table((1, (5, 5, 5), 0.1)), table((2, (5, 5, 6), 0.9))
    assert len(consensus([a, b]).union) == 2
    result = consensus([a, b], class_blind=True)
    assert result.union.table["class"].tolist() == ["a"], "a tie goes to the smaller label"
    c = table((2, (5, 5, 7)))
    assert consensus([a, b, c], class_blind=True).union.table["class"].tolist() == ["b"]
    # Radii are the smallest of the classes: 30 Å.
    near, far = table((2, (5, 5, 8))), table((2, (5, 5, 8.1)))
    assert len(consensus([a, near], class_blind=True).union) == 1
    assert len(consensus([a, far], class_blind=True).union) == 2
    assert len(consensus([a, far], class_blind=True, tolerance="40A").union) == 1


def test_two_sets_are_what_evaluation_counts():
    random = np.random.default_rng(2)
    rows = [(int(random.integers(1, 3)), random.uniform(0, 60, 3)) for _ in range(80)]
    a = table(*rows)
    b = table(*[(label, place + random.normal(0, 2, 3)) for label, place in rows[10:]])
    result, score = consensus([a, b]), evaluate(a, b)
    assert result.shares().intersection == score.overall.matched
    assert result.to_dict()["pairs"][0]["f1"] == pytest.approx(score.overall.f1)
    for name, one in score.classes.items():
        assert result.shares(class_name=name).intersection == one.matched


def test_classes_by_other_names_and_labels():
    """A class by its number is what another set calls that label; two classes of one label are told apart."""
    a = table((1, (5, 5, 5)))
    b = table((1, (5, 5, 5)), classes=(ParticleClass("class_1", 1), ParticleClass("class_2", 2)))
    result = consensus({"b": b, "a": a})
    assert result.union.counts() == {"a": 1, "b": 0}
    other = table((1, (5, 5, 5)), (2, (9, 9, 9)), classes=(ParticleClass("z", 1, radius=20.0), B))
    result = consensus({"first": a, "second": other})
    assert {one.name: one.label for one in result.union.classes} == {"a": 1, "b": 2, "z": 3}
    assert result.shares().intersection == 0
    small = table((1, (5, 5, 7.5)), classes=(ParticleClass("a", 1, radius=20.0),))
    assert len(consensus([a, small]).union) == 2, "the smaller radius of the two counts"


def test_tomograms_and_notes():
    one = Particles.concat([table((1, (5, 5, 5))), table((1, (5, 5, 5)), tomogram="u")])
    result = consensus({"A": one, "B": table((1, (5, 5, 6)))})
    assert result.shares(tomogram="u").combinations == {("A",): 1}
    assert result.shares(tomogram="t").intersection == 1
    assert "B does not list 1 tomograms, and so found nothing in them: ['u']." in result.notes
    result = consensus({"A": table((1, (5, 5, 5))), "B": table((1, (5, 5, 6)), tomogram="v")})
    assert result.shares().intersection == 1
    assert list(result.union.tomograms) == ["t"]
    assert "each set has but one" in result.notes[0]
    with pytest.raises(InputError, match="no tomogram in common"):
        consensus([one, table((1, (5, 5, 6)), tomogram="v")])
    ice = (A, ParticleClass("ice", 2, kind="structure"))
    result = consensus([table((1, (5, 5, 5)), (2, (5, 5, 5)), classes=ice), table((2, (5, 5, 5)))])
    assert result.union.counts() == {"a": 1, "b": 1}
    assert result.notes == ("Structures are left out: ['ice'].",)


def test_nothing_and_nobody():
    empty = table()
    result = consensus([empty, empty])
    assert len(result.union) == 0
    assert np.isnan(result.shares().agreement)
    json.dumps(result.to_dict(), allow_nan=False)
    assert len(agreement_diagram(result).axes) == 2
    result = consensus([table((1, (5, 5, 5))), empty])
    assert result.shares().combinations == {("set_1",): 1}


def test_refused_in_one_line():
    a = table((1, (5, 5, 5)))
    with pytest.raises(SettingsError, match="two sets"):
        consensus([a])
    with pytest.raises(SettingsError, match="expected 2 names"):
        consensus([a, a], names=("x",))
    with pytest.raises(SettingsError, match="several sets would be named 'x'"):
        consensus([a, a], names=("x", "x"))
    with pytest.raises(SettingsError, match="cannot name a file"):
        consensus([a, a], names=("x", "y/z"))
    with pytest.raises(SettingsError, match="radius"):
        consensus([table((1, (5, 5, 5)), classes=(ParticleClass("a", 1),))] * 2)
    binned = table((1, (5, 5, 5)), facts=TomogramFacts(20.0, (32, 32, 32)))
    with pytest.raises(VoxelSizeError, match="tolerance in Å"):
        consensus([a, binned], tolerance="3vox")
    assert len(consensus([a, binned]).union) == 2


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sets = {
        "ann": table((1, (5, 5, 5), 0.5), (2, (30, 30, 30), 0.5)),
        "ben": table((1, (5, 5, 6), 0.7), (2, (9, 9, 9), 0.7)),
    }
    for name, one in sets.items():
        one.write(f"{name}/picks.parquet")
    assert main(["consensus", "ann/picks.parquet", "ben/picks.parquet", "-o", "out", "--names", "ann", "ben"]) == 0
    said = capsys.readouterr().out
    assert "3 particles, 1 of them in both sets → out" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "consensus.png",
        "intersection.parquet",
        "only_ann.parquet",
        "only_ben.parquet",
        "summary.json",
        "union.parquet",
    ]
    expected = consensus(sets)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary == expected.to_dict()
    assert summary["overall"]["combinations"] == [
        {"sets": ["ann"], "count": 1},
        {"sets": ["ben"], "count": 1},
        {"sets": ["ann", "ben"], "count": 1},
    ]
    for name, table_ in (("union", expected.union), ("intersection", expected.intersection)):
        pd.testing.assert_frame_equal(Particles.read(f"out/{name}.parquet").table, table_.table)
    assert Particles.read("out/only_ben.parquet").counts() == {"a": 0, "b": 1}
    assert main(["consensus", "ann/picks.parquet", "ben/picks.parquet", "-o", "out"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--overwrite" in error
    words = ["consensus", "ann/picks.parquet", "ben/picks.parquet", "-o", "out", "--overwrite", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["sets"] == ["ann_picks", "ben_picks"], "names that tell files apart"
    with pytest.raises(OutputExistsError):
        expected.write("out")


def test_the_picture_has_the_numbers():
    a, b = table((1, (5, 5, 5)), (1, (20, 20, 20))), table((1, (5, 5, 6)), (2, (40, 40, 40)), (2, (50, 40, 40)))
    for sets in ({"A": a, "B": b}, {"A": a, "B": b, "C": a}):
        result = consensus(sets)
        panel = agreement_diagram(result).axes[0]
        texts = {tuple(np.round(text.get_position(), 6)): text.get_text() for text in panel.texts}
        names = list(sets)
        for numbers, place in region_places(len(sets)).items():
            count = result.shares().combinations.get(tuple(names[n] for n in numbers), 0)
            assert texts[tuple(np.round(place, 6))] == str(count)
    many = {name: a if name < "D" else b for name in "ABCDE"}
    bars = agreement_diagram(consensus(many)).axes[0]
    heights = [bar.get_height() for bar in bars.patches]
    assert heights == sorted(consensus(many).shares().combinations.values(), reverse=True)


@pytest.mark.parametrize("count", [2, 3])
def test_numbers_stand_in_their_regions(count):
    from deepfinder_dask.viewing.agreement import _CIRCLES, _RADIUS

    places = region_places(count)
    assert len(places) == 2**count - 1
    for numbers, place in places.items():
        inside = [n for n, centre in enumerate(_CIRCLES[count]) if np.hypot(*np.subtract(place, centre)) < _RADIUS]
        assert tuple(inside) == numbers


def test_one_list_in_three_formats_is_one_list(data_dir, tmp_path, monkeypatch, capsys):
    """Real picks of six species, as copick's own files, as CSV in Å and as a table of Dynamo, which has labels only."""
    monkeypatch.chdir(tmp_path)
    picks = str(data_dir / "annotations" / "copick_TS_5_4")
    for name in ("picks.csv", "picks.tbl"):
        assert main(["import", picks, "-o", "picks.parquet", "-v", "10.012", "--overwrite"]) == 0
        assert main(["export", "picks.parquet", "-o", name]) == 0
    capsys.readouterr()
    words = ["consensus", picks, "picks.csv", "picks.tbl", "--names", "copick", "csv", "dynamo", "--tolerance", "20A"]
    assert main([*words, "-v", "10.012", "-o", "out", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["overall"]["union"] == summary["overall"]["intersection"] == 140
    assert {name: one["intersection"] for name, one in summary["classes"].items()} == {
        "apo-ferritin": 46,
        "beta-amylase": 10,
        "beta-galactosidase": 12,
        "ribosome": 31,
        "thyroglobulin": 30,
        "virus-like-particle": 11,
    }
    union = Particles.read("out/union.parquet")
    assert union.table["spread"].max() < 1e-6
