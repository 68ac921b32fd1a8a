"""Greys of ink and of slices; light, for those who draw in a browser."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

INK = "#22252a"
"""Colour of text and axes."""
FAINT = "#9aa0a6"
"""Colour of what should step back: frames, grids, notes."""


def grey_range(images: Iterable[NDArray[Any]], low: float = 0.5, high: float = 99.5) -> tuple[float, float]:
    """Grey values shown as black and white: percentiles of all images together, so that outliers do not decide."""
    samples = [image[np.isfinite(image)].ravel() for image in images]
    values = np.concatenate(samples) if samples else np.empty(0)
    if not values.size:
        return 0.0, 1.0
    black, white = (float(v) for v in np.percentile(values, (low, high)))
    return (black, white) if white > black else (black - 0.5, black + 0.5)
