"""MRC and CCP4 files (``.mrc .rec .map .st .ccp4``), read row by row and never mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.errors import FormatError
from deepfinder_dask.tomograms.sources.mrc_header import HEADER_BYTES, parse_header
from deepfinder_dask.tomograms.sources.protocol import Span


class MrcSource:
    """An MRC file of any mode that holds real values, either byte order, any order of axes.

    Mode 12 is read as float16, mode 101 (4 bits) as uint8. Bytes (mode 0) are signed or not by IMOD's flag,
    else the header's extremes, else the MAP stamp: MRC2014 says signed, files older than the stamp hold unsigned bytes.

    Raises
    ------
    FormatError
        If it is no MRC file, or its size is not the one its header implies.
    """

    format = "MRC"
    whole_planes = False

    def __init__(self, path: str, name: str | None = None) -> None:
        self.path = path
        label = name or path
        self._file = Path(path).open("rb")  # noqa: SIM115  # closed by close()
        try:
            self.header = parse_header(self._file.read(HEADER_BYTES), label)
            expected, found = self.header.offset + self.header.data_bytes, self._file.seek(0, 2)
            if found < expected:
                raise FormatError(f"{label} is truncated: its header says {expected} bytes, found {found}")
            if found > expected:
                raise FormatError(
                    f"{label} and its header disagree: the header says {expected} bytes, found {found}: "
                    "one of the two is damaged"
                )
        except FormatError:
            self._file.close()
            raise
        self.shape = self.header.shape
        self.dtype = self.header.dtype.newbyteorder("=")
        self.voxel_size = self.header.voxel_size
        self.facts = self.header.facts

    def read(self, z: Span, y: Span) -> NDArray[Any]:
        """Values of some rows over the whole of x: ``(z, y, x)``."""
        spans = [(0, 0)] * 3
        for axis, span in zip(self.header.transpose, (z, y, (0, self.shape[2])), strict=True):
            spans[axis] = span
        stored = self._read_stored(*spans)
        return np.ascontiguousarray(stored.transpose(self.header.transpose))

    def _read_stored(self, sections: Span, rows: Span, columns: Span) -> NDArray[Any]:
        """A box of the stored array; whole rows are read, and cut where fewer columns are asked for."""
        header = self.header
        n_rows, n_columns = header.file_shape[1:]
        count = rows[1] - rows[0]
        out = np.empty((sections[1] - sections[0], count, columns[1] - columns[0]), header.dtype)
        direct = header.mode != 101 and out.shape[2] == n_columns
        buffer = np.empty((count, header.row_bytes), np.uint8)
        for i, section in enumerate(range(*sections)):
            target = out[i].view(np.uint8) if direct else buffer
            self._file.seek(header.offset + (section * n_rows + rows[0]) * header.row_bytes)
            if self._file.readinto(target.data) != target.nbytes:
                raise FormatError(f"{self.path} is truncated: it was cut while being read")
            if direct:
                continue
            if header.mode == 101:
                values = np.stack([buffer & 15, buffer >> 4], axis=-1).reshape(count, 2 * header.row_bytes)[
                    :, :n_columns
                ]
            else:
                values = buffer.view(header.dtype)
            out[i] = values[:, slice(*columns)]
        if not header.dtype.isnative:
            out = out.byteswap(inplace=True).view(self.dtype)
        return out

    def close(self) -> None:
        """Close the file."""
        self._file.close()
