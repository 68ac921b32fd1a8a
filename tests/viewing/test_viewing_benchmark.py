"""The benchmark of the viewer runs, tiny, and sees an image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("neuroglancer", reason="needs neuroglancer: pip install 'deepfinder_dask[view]'")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "viewing.py"


@pytest.mark.browser
@pytest.mark.usefixtures("browser")  # skips where there is none
def test_viewing_benchmark(tmp_path: Path) -> None:
    words = ["--shape", "60,150,200", "--particles", "20", "--repeats", "1", "--folder", str(tmp_path), "--json"]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    for name in ("tomogram", "with_labels_and_particles"):
        one = figures[name]
        assert 0 < one["seconds_to_page"] < one["seconds_to_image"] <= one["seconds_to_all"]
        assert 20 < one["server_peak_mib"] < 500
    assert list(tmp_path.iterdir()) == []
