"""EMAN2: ``info/<tomogram>_info.json`` with ``boxes_3d``, one file a tomogram.

A box is ``[x, y, z, method, score, class]``. Positions are unbinned pixels of ``apix_unbin`` Å from voxel ``n // 2`` of
the tomogram as it was boxed (since 2018-09, e2spt_boxer.py; without ``apix_unbin`` the file is older and refused). The
classes are in ``class_list``: ``{"1": {"name": "ribosome", "boxsize": 48}}``. Scores of boxes set by hand
(``manual``), and of those without a score (``deepfinder_unscored``), are unknown. EMAN2 keeps tilt parameters in the
same file: write to a folder of its own and merge there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepfinder_dask.errors import FormatError, GeometryError, InputError
from deepfinder_dask.particles.facts import TomogramFacts
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.formats.base import Hints, complete, in_voxels, needed_voxel_size, one_tomogram
from deepfinder_dask.particles.formats.relion_geometry import unbinned_pixel
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import Particles

_END = "_info.json"
_METHOD, _UNSCORED = "deepfinder", ("manual", "deepfinder_unscored")
_BOX = 64


class Eman2Format:
    """Boxes in the info files of EMAN2."""

    name = "eman2"
    suffixes: tuple[str, ...] = (_END,)
    carries = frozenset({"tomogram", "class", "score", "empty"})
    layout = "{tomogram}_info.json"

    def recognises(self, path: Path, head: str) -> bool:
        """Whether a JSON file has boxes, or is named as an info file."""
        return head.lstrip().startswith("{") and ('"boxes_3d"' in head or path.name.endswith(_END))

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read boxes; voxel size and shape of the tomogram as boxed are needed."""
        document = _document(path)
        tomogram = one_tomogram(path.with_name(path.name.replace(_END, ".json")), hints)
        centre = _centre(path, hints.facts) * np.asarray(needed_voxel_size(path, hints.facts.voxel_size))[::-1]
        boxes = document.get("boxes_3d") or []
        try:
            pixel = float(document["apix_unbin"])
            positions = np.array([box[:3] for box in boxes], dtype=np.float64).reshape(-1, 3)
            scores = [float(box[4]) if len(box) > 4 and box[3] not in _UNSCORED else np.nan for box in boxes]
            kinds = [int(box[5]) if len(box) > 5 else 0 for box in boxes]
            listed = {int(key): str(one["name"]) for key, one in (document.get("class_list") or {}).items()}
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise FormatError(f"{path}: boxes_3d, class_list or apix_unbin is not EMAN2's: {error!r}") from error
        if not (np.isfinite(pixel) and pixel > 0):
            raise FormatError(f"{path}: apix_unbin should be above 0, found {pixel}")
        frame = pd.DataFrame({"tomogram": pd.Series([tomogram] * len(boxes), dtype=str)})
        frame["class"] = pd.Series([listed.get(n, f"particles_{n:02d}") for n in kinds], dtype=str)
        frame[["x", "y", "z"]] = positions * pixel + centre
        frame["score"] = scores
        try:
            return complete(frame, hints, {tomogram: hints.facts})
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The file itself."""
        return [path]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write the boxes of one tomogram, which needs shape and voxel size."""
        boxes: list[list[Any]] = []
        document: dict[str, Any] = {"boxes_3d": boxes, "class_list": {}}
        table = particles.table
        for tomogram, facts in particles.tomograms.items() if len(table) else ():
            binning = 1.0 if settings.binning is None else settings.binning
            pixel, _ = unbinned_pixel(tomogram, facts, binning)
            document["apix_unbin"] = pixel[0]
            scale = np.asarray(particles.voxel_size(tomogram))[::-1] / pixel[0]
            voxels = ((in_voxels(particles) - _centre(path, facts)) * scale).tolist()
            for (x, y, z), score, label in zip(voxels, table["score"].tolist(), table["label"].tolist(), strict=True):
                unknown = np.isnan(score)
                boxes.append([x, y, z, _UNSCORED[1] if unknown else _METHOD, 0.0 if unknown else score, label])
            for one in particles.classes:
                box = _BOX if one.radius is None else 2 * round(1.5 * one.radius / pixel[0])
                document["class_list"][str(one.label)] = {"name": one.name, "boxsize": box}
        if not len(table):
            size = next((one.voxel_size for one in particles.tomograms.values() if one.voxel_size), None)
            document["apix_unbin"] = 1.0 if size is None else size[0]
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")
        return [path]


def _centre(path: Path, facts: TomogramFacts) -> NDArray[np.float64]:
    """Voxel (x, y, z) that boxes count from."""
    if facts.shape is None:
        raise GeometryError(f"{path}: EMAN2 counts from the centre; give the shape of the tomogram (--shape)")
    return np.asarray([n // 2 for n in reversed(facts.shape)], dtype=np.float64)


def _document(path: Path) -> dict[str, Any]:
    """The JSON of an info file with boxes and the size of their pixels."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not a whole JSON file: {error}") from error
    if not isinstance(document, dict) or "boxes_3d" not in document or "apix_unbin" not in document:
        raise FormatError(f"{path}: expected an info file of EMAN2 with boxes_3d and apix_unbin")
    return document
