"""A campaign that is under way: how far it is, for a terminal, a notebook or a program, and how to stop it."""

from __future__ import annotations

import html
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepfinder_dask.campaigns.running.results import CampaignResult
from deepfinder_dask.campaigns.running.watching import Board


class Campaign:
    """Handle of a campaign that runs in the background.

    Parameters
    ----------
    name : str
        What it is called.
    folder : Path
        Where everything is left.
    board : Board
        Where it stands.
    """

    def __init__(self, name: str, folder: Path, board: Board) -> None:
        self.name, self.folder, self.board = name, folder, board
        self._result: CampaignResult | None = None
        self._error: BaseException | None = None
        self._over = threading.Event()
        self._stop = threading.Event()

    @property
    def running(self) -> bool:
        """Whether it is under way."""
        return not self._over.is_set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End it at the next block; the same call goes on later."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is over, or so long; whether it is over."""
        return self._over.wait(seconds)

    def result(self, seconds: float | None = None) -> CampaignResult:
        """Wait until it is over, and say what it has come to.

        Raises
        ------
        TimeoutError
            If it is still under way after so many seconds.
        DeepFinderError
            What ended it before its end.
        KeyboardInterrupt
            If it was stopped.
        """
        if not self._over.wait(seconds):
            raise TimeoutError(f"the campaign {self.name} is still under way")
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise KeyboardInterrupt
        return self._result

    @property
    def progress(self) -> Mapping[str, Any]:
        """How far it is: ``total``, ``counts`` by state, ``blocks`` done, and ``running``, tomograms under way."""
        return self.board.to_dict()

    def states(self) -> dict[str, str]:
        """State of every tomogram by its name, as its file says."""
        from deepfinder_dask.campaigns.running.states import TomogramState

        folders = sorted(one for one in (self.folder / "tomograms").glob("*") if one.is_dir())
        return {one.name: TomogramState.read(one, one.name, "").state for one in folders}

    def finish(self, result: CampaignResult | None, error: BaseException | None) -> None:
        """It is over; for the thread that runs it."""
        self._result, self._error = result, error
        self._over.set()

    def __repr__(self) -> str:
        facts = self.board.to_dict()
        counts = ", ".join(f"{count} {state}" for state, count in facts["counts"].items()) or "none done yet"
        how = "running" if self.running else "over"
        return f"<Campaign {self.name}: {how}, {counts} of {facts['total']}>"

    def _repr_html_(self) -> str:
        facts = self.board.to_dict()
        rows = "".join(
            f"<tr><td>{html.escape(one['tomogram'])}</td><td>{html.escape(one['stage'])}</td>"
            f"<td>{one['done']}/{one['total']}</td></tr>"
            for one in facts["running"]
        )
        head = html.escape(repr(self)[1:-1])
        table = f"<table><tr><th>tomogram</th><th>stage</th><th>blocks</th></tr>{rows}</table>" if rows else ""
        return f"<div><b>{head}</b>{table}</div>"
