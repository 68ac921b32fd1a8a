"""The notebooks: stripped of outputs in git, and executed from beginning to end at the sizes of ``tiny.toml``."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbformat import NotebookNode

import deepfinder_dask

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TINY = tomllib.loads((FOLDER / "tiny.toml").read_text("utf-8"))


class ThisPython(KernelSpecManager):
    """Knows one kernel: the Python that runs the tests, whatever is installed on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters_of(notebook: NotebookNode) -> tuple[int, dict[str, Any]]:
    """Place of the cell with parameters, and their values."""
    (number,) = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    assigned = [node for node in ast.parse(notebook.cells[number].source).body if isinstance(node, ast.Assign)]
    return number, {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in assigned}


def execute(path: Path, folder: Path) -> NotebookNode:
    """Run a notebook in a folder, at its tiny size; an exception in a cell is raised here."""
    notebook = read(path)
    number, _ = parameters_of(notebook)
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in TINY[path.stem].items()}
    lines = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    notebook.cells.insert(number + 1, nbformat.v4.new_code_cell(lines))
    manager = AsyncKernelManager(kernel_spec_manager=ThisPython(), kernel_name="python3")
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=900,
        iopub_timeout=300,  # on a busy machine outputs come late, and would be left out
        raise_on_iopub_timeout=True,
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute(cleanup_kc=True, env={**os.environ, "IPYTHONDIR": str(folder / ".ipython")})


@pytest.mark.timeout(1800)  # on a machine that is shared; each takes seconds
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_beginning_to_end_without_a_warning(path: Path, tmp_path: Path) -> None:
    done = execute(path, tmp_path)
    if (kept := os.environ.get("DEEPFINDER_KEEP_NOTEBOOKS")) is not None:
        nbformat.write(done, Path(kept) / path.name)
    outputs = [output for cell in code_of(done) for output in cell.outputs]
    said = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert said == "", "warnings go to standard error"
    pictures = [o for o in outputs if "image/png" in o.get("data", {}) or "data:image/png" in str(o.get("data"))]
    assert pictures, "a notebook of this project shows what it does"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stripped_and_reads_well(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# "), "the first cell has the title"
    for cell in code_of(notebook):
        assert cell.outputs == [], "strip it: nbstripout notebooks/*.ipynb"
        assert cell.execution_count is None, "strip it: nbstripout notebooks/*.ipynb"
        for name in re.findall(r"\bdf\.(\w+)", cell.source):
            assert name in deepfinder_dask.__all__, f"df.{name}"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert len([c for c in notebook.cells if c.cell_type == "markdown"]) >= 5


def test_tiny_sizes_are_of_parameters_that_exist() -> None:
    assert list(TINY) == [path.stem for path in NOTEBOOKS]
    for path in NOTEBOOKS:
        given = parameters_of(read(path))[1]
        for name, value in TINY[path.stem].items():
            assert name in given, f"{path.stem}: {name}"
            wanted = list(given[name]) if isinstance(given[name], tuple) else given[name]
            assert isinstance(value, type(wanted)), f"{path.stem}: {name}"
