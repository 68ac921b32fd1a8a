"""Behind the page: slices as NumPy would cut them, and a server that answers nobody else."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import FormatError, GeometryError, SettingsError, StorageError
from deepfinder_dask.particles import Particles, write_classes
from deepfinder_dask.tomograms import Tomogram, build_pyramid, create_image, finish_image
from deepfinder_dask.viewing import annotate
from deepfinder_dask.viewing.annotating import Annotator, serving, slabs
from deepfinder_dask.viewing.annotating.settings import Smoothing
from deepfinder_dask.viewing.annotating.slabs import SlabReader
from deepfinder_dask.viewing.sampling import PLANES


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Tomogram:
    """A tomogram of three levels whose chunks divide nothing, of values that a 16-bit code holds exactly."""
    path = tmp_path_factory.mktemp("pyramid") / "p.zarr"
    values = np.random.default_rng(4).integers(0, 4096, (37, 51, 83)).astype(np.float32)
    volume = create_image(
        path, shape=values.shape, dtype=values.dtype, voxel_size=10, chunk=(8, 12, 20), shard=(16, 24, 40)
    )
    volume.write(Box.whole(volume.space), values)
    build_pyramid(path, smallest=8)
    finish_image(path)
    return Tomogram.open(path)


@given(st.data())
@settings(max_examples=25)
def test_slices_are_those_of_the_volume(pyramid, data) -> None:
    """Every part of every slice of every level, alone or the mean of several; with next to no room for chunks."""
    whole = [level.read() for level in pyramid.levels]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slabs, "KEPT", data.draw(st.sampled_from([10_000, 2**28])))
        reader = SlabReader(pyramid)
        low, high = reader.range
        for _ in range(3):
            axis, level = data.draw(st.integers(0, 2)), data.draw(st.integers(0, len(whole) - 1))
            up, right = PLANES[axis]
            index = data.draw(st.integers(0, pyramid.shape[axis] - 1))
            thick = data.draw(st.integers(1, 9))
            shape = whole[level].shape
            spans = []
            for a in (up, right):
                first = data.draw(st.integers(0, shape[a] - 1))
                spans.append((first, data.draw(st.integers(first + 1, shape[a]))))
            codes = reader.read(axis, index, level, spans[0], spans[1], thick)
            factor = reader.factors[level][axis]
            around = range(max(0, index - (thick - 1) // 2), min(pyramid.shape[axis], index + thick // 2 + 1))
            planes = sorted({min(n // factor, shape[axis] - 1) for n in around})
            shown = np.clip(whole[level], low, high)
            cut = np.moveaxis(shown, (axis, up, right), (0, 1, 2))[planes].mean(axis=0, dtype=np.float64)
            expected = cut[slice(*spans[0]), slice(*spans[1])]
            grey = low + codes / 65535 * (high - low)
            assert codes.dtype == np.uint16
            assert np.abs(grey - expected).max() <= (high - low) / 65535 + 1e-3


def test_memory_is_bounded(pyramid, monkeypatch) -> None:
    """What is kept never exceeds its bound, whatever is read."""
    monkeypatch.setattr(slabs, "KEPT", 100_000)
    reader = SlabReader(pyramid)
    for index in range(37):
        reader.read(0, index, 0, (0, 51), (0, 83))
        kept = sum(chunk.nbytes for chunk in reader._chunks.values())
        assert kept == reader._bytes <= 100_000
        assert all(chunk.base is None for chunk in reader._chunks.values()), "no view holds on to more"


def test_slices_that_are_not_there(pyramid) -> None:
    reader = SlabReader(pyramid)
    for asked in ((0, 37, 0, (0, 9), (0, 9)), (0, -1, 0, (0, 9), (0, 9)), (0, 0, 9, (0, 9), (0, 9))):
        with pytest.raises(GeometryError):
            reader.read(*asked)
    for rows, columns in (((0, 52), (0, 9)), ((5, 5), (0, 9)), ((-1, 4), (0, 9)), ((0, 9), (80, 90))):
        with pytest.raises(GeometryError, match="part of"):
            reader.read(0, 0, 0, rows, columns)


def test_chunks_that_are_too_large(pyramid, monkeypatch) -> None:
    monkeypatch.setattr(slabs, "LARGEST", 100)
    with pytest.raises(FormatError, match="deepfinder convert"):
        SlabReader(pyramid)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_range_of_volumes_of_others(tmp_path, dtype) -> None:
    """Where the store has no statistics; also where there is one grey value only, or none that is finite."""
    for value in (7, np.nan):
        path = tmp_path / f"{value}.zarr"
        volume = create_image(path, shape=(8, 9, 10), dtype=dtype, voxel_size=10, chunk=8, shard=None)
        if dtype == "float32" or value == 7:
            volume.write(Box.whole(volume.space), np.full((8, 9, 10), value, dtype))
        finish_image(path)
        reader = SlabReader(Tomogram.open(path))
        assert reader.range[1] > reader.range[0]
        assert len(set(reader.read(1, 0, 0, (0, 8), (0, 10)).ravel().tolist())) == 1


def test_smoothing() -> None:
    assert Smoothing.parse("5").slices(13.0) == 5
    assert Smoothing.parse(7).slices(13.0) == 7
    assert [Smoothing.parse("60A").slices(size) for size in (5, 10, 13, 600)] == [12, 6, 5, 1]
    assert Smoothing.parse("60Å") == Smoothing.parse("60 A")
    for wrong in ("0", "2.5", "65", "5nm", "-3", "", "0A"):
        with pytest.raises(SettingsError, match="number of slices from 1 to 64"):
            Smoothing.parse(wrong)


# --- the server ---------------------------------------------------------------------------------------------------


@pytest.fixture
def annotator(tomogram, particles, tmp_path):
    write_classes(particles.classes, tmp_path / "classes.toml")
    with annotate(tomogram, tmp_path / "p.parquet", classes=str(tmp_path / "classes.toml"), open=False) as started:
        yield started


def answer(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def talk(annotator: Annotator, *requests: object, **headers: str) -> list[dict]:
    """Answers to requests of a page, until it was told of each of them."""

    async def all_of_them() -> list[dict]:
        url = annotator.url.replace("http:", "ws:") + "edits"
        line = await websocket_connect(HTTPRequest(url, headers=headers))
        heard = []
        for one in requests:
            await line.write_message(one if isinstance(one, str) else json.dumps(one))
            while True:
                heard.append(json.loads(await asyncio.wait_for(line.read_message(), 30)))
                if heard[-1].keys() & {"did", "error"}:
                    break
        line.close()
        while await line.read_message() is not None:
            pass
        return heard

    return asyncio.run(all_of_them())


def test_strangers_are_refused(annotator) -> None:
    url = annotator.url
    assert url.startswith("http://127.0.0.1:")
    root, token = url.rstrip("/").rsplit("/", 1)
    assert len(token) >= 32
    for path in ("", "session", "slice", "main.js", "edits"):
        assert answer(f"{root}/{path}")[0] in (403, 404)
        assert answer(f"{root}/{token[:-1]}x/{path}")[0] == 404
        assert answer(f"{url}{path}", Host="evil.example")[0] == 403
    for path in ("../serving.py", "..%2fserving.py", "serving.py", "%2e%2e/serving.py", "/etc/passwd", "page"):
        assert answer(f"{url}{path}")[0] == 404
    for path in ("", "main.js", "session"):
        status, body = answer(f"{url}{path}")
        assert status == 200
        assert body
    assert answer(f"{url}session", Host=f"localhost:{url.split(':')[2].split('/')[0]}")[0] == 200


def test_other_sites_cannot_edit(annotator) -> None:
    port = int(annotator.url.split(":")[2].split("/")[0])
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = "x3JJHMbDL1EzLkh9GBhXDw=="
    for origin in ("http://evil.example", f"http://127.0.0.1:{port + 1}", "null"):
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        line.request("GET", f"/{annotator.url.split('/')[3]}/edits", headers={**upgrade, "Origin": origin})
        assert line.getresponse().status == 403
        line.close()
    assert talk(annotator, {"do": "fly"}, Origin=f"http://127.0.0.1:{port}")


def test_slices_of_the_server(annotator, arrays) -> None:
    url = annotator.url
    low, high = json.loads(answer(f"{url}session")[1])["range"]
    asked = "slice?axis=1&index=30&level=0&row=3&rows=20&column=10&columns=60&slices=1"
    status, body = answer(url + asked)
    assert status == 200
    grey = low + np.frombuffer(body, "<u2").reshape(20, 60) / 65535 * (high - low)
    assert np.allclose(grey, np.clip(arrays[0][3:23, 30, 10:70], low, high), atol=1e-3)
    assert answer(url + asked + "&warm=1") == (200, b"")
    for wrong in ("slice", asked.replace("index=30", "index=999"), asked.replace("axis=1", "axis=3")):
        assert answer(url + wrong)[0] == 400


def test_requests(annotator, tmp_path) -> None:
    """Positions come in voxels and are kept in Å; whatever is no request is answered, and changes nothing."""
    heard = talk(
        annotator, {"do": "add", "label": 1, "voxel": [1, 2, 3]}, {"do": "add", "label": 2, "voxel": [4, 5, 6]}
    )
    assert heard[0]["changed"] == {"0": {"label": 1, "voxel": [1.0, 2.0, 3.0], "verdict": "accepted", "score": None}}
    assert heard[1] == {"did": "add", "particle": 0}
    before = annotator.particles.table
    wrong = [
        "nonsense",
        "[]",
        {"do": "fly"},
        {"do": "add", "label": 1},
        {"do": "add", "label": "x", "voxel": [1, 1, 1]},
        {"do": "add", "label": 1, "voxel": [1, 1]},
        {"do": "add", "label": 1, "voxel": [1, 1, "nan"]},
        {"do": "add", "label": 1, "voxel": [1, 1, 1e9]},
        {"do": "add", "label": math.inf, "voxel": [1, 1, 1]},
        {"do": "judge", "particle": 0, "verdict": "good"},
        {"do": "remove", "particle": 77},
        {"label": 1},
    ]
    for one in wrong:
        (error,) = talk(annotator, one)
        assert "error" in error, one
    assert annotator.particles.table.equals(before)
    talk(
        annotator,
        {"do": "judge", "particle": 0, "verdict": "rejected"},
        {"do": "undo"},
        {"do": "remove", "particle": 1},
    )
    assert annotator.particles.positions().tolist() == [[10.0, 20.0, 30.0]]
    talk(annotator, {"do": "undo"})
    annotator.close()
    assert len(Particles.read(tmp_path / "p.parquet")) == 2


def watched(annotator: Annotator) -> list[dict]:
    """What a page hears after an edit until the table is written."""

    async def watch() -> list[dict]:
        line = await websocket_connect(annotator.url.replace("http:", "ws:") + "edits")
        await line.write_message(json.dumps({"do": "add", "label": 1, "voxel": [1, 2, 3]}))
        heard = []
        while not heard or heard[-1] != {"unsaved": False}:
            heard.append(json.loads(await asyncio.wait_for(line.read_message(), 60)))
        line.close()
        while await line.read_message() is not None:
            pass
        return heard

    return asyncio.run(watch())


def test_the_table_is_written_by_itself(annotator, tmp_path) -> None:
    """Shortly after an edit, while the server runs."""
    heard = watched(annotator)
    assert heard[0]["unsaved"]
    assert len(Particles.read(tmp_path / "p.parquet")) == 1


def test_a_port_that_is_taken(annotator, tomogram, tmp_path) -> None:
    port = int(annotator.url.split(":")[2].split("/")[0])
    again = {"classes": str(tmp_path / "classes.toml"), "open": False}
    with pytest.raises(SettingsError, match=f"port {port} cannot be used"):
        annotate(tomogram, tmp_path / "other.parquet", port=port, **again)
    with annotate(tomogram, tmp_path / "other.parquet", **again) as second:
        assert second.url != annotator.url, "the output was let go of"
        assert not second.wait(0)
        assert second.url in repr(second)


def test_the_card_is_text(annotator, monkeypatch) -> None:
    monkeypatch.setattr(type(annotator._server.session.tomogram), "name", "<script>&")
    assert "Annotate &lt;script&gt;&amp;</a>" in annotator._repr_html_()


def test_the_page_is_packaged() -> None:
    folder = Path(slabs.__file__).with_name("page")
    names = {one.name for one in folder.iterdir()}
    html = (folder / "index.html").read_text("utf-8")
    assert {"index.html", "annotate.css", "main.js"} <= names
    assert "http" not in html, "nothing is loaded from elsewhere"


def test_a_table_that_cannot_be_written_is_told_of(annotator, tmp_path, monkeypatch) -> None:
    """The page hears it, the edit is kept, and the table follows as soon as it can be written."""
    session = annotator._server.session
    monkeypatch.setattr(serving, "AUTOSAVE", 0.01)
    monkeypatch.setattr(serving, "RETRY", 0.05)
    real, failures = session.save, []

    def save() -> None:
        if len(failures) < 2:
            failures.append(1)
            raise StorageError("p.parquet: cannot be written: No space left on device")
        real()

    monkeypatch.setattr(session, "save", save)
    heard = watched(annotator)
    errors = [one["error"] for one in heard if "error" in one]
    assert len(errors) == 2
    assert all("No space left on device; your edits are safe in the journal" in one for one in errors)
    assert len(Particles.read(tmp_path / "p.parquet")) == 1
