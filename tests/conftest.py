"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from browsing import browser, one_chromium  # noqa: F401  # fixtures for all tests
from hypothesis import settings

# A test never asserts how long something takes: machines are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Started in the background, this process would ignore Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real and golden test data: ``DEEPFINDER_DATA``, or ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("DEEPFINDER_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data: set DEEPFINDER_DATA (looked in {folder})")
    return folder
