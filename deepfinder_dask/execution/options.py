"""Settings from keyword options: what lets a notebook call a verb without naming its dataclass."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from deepfinder_dask.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


def options_to_settings(kind: type[S], settings: S | None, options: Mapping[str, Any]) -> S:
    """The settings given, or the defaults, with single options replaced.

    Parameters
    ----------
    kind : type
        A frozen dataclass of settings.
    settings : optional
        An instance of it.
    options : mapping
        Values by name of field.

    Raises
    ------
    SettingsError
        If an option is no field of the settings; the nearest name is suggested.
    """
    names = [field.name for field in fields(kind)]
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise SettingsError(f"unknown option {name!r}: {hint}")
    base = kind() if settings is None else settings
    return replace(base, **options)
