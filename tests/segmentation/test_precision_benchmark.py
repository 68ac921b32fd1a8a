"""The benchmark of precisions runs on a small scene and counts particles."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "precision.py"
SCENE = """
voxel_size = 10.0
species = [
  {name = "ring", label = 1, min_size = 100},
  {name = "rod", label = 2, min_size = 100},
  {name = "shell", label = 3, min_size = 100},
]
[[tomogram]]
name = "small"
seed = 3
shape = [64, 112, 112]
counts = {ring = 2, rod = 2, shell = 2}
gap = 10.0
imaging = {snr = 0.5, defocus = 3.0}
"""


@pytest.mark.slow
def test_both_precisions_find_the_particles_of_an_easy_scene(tmp_path):
    (tmp_path / "scene.toml").write_text(SCENE)
    command = [sys.executable, str(SCRIPT), "--config", str(tmp_path / "scene.toml"), "--seeds", "3,4", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["f1"]["fp32: particles"]["overall"]["true"] == 12
    for precision in ("fp32", "bf16"):
        assert figures["f1"][precision]["overall"] > 0.8
    assert figures["f1"]["bf16 against fp32"]["overall"] > 0.9
    # Rounding to 8 bits shows somewhere, and only where the network was unsure.
    assert 0 < figures["voxels_that_differ"] < figures["voxels"] / 100
    assert figures["surest"] < 0.9
