"""What verbs say when they are done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfinder_dask.particles import Particles
    from deepfinder_dask.tomograms import Tomogram


def described(tomogram: Tomogram) -> str:
    """A tomogram by its path, shape (z, y, x) and voxel size."""
    shape = " × ".join(str(n) for n in tomogram.shape)
    sizes = tomogram.voxel_size if len(set(tomogram.voxel_size)) > 1 else tomogram.voxel_size[:1]
    return f"{tomogram.path}: {shape} voxels of {' × '.join(f'{v:g}' for v in sizes)} Å"


def facts_of(particles: Particles) -> dict[str, Any]:
    """The same for a script."""
    return {"count": len(particles), "classes": dict(particles.counts()), "tomograms": list(particles.tomograms)}


def counted(particles: Particles) -> str:
    """How many particles there are, by class."""
    counts = [f"{n} {name}" for name, n in particles.counts().items()]
    return f"{len(particles)} particles" + (f" ({', '.join(counts)})" if counts else "")
