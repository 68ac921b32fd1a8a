"""The benchmark of the annotator's slices runs, small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "annotating.py"


def test_the_benchmark_runs_and_says_where(tmp_path):
    command = [
        sys.executable,
        str(SCRIPT),
        "--shape",
        "16,40,30",
        "--folder",
        str(tmp_path),
        "--repeats",
        "2",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    figures = json.loads(done.stdout)
    assert 0 < figures["overview_scroll_seconds"] <= figures["overview_scroll_longest"]
    assert figures["seconds_to_page"] > 0
    assert figures["server_peak_mib"] > 10
    assert {"cpu", "numpy", "zarr", "commit"} <= set(figures["machine"])
    assert not any(tmp_path.iterdir())
