"""Packages that only some kinds of workers need."""

from __future__ import annotations

import importlib.util

from deepfinder_dask.errors import SettingsError


def require(package: str, kind: str, extra: str) -> None:
    """Raise a SettingsError that says what to install where a package is missing."""
    if importlib.util.find_spec(package) is None:
        raise SettingsError(
            f'workers of kind = "{kind}" need {package.replace("_", "-")}, which is not installed: '
            f'pip install "deepfinder_dask[{extra}]"'
        )
