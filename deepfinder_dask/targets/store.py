"""The store of a target: a label map with its pyramid, and in its attributes how it came about.

::

    TARGET.zarr             (z, y, x) uint8: 0 background, 255 ignore; an OME-Zarr label image
    └── attributes          classes, annotated, particles, voxels, overlaps, settings
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from deepfinder_dask.blocks import Shape3, triple
from deepfinder_dask.errors import FormatError
from deepfinder_dask.particles import BACKGROUND, IGNORE, ParticleClass, classes_from_dicts
from deepfinder_dask.particles.cards import card, classes_line, lengths
from deepfinder_dask.tomograms import Volume, VoxelSize, as_voxel_size, create_image, finish_image, open_image
from deepfinder_dask.tomograms.pyramid import build_pyramid
from deepfinder_dask.tomograms.thumbnails import central_slice

if TYPE_CHECKING:
    import dask.array

    from deepfinder_dask.execution import Executor

KIND = "target"
"""What the store says it holds."""
GOOD_CHUNK = 64
"""Voxels of a chunk along an axis, as near as a block's size allows."""


@dataclass(frozen=True)
class Overlap:
    """Voxels that were claimed twice."""

    kept: str
    """Class that has them."""
    lost: str
    """Class of the particle or label map that had claimed them too."""
    voxels: int
    """How many."""


@dataclass(frozen=True)
class Target:
    """What :func:`target` left. Opening reads metadata only."""

    path: str
    """The store."""
    tomogram: str
    """Name of the tomogram."""
    voxel_size: VoxelSize
    """Å per voxel, (z, y, x)."""
    classes: tuple[ParticleClass, ...]
    """Meaning of the labels."""
    annotated: tuple[str, ...]
    """Classes that are annotated in this tomogram: background is no particle of these, and may be one of others."""
    particles: Mapping[str, int]
    """Particles of each class."""
    voxels: Mapping[str, int]
    """Voxels of each class, and under ``background`` and ``ignore``."""
    overlaps: tuple[Overlap, ...]
    """Voxels claimed twice, by pair of classes."""
    label_map: Volume
    """(z, y, x) uint8: 0 is background, 255 *ignore*."""
    attributes: Mapping[str, Any]
    """Everything the store says of its making."""

    @classmethod
    def open(cls, path: str) -> Target:
        """Open the store of a target.

        Raises
        ------
        FormatError
            If there is none, or it was never finished.
        """
        image = open_image(path)
        facts = image.attributes
        if facts.get("kind") != KIND:
            raise FormatError(f"expected a target at {path}, found another kind of store")
        return cls(
            path=path,
            tomogram=str(facts["tomogram"]),
            voxel_size=as_voxel_size(facts["voxel_size"]),
            classes=classes_from_dicts(facts["classes"]),
            annotated=tuple(facts["annotated"]),
            particles=dict(facts["particles"]),
            voxels=dict(facts["voxels"]),
            overlaps=tuple(Overlap(**one) for one in facts["overlaps"]),
            label_map=image.levels[0],
            attributes=facts,
        )

    def _repr_html_(self) -> str:
        shown = central_slice(self.path, open_image(self.path).levels, self.classes)
        twice = ", ".join(f"{one.voxels} of {one.kept} and {one.lost}" for one in self.overlaps)
        facts = [
            ("shape (z, y, x)", f"{' × '.join(map(str, self.label_map.space))} voxels of {lengths(self.voxel_size)} Å"),
            ("particles", classes_line(self.classes, self.particles)),
            ("voxels", ", ".join(f"{name} {count}" for name, count in self.voxels.items())),
            ("claimed twice", twice or "none"),
            ("annotated", ", ".join(self.annotated)),
            ("path", self.path),
        ]
        return card(f"Target of {self.tomogram}", facts, shown)

    @property
    def labels(self) -> dask.array.Array:
        """The label map as a lazy Dask array, (z, y, x) uint8."""
        return self.label_map.lazy()


def create_target(
    path: str, shape: Shape3, voxel_size: VoxelSize, core: Shape3, *, overwrite: bool, attributes: Mapping[str, Any]
) -> Volume:
    """Make an unfinished target, a block to a shard."""
    chunk = triple(_chunk(n) for n in core)
    return create_image(
        path,
        shape=shape,
        dtype="uint8",
        voxel_size=voxel_size,
        chunk=chunk,
        shard=core,
        overwrite=overwrite,
        kind=KIND,
        attributes=attributes,
    )


def finish_target(
    path: str, classes: tuple[ParticleClass, ...], executor: Executor, attributes: Mapping[str, Any]
) -> None:
    """Make the pyramid and declare the target complete."""
    build_pyramid(path, method="mode", executor=executor)
    colours = {**{one.label: one.colour for one in classes}, IGNORE: "#9aa0a6"}
    finish_image(path, attributes, method="mode", label_colours=colours)


def names_of(classes: tuple[ParticleClass, ...]) -> dict[int, str]:
    """What each label is called."""
    return {BACKGROUND: "background", **{one.label: one.name for one in classes}, IGNORE: "ignore"}


def overlaps_of(lost: Mapping[tuple[int, int], int], names: Mapping[int, str]) -> tuple[Overlap, ...]:
    """Overlaps by name, in order of label."""
    return tuple(Overlap(names[kept], names[other], count) for (kept, other), count in sorted(lost.items()))


def as_attributes(overlaps: tuple[Overlap, ...]) -> list[dict[str, Any]]:
    """Overlaps as JSON values."""
    return [asdict(one) for one in overlaps]


def _chunk(core: int) -> int:
    """The divisor of a block's size that is nearest to a good chunk, by ratio."""
    divisors = (d for d in range(1, core + 1) if core % d == 0)
    return min(divisors, key=lambda d: max(d / GOOD_CHUNK, GOOD_CHUNK / d))
