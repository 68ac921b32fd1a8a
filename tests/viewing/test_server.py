"""The server of stores: parts of files to whoever has the token, and nothing beside them."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfinder_dask.errors import FormatError, SettingsError
from deepfinder_dask.viewing.browser.ranges import Unsatisfiable, parse_range

pytest.importorskip("neuroglancer", reason="needs neuroglancer: pip install 'deepfinder_dask[view]'")

from deepfinder_dask.viewing.browser import answering
from deepfinder_dask.viewing.browser.serving import PageServer

CONTENT = bytes(range(256)) * 40
SECRET = b"not of the store"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a shard, links inside and out, and a neighbour that is nobody's business."""
    folder = tmp_path_factory.mktemp("served")
    store = folder / "cell.zarr"
    (store / "0" / "c").mkdir(parents=True)
    (store / "zarr.json").write_text('{"zarr_format": 3}')
    (store / "0" / "c" / "1").write_bytes(CONTENT)
    (store / ".ledger").mkdir()
    (store / ".ledger" / "plan.json").write_bytes(SECRET)
    (folder / "secret").write_bytes(SECRET)
    (folder / "cell.zarr-other").mkdir()
    (folder / "cell.zarr-other" / "zarr.json").write_bytes(SECRET)
    (store / "leak").symlink_to(folder / "secret")
    (store / "leaks").symlink_to(folder)
    (store / "again").symlink_to(store / "0")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[PageServer]:
    server = PageServer.start()
    server.serve_store("tomogram", folder / "cell.zarr")
    server.serve_document("names/info", {"a": "ä"})
    yield server
    server.close()


def ask(
    server: PageServer, path: str, method: str = "GET", token: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in small letters) and body; the path goes out exactly as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    token = server.store_token if token is None else token
    connection.putrequest(method, f"/stores/{token}/{path}", skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def test_whole_files_and_metadata(server: PageServer) -> None:
    status, headers, body = ask(server, "tomogram/0/c/1")
    assert (status, body) == (200, CONTENT)
    assert headers["content-length"] == str(len(CONTENT))
    assert headers["accept-ranges"] == "bytes"
    assert headers["access-control-allow-origin"] == "*"
    status, headers, body = ask(server, "tomogram/zarr.json")
    assert (status, json.loads(body), headers["content-type"]) == (200, {"zarr_format": 3}, "application/json")
    assert ask(server, "tomogram/again/c/1")[2] == CONTENT  # a link within the store


def test_documents_come_from_memory(server: PageServer) -> None:
    status, headers, body = ask(server, "names/info")
    assert (status, json.loads(body), headers["content-type"]) == (200, {"a": "ä"}, "application/json")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=100-299", 100, 300), ("bytes=10000-", 10000, None), ("bytes=-7", -7, None)],
)
def test_ranges(server: PageServer, monkeypatch: pytest.MonkeyPatch, asked: str, start: int, stop: int | None) -> None:
    monkeypatch.setattr(answering, "PIECE", 64)  # several pieces for each
    status, headers, body = ask(server, "tomogram/0/c/1", Range=asked)
    expected = CONTENT[start:stop]
    first = start % len(CONTENT)
    assert (status, body) == (206, expected)
    assert headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(CONTENT)}"
    assert headers["content-length"] == str(len(expected))


@pytest.mark.parametrize("asked", ["bytes=99999-", "bytes=5-4", "bytes=0-1,4-5", "bytes=-", "lines=1-2", "bytes=-0"])
def test_ranges_that_cannot_be(server: PageServer, asked: str) -> None:
    status, headers, body = ask(server, "tomogram/0/c/1", Range=asked)
    assert status == 416
    assert headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert CONTENT[:16] not in body


@given(st.integers(0, 50), st.integers(-3, 60), st.integers(-3, 60))
def test_a_range_is_that_of_a_slice(size: int, a: int, b: int) -> None:
    data = bytes(range(size))
    words = f"bytes={a}-{b}" if a >= 0 and b >= 0 else f"bytes={a}-" if a >= 0 else f"bytes={a}"
    expected = data[a : b + 1] if a >= 0 and b >= 0 else data[a:]
    try:
        found = parse_range(words, size)
    except Unsatisfiable:
        assert expected == b""
    else:
        assert found is not None
        assert data[slice(*found)] == expected


def test_head_says_the_size_and_sends_nothing(server: PageServer) -> None:
    status, headers, body = ask(server, "tomogram/0/c/1", "HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(CONTENT)), b"")


def test_a_page_of_another_origin_may_ask_for_ranges(server: PageServer) -> None:
    status, headers, _ = ask(server, "tomogram/0/c/1", "OPTIONS", Origin="http://localhost:1")
    assert status == 204
    assert headers["access-control-allow-origin"] == "*"
    assert "Range" in headers["access-control-allow-headers"]
    assert "Content-Range" in headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "path",
    [
        "tomogram/../secret",
        "tomogram/0/../../secret",
        "tomogram/%2e%2e/secret",
        "tomogram/..%2fsecret",
        "tomogram/%2e%2e%2fsecret",
        "tomogram/..%5csecret",
        "tomogram/0/./c/1",
        "tomogram//etc/passwd",
        "tomogram/%2fetc/passwd",
        "tomogram/leak",
        "tomogram/leaks/secret",
        "tomogram/leaks/cell.zarr-other/zarr.json",
        "tomogram/.ledger/plan.json",
        "tomogram/zarr.json%00",
        "tomogram/file:/etc/passwd",
        "tomogram/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_outside_the_store(server: PageServer, path: str, method: str) -> None:
    status, _, body = ask(server, path, method)
    assert status == 403
    assert SECRET not in body


@pytest.mark.parametrize(
    "path",
    ["tomogram", "tomogram/0", "tomogram/0/c/2", "other/zarr.json", "", "..", "../secret", "%252e%252e/secret",
     "tomogram/%252e%252e/secret", "tomogram-other/zarr.json"],
)  # fmt: skip
def test_what_is_not_there(server: PageServer, path: str) -> None:
    assert ask(server, path)[0] in (403, 404)


def test_links_in_a_circle_are_not_there(server: PageServer, folder: Path) -> None:
    (folder / "cell.zarr" / "round").symlink_to(folder / "cell.zarr" / "about")
    (folder / "cell.zarr" / "about").symlink_to(folder / "cell.zarr" / "round")
    assert ask(server, "tomogram/round")[0] == 404


def test_the_token_is_needed(server: PageServer) -> None:
    assert len(server.store_token) >= 43  # 256 random bits
    for token in ("", "x", server.store_token[:-1], server.token, "%00", "ä".encode().hex()):
        for method in ("GET", "HEAD", "OPTIONS"):
            assert ask(server, "tomogram/zarr.json", method, token)[0] in (403, 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(server: PageServer, method: str) -> None:
    assert ask(server, "tomogram/zarr.json", method)[0] == 405


def test_only_this_machine_is_answered(server: PageServer) -> None:
    """The socket is bound to loopback: other addresses of this machine refuse."""
    listening = [one.getsockname()[0] for one in server.http_server._sockets.values()]
    assert listening == ["127.0.0.1"]


def test_the_page_needs_its_own_token(server: PageServer) -> None:
    page = server.open_page()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for path, status in ((urlsplit(page.url).path, 200), ("/v/guess/", 404), ("/", 404), ("/state/guess", 404)):
        connection.request("POST" if "state" in path else "GET", path, body=b"{}" if "state" in path else None)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == status, path
        assert (b"<html" in body.lower()) == (status == 200) or status != 200
    connection.close()


def test_a_store_behind_fsspec_is_read_for_the_page(server: PageServer) -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/far/cell.zarr/0/c/1", CONTENT)
    files.pipe("/far/secret", SECRET)
    server.serve_store("far", "memory://far/cell.zarr")
    assert ask(server, "far/0/c/1", Range="bytes=250-259")[2] == CONTENT[250:260]
    assert ask(server, "far/0/c/2")[0] == 404
    assert ask(server, "far/../secret")[0] == 403


def test_a_name_stands_for_one_store(server: PageServer, folder: Path) -> None:
    server.serve_store("tomogram", folder / "cell.zarr")
    with pytest.raises(FormatError, match="not taken"):
        server.serve_store("tomogram", folder)


def test_a_closed_server_answers_no_more_and_its_port_is_free(folder: Path) -> None:
    server = PageServer.start()
    server.serve_store("tomogram", folder / "cell.zarr")
    port = server.port
    with pytest.raises(SettingsError, match=f"port {port} cannot be used"):
        PageServer.start(port)
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    again = PageServer.start(port)
    again.close()
