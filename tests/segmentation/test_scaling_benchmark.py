"""The benchmark of scaling runs, tiny, and its figures are those of the work that was done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "segmentation_scaling.py"
TINY = ["--shape", "22,30,41", "--memory", "1", "--base", "20,24,28", "--volume-memory", "1"]
TINY += ["--seconds", "1", "--block", "16,16,16", "--large-shape", "24,36,40", "--large-memory", "1"]


def figures_of(*words: str) -> dict:
    command = [sys.executable, str(SCRIPT), *TINY, *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_large_tomogram_stays_below_its_bound():
    figures = figures_of("--sections", "none", "--large")
    assert set(figures) == {"large", "machine"}
    assert figures["large"]["shape"] == [24, 36, 40]
    check_row(figures["large"])


def check_row(row: dict) -> None:
    assert 0 < row["worker_peak_mib"] < row["bound_mib"]
    assert row["waste"] >= 1
    assert row["blocks"] >= 1


def test_an_unknown_section_is_refused():
    command = [sys.executable, str(SCRIPT), "--sections", "speed"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "speed" in done.stderr


@pytest.mark.slow
def test_bounds_volumes_and_workers():
    figures = figures_of()
    for row in [*figures["bounds"], *figures["volumes"]["rows"]]:
        check_row(row)
    assert [row["times"] for row in figures["volumes"]["rows"]] == [1, 2, 4, 8]
    assert figures["volumes"]["spread"] >= 0
    workers = figures["workers"]
    assert workers["1"]["blocks"] == workers["2"]["blocks"] >= 8
    assert workers["speed_up"] == pytest.approx(workers["1"]["seconds"] / workers["2"]["seconds"])
