"""The histogram of distances: what it counts, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from deepfinder_dask.errors import InputError
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.viewing import distance_histogram

CLASSES = (ParticleClass("ribosome", 1), ParticleClass("proteasome", 2), ParticleClass("absent", 3))


def particles(distances, labels):
    return Particles.from_voxels(
        np.zeros((len(labels), 3)),
        tomogram="t",
        facts=TomogramFacts((10.0,) * 3, (8, 8, 8)),
        labels=labels,
        classes=CLASSES,
        extra={"distance_membrane": distances},
    )


def test_every_particle_is_in_a_bar_of_its_class() -> None:
    rng = np.random.default_rng(0)
    distances, labels = rng.uniform(0, 900, 80), rng.choice([1, 2], 80)
    distances[:3] = np.nan
    figure = distance_histogram(particles(distances, labels), marks=(273.6,))
    panels = {panel.get_gid(): panel for panel in figure.axes}
    assert list(panels) == ["ribosome", "proteasome"]
    for label, name in ((1, "ribosome"), (2, "proteasome")):
        known = distances[(labels == label) & np.isfinite(distances)]
        bars = panels[name].patches[:40]
        counts = [round(bar.get_height()) for bar in bars]
        edges = [bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()]
        assert counts == np.histogram(known, np.array(edges))[0].tolist()
        assert sum(counts) == len(known)
        assert any(np.allclose(line.get_xdata(), 273.6) for line in panels[name].lines)
        words = [text.get_text() for text in figure.texts]
        within = int((known <= 273.6).sum())
        assert any(f"{within} within 273.6 Å" in text for text in words), words
    assert any("without" in text.get_text() for text in figure.texts)


def test_nothing_to_draw() -> None:
    assert distance_histogram(particles(np.zeros(0), [])).texts
    assert distance_histogram(particles(np.full(2, np.nan), [1, 2])).axes


def test_columns_that_are_missing() -> None:
    one = particles(np.zeros(1), [1])
    with pytest.raises(InputError, match=r"distance_actin, found \['distance_membrane'\]"):
        distance_histogram(one, "actin")
    with pytest.raises(InputError, match="found none"):
        distance_histogram(one.with_table(one.table.drop(columns="distance_membrane")))
