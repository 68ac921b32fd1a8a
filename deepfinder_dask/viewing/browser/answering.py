"""Answers of the server: parts of the files of stores, to any page that knows the token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from secrets import compare_digest
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from deepfinder_dask.viewing.browser.ranges import Unsatisfiable, parse_range
from deepfinder_dask.viewing.browser.stores import Refused, Served, Stores

PIECE = 2**20
"""Bytes read and sent at a time: what an answer needs of memory, whatever the size of the file."""


class StoreHandler(RequestHandler):
    """``/stores/TOKEN/NAME/KEY``: GET and HEAD, whole or one range; anything else is refused."""

    SUPPORTED_METHODS = ("GET", "HEAD", "OPTIONS")

    def initialize(self, stores: Stores, token: str, threads: Executor) -> None:
        """Take what the server hands to each request."""
        self.stores, self.token, self.threads = stores, token, threads

    def set_default_headers(self) -> None:
        """Let pages of other origins read: whoever has the token may."""
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        self.set_header("Access-Control-Allow-Headers", "Range")
        self.set_header("Access-Control-Expose-Headers", "Accept-Ranges, Content-Length, Content-Range")
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.clear_header("Server")

    def compute_etag(self) -> None:
        """No hash of what was sent."""

    def options(self, token: str, path: str) -> None:
        """What a browser asks before a request with a range."""
        self._check(token)
        self.set_status(204)

    async def head(self, token: str, path: str) -> None:
        """Size of a file."""
        await self._answer(token, path, body=False)

    async def get(self, token: str, path: str) -> None:
        """A file, or a range of it."""
        await self._answer(token, path, body=True)

    def _check(self, token: str) -> None:
        if not compare_digest(token.encode(), self.token.encode()):
            raise HTTPError(404)

    async def _answer(self, token: str, path: str, *, body: bool) -> None:
        self._check(token)
        kind, content = self.stores.documents.get(path, ("application/octet-stream", None))
        if content is None:
            content = await self._in_thread(self.stores.make, path)
        if content is not None:
            self.set_header("Content-Type", kind)
            self.set_header("Content-Length", str(len(content)))
            if body:
                self.write(content)
            return
        file: Served = await self._in_thread(self.stores.find, path)
        try:
            part = parse_range(self.request.headers.get("Range"), file.size)
        except Unsatisfiable:
            self.set_status(416)
            self.set_header("Content-Range", f"bytes */{file.size}")
            return
        start, stop = part or (0, file.size)
        if part is not None:
            self.set_status(206)
            self.set_header("Content-Range", f"bytes {start}-{stop - 1}/{file.size}")
        json = path.endswith((".json", ".zattrs", ".zarray", ".zgroup", ".zmetadata"))
        self.set_header("Content-Type", "application/json" if json else "application/octet-stream")
        self.set_header("Content-Length", str(stop - start))
        if body:
            await self._send(file, start, stop)

    async def _in_thread(self, function: Callable[[str], Any], path: str) -> Any:
        """Look something up, off the thread that answers."""
        try:
            return await asyncio.wrap_future(self.threads.submit(function, path))
        except Refused as error:
            raise HTTPError(403) from error
        except OSError as error:
            raise HTTPError(403 if isinstance(error, PermissionError) else 404) from error

    async def _send(self, file: Served, start: int, stop: int) -> None:
        """Send bytes piece by piece; the next is read when the one before has left."""
        while start < stop:
            try:
                piece = await asyncio.wrap_future(self.threads.submit(file.read, start, min(stop, start + PIECE)))
                self.write(piece)
                await self.flush()
            except StreamClosedError:
                return  # the page has moved on
            if not piece:
                raise HTTPError(500, "the file became shorter")
            start += len(piece)


class NoIcon(RequestHandler):
    """Browsers ask every server for an icon; an answer keeps their consoles free of errors."""

    def get(self) -> None:
        """There is none."""
        self.set_status(204)
