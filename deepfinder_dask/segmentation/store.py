"""The store of a segmentation: label map, probability and scores of one tomogram.

::

    SEG.zarr                attributes: classes, tomogram, weights, settings
    ├── labels/0, 1, …      label map, (z, y, x) uint8, 0 is background; an OME-Zarr label image
    ├── probability/0, …    pseudo-probability of the winning class, (z, y, x) uint8, 255 is 1
    ├── scores/0            on request: pseudo-probabilities, (class, z, y, x) float16, or uint8 with 255 for 1
    └── .ledger/            what the output follows from, and a record with a checksum of every finished block
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepfinder_dask.blocks import Shape3, triple
from deepfinder_dask.errors import FormatError
from deepfinder_dask.execution import Ledger
from deepfinder_dask.particles import ParticleClass, classes_from_dicts
from deepfinder_dask.particles.cards import card, classes_line, lengths
from deepfinder_dask.tomograms import Volume, create_image, finish_image, open_image, read_attributes
from deepfinder_dask.tomograms.pyramid import build_pyramid
from deepfinder_dask.tomograms.thumbnails import central_slice

if TYPE_CHECKING:
    import dask.array

    from deepfinder_dask.execution import Executor
    from deepfinder_dask.tomograms import VoxelSize

GOOD_CHUNK = 64
"""Voxels of a chunk along an axis, as near as a block's size allows."""


@dataclass(frozen=True)
class Segmentation:
    """What :func:`segment` left. Opening reads metadata only."""

    path: str
    """The store."""
    tomogram: str
    """Name of the tomogram."""
    voxel_size: VoxelSize
    """Å per voxel, (z, y, x)."""
    classes: tuple[ParticleClass, ...]
    """Meaning of the labels."""
    label_map: Volume
    """(z, y, x) uint8, 0 is background."""
    probability_map: Volume
    """Pseudo-probability of the winning class, (z, y, x) uint8, 255 is 1."""
    score_map: Volume | None
    """Pseudo-probabilities, (class, z, y, x) float16, or uint8 with 255 for 1; None unless asked for."""
    attributes: Mapping[str, Any]
    """Everything the store says of its making."""

    @classmethod
    def open(cls, path: str) -> Segmentation:
        """Open the store of a segmentation.

        Raises
        ------
        FormatError
            If there is none, or it was never finished.
        """
        facts = read_attributes(path)
        if facts.get("kind") != "segmentation":
            raise FormatError(f"expected a segmentation at {path}, found another kind of store")
        if facts.get("state") != "complete":
            raise FormatError(f"{path} was never finished: run the same command again")
        z, y, x = (float(v) for v in facts["voxel_size"])
        return cls(
            path=path,
            tomogram=str(facts["tomogram"]),
            voxel_size=(z, y, x),
            classes=classes_from_dicts(facts["classes"]),
            label_map=open_image(f"{path}/labels").levels[0],
            probability_map=open_image(f"{path}/probability").levels[0],
            score_map=open_image(f"{path}/scores").levels[0] if facts["settings"]["scores"] else None,
            attributes=facts,
        )

    def _repr_html_(self) -> str:
        shown = central_slice(self.path, open_image(f"{self.path}/labels").levels, self.classes)
        facts = [
            ("shape (z, y, x)", f"{' × '.join(map(str, self.label_map.space))} voxels of {lengths(self.voxel_size)} Å"),
            ("classes", classes_line(self.classes)),
            ("weights", self.attributes.get("weights", {}).get("sha256", "")[:12] or None),
            ("scores of all classes", "kept" if self.score_map is not None else "not kept"),
            ("path", self.path),
        ]
        return card(f"Segmentation of {self.tomogram}", facts, shown)

    @property
    def labels(self) -> dask.array.Array:
        """The label map as a lazy Dask array, (z, y, x) uint8."""
        return self.label_map.lazy()

    @property
    def probability(self) -> dask.array.Array:
        """Pseudo-probability of the winning class as a lazy Dask array, (z, y, x) uint8, 255 is 1."""
        return self.probability_map.lazy()


@dataclass(frozen=True)
class LazySegmentation:
    """Lazy arrays whose chunks are the blocks; those computed together compute every block once."""

    labels: dask.array.Array
    """(z, y, x) uint8, 0 is background."""
    probability: dask.array.Array
    """Pseudo-probability of the winning class, (z, y, x) uint8, 255 is 1."""
    scores: dask.array.Array | None
    """Pseudo-probabilities, (class, z, y, x) float16 or uint8; None unless asked for."""
    tomogram: str
    """Name of the tomogram."""
    voxel_size: VoxelSize
    """Å per voxel, (z, y, x)."""
    classes: tuple[ParticleClass, ...]
    """Meaning of the labels."""


@dataclass(frozen=True)
class Outputs:
    """The volumes that block tasks write."""

    labels: Volume
    """(z, y, x) uint8."""
    probability: Volume
    """(z, y, x) uint8."""
    scores: Volume | None
    """(class, z, y, x) float16 or uint8."""

    def volumes(self) -> tuple[Volume, ...]:
        """All of them that there are."""
        return tuple(v for v in (self.labels, self.probability, self.scores) if v is not None)


def ledger_of(path: str) -> Ledger:
    """The ledger of a segmentation."""
    return Ledger(f"{path}/.ledger")


def create_outputs(
    path: str,
    shape: Shape3,
    voxel_size: VoxelSize,
    core: Shape3,
    *,
    classes: int | None,
    score_type: str = "float16",
) -> Outputs:
    """Make the empty volumes of a segmentation, a block to a shard.

    Parameters
    ----------
    path : str
        Group to make them in.
    shape : Shape3
        Tomogram in voxels, (z, y, x).
    voxel_size : VoxelSize
        Å per voxel, (z, y, x).
    core : Shape3
        What a block writes, in voxels, (z, y, x).
    classes : int or None
        Classes of the score map, the background among them; None for no score map.
    score_type : str
        ``float16`` or ``uint8``.
    """
    chunk = triple(_chunk(n) for n in core)

    def volume(name: str, dtype: str) -> Volume:
        return create_image(
            f"{path}/{name}", shape=shape, dtype=dtype, voxel_size=voxel_size, chunk=chunk, shard=core, kind=name
        )

    scores = None
    if classes is not None:
        scores = create_image(
            f"{path}/scores",
            shape=(classes, *shape),
            dtype=score_type,
            voxel_size=voxel_size,
            chunk=chunk,
            shard=core,
            axes=("class", "z", "y", "x"),
            kind="scores",
        )
    return Outputs(labels=volume("labels", "uint8"), probability=volume("probability", "uint8"), scores=scores)


def outputs_of(path: str, *, scores: bool) -> Outputs:
    """The volumes that :func:`create_outputs` made in a group, written or not."""
    return Outputs(
        labels=Volume(f"{path}/labels", "0"),
        probability=Volume(f"{path}/probability", "0"),
        scores=Volume(f"{path}/scores", "0") if scores else None,
    )


def finish_outputs(path: str, classes: tuple[ParticleClass, ...], executor: Executor, *, scores: bool) -> None:
    """Make the pyramids of written outputs and declare them complete."""
    build_pyramid(f"{path}/labels", method="mode", executor=executor)
    finish_image(f"{path}/labels", method="mode", label_colours={c.label: c.colour for c in classes})
    build_pyramid(f"{path}/probability", method="mean", executor=executor)
    finish_image(f"{path}/probability", method="mean")
    if scores:
        finish_image(f"{path}/scores")


def _chunk(core: int) -> int:
    """The divisor of a block's size that is nearest to a good chunk, by ratio."""
    divisors = (d for d in range(1, core + 1) if core % d == 0)
    return min(divisors, key=lambda d: max(d / GOOD_CHUNK, GOOD_CHUNK / d))
