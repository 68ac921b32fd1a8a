"""From the tomograms compared to the figures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.evaluation.bootstrap import Draws, draw_again, intervals_of, mean_of
from deepfinder_dask.evaluation.outcome import Outcome
from deepfinder_dask.evaluation.pairing import ClassPair
from deepfinder_dask.evaluation.pairs import pairs_table
from deepfinder_dask.evaluation.ranking import Curve
from deepfinder_dask.evaluation.result import (
    UNMATCHED,
    Bootstrap,
    Details,
    Evaluation,
    Intervals,
    RegionScores,
    Score,
    Spread,
)
from deepfinder_dask.evaluation.settings import EvaluateSettings

FEW = 5
"""Fewer tomograms than this say little of others; a note says so."""
_MACRO = ("f1", "f_beta", "average_precision")


def summarised(
    outcomes: Sequence[Outcome], classes: Sequence[ClassPair], settings: EvaluateSettings, notes: Sequence[str]
) -> Evaluation:
    """Evaluation of all tomograms together.

    Parameters
    ----------
    outcomes
        Tomograms compared.
    classes
        Classes by number.
    settings
        How to sum up: beta, bootstrap.
    notes
        What is to be said already.
    """
    number = len(classes)
    counts = np.zeros((len(outcomes), number, 3), dtype=np.int64)
    for index, one in enumerate(outcomes):
        counts[index] = one.counts(number)
    confusion = sum((one.confusion(number) for one in outcomes), np.zeros((number + 1, number + 1), dtype=np.int64))
    pooled = counts.sum(axis=0)
    listed = [i for i, pair in enumerate(classes) if pair.truth is not None or pooled[i].any()]
    shown = [*listed, number]
    bootstrap, draws = _bootstrapped(outcomes, number, settings)
    scores = {classes[i].name: _score(pooled[i]) for i in listed}
    details = {
        classes[i].name: _class_details(outcomes, i, classes[i], scores[classes[i].name], settings, draws)
        for i in listed
    }
    overall = _score(pooled.sum(axis=0))
    blind = sum((_blind(one) for one in outcomes), Score(0, 0, 0))
    drawn = None if draws is None else [draws.classes[i] for i in listed]
    return Evaluation(
        localisation=blind,
        overall=overall,
        classes=scores,
        tomograms={one.name: _score(counts[i].sum(axis=0)) for i, one in enumerate(outcomes)},
        confusion_names=(*(classes[i].name for i in listed), UNMATCHED),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion[np.ix_(shown, shown)]),
        tolerance=settings.tolerance if settings.truth_volume is None else "the voxels of a particle",
        notes=(*notes, *_unscored(details, scores), *_rough(bootstrap, len(outcomes))),
        beta=settings.beta,
        class_details=details,
        overall_details=Details(
            f_beta=overall.f_beta(settings.beta),
            distance=Spread.of(_joined([one.matches.distance for one in outcomes])),
            angle=Spread.of(_joined([one.angles for one in outcomes])),
            intervals=_intervals(None if draws is None else draws.overall, settings),
            curve=_curve(outcomes, None),
        ),
        localisation_details=Details(
            f_beta=blind.f_beta(settings.beta),
            distance=Spread.of(_joined([one.blind.distance for one in outcomes])),
            intervals=_intervals(None if draws is None else draws.localisation, settings),
        ),
        macro={
            "f1": _mean([one.f1 for one in scores.values()]),
            "f_beta": _mean([one.f_beta for one in details.values()]),
            "average_precision": _mean([one.average_precision for one in details.values()]),
        },
        macro_intervals=_intervals({name: mean_of(drawn, name) for name in _MACRO} if drawn else None, settings),
        tomogram_classes={
            one.name: {classes[i].name: _score(counts[t, i]) for i in listed} for t, one in enumerate(outcomes)
        },
        tomogram_localisation={one.name: _blind(one) for one in outcomes},
        bootstrap=bootstrap,
        pairs=pairs_table(outcomes, [one.name for one in classes]),
    )


def region_scores(outcomes: Sequence[Outcome], classes: Sequence[ClassPair]) -> RegionScores:
    """Scores of one region over all tomograms."""
    pooled = np.sum([one.counts(len(classes)) for one in outcomes], axis=0)
    listed = [i for i, pair in enumerate(classes) if pair.truth is not None or pooled[i].any()]
    blind = sum((_blind(one) for one in outcomes), Score(0, 0, 0))
    return RegionScores(blind, _score(pooled.sum(axis=0)), {classes[i].name: _score(pooled[i]) for i in listed})


def _bootstrapped(
    outcomes: Sequence[Outcome], classes: int, settings: EvaluateSettings
) -> tuple[Bootstrap | None, Draws | None]:
    """Samples drawn, and how."""
    if not settings.bootstrap or not outcomes or not classes:
        return None, None
    over = settings.resample
    if over == "auto":
        over = "tomograms" if len(outcomes) > 1 else "particles"
    made = Bootstrap(over, settings.bootstrap, settings.seed, settings.confidence)
    draws = draw_again(
        outcomes, classes, over=over, replicates=settings.bootstrap, seed=settings.seed, beta=settings.beta
    )
    return made, draws


def _class_details(
    outcomes: Sequence[Outcome],
    number: int,
    pair: ClassPair,
    score: Score,
    settings: EvaluateSettings,
    draws: Draws | None,
) -> Details:
    """Details of one class."""
    curve = _curve(outcomes, number)
    intervals = dict(_intervals(None if draws is None else draws.classes[number], settings))
    if curve is None:
        intervals.pop("average_precision", None)
    return Details(
        f_beta=score.f_beta(settings.beta),
        average_precision=nan if curve is None else curve.average_precision,
        distance=Spread.of(_joined([one.matches.distance[_of(one, number)] for one in outcomes])),
        angle=Spread.of(_joined([one.angles[_of(one, number)] for one in outcomes])),
        intervals=intervals,
        curve=curve,
        colour=pair.colour,
    )


def _of(outcome: Outcome, number: int) -> NDArray[np.bool_]:
    """Which pairs are of a class."""
    return np.asarray(outcome.truth.classes[outcome.matches.truth] == number)


def _curve(outcomes: Sequence[Outcome], number: int | None) -> Curve | None:
    """Counts at every threshold of a class, or of all; None where a score is unknown."""
    scores, hits, true = [], [], 0
    for one in outcomes:
        mine = np.ones(len(one.found), dtype=bool) if number is None else one.found.classes == number
        scores.append(one.found.scores[mine])
        hits.append(one.hits[mine])
        true += len(one.truth) if number is None else int((one.truth.classes == number).sum())
    values = _joined(scores)
    return None if np.isnan(values).any() else Curve.of(values, np.concatenate([*hits, np.empty(0, bool)]), true)


def _blind(outcome: Outcome) -> Score:
    return Score(len(outcome.truth), len(outcome.found), len(outcome.blind))


def _score(counts: NDArray[np.int64]) -> Score:
    true, found, matched = (int(n) for n in counts)
    return Score(true, found, matched)


def _joined(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.empty(0), *parts])


def _mean(values: Sequence[float]) -> float:
    """Mean of those that are defined; NaN where none is."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else nan


def _intervals(draws: Mapping[str, NDArray[np.float64]] | None, settings: EvaluateSettings) -> Intervals:
    return {} if draws is None else intervals_of(draws, settings.confidence)


def _unscored(details: Mapping[str, Details], scores: Mapping[str, Score]) -> list[str]:
    """Note on classes whose found particles have no scores."""
    names = [name for name, one in details.items() if one.curve is None]
    if not names:
        return []
    without = sum(scores[name].found for name in names)
    return [f"No average precision for {names}: scores are missing among their {without} found particles."]


def _rough(bootstrap: Bootstrap | None, tomograms: int) -> list[str]:
    """Note on intervals from few tomograms."""
    if bootstrap is None or bootstrap.over != "tomograms" or tomograms >= FEW:
        return []
    return [f"Confidence intervals are drawn from {tomograms} tomograms only, and so are rough."]
