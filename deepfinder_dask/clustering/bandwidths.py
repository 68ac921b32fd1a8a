"""Which method finds the particles; which classes mean-shift clusters together, and with which bandwidth."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import prod

from deepfinder_dask.clustering.settings import ClusterSettings, Method
from deepfinder_dask.clustering.shift_job import Group
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.particles import MAX_LABEL, ParticleClass
from deepfinder_dask.tomograms import VoxelSize

ALIKE = 1.5
"""Classes whose radii differ by less than this factor share one bandwidth: one cannot serve radii of 3 to 12 voxels."""


REACH = 1.25
"""Default bandwidth over radius. A ball as large as the particle finds several modes in one that is hollow or long, and
one much larger joins particles that touch: two balls are told apart up to 1.3 of their radius."""


class ClusterWarning(UserWarning):
    """Particles were found in another way than by default, since something is unknown."""


def method_of(classes: Sequence[ParticleClass] | None, settings: ClusterSettings, where: str) -> Method:
    """The method that the settings ask for; by default mean-shift where its bandwidth is known.

    Parameters
    ----------
    classes : sequence of ParticleClass or None
        Classes of kind ``particle``; None where a label map does not say what its labels mean.
    settings : ClusterSettings
        What was asked for.
    where : str
        Name of the label map, for the warning.

    Warns
    -----
    ClusterWarning
        No bandwidth is given and a radius that is needed is unknown: components are found instead.
    """
    if settings.method is not None:
        return settings.method
    if settings.connectivity is not None or settings.split:
        return "components"
    lack = _lack(classes, settings)
    if lack is None:
        return "mean-shift"
    warnings.warn(
        f"{where}: {lack}, so particles are its connected components, and those that touch are one: give --bandwidth "
        f"VOXELS or radii in a file of classes (--classes) for mean-shift, or --method components if they are meant",
        ClusterWarning,
        stacklevel=4,
    )
    return "components"


def groups_of(
    classes: Sequence[ParticleClass] | None,
    structures: Sequence[int],
    settings: ClusterSettings,
    voxel_size: VoxelSize,
    where: str,
) -> tuple[Group, ...]:
    """Classes that are clustered together, with their bandwidths in voxels.

    A bandwidth that is given serves all classes. Otherwise it is 1.25 times the radius: the mean of the classes' radii
    where they agree within a factor of 1.5, else each class's own, and each class is clustered alone.

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
    lack = _lack(classes, settings)
    if lack is not None:
        raise SettingsError(f"{where}: {lack}: give --bandwidth VOXELS, or radii in a file of classes (--classes)")
    if _alike(list(radii.values())) and not settings.per_class:
        return (Group(wanted, REACH * sum(radii.values()) / len(radii)),)
    return tuple(Group((label,), REACH * radii[label]) for label in sorted(radii))


def _lack(classes: Sequence[ParticleClass] | None, settings: ClusterSettings) -> str | None:
    """What is unknown of the bandwidths; None where they are given or follow from the radii."""
    if settings.bandwidth is not None or settings.bandwidth_angstrom is not None:
        return None
    if classes is not None and not classes:
        return None  # structures only: nothing to cluster
    radii = [one.radius for one in classes or () if one.radius is not None]
    if not radii:
        return "the bandwidth of mean-shift is about the radius of the particles, and no radius is known"
    unknown = [one.name for one in classes or () if one.radius is None]
    if unknown and (settings.per_class or not _alike(radii)):
        return (
            "mean-shift clusters these classes one by one, each with a bandwidth from its radius, and class "
            f"{unknown[0]!r} has none"
        )
    return None


def _alike(radii: Sequence[float]) -> bool:
    """Whether one bandwidth can serve particles of these radii."""
    return max(radii) <= ALIKE * min(radii)
