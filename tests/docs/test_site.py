"""The documentation site: it builds without a warning, has all verbs and public names, and asks nobody outside."""

from __future__ import annotations

import importlib.util
import json
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


def test_the_page_of_figures_is_what_scripts_printed(tmp_path: Path) -> None:
    place = importlib.util.spec_from_file_location("page", ROOT / "benchmarks" / "lib" / "page.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    readme = tmp_path / "README.md"
    readme.write_text("# A\n\n## Figures\n\n| a | 12 |\n\n## More\n\nno figure\n")
    (tmp_path / "convert.txt").write_text("peak 222 MiB\n")
    page = module.page(readme, tmp_path)
    assert "| a | 12 |" in page
    assert "## convert\n\n`benchmarks/convert.py`: Convert a synthetic MRC file" in page
    assert "```text\npeak 222 MiB\n```" in page
    assert "no figure" not in page


def test_notebooks_become_pages(tmp_path: Path) -> None:
    """Text and code in order; links to other notebooks lead to their pages."""
    code = {"cell_type": "code", "source": ["import deepfinder_dask as df\n", "df.info"], "outputs": []}
    cells = [{"cell_type": "markdown", "source": "# One\n\n[two](02_two.ipynb), [x](../docs/install.md)"}, code]
    (tmp_path / "01_one.ipynb").write_text(json.dumps({"cells": cells}))
    place = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    page = module.notebook_page(tmp_path / "01_one.ipynb")
    assert page.startswith("# One\n\n`notebooks/01_one.ipynb`")
    assert "[two](02_two.md), [x](../install.md)" in page
    assert page.endswith("```python\nimport deepfinder_dask as df\ndf.info\n```\n")


def test_the_paper_is_mapped_to_modules_that_exist() -> None:
    text = (ROOT / "docs" / "explained" / "paper.md").read_text("utf-8")
    named = re.findall(r"`([a-z_]+/(?:[a-z_/]+\.py)?)`", text)
    assert len(named) > 25
    assert [name for name in named if not (ROOT / "deepfinder_dask" / name).exists()] == []


def test_pictures_are_small() -> None:
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".jpg", ".svg", ".webp")]
    assert len(pictures) > 8
    assert [path.name for path in pictures if path.stat().st_size > 200_000] == []
