"""What is to be clustered, and how: a label map, its classes and the settings, settled together."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import BlockGrid, Shape3
from deepfinder_dask.clustering.bandwidths import groups_of, method_of
from deepfinder_dask.clustering.components import Components, SizeLimits
from deepfinder_dask.clustering.labelling import LabelJob
from deepfinder_dask.clustering.measures import measure_particles
from deepfinder_dask.clustering.merging import Pieces
from deepfinder_dask.clustering.planning import check_split_memory, plan_blocks, plan_shift_blocks
from deepfinder_dask.clustering.settings import ClusterSettings
from deepfinder_dask.clustering.shift_job import ShiftJob, halo_of
from deepfinder_dask.clustering.sources import Chunk, LabelMap, within
from deepfinder_dask.errors import SettingsError, VoxelSizeError
from deepfinder_dask.particles import (
    MAX_LABEL,
    ParticleClass,
    Particles,
    TomogramFacts,
    placeholder_classes,
    read_classes,
)
from deepfinder_dask.particles.spacing import check_distance, keep_apart
from deepfinder_dask.tomograms import VoxelSize, as_voxel_size

if TYPE_CHECKING:
    from deepfinder_dask.clustering.mean_shift import Clusters
    from deepfinder_dask.clustering.splitting import Parts

INSTANCE = "instance"
"""Column of the table that ties a particle to its voxels in the instance map."""


@dataclass(frozen=True)
class Found:
    """What clustering found: one component a particle, and where it is."""

    components: Components
    """The particles, ``n`` of them, in the order of the table."""
    positions: NDArray[np.float64]
    """(n, 3): where they are, (z, y, x) in voxels."""
    pieces: Pieces | None = None
    """Of what the components were put together; None for mean-shift."""
    parts: tuple[Parts, ...] = ()
    """Components that were split, in order of component."""
    clusters: Clusters | None = None
    """The clusters, dropped ones too; None for connected components."""

    def take(self, keep: NDArray[np.bool_]) -> Found:
        """Particles for which ``keep``, (n,), is True, in the same order."""
        return replace(self, components=self.components.take(keep), positions=self.positions[keep])


@dataclass(frozen=True)
class Request:
    """A label map that is to be clustered; picklable."""

    source: LabelMap
    """The label map."""
    settings: ClusterSettings
    """How; the method is settled."""
    voxel_size: VoxelSize
    """Å per voxel, (z, y, x)."""
    classes: tuple[ParticleClass, ...] | None
    """What the labels mean, structures too; None where unknown."""

    @classmethod
    def of(cls, source: LabelMap, settings: ClusterSettings) -> Request:
        """Settle what the label map says with what the settings say.

        Raises
        ------
        VoxelSizeError
            The voxel size is unknown.
        InputError
            The file of classes or the mask cannot be read, or the mask has another shape than the label map.
        SettingsError
            A minimum distance is in radii, and a class has none.

        Warns
        -----
        ClusterWarning
            Components are found instead of mean-shift clusters, since no bandwidth is known.
        """
        if settings.voxel_size is not None:
            voxel_size = as_voxel_size(settings.voxel_size)
        elif source.voxel_size is not None:
            voxel_size = source.voxel_size
        else:
            raise VoxelSizeError(f"{source.path} does not say its voxel size: give it with --voxel-size Å")
        classes = source.classes if settings.classes is None else tuple(read_classes(settings.classes))
        particles = None if classes is None else tuple(one for one in classes if one.kind == "particle")
        if settings.min_distance is not None:
            check_distance(settings.min_distance, particles)
        settings = replace(settings, method=method_of(particles, settings, source.path))
        return cls(within(source, settings.mask, settings.border, voxel_size), settings, voxel_size, classes)

    @property
    def tomogram(self) -> str:
        """Name of the tomogram."""
        return self.settings.tomogram or self.source.name

    @property
    def facts(self) -> TomogramFacts:
        """Voxel size and shape."""
        return TomogramFacts(self.voxel_size, self.source.shape)

    @property
    def particles(self) -> tuple[ParticleClass, ...] | None:
        """Classes of kind ``particle``; None where unknown."""
        return None if self.classes is None else tuple(one for one in self.classes if one.kind == "particle")

    @property
    def structures(self) -> tuple[int, ...]:
        """Labels that are never clustered."""
        return tuple(one.label for one in self.classes or () if one.kind == "structure")

    @property
    def limits(self) -> SizeLimits:
        """Sizes that count.

        Raises
        ------
        SettingsError
            A minimum size is above the maximum of its class, or there is no such class.
        """
        return SizeLimits.of(self.particles, self.settings.min_size, self.settings.max_size)

    def label_job(self) -> LabelJob:
        """Connected components of the label map; to be split, only crumbs are dropped before."""
        limits, particles = self.limits, self.particles
        if self.settings.split:
            every = range(1, MAX_LABEL + 1) if particles is None else [one.label for one in particles]
            limits = limits.before_splitting(every)
        return LabelJob(
            labels=self.source.labels,
            probability=self.source.probability,
            shape=self.source.shape,
            connectivity=self.settings.connectivity or 6,
            per_class=self.settings.per_class,
            structures=self.structures,
            particles=None if particles is None else tuple(one.label for one in particles),
            limits=limits,
        )

    def label_grid(self) -> BlockGrid:
        """Blocks for connected components (a SettingsError where none fits the memory)."""
        source, settings = self.source, self.settings
        if settings.split:
            check_split_memory(settings.memory)
        return plan_blocks(source.shape, source.unit, source.itemsize, block=settings.block, memory=settings.memory)

    def split_distances(self) -> NDArray[np.float64]:
        """(255,) float64: least distance in voxels of two particles that touch, by label of the component.

        Raises
        ------
        SettingsError
            None is given, and a class has no radius.
        """
        given = self.settings.split_distance
        if given is not None:
            return np.full(MAX_LABEL + 1, float(given))
        unknown = "the labels" if not self.particles else ""
        unknown = next((f"class {one.name!r}" for one in self.particles or () if one.radius is None), unknown)
        if unknown:
            raise SettingsError(
                f"particles that touch are split where their centres are a radius apart, and {unknown} of "
                f"{self.source.path} have none: give --split-distance VOXELS, or radii in a file of classes (--classes)"
            )
        distances = np.ones(MAX_LABEL + 1)
        side = prod(self.voxel_size) ** (1 / 3)
        for one in self.particles or ():
            distances[one.label] = max(1.0, (one.radius or 0.0) / side)
        return distances

    def shift_job(self) -> ShiftJob:
        """Mean-shift of the label map (a SettingsError where a bandwidth is missing)."""
        source = self.source
        groups = groups_of(self.particles, self.structures, self.settings, self.voxel_size, source.path)
        known = None if self.classes is None else tuple(one.label for one in self.classes)
        return ShiftJob(source.labels, source.probability, source.shape, groups, known, members=False)

    def shift_grid(self, job: ShiftJob) -> BlockGrid:
        """Blocks for mean-shift (a SettingsError where none fits the memory)."""
        source, settings = self.source, self.settings
        halo = max((halo_of(group.bandwidth) for group in job.groups), default=0)
        return plan_shift_blocks(
            source.shape, source.unit, source.itemsize, halo=halo, block=settings.block, memory=settings.memory
        )

    def table(self, found: Found) -> Particles:
        """The particles as a table; classes that nothing names are called ``class_1`` and so on."""
        components, classes = found.components, self.particles
        mode = self.settings.method == "mean-shift" and self.settings.position == "mode"
        extra: dict[str, NDArray[Any]] = {}
        if self.settings.instances:
            extra[INSTANCE] = np.arange(1, len(components) + 1)
        if self.settings.measures:
            extra |= measure_particles(components, self.source.shape, self.voxel_size, centroid=mode)
        return Particles.from_voxels(
            found.positions,
            tomogram=self.tomogram,
            facts=self.facts,
            labels=components.labels,
            classes=placeholder_classes(components.vote_label.tolist()) if classes is None else classes,
            scores=components.scores,
            sizes=components.sizes,
            extra=extra,
        )

    def spaced(self, found: Found) -> Found:
        """Without particles that are too close to better ones, where a minimum distance was asked for."""
        distance = self.settings.min_distance
        if distance is None:
            return found
        return found.take(keep_apart(self.table(found), distance, per_class=self.settings.distance_per_class))


def check_request(
    classes: tuple[ParticleClass, ...], shape: Shape3, voxel_size: VoxelSize, settings: ClusterSettings, where: str
) -> None:
    """Refuse now what clustering a segmentation would refuse before its first block.

    Raises
    ------
    InputError
        As :func:`~deepfinder_dask.cluster`.
    """
    stub = Chunk(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # told of when it is clustered
        request = Request.of(LabelMap(where, stub, shape, 1, where, voxel_size, classes, stub), settings)
    _ = request.limits
    if request.settings.method == "mean-shift":
        request.shift_grid(request.shift_job())
        return
    request.label_grid()
    if request.settings.split:
        request.split_distances()
