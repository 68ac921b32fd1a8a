"""Settings of export and import: one dataclass each, for the function, the command and campaigns.

Light on purpose: nothing here imports more than the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

FormatName = Literal[
    "auto",
    "parquet",
    "csv",
    "deepfinder_xml",
    "deepfinder_txt",
    "relion5",
    "relion4",
    "warp",
    "stopgap",
    "dynamo",
    "imod",
    "copick",
    "portal",
    "eman2",
]
"""A format by name; ``auto`` goes by the name of the file, and on reading by its content too."""
RelionCenter = Literal["n/2", "n/2-1"]
"""Which voxel RELION's centred coordinates count from."""
Unit = Literal["auto", "angstrom", "voxel"]
"""What positions are counted in."""


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """How particles are written in the format of another program."""

    format: FormatName = "auto"
    """Format of the output; auto goes by its name: .parquet, .csv, .xml, .txt, .star (RELION 5), .tbl (Dynamo), .mod
    (IMOD), .ndjson (CZ portal), _info.json (EMAN2), or a folder for copick."""
    overwrite: bool = False
    """Replace files that are there."""
    rename: tuple[str, ...] = ()
    """Rename tomograms by rules OLD=NEW, the first that fits; * stands for any text, as in 'rec_*=*'."""
    tomograms_star: str | None = None
    """RELION: the project's tomograms.star, which knows the unbinned size and pixel size of each tomogram."""
    binning: float | None = None
    """RELION, Warp, EMAN2: how many unbinned pixels make one voxel of the tomogram."""
    relion_center: RelionCenter = "n/2"
    """RELION: the centre of an unbinned tomogram of n pixels; n/2 as its programs, n/2-1 as its picker's export."""
    user: str = "deepfinder"
    """copick: the user or tool that the picks belong to."""
    session: str = "0"
    """copick: the session; 0 means picked by a tool."""

    def __post_init__(self) -> None:
        _as_tuples(self, "rename")


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """How a particle list of another program is read: what its format does not say itself."""

    format: FormatName = "auto"
    """Format of the file; auto goes by its content."""
    overwrite: bool = False
    """Replace an output that is there."""
    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel of the tomograms, one number or z, y, x; needed by formats that count in voxels."""
    shape: tuple[int, int, int] | None = None
    """Shape of the tomograms in voxels, z, y, x; needed by formats that count from the centre."""
    tomograms: tuple[str, ...] = ()
    """Names of tomograms, in the order of their numbers, for formats that have none."""
    rename: tuple[str, ...] = ()
    """Rename tomograms by rules OLD=NEW, the first that fits; * stands for any text, as in 'rec_*=*'."""
    tidy_names: bool = True
    """Where a format names tomograms by their files: drop folder, suffix and the prefix rec_."""
    unit: Unit = "auto"
    """CSV: what x, y, z are counted in; auto means Å below a header line, and voxels without one."""
    classes: str | None = None
    """TOML file of classes: the names behind labels, or the labels behind names."""
    tomograms_star: str | None = None
    """RELION: the project's tomograms.star, which knows the unbinned size and pixel size of each tomogram."""
    binning: float | None = None
    """RELION, Warp, EMAN2: how many unbinned pixels make one voxel of the tomogram."""
    relion_center: RelionCenter = "n/2"
    """RELION: the centre of an unbinned tomogram of n pixels; n/2 as its programs, n/2-1 as its picker's export."""
    user: str | None = None
    """copick: read the picks of this user or tool only."""
    session: str | None = None
    """copick: read the picks of this session only."""

    def __post_init__(self) -> None:
        _as_tuples(self, "tomograms", "rename")


def _as_tuples(settings: Any, *fields: str) -> None:
    """Let one text stand for a tuple of one."""
    for name in fields:
        value = getattr(settings, name)
        object.__setattr__(settings, name, (value,) if isinstance(value, str) else tuple(value))
