"""The fixture ``browser`` itself: it sees colours, errors, and whoever is called outside."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Browser

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><link rel="icon" href="data:,">
<body style="margin:0;background:#fff"><canvas id=c width=200 height=100></canvas>
<script>
const gl = document.getElementById("c").getContext("webgl2", {preserveDrawingBuffer: true});
gl.clearColor(0.2, 0.4, 1, 1); gl.clear(gl.COLOR_BUFFER_BIT);
</script>"""
TELLS = '<script>console.error("planted"); new Worker("worker.js")</script>'


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "quiet.html").write_text(PAGE)
    (tmp_path / "tells.html").write_text(PAGE + TELLS)
    (tmp_path / "worker.js").write_text('fetch("http://example.org/from-a-worker").catch(() => 0)')
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Silent(*a, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_webgl_pixels_and_nothing_else(browser: Browser, site: str) -> None:
    browser.resize(640, 480)
    browser.open(f"{site}/quiet.html")
    pixels = browser.pixels()
    assert pixels.shape == (480, 640, 3)
    assert pixels[50, 100].tolist() == [51, 102, 255]
    assert pixels[300, 400].tolist() == [255, 255, 255]
    assert browser.errors() == []
    assert browser.outside == []
    assert browser.requests() == [f"{site}/quiet.html"]


def test_errors_and_calls_outside_are_seen(browser: Browser, site: str) -> None:
    """Also those of a worker thread, whose requests the page does not list."""
    browser.open(f"{site}/tells.html")
    browser.wait(lambda: browser.outside, 30, what="the call of the worker")
    assert browser.outside == ["GET http://example.org/from-a-worker HTTP/1.1"]
    assert any("planted" in message for message in browser.errors())


def test_tests_do_not_see_each_other(browser: Browser) -> None:
    assert (browser.errors(), browser.outside, browser.requests()) == ([], [], [])
    assert browser.run("return [innerWidth, innerHeight]") == [1200, 900]
