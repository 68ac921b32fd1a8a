"""The benchmark of conversion runs, small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "convert.py"


def test_the_benchmark_runs_and_says_where(tmp_path):
    command = [sys.executable, str(SCRIPT), "--shape", "16,20,24", "--folder", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    figures = json.loads(done.stdout)
    assert figures["gigabytes"] == pytest.approx((16 * 20 * 24 * 4 + 1024) / 1e9)
    assert figures["peak_mib"] > 10
    assert figures["copy_seconds"] > 0
    assert {"cpu", "numpy", "zarr", "commit"} <= set(figures["machine"])
    assert not any(tmp_path.iterdir())
