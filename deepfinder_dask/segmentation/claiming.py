"""Taking hold of an output: a new store, or the unfinished one that an interrupted run of the same work left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepfinder_dask.execution import Ledger
from deepfinder_dask.segmentation.store import ledger_of
from deepfinder_dask.tomograms import create_group, read_attributes
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
def claim(path: str, *, resume: bool, facts: Mapping[str, Any]) -> Iterator[Ledger]:
    """Hold an output against other processes, and make it ready.

    Parameters
    ----------
    path : str
        The output; what may not be replaced has been refused before (:func:`begun_at`).
    resume : bool
        Go on with what is there; otherwise it is removed.
    facts : mapping
        Attributes of a new store.

    Raises
    ------
    OutputExistsError
        If another process is at work in it.
    """
    ledger = ledger_of(path)
    if resume:
        with ledger.lock():
            if not is_remote(path):
                for half in Path(path).rglob("*.partial"):  # files that a kill left unrenamed
                    half.unlink(missing_ok=True)
            yield ledger
        return
    if exists(path):
        with ledger.lock():  # nobody may be at work in what is removed
            create_group(path, kind="segmentation", overwrite=True, attributes=facts)
    else:
        create_group(path, kind="segmentation", attributes=facts)
    with ledger.lock():
        yield ledger
