"""The documentation site: it builds without a warning, has all verbs and public names, and asks nobody outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deepfinder_dask
from deepfinder_dask.cli.app import VERBS

pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install -e .[dev]")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install -e .[dev]")
ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|link(?=[^>]*rel="?(?:stylesheet|preload|icon)))[^>]*?(?:src|href)="?(https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors: a link that leads nowhere is one."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_every_verb_is_documented(site: Path) -> None:
    page = (site / "reference" / "cli.html").read_text("utf-8")
    for verb in VERBS:
        assert f'<h3 id="{verb}">' in page, verb
        assert f"Usage: deepfinder {verb}" in page, verb
    assert page.count("Examples:") >= len(VERBS)


def test_every_public_name_is_documented(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text("utf-8")
    missing = [name for name in deepfinder_dask.__all__ if f'id="deepfinder_dask.{name}"' not in page]
    assert not missing
    summary = (deepfinder_dask.segment.__doc__ or "").splitlines()[0]
    assert summary in page


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not LOADED.search(page.read_text("utf-8")), page.name
    for script in site.rglob("assets/javascripts/bundle.*.js"):
        assert "unpkg.com/iframe-worker" not in script.read_text("utf-8")
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", sheet.read_text("utf-8")), sheet.name


def test_pictures_are_small() -> None:
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".jpg", ".svg", ".webp")]
    assert len(pictures) > 8
    assert [path.name for path in pictures if path.stat().st_size > 200_000] == []
