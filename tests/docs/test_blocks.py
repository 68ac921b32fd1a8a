"""Every block of commands and of Python in the documents is run at a tiny size, or says why it is not.

Commands run as they stand, with these exceptions: a scene or a training that comes with the package is replaced by a
tiny one, the shape of a tomogram by that of the tiny ones, local workers by this process, and what an earlier command
of the document left is overwritten.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from deepfinder_dask.cli import main


def _load(name: str) -> ModuleType:
    """A module beside this one: tests are no package."""
    place = importlib.util.spec_from_file_location(f"docs_{name}", Path(__file__).with_name(f"{name}.py"))
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    sys.modules[place.name] = module
    place.loader.exec_module(module)
    return module


BLOCKS = _load("blocks")
TINY = {
    ("simulate", "quick"): "quick.toml",
    ("train", "quick"): "quick_training.toml",
    ("simulate", "demo"): "scene.toml",
    ("simulate", "cell"): "scene.toml",
    ("simulate", "training"): "scene.toml",
    ("train", "demo"): "training.toml",
}
"""What comes with the package, and what is taken instead."""
SHAPE = "24,32,40"
"""Voxels of the tomograms here."""
RUN = [path for path in BLOCKS.DOCUMENTS if any(block.reason is None for block in BLOCKS.blocks_of(path))]
PYTHON = [
    block
    for path in BLOCKS.DOCUMENTS
    for block in BLOCKS.blocks_of(path)
    if block.language == "python" and block.reason is None
]


@pytest.fixture(scope="session")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that commands read."""
    folder = tmp_path_factory.mktemp("stocked")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _load("workshop").set_up(folder)
    return folder


@pytest.fixture
def here(stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    shutil.copytree(stocked, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


SLOW = ("index.md", "your-tomograms.md", "campaigns.md", "memory.md", "old-weights.md")
"""Documents whose commands others show too: run with -m slow."""
SHOWN = [
    pytest.param(path, id=path.name, marks=[pytest.mark.slow] if path.name in SLOW else [])
    for path in RUN
    if any(block.language != "python" and block.reason is None for block in BLOCKS.blocks_of(path))
]


@pytest.mark.parametrize("path", SHOWN)
def test_commands_run(path: Path, here: Path, request: pytest.FixtureRequest) -> None:
    """All commands of a document, one after the other."""
    for block in BLOCKS.blocks_of(path):
        if block.reason is None and block.language != "python":
            for words in block.commands():
                if "net_weights.h5" in words and not Path("net_weights.h5").exists():
                    old = request.getfixturevalue("data_dir") / "original_deepfinder" / "weights_3_classes.h5"
                    shutil.copy(old, "net_weights.h5")
                where = f"{block.document}, line {block.line}: {' '.join(words)}"
                run(words, where)


def run(words: list[str], where: str) -> None:
    """One command; its failure is that of the test."""
    output = None
    if ">" in words:
        words, output = words[: words.index(">")], words[-1]
    if words[0] == "python":
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{where}: {done.stderr}"
        return
    assert words[0] == "deepfinder", f"{where}: cannot be run here; mark the block with <!-- not run: why -->"
    code, said, error = call(tiny(words[1:]))
    if code == 2 and "--overwrite" in error:
        code, said, error = call([*tiny(words[1:]), "--overwrite"])
    assert code == 0, f"{where}: {error}"
    if output is not None:
        Path(output).write_text(said)


def tiny(words: list[str]) -> list[str]:
    """The same command at a tiny size and in this process."""
    replaced = TINY.get((words[0], words[1])) if len(words) > 1 else None
    words = words if replaced is None else [words[0], replaced, *words[2:]]
    if replaced == "training.toml":
        words = ["." if before == "--data" else word for before, word in zip(["", *words], words, strict=False)]
    words = [SHAPE if word == "464,928,928" else word for word in words]
    for option in ("--workers", "-j"):
        if option in words:
            at = words.index(option)
            words = words[:at] + words[at + 2 :]
    return words


def call(words: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main(words)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("block", PYTHON, ids=lambda b: f"{Path(b.document).name}:{b.line}")
def test_python_runs(block: object, here: Path) -> None:
    code = block.code.replace("workers=4", "workers=None")  # type: ignore[attr-defined]
    (here / "demo" / "found").mkdir(parents=True)
    shutil.copy("TS_01.parquet", "demo/found/particles.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code, f"{block.document}:{block.line}", "exec"), {"__name__": "__main__"})  # type: ignore[attr-defined]


def test_blocks_that_are_not_run_say_why() -> None:
    for path in BLOCKS.DOCUMENTS:
        for block in BLOCKS.blocks_of(path):
            assert block.reason is None or len(block.reason) >= 10, f"{block.document}, line {block.line}"
    assert len(PYTHON) >= 3
    assert len(RUN) >= 10


def test_a_command_that_fails_is_a_failure(here: Path) -> None:
    with pytest.raises(AssertionError, match="no such tomogram"):
        run(["deepfinder", "info", "missing.zarr"], "here")
    with pytest.raises(AssertionError, match="not run"):
        run(["rm", "-rf", "x"], "here")
    assert tiny(["train", "demo", "--data", "training", "-j", "4", "-o", "run"]) == [
        "train",
        "training.toml",
        "--data",
        ".",
        "-o",
        "run",
    ]


def test_marks_belong_to_the_block_below(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text("<!-- not run: a reason -->\n```bash\na \\\n  b # c\n```\n\n```python\nd\n```\n```toml\ne\n```\n")
    first, second = BLOCKS.blocks_of(path)
    assert (first.reason, first.commands(), first.line) == ("a reason", [["a", "b"]], 3)
    assert (second.reason, second.language) == (None, "python")
