"""The server behind the page: slices out, edits in, the table saved shortly after.

It answers on 127.0.0.1 only, and every path begins with a token that cannot be guessed. One thread answers and edits;
slices are read on others.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import Application, HTTPError, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from deepfinder_dask.errors import DeepFinderError, InputError, SettingsError
from deepfinder_dask.viewing.annotating.asking import apply_request, describe, facts_of_session
from deepfinder_dask.viewing.annotating.session import Session
from deepfinder_dask.viewing.annotating.slabs import SlabReader

HOST = "127.0.0.1"
PAGE = Path(__file__).with_name("page")
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
AUTOSAVE = 1.0
"""Seconds from an edit to the table being written."""
RETRY = 10.0
"""Seconds until the table is written again when that failed."""
READERS = 3
"""Slices that are read at the same time: one for each plane."""
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:"


class AnnotationServer:
    """Serves one session until :meth:`close`, in a thread of its own.

    Parameters
    ----------
    session : Session
        What is annotated; closed with the server.
    port : int
        0 takes a free one.

    Raises
    ------
    SettingsError
        The port is taken.
    FormatError
        The tomogram cannot be shown.
    """

    def __init__(self, session: Session, port: int = 0) -> None:
        self.session = session
        self.slabs = SlabReader(session.tomogram)
        self.token = secrets.token_urlsafe(24)
        self.ended = threading.Event()
        """Set when the page asked to finish."""
        self.pages: set[EditsHandler] = set()
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="slices")
        self._saving: Any = None
        listening = _listen(port)
        self.port = int(listening.getsockname()[1])
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listening, ready), name="annotate", daemon=True)
        self._thread.start()
        ready.wait()

    @property
    def url(self) -> str:
        """Address of the page, for a browser on this machine."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def close(self) -> None:
        """Stop answering, save, and let go of the output.

        Raises
        ------
        StorageError
            The table cannot be written; all edits are in the journal.
        """
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join()
        self.readers.shutdown(wait=True, cancel_futures=True)
        self.session.close()

    # --- in the server's thread ---------------------------------------------------------------------------------

    def _run(self, listening: socket.socket, ready: threading.Event) -> None:
        asyncio.run(self._serve(listening, ready))

    async def _serve(self, listening: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        routes = [
            (r"/([^/]+)/slice", SliceHandler, {"server": self}),
            (r"/([^/]+)/session", SessionHandler, {"server": self}),
            (r"/([^/]+)/edits", EditsHandler, {"server": self}),
            (r"/([^/]+)/([a-z]*\.?[a-z]*)", PageHandler, {"server": self}),
        ]
        application = Application(routes, websocket_ping_interval=20, log_function=_quiet)
        server = HTTPServer(application)
        listening.setblocking(False)
        server.add_socket(listening)
        ready.set()
        await self._stopped.wait()
        server.stop()
        if self._saving is not None:
            IOLoop.current().remove_timeout(self._saving)
        for page in tuple(self.pages):
            page.close(1001, "stopped")
        await server.close_all_connections()

    def edited(self) -> None:
        """Have the table written soon."""
        if self._saving is None:
            self._saving = IOLoop.current().call_later(AUTOSAVE, self._save)

    def _save(self) -> None:
        self._saving = None
        try:
            self.session.save()
        except DeepFinderError as error:
            self.tell({"error": f"{error}; your edits are safe in the journal"})
            self._saving = IOLoop.current().call_later(RETRY, self._save)
        self.tell({"unsaved": self.session.unsaved})

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message to all pages that are open."""
        text = json.dumps(message)
        for page in tuple(self.pages):
            try:
                page.write_message(text)
            except WebSocketClosedError:
                self.pages.discard(page)

    def finish(self) -> None:
        """What the page's button does: save, and end."""
        if self.session.unsaved:
            self._save()
        self.tell({"finished": True})
        self.ended.set()


def _listen(port: int) -> socket.socket:
    """A socket that listens on this machine only."""
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise SettingsError(f"port {port} cannot be used ({error}): choose another with --port") from error


def _quiet(handler: RequestHandler) -> None:
    """Only what went wrong in the server is worth a line."""
    if handler.get_status() >= 500:
        logging.getLogger(__name__).error("%s %s", handler.get_status(), handler.request.method)


class _Guarded(RequestHandler):
    """Answers only who knows the token, and calls this machine by its own name."""

    def initialize(self, server: AnnotationServer) -> None:
        """Take the server that it belongs to."""
        self.server = server

    def prepare(self) -> None:
        """Refuse strangers, also pages of other sites whose name was pointed here."""
        given = str(self.path_args[0]) if self.path_args else ""
        if not hmac.compare_digest(given.encode(), self.server.token.encode()):
            raise HTTPError(404)
        if self.request.host_name not in (HOST, "localhost"):
            raise HTTPError(403)

    def set_default_headers(self) -> None:
        """Nothing is kept, framed by others, or asked for elsewhere."""
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", POLICY)


class PageHandler(_Guarded):
    """The files of the page."""

    def get(self, token: str, name: str) -> None:
        """One of them."""
        file = PAGE / (name or "index.html")
        if file.parent != PAGE or file.suffix not in TYPES or not file.is_file():
            raise HTTPError(404)
        self.set_header("Content-Type", f"{TYPES[file.suffix]}; charset=utf-8")
        self.finish(file.read_bytes())


class SessionHandler(_Guarded):
    """Everything that the page begins with."""

    def get(self, token: str) -> None:
        """As JSON."""
        self.finish(facts_of_session(self.server.session, self.server.slabs))


class SliceHandler(_Guarded):
    """Part of a slice."""

    async def get(self, token: str) -> None:
        """16-bit codes, little-endian, row by row, the lowest first."""
        names = ("axis", "index", "level", "row", "rows", "column", "columns", "slices")
        try:
            asked = {name: int(self.get_query_argument(name)) for name in names}
            if asked["axis"] not in (0, 1, 2):
                raise HTTPError(400)
            codes = await self._in_thread(
                lambda: self.server.slabs.read(
                    asked["axis"],
                    asked["index"],
                    asked["level"],
                    (asked["row"], asked["row"] + asked["rows"]),
                    (asked["column"], asked["column"] + asked["columns"]),
                    asked["slices"],
                )
            )
        except ValueError as error:
            raise HTTPError(400) from error
        except DeepFinderError as error:
            self.set_status(400)
            self.finish(str(error))
            return
        self.set_header("Content-Type", "application/octet-stream")
        if self.get_query_argument("warm", "") == "":
            self.write(codes.astype("<u2", copy=False).tobytes())
        await self.finish()

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await IOLoop.current().run_in_executor(self.server.readers, work)


class EditsHandler(WebSocketHandler):
    """Edits in, what has changed out, to every page that is open."""

    def initialize(self, server: AnnotationServer) -> None:
        """Take the server that it belongs to."""
        self.server = server

    def prepare(self) -> None:
        """As the other paths."""
        _Guarded.prepare(self)  # type: ignore[arg-type]  # both have the server

    def open(self, *words: str) -> None:
        """Another page."""
        self.server.pages.add(self)

    def on_close(self) -> None:
        """A page less."""
        self.server.pages.discard(self)

    def on_message(self, message: str | bytes) -> None:
        """Do what the page asks for, and tell all pages."""
        session = self.server.session
        try:
            asked = json.loads(message)
            if not isinstance(asked, dict):
                raise InputError("expected an object")
            if asked.get("do") == "finish":
                self.server.finish()
                return
            edit = apply_request(session, asked)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            self.write_message(json.dumps({"error": f"not understood: {error}"}))
            return
        except DeepFinderError as error:
            # The page may show what it asked for already: it is told how things are.
            particle = asked.get("particle") if isinstance(asked, dict) else None
            truth = describe(session, [particle]) if isinstance(particle, int) else {}
            self.write_message(json.dumps({"error": str(error), **truth}))
            return
        if edit is not None:
            told = describe(session, [edit.particle])
            self.server.tell(told)
            self.write_message(json.dumps({"did": asked["do"], "particle": edit.particle}))
            if session.unsaved:
                self.server.edited()
