"""The public names of the package, and the Python that the documents show."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import deepfinder_dask

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", deepfinder_dask.__all__)
def test_public_names_exist_and_are_documented(name: str) -> None:
    value = getattr(deepfinder_dask, name)
    assert callable(value), "a verb or a noun, not a module that hides it"
    assert value.__doc__
    assert name in dir(deepfinder_dask)


def test_names_are_listed_once() -> None:
    assert set(deepfinder_dask._HOMES) == set(deepfinder_dask.__all__)
    tree = ast.parse(Path(deepfinder_dask.__file__).read_text("utf-8"))
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(deepfinder_dask.__all__)


def test_other_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = deepfinder_dask.nonsense


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_documented_python_uses_names_that_exist(block: str) -> None:
    tree = ast.parse(block)
    used = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "df"
    ]
    assert used
    for node in used:
        assert node.attr in deepfinder_dask.__all__, f"df.{node.attr}"


def test_there_is_python_in_the_readme() -> None:
    assert BLOCKS
