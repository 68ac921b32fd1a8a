"""The score of the CZII challenge: F4 of each class over all tomograms, weighted.

Published as the metric of the Kaggle competition "CZII - CryoET Object Identification" (2024, notebook
``metric/czi-cryoet-84969``): a true particle is found if any found one of its class lies within half the radius of the
class; counts of a class are summed over all tomograms; F-beta with beta 4 of each class; their weighted mean. There
the weights are apo-ferritin 1, beta-amylase 0, beta-galactosidase 2, ribosome 1, thyroglobulin 2, virus-like-particle
1, and the radii 60, 65, 90, 150, 130, 135 Å.

It is not one to one: a found particle within reach of two true ones finds both. Classes that the truth lacks do not
count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.evaluation.matching import within_reach
from deepfinder_dask.evaluation.outcome import Outcome
from deepfinder_dask.evaluation.pairing import ClassPair

BETA = 4.0
"""Weight of recall."""
REACH = 0.5
"""Part of the radius that counts as found."""


def czii_score(
    outcomes: Sequence[Outcome], classes: Sequence[ClassPair], weights: Mapping[str, float]
) -> tuple[float, dict[str, float]]:
    """Score from 0 to 1, and F4 of each class that has true particles.

    Parameters
    ----------
    outcomes
        Tomograms compared.
    classes
        Classes by number, with their radii.
    weights
        Weight of a class by name; 1 where not given.

    Raises
    ------
    SettingsError
        A class with true particles has no radius, a weight is of no class, or all weights are 0.
    """
    unknown = sorted(set(weights) - {one.name for one in classes})
    if unknown:
        raise SettingsError(f"no class {unknown[0]!r} to weigh; the classes are {[one.name for one in classes]}")
    by_class: dict[str, float] = {}
    for number, one in enumerate(classes):
        true = found = hit = 0
        for outcome in outcomes:
            truth = outcome.truth.positions[outcome.truth.classes == number]
            seen = outcome.found.positions[outcome.found.classes == number]
            if len(truth) and one.radius is None:
                raise SettingsError(f"the CZII score needs the radius of class {one.name!r}; give --classes with radii")
            rows, _ = within_reach(truth, seen, REACH * (one.radius or 0.0))
            true, found, hit = true + len(truth), found + len(seen), hit + len(np.unique(rows))
        if true:
            by_class[one.name] = (1 + BETA**2) * hit / (BETA**2 * true + found)
    total = sum(weights.get(name, 1.0) for name in by_class)
    if by_class and not total:
        raise SettingsError(f"the weights of all classes in the truth are 0: {sorted(by_class)}")
    weighted = sum(weights.get(name, 1.0) * value for name, value in by_class.items())
    return (weighted / total if by_class else float("nan")), by_class
