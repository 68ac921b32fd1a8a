"""Taking hold of an output: a new store, or the unfinished one that an interrupted run of the same work left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import InputError
from deepfinder_dask.execution import Ledger
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
        Attributes of the store, with the ``token`` of this work.

    Raises
    ------
    OutputExistsError
        If meanwhile the output was finished, and may not be replaced.
    InputError
        If another process is, or meanwhile was, at work in it.
    """
    ledger = ledger_of(path)
    if begun is None and not exists(path):
        create_group(path, kind="segmentation")
    with ledger.lock():
        if begun_at(path, overwrite=overwrite) != begun:
            raise InputError(f"another process has been at work in {path} meanwhile: run the same command again")
        if begun is not None:
            write_attributes(path, facts)
            if not is_remote(path):
                for half in Path(path).rglob("*.partial"):  # files that a kill left unrenamed
                    half.unlink(missing_ok=True)
            yield ledger
            return
        ledger.clear()  # before anything else: a store that is half removed must not be gone on with
        create_group(path, kind="segmentation", overwrite=True, attributes=facts)
    with ledger.lock():  # the file that was locked is gone with all others
        if read_attributes(path).get("token") != facts["token"]:
            raise InputError(f"another process is at work in {path}: wait until it ends, or choose another output")
        yield ledger
