"""Settings of targets: one dataclass for the function and the command.

Light on purpose: nothing here imports more than the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass

from deepfinder_dask.blocks import asked_block
from deepfinder_dask.errors import SettingsError


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """How particles become a label map. None of the settings for blocks, memory and workers changes the result.

    Raises
    ------
    SettingsError
        A field has a value that cannot work.
    """

    classes: str | None = None
    """TOML file of classes, with radii in Å and what each class is drawn from; by default the classes and radii that
    come with the particles."""
    shapes: tuple[str, ...] = ()
    """Shapes, CLASS=FILE or CLASS=FILE@THRESHOLD, such as ribosome=map.mrc@0.3: a cubic density map or mask, turned by
    the angles of each particle; overrules the classes file."""
    shape_voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel of shapes whose files do not say it, one number or z, y, x."""
    add: tuple[str, ...] = ()
    """Given label maps to merge, below the particles: FILE=LABEL or FILE=CLASS, such as membranes.mrc=3, gives all
    voxels other than 0 that label, FILE alone keeps the labels in it; {tomogram} in FILE stands for the tomogram's
    name."""
    mask: str | None = None
    """Volume other than 0 where the tomogram was annotated; outside of it everything is ignored (255)."""
    ignore_shell: float | None = None
    """Ignore (255) background voxels up to this far, in Å, from a particle's voxels."""
    annotated: tuple[str, ...] = ()
    """Classes annotated in this tomogram: voxels of others are ignored (255), and training takes background for these
    classes only. By default all particle classes, which then need positions, and structures with a given map."""
    name: str | None = None
    """Name of the tomogram in the table of particles; by default the name of its store."""
    compat: bool = False
    """Draw as the original DeepFinder does: centres rounded down to whole voxels, later particles over earlier ones."""
    block: tuple[int, int, int] | None = None
    """Voxels drawn at a time, z, y, x, multiples of 4; by default 128 × 128 × 256, less where memory is short."""
    memory: int | None = None
    """Memory that one worker may use, in bytes: decides the block."""
    workers: int | None = None
    """Local worker processes; by default everything runs in this process."""
    scheduler: str | None = None
    """Address of a running Dask scheduler, such as tcp://host:8786, instead of local workers."""
    overwrite: bool = False
    """Replace an output that is there."""

    def __post_init__(self) -> None:
        for name in ("shapes", "add", "annotated"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        for rule in self.shapes:
            class_name, _, file = rule.partition("=")
            if not class_name or not file:
                raise SettingsError(f"a shape is written CLASS=FILE or CLASS=FILE@THRESHOLD, got {rule!r}")
        shell = self.ignore_shell
        if shell is not None and (
            isinstance(shell, bool) or not isinstance(shell, int | float) or not 0 < shell < float("inf")
        ):
            raise SettingsError(f"ignore_shell is a length in Å above 0, got {shell!r}")
        if self.memory is not None and self.memory < 1:
            raise SettingsError(f"expected a positive number of bytes of memory, got {self.memory}")
        if self.block is not None:
            object.__setattr__(self, "block", asked_block(self.block))
