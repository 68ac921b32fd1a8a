"""Errors on the command line: one line, and the exit code that scripts rely on."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from deepfinder_dask import errors
from deepfinder_dask.cli import entry, main


@pytest.fixture(autouse=True)
def _restore() -> object:
    """The command sets up warnings and progress for its own process."""
    from deepfinder_dask.execution import silence

    with warnings.catch_warnings():
        yield
    silence(False)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def app(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(entry, "app", app)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.FormatError("expected MRC,\nfound soup"), 2, "expected MRC, found soup"),
        (errors.SettingsError("no"), 2, "no"),
        (errors.StorageError("disk full"), 2, "disk full"),
        (errors.PartialFailure("2 of 3 failed: a, b"), 1, "2 of 3 failed: a, b"),
        (KeyboardInterrupt(), 130, "run the same command again"),
        (MemoryError("cannot allocate"), 2, "smaller blocks or fewer workers (cannot allocate)"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 2, "/data/x: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 2, "/data/x: Permission denied"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else None,
)
def test_foreseen_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    fail_with(monkeypatch, error)
    assert main([]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err


@pytest.mark.parametrize("error", [ValueError("a bug"), ZeroDivisionError(), FileNotFoundError(errno.ENOENT, "gone")])
def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fail_with(monkeypatch, error)
    with pytest.raises(type(error)):
        main([])


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["convert"],
        ["convert", "a.mrc"],
        ["convert", "a.mrc", "-o", "b.zarr", "--no-such-option"],
        ["convert", "a.mrc", "-o", "b.zarr", "--voxel-size", "ten"],
        ["convert", "a.mrc", "-o", "b.zarr", "--contrast", "grey"],
        ["convert", "a.mrc", "b.mrc", "-o", "c.zarr"],
        ["convert", "no-such-file.mrc", "-o", "b.zarr"],
        ["cluster", "no-such.zarr", "-o", "b.parquet", "--block", "63"],
        ["cluster", "no-such.zarr", "-o", "b.parquet"],
        ["export", "no-such.parquet", "-o", "b.star"],
        ["weights", "import", "no-such.h5", "-o", "b.safetensors"],
        ["simulate", "no-such.toml", "-o", "b"],
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_own_warnings_are_one_line_and_others_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import warnings\n"
        "from deepfinder_dask.cli import entry\n"
        "entry._hush()\n"
        "warnings.warn('library chatter')\n"
        "warnings.warn_explicit('named like\\na tilt series', UserWarning, entry.__file__, 1)\n"
        "warnings.warn_explicit('old', DeprecationWarning, entry.__file__, 1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert capfd.readouterr().err == "warning: named like a tilt series\n"


def test_a_closed_pipe_is_no_error() -> None:
    """``deepfinder --help | head -1`` says nothing but the first line."""
    command = f"{sys.executable} -m deepfinder_dask --help | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("Usage: deepfinder")
    assert done.stderr == ""


INTERRUPTED = """
import sys, time
from deepfinder_dask.cli import entry
from deepfinder_dask.execution import open_executor

def app(*_, **__):
    with open_executor(workers=WORKERS) as executor:
        print("ready", flush=True)
        list(executor.run(time.sleep, [60, 60], label="sleep"))

if __name__ == "__main__":
    entry.app = app
    sys.exit(entry.run([]))
"""


@pytest.mark.parametrize("workers", [None, 2])
def test_interrupt_from_the_terminal(workers: int | None, tmp_path: Path) -> None:
    """SIGINT to the whole group of processes, as Ctrl-C sends it: exit code 130 and one line, workers included."""
    (tmp_path / "script.py").write_text(INTERRUPTED.replace("WORKERS", str(workers)))
    with subprocess.Popen(
        [sys.executable, "script.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("error: interrupted;")
    assert err.count("\n") == 1
