"""Tables of a TOML file as settings of verbs: every key is a field of a dataclass, with the same name and meaning."""

from __future__ import annotations

import difflib
import types
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution.sizes import to_bytes
from deepfinder_dask.execution.toml_files import KeyedError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")

BYTES = ("memory", "free_disk")
"""Fields that are numbers of bytes, and may be written like 8GiB."""


def settings_of(
    kind: type[S], table: Mapping[str, Any], name: str, refused: Mapping[str, str], extra: Collection[str] = ()
) -> S:
    """Settings from a table of a TOML file.

    Parameters
    ----------
    kind : type
        A frozen dataclass.
    table : mapping
        Values by key.
    name : str
        Name of the table, for messages; empty for the top of the file.
    refused : mapping
        Fields that have no place here, and what to do instead.
    extra : collection of str
        Keys of the table that are no fields, and are read elsewhere.

    Raises
    ------
    KeyedError
        A key is unknown, has no place here, is missing, or has a value that cannot work; it names key and table.
    """
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.name not in refused]
    where = f" in [{name}]" if name else ""
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in extra:
            continue
        if key in refused:
            raise KeyedError(f"{key} has no place{where}: {refused[key]}", key, name)
        if key not in known:
            near = difflib.get_close_matches(key, [*known, *extra], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted([*known, *extra]))}"
            raise KeyedError(f"unknown key {key!r}{where}: {hint}", key, name)
        values[key] = converted(key, value, hints[key], name)
    for field in fields(kind):
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise KeyedError(f"expected a key {field.name!r}{where}, found none", "", name)
    try:
        return kind(**values)
    except SettingsError as error:
        key = next((key for key in values if key in str(error)), "")
        raise KeyedError(f"{error}", key, name) from error


def converted(key: str, value: Any, hint: Any, name: str = "") -> Any:
    """A TOML value as the type of a field.

    Raises
    ------
    KeyedError
        If it is of another type.
    """
    if key in BYTES and isinstance(value, str):
        try:
            return to_bytes(value)
        except ValueError as error:
            raise KeyedError(f"{key}: {error}", key, name) from error
    found = _fit(value, hint)
    if found is None:
        where = f" in [{name}]" if name else ""
        raise KeyedError(f"{key}{where} must be {_words(hint)}, got {value!r}", key, name)
    return found


def _fit(value: Any, hint: Any) -> Any:
    """The value as the type, None where it does not fit; TOML has no null."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return next((found for one in get_args(hint) if (found := _fit(value, one)) is not None), None)
    if origin is Literal:
        return value if value in get_args(hint) and not isinstance(value, bool) else None
    if origin is tuple:
        kinds = get_args(hint)
        if not isinstance(value, list) or (kinds[-1] is not ... and len(kinds) != len(value)):
            return None
        each = [_fit(v, kinds[0] if kinds[-1] is ... else kind) for v, kind in _paired(value, kinds)]
        return None if any(v is None for v in each) else tuple(each)
    if origin is dict or hint is dict:
        return dict(value) if isinstance(value, Mapping) else None
    if hint is bool:
        return value if isinstance(value, bool) else None
    if hint is float:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if hint is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    if hint is str:
        return value if isinstance(value, str) else None
    return value if hint is Any else None


def _paired(values: list[Any], kinds: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    return [(value, kinds[0] if kinds[-1] is ... else kinds[i]) for i, value in enumerate(values)]


def _words(hint: Any) -> str:
    """A type, for people."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(one) for one in get_args(hint) if one is not type(None))
    if origin is Literal:
        return " or ".join(repr(word) for word in get_args(hint))
    if origin is tuple:
        kinds = get_args(hint)
        return "a list" if kinds[-1] is ... else f"a list of {len(kinds)}"
    if origin is dict or hint is dict:
        return "a table"
    return {bool: "true or false", float: "a number", int: "a whole number", str: "text in quotes"}.get(hint, str(hint))
