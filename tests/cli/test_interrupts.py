"""Ctrl-C: what is finished is kept, and the line that says so is a command that goes on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from deepfinder_dask.cli import entry, main
from deepfinder_dask.cli.interrupts import interrupted
from deepfinder_dask.tomograms import open_image

KEPT = "interrupted; what is finished is kept, go on with: "
ANEW = "interrupted; no half-written output is taken for whole, start again with: "


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["segment", "a b.zarr", "-w", "demo", "-o", "s.zarr"], "deepfinder segment 'a b.zarr' -w demo -o s.zarr"),
        (["locate", "a.mrc", "-w", "demo", "-o", "a", "--overwrite"], "deepfinder locate a.mrc -w demo -o a"),
        (["train", "demo", "-o", "run"], "deepfinder train demo -o run --resume"),
        (["train", "demo", "-o", "run", "--resume"], "deepfinder train demo -o run --resume"),
    ],
)
def test_the_command_to_go_on_with(words: list[str], said: str) -> None:
    assert interrupted(words) == KEPT + said


def test_what_cannot_go_on_starts_again() -> None:
    words = ["cluster", "s.zarr", "-o", "p.parquet", "--overwrite"]
    assert interrupted(words) == ANEW + "deepfinder cluster s.zarr -o p.parquet --overwrite"


def test_the_words_of_the_process_are_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "app", app)
    monkeypatch.setattr(sys, "argv", ["/somewhere/deepfinder", "train", "demo", "-o", "run"])
    assert main() == 130
    assert capsys.readouterr().err == f"error: {KEPT}deepfinder train demo -o run --resume\n"


def test_an_interrupted_segmentation_goes_on_with_what_it_said(tmp_path: Path) -> None:
    """A real process, a real signal, the very line that it wrote; no block is done again, the result is the same."""
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(np.random.default_rng(5).normal(size=(16, 32, 96)).astype(np.float32))
        file.voxel_size = 10.0
    python = [sys.executable, "-m", "deepfinder_dask"]
    run = {"cwd": tmp_path, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    subprocess.run([*python, "convert", "a.mrc", "-o", "a.zarr"], check=True, **run)
    segment = ["segment", "a.zarr", "-w", "demo", "-b", "16,16,16", "-o"]
    records = tmp_path / "s.zarr" / ".ledger"
    with subprocess.Popen([*python, *segment, "s.zarr", "--overwrite"], start_new_session=True, **run) as process:
        while process.poll() is None and not _recorded(records):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.count("\n") == 1
    kept = _recorded(records)
    assert 0 < len(kept) < 12
    command = said.strip().removeprefix(f"error: {KEPT}")
    assert shlex.split(command) == ["deepfinder", *segment, "s.zarr"]
    subprocess.run([*python, *shlex.split(command)[1:]], check=True, **run)
    assert kept.items() <= _recorded(records).items(), "recorded once"
    subprocess.run([*python, *segment, "whole.zarr"], check=True, **run)
    one, other = (open_image(str(tmp_path / name / "labels")).levels[0].read() for name in ("s.zarr", "whole.zarr"))
    np.testing.assert_array_equal(one, other)


def _recorded(ledger: Path) -> dict[str, int]:
    """Files of blocks in a ledger, and when each was written."""
    ours = (path for path in ledger.rglob("*") if path.is_file() and path.stem.isdigit())
    return {str(path): path.stat().st_mtime_ns for path in ours}
