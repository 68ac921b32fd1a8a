"""The benchmark of segmentation runs, small, and finds no label that differs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-peers" / "bin" / "python"


def figures_of(*words: str, timeout: float = 240) -> dict:
    command = [sys.executable, str(ROOT / "benchmarks" / "segmentation.py"), *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_benchmark_compares_blocks_with_a_whole_pass():
    figures = figures_of(
        "--shape", "22,30,41", "--memory", "1", "--block", "16,16,20", "--precision", "fp32,bf16", "--without-original"
    )
    assert "skipped" in figures["original"]
    assert figures["machine"]["torch"]
    fp32, bf16 = (figures["precisions"][name] for name in ("fp32", "bf16"))
    assert sum(fp32["whole"]["share_of_each_label"]) == pytest.approx(1, abs=1e-3)
    assert set(fp32["ours"]) == {"1 GiB", "block 16,16,20"}
    assert fp32["ours"]["block 16,16,20"]["blocks"] == 12
    for ours in fp32["ours"].values():
        assert ours["labels_that_blocks_change"] == 0
        assert ours["waste"] >= 1
        assert ours["cpu_seconds"] > 0
        assert 0 < ours["peak_mib"] < ours["bound_mib"]
    assert fp32["ours_differs"]["voxels"] <= 3
    assert fp32["ours_differs"].get("margin_largest", 0) < 1e-4
    assert fp32["best_to_whole"]["cpu_seconds"] > 0
    assert "skipped" in bf16 or all(ours["labels_that_blocks_change"] == 0 for ours in bf16["ours"].values())


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.skipif(not PEERS.exists(), reason="no .venv-peers/: run `make peers`")
def test_the_original_has_the_same_network_but_labels_that_depend_on_its_patches():
    figures = figures_of("--shape", "24,24,72", "--memory", "1", "--patch", "72", timeout=280)
    original, fp32 = figures["original"], figures["precisions"]["fp32"]
    assert original["patch"] == 72
    assert original["network_alone_differs_by"] < 1e-4
    assert fp32["original_differs"]["voxels"] > 0
    assert fp32["original_to_best"]["cpu_seconds"] == pytest.approx(
        original["cpu_seconds"] / fp32["ours"]["1 GiB"]["cpu_seconds"]
    )
