"""What tuning says: thresholds, what they give on the tomograms they were tuned on, and on others."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from deepfinder_dask.evaluation.result import Score
from deepfinder_dask.evaluation.sweeping import Sweep
from deepfinder_dask.particles.classes import ParticleClass, write_classes
from deepfinder_dask.particles.files import atomic_write, refuse_existing

KINDS = ("size", "score", "joint")
"""What is compared with thresholds: the size in voxels, the score, or both at once."""


@dataclass(frozen=True)
class Choice:
    """The threshold of largest F-beta of one class."""

    size: int | None
    """Smallest size that is kept, in voxels; None where no size is dropped."""
    score: float | None
    """Smallest score that is kept; None where no score is dropped."""
    tuned: Score
    """Counts on the tomograms it was chosen on, so flattering."""
    held_out: Score | None
    """Counts on tomograms that had no part in the choice; None where there are none."""

    def to_dict(self, beta: float) -> dict[str, Any]:
        """Plain values for JSON; undefined ratios are None."""
        return {
            "size": self.size,
            "score": self.score,
            **score_dict(self.tuned, beta),
            "held_out": None if self.held_out is None else score_dict(self.held_out, beta),
        }


@dataclass(frozen=True)
class TunedClass:
    """Thresholds of one class."""

    name: str
    """Name of the class."""
    label: int
    """Its label."""
    before: Score
    """Counts without any threshold."""
    choices: Mapping[str, Choice]
    """By what is compared, some of :data:`KINDS`; empty where the class has no true particles."""
    sweeps: Mapping[str, Sweep]
    """Counts at every threshold, for ``size`` and ``score`` as far as they are known."""


@dataclass(frozen=True)
class Tuning:
    """Thresholds of all classes."""

    classes: tuple[TunedClass, ...]
    """In order of label."""
    overall: Mapping[str, Choice]
    """All classes pooled, each at its own thresholds; no threshold of their own."""
    before: Score
    """All classes pooled, without any threshold."""
    beta: float
    """The F-beta that was made largest."""
    tolerance: str
    """Tolerance as it was asked for."""
    tomograms: tuple[str, ...]
    """Tomograms that thresholds were tuned on."""
    judged: tuple[str, ...]
    """Tomograms that they were judged on apart: those held out, or all in turn; none where there is but one."""
    particle_classes: tuple[ParticleClass, ...]
    """Classes with their minimum sizes filled in, for ``cluster --classes`` and ``locate``."""
    notes: tuple[str, ...]
    """What a reader of the numbers should know, one sentence each."""

    @property
    def measure(self) -> str:
        """Name of the measure, such as F1 or F4."""
        return f"F{self.beta:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the curves."""
        return {
            "beta": self.beta,
            "tolerance": self.tolerance,
            "tomograms": list(self.tomograms),
            "held_out": list(self.judged),
            "classes": {
                one.name: {"label": one.label, "before": score_dict(one.before, self.beta)}
                | {kind: choice.to_dict(self.beta) for kind, choice in one.choices.items()}
                for one in self.classes
            },
            "overall": {"before": score_dict(self.before, self.beta)}
            | {kind: choice.to_dict(self.beta) for kind, choice in self.overall.items()},
            "notes": list(self.notes),
        }

    def write(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write ``tuning.json``, ``curves.csv`` and ``classes.toml``, each whole or not at all.

        Raises
        ------
        OutputExistsError
            One is there and ``overwrite`` is False.
        StorageError
            One cannot be written.
        """
        folder = Path(folder)
        paths = [folder / name for name in ("tuning.json", "curves.csv", "classes.toml")]
        refuse_existing(paths, overwrite)
        with atomic_write(paths[0]) as temporary:
            text = json.dumps(self.to_dict(), ensure_ascii=False, indent=2, allow_nan=False)
            temporary.write_text(f"{text}\n", encoding="utf-8")
        with atomic_write(paths[1]) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            lines = csv.writer(stream, lineterminator="\n")
            lines.writerow(["class", "by", "threshold", "true", "found", "matched", "recall", "precision", "f_beta"])
            for one in self.classes:
                for kind, sweep in one.sweeps.items():
                    for threshold, score in zip(sweep.thresholds, sweep.scores, strict=True):
                        ratios = (score.recall, score.precision, score.f_beta(self.beta))
                        cells = ["" if isnan(value) else repr(value) for value in ratios]
                        shown = "" if threshold is None else repr(threshold)
                        lines.writerow([one.name, kind, shown, score.true, score.found, score.matched, *cells])
        write_classes(self.particle_classes, paths[2])
        return paths


def score_dict(score: Score, beta: float) -> dict[str, Any]:
    """Ratios and counts for JSON, with F-beta; undefined ratios are None."""
    value = score.f_beta(beta)
    return score.to_dict() | {"f_beta": None if isnan(value) else value}
