"""Annotating in a real browser: mouse and keys in, exact positions out, and nothing lost when the server is killed."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.blocks import Box
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, write_classes
from deepfinder_dask.tomograms import Tomogram, create_image, finish_image

pytestmark = pytest.mark.browser

SHAPE = (30, 44, 70)
SIZE = (12.0, 8.0, 10.0)
"""Å per voxel (z, y, x): no two axes alike."""
SPOTS = ((12, 31, 18), (12, 12, 51), (19, 25, 60), (17, 8, 38))
"""Bright voxels, (z, y, x); but for the first two no plane has two of them."""
CLASSES = (
    ParticleClass("ribosome", 1, radius=60.0, colour="#ff0000"),
    ParticleClass("proteasome", 2, radius=45.0, colour="#00ff00"),
    ParticleClass("apoferritin", 4, radius=40.0, colour="#0000ff"),
    ParticleClass("membrane", 5, kind="structure"),
)
AXES = "zyx"
PLANES = ((1, 2), (0, 2), (1, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """spots.zarr and classes.toml."""
    folder = tmp_path_factory.mktemp("spots")
    values = np.zeros(SHAPE, np.float32)
    for spot in SPOTS:
        values[spot] = 1
    volume = create_image(
        folder / "spots.zarr", shape=SHAPE, dtype=values.dtype, voxel_size=SIZE, chunk=(16, 16, 16), shard=(16, 16, 16)
    )
    volume.write(Box.whole(SHAPE), values)
    finish_image(folder / "spots.zarr")
    write_classes(CLASSES, folder / "classes.toml")
    return folder


class Server:
    """The command in a process of its own, which can be killed."""

    def __init__(self, folder: Path, output: Path, *words: str) -> None:
        command = ["annotate", str(folder / "spots.zarr"), "-o", str(output), "--no-open", *words]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deepfinder_dask", *command],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert "http://127.0.0.1:" in line, line + self.process.stderr.read()
        self.url = next(word for word in line.split() if word.startswith("http"))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=60)

    def interrupt(self) -> str:
        self.process.send_signal(signal.SIGINT)
        said, complaints = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, complaints
        return said


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def begin(*words: str) -> Server:
        running.append(Server(folder, tmp_path / "picks.parquet", *words))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.kill()


class Page:
    """The page, as a person sees it: pictures, mouse and keys."""

    def __init__(self, browser, url: str) -> None:
        self.browser = browser
        self.url = url
        browser.open(url)
        browser.wait(lambda: browser.run("return document.body.dataset.ready"), what="the page to be ready")
        self.settle()

    def settle(self) -> None:
        """Until all that was asked for is kept, saved and shown."""
        script = """
            const planes = [...document.querySelectorAll("figure[data-axis]")];
            const shown = new Set(planes.map((one) => one.dataset.shown));
            return document.body.dataset.saved === "true" && shown.size === 1 && !shown.has(undefined);"""
        self.browser.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.browser.wait(lambda: self.browser.run(script), what="the page to settle")

    def actions(self):
        from selenium.webdriver.common.action_chains import ActionChains

        return ActionChains(self.browser.driver, duration=20)

    def canvas(self, axis: int):
        return self.browser.driver.find_element("id", f"plane-{AXES[axis]}")

    def key(self, *keys: str) -> None:
        actions = self.actions()
        for one in keys:
            actions.send_keys(one)
        actions.perform()
        self.settle()

    def chord(self, held: str, key: str) -> None:
        self.actions().key_down(held).send_keys(key).key_up(held).perform()
        self.settle()

    def point(self, axis: int, at: tuple[float, float]):
        """Mouse at a pixel of a plane, from its left upper corner."""
        canvas = self.canvas(axis)
        middle = canvas.size["width"] // 2, canvas.size["height"] // 2
        return self.actions().move_to_element_with_offset(canvas, round(at[0]) - middle[0], round(at[1]) - middle[1])

    def click(self, axis: int, at: tuple[float, float]) -> None:
        self.point(axis, at).click().perform()
        self.settle()

    def slice(self, axis: int, index: int) -> None:
        """Go to a slice by keys, slice by slice."""
        self.point(axis, (30, 30)).perform()
        steps = index - self.cursor()[axis]
        if steps:
            self.key(*("w" if steps > 0 else "s") * abs(steps))
        assert self.cursor()[axis] == index

    def cursor(self) -> list[int]:
        """Which slices the captions say are shown, (z, y, x)."""
        words = "return [0, 1, 2].map((a) => document.querySelector(`figure[data-axis='${a}'] span`).textContent)"
        return [int(text.split()[1]) for text in self.browser.run(words)]

    def pixels(self, axis: int) -> np.ndarray:
        from PIL import Image

        data = self.browser.run(f"return document.getElementById('plane-{AXES[axis]}').toDataURL('image/png')")
        with Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))) as picture:
            return np.asarray(picture.convert("RGB")).astype(int)

    def coloured(self, axis: int, colour: tuple[int, int, int]) -> tuple[float, float]:
        """Middle of the pixels of a colour, (x, y)."""
        pixels = self.pixels(axis)
        pixels[-40:, :150] = 128  # the scale bar
        y, x = np.nonzero((np.abs(pixels - colour) < 40).all(axis=-1))
        assert len(x) > 4, f"nothing {colour} across {AXES[axis]}"
        return (x.min() + x.max()) / 2, (y.min() + y.max()) / 2

    def spots(self, axis: int) -> list[tuple[float, float]]:
        """Middles of the bright voxels that a plane shows, without circles, from left to right."""
        from scipy import ndimage

        self.key("h")
        bright = (self.pixels(axis) > 200).all(axis=-1)
        bright[-40:, :150] = False  # the scale bar
        self.key("h")
        labels, count = ndimage.label(bright, np.ones((3, 3)))
        boxes = ndimage.find_objects(labels)
        found = [((b[1].start + b[1].stop - 1) / 2, (b[0].start + b[0].stop - 1) / 2) for b in boxes]
        assert len(found) == count
        return sorted(found)


def voxels(path: Path) -> list[tuple]:
    """Class and voxel (z, y, x) of every particle, exactly."""
    table = Particles.read(path)
    positions = table.positions() / np.asarray(SIZE)
    exact = [tuple(int(v) for v in row) for row in np.rint(positions)]
    assert np.array_equal(table.positions(), np.asarray(exact).reshape(-1, 3) * SIZE), "centres of voxels, to the bit"
    return list(zip(table.table["class"].tolist(), exact, strict=True))


def unharmed(page: Page) -> None:
    """No error in the console, and nothing asked for elsewhere."""
    assert page.browser.errors() == []
    base = page.url
    elsewhere = [one for one in page.browser.requests() if not one.startswith((base, "data:", "about:", "chrome"))]
    assert [one for one in elsewhere if not one.startswith(base.replace("http:", "ws:"))] == []


def test_click_move_delete_kill_and_go_on(browser, folder, start, tmp_path) -> None:
    from selenium.webdriver.common.keys import Keys

    out = tmp_path / "picks.parquet"
    server = start("--classes", str(folder / "classes.toml"))
    page = Page(browser, server.url)

    # Where the picture shows a bright voxel, a click means that voxel: in all planes, of all classes.
    for key, axis, spot in (("1", 0, SPOTS[0]), ("2", 1, SPOTS[2]), ("3", 2, SPOTS[3])):
        page.key(key)
        page.slice(axis, spot[axis])
        at = page.spots(axis)[0]
        page.click(axis, at)
        # It is drawn where the voxel is, in the planes that now cut it.
        assert page.cursor() == list(spot)
        colour = CLASSES[int(key) - 1].rgb
        for other in range(3):
            assert np.allclose(page.coloured(other, colour), page.spots(other)[0], atol=1.6), AXES[other]
    expected = [("ribosome", SPOTS[0]), ("proteasome", SPOTS[2]), ("apoferritin", SPOTS[3])]
    assert voxels(out) == expected

    # Drag a centre from one bright voxel to the other of the same slice.
    page.slice(0, SPOTS[0][0])
    left, right = page.spots(0)
    page.point(0, left).click_and_hold().perform()
    page.point(0, (left[0] + 40, left[1] + 10)).perform()
    page.point(0, right).release().perform()
    page.settle()
    assert voxels(out) == [("ribosome", SPOTS[1]), *expected[1:]]
    # By a voxel with the arrows, in the plane under the mouse; another class; and back again.
    page.point(2, (20, 30)).perform()
    page.key(Keys.ARROW_UP, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert voxels(out)[0] == ("ribosome", (SPOTS[1][0] + 2, SPOTS[1][1] + 1, SPOTS[1][2]))
    page.chord(Keys.SHIFT, "2")
    assert voxels(out)[0][0] == "proteasome"
    for _ in range(4):
        page.chord(Keys.CONTROL, "z")
    assert voxels(out)[0] == ("ribosome", SPOTS[1])
    page.key(Keys.DELETE)
    assert voxels(out) == expected[1:]
    page.chord(Keys.CONTROL, "z")
    page.chord(Keys.CONTROL, "z")
    assert voxels(out) == expected
    page.chord(Keys.CONTROL, "y")
    assert voxels(out)[0] == ("ribosome", SPOTS[1])
    unharmed(page)

    # Killed right after an edit; the table may lack it, the journal does not.
    page.key(Keys.ESCAPE)
    page.slice(1, SPOTS[2][1])
    page.key("1")
    at = page.spots(1)[0]
    page.point(1, (at[0] + 60 if at[0] < 200 else at[0] - 60, at[1])).click().perform()
    waiting = "return document.body.dataset.waiting"
    count = "return document.querySelectorAll('[data-particle]').length"
    browser.wait(lambda: browser.run(count) == 4 and browser.run(waiting) == "0", what="the edit to be kept")
    server.kill()
    lost = "return document.getElementById('banner').textContent"
    browser.wait(lambda: "server has stopped" in browser.run(lost), what="the page to tell of it")

    browser.clear()
    server = start()  # the classes are known
    page = Page(browser, server.url)
    kept = voxels(out)
    assert kept[:3] == [("ribosome", SPOTS[1]), *expected[1:]]
    assert kept[3][0] == "ribosome"
    assert kept[3][1][:2] == SPOTS[2][:2], "in the slice and the row that were clicked"
    rows = browser.driver.find_elements("css selector", "[data-particle]")
    assert [one.text.split()[0] for one in rows] == ["ribosome", "apoferritin", "proteasome", "ribosome"]
    page.chord(Keys.CONTROL, "z")
    assert voxels(out) == kept[:3], "what was done before the kill can be undone"
    unharmed(page)
    assert "annotated 3 particles (1 ribosome, 1 proteasome, 1 apoferritin, 0 membrane)" in server.interrupt()


def test_review_with_keys(browser, folder, start, tmp_path) -> None:
    """Lowest score first; what is rejected is left out and becomes negative; a restart goes on with the rest."""
    out, no, found = tmp_path / "picks.parquet", tmp_path / "no.parquet", tmp_path / "found.parquet"
    scores = [0.9, 0.4, 0.7, 0.5]
    Particles.from_voxels(
        SPOTS, tomogram="spots", facts=TomogramFacts(SIZE, SHAPE), labels=[1, 2, 1, 4], classes=CLASSES, scores=scores
    ).write(found)
    command = ("--from", str(found), "--negatives", str(no))
    server = start(*command)
    page = Page(browser, server.url)
    assert page.cursor() == list(SPOTS[1]), "begins at the lowest score"
    page.key("r")
    assert page.cursor() == list(SPOTS[3])
    page.key("a")
    assert page.cursor() == list(SPOTS[2])
    assert voxels(out) == [("ribosome", SPOTS[0]), ("ribosome", SPOTS[2]), ("apoferritin", SPOTS[3])]
    assert voxels(no) == [("proteasome", SPOTS[1])]
    server.kill()

    browser.clear()
    server = start(*command)
    page = Page(browser, server.url)
    assert page.cursor() == list(SPOTS[2]), "goes on where it stopped"
    assert "2 to judge" in browser.run("return document.getElementById('left-over').textContent")
    page.key("r")
    assert page.cursor() == list(SPOTS[0])
    page.key("a")
    assert "all judged" in browser.run("return document.getElementById('left-over').textContent")
    assert voxels(out) == [("ribosome", SPOTS[0]), ("apoferritin", SPOTS[3])]
    assert sorted(voxels(no)) == [("proteasome", SPOTS[1]), ("ribosome", SPOTS[2])]
    assert Particles.read(out).table["score"].tolist() == [0.9, 0.5]
    # A right click looks there, and adds nothing; a click while looking around neither.
    page.slice(0, SPOTS[0][0])
    page.point(0, page.spots(0)[-1]).context_click().perform()
    page.settle()
    assert page.cursor() == list(SPOTS[1])
    page.click(0, page.spots(0)[0])
    assert page.cursor() == list(SPOTS[0])
    assert len(voxels(out)) == 2
    unharmed(page)
    browser.driver.find_element("id", "finish").click()
    said, _ = server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    assert "2 rejected" in said
    assert "Saved in picks.parquet" in browser.run("return document.getElementById('banner').textContent")


def test_levels_of_the_pyramid_lie_on_each_other(browser, folder, tmp_path) -> None:
    """Zoomed out, a coarser level is shown; what it shows lies where the full resolution has it."""
    from selenium.webdriver.common.keys import Keys

    from deepfinder_dask.tomograms import convert
    from deepfinder_dask.viewing import annotate

    values = np.zeros((40, 300, 440), np.float32)
    box = np.s_[8:32, 88:112, 296:320]
    values[box] = 1
    import mrcfile

    with mrcfile.new(tmp_path / "ball.mrc") as file:
        file.set_data(values)
        file.voxel_size = 10.0
    convert(tmp_path / "ball.mrc", tmp_path / "ball.zarr")
    tomogram = Tomogram.open(tmp_path / "ball.zarr")
    assert len(tomogram.levels) > 1
    options = {"classes": str(folder / "classes.toml"), "open": False, "smooth": 3}
    with annotate(tomogram, tmp_path / "p.parquet", **options) as annotator:
        page = Page(browser, annotator.url)
        asked = [one for one in browser.requests() if "slice?" in one]
        page.key("1")
        levels = {part for one in asked for part in one.split("&") if part.startswith("level=")}
        placed = []
        for _ in range(3):
            page.key("h")
            at = page.coloured(0, (255, 255, 255))
            page.key("h")
            page.click(0, at)
            placed += annotator.particles.voxel_positions("ball").tolist()
            page.key(Keys.DELETE)
            page.key(*"-" * 3)
        asked = [one for one in browser.requests() if "slice?" in one]
        levels |= {part for one in asked for part in one.split("&") if part.startswith("level=")}
        assert len(levels) > 1, "more than one level was shown"
        assert all("slices=3" in one for one in asked if "warm" not in one), "smoothed as asked for"
        assert len(placed) == 3
        assert np.abs(np.array(placed)[:, 1:] - (99.5, 307.5)).max() <= 3.6, "in the middle, to a pixel of 3.5 voxels"
        page.key(Keys.ESCAPE)
        unharmed(page)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_two_commands_on_one_output(folder, start, tmp_path) -> None:
    start("--classes", str(folder / "classes.toml"))
    command = ["annotate", str(folder / "spots.zarr"), "-o", str(tmp_path / "picks.parquet"), "--no-open"]
    second = subprocess.run(
        [sys.executable, "-m", "deepfinder_dask", *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert second.returncode == 2
    assert second.stderr.startswith("error: another process is at work in")
    assert second.stderr.count("\n") == 1
