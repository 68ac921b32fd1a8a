"""Settings of clustering: one dataclass for the function, the command and campaigns.

Light on purpose: nothing here imports more than the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from deepfinder_dask.blocks import asked_block
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.particles.lengths import Length

Method = Literal["components", "mean-shift"]
"""How voxels are grouped into particles."""
Connectivity = Literal[6, 18, 26]
"""Which voxels are neighbours: those that share a face (6), also an edge (18), also a corner (26)."""
Position = Literal["mode", "centroid"]
"""Where a mean-shift cluster is: its centre, where the shifting ended (mode), or the mean of its voxels (centroid)."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """How a label map becomes particles.

    By default voxels are clustered by mean-shift, the method of the paper (Moebel et al. 2021, Methods), with a
    bandwidth from the radii of the classes; where these are unknown and no bandwidth is given, particles are connected
    components, and a :class:`~deepfinder_dask.clustering.ClusterWarning` says so. Asking for a connectivity, or to
    split, asks for components.

    Connectivity is 6 by default, as in ``scipy.ndimage.label``: particles that merely touch at an edge or a corner
    stay apart, and molecules in a crowded cell touch often. The crumbs that this may leave at a frayed border are
    smaller than any particle, and a minimum size drops them.

    Raises
    ------
    SettingsError
        A field has a value that cannot work.
    """

    method: Method | None = None
    """How voxels are grouped: mean-shift, which also parts particles that touch and needs a bandwidth about their
    radius, or components, the connected components of the label map; by default mean-shift, but components where
    neither a bandwidth nor the radii of the classes are known, or where connectivity or split is given."""
    bandwidth: float | None = None
    """Mean-shift: radius of the ball whose voxels are averaged, in voxels; by default 1.25 times the radii of the
    classes."""
    bandwidth_angstrom: float | None = None
    """Mean-shift: the bandwidth in Å instead."""
    position: Position = "mode"
    """Mean-shift: where a particle is, the cluster's centre (mode) or the mean of its voxels (centroid)."""
    connectivity: Connectivity | None = None
    """Components: voxels that are neighbours: 6 (they share a face; the default), 18 (or an edge) or 26 (or a
    corner)."""
    per_class: bool = False
    """Connect, or cluster, voxels of the same class only; otherwise all particle classes are pooled and a vote names
    the class (mean-shift without a bandwidth does so only where the radii of the classes agree within 1.5 times)."""
    split: bool = False
    """Components: part particles that touch, by a watershed of each component's depth and probability; two of them are
    told apart where their centres are a radius of their class apart, or the split distance. Asks for components."""
    split_distance: float | None = None
    """Least distance of the centres of two particles that touch, in voxels, 1 or more; by default the class radius."""
    min_size: int | dict[str, int] | None = None
    """Drop particles of fewer voxels: one number for all classes, or by class, as in ring=50,rod=20; by default each
    class has its own minimum, or none."""
    max_size: int | dict[str, int] | None = None
    """Drop particles of more voxels, written in the same way; by default each class has its own maximum, or none."""
    min_distance: float | str | None = None
    """Where two particles are closer, drop the one with the lower score (without scores: the smaller one): a distance
    in Å, or as in 3vox; or in radii of their classes, as in 1r (at 2r balls just touch)."""
    distance_per_class: bool = False
    """The minimum distance holds between particles of the same class only."""
    measures: bool = False
    """Add to the table each particle's size in Å³, its bounding box, whether it touches the border of the tomogram,
    and the centroid of its voxels where its position is a mode."""
    mask: str | None = None
    """Mask volume, as large as the label map: voxels where it is 0 are background, and blocks outside are not read."""
    border: float | None = None
    """Å at all six faces of the label map whose voxels are background."""
    classes: str | None = None
    """TOML file of classes, for label maps that do not say what their labels mean, or to overrule what they say."""
    instances: str | None = None
    """Also write the instance map, an OME-Zarr label image whose values are the particles' rows plus 1 (the column
    instance of the table): a path, or auto for SEG.zarr/instances."""
    tomogram: str | None = None
    """Name of the tomogram in the table; by default the one in the segmentation, or the name of the file."""
    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel, one number or z, y, x, where the label map does not say it, or to overrule it."""
    block: tuple[int, int, int] | None = None
    """Voxels labelled at a time, z, y, x, multiples of 4; by default chosen from the chunks of the label map."""
    memory: int | None = None
    """Memory that one worker may use, in bytes: decides the block; by default blocks need no more than 600 MiB."""
    workers: int | None = None
    """Local worker processes; by default everything runs in this process."""
    scheduler: str | None = None
    """Address of a running Dask scheduler, such as tcp://host:8786, instead of local workers."""
    overwrite: bool = False
    """Replace an output file that is there."""

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in get_args(Method):
            raise SettingsError(f"expected method {' or '.join(get_args(Method))}, got {self.method!r}")
        if self.connectivity is not None and self.connectivity not in get_args(Connectivity):
            raise SettingsError(f"expected connectivity 6, 18 or 26, got {self.connectivity!r}")
        if self.position not in get_args(Position):
            raise SettingsError(f"expected position mode or centroid, got {self.position!r}")
        self._check_bandwidth()
        self._check_split()
        for name in ("min_size", "max_size"):
            self._check_sizes(name, getattr(self, name))
        if self.min_distance is not None:
            Length.parse(self.min_distance, "min_distance")
        if self.memory is not None and self.memory < 1:
            raise SettingsError(f"expected a positive number of bytes of memory, got {self.memory}")
        if self.block is not None:
            object.__setattr__(self, "block", asked_block(self.block))
        if self.mask is not None:
            object.__setattr__(self, "mask", str(self.mask))

    def _check_bandwidth(self) -> None:
        for name, value in (("bandwidth", self.bandwidth), ("bandwidth_angstrom", self.bandwidth_angstrom)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise SettingsError(f"{name} is a length above 0, got {value!r}")
            if self.method == "components" or self.connectivity is not None:
                found = "method 'components'" if self.method == "components" else "a connectivity, for components"
                raise SettingsError(f"{name} belongs to mean-shift, found {found}: choose mean-shift")
        if self.bandwidth is not None and self.bandwidth_angstrom is not None:
            raise SettingsError("give the bandwidth either in voxels or in Å, not both")
        if self.connectivity is not None and self.method == "mean-shift":
            raise SettingsError("connectivity belongs to components, found method 'mean-shift': choose components")

    def _check_sizes(self, name: str, value: object) -> None:
        """Refuse what is no size in voxels, or sizes by class."""
        each = value if isinstance(value, Mapping) else {"": 0 if value is None else value}
        for key, size in each.items():
            if not isinstance(key, str) or isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise SettingsError(
                    f"{name} is a number of voxels, 0 or more, or one for each class by its name, got {value!r}"
                )
        if isinstance(value, Mapping):
            object.__setattr__(self, name, dict(value))

    def _check_split(self) -> None:
        distance = self.split_distance
        shift = self.method == "mean-shift" or self.bandwidth is not None or self.bandwidth_angstrom is not None
        if self.split and shift:
            raise SettingsError("split belongs to components, found mean-shift, which parts what touches: choose one")
        if distance is None:
            return
        if isinstance(distance, bool) or not isinstance(distance, int | float) or not 1 <= distance < float("inf"):
            raise SettingsError(f"split_distance is a number of voxels, 1 or more, got {distance!r}")
        if not self.split:
            raise SettingsError("split_distance says how to split: give --split too")


@dataclass(frozen=True, slots=True)
class DistanceSettings:
    """How distances of particles to a structure are measured, and which particles stay.

    Raises
    ------
    SettingsError
        A field has a value that cannot work.
    """

    structure: str | None = None
    """Class to measure to, by its name or label; may be left out where there is one class of kind structure."""
    within: float | None = None
    """Keep particles that are no farther from the structure than this, in Å."""
    beyond: float | None = None
    """Keep particles that are farther from the structure than this, in Å, or without one."""
    maximum: float | None = None
    """Look no farther than this, in Å; distances beyond it are missing. By default there is no limit."""
    classes: str | None = None
    """TOML file of classes, for label maps that do not say what their labels mean, or to overrule what they say."""
    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel, one number or z, y, x, where the label maps do not say it, or to overrule it."""
    block: tuple[int, int, int] | None = None
    """Voxels read at a time, z, y, x, multiples of 4; by default chosen from the chunks of the label map."""
    memory: int | None = None
    """Memory that one worker may use, in bytes: decides the block; by default blocks need no more than 600 MiB."""
    workers: int | None = None
    """Local worker processes; by default everything runs in this process."""
    scheduler: str | None = None
    """Address of a running Dask scheduler, such as tcp://host:8786, instead of local workers."""
    overwrite: bool = False
    """Replace output files that are there."""

    def __post_init__(self) -> None:
        for name in ("within", "beyond", "maximum"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise SettingsError(f"{name} is a length in Å, 0 or more, got {value!r}")
            if self.maximum is not None and value > self.maximum:
                raise SettingsError(f"{name} {value:g} Å lies beyond the maximum {self.maximum:g} Å: look farther")
        if self.within is not None and self.beyond is not None and self.beyond >= self.within:
            raise SettingsError(f"no particle is beyond {self.beyond:g} Å and within {self.within:g} Å")
        if self.memory is not None and self.memory < 1:
            raise SettingsError(f"expected a positive number of bytes of memory, got {self.memory}")
        if self.block is not None:
            object.__setattr__(self, "block", asked_block(self.block))
