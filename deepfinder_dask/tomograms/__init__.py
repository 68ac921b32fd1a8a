"""Volumes of every kind: the store, tomograms, and conversion of other formats into it.

In: tomogram files (MRC, TIFF, HDF5, Zarr) and, from the rooms below, blocks of label maps and probabilities. Out: a
:class:`Tomogram` (lazy array, voxel size, statistics, imaging facts) and :class:`Volume` handles that read and write
boxes of voxels. No other room calls the zarr API.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfinder_dask.tomograms.conversion import convert, convert_many
    from deepfinder_dask.tomograms.description import info
    from deepfinder_dask.tomograms.layout import fit_chunks
    from deepfinder_dask.tomograms.normalisation import Normalisation, Scaling
    from deepfinder_dask.tomograms.opening import Image, check_finished, is_finished, open_image, read_attributes
    from deepfinder_dask.tomograms.pyramid import build_pyramid, level_shapes
    from deepfinder_dask.tomograms.regions import MaskedSource, Region
    from deepfinder_dask.tomograms.resampling import resample_labels, rescale, rescaled_shape
    from deepfinder_dask.tomograms.settings import ConvertSettings
    from deepfinder_dask.tomograms.statistics import statistics_of
    from deepfinder_dask.tomograms.storage import (
        create_group,
        create_image,
        finish_group,
        finish_image,
        write_attributes,
    )
    from deepfinder_dask.tomograms.tomogram import Imaging, Robust, Statistics, Tomogram, VoxelSize, as_voxel_size
    from deepfinder_dask.tomograms.volume import Volume

_HOMES = {
    "layout": "fit_chunks",
    "normalisation": "Normalisation Scaling",
    "opening": "Image check_finished is_finished open_image read_attributes",
    "conversion": "convert convert_many",
    "description": "info",
    "resampling": "resample_labels rescale rescaled_shape",
    "pyramid": "build_pyramid level_shapes",
    "regions": "MaskedSource Region",
    "settings": "ConvertSettings",
    "statistics": "statistics_of",
    "storage": "create_group create_image finish_group finish_image write_attributes",
    "tomogram": "Imaging Robust Statistics Tomogram VoxelSize as_voxel_size",
    "volume": "Volume",
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "ConvertSettings",
    "Image",
    "Imaging",
    "MaskedSource",
    "Normalisation",
    "Region",
    "Robust",
    "Scaling",
    "Statistics",
    "Tomogram",
    "Volume",
    "VoxelSize",
    "as_voxel_size",
    "build_pyramid",
    "check_finished",
    "convert",
    "convert_many",
    "create_group",
    "create_image",
    "finish_group",
    "finish_image",
    "fit_chunks",
    "info",
    "is_finished",
    "level_shapes",
    "open_image",
    "read_attributes",
    "resample_labels",
    "rescale",
    "rescaled_shape",
    "statistics_of",
    "write_attributes",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
