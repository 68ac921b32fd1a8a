"""The browser viewer: neuroglancer on stores that a small local server hands out.

In: a tomogram, label maps, score maps and tables of particles. Out: a page on 127.0.0.1 that reads what is on screen
and no more, and a handle to close it.

::

    showing ──► contents    what there is to show: maps, classes, sets of particles
       │   ├──► states      layers, position, layout ──► layers, shaders, sources
       │   └──► serving     one port: the client, its state, the stores ──► answering, stores, ranges, blocks
       └──────► handle      url, close, a frame in notebooks
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deepfinder_dask.viewing.browser.settings import ViewSettings

if TYPE_CHECKING:
    from deepfinder_dask.viewing.browser.handle import View
    from deepfinder_dask.viewing.browser.showing import view

_HOMES = {"View": "handle", "view": "showing"}

__all__ = ["View", "ViewSettings", "view"]


def __getattr__(name: str) -> Any:
    """Load neuroglancer only when a page is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "neuroglancer":
            raise
        from deepfinder_dask.errors import SettingsError

        raise SettingsError("the viewer needs neuroglancer: pip install 'deepfinder_dask[view]'") from error
