"""The page of a campaign in a real browser: it complains of nothing, asks for nothing, sorts, filters and enlarges."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from campaign_folders import finish_campaign, make_tomogram, write_state

from deepfinder_dask.campaigns import campaign_facts, write_report

pytestmark = pytest.mark.browser
EVIL = "<img src=x onerror=alert(1)>"
ARROW_RIGHT, BACKSPACE = "\ue014", "\ue003"
"""Keys, as WebDriver writes them: https://www.w3.org/TR/webdriver2/#keyboard-actions."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Nine tomograms that are done, one of them odd; one failed, of a name and with a reason that are HTML."""
    folder = tmp_path_factory.mktemp("campaign") / "simulated cells"
    rng = np.random.default_rng(1)
    for number in range(9):
        counts = (3, 34) if number == 4 else (int(rng.poisson(22)), int(rng.poisson(34)))
        make_tomogram(folder, f"TS_{number:02d}", number=number, shape=(32, 160, 160), counts=counts)
    write_state(
        folder / "tomograms" / EVIL,
        EVIL,
        "failed",
        stage="convert",
        attempts=3,
        reason="</script><script>document.title='broken in'</script> expected 160 voxels, found 159",
    )
    write_state(folder / "tomograms" / "TS_99", "TS_99", "running", stage="segment")
    settings = {"weights": "cells.safetensors", "cluster": {"method": "mean-shift"}}
    finish_campaign(folder, {**campaign_facts(settings), "name": "Simulated cells", "file": "cells.toml"})
    return write_report(folder)


@pytest.fixture
def opened(browser, page):
    """The page, opened from its file."""
    browser.resize(1280, 900)
    browser.open(page.as_uri())
    return browser


def find(browser, what):
    """Elements of a CSS selector."""
    return browser.driver.find_elements("css selector", what)


def shown(browser, what):
    """Texts of the elements that are visible."""
    return [one.text for one in find(browser, what) if one.is_displayed()]


def names(browser):
    return shown(browser, "#table tbody td.name")


def test_it_opens_without_a_word_and_asks_for_nothing(opened, page):
    assert opened.errors() == []
    assert opened.console() == []
    assert [url for url in opened.requests() if not url.startswith("data:")] == [page.as_uri()]
    # No alert is open, nothing took over, and the script of the page ran.
    assert opened.driver.title == "Simulated cells · campaign report"
    assert opened.run("return document.images.length") == 0
    assert len(names(opened)) == 11


def test_pictures_are_really_drawn(opened):
    """Grey slices with labels and rings in the colours of their classes; without the layers, grey only."""
    opened.run("document.querySelector('#pictures').scrollIntoView()")
    box = "const r = document.querySelector('.gallery svg').getBoundingClientRect();"
    where = opened.run(f"{box} return [r.left, r.top, r.right, r.bottom]")
    left, top, right, bottom = (int(v) for v in where)

    def colourful():
        part = opened.pixels()[top + 2 : bottom - 2, left + 2 : right - 2].astype(int)
        assert part.std() > 10, "there is a picture"
        return float((np.ptp(part, axis=2) > 40).mean())

    opened.wait(lambda: colourful() > 0.02, what="labels and rings")
    for layer in ("labels", "rings"):
        find(opened, f"#pictures input[name={layer}]")[0].click()
    opened.wait(lambda: colourful() == 0, what="grey values alone")


def test_small_pictures_are_the_same_picture(opened):
    """Where a picture is drawn again, its rings are rings and no discs."""
    opened.run("document.querySelector('#flags').scrollIntoView()")
    box = "const r = document.querySelector('#flags svg').getBoundingClientRect();"
    left, top, right, bottom = (
        int(v) for v in opened.run(f"{box} return [r.left, r.top, r.right, r.bottom].map(Math.round)")
    )

    def part():
        return opened.pixels()[top + 1 : bottom - 1, left + 1 : right - 1].astype(int)

    opened.wait(lambda: (np.ptp(part(), axis=2) > 40).mean() > 0.01, what="labels and rings")
    assert (part().max(axis=2) < 10).mean() < 0.02, "nothing is black"


def test_columns_sort(opened):
    def click(words):
        heads = find(opened, "#table thead button")
        next(one for one in heads if one.text.startswith(words)).click()

    def column():
        return [cell.text for cell in find(opened, "#table tbody td:nth-child(3)")]

    click("ribosome")
    counts = [int(text) for text in column()[:9]]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 3
    click("ribosome")
    assert [int(text) for text in column()[:9]] == counts[::-1]
    assert column()[9:] == ["–", "–"], "what is not known comes last"
    click("tomogram")
    assert names(opened) == sorted(names(opened), key=str.lower)
    click("tomogram")
    assert names(opened)[0] == "TS_99"


def test_filters_hold_for_table_and_pictures(opened):
    word = find(opened, "#word")[0]
    word.send_keys("ts_0")
    assert len(names(opened)) == 9
    word.send_keys("4")
    assert names(opened) == ["TS_04"]
    assert len(shown(opened, ".gallery figure")) == 1
    assert shown(opened, "#shown") == ["1 of 11 tomograms"]
    for _ in range(5):
        word.send_keys(BACKSPACE)
    find(opened, "input[name=state][value=done]")[0].click()
    assert sorted(names(opened)) == [EVIL, "TS_99"]
    assert shown(opened, "#no-pictures") == ["no picture passes the filter"]
    find(opened, "input[name=state][value=done]")[0].click()
    find(opened, "#flagged")[0].click()
    assert names(opened) == ["TS_04"]


def test_a_click_enlarges_and_arrows_go_on(opened):
    find(opened, ".gallery .open")[0].click()
    assert shown(opened, "dialog h3") == ["TS_00"]
    large = find(opened, "dialog svg")[0].size
    small = find(opened, ".gallery svg")[0].size
    assert large["width"] > 2 * small["width"]
    drawn = find(opened, "dialog svg .rings path:not(.edge)")[0]
    assert drawn.value_of_css_property("fill") == "none"
    assert drawn.is_displayed()
    find(opened, "#after")[0].send_keys(ARROW_RIGHT)
    assert shown(opened, "dialog h3") == ["TS_01"]
    find(opened, "#before")[0].click()
    find(opened, "#before")[0].click()
    assert shown(opened, "dialog h3") == [EVIL]
    assert shown(opened, "dialog .stage") == ["failed: no picture"]
    find(opened, "#close")[0].click()
    assert shown(opened, "dialog h3") == []
    assert opened.errors() == []


def test_it_looks_like_something(opened, tmp_path):
    """A screenshot to look at, in ``DEEPFINDER_SCREENSHOTS`` where that names a folder."""
    folder = Path(os.environ.get("DEEPFINDER_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    bright = opened.pixels()
    opened.driver.save_screenshot(str(folder / "report.png"))
    assert bright.mean() > 180
    # Words fill the width: nothing hangs over the edge.
    assert opened.run("return document.documentElement.scrollWidth <= window.innerWidth")
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    try:
        opened.wait(lambda: opened.pixels().mean() < 80, what="dark colours")
        opened.driver.save_screenshot(str(folder / "report_dark.png"))
    finally:
        opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert opened.errors() == []
