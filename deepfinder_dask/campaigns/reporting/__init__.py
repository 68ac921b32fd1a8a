"""Reporting: a campaign's folder in, one page that a scientist opens without a server out.

In: states, provenance, particles, evaluations and stores of a campaign's tomograms. Out: ``report.html`` with totals,
a table, pictures, distributions, outliers in words, failures with their reasons, settings and versions::

    tomograms/NAME ──> states ──> digests (a few kB each, kept beside the tomogram) ──> outliers, charts ──> page
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.campaigns.reporting.settings import ReportSettings

if TYPE_CHECKING:
    from deepfinder_dask.campaigns.reporting.verb import write_report

_HOMES = {"write_report": "verb"}

__all__ = ["ReportSettings", "write_report"]


def __getattr__(name: str) -> Any:
    """Load what needs NumPy and Jinja only when asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
