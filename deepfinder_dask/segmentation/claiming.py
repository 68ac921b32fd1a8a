"""Taking hold of an output: a new store, or the unfinished one that an interrupted run of the same work left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import InputError
from deepfinder_dask.execution import Ledger, hold
from deepfinder_dask.segmentation.store import ledger_of
from deepfinder_dask.tomograms import create_group, read_attributes, write_attributes
from deepfinder_dask.tomograms.location import exists, is_remote
from deepfinder_dask.tomograms.storage import check_output


def begun_at(path: str, *, overwrite: bool) -> Mapping[str, Any] | None:
    """What the ledger at an output says of work that can be resumed; None where work begins anew.

    Raises
    ------
    OutputExistsError
        If the output exists and may not be replaced.
    """
    check_output(path, kind="segmentation", overwrite=overwrite)
    if overwrite or not exists(path) or read_attributes(path).get("state") != "writing":
        return None
    return ledger_of(path).plan()


@contextmanager
def claim(path: str, begun: Mapping[str, Any] | None, *, overwrite: bool, facts: Mapping[str, Any]) -> Iterator[Ledger]:
    """Hold an output against other processes, and make it ready.

    Parameters
    ----------
    path : str
        The output.
    begun : mapping or None
        What was found there before (:func:`begun_at`), to go on with; None removes what is there.
    overwrite : bool
        As for :func:`begun_at`: much may have happened there since.
    facts : mapping
        Attributes of the store.

    Raises
    ------
    OutputExistsError
        If meanwhile the output was finished, and may not be replaced.
    InputError
        If another process is, or meanwhile was, at work in it.
    """
    with _held(path):
        if begun_at(path, overwrite=overwrite) != begun:
            raise InputError(f"another process has been at work in {path} meanwhile: run the same command again")
        ledger = ledger_of(path)
        if begun is None:
            ledger.clear()  # first: a store that is half removed must not be gone on with
            create_group(path, kind="segmentation", overwrite=overwrite, attributes=facts)
        else:
            write_attributes(path, facts)
            if not is_remote(path):
                for half in Path(path).rglob("*.partial"):  # files that a kill left unrenamed
                    half.unlink(missing_ok=True)
        yield ledger


def _held(path: str) -> AbstractContextManager[None]:
    """Keep other processes out of a store: by a file beside it, since all that is in it may go. URLs have no locks."""
    return nullcontext() if is_remote(path) else hold(Path(path).with_name(f".{Path(path).name}.lock"), path)
