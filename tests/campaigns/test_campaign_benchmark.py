"""The benchmark of campaigns runs, tiny, and what it counts is what there was to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "campaign.py"


def figures_of(folder, *words):
    command = [sys.executable, str(SCRIPT), *words, "--folder", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return json.loads(done.stdout)


@pytest.mark.slow
def test_all_trivial_blocks_are_scheduled(tmp_path):
    figures = figures_of(tmp_path, "scheduling", "--tomograms", "5", "--blocks", "20")
    assert (figures["blocks"], figures["left_to_do"]) == (100, 0)
    assert figures["driver_and_scheduler_cpu_ms_a_block"] > 0


@pytest.mark.slow
def test_a_finished_campaign_does_nothing_again(tmp_path):
    figures = figures_of(tmp_path, "resume", "--tomograms", "3", "--workers", "1")
    assert (figures["first_done"], figures["again_done"]) == (3, 0)


@pytest.mark.slow
def test_numbers_of_workers_change_no_byte(tmp_path):
    figures = figures_of(tmp_path, "workers", "--tomograms", "2")
    assert figures["identical"]
    assert [row["done"] for row in figures["by_workers"].values()] == [2, 2]
