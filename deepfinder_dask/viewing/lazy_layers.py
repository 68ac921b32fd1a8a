"""Layers for napari: lazy Dask arrays of every pyramid level, in Å, for those who prefer it to the browser.

napari is no dependency: :func:`layer_data` gives what its layers are made of, and :func:`napari_layers` makes them.
napari, like this package, has the centre of voxel ``i`` at ``i * scale + translate``, axes z, y, x.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.particles import Particles
from deepfinder_dask.tomograms import Tomogram, VoxelSize
from deepfinder_dask.viewing.browser.contents import open_labels, read_sets
from deepfinder_dask.viewing.browser.settings import ViewSettings
from deepfinder_dask.viewing.marks import marks_of

if TYPE_CHECKING:
    from deepfinder_dask.particles import ParticleClass
    from deepfinder_dask.tomograms import Volume

LayerData = tuple[Any, dict[str, Any], str]
"""What napari calls layer data: values, the arguments of the layer, and its kind."""


def napari_layers(
    tomogram: str | Path | Tomogram,
    particles: str | Path | Particles | Sequence[str | Path | Particles] | None = None,
    *,
    labels: str | None = None,
) -> list[Any]:
    """Layers of napari, ready for ``viewer.add_layer``.

    Parameters
    ----------
    tomogram
        OME-Zarr or plain Zarr, also a URL.
    particles
        Tables or files of particles in any readable format.
    labels
        Segmentation, target, instance map, or any Zarr label map of the tomogram's shape.

    Returns
    -------
    list of napari.layers.Layer
        Tomogram, labels and particles, as :func:`layer_data` says. Nothing is read before napari draws it.

    Raises
    ------
    SettingsError
        napari is not installed.
    """
    try:
        from napari.layers import Layer
        from napari.utils import DirectLabelColormap
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "napari":
            raise
        raise SettingsError("these layers need napari: pip install 'deepfinder_dask[napari]'") from error
    layers = []
    for data, arguments, kind in layer_data(tomogram, particles, labels=labels):
        if kind == "labels" and "colormap" in arguments:
            arguments["colormap"] = DirectLabelColormap(color_dict=arguments["colormap"])
        layers.append(Layer.create(data, arguments, kind))
    return layers


def layer_data(
    tomogram: str | Path | Tomogram,
    particles: str | Path | Particles | Sequence[str | Path | Particles] | None = None,
    *,
    labels: str | None = None,
) -> list[LayerData]:
    """What the layers of :func:`napari_layers` are made of; needs no napari, and reads no voxels.

    Returns
    -------
    list of (data, arguments, kind)
        The tomogram (``image``), its labels (``labels``) and each set of particles (``points``), with ``scale`` and
        ``translate`` in Å; a pyramid is a list of lazy arrays (z, y, x).
    """
    tomogram = tomogram if isinstance(tomogram, Tomogram) else Tomogram.open(tomogram)
    shown = _volume(tomogram.levels, tomogram.voxel_size)
    shown["name"] = tomogram.name
    known = None if tomogram.statistics is None else tomogram.statistics.percentiles
    if known and {"0.5", "99.5"} <= set(known) and known["0.5"] < known["99.5"]:
        shown["contrast_limits"] = (known["0.5"], known["99.5"])
    layers: list[LayerData] = [(_lazy(tomogram.levels), shown | {"colormap": "gray"}, "image")]
    classes: tuple[ParticleClass, ...] = ()
    if labels is not None:
        found = open_labels(labels, tomogram)
        classes = found.classes
        colours: dict[int | None, str] = {None: "#00000000", 0: "#00000000"}
        colours.update(found.colours.items())
        extra: dict[str, Any] = {"name": "instances" if found.instances else "labels", "opacity": 0.5}
        if found.colours and not found.instances:
            extra["colormap"] = colours
        layers.append((_lazy(found.image.levels), _volume(found.image.levels, tomogram.voxel_size) | extra, "labels"))
    for one in read_sets(particles, tomogram, ViewSettings(), classes):
        layers.append(_points(tomogram, one.name, one.particles))
    return layers


def _points(tomogram: Tomogram, name: str, particles: Particles) -> LayerData:
    """Centres in Å (z, y, x), as large and of the colour of their classes."""
    marks = marks_of(tomogram, particles)
    positions = marks.centres * np.asarray(tomogram.voxel_size)
    features = particles.table[["class", "score"]].reset_index(drop=True)
    arguments = {
        "name": name,
        "size": 2 * marks.radii,
        "face_color": [str(colour) for colour in marks.colours] or "white",
        "opacity": 0.6,
        "out_of_slice_display": True,
        "features": features,
    }
    return positions, arguments, "points"


def _lazy(levels: Sequence[Volume]) -> Any:
    """One lazy array, or a list of them for a pyramid."""
    arrays = [level.lazy() for level in levels]
    return arrays if len(arrays) > 1 else arrays[0]


def _volume(levels: Sequence[Volume], voxel_size: VoxelSize) -> dict[str, Any]:
    """Scale of the full resolution; napari finds those of the lower levels by their shapes."""
    return {"scale": list(voxel_size), "translate": [0.0, 0.0, 0.0], "multiscale": len(levels) > 1}
