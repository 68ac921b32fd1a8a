"""Tomograms that are unlike the others, in words.

The score is the modified z-score of Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): the distance from
the median over 1.4826 times the median absolute deviation, which outliers themselves hardly move; they propose to flag
at 3.5. Each quantity has a least scale as well, so that nothing is flagged for differences that mean nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, log, sqrt

import numpy as np

from deepfinder_dask.campaigns.reporting.digests import Digest
from deepfinder_dask.campaigns.reporting.words import whole

FEWEST = 6
"""Tomograms below which nothing can be said of one."""
FEW = 5
"""Particles below which a median says nothing."""
TO_SIGMA = 1.4826
"""Standard deviation over median absolute deviation, for normal values."""


@dataclass(frozen=True)
class Flag:
    """Why a tomogram deserves a look."""

    tomogram: str
    """Its name."""
    quantity: str
    """What is unlike: ``count``, ``size``, ``score``, ``time``, ``grey`` or ``voxel size``."""
    words: str
    """A sentence."""
    z: float
    """Robust z-score; signed."""


def find_outliers(
    digests: Mapping[str, Digest], seconds: Mapping[str, float], at: float = 3.5
) -> dict[str, tuple[Flag, ...]]:
    """Flags of each tomogram that has any, the strongest first.

    Parameters
    ----------
    digests : mapping
        Of the tomograms that are done, by name.
    seconds : mapping
        Wall time of all steps, by name.
    at : float
        Absolute robust z-score from which to flag.
    """
    flags: list[Flag] = []
    classes = sorted({name for one in digests.values() for name in one.particles})
    for name in classes:
        flags += _counts(digests, name, at)
        sizes = {t: d.particles[name].size for t, d in digests.items() if _enough(d, name)}
        flags += _flagged(
            {t: log(v) for t, v in sizes.items() if v},
            "size",
            at,
            0.03,
            partial(_size_words, name),
        )
        scores = {t: d.particles[name].score for t, d in digests.items() if _enough(d, name)}
        flags += _flagged(
            {t: v for t, v in scores.items() if v is not None},
            "score",
            at,
            0.01,
            partial(_score_words, name),
        )
    flags += _times(digests, seconds, at) + _greys(digests, at) + _voxel_sizes(digests)
    found: dict[str, list[Flag]] = {}
    for flag in sorted(flags, key=lambda one: -abs(one.z)):
        found.setdefault(flag.tomogram, []).append(flag)
    return {name: tuple(each) for name, each in found.items()}


def robust_z(values: Sequence[float], floor: float) -> list[float]:
    """Modified z-scores of some values; the scale is at least ``floor``."""
    data = np.asarray(values, float)
    middle = np.median(data)
    scale = max(TO_SIGMA * float(np.median(np.abs(data - middle))), floor)
    return [float(z) for z in (data - middle) / scale]


def _flagged(
    values: Mapping[str, float], quantity: str, at: float, floor: float, words: Callable[[float, float], str]
) -> list[Flag]:
    """Flags of one quantity; ``words`` says it of a value and the median."""
    if len(values) < FEWEST:
        return []
    middle = float(np.median(list(values.values())))
    scores = robust_z(list(values.values()), floor)
    return [
        Flag(name, quantity, words(value, middle), z)
        for (name, value), z in zip(values.items(), scores, strict=True)
        if abs(z) >= at
    ]


def _size_words(name: str, value: float, middle: float) -> str:
    return f"median size of {name} is {whole(exp(value))} voxels, elsewhere about {whole(exp(middle))}"


def _score_words(name: str, value: float, middle: float) -> str:
    return f"median score of {name} is {value:.2f}, elsewhere about {middle:.2f}"


def _enough(digest: Digest, name: str) -> bool:
    return name in digest.particles and digest.particles[name].count >= FEW


def _counts(digests: Mapping[str, Digest], name: str, at: float) -> list[Flag]:
    """Too few or too many particles for the volume; roots of counts, whose scatter by chance is 0.5 whatever they are.

    See Anscombe, The transformation of Poisson, binomial and negative-binomial data, Biometrika 35 (1948).
    """
    volumes = {t: d.volume for t, d in digests.items() if name in d.particles}
    known = [v for v in volumes.values() if v]
    if not known:
        return []
    usual = float(np.median(known))
    share = {t: (v or usual) / usual for t, v in volumes.items()}
    roots = {t: sqrt(digests[t].particles[name].count / share[t]) for t in volumes}
    typical = float(np.median(list(roots.values()))) ** 2 if roots else 0.0
    flags = _flagged(roots, "count", at, 0.5, lambda _v, _m: "")
    found = []
    for flag in flags:
        count, expected = digests[flag.tomogram].particles[name].count, typical * share[flag.tomogram]
        words = f"{whole(count)} {name}, where others hold about {whole(expected)} in a volume of this size"
        found.append(Flag(flag.tomogram, "count", words, flag.z))
    return found


def _times(digests: Mapping[str, Digest], seconds: Mapping[str, float], at: float) -> list[Flag]:
    """Time for a voxel."""
    rates = {
        name: log(seconds[name] / float(np.prod(one.shape)))
        for name, one in digests.items()
        if one.shape and seconds.get(name, 0.0) > 0
    }
    return _flagged(
        rates,
        "time",
        at,
        log(1.25),
        lambda v, m: (
            f"took {exp(v - m):.1f} times as long for a voxel as is usual"
            if v > m
            else f"took {exp(v - m):.2f} of the usual time for a voxel"
        ),
    )


def _greys(digests: Mapping[str, Digest], at: float) -> list[Flag]:
    """Mean, spread and tails of the grey values."""
    known = {name: one.grey for name, one in digests.items() if one.grey.get("std", 0.0) > 0}
    flags = _flagged(
        {name: log(grey["std"]) for name, grey in known.items()},
        "grey",
        at,
        0.05,
        lambda v, m: f"standard deviation of its grey values is {exp(v):.3g}, elsewhere about {exp(m):.3g}",
    )
    spread = float(np.median([grey["std"] for grey in known.values()])) if known else 1.0
    flags += _flagged(
        {name: grey["mean"] / spread for name, grey in known.items()},
        "grey",
        at,
        0.05,
        lambda v, m: f"mean of its grey values is {_number(v * spread)}, elsewhere about {_number(m * spread)}",
    )
    tails = {}
    for name, grey in known.items():
        at_percent = grey.get("percentiles", {})
        if {"0.1", "50", "99.9"} <= set(at_percent):
            low, middle, high = (float(at_percent[key]) for key in ("0.1", "50", "99.9"))
            tails[name] = log(max(middle - low, high - middle, 1e-12) / grey["std"])
    return flags + _flagged(
        tails,
        "grey",
        at,
        0.05,
        lambda v, m: (
            f"its rarest grey values lie {exp(v):.1f} standard deviations from the middle, elsewhere about "
            f"{exp(m):.1f}: gold, ice, or a damaged reconstruction?"
        ),
    )


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _voxel_sizes(digests: Mapping[str, Digest]) -> list[Flag]:
    """Another voxel size than most."""
    sizes = Counter(one.voxel_size for one in digests.values() if one.voxel_size)
    if len(sizes) < 2:
        return []
    usual, times = sizes.most_common(1)[0]
    if times < FEWEST or 2 * times < sizes.total():
        return []
    return [
        Flag(name, "voxel size", f"voxel size is {_angstrom(one.voxel_size)}, elsewhere {_angstrom(usual)}", 99.0)
        for name, one in digests.items()
        if one.voxel_size and any(abs(a / b - 1) > 0.01 for a, b in zip(one.voxel_size, usual, strict=True))
    ]


def _angstrom(sizes: Sequence[float]) -> str:
    return " × ".join(f"{v:g}" for v in (sizes if len(set(sizes)) > 1 else sizes[:1])) + " Å"
