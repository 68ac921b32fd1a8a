"""Which classes mean-shift clusters together, and with which bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from deepfinder_dask.clustering.settings import ClusterSettings
from deepfinder_dask.clustering.shift_job import Group
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.particles import MAX_LABEL, ParticleClass
from deepfinder_dask.tomograms import VoxelSize

ALIKE = 1.5
"""Classes whose radii differ by less than this factor share one bandwidth: one cannot serve radii of 3 to 12 voxels."""


def groups_of(
    classes: Sequence[ParticleClass] | None,
    structures: Sequence[int],
    settings: ClusterSettings,
    voxel_size: VoxelSize,
    where: str,
) -> tuple[Group, ...]:
    """Classes that are clustered together, with their bandwidths in voxels.

    A bandwidth that is given serves all classes. Otherwise it is the radius: the mean of the classes' radii where they
    agree within a factor of 1.5, else each class's own, and each class is clustered alone.

    Parameters
    ----------
    classes : sequence of ParticleClass or None
        Classes of kind ``particle``; None where a label map does not say what its labels mean.
    structures : sequence of int
        Labels that are never clustered.
    settings : ClusterSettings
        What was asked for.
    voxel_size : tuple of float
        Å per voxel, (z, y, x); lengths in Å are divided by the cube root of their product.
    where : str
        Name of the label map, for errors.

    Raises
    ------
    SettingsError
        No bandwidth is given, and a radius that is needed is unknown.
    """
    side = prod(voxel_size) ** (1 / 3) if len(set(voxel_size)) > 1 else voxel_size[0]
    labels = [one.label for one in classes] if classes is not None else range(1, MAX_LABEL + 1)
    wanted = tuple(label for label in labels if label not in structures)
    given = settings.bandwidth
    if settings.bandwidth_angstrom is not None:
        given = settings.bandwidth_angstrom / side
    if given is not None:
        together = [(label,) for label in wanted] if settings.per_class else [wanted]
        return tuple(Group(labels, float(given)) for labels in together)
    if classes is not None and not wanted:
        return ()  # structures only: nothing to cluster
    radii = {one.label: one.radius / side for one in classes or () if one.radius is not None}
    unknown = [one.name for one in classes or () if one.radius is None]
    if not radii:
        raise SettingsError(
            f"the bandwidth of mean-shift is about the radius of the particles, and {where} knows no radius: "
            f"give --bandwidth VOXELS, or radii in a file of classes (--classes)"
        )
    alike = max(radii.values()) <= ALIKE * min(radii.values())
    if alike and not settings.per_class:
        return (Group(wanted, sum(radii.values()) / len(radii)),)
    if unknown:
        raise SettingsError(
            f"the classes of {where} are clustered one by one, each with its radius as bandwidth, and class "
            f"{unknown[0]!r} has none: give it a radius in a file of classes (--classes), or one --bandwidth VOXELS"
        )
    return tuple(Group((label,), radii[label]) for label in sorted(radii))
