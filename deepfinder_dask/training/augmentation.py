"""Changes of a patch's grey values that leave the truth as it is: other intensities, other spectra."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

KNOTS = 8
"""Frequencies, evenly from 0 to the highest, at which a factor of the amplitudes is drawn."""


@dataclass(frozen=True)
class Augmentation:
    """How strongly patches are changed; each patch differently, as its seed says."""

    intensity: float = 0.0
    """Standard deviation of an offset, and of the logarithm of a factor, of grey values whose own deviation is 1."""
    amplitudes: float = 0.0
    """Standard deviation of the logarithm of a smooth factor of the Fourier amplitudes, a function of frequency."""

    def apply(self, values: NDArray[np.float32], seed: tuple[int, ...]) -> None:
        """Change a patch in place.

        Amplitudes are changed by frequency alone: phases, and the empty region of the missing wedge, stay.

        Parameters
        ----------
        values : (z, y, x) float32
            Normalised grey values.
        seed : tuple of int
            Decides what is drawn.
        """
        if not (self.intensity or self.amplitudes):
            return
        rng = np.random.default_rng([*seed, 1])
        if self.amplitudes:
            from scipy.fft import irfftn, rfftn

            factors = np.exp(self.amplitudes * rng.standard_normal(KNOTS))
            factors[0] = 1.0  # the mean belongs to the intensities
            lower, share = _frequencies(values.shape)
            filtered = factors[lower] * (1 - share) + factors[lower + 1] * share
            values[...] = irfftn(rfftn(values) * filtered.astype(np.float32), values.shape)
        if self.intensity:
            offset, scale = self.intensity * rng.standard_normal(2)
            values *= np.float32(np.exp(scale))
            values += np.float32(offset)


NONE = Augmentation()
"""No change."""


@lru_cache(maxsize=4)
def _frequencies(shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each coefficient of a real transform the knot below its frequency, and how far it is towards the next."""
    axes = [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    squares = [axis**2 for axis in axes]
    radius = np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])
    place = np.clip(radius / 0.5, 0, 1) * (KNOTS - 1)
    lower = np.minimum(place.astype(np.int64), KNOTS - 2)
    return lower, place - lower
