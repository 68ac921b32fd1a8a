"""What is shown of a run: equal to its log, in the colours of its classes, and brought up to date."""

from __future__ import annotations

import json
import sys
import threading
import types
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

from deepfinder_dask.errors import FormatError, InputError, SettingsError
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.training import TrainingView, watch
from deepfinder_dask.training.checkpoints import append_log, write_log
from deepfinder_dask.training.judging import scores_of_voxels
from deepfinder_dask.training.watching import board, curves, pictures, view
from deepfinder_dask.training.watching import page as page_module
from deepfinder_dask.training.watching.board import open_board
from deepfinder_dask.training.watching.examples import JudgedPatches, examples_figure, pick_examples
from deepfinder_dask.training.watching.following import Log, RunFacts
from deepfinder_dask.training.watching.page import CHECKS
from deepfinder_dask.training.watching.pictures import RunPictures

CLASSES = (ParticleClass("rod & ring", 1), ParticleClass("cube", 2, colour="#0080ff"))


NOW = "return document.querySelector('table.now td:nth-child(2)')?.textContent"


def record(steps):
    entries = [{"step": n, "loss": 1 / n, "seconds": 0.5} for n in range(1, steps + 1)]
    for n, entry in enumerate(entries[4::5], start=1):
        f1s = {f"f1_{label}": 1 - 0.5 ** (n + label) for label in (1, 2)}
        entry |= f1s | {f"precision_{label}": 0.1 * n + 0.01 * label for label in (1, 2)}
        entry |= {f"recall_{label}": 0.2 * n + 0.01 * label for label in (1, 2)} | {"f1": sum(f1s.values()) / 2}
    return entries


def patches(shape=(3, 8, 12, 16)):
    """Class 1 is thickest in patch 2 at z = 5, class 2 in patch 0 at z = 1."""
    truth = np.zeros(shape, np.uint8)
    truth[2, 5, 3:9, 4:14] = 1
    truth[1, 4, 0:2, 0:2] = 1
    truth[0, 1, 6:11, 1:5] = 2
    truth[2, 5, 11, 15] = 255
    found = truth.copy()
    found[2, 5, 3, 4] = 2
    found[2, 5, 0, 0] = 1
    return JudgedPatches(np.random.default_rng(0).normal(size=shape).astype(np.float32), truth, found)


class Tables(HTMLParser):
    """Rows of the tables of a page, by their class."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.rows, self.tags = {}, None, []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.rows = self.tables[dict(attributes)["class"]] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag == "table":
            self.rows = None

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def shown_of(entries, folder, *, ended=False, steps=130):
    drawing = RunPictures(folder, CLASSES, steps)
    drawing.begin()
    drawing.judged(len(entries), patches())
    drawing.step(entries)
    if ended:
        drawing.end(entries)
    return (folder / "curves.html").read_text()


def test_what_the_page_shows_equals_the_log(tmp_path):
    entries = record(60)
    write_log(entries, tmp_path / "log.jsonl")
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    tables = Tables(shown_of(entries, tmp_path)).tables
    checks = [e for e in logged if "f1" in e]
    assert len(checks) == 12 > CHECKS
    wanted = [[f"{e['step']}", f"{e['loss']:.4f}", f"{e['f1']:.3f}"] for e in checks[:-11:-1]]
    assert tables["checks"] == [["step", "loss", "F1 of voxels"], *wanted]
    last = checks[-1]
    assert tables["classes"][0] == ["class", "F1 of voxels", "precision", "recall"]
    for row, one in zip(tables["classes"][1:], CLASSES, strict=True):
        assert row == [one.name, *(f"{last[f'{key}_{one.label}']:.3f}" for key in ("f1", "precision", "recall"))]
    now = dict(tables["now"])
    assert now["step"] == "60 of 130"
    assert now["loss, mean of the last 50"] == f"{np.mean([e['loss'] for e in logged[10:]]):.4f}"
    assert now["left, about"] == "1 min", "70 steps of half a second are left"
    assert now["F1 of voxels"].startswith(f"{last['f1']:.3f}, best {last['f1']:.3f} at step 60")


def test_figures_of_particles_stay_those_of_the_last_count(tmp_path):
    entries = record(10)
    entries[4] |= {"particles_f1": 0.25, "particles_f1_1": 0.125, "particles_localisation": 0.5}
    tables = Tables(shown_of(entries, tmp_path)).tables
    assert [row[4] for row in tables["classes"]] == ["F1 of particles", "0.125", "–"]
    assert [row[3] for row in tables["checks"]] == ["F1 of particles", "–", "0.250"]


def test_the_page_renews_itself_until_the_run_ends_and_asks_for_nothing(tmp_path):
    entries = record(10)
    page = shown_of(entries, tmp_path)
    assert '<meta http-equiv="refresh"' in page
    assert "rod &amp; ring" in page
    ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    links = [a for _, tag in Tables(page).tags for key, a in tag.items() if key in ("src", "href", "xlink:href")]
    assert links
    assert all(a.startswith(("data:", "#")) for a in links)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "refresh" not in shown_of(entries, tmp_path, ended=True)


@pytest.mark.browser
def test_the_page_shows_all_of_it_in_a_browser_and_asks_for_nothing(browser, tmp_path):
    browser.resize(1600, 1500)
    shown_of(record(10), tmp_path, ended=True, steps=10)
    address = (tmp_path / "curves.html").as_uri()
    browser.open(address)
    assert browser.run(NOW) == "10 of 10, all done"
    assert browser.run("return document.querySelector('svg').getBoundingClientRect().width") > 400
    assert browser.run("return document.querySelector('img').naturalWidth") > 300
    pixels = browser.pixels().reshape(-1, 3)
    for colour in ([0x4E, 0x79, 0xA7], [0x00, 0x80, 0xFF], [0xC8, 0xC8, 0xC8]):
        assert (pixels == colour).all(axis=1).sum() > 50, "a class, or what is not annotated, in the target"
    assert browser.errors() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {address}


@pytest.mark.browser
def test_the_page_renews_itself_in_a_browser(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "RENEW", 3)
    shown_of(record(5), tmp_path)
    browser.open((tmp_path / "curves.html").as_uri())
    shown_of(record(10), tmp_path, ended=True, steps=10)
    browser.wait(lambda: browser.run(NOW) == "10 of 10, all done", 200, what="the page to renew itself")
    assert browser.errors() == []


def test_a_loss_that_is_no_number_is_shown_as_such(tmp_path):
    assert ["loss, mean of the last 50", "nan"] in Tables(
        shown_of([*record(5)[:4], {**record(5)[4], "loss": float("nan")}], tmp_path)
    ).tables["now"]


def test_examples_are_the_slices_that_cut_most_of_each_class():
    picked = pick_examples(patches(), (*CLASSES, ParticleClass("absent", 3)))
    assert [(e.shown.label, e.patch, e.z) for e in picked] == [(1, 2, 5), (2, 0, 1)]


@pytest.mark.parametrize(
    ("row", "title", "y", "x", "label"),
    [
        (0, "target", 3, 4, 1),
        (0, "target", 8, 13, 1),
        (0, "target", 9, 13, 0),
        (0, "target", 3, 3, 0),
        (0, "target", 11, 15, 255),
        (0, "prediction", 3, 4, 2),
        (0, "prediction", 0, 0, 1),
        (0, "prediction", 3, 5, 1),
        (1, "target", 6, 1, 2),
        (1, "target", 10, 4, 2),
        (1, "target", 11, 4, 0),
    ],
)
def test_colours_of_known_voxels(tmp_path, row, title, y, x, label):
    """Looked up in the pixels of the file, y upwards and x to the right."""
    figure = examples_figure(patches(), CLASSES, 5)
    (tmp_path / "patches.png").write_bytes(pictures.png_of(figure))
    pixels = (matplotlib.image.imread(tmp_path / "patches.png")[..., :3] * 255).round().astype(int)
    (panel,) = [a for a in figure.axes if a.get_gid() == f"{CLASSES[row].name}: {title}"]
    right, up = panel.transData.transform((x, y)) * pictures.DPI / figure.dpi
    colours = {0: "#ffffff", 1: CLASSES[0].colour, 2: "#0080ff", 255: "#c8c8c8"}
    got = "#{:02x}{:02x}{:02x}".format(*pixels[len(pixels) - 1 - int(up), int(right)])
    assert got == colours[label]


def test_grey_values_are_those_of_the_same_slice():
    figure = examples_figure(patches(), CLASSES, 5)
    (panel,) = [a for a in figure.axes if a.get_gid() == "cube: tomogram"]
    np.testing.assert_array_equal(panel.images[0].get_array(), patches().values[0, 1])


def test_drawing_takes_its_share_of_time_and_no_more(tmp_path, monkeypatch):
    """One second a drawing: the next one is due 33 seconds later, at the latest step and not before."""
    clock = [100.0]
    monkeypatch.setattr(pictures, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    drawn = []

    def told():
        drawn.append(clock[0])
        clock[0] += 1

    drawing = RunPictures(tmp_path, CLASSES, 100, told)
    entries = record(10)
    drawing.step(entries[:1])
    assert drawn == [], "nothing before the first check"
    drawing.step(entries[:5])
    clock[0] += 30
    drawing.step(entries[:10])
    assert drawn == [100.0]
    clock[0] += 4
    drawing.step(entries[:9])
    assert drawn == [100.0, 135.0], "also between checks"
    drawing.end(entries)
    assert len(drawn) == 3, "the end is always drawn"


def test_the_log_of_a_run_that_goes_on_is_followed(tmp_path):
    """A line half written waits; a log that is replaced, as a resume does, is read anew."""
    path, entries = tmp_path / "log.jsonl", record(12)
    log = Log(path)
    assert log.catch_up() == []
    write_log(entries[:3], path)
    assert log.catch_up() == entries[:3]
    line = json.dumps(entries[3]) + "\n"
    with path.open("a") as stream:
        stream.write(line[:20])
    assert log.catch_up() == entries[:3]
    with path.open("a") as stream:
        stream.write(line[20:])
    append_log(entries[4], path)
    assert log.catch_up() == entries[:5]
    write_log(entries[:4], path)
    append_log(entries[5], path)
    assert log.catch_up() == [*entries[:4], entries[5]]
    with path.open("a") as stream:
        stream.write("no entry\n")
    with pytest.raises(FormatError, match="damaged line"):
        log.catch_up()


def test_a_view_follows_a_run_and_ends_with_it(tmp_path, monkeypatch):
    """The run is written step by step beside it; what is shown last is the whole of it."""
    shown, updated = [], threading.Event()

    class Place:
        number = 1

        def __init__(self, page):
            shown.append(page)

        def update(self, page):
            shown.append(page)
            updated.set()

        @classmethod
        def cell(cls):
            return cls.number

    monkeypatch.setattr(view, "in_notebook", lambda: True)
    monkeypatch.setattr(view, "_Place", Place)
    monkeypatch.setattr(view, "REST", 0)
    folder = tmp_path / "a <b> run"
    one = watch(folder, every=0.005)
    assert "waiting for a run to begin in" in shown[0]
    assert "<b>" not in shown[0]
    one._ipython_display_()
    assert len(shown) == 1, "the value of the same cell"
    entries = record(10)
    drawing = RunPictures(folder, CLASSES, 10)
    drawing.begin()
    for number in range(10):
        append_log(entries[number], folder / "log.jsonl")
        while number in (4, 9) and len(one.record) <= number:
            updated.wait(1)
            updated.clear()
    drawing.judged(10, patches())
    drawing.end(entries)
    one.wait(60)
    assert one.ended
    assert one.record == entries
    last = Tables(shown[-1]).tables
    assert dict(last["now"])["step"] == "10 of 10, all done"
    assert last["checks"][1][0] == "10"
    assert shown[-1].count("data:image/png") == 2, "curves and patches"
    assert repr(one).endswith("step 10 of 10)")
    already = len(shown)
    Place.number = 2
    one._ipython_display_()
    assert len(shown) == already + 1, "another cell shows it again"
    with pytest.raises(SettingsError, match="more than 0"):
        watch(folder, every=0)
    with pytest.raises(InputError, match="got the file"):
        watch(folder / "log.jsonl")


def test_a_view_can_be_stopped_before_the_run_ends(tmp_path):
    RunFacts(10, CLASSES).write(tmp_path)
    one = TrainingView(tmp_path).follow(60)
    assert not one.stop().ended
    assert not [t for t in threading.enumerate() if t.name == "training view"]
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FormatError, match="damaged"):
        one.refresh()


def test_precision_and_recall_of_voxels():
    found = np.zeros((1, 2, 2, 2), np.uint8)
    truth = np.zeros((1, 2, 2, 2), np.uint8)
    truth[0, 0] = [[1, 1], [1, 255]]
    found[0, 0] = [[1, 2], [0, 1]]
    found[0, 1] = [[1, 1], [0, 0]]
    scores = scores_of_voxels(found, truth, 4)
    assert scores[1] == (pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert scores[2] == (0.0, 1.0, 0.0), "found where there is nothing"
    assert scores[3] == (1.0, 1.0, 1.0), "absent from both"


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
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda name: object() if name == "tensorboard" else None)
    with open_board(tmp_path, CLASSES, 7) as one:
        one.add({"step": 8, "loss": 0.5, "f1_2": 0.75, "f1": 0.7, "particles_f1_1": 0.6, "recall_2": 0.5})
    assert written == [
        (str(tmp_path / "tensorboard"), 8),
        ("loss", 0.5, 8),
        ("f1/cube", 0.75, 8),
        ("f1", 0.7, 8),
        ("particles_f1/rod & ring", 0.6, 8),
        ("recall/cube", 0.5, 8),
    ]
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda _: None)
    with open_board(tmp_path, CLASSES, 0) as one:
        one.add({"step": 1, "loss": 0.5})
    assert len(written) == 6
