"""Annotating without a browser: edits, their journal, and the table that becomes of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import (
    FormatError,
    GeometryError,
    InputError,
    OutputExistsError,
    SettingsError,
    StorageError,
    VoxelSizeError,
)
from deepfinder_dask.particles import ParticleClass, Particles, ParticlesWarning, TomogramFacts, write_classes
from deepfinder_dask.targets import target
from deepfinder_dask.tomograms import Tomogram, create_image, finish_image
from deepfinder_dask.viewing.annotating import Session, open_session
from deepfinder_dask.viewing.annotating.edits import Annotation, History, line_of
from deepfinder_dask.viewing.annotating.journal import Journal, begin, encode

SHAPE = (40, 72, 120)
"""Of the tomogram in conftest.py."""
CLASSES = (
    ParticleClass("ribosome", 1, radius=80.0, min_size=900),
    ParticleClass("proteasome", 2, radius=50.0),
    ParticleClass("membrane", 3, kind="structure"),
)
ODD = (8.0, 10.0, 12.5)
"""Å per voxel, (z, y, x)."""


@pytest.fixture
def classes_file(tmp_path: Path) -> str:
    write_classes(CLASSES, tmp_path / "classes.toml")
    return str(tmp_path / "classes.toml")


@pytest.fixture(scope="module")
def odd(arrays, tmp_path_factory) -> Tomogram:
    """A tomogram whose voxels are no cubes."""
    path = tmp_path_factory.mktemp("odd") / "odd.zarr"
    volume = create_image(path, shape=SHAPE, dtype=arrays[0].dtype, voxel_size=ODD)
    volume.write(Box.whole(SHAPE), arrays[0])
    finish_image(path)
    return Tomogram.open(path)


@pytest.fixture
def found(tmp_path: Path, particles: Particles) -> Path:
    """What a network found, with a measure and a column of somebody else."""
    path = tmp_path / "found.parquet"
    particles.with_columns({"purity": np.linspace(0.5, 1, 5), "note": list("abcde")}).write(path)
    return path


def at(voxel, size=(10.0, 10.0, 10.0)):
    z, y, x = (v * s for v, s in zip(voxel, size, strict=True))
    return z, y, x


def rows(table: Particles) -> list[tuple]:
    return list(table.table[["class", "z", "y", "x"]].itertuples(index=False, name=None))


# --- edits --------------------------------------------------------------------------------------------------------


def test_what_is_annotated_is_what_is_saved(odd, classes_file, tmp_path) -> None:
    """Positions are those of voxels, exactly, also where voxels are no cubes."""
    out = tmp_path / "out" / "picks.parquet"
    with open_session(odd, out, classes=classes_file) as session:
        first = session.add(1, at((20, 15, 100), ODD))
        second = session.add(2, at((3, 71, 119), ODD))
        third = session.add(2, at((0, 0, 0), ODD))
        session.move(second.particle, at((4, 70, 7), ODD))
        session.relabel(first.particle, 2)
        session.remove(third.particle)
        session.add(1, at((39, 1, 2), ODD))
    table = Particles.read(out)
    assert np.array_equal(table.voxel_positions("odd"), [(20, 15, 100), (4, 70, 7), (39, 1, 2)])
    assert table.table["class"].tolist() == ["proteasome", "proteasome", "ribosome"]
    assert table.table["label"].tolist() == [2, 2, 1]
    assert table.tomograms == {"odd": TomogramFacts(ODD, SHAPE)}
    assert table.classes == CLASSES
    assert list(table.table.columns) == ["tomogram", "class", "label", "x", "y", "z", "score", "size_voxels"]


def test_target_takes_the_table(odd, classes_file, tmp_path) -> None:
    """Each particle is drawn about the voxel it was put on."""
    out = tmp_path / "picks.parquet"
    with open_session(odd, out, classes=classes_file) as session:
        session.add(1, at((20, 15, 100), ODD))
        session.add(2, at((25, 60, 30), ODD))
    made = target(out, odd, tmp_path / "target.zarr", classes=classes_file, annotated=("ribosome", "proteasome"))
    labels = made.label_map.read()
    grid = np.stack(np.indices(SHAPE), -1) * ODD
    for voxel, label, radius in (((20, 15, 100), 1, 80.0), ((25, 60, 30), 2, 50.0)):
        ball = ((grid - at(voxel, ODD)) ** 2).sum(-1) <= radius**2
        assert np.array_equal(labels == label, ball)


def test_edits_that_cannot_be(tomogram, classes_file, tmp_path) -> None:
    with open_session(tomogram, tmp_path / "p.parquet", classes=classes_file) as session:
        one = session.add(1, at((1, 2, 3))).particle
        before = session.annotations
        for label in (0, 3, 9):
            with pytest.raises(InputError, match="none of the classes"):
                session.add(label, at((1, 2, 3)))
        for voxel in ((-1, 0, 0), (40, 0, 0), (0, 0, 120), (0, 72, 0)):
            with pytest.raises(GeometryError, match="inside the tomogram"):
                session.move(one, at(voxel))
        for edit in (lambda: session.remove(7), lambda: session.judge(7, "rejected")):
            with pytest.raises(InputError, match="no particle 7"):
                edit()
        assert session.annotations == before
        session.undo()
        assert session.undo() is None
        assert session.annotations == {}
    with pytest.raises(InputError, match="closed"):
        session.add(1, at((1, 2, 3)))


def test_numbers_of_removed_particles_are_not_used_again(tomogram, classes_file, tmp_path) -> None:
    out = tmp_path / "p.parquet"
    with open_session(tomogram, out, classes=classes_file) as session:
        first = session.add(1, at((1, 1, 1))).particle
        session.undo()
        second = session.add(1, at((2, 2, 2))).particle
        session.remove(second)
    with open_session(tomogram, out) as session:
        third = session.add(1, at((3, 3, 3))).particle
    assert first < second < third


annotations = st.builds(
    Annotation,
    st.integers(1, 2),
    st.tuples(*[st.floats(-5, 1e4, allow_subnormal=True)] * 3),
    st.sampled_from(["open", "accepted", "rejected"]),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 5), st.none() | annotations), st.just("undo"), st.just("redo"), st.just("saved")
    ),
    max_size=25,
)


def played(history: History, step) -> dict | None:
    """Do a step; its line in the journal, None where there was nothing to undo."""
    if step == "saved":
        return {"saved": "0" * 64}
    if isinstance(step, str):
        done = history.undo() if step == "undo" else history.redo()
        return None if done is None else {step: 1}
    return line_of(history.put(*step))


@given(steps, st.integers(0, 2))
def test_undo_and_redo(todo, known) -> None:
    """Undo is the way back, redo the way forth again, and an edit cuts off what was undone."""
    history = History({n: Annotation(1, (n, n, n), "open") for n in range(known)})
    states = [dict(history.particles)]
    place = 0
    for step in todo:
        before = dict(history.particles)
        line = played(history, step)
        if step == "undo":
            assert (line is None) == (place == 0)
            place = max(0, place - 1)
        elif step == "redo":
            assert (line is None) == (place == len(states) - 1)
            place = min(len(states) - 1, place + 1)
        elif step != "saved":
            del states[place + 1 :]
            states.append(before | {step[0]: step[1]} if step[1] else {k: v for k, v in before.items() if k != step[0]})
            place += 1
        assert history.particles == states[place]
    while history.undo() is not None:
        place -= 1
        assert history.particles == states[place]
    assert place == 0
    while history.redo() is not None:
        place += 1
        assert history.particles == states[place]
    assert place == len(states) - 1


@given(steps, st.data())
@settings(max_examples=60)
def test_a_journal_cut_anywhere_is_a_state_on_the_way(tmp_path_factory, todo, data) -> None:
    """Killed at any byte, what was acknowledged before is there, and nothing else; and one can go on."""
    folder = tmp_path_factory.mktemp("j") / "p.parquet.journal"
    begin(folder, Particles.empty({"cell": TomogramFacts((10,) * 3, SHAPE)}, CLASSES), {"store": "cell"})
    history = History()
    journal = Journal(folder)
    states, ends = [{}], [journal.path.stat().st_size]
    for step in todo:
        line = played(history, step)
        if line is not None:
            journal.append(line)
            states.append(dict(history.particles))
            ends.append(journal.path.stat().st_size)
    journal.close()
    cut = data.draw(st.integers(ends[0], ends[-1]))
    with journal.path.open("r+b") as file:
        file.truncate(cut)
    expected = states[sum(end <= cut for end in ends) - 1]
    for _ in range(2):
        journal = Journal(folder)
        again = History()
        for line in journal.lines:
            again.apply(line)
        assert again.particles == expected
        # The next line stands on its own, whatever the kill had left.
        expected = expected | {9: Annotation(1, (1.0, 2.0, 3.0))}
        journal.append({"particle": 9, "is": expected[9].to_dict()})
        journal.close()
    shutil.rmtree(folder)


# --- kills and faults ---------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from deepfinder_dask.viewing.annotating import open_session
session = open_session(sys.argv[1], sys.argv[2], classes=sys.argv[3])
for n in range(int(sys.argv[4])):
    session.add(1 + n % 2, (10.0 * n, 20.0, 30.0))
session.undo()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_session_has_lost_nothing(tomogram, classes_file, tmp_path) -> None:
    """Not even edits that the table had not seen; its lock is gone, too; and undo goes on over it."""
    out = tmp_path / "p.parquet"
    for total in (4, 6):
        words = [sys.executable, "-c", KILLED, tomogram.path, str(out), classes_file, "3" if total == 6 else "5"]
        done = subprocess.run(words, timeout=120, check=False, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        with open_session(tomogram, out, classes=classes_file) as session:
            assert len(session.annotations) == total
            assert len(Particles.read(out)) == total, "the table is whole as soon as the session is open again"
    with open_session(tomogram, out) as session:
        session.redo()
        assert len(session.annotations) == 7
        while session.undo() is not None:
            pass
        assert session.annotations == {}
    assert len(Particles.read(out)) == 0


def test_two_cannot_annotate_one_output(tomogram, classes_file, tmp_path) -> None:
    out = tmp_path / "p.parquet"
    with open_session(tomogram, out, classes=classes_file) as session:
        with pytest.raises(InputError, match=r"another process is at work in .*p\.parquet"):
            open_session(tomogram, out, classes=classes_file)
        session.add(1, at((1, 2, 3)))
    with open_session(tomogram, out) as session:
        assert len(session.annotations) == 1


def test_a_full_disk_changes_nothing(tomogram, classes_file, tmp_path, monkeypatch) -> None:
    """An edit that cannot be kept is no edit; what was kept before stays readable."""
    out = tmp_path / "p.parquet"
    real = os.write

    def full(file: int, data: bytes) -> int:
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return real(file, data[: len(data) - 5])

    with open_session(tomogram, out, classes=classes_file) as session:
        session.add(1, at((1, 2, 3)))
        kept = session.annotations
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(StorageError, match="No space left"):
                session.add(1, at((2, 2, 3)))
            with pytest.raises(StorageError, match="No space left"):
                session.undo()
        assert session.annotations == kept
        session.add(2, at((3, 2, 3)))
    with open_session(tomogram, out) as session:
        assert [one.label for one in session.annotations.values()] == [1, 2]


@pytest.mark.parametrize(
    "damage", [b'{"particle": 1, "is"\n', b"[1]\n", b'{"redo": 1}\n', b'{"other": 1}\n', b"\0\0\n"]
)
def test_damage_inside_the_journal_is_named(tomogram, classes_file, tmp_path, damage) -> None:
    out = tmp_path / "p.parquet"
    open_session(tomogram, out, classes=classes_file).close()
    journal = tmp_path / "p.parquet.journal" / "edits.jsonl"
    good = journal.read_bytes()
    line = encode({"particle": 0, "is": None})
    journal.write_bytes(good + damage + line)
    number = len(good.splitlines()) + 1
    with pytest.raises(FormatError, match=f"line {number} is damaged"):
        open_session(tomogram, out)
    journal.write_bytes(good[:20])
    with pytest.raises(FormatError, match="not a journal"):
        open_session(tomogram, out)
    journal.write_bytes(b'{"journal":2}\n')
    with pytest.raises(FormatError, match="newer version"):
        open_session(tomogram, out)


# --- starting from particles --------------------------------------------------------------------------------------


def test_review(tomogram, found, tmp_path) -> None:
    """Rejected particles are left out and become negatives; everything known of the others stays with them."""
    out, no = tmp_path / "p.parquet", tmp_path / "no.parquet"
    before = Particles.read(found).table
    with open_session(tomogram, out, found=str(found), negatives=str(no)) as session:
        assert [one.verdict for one in session.annotations.values()] == ["open"] * 5
        session.judge(1, "rejected")
        session.judge(0, "accepted")
        session.move(2, at((11, 55, 30)))
        session.relabel(3, 1)
        session.remove(4)
        session.add(2, at((5, 5, 5)))
        session.judge(0, "rejected")
        session.undo()
    table = Particles.read(out).table
    kept = ["score", "size_voxels", "purity", "note"]
    pd.testing.assert_frame_equal(table.loc[:1, kept], before.loc[[0, 2], kept].reset_index(drop=True))
    assert rows(Particles.read(out)) == [
        ("ribosome", *at((20, 15, 20))),
        ("ribosome", *at((11, 55, 30))),
        ("ribosome", *at((20, 40, 60))),
        ("proteasome", *at((5, 5, 5))),
    ]
    assert table["score"].isna().tolist() == [False, False, True, True], "a score is that of its class"
    assert table["accepted"].tolist() == [True, True, True, True]
    assert rows(Particles.read(no)) == [("ribosome", *at((20, 15, 100)))]
    # Training takes negatives by the tomogram's name, and reads their positions.
    assert np.array_equal(Particles.read(no).of_tomogram("cell").positions(), [at((20, 15, 100))])


def test_review_is_kept(tomogram, found, tmp_path) -> None:
    """State of the review over a restart with the same command; and over the loss of the journal."""
    out = tmp_path / "p.parquet"
    command = {"found": str(found), "reviewed_only": True}
    with open_session(tomogram, out, **command) as session:
        session.judge(1, "rejected")
        session.judge(3, "accepted")
        state = session.annotations
    assert rows(Particles.read(out)) == [("proteasome", *at((20, 40, 60)))]
    with open_session(tomogram, out, **command) as session:
        assert session.annotations == state
    with open_session(tomogram, out) as session:
        assert session.annotations == state
    assert len(Particles.read(out)) == 4
    shutil.rmtree(tmp_path / "p.parquet.journal")
    with open_session(tomogram, out) as session:
        assert [one.verdict for one in session.annotations.values()] == ["open", "open", "accepted", "open"]


def test_a_table_without_journal_is_gone_on_with(tomogram, particles, tmp_path) -> None:
    out = tmp_path / "p.parquet"
    particles.write(out)
    with open_session(tomogram, out) as session:
        assert session.classes == CLASSES
        session.add(1, at((1, 1, 1)))
    assert len(Particles.read(out)) == len(particles) + 1
    assert np.array_equal(Particles.read(out).table["score"][:5], particles.table["score"])


def test_names_of_the_tomogram(tomogram, particles, tmp_path) -> None:
    """A table of one tomogram is that of this one, under whatever name; ``name`` says another."""
    other = Particles(particles.table.assign(tomogram="TS_7"), {"TS_7": particles.tomograms["cell"]}, CLASSES)
    other.write(tmp_path / "f.parquet")
    for name, expected in ((None, "TS_7"), ("cell", "cell")):
        out = tmp_path / f"{expected}.parquet"
        with open_session(tomogram, out, found=str(tmp_path / "f.parquet"), name=name) as session:
            session.add(1, at((1, 1, 1)))
        assert set(Particles.read(out).table["tomogram"]) == {expected}
    both = Particles.concat([particles, other])
    both.write(tmp_path / "both.parquet")
    with open_session(tomogram, tmp_path / "b.parquet", found=str(tmp_path / "both.parquet")) as session:
        assert len(session.annotations) == 5
    with pytest.raises(InputError, match="no tomogram 'TS_8'"):
        open_session(tomogram, tmp_path / "c.parquet", found=str(tmp_path / "both.parquet"), name="TS_8")


def test_more_classes_are_welcome(tomogram, classes_file, tmp_path) -> None:
    out = tmp_path / "p.parquet"
    open_session(tomogram, out, classes=classes_file).close()
    more = (*CLASSES, ParticleClass("apoferritin", 7, radius=60))
    write_classes(more, tmp_path / "more.toml")
    with open_session(tomogram, out, classes=str(tmp_path / "more.toml")) as session:
        session.add(7, at((1, 1, 1)))
    with open_session(tomogram, out) as session:
        assert session.classes == more
    with pytest.raises(InputError, match=r"begun with the class 'apoferritin' \(label 7\), which is not among"):
        open_session(tomogram, out, classes=classes_file)


# --- refusals -----------------------------------------------------------------------------------------------------


def refused(kind: type[Exception], words: str, *args, **options) -> None:
    with pytest.raises(kind, match=words) as caught:
        open_session(*args, **options)
    assert "\n" not in str(caught.value)


def test_refusals(tomogram, odd, classes_file, found, particles, tmp_path) -> None:
    out = tmp_path / "p.parquet"
    refused(SettingsError, "found none: give --classes", tomogram, out)
    refused(InputError, "no such file", tomogram, out, classes=str(tmp_path / "no.toml"))
    (tmp_path / "x.mrc").write_bytes(b"0" * 2000)
    refused(FormatError, r"deepfinder convert .*x\.mrc -o x\.zarr", tmp_path / "x.mrc", out, classes=classes_file)
    refused(SettingsError, r"NAME\.parquet", tomogram, tmp_path / "p.star", classes=classes_file)
    refused(SettingsError, "inside the tomogram", tomogram, Path(tomogram.path) / "p.parquet", classes=classes_file)
    refused(SettingsError, "the output as well", tomogram, out, classes=classes_file, negatives=str(out))
    refused(SettingsError, "slices", tomogram, out, classes=classes_file, smooth="many")
    refused(VoxelSizeError, r"10\.0, 10\.0, 10\.0", odd, out, found=str(found))
    table = replace(particles, tomograms={"cell": TomogramFacts((10.0,) * 3, (41, 72, 120))})
    table.write(tmp_path / "small.parquet")
    refused(GeometryError, r"\(41, 72, 120\)", tomogram, out, found=str(tmp_path / "small.parquet"))
    wide = particles.table.assign(x=particles.table["x"] * 2)
    Particles(wide, {"cell": TomogramFacts((10.0,) * 3)}, CLASSES).write(tmp_path / "wide.parquet")
    warnings.simplefilter("ignore", ParticlesWarning)  # reading them warns of it, too
    refused(GeometryError, "3 particles of .* are outside", tomogram, out, found=str(tmp_path / "wide.parquet"))
    write_classes(CLASSES[:1], tmp_path / "one.toml")
    refused(
        InputError,
        "2 particles of class 'proteasome'",
        tomogram,
        out,
        found=str(found),
        classes=str(tmp_path / "one.toml"),
    )
    assert not (tmp_path / "p.parquet.journal").exists()
    assert not out.exists()


def test_refused_outputs(tomogram, odd, classes_file, found, particles, tmp_path) -> None:
    out = tmp_path / "p.parquet"
    with open_session(tomogram, out, classes=classes_file) as session:
        session.add(1, at((1, 1, 1)))
    kept = out.read_bytes()
    refused(InputError, "begun in the tomogram cell, this is odd", odd, out)
    refused(InputError, "begun without --from", tomogram, out, found=str(found))
    refused(InputError, "begun for the tomogram 'cell', got --name X", tomogram, out, name="X")
    write_classes([replace(CLASSES[0], label=9), CLASSES[1]], tmp_path / "other.toml")
    refused(
        InputError, r"'ribosome' \(label 1\), which is label 9", tomogram, out, classes=str(tmp_path / "other.toml")
    )
    refused(OutputExistsError, "choose another name", tomogram, out, negatives=str(found))
    assert out.read_bytes() == kept
    particles.write(out)
    refused(InputError, "was changed since it was annotated", tomogram, out)
    assert len(Particles.read(out)) == len(particles)

    refused(OutputExistsError, "leave out --from", tomogram, found, found=classes_file)
    began = tmp_path / "q.parquet"
    open_session(tomogram, began, found=str(found)).close()
    particles.write(found)
    refused(InputError, "begun from other particles", tomogram, began, found=str(found))
    refused(InputError, "holds particles of cell, expected odd only", odd, found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_cannot_be_written(tomogram, classes_file, tmp_path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    refused(StorageError, "cannot write", tomogram, tmp_path / "shut" / "p.parquet", classes=classes_file)


def test_an_output_below_a_file(tomogram, classes_file, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    refused(StorageError, "cannot write", tomogram, tmp_path / "file" / "p.parquet", classes=classes_file)


def test_the_journal_is_text(tomogram, classes_file, tmp_path) -> None:
    """Anybody can read what was done."""
    out = tmp_path / "p.parquet"
    with open_session(tomogram, out, classes=classes_file) as session:
        session.add(2, at((1, 2, 3)))
        session.undo()
    lines = [json.loads(text) for text in (tmp_path / "p.parquet.journal" / "edits.jsonl").read_text().splitlines()]
    assert [next(iter(line)) for line in lines] == ["journal", "saved", "particle", "undo", "saved"]
    assert lines[2]["is"] == {"label": 2, "zyx": [10.0, 20.0, 30.0], "verdict": "accepted"}
    assert isinstance(Session, type)
