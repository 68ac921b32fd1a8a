"""The server behind a page: neuroglancer's client, the state of its viewers, and the stores they show.

It answers on 127.0.0.1 only, and every path holds a token that cannot be guessed. One port serves all, so that one
tunnel (``ssh -L PORT:localhost:PORT``) is enough to look at what lies on another machine.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import neuroglancer
from neuroglancer.server import Server
from neuroglancer.viewer_base import ViewerBase

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.tomograms.location import AnyPath
from deepfinder_dask.viewing.browser.answering import NoIcon, StoreHandler
from deepfinder_dask.viewing.browser.stores import Stores

HOST = "127.0.0.1"
THREADS = 8
"""Files that are read at the same time."""


class PageServer(Server):  # type: ignore[misc]  # untyped
    """Serves pages of neuroglancer and the stores they read; runs in a thread of its own until :meth:`close`.

    Parameters
    ----------
    port : int
        0 takes a free one.

    Raises
    ------
    SettingsError
        The port is taken.
    """

    def __init__(self, port: int = 0) -> None:
        self.stores = Stores()
        self.store_token = secrets.token_urlsafe(32)
        self._readers = ThreadPoolExecutor(THREADS, thread_name_prefix="stores")
        super().__init__(bind_address=HOST, bind_port=port, token=secrets.token_hex(20))

    @classmethod
    def start(cls, port: int = 0) -> PageServer:
        """A running server, or one clear error."""
        try:
            _try_port(port)  # tornado leaves a socket behind where it fails
            return cls(port)
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"port {port} cannot be used ({error}): choose another with --port, or leave it out"
            ) from error

    def _attempt_to_start_server(self) -> None:
        super()._attempt_to_start_server()
        facts = {"stores": self.stores, "token": self.store_token, "threads": self._readers}
        self.app.add_handlers(".*", [(r"/stores/([^/]+)/(.*)", StoreHandler, facts), (r"/favicon\.ico", NoIcon)])

    @property
    def address(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{HOST}:{self.port}"

    def serve_store(self, name: str, path: AnyPath) -> str:
        """Serve a store; its URL, without a slash at the end.

        Parameters
        ----------
        name : str
            Where it appears, such as "tomogram".
        path : str or path
            Local, or any fsspec URL: this process then reads it for the page.
        """
        self.stores.add(name, path)
        return self.address_of(name)

    def serve_document(self, path: str, content: bytes | dict[str, Any]) -> str:
        """Serve bytes, or a mapping as JSON, under a path such as ``names/info``; its URL."""
        if isinstance(content, bytes):
            self.stores.documents[path] = ("application/octet-stream", content)
        else:
            self.stores.documents[path] = ("application/json", json.dumps(content).encode())
        return self.address_of(path)

    def serve_made(self, name: str, function: Callable[[str], bytes]) -> str:
        """Serve what a function makes of each key under a name; the URL of the name.

        The function runs in several threads, and raises FileNotFoundError for keys it does not know.
        """
        self.stores.made[name] = function
        return self.address_of(name)

    def address_of(self, path: str) -> str:
        """URL of a store, document or function by its name."""
        return f"{self.address}/stores/{self.store_token}/{path}"

    def open_page(self, state: neuroglancer.ViewerState | None = None) -> Page:
        """A viewer with a page of its own."""
        page = Page(self)
        if state is not None:
            page.set_state(state)
        return page

    def close(self) -> None:
        """Stop answering; pages that are open stay as they are and get no more data."""
        self.stop()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self.executor.shutdown(wait=False)


class Page(ViewerBase):  # type: ignore[misc]  # untyped
    """The state of one viewer, shared with the browser: what is changed here shows there, and the other way round."""

    def __init__(self, server: PageServer) -> None:
        self.server = server
        super().__init__(token=secrets.token_hex(20), allow_credentials=False)
        server.viewers[self.token] = self

    @property
    def url(self) -> str:
        """Address to open in a browser on this machine."""
        return f"{self.server.address}/v/{self.token}/"

    def defer_callback(self, callback: Any, *words: Any, **named: Any) -> None:
        """Run a function in the thread of the server."""
        self.server.loop.call_soon_threadsafe(lambda: callback(*words, **named))


def _try_port(port: int) -> None:
    """Take a port and let go of it; an OSError where that cannot be."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((HOST, port))
