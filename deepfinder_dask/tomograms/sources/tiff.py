"""TIFF stacks, one page per z plane: plain, ImageJ and OME."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.sources.protocol import Span, check_dtype, check_shape, known_voxel_size, plain

ANGSTROM = {"nm": 10.0, "nanometer": 10.0, "µm": 1e4, "um": 1e4, "micron": 1e4, "microns": 1e4, "\\u00b5m": 1e4}
ANGSTROM |= {"å": 1.0, "angstrom": 1.0, "\\u00c5": 1.0, "a": 1.0, "mm": 1e7, "cm": 1e8, "pm": 0.01}
"""Å per unit of length, by the names that programs write."""


class TiffSource:
    """A TIFF file whose first series is one grey volume (z, y, x).

    One more axis beside y and x is z, even where the file calls it time or channel. Uncompressed stacks that lie in one
    piece are read row by row, others page by page.

    Raises
    ------
    FormatError
        If it is no TIFF file, holds colours or several stacks, or is truncated.
    """

    format = "TIFF"

    def __init__(self, path: str) -> None:
        import tifffile

        self.path = path
        try:
            self._tiff = tifffile.TiffFile(path)
        except (tifffile.TiffFileError, ValueError, IndexError, KeyError) as error:
            raise FormatError(f"expected a TIFF file in {path}, found: {error}".splitlines()[0]) from error
        try:
            self._open_series()
        except (FormatError, IndexError) as error:
            self._tiff.close()
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"expected a TIFF stack in {path}, found no page that can be read") from error

    def _open_series(self) -> None:
        series = self._tiff.series[0]
        sizes = [(axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if n != 1 or axis in "YX"]
        axes = "".join(axis for axis, _ in sizes)
        if axes[-2:] != "YX" or len(axes) > 3 or "S" in axes:
            raise FormatError(
                f"expected one grey volume (z, y, x) in {self.path}, found axes {series.axes} of shape {series.shape}"
            )
        self.shape = check_shape([n for _, n in (sizes if len(sizes) == 3 else [("Z", 1), *sizes])], self.path)
        self._file_dtype = np.dtype(series.dtype)
        self.dtype = check_dtype(self._file_dtype, self.path)
        self._pages: Any = series.pages
        self._offset: int | None = series.dataoffset
        if self._offset is None and len(self._pages) != self.shape[0]:
            raise FormatError(
                f"expected {self.shape[0]} pages in {self.path}, found {len(self._pages)}: truncated, or tiled in z"
            )
        if self._offset is not None:
            self._file_dtype = self._file_dtype.newbyteorder(self._tiff.byteorder)
            expected = self._offset + int(np.prod(self.shape)) * self._file_dtype.itemsize
            found = Path(self.path).stat().st_size
            if found < expected:
                raise FormatError(f"{self.path} is truncated: expected at least {expected} bytes, found {found}")
        self.whole_planes = self._offset is None
        page: Any = self._tiff.pages[0]
        self.voxel_size, unit = self._size()
        self.facts: Mapping[str, Any] = {
            "axes": series.axes,
            "kind": series.kind,
            "compression": plain(str(getattr(page, "compression", ""))),
            "unit": unit,
            "description": plain(str(getattr(page, "description", ""))[:1000]),
        }

    def _size(self) -> tuple[tuple[float, float, float] | None, str | None]:
        """Å per voxel from ImageJ's or OME's metadata, and the unit there."""
        import tifffile

        if self._tiff.is_imagej and self._tiff.imagej_metadata:
            metadata = self._tiff.imagej_metadata
            unit = str(metadata.get("unit", ""))
            scale = ANGSTROM.get(unit.lower())
            page: Any = self._tiff.pages[0]
            tags = page.tags
            if scale is None or "XResolution" not in tags or "YResolution" not in tags:
                return None, unit or None
            edges = [tags[name].value for name in ("YResolution", "XResolution")]
            y, x = (scale * b / a if a else 0.0 for a, b in edges)
            return known_voxel_size((scale * float(metadata.get("spacing", 0.0) or x / scale), y, x)), unit
        if self._tiff.is_ome and self._tiff.ome_metadata:
            pixels = tifffile.xml2dict(self._tiff.ome_metadata)["OME"]["Image"]
            pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
            units = [str(pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "ZYX"]
            scales = [ANGSTROM.get(u.lower(), 0.0) for u in units]
            lengths = [float(pixels.get(f"PhysicalSize{a}", 0)) * s for a, s in zip("ZYX", scales, strict=True)]
            return known_voxel_size(lengths), units[2]
        return None, None

    def read(self, z: Span, y: Span) -> NDArray[Any]:
        """Values of some rows over the whole of x: ``(z, y, x)``."""
        out = np.empty((z[1] - z[0], y[1] - y[0], self.shape[2]), self.dtype)
        for i, plane in enumerate(range(*z)):
            out[i] = self._rows(plane, y) if self._offset is not None else self._page(plane)[slice(*y)]
        return out

    def _rows(self, plane: int, y: Span) -> NDArray[Any]:
        _, rows, columns = self.shape
        offset = (self._offset or 0) + (plane * rows + y[0]) * columns * self._file_dtype.itemsize
        count = (y[1] - y[0]) * columns
        values = np.fromfile(self.path, self._file_dtype, count, offset=offset)
        if values.size != count:
            raise FormatError(f"{self.path} is truncated: it was cut while being read")
        return values.reshape(-1, columns)

    def _page(self, plane: int) -> NDArray[Any]:
        try:
            return np.asarray(self._pages[plane].asarray()).reshape(self.shape[1:])
        except (ValueError, RuntimeError, AttributeError) as error:
            raise FormatError(f"page {plane} of {self.path} cannot be read: {error}".splitlines()[0]) from error

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()
