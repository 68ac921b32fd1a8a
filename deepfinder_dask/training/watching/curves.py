"""Curves of a run: loss, and F1 of each class, over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deepfinder_dask.training.watching.following import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deepfinder_dask.particles import ParticleClass

POINTS = 2000
"""Most points of the curve of losses: further ones are means of their neighbours."""


def curves_figure(record: Sequence[Entry], classes: Sequence[ParticleClass]) -> Figure:
    """Loss, F1 of voxels and, where they were counted, F1 of particles over the steps; each class in its colour.

    Parameters
    ----------
    record : sequence of mappings
        One per step.
    classes : sequence of ParticleClass
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counted = [e for e in record if "particles_f1" in e]
    panels = 3 if counted else 2
    figure = Figure(figsize=(8, 3 * panels), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(panels, 1, sharex=True)
    steps, losses = _thinned(record)
    axes[0].plot(steps, losses, color="0.4", linewidth=0.8)
    axes[0].set_ylabel("loss")
    _draw_scores(axes[1], [e for e in record if "f1" in e], classes, "f1")
    axes[1].set_ylabel("F1 of voxels, validation patches")
    if counted:
        _draw_scores(axes[2], counted, classes, "particles_f1")
        found = [e["particles_localisation"] for e in counted]
        axes[2].plot([e["step"] for e in counted], found, color="0.4", linestyle="--", label="localisation")
        axes[2].set_ylabel("F1 of particles, whole tomograms")
    for one in axes[1:]:
        one.set_ylim(0, 1)
        if one.get_legend_handles_labels()[1]:
            one.legend(loc="lower right", frameon=False, ncols=1 + len(classes) // 7)
    axes[-1].set_xlabel("step")
    return figure


def _draw_scores(axes: Any, entries: Sequence[Entry], classes: Sequence[ParticleClass], key: str) -> None:
    for one in classes:
        steps = [e["step"] for e in entries if f"{key}_{one.label}" in e]
        scores = [e[f"{key}_{one.label}"] for e in entries if f"{key}_{one.label}" in e]
        if steps:
            axes.plot(steps, scores, color=one.colour, marker=".", label=one.name.replace("$", r"\$"))


def _thinned(record: Sequence[Entry]) -> tuple[list[float], list[float]]:
    """Steps and losses, neighbours pooled where there are too many to be seen."""
    pool = -(-len(record) // POINTS)
    parts = [record[i : i + pool] for i in range(0, len(record), pool)] if record else []
    return [p[-1]["step"] for p in parts], [float(np.mean([e["loss"] for e in p])) for p in parts]
