"""The benchmark of segmentation runs, small, and finds no label that differs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "segmentation.py"


def test_the_benchmark_compares_blocks_with_a_whole_pass():
    command = [sys.executable, str(SCRIPT), "--shape", "22,30,41", "--memory", "1", "--json"]
    figures = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout)
    ours = figures["blocks, 1 GiB"]
    assert ours["labels_that_differ"] == 0
    assert ours["waste"] >= 1
    assert figures["machine"]["torch"]
