"""The original DeepFinder's object list: XML, positions in voxels counted from 0, three decimals.

::

    <objlist>
      <object tomo_idx="0" obj_id="0" class_label="1" x="81.000" y="87.000" z="12.500"
              phi="…" psi="…" the="…" cluster_size="…"/>

Euler angles in degrees are left out where unknown. Three attributes are ours, and the original passes over them:
``tomo_name``, ``class_name`` and ``score``.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd

from deepfinder_dask.errors import FormatError, InputError, VoxelSizeError
from deepfinder_dask.particles.angles import from_original, to_original
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.formats.base import Hints, complete, warn_of_unknown
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.particles.table import ORIENTATION, Particles

_NUMBERS = ("x", "y", "z", "class_label", "phi", "psi", "the", "cluster_size", "score")
_ATTRIBUTES = {*_NUMBERS, "tomo_idx", "obj_id", "tomo_name", "class_name"}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\x00", "utf-16-le"),
    (b"\x00<", "utf-16-be"),
)


class DeepFinderXmlFormat:
    """Object lists of the original DeepFinder."""

    name = "deepfinder_xml"
    suffixes: tuple[str, ...] = (".xml",)
    carries = frozenset({"tomogram", "class", "score", "size_voxels", "orientation"})
    layout = ""

    def recognises(self, path: Path, head: str) -> bool:
        """Whether the text begins like XML, in any encoding."""
        return head.replace("\x00", "").lstrip("\ufeff\ufffd \t\r\n").startswith("<")

    def read(self, path: Path, hints: Hints) -> Particles:
        """Read an object list; voxels become Å by the voxel size of the hints."""
        objects = _objects(path)
        voxel_size = hints.facts.voxel_size
        if voxel_size is None:
            raise VoxelSizeError(f"{path}: positions are in voxels; give the voxel size of the tomogram (--voxel-size)")
        columns: dict[str, Any] = {name: [_number(path, n, o, name) for n, o in objects] for name in _NUMBERS}
        for name in ("x", "y", "z", "class_label"):
            if (bad := np.isnan(columns[name])).any():
                raise FormatError(f"{path}: object {int(np.argmax(bad))} has no number as its attribute {name!r}")
        warn_of_unknown(path, {key for _, o in objects for key in o} - _ATTRIBUTES, "attribute")
        frame = pd.DataFrame({"tomogram": _tomograms(objects, hints.settings.tomograms)}, dtype=str)
        frame["label"] = columns["class_label"]
        for axis, size in zip("zyx", voxel_size, strict=True):
            frame[axis] = np.asarray(columns[axis], dtype=np.float64) * size
        frame["score"] = columns["score"]
        frame["size_voxels"] = np.round(columns["cluster_size"])
        angles = np.stack([np.asarray(columns[name], dtype=np.float64) for name in ("phi", "psi", "the")], axis=1)
        if not np.isnan(angles).all():
            frame[ORIENTATION] = from_original(angles)
        names = [o.get("class_name") for _, o in objects]
        if objects and all(names):
            frame["class"] = names
        try:
            return complete(frame, hints)
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def outputs(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """The file itself."""
        return [path]

    def write(self, particles: Particles, path: Path, settings: ExportSettings) -> list[Path]:
        """Write an object list; every tomogram with particles needs a voxel size."""
        lines = list(_lines(particles))
        with atomic_write(path) as temporary:
            temporary.write_text("\n".join(["<objlist>", *lines, "</objlist>", ""]), encoding="utf-8")
        return [path]


def _lines(particles: Particles) -> Iterator[str]:
    """One ``<object …/>`` per particle, in the order of the table."""
    table = particles.table
    numbers = {name: index for index, name in enumerate(particles.tomograms)}
    sizes = {name: particles.voxel_size(str(name)) for name in table["tomogram"].unique()}
    voxels = particles.positions() / np.array([sizes[name] for name in table["tomogram"].tolist()]).reshape(-1, 3)
    angles = to_original(particles.orientations())
    columns = ("tomogram", "class", "label", "score", "size_voxels")
    rows = zip(*(table[name].tolist() for name in columns), strict=True)
    for index, (tomogram, name, label, score, cluster) in enumerate(rows):
        z, y, x = voxels[index]
        phi, psi, the = angles[index]
        attributes = {
            "tomo_idx": str(numbers[tomogram]),
            "obj_id": str(index),
            "class_label": str(label),
            "x": f"{x:.3f}",
            "y": f"{y:.3f}",
            "z": f"{z:.3f}",
        }
        if not np.isnan(phi):
            attributes |= {"phi": f"{phi:.3f}", "psi": f"{psi:.3f}", "the": f"{the:.3f}"}
        if not pd.isna(cluster):
            attributes["cluster_size"] = str(int(cluster))
        attributes |= {"tomo_name": tomogram, "class_name": name}
        if not np.isnan(score):
            attributes["score"] = repr(float(score))
        yield f"  <object {' '.join(f'{key}={quoteattr(value)}' for key, value in attributes.items())}/>"


def _tomograms(objects: list[tuple[int, dict[str, str]]], names: tuple[str, ...]) -> list[str]:
    """Name of each object's tomogram: its own ``tomo_name``, else the told name of its number, else the number."""
    numbers = [o.get("tomo_idx") or "0" for _, o in objects]
    told = {str(index): name for index, name in enumerate(names)}
    if len(names) == 1 and len(set(numbers)) == 1:
        told = {numbers[0]: names[0]}
    return [o.get("tomo_name") or told.get(number, number) for (_, o), number in zip(objects, numbers, strict=True)]


def _number(path: Path, index: int, attributes: dict[str, str], name: str) -> float:
    """Attribute as a number, NaN where it is not there."""
    text = attributes.get(name, "")
    if text in ("", "None"):
        return float("nan")
    try:
        return float(text)
    except ValueError as error:
        raise FormatError(f"{path}: object {index}: {name} should be a number, found {text!r}") from error


def _objects(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Attributes of each ``<object>``, numbered.

    A document type declaration is refused, so that no entity can be defined or fetched.
    """
    objects: list[tuple[int, dict[str, str]]] = []
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        if depth == 0 and tag != "objlist":
            raise FormatError(f"{path}: expected an object list <objlist> of DeepFinder, found <{tag}>")
        if depth == 1 and tag == "object":
            objects.append((len(objects), attributes))
        depth += 1

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: object) -> None:
        raise FormatError(f"{path}: has a document type declaration (DTD), which is not read; remove it")

    # The text is decoded here and handed over as UTF-8, whatever its declaration says.
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(_text(path).encode("utf-8"), True)
    except expat.ExpatError as error:
        raise FormatError(f"{path}: not a whole XML file: {error}") from error
    return objects


def _text(path: Path) -> str:
    """Text of an XML file, decoded by its byte order mark, its look, or its declaration."""
    raw = path.read_bytes()
    encoding = next((name for mark, name in _BOMS if raw.startswith(mark)), None)
    if encoding is None:
        declared = re.match(rb"""\s*<\?xml[^>]*?encoding=["']([A-Za-z0-9._-]+)["']""", raw)
        encoding = declared.group(1).decode("ascii") if declared else "utf-8"
        if encoding.lower().replace("_", "-").startswith(("utf-16", "utf16", "ucs-2")):
            encoding = "utf-8"  # one byte a character, so the declaration is wrong
    try:
        return raw.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise FormatError(f"{path}: not text in {encoding}: {error}") from error
