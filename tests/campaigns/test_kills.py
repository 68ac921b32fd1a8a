"""Drivers and workers killed from outside: the same command goes on and ends with the bytes of an undisturbed run."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.campaigns import run
from deepfinder_dask.segmentation import Segmentation

BLOCKS = "[segment]\nblock = [16, 16, 16]\n"


def results(folder: Path) -> dict[str, str]:
    """Hashes of tables and label maps by tomogram."""
    found = {}
    for one in sorted((folder / "tomograms").iterdir()):
        digest = hashlib.sha256((one / "particles.parquet").read_bytes())
        labels = Segmentation.open(str(one / "segmentation.zarr")).label_map.read()
        digest.update(np.ascontiguousarray(labels).tobytes())
        found[one.name] = digest.hexdigest()
    return found


def records(folder: Path) -> dict[str, bytes]:
    """Records of finished blocks."""
    found = (folder / "tomograms").glob("*/segmentation.zarr/.ledger/records/*/*.json")
    return {str(one.relative_to(folder)): one.read_bytes() for one in found}


def children(pid: int) -> list[int]:
    """Worker processes of a driver."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_again_and_again_it_ends_the_same(campaign, tmp_path, workers):
    file = campaign(3, BLOCKS)
    run(file)
    undisturbed = results(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "undisturbed")
    out, chance = tmp_path / "out", random.Random(7)
    command = [sys.executable, "-m", "deepfinder_dask", "run", str(file), *(["-j", str(workers)] if workers else [])]
    seen: dict[str, bytes] = {}
    for kill in range(4):
        before = len(records(out)) if out.exists() else 0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            limit = time.monotonic() + 300
            while process.poll() is None and time.monotonic() < limit:
                held = records(out) if out.exists() else {}
                if len(held) > before + kill:
                    break
                time.sleep(0.02)
            time.sleep(chance.random() * 0.2)
            victims = children(process.pid) if kill % 2 and workers else [process.pid]
            for victim in victims[:1]:
                with suppress(ProcessLookupError):  # it was quicker
                    os.kill(victim, signal.SIGKILL)
            if victims[:1] != [process.pid]:
                process.wait(600)
        held = records(out)
        assert all(held[name] == record for name, record in seen.items())  # no recorded block was done again
        seen = held
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert results(out) == undisturbed
    held = records(out)
    assert all(held[name] == record for name, record in seen.items())
    assert json.loads((out / "summary.json").read_text())["counts"] == {"done": 3}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupt_ends_with_130_and_the_same_command_goes_on(campaign, tmp_path):
    file = campaign(3, BLOCKS)
    command = [sys.executable, "-m", "deepfinder_dask", "run", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 300
        while process.poll() is None and not records(tmp_path / "out") and time.monotonic() < limit:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.startswith("error: interrupted; what is finished is kept, go on with: deepfinder run")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["counts"].get("done", 0) < 3
    assert run(file).complete
