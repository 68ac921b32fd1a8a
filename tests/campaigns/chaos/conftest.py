"""Campaigns of tiny simulated tomograms, and ways to disturb them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mrcfile
import numpy as np
import psutil
import pytest

from deepfinder_dask.simulation.phantoms import RING, ROD, SHELL

PATIENCE = 900.0
"""Seconds after which a run hangs."""
VOXEL_SIZE = 10.0
"""Å."""
TWENTY = tuple(f"TS_{number:02d}" for number in range(20))
"""Names of the tomograms."""
CAMPAIGN = """
name = "chaos"
output = "out"
weights = "demo"
tomograms = [{tomograms}]

[convert]
contrast = "dark"
[segment]
block = [28, 24, 24]
precision = "fp32"
[cluster]
method = "components"
min_size = 50
[export]
files = ["particles.csv"]
pictures = false
[limits]
free_disk = 0
wait_for_disk = 1.0
retries = 1
backoff = 0.2
{limits}
{workers}
"""


@pytest.fixture(scope="session")
def tomograms(tmp_path_factory) -> Path:
    """Folder of twenty simulated tomograms of different sizes, MRC: two phantoms in noise each."""
    folder = tmp_path_factory.mktemp("simulated")
    for number, name in enumerate(TWENTY):
        draw = np.random.default_rng(number)
        shape = (28, int(draw.integers(44, 65)), int(draw.integers(44, 65)))
        values = draw.normal(0.0, 0.7, shape)
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1) * VOXEL_SIZE
        for phantom, row in ((RING, 14), (SHELL if number % 2 else ROD, shape[1] - 15)):
            centre = np.array([13.0, row, draw.integers(14, shape[2] - 14)]) * VOXEL_SIZE
            values -= phantom.sample((grid - centre)[..., ::-1])[0]
        with mrcfile.new(folder / f"{name}.mrc") as file:
            file.set_data(values.astype(np.float32))
            file.voxel_size = VOXEL_SIZE
    return folder


@dataclass
class Running:
    """A driver under way, in a process group of its own."""

    process: subprocess.Popen[str]
    log: Path

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        found = []
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with_main = "spawn_main" in " ".join(child.cmdline())
                if with_main and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
        except psutil.NoSuchProcess:
            pass
        return found

    def kill(self) -> None:
        """SIGKILL to the driver; its workers end as they find out."""
        workers = self.workers()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        psutil.wait_procs(workers, 60)

    def kill_worker(self, draw: random.Random) -> bool:
        """SIGKILL to one of the workers; False where there is none now."""
        workers = self.workers()
        if not workers:
            return False
        try:
            draw.choice(workers).kill()
        except psutil.NoSuchProcess:
            return False
        return True

    def wait(self) -> int:
        """Exit code."""
        return self.process.wait(PATIENCE)

    def said(self) -> str:
        """Standard output and error."""
        return self.log.read_text(errors="replace")


@dataclass
class Chaos:
    """A campaign, and what there is to know about it."""

    folder: Path
    names: Sequence[str]
    options: Sequence[str] = ()
    runs: int = 0
    seen: dict[Path, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "campaign.toml"

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def source(self, name: str) -> Path:
        return self.folder / "raw" / f"{name}.mrc"

    def write(self, workers: str = 'kind = "local"\nprocesses = 2', limits: str = "") -> None:
        tomograms = ", ".join(f'"raw/{name}.mrc"' for name in self.names)
        table = f"[workers]\n{workers}" if workers else ""
        text = CAMPAIGN.format(tomograms=tomograms, workers=table, limits=limits)
        self.file.write_text(text, encoding="utf-8")

    def start(self, *more: str) -> Running:
        self.runs += 1
        log = self.folder / f"run-{self.runs}.log"
        command = [sys.executable, "-m", "deepfinder_dask", "run", str(self.file), *self.options, *more]
        with log.open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True, process_group=0)
        return Running(process, log)

    def run(self, *more: str, expect: int = 0) -> str:
        running = self.start(*more)
        code = running.wait()
        assert code == expect, f"exit code {code}:\n{running.said()}"
        assert "Traceback" not in running.said()
        return running.said()

    def records(self) -> dict[Path, tuple[int, int, int]]:
        """Recorded blocks: inode, time and size of the record of each."""
        found = {}
        for path in self.output.glob("tomograms/*/segmentation.zarr/.ledger/records/**/*.json"):
            status = path.stat()
            found[path] = status.st_ino, status.st_mtime_ns, status.st_size
        return found

    def look(self) -> int:
        """Assert that no recorded block was done again since the last look; blocks recorded now."""
        now = self.records()
        again = [str(path) for path, stamp in self.seen.items() if now.get(path) != stamp]
        assert not again, f"recorded blocks were done again: {again}"
        self.seen = now
        return len(now)

    def until(self, condition: Callable[[], bool], running: Running) -> bool:
        """Wait for something to become true; False where the run ended before."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            if condition():
                return True
            if running.process.poll() is not None:
                return False
            time.sleep(0.1)
        raise AssertionError(f"it did not come to it:\n{running.said()}")

    def state(self, name: str) -> dict[str, object]:
        return json.loads((self.output / "tomograms" / name / "state.json").read_text())

    def summary(self) -> dict[str, object]:
        return json.loads((self.output / "summary.json").read_text())

    def hashes(self, names: Sequence[str] | None = None) -> dict[str, dict[str, str]]:
        """SHA-256 of the particles and of the files of label map and probability, by tomogram."""
        return {name: hashes_of(self.output / "tomograms" / name) for name in names or self.names}


def hashes_of(folder: Path) -> dict[str, str]:
    segmentation = folder / "segmentation.zarr"
    parts = {"particles": [folder / "particles.parquet"], "csv": [folder / "particles.csv"]}
    for name in ("labels", "probability"):
        parts[name] = sorted(path for path in (segmentation / name).rglob("*") if path.is_file())
        assert parts[name]
    found = {}
    for name, files in parts.items():
        whole = hashlib.sha256()
        for file in files:
            whole.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
        found[name] = whole.hexdigest()
    return found


@dataclass
class Undisturbed:
    """What runs that nobody disturbed leave; a tomogram is done when it is first asked for."""

    home: Callable[[str], Path]
    tomograms: Path
    known: dict[str, dict[str, str]] = field(default_factory=dict)

    def hashes(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Hashes by tomogram."""
        new = [name for name in names if name not in self.known]
        if new:
            chaos = make(self.home("undisturbed"), self.tomograms, new)
            chaos.write(workers="")  # one process: fewest that could disturb each other
            chaos.run()
            assert chaos.summary()["counts"] == {"done": len(new)}
            assert int(str(chaos.summary()["particles"])) > len(new) / 2
            self.known |= chaos.hashes()
        return {name: self.known[name] for name in names}


@pytest.fixture(scope="session")
def undisturbed(tomograms, tmp_path_factory) -> Undisturbed:
    """Hashes of tomograms after a run that nobody disturbed."""
    return Undisturbed(tmp_path_factory.mktemp, tomograms)


def make(folder: Path, tomograms: Path, names: Sequence[str]) -> Chaos:
    (folder / "raw").mkdir(parents=True)
    for name in names:
        shutil.copy2(tomograms / f"{name}.mrc", folder / "raw" / f"{name}.mrc")
    chaos = Chaos(folder, names)
    chaos.write()
    return chaos


@pytest.fixture
def chaos(tomograms, tmp_path) -> Iterator[Chaos]:
    """A campaign of four tomograms."""
    made = make(tmp_path, tomograms, TWENTY[:4])
    yield made
    _end_all(tmp_path)


@pytest.fixture
def chaos_of_twenty(tomograms, tmp_path) -> Iterator[Chaos]:
    """A campaign of all twenty."""
    made = make(tmp_path, tomograms, TWENTY)
    yield made
    _end_all(tmp_path)


def _end_all(folder: Path) -> None:
    """End drivers that a failed test left behind."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        if str(folder / "campaign.toml") in words and process.pid != os.getpid():
            with_children = [*process.children(recursive=True), process]
            for one in with_children:
                one.kill()
