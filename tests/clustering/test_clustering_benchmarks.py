"""The benchmarks of clustering run, tiny, and what they count is what was put in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def figures_of(script: str, *words: str) -> dict:
    command = [sys.executable, str(BENCHMARKS / script), *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_balls_are_clustered_as_by_everybody_else():
    words = ["--shape", "48,64,64", "--balls", "3", "--bandwidth", "9", "--sklearn", "--without-original"]
    figures = figures_of("clustering.py", *words)
    rows = figures["bandwidths"]["9"]
    assert rows["scikit-learn"]["same_centres_and_sizes"]
    assert rows["ours, file"]["found"] == rows["ours, array"]["found"] == rows["scikit-learn"]["found"]
    assert len({row["found"] for row in figures["components"].values()}) == 1


@pytest.mark.slow
def test_every_ball_of_a_sparse_map_is_found_whole():
    figures = figures_of("clustering_sparse.py", "--shape", "96,128,160", "--balls", "12", "--workers", "2")
    for row in figures["methods"].values():
        assert row["found"] == 12
        assert row["exact"]
