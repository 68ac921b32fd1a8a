"""F1 of particles: whole validation tomograms through segmentation, clustering and evaluation, as a user would."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path

import numpy as np

from deepfinder_dask.clustering import ClusterSettings, cluster
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.evaluation import EvaluateSettings, Tolerance, evaluate
from deepfinder_dask.networks import Weights
from deepfinder_dask.particles import ParticleClass, Particles
from deepfinder_dask.segmentation import SegmentSettings, segment
from deepfinder_dask.tomograms import Tomogram


@dataclass(frozen=True)
class WholeTomogram:
    """A validation tomogram with its particles."""

    tomogram: Tomogram
    """Grey values."""
    truth: Particles
    """All particles of its annotated classes, inside the mask."""
    annotated: tuple[str, ...]
    """Classes that are annotated in it; others are not counted."""
    mask: str | None = None
    """Path of a mask: where it is not 0, particles are sought."""


def check_tolerance(tolerance: str, classes: tuple[ParticleClass, ...]) -> None:
    """Refuse, before anything is trained, a tolerance that the classes leave open.

    Raises
    ------
    SettingsError
        If the tolerance is none, or needs radii that are unknown.
    """
    without = [c.name for c in classes if c.kind == "particle" and c.radius is None]
    if Tolerance.parse(tolerance).by_radius and without:
        raise SettingsError(
            f"tolerance {tolerance!r} counts in radii, and {without} have none: give the particles' classes radii, or "
            "a tolerance such as 40A or 3vox"
        )


def count_particles(
    weights: Weights,
    tomograms: tuple[WholeTomogram, ...],
    folder: Path,
    *,
    segmenting: SegmentSettings,
    clustering: ClusterSettings,
    tolerance: str,
) -> dict[str, float]:
    """Segment, cluster and evaluate whole tomograms.

    Parameters
    ----------
    weights : Weights
        The network as it is.
    tomograms : tuple of WholeTomogram
    folder : Path
        For the segmentations; what is in it is replaced, and removed in the end.
    segmenting, clustering : settings
        How.
    tolerance : str
        How far off a particle may be.

    Returns
    -------
    dict
        ``particles_f1_<label>`` of each class with true or found particles, ``particles_f1``, their mean, and
        ``particles_localisation``, class-blind; 0 where nothing was found.
    """
    found, truth = [], []
    try:
        for one in tomograms:
            path = folder / f"{one.tomogram.name}.zarr"
            segment(one.tomogram, weights, path, replace(segmenting, mask=one.mask), progress=False)
            particles = cluster(path, None, clustering, progress=False)
            found.append(particles.where(particles.table["class"].isin(one.annotated)))
            truth.append(one.truth)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = evaluate(Particles.concat(truth), Particles.concat(found), EvaluateSettings(tolerance=tolerance))
    labels = {c.name: c.label for c in weights.classes}
    scores = {labels[name]: score.f1 for name, score in result.classes.items() if not isnan(score.f1)}
    blind = result.localisation.f1
    return {
        **{f"particles_f1_{label}": score for label, score in scores.items()},
        "particles_f1": float(np.mean(list(scores.values()))) if scores else 0.0,
        "particles_localisation": 0.0 if isnan(blind) else blind,
    }
