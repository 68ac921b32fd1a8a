"""Who found what: a Venn picture of two or three sets of particles, bars for more, and the shares of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Circle

from deepfinder_dask.viewing.drawing import Sheet
from deepfinder_dask.viewing.greys import FAINT, INK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from deepfinder_dask.evaluation.agreed import Consensus, Shares

COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#e15759", "#76b7b2")
"""Of the sets, in order, and around."""
MOST = 24
"""Combinations of more than three sets that are drawn, the largest first."""
_ROW = 0.26
_CIRCLES = {2: ((-0.5, 0.0), (0.5, 0.0)), 3: ((-0.5, 0.29), (0.5, 0.29), (0.0, -0.58))}
_RADIUS = 0.92


def agreement_diagram(consensus: Consensus, title: str = "consensus") -> Figure:
    """How many particles each combination of sets has, in all and by class.

    Circles of two or three sets are not to scale, their numbers count; bars are. More sets get one bar for each
    combination, with dots for its sets.

    Parameters
    ----------
    consensus : Consensus
        Of two sets or more.
    title : str
        Heading.

    Returns
    -------
    Figure
        Nothing is shown or saved.
    """
    names, shares = list(consensus.sets), consensus.shares()
    classes = [name for name, n in consensus.union.counts().items() if n]
    side = 4.2 if len(names) <= 3 else 1.6 + 0.3 * min(MOST, max(6, len(shares.combinations)))
    head, height = 0.85, {2: 3.3, 3: 3.9}.get(len(names), 2.2 + _ROW * len(names))
    tall = max(height, 0.9 + 0.07 * len(names) + 0.4 * len(classes))
    sheet = Sheet(0.2 + side + 0.4 + 4.6, head + tall + 0.35)
    sheet.text(0.2, 0.17, title, fontsize=12, fontweight="bold")
    every = "both" if len(names) == 2 else f"all {len(names)}"
    words = f"{shares.union} particles, {shares.intersection} of them in {every} sets, within {consensus.tolerance}"
    sheet.text(0.2, 0.42, words, fontsize=8, color=FAINT)
    if len(names) <= 3:
        _draw_venn(sheet.axes(0.2, head, side, height), names, shares)
    else:
        _draw_combinations(sheet, head, side, names, shares)
    _draw_classes(sheet, consensus, classes, 0.2 + side + 0.4, head)
    return sheet.figure


def region_places(count: int) -> dict[tuple[int, ...], tuple[float, float]]:
    """Where the number of each combination of two or three circles stands: the point farthest from their edges."""
    y, x = np.mgrid[-1.7:1.5:161j, -1.6:1.6:161j]
    centres = np.asarray(_CIRCLES[count])
    depths = _RADIUS - np.hypot(x[..., None] - centres[:, 0], y[..., None] - centres[:, 1])
    result = {}
    for number in range(1, 2**count):
        inside = np.array([bool(number >> n & 1) for n in range(count)])
        room = np.where(inside, depths, -depths).min(axis=-1)
        spot = np.unravel_index(int(np.argmax(room)), room.shape)
        result[tuple(np.flatnonzero(inside).tolist())] = (float(x[spot]), float(y[spot]))
    return result


def _draw_venn(panel: Axes, names: Sequence[str], shares: Shares) -> None:
    """Circles with the number of particles in each region."""
    panel.set_aspect("equal")
    panel.set_axis_off()
    panel.set_xlim(-1.65, 1.65)
    panel.set_ylim(-1.85 if len(names) == 3 else -1.3, 1.55 if len(names) == 3 else 1.3)
    for number, (name, centre) in enumerate(zip(names, _CIRCLES[len(names)], strict=True)):
        colour = COLOURS[number]
        panel.add_patch(Circle(centre, _RADIUS, facecolor=colour, alpha=0.25, edgecolor="none"))
        panel.add_patch(Circle(centre, _RADIUS, facecolor="none", edgecolor=colour, linewidth=1.5))
        below = centre[1] < 0
        words = f"{_short(name)} ({shares.sets[name]})"
        panel.text(
            centre[0] * (1.0 if below else 1.25),
            centre[1] + (-1 if below else 1) * (_RADIUS + 0.08),
            words,
            ha="center",
            va="top" if below else "bottom",
            fontsize=9,
            fontweight="bold",
            color=colour,
            parse_math=False,
        )
    for numbers, (x, y) in region_places(len(names)).items():
        count = shares.combinations.get(tuple(names[n] for n in numbers), 0)
        weight = "bold" if len(numbers) == len(names) else "normal"
        panel.text(x, y, str(count), ha="center", va="center", fontsize=11, color=INK, fontweight=weight)


def _draw_combinations(sheet: Sheet, top: float, side: float, names: Sequence[str], shares: Shares) -> None:
    """A bar for each combination, and below it a dot for each of its sets."""
    largest = sorted(shares.combinations.items(), key=lambda one: (-one[1], len(one[0]), one[0]))[:MOST]
    left, width, height = 0.2 + 1.3, side - 1.3, 1.9
    bars = sheet.axes(left, top, width, height)
    dots = sheet.axes(left, top + height + 0.08, width, _ROW * len(names))
    places = np.arange(len(largest))
    bars.bar(places, [count for _, count in largest], width=0.62, color=INK)
    for place, (_, count) in zip(places, largest, strict=True):
        bars.text(float(place), count, str(count), ha="center", va="bottom", fontsize=7, color=INK)
    for panel in (bars, dots):
        panel.set_xlim(-0.6, max(len(largest), 1) - 0.4)
        panel.set_xticks([])
        for edge in ("top", "right", "left", "bottom"):
            panel.spines[edge].set_visible(False)
    bars.set_yticks([])
    bars.margins(y=0.1)
    dots.set_ylim(len(names) - 0.5, -0.5)
    dots.set_yticks(range(len(names)), [f"{_short(name)} ({shares.sets[name]})" for name in names], parse_math=False)
    dots.tick_params(left=False)
    for place, (chosen, _) in zip(places, largest, strict=True):
        rows = np.array([names.index(name) for name in chosen])
        dots.scatter(np.full(len(names), place), range(len(names)), s=18, color=FAINT, alpha=0.35, linewidths=0)
        dots.plot(np.full(len(rows), place), rows, color=INK, linewidth=1.2, zorder=1)
        dots.scatter(np.full(len(rows), place), rows, s=26, color=[COLOURS[n % len(COLOURS)] for n in rows], zorder=2)


def _draw_classes(sheet: Sheet, consensus: Consensus, classes: Sequence[str], left: float, top: float) -> None:
    """Bars of each class: which part of its particles how many sets have, for two sets which of them."""
    names = list(consensus.sets)
    if len(names) == 2:
        entries = [(COLOURS[0], f"only {_short(names[0])}"), (INK, "both"), (COLOURS[1], f"only {_short(names[1])}")]
    else:
        shades = _shades(len(names))
        entries = [(shades[n - 1], f"{n} of {len(names)} sets") for n in range(len(names), 0, -1)]
    colours = {one.name: one.colour for one in consensus.union.classes}
    sheet.text(left, top - 0.43, "by class", fontsize=9, fontweight="bold")
    top += sheet.legend(left, top - 0.2, entries, 4.4) - 0.1
    panel = sheet.axes(left + 1.5, top, 2.6, 0.4 * max(1, len(classes)))
    panel.set_xlim(0, 1)
    panel.set_ylim(max(1, len(classes)) - 0.5, -0.5)
    panel.set_axis_off()
    for row, name in enumerate(classes):
        shares = consensus.shares(class_name=name)
        start = 0.0
        for number, (colour, _) in enumerate(entries):
            if len(names) == 2:
                count = shares.combinations.get((tuple(names[:1]), tuple(names), tuple(names[1:]))[number], 0)
            else:
                count = sum(n for chosen, n in shares.combinations.items() if len(chosen) == len(names) - number)
            part = count / shares.union
            panel.barh(row, part, left=start, height=0.55, color=colour, linewidth=0)
            if part > 0.08:
                light = "white" if sum(_rgb(colour)) < 1.9 else INK
                panel.text(start + part / 2, row, str(count), ha="center", va="center", fontsize=7.5, color=light)
            start += part
        at = top + 0.4 * (row + 0.5)
        sheet.text(left, at, _short(name), va="center", fontsize=8.5, fontweight="bold", color=colours[name])
        sheet.text(left + 4.15, at, str(shares.union), va="center", fontsize=8, color=FAINT)


def _shades(count: int) -> list[str]:
    """Greys from light (one set) to ink (all of them)."""
    dark, light = _rgb(INK), _rgb("#d5d9de")
    parts: NDArray[np.float64] = np.linspace(0, 1, count)
    mixed = [[round(255 * (a + (b - a) * part)) for a, b in zip(light, dark, strict=True)] for part in parts]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in mixed]


def _rgb(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255


def _short(name: str) -> str:
    """Names that fit."""
    return name if len(name) <= 18 else f"{name[:15]}…"
