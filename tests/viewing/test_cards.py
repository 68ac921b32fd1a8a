"""What handles show of themselves in a notebook: their facts, escaped, and a slice in the right colours."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Picture

from deepfinder_dask.campaigns import Located
from deepfinder_dask.evaluation import evaluate
from deepfinder_dask.networks import Weights
from deepfinder_dask.networks.unet import UNet
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.particles.cards import CLASSES as LISTED
from deepfinder_dask.particles.cards import card, classes_line, table
from deepfinder_dask.segmentation import Segmentation
from deepfinder_dask.targets import target
from deepfinder_dask.tomograms import Tomogram, create_image, thumbnails
from deepfinder_dask.tomograms.thumbnails import central_slice

from .conftest import BALLS, CLASSES, SHAPE, VOXEL, write_image

NASTY = ParticleClass("<script>alert(1)</script>", 1, radius=80.0)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(png)).convert("RGB"))


def embedded(page: str) -> np.ndarray:
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return pixels_of(base64.b64decode(data))


def balls(classes=CLASSES[:2]) -> Particles:
    places = [centre for centre, _ in BALLS]
    facts = TomogramFacts(VOXEL, SHAPE)
    labels = [label for _, label in BALLS]
    return Particles.from_voxels(places, tomogram="cell", facts=facts, labels=labels, classes=classes)


def test_text_is_escaped_and_what_is_unknown_is_left_out():
    page = card("a < b", [("one", "<i>"), ("two", None), ("three", 3)], more=table(["h&m"], [["<td>"]]))
    assert "a &lt; b" in page
    assert "&lt;i&gt;" in page
    assert "two" not in page
    assert "h&amp;m" in page
    assert "&lt;td&gt;" in page


def test_names_of_classes_and_tomograms_are_escaped():
    frame = pd.DataFrame({"tomogram": ["<b>"], "class": [NASTY.name], "label": [1], "x": [1.0], "y": [2.0], "z": [3.0]})
    particles = Particles(frame, classes=(NASTY,))
    for page in (particles._repr_html_(), evaluate(particles, particles, bootstrap=0)._repr_html_()):
        assert "<script" not in page
        assert "<b></b>" not in page
        assert "&lt;script&gt;" in page


def test_many_classes_are_not_all_listed():
    line = classes_line([ParticleClass(f"c{n}", n) for n in range(1, LISTED + 4)])
    assert line.count("border-radius") == LISTED
    assert line.endswith("and 3 more")


def test_particles_show_their_counts():
    told = text_of(balls()._repr_html_())
    assert "particles 5" in told
    assert "ribosome 3, proteasome 2" in told


def test_a_tomogram_shows_its_facts_and_its_central_slice(tomogram, arrays):
    page = tomogram._repr_html_()
    assert "40 × 72 × 120 voxels of 10 Å" in text_of(page)
    assert "40 × 72 × 120 nm" in text_of(page)
    assert "not said, so assumed" in page
    plane = arrays[0][20]
    black, white = np.percentile(plane, (1, 99))
    wanted = (np.clip((plane - black) / (white - black), 0, 1) * 255).astype(int)[::-1]
    factor = thumbnails.PIXELS // 120
    got = embedded(page)[::factor, ::factor, 0].astype(int)
    assert abs(got - wanted).max() <= 1


@pytest.mark.parametrize(("y", "x", "colour"), [(15, 20, CLASSES[0]), (40, 60, CLASSES[1]), (65, 100, CLASSES[2])])
def test_labels_are_shown_in_the_colours_of_their_classes(arrays, tmp_path, y, x, colour):
    """y upwards: the first row of the picture is the last of the plane."""
    image = write_image(tmp_path / "labels.zarr", arrays[1])
    pixels = pixels_of(central_slice(str(tmp_path / "labels.zarr"), image.levels, CLASSES))
    factor = thumbnails.PIXELS // 120
    shown = pixels[::factor, ::factor]
    assert "#{:02x}{:02x}{:02x}".format(*shown[SHAPE[1] - 1 - y, x]) == colour.colour
    assert shown[0, 0].tolist() == [255, 255, 255]


def test_what_is_far_away_or_large_is_not_read(tmp_path, monkeypatch):
    volume = create_image(tmp_path / "b.zarr", shape=(8, 600, 600), dtype="uint8", voxel_size=10.0)
    reads = []
    monkeypatch.setattr(type(volume), "read", lambda self, box: reads.append(box))
    assert central_slice("s3://bucket/b.zarr", [volume]) is None
    monkeypatch.setattr(thumbnails, "MOST", 600 * 600 - 1)
    assert central_slice("b.zarr", [volume]) is None
    assert reads == []
    monkeypatch.setattr(thumbnails, "MOST", 600 * 600)
    with pytest.raises(TypeError):  # the stand-in reads nothing
        central_slice("b.zarr", [volume])
    assert [(box.start, box.stop) for box in reads] == [((4, 0, 0), (5, 600, 600))], "one plane"


def test_a_target_and_a_segmentation_show_theirs(tomogram, arrays, tmp_path):
    made = target(balls(), tomogram, tmp_path / "target.zarr", progress=False)
    page = made._repr_html_()
    assert "ribosome 3, proteasome 2" in text_of(page)
    assert {"#{:02x}{:02x}{:02x}".format(*p) for p in np.unique(embedded(page).reshape(-1, 3), axis=0)} == {
        "#ffffff",
        CLASSES[0].colour,
        CLASSES[1].colour,
    }
    labels = write_image(tmp_path / "seg.zarr" / "labels", arrays[1]).levels[0]
    facts = {"weights": {"sha256": "0123456789abcdef"}}
    segmentation = Segmentation(str(tmp_path / "seg.zarr"), "cell", (VOXEL,) * 3, CLASSES, labels, labels, None, facts)
    page = segmentation._repr_html_()
    assert "Segmentation of cell" in page
    assert "0123456789ab" in page
    assert len(np.unique(embedded(page).reshape(-1, 3), axis=0)) == 4
    picture = tmp_path / "slices.png"
    Picture.new("RGB", (3, 2), "red").save(picture)
    located = Located(tmp_path, tomogram, segmentation, balls(), (picture,), {"seconds": {"segment": 1.5}})
    assert embedded(located._repr_html_()).tolist() == [[[255, 0, 0]] * 3] * 2
    assert "segment 1.5" in located._repr_html_()
    assert "<img" not in replace(located, pictures=(Path("gone.png"),))._repr_html_()


def test_weights_say_what_they_find():
    weights = Weights(
        UNet(3).state_dict(),
        (NASTY, ParticleClass("cube", 2)),
        12.5,
        provenance={"program": "p", "validation": {"f1": 0.5, "particles_f1": 0.75}},
    )
    told = text_of(weights._repr_html_())
    assert "12.5 Å" in told
    assert "F1, validation 0.75" in told
    assert "<script" not in weights._repr_html_()


def test_an_evaluation_shows_counts_and_ratios():
    truth = balls()
    found = truth.where(truth.table["class"] == "ribosome")
    told = text_of(evaluate(truth, found, bootstrap=0)._repr_html_())
    assert "ribosome 3 3 3 1.000 1.000 1.000" in told
    assert "proteasome 2 0 0 – 0.000 0.000" in told


def test_opening_a_tomogram_draws_nothing(tomogram, monkeypatch):
    monkeypatch.setattr(thumbnails, "central_slice", lambda *_: pytest.fail("drawn"))
    repr(Tomogram.open(tomogram.path))
