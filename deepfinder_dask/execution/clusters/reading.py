"""The table ``[workers]`` read: settings, or one line that names the key that cannot work."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution.clusters.settings import (
    KINDS,
    GpuWorkers,
    MixedWorkers,
    SchedulerWorkers,
    WorkersTable,
)

TYPES: dict[str, tuple[type, str]] = {
    "int": (int, "a whole number"),
    "str": (str, "words in quotes"),
    "bool": (bool, "true or false"),
}


def read_workers(table: Mapping[str, Any], name: str = "workers") -> WorkersTable:
    """Settings of workers from a table of a TOML file.

    Parameters
    ----------
    table : mapping
        As TOML gives it: ``kind`` and the fields of its dataclass.
    name : str
        What the table is called in errors.

    Returns
    -------
    LocalWorkers, SchedulerWorkers, SshWorkers, SlurmWorkers, LsfWorkers, PbsWorkers, GpuWorkers or MixedWorkers

    Raises
    ------
    SettingsError
        If a key is missing, unknown or has a value that cannot work.
    """
    values = dict(table)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise SettingsError(f"{name}.kind: expected one of {', '.join(KINDS)}, got {_shown(kind)}{_near(kind, KINDS)}")
    settings = KINDS[kind]
    if settings is MixedWorkers:
        return _read_mixed(values, name)
    known = {field.name: field for field in fields(settings)}
    for key in values:
        if key not in known:
            raise SettingsError(f"{name}.{key}: no key of kind = {kind!r}{_near(key, known)}")
    for key, field in known.items():
        if field.default is MISSING and key not in values:
            raise SettingsError(f"{name}.{key}: kind = {kind!r} needs it, found none")
        if key in values:
            values[key] = _value(f"{name}.{key}", str(field.type), values[key])
    try:
        return settings(**values)
    except SettingsError as error:
        raise SettingsError(str(error).replace("workers.", f"{name}.", 1)) from None


def _read_mixed(values: Mapping[str, Any], name: str) -> MixedWorkers:
    groups = {}
    for key in ("cpu", "gpu"):
        group = values.get(key)
        if not isinstance(group, Mapping):
            raise SettingsError(f"{name}.{key}: expected a table [{name}.{key}], got {_shown(group)}")
        read = read_workers({"gpu": True, **group} if _may_have_gpu(key, group) else group, f"{name}.{key}")
        if isinstance(read, MixedWorkers | SchedulerWorkers):
            raise SettingsError(f"{name}.{key}.kind: expected workers that are started, got {read.kind!r}")
        groups[key] = read
    for key in values:
        if key not in groups:
            raise SettingsError(f"{name}.{key}: no key of kind = 'mixed', which has [{name}.cpu] and [{name}.gpu]")
    return MixedWorkers(**groups)


def _may_have_gpu(key: str, group: Mapping[str, Any]) -> bool:
    """Whether a table of GPU workers need not say that they have GPUs."""
    kind = KINDS.get(str(group.get("kind")))
    return key == "gpu" and kind not in (None, GpuWorkers) and any(field.name == "gpu" for field in fields(kind))


def _value(key: str, type_name: str, value: Any) -> Any:
    if type_name.startswith("tuple"):
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise SettingsError(f"{key}: expected a list of words in quotes, got {_shown(value)}")
        return tuple(value)
    kind, words = TYPES[type_name.partition(" ")[0]]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SettingsError(f"{key}: expected {words}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return "none" if value is None else repr(value)


def _near(word: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), known, n=1)
    return f": did you mean {near[0]!r}?" if near else ""
