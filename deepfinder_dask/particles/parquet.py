"""Particles in Parquet: the table as columns, tomograms and classes as JSON in the file's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from deepfinder_dask.errors import FormatError, InputError
from deepfinder_dask.particles.classes import classes_from_dicts, classes_to_dicts
from deepfinder_dask.particles.facts import TomogramFacts
from deepfinder_dask.particles.files import atomic_write, existing_file

if TYPE_CHECKING:
    from deepfinder_dask.particles.table import Particles

METADATA_KEY = b"deepfinder"
"""Key of our JSON in the schema metadata."""
VERSION = 1
"""Version of that JSON; readers refuse a newer one."""


def metadata(particles: Particles) -> dict[str, Any]:
    """What the table itself cannot hold, as plain values for JSON."""
    return {
        "version": VERSION,
        "kind": "particles",
        "tomograms": {name: facts.to_dict() for name, facts in particles.tomograms.items()},
        "classes": classes_to_dicts(particles.classes),
    }


def write_parquet(particles: Particles, path: str | Path) -> None:
    """Write particles as Parquet: a temporary file, renamed when whole.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    table = pa.Table.from_pandas(particles.table, preserve_index=False)
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if key != METADATA_KEY}
    ours = json.dumps(metadata(particles), ensure_ascii=False).encode()
    table = table.replace_schema_metadata({**kept, METADATA_KEY: ours})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_parquet(path: str | Path) -> Particles:
    """Read particles from Parquet.

    A file without our metadata is read too, if its columns are those of a table of particles; voxel sizes are then
    unknown.

    Raises
    ------
    InputError
        There is no such file.
    FormatError
        Not Parquet, damaged, written by a newer version, or not a table of particles.
    """
    from deepfinder_dask.particles.table import Particles

    path = existing_file(path, "a Parquet file of particles")
    try:
        names = pq.read_schema(path).names
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise FormatError(f"{path}: column {twice[0]!r} stands there twice")
        arrow = pq.read_table(path)
        table = arrow.to_pandas()
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).split("\n")[0]
        raise FormatError(f"{path}: not a whole Parquet file: {reason}") from error
    try:
        raw = (arrow.schema.metadata or {}).get(METADATA_KEY, b"{}")
        ours = json.loads(raw)
        if ours.get("version", 1) > VERSION:
            raise FormatError(f"written by a newer version (format {ours['version']}, known up to {VERSION}): update")
        tomograms = {name: TomogramFacts.from_dict(facts) for name, facts in ours.get("tomograms", {}).items()}
        classes = classes_from_dicts(ours.get("classes", []))
        return Particles(table, tomograms, classes)
    except InputError as error:
        raise FormatError(f"{path}: {error}") from error
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise FormatError(f"{path}: its metadata {METADATA_KEY.decode()!r} is damaged: {error}") from error
