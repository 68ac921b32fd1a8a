"""The fixture ``browser``: headless Chromium in which tests look at pages with a WebGL that needs no graphics card."""

from __future__ import annotations

import io
import json
import shutil
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SIZE = (1200, 900)
"""Pixels of the page, width and height, unless a test asks for another one."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",  # /dev/shm is small in containers
    "--hide-scrollbars",
    "--force-device-scale-factor=1",  # a pixel of the page is a pixel of the screenshot
    "--force-color-profile=srgb",
    # What the browser would ask for by itself.
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--gaia-url=http://127.0.0.1:9",
    "--gcm-checkin-url=http://127.0.0.1:9",
    "--gcm-registration-url=http://127.0.0.1:9",
    "--disable-features=OptimizationHints,Translate,MediaRouter,AutofillServerCommunication",
)


class Missing(RuntimeError):
    """No browser here, and why."""


class Browser:
    """A page in Chromium: open it, look at its pixels, and see what it complained of and asked for.

    Parameters
    ----------
    driver : selenium.webdriver.Chrome
        The driver itself, for whatever is not covered here: keys, mouse, scripts.
    outside : list of str
        Requests to other machines, by their first line; none of them was answered.
    """

    def __init__(self, driver: Chrome, outside: list[str]) -> None:
        self.driver = driver
        self.outside = outside
        self._console: list[dict[str, Any]] = []
        self._requests: list[str] = []

    def clear(self) -> None:
        """Leave the page, and forget what it said and asked for."""
        self.open("about:blank")
        self.console()
        self.requests()
        for record in (self._console, self._requests, self.outside):
            record.clear()

    def open(self, url: str) -> None:
        """Load a page."""
        self.driver.get(url)

    def resize(self, width: int, height: int) -> None:
        """Give the page this size in pixels; the screenshots have it too."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def run(self, script: str, *words: Any) -> Any:
        """Result of JavaScript: ``return document.title``."""
        return self.driver.execute_script(script, *words)

    def wait(self, until: Callable[[], Any], seconds: float = 60.0, *, what: str = "the page") -> Any:
        """What ``until`` returns as soon as it is true; fails, with the console, when it is not true in time."""
        end = time.monotonic() + seconds
        while not (result := until()):
            if time.monotonic() > end:
                pytest.fail(f"waited {seconds:g} s for {what}; console: {self.console()}")
            time.sleep(0.1)
        return result

    def pixels(self) -> np.ndarray:
        """What is on screen, (row, column, 3) uint8, red, green and blue."""
        from PIL import Image

        with Image.open(io.BytesIO(self.driver.get_screenshot_as_png())) as picture:
            return np.asarray(picture.convert("RGB"))

    def console(self, level: str | None = None) -> list[str]:
        """Messages so far, all of them or those of one level: ``SEVERE`` are errors, also of loading."""
        self._console += self.driver.get_log("browser")
        return [one["message"] for one in self._console if level in (None, one["level"])]

    def errors(self) -> list[str]:
        """Errors in the console so far."""
        return self.console("SEVERE")

    def requests(self) -> list[str]:
        """Addresses that the page asked for so far (those of its worker threads may be missing)."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requests.append(message["params"]["request"]["url"])
        return list(self._requests)


class _Recorder(socketserver.StreamRequestHandler):
    """A proxy that writes down what it is asked for and refuses."""

    def handle(self) -> None:
        self.server.asked.append(self.rfile.readline(4096).decode("latin-1").strip())  # type: ignore[attr-defined]
        self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium for as long as the block lasts; whatever leaves this machine ends in a proxy that records it.

    Raises
    ------
    Missing
        Chromium, its driver or selenium is not installed; says which.
    """
    try:
        from selenium import webdriver
    except ImportError as error:
        raise Missing("needs selenium: pip install 'deepfinder_dask[dev]'") from error
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    service = shutil.which("chromedriver")
    if program is None or service is None:
        raise Missing(
            f"needs {'Chromium' if program is None else 'chromedriver'}: apt install chromium chromium-driver"
        )
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Recorder) as proxy:
        proxy.daemon_threads = True
        asked: list[str] = []
        proxy.asked = asked  # type: ignore[attr-defined]
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        options = webdriver.ChromeOptions()
        options.binary_location = program
        # Loopback never goes through a proxy.
        where = f"--proxy-server=http://127.0.0.1:{proxy.server_address[1]}"
        for flag in (*FLAGS, f"--window-size={SIZE[0]},{SIZE[1]}", where):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=service))
        driver.set_script_timeout(300)  # drawing without a graphics card keeps a busy machine busy
        try:
            yield Browser(driver, asked)
        finally:
            driver.quit()
            proxy.shutdown()


@pytest.fixture(scope="session")
def one_chromium() -> Iterator[Browser]:
    """The process that all tests share; tests take ``browser``."""
    try:
        with chromium() as started:
            yield started
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture
def browser(one_chromium: Browser) -> Iterator[Browser]:
    """An empty page of 1200 × 900 pixels with an empty console; skips where Chromium or its driver is missing."""
    one_chromium.clear()
    one_chromium.resize(*SIZE)
    yield one_chromium
    one_chromium.open("about:blank")  # whatever the page still does ends before its server does
