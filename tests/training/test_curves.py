from __future__ import annotations

import sys
import types
from xml.etree import ElementTree

import pytest

from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.training import curves
from deepfinder_dask.training.curves import draw_curves, open_board

CLASSES = (ParticleClass("rod & ring", 1), ParticleClass("cube", 2))


def record(steps):
    entries = [{"step": n, "loss": 1 / n, "seconds": 0.5} for n in range(1, steps + 1)]
    for entry in entries[4::5]:
        entry |= {"f1_1": 0.25, "f1_2": 0.75, "f1": 0.5}
    return entries


def test_the_page_renews_itself_until_the_run_ends(tmp_path):
    entries = record(10)
    draw_curves(entries, CLASSES, tmp_path, total=130)
    page = (tmp_path / "curves.html").read_text()
    assert '<meta http-equiv="refresh"' in page
    assert "10 of 130" in page
    assert "1 min" in page, "120 steps of half a second are left"
    assert "rod &amp; ring" in page
    assert ">0.250<" in page
    ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    draw_curves(entries, CLASSES, tmp_path, total=10)
    assert "refresh" not in (tmp_path / "curves.html").read_text()


def test_long_records_are_thinned_by_means(monkeypatch):
    monkeypatch.setattr(curves, "POINTS", 4)
    steps, losses = curves._thinned([{"step": n, "loss": float(n)} for n in range(1, 11)])
    assert steps == [3, 6, 9, 10]
    assert losses == pytest.approx([2, 5, 8, 10])
    assert curves._thinned([]) == ([], [])


def test_tensorboard_gets_every_step_under_the_names_of_the_classes(tmp_path, monkeypatch):
    """A stand-in for the optional package, with the two methods and the argument that are used of it."""
    written = []

    class Writer:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def add_scalar(self, tag, value, step):
            written.append((tag, value, step))

        def flush(self):
            pass

        close = flush

    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    monkeypatch.setattr(curves.importlib.util, "find_spec", lambda name: object() if name == "tensorboard" else None)
    with open_board(tmp_path, CLASSES, 7) as board:
        board.add({"step": 8, "loss": 0.5, "f1_2": 0.75, "f1": 0.7, "particles_f1_1": 0.6})
    assert written == [
        (str(tmp_path / "tensorboard"), 8),
        ("loss", 0.5, 8),
        ("f1/cube", 0.75, 8),
        ("f1", 0.7, 8),
        ("particles_f1/rod & ring", 0.6, 8),
    ]
    monkeypatch.setattr(curves.importlib.util, "find_spec", lambda _: None)
    with open_board(tmp_path, CLASSES, 0) as board:
        board.add({"step": 1, "loss": 0.5})
    assert len(written) == 5
