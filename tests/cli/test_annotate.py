"""``deepfinder annotate`` as a process, without a browser: what a page asks for ends in what ``target`` takes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tornado.websocket import websocket_connect

from deepfinder_dask.cli import main
from deepfinder_dask.particles import ParticleClass, Particles, write_classes
from deepfinder_dask.tomograms import Tomogram


@pytest.fixture
def folder(mrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TS_01.zarr and classes.toml, in the folder where commands run."""
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(mrc), "-o", "TS_01.zarr", "-q"]) == 0
    write_classes([ParticleClass("ribosome", 1, radius=40.0)], "classes.toml")
    return tmp_path


async def _ask(url: str, *requests: dict) -> None:
    line = await websocket_connect(url.replace("http:", "ws:") + "edits")
    for one in requests:
        await line.write_message(json.dumps(one))
        while "did" not in json.loads(await asyncio.wait_for(line.read_message(), 60)):
            pass
    line.close()
    while await line.read_message() is not None:
        pass


def test_from_clicks_to_a_target(folder, capsys) -> None:
    words = ["annotate", "TS_01.zarr", "-c", "classes.toml", "-o", "TS_01.parquet", "--no-open", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "deepfinder_dask", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    url = next(word for word in process.stderr.readline().split() if word.startswith("http://127.0.0.1:"))
    asyncio.run(
        _ask(url, *({"do": "add", "label": 1, "voxel": voxel} for voxel in ([8, 9, 10], [14, 20, 30])), {"do": "undo"})
    )
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    facts = json.loads(said)
    assert (facts["count"], facts["classes"], facts["tomograms"]) == (1, {"ribosome": 1}, ["TS_01"])
    assert Particles.read("TS_01.parquet").positions().tolist() == [[80.0, 90.0, 100.0]]

    capsys.readouterr()
    assert (
        main(["target", "TS_01.parquet", "-t", "TS_01.zarr", "-c", "classes.toml", "-o", "T.zarr", "--no-picture"]) == 0
    )
    labels = Tomogram.open("T.zarr/labels" if Path("T.zarr/labels").exists() else "T.zarr").read()
    grid = np.stack(np.indices(labels.shape), -1)
    assert np.array_equal(labels == 1, ((grid - (8, 9, 10)) ** 2).sum(-1) <= 16)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["TS_01.zarr", "-o", "p.parquet"], "found none: give --classes FILE.toml"),
        (["TS_01.zarr", "-o", "p.parquet", "-c", "none.toml"], "none.toml: no such file"),
        (["TS_01.zarr", "-o", "p.parquet", "-c", "wrong.toml"], "wrong.toml: not a TOML file"),
        (["TS_01.mrc", "-o", "p.parquet", "-c", "classes.toml"], "TS_01.mrc -o TS_01.zarr`"),
        (["TS_02.zarr", "-o", "p.parquet", "-c", "classes.toml"], "no such tomogram"),
        (["TS_01.zarr", "-o", "p.star", "-c", "classes.toml"], "NAME.parquet"),
        (["TS_01.zarr", "-o", "classes.toml/p.parquet", "-c", "classes.toml"], "cannot write"),
        (["TS_01.zarr", "-o", "p.parquet", "-c", "classes.toml", "--smooth", "x"], "number of slices"),
        (["TS_01.zarr", "-o", "p.parquet", "-c", "classes.toml", "--from", "no.parquet"], "no.parquet: no such file"),
        (["TS_01.zarr", "-o", "p.parquet", "-c", "classes.toml", "--port", "99999"], "port"),
    ],
)
def test_refusals_are_one_line(folder, capsys, words, complaint) -> None:
    Path("wrong.toml").write_text("[[class]\n")
    Path("TS_01.mrc").write_bytes(b"\0" * 2048)
    capsys.readouterr()
    assert main(["annotate", *words, "--no-open"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert complaint in said.err
    assert said.out == ""
    assert not list(Path().glob("p.parquet*"))
