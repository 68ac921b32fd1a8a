"""Ice that is not the same everywhere: where a scene holds no particles, and where it is thicker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WAVES = 8
"""Cosines that make up the field of a scene."""
EDGE = 0.1
"""Width of the slope around thick ice, as a part of the field's range."""


@dataclass(frozen=True)
class IceField:
    """A smooth random field over y and x; its lowest parts are empty, its highest thick."""

    waves: tuple[tuple[float, float, float], ...]
    """Cosines: turns per Å along y and along x, and phase in turns."""
    empty_below: float
    """Value below which no free particle is."""
    thick_above: float
    """Value above which the ice is thick."""

    def value(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The field, from -1 to 1, at places y, x in Å."""
        total = np.zeros(np.broadcast_shapes(y.shape, x.shape))
        for along_y, along_x, phase in self.waves:
            total += np.cos(2 * np.pi * (along_y * y + along_x * x + phase))
        return total / WAVES

    def empty(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether no free particle is at places y, x in Å."""
        return self.value(y, x) < self.empty_below

    def thick(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """How thick the ice is at places y, x in Å: 0 ordinary, 1 thick, a slope between."""
        share = np.clip((self.value(y, x) - self.thick_above) / EDGE + 0.5, 0.0, 1.0)
        return share * share * (3 - 2 * share)


def random_ice(rng: np.random.Generator, extent: tuple[float, float], empty: float, thick: float) -> IceField | None:
    """A field over an area of (y, x) Å with these shares of it empty and thick; None where both are 0."""
    if empty == 0 and thick == 0:
        return None
    length = max(extent)
    turns = rng.uniform(0.4, 1.4, size=WAVES) / length
    angle = rng.uniform(0, 2 * np.pi, size=WAVES)
    phase = rng.uniform(size=WAVES)
    waves = tuple(
        (float(t * np.sin(a)), float(t * np.cos(a)), float(p)) for t, a, p in zip(turns, angle, phase, strict=True)
    )
    field = IceField(waves, -2.0, 2.0)
    y, x = (np.linspace(0, n, 128) for n in extent)
    values = field.value(y[:, None], x[None, :])
    low = float(np.quantile(values, empty)) if empty else -2.0
    high = float(np.quantile(values, 1 - thick)) if thick else 2.0
    return IceField(waves, low, high)
