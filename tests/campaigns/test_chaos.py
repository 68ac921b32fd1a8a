"""Campaigns whose files, disk and clocks are disturbed: the same command ends with the bytes of an undisturbed run."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from deepfinder_dask.campaigns import run
from deepfinder_dask.cli import main
from deepfinder_dask.errors import StorageError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SEGMENT = "\n[segment]\nblock = [16, 12, 12]\nprecision = 'fp32'\n"
calm: dict[str, str] = {}
"""Hashes of an undisturbed run, once there was one."""
NAMES = ("t0", "t1", "t2")
PARTS = ("labels", "probability")


def hashes_of(out: Path, names=NAMES) -> dict[str, str]:
    """SHA-256 of the particles and of the files of label map and probability, by tomogram."""
    found = {}
    for name in names:
        folder = out / "tomograms" / name
        whole = hashlib.sha256((folder / "particles.parquet").read_bytes())
        for part in PARTS:
            files = sorted(one for one in (folder / "segmentation.zarr" / part).rglob("*") if one.is_file())
            assert files
            for file in files:
                whole.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
        found[name] = whole.hexdigest()
    return found


def records_of(out: Path) -> dict[Path, tuple[int, int]]:
    """Recorded blocks: inode and time of the record of each."""
    records = out.glob("tomograms/*/segmentation.zarr/.ledger/records/**/*.json")
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in records}


def kept(before, out) -> bool:
    """Whether no block that was recorded before was done again."""
    now = records_of(out)
    return bool(before) and all(now.get(path) == stamp for path, stamp in before.items())


@pytest.fixture
def undisturbed(campaign, tmp_path):
    """Hashes of three tomograms, done by a run that nobody disturbed; what it left is gone."""
    if not calm:  # all tests disturb the same campaign
        assert run(campaign(3, SEGMENT)).complete
        calm.update(hashes_of(tmp_path / "out"))
        (tmp_path / "out").rename(tmp_path / "undisturbed")
    return calm


@pytest.fixture
def disk(tmp_path):
    """The output is a disk of its own: a function that mounts it again with other options."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts disks")
    out = tmp_path / "out"

    def mount(*options):
        return subprocess.run(["mount", *options], capture_output=True, check=False)

    def again(options: str) -> None:
        if not out.is_mount():
            out.mkdir(exist_ok=True)
            done = mount("-t", "tmpfs", "-o", options, "tmpfs", str(out))
            if done.returncode:
                pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
        else:
            done = mount("-o", f"remount,{options}", str(out))
            assert done.returncode == 0, done.stderr

    yield again
    if out.is_mount():
        subprocess.run(["umount", "-l", str(out)], check=True)


def test_a_truncated_tomogram_is_named_and_done_when_it_is_whole(campaign, tmp_path, undisturbed, capsys):
    file, out = campaign(3, SEGMENT), tmp_path / "out"
    whole = (tmp_path / "t1.mrc").read_bytes()
    (tmp_path / "t1.mrc").write_bytes(whole[: len(whole) * 2 // 3])
    assert main(["run", str(file)]) == 1
    assert "t1: " in capsys.readouterr().err
    assert hashes_of(out, ["t0", "t2"]) == {name: undisturbed[name] for name in ("t0", "t2")}
    before = records_of(out)
    (tmp_path / "t1.mrc").write_bytes(whole)
    assert main(["run", str(file), "--retry-failed"]) == 0
    assert kept(before, out)
    assert hashes_of(out) == undisturbed


@pytest.mark.parametrize("store", ["tomogram.zarr", "segmentation.zarr/labels"])
def test_a_corrupted_shard_is_made_again(campaign, tmp_path, undisturbed, store):
    """It is never taken for grey values or labels: its stage is done again, by the same command."""
    file, out = campaign(3, SEGMENT), tmp_path / "out"
    assert not run(file, only=("convert" if store == "tomogram.zarr" else "segment",)).done_now
    shards = sorted((out / "tomograms" / "t1" / store / "0" / "c").rglob("*"))
    shard = next(path for path in shards if path.is_file())
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1  # one bit
    shard.write_bytes(bytes(content))
    before = {path: stamp for path, stamp in records_of(out).items() if "t1" not in path.parts}
    assert run(file).complete
    assert hashes_of(out) == undisturbed
    assert store == "tomogram.zarr" or kept(before, out)


def test_a_full_disk_is_waited_for_and_then_told(campaign, tmp_path, undisturbed, disk):
    file = campaign(3, SEGMENT + "[limits]\nwait_for_disk = 0.5\nfree_disk = 0\nbackoff = 0.01\n", **LIMITS)
    out = tmp_path / "out"
    disk("size=400k")
    with pytest.raises(StorageError, match="full") as told:
        run(file)
    assert "\n" not in str(told.value)
    before = records_of(out)
    disk("size=64m")
    assert run(file).complete
    assert kept(before, out)
    assert hashes_of(out) == undisturbed


LIMITS = {"[limits]\nfree_disk = 0\nbackoff = 0.01\n": ""}
"""Taken out of the file, for others in their place."""


def test_an_output_that_cannot_be_written_is_told_in_one_line(campaign, tmp_path, undisturbed, disk, capsys):
    file, out = campaign(3, SEGMENT), tmp_path / "out"
    disk("size=64m")
    run(file, only=("t0", "segment"))
    before = records_of(out)
    disk("ro")
    assert main(["run", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "ead-only" in said
    assert said.count("\n") == 1
    disk("rw")
    assert main(["run", str(file)]) == 0
    assert kept(before, out)
    assert hashes_of(out) == undisturbed


def test_clocks_of_files_decide_nothing(campaign, tmp_path, undisturbed):
    """Times of inputs and outputs are changed at random, before and after the Epoch of the run."""
    file, out = campaign(3, SEGMENT), tmp_path / "out"
    run(file, only=("t0", "t1", "segment"))
    draw = random.Random(5)

    def shake():
        for path in [*tmp_path.glob("*"), *out.rglob("*")]:
            moment = draw.choice((0, 10**9, 4 * 10**9)) + draw.random()
            os.utime(path, (moment, moment))
        return records_of(out)

    before = shake()
    assert run(file).complete
    assert kept(before, out)
    assert hashes_of(out) == undisturbed
    states = {path: path.read_bytes() for path in out.rglob("state.json")}
    before = shake()
    assert run(file).done_now == 0
    assert kept(before, out)
    assert states == {path: path.read_bytes() for path in out.rglob("state.json")}
    assert {json.loads(text)["state"] for text in states.values()} == {"done"}
