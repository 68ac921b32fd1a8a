"""Confidence intervals by the bootstrap: how far figures move when tomograms, or particles, are drawn again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.evaluation.outcome import Outcome
from deepfinder_dask.evaluation.result import Intervals

_AT_ONCE = 2_000_000
"""Weights held at a time."""


@dataclass(frozen=True, eq=False)
class Cases:
    """What is drawn again: found particles (hits or not) and missed true ones, of one class."""

    tomogram: NDArray[np.int64]
    """Number of the tomogram of each found particle, (m,) int64, in order of score, the highest first."""
    hit: NDArray[np.bool_]
    """Whether it is a hit, (m,) bool."""
    last: NDArray[np.int64]
    """Index of the last found particle of each different score, (k,) int64; empty where scores are unknown."""
    missed: NDArray[np.int64]
    """Missed true particles of each tomogram, (tomograms,) int64."""
    ranked: bool
    """Whether all scores are known, so that there is an average precision."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Figures of every drawn sample."""

    classes: Sequence[Mapping[str, NDArray[np.float64]]]
    """By class: ``precision, recall, f1, f_beta, average_precision``, each (replicates,) float64."""
    overall: Mapping[str, NDArray[np.float64]]
    """The same of all classes pooled, without average precision."""
    localisation: Mapping[str, NDArray[np.float64]]
    """The same, whatever the classes."""


def cases_of(outcomes: Sequence[Outcome], number: int) -> Cases:
    """Cases of one class in all tomograms, in an order that does not depend on that of rows."""
    parts = []
    missed = []
    for index, one in enumerate(outcomes):
        mine = one.found.classes == number
        parts.append((np.full(int(mine.sum()), index), one.hits[mine], one.found.scores[mine]))
        missed.append(int((one.truth.classes == number).sum()) - int(one.hits[mine].sum()))
    tomogram, hit, scores = (np.concatenate([part[i] for part in parts]) for i in range(3))
    ranked = not bool(np.isnan(scores).any())
    values = scores if ranked else np.zeros(len(scores))
    order = np.lexsort((hit, tomogram, -values))
    values = values[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)) if len(values) else np.empty(0, np.int64)
    return Cases(tomogram[order], hit[order].astype(bool), last, np.array(missed, dtype=np.int64), ranked)


def draw_again(
    outcomes: Sequence[Outcome],
    classes: int,
    *,
    over: Literal["tomograms", "particles"],
    replicates: int,
    seed: int,
    beta: float,
) -> Draws:
    """Figures of samples drawn with replacement, as large as what they are drawn from.

    Parameters
    ----------
    outcomes
        Tomograms compared; their order and that of their particles changes nothing.
    classes
        Number of classes.
    over
        ``tomograms`` draws whole tomograms. ``particles`` draws pairs, missed true and false found particles.
    replicates
        Number of samples.
    seed
        Of the random numbers.
    beta
        Weight of recall in F-beta.

    Notes
    -----
    Efron and Tibshirani, *An Introduction to the Bootstrap* (1993). Particles of one tomogram are not independent of
    each other (thickness, defocus and crowding are shared), so intervals over particles are too narrow for what
    another tomogram would give.
    """
    outcomes = sorted(outcomes, key=lambda one: one.name)
    cases = [cases_of(outcomes, number) for number in range(classes)]
    blind = np.array([(len(one.truth), len(one.found), len(one.blind)) for one in outcomes], dtype=np.int64)
    streams = [np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(2)]
    size = len(outcomes) if over == "tomograms" else sum(len(one.hit) + int(one.missed.sum()) for one in cases)
    longest = max([size, *(len(one.hit) for one in cases)])
    step = max(1, min(replicates, _AT_ONCE // max(1, longest)))
    counts, precisions, localised = [], [], []
    for start in range(0, replicates, step):
        number = min(step, replicates - start)
        weights = _weights(streams[0], number, size)
        if over == "tomograms":
            drawn = [_by_tomogram(one, weights) for one in cases]
            localised.append(weights @ blind)
        else:
            drawn = _by_case(cases, weights)
            localised.append(_blind_by_case(streams[1], number, blind.sum(axis=0)))
        counts.append(np.stack([_counts(one, *w) for one, w in zip(cases, drawn, strict=True)], axis=1))
        precisions.append(np.stack([_average_precision(one, *w) for one, w in zip(cases, drawn, strict=True)], axis=1))
    all_counts, all_precisions = np.concatenate(counts), np.concatenate(precisions)
    by_class = [{**_ratios(all_counts[:, c], beta), "average_precision": all_precisions[:, c]} for c in range(classes)]
    return Draws(by_class, _ratios(all_counts.sum(axis=1), beta), _ratios(np.concatenate(localised), beta))


def intervals_of(draws: Mapping[str, NDArray[np.float64]], confidence: float) -> Intervals:
    """Percentile interval of each figure; NaN where it is undefined in every sample."""
    tail = 50 * (1 - confidence)
    result = {}
    for name, values in draws.items():
        known = values[~np.isnan(values)]
        ends = np.percentile(known, (tail, 100 - tail)) if len(known) else (np.nan, np.nan)
        result[name] = (float(ends[0]), float(ends[1]))
    return result


def mean_of(draws: Sequence[Mapping[str, NDArray[np.float64]]], name: str) -> NDArray[np.float64]:
    """Mean of a figure over the classes where it is defined, of every sample."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.asarray(np.nanmean([one[name] for one in draws], axis=0), dtype=np.float64)


def _weights(random: np.random.Generator, replicates: int, size: int) -> NDArray[np.int32]:
    """How often each of ``size`` things is drawn in each sample, (replicates, size)."""
    if not size:
        return np.zeros((replicates, 0), dtype=np.int32)
    drawn = random.integers(0, size, (replicates, size)) + size * np.arange(replicates)[:, None]
    return np.bincount(drawn.ravel(), minlength=replicates * size).reshape(replicates, size).astype(np.int32)


Drawn = tuple[NDArray[np.int32], NDArray[np.int64]]
"""How often each found particle is drawn, (replicates, m), and how many missed true ones are, (replicates,)."""


def _by_tomogram(cases: Cases, weights: NDArray[np.int32]) -> Drawn:
    return weights[:, cases.tomogram], np.asarray(weights @ cases.missed, dtype=np.int64)


def _by_case(cases: Sequence[Cases], weights: NDArray[np.int32]) -> list[Drawn]:
    result = []
    start = 0
    for one in cases:
        middle = start + len(one.hit)
        end = middle + int(one.missed.sum())
        result.append((weights[:, start:middle], weights[:, middle:end].sum(axis=1, dtype=np.int64)))
        start = end
    return result


def _blind_by_case(random: np.random.Generator, replicates: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drawn counts true, found, matched, (replicates, 3), of pairs, missed and false ones."""
    true, found, matched = (int(n) for n in counts)
    parts = np.array([matched, true - matched, found - matched])
    if not parts.sum():
        return np.zeros((replicates, 3), dtype=np.int64)
    pairs, missed, false = random.multinomial(int(parts.sum()), parts / parts.sum(), size=replicates).T
    return np.stack([pairs + missed, pairs + false, pairs], axis=1)


def _counts(cases: Cases, weights: NDArray[np.int32], missed: NDArray[np.int64]) -> NDArray[np.int64]:
    """True, found, matched of each sample, (replicates, 3)."""
    matched = weights[:, cases.hit].sum(axis=1, dtype=np.int64)
    return np.stack([matched + missed, weights.sum(axis=1, dtype=np.int64), matched], axis=1)


def _average_precision(cases: Cases, weights: NDArray[np.int32], missed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average precision of each sample, (replicates,); NaN where it is undefined."""
    if not cases.ranked:
        return np.full(len(weights), np.nan)
    found = np.cumsum(weights, axis=1, dtype=np.int32)[:, cases.last]
    matched = np.cumsum(weights * cases.hit, axis=1, dtype=np.int32)[:, cases.last]
    true = (matched[:, -1] if matched.shape[1] else 0) + missed
    rises = np.diff(matched, axis=1, prepend=np.int32(0))
    area = (rises * (matched / np.maximum(found, 1))).sum(axis=1)
    return np.where(true > 0, area / np.maximum(true, 1), np.nan)


def _ratios(counts: NDArray[np.int64], beta: float) -> dict[str, NDArray[np.float64]]:
    """Precision, recall, F1 and F-beta of each sample, from true, found, matched (replicates, 3); NaN if undefined."""
    true, found, matched = counts.T.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "precision": matched / found,
            "recall": matched / true,
            "f1": 2 * matched / (true + found),
            "f_beta": (1 + beta**2) * matched / (beta**2 * true + found),
        }
