"""Layers of a viewer: a tomogram, labels, scores, and sets of particles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import neuroglancer
import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.particles import ParticleClass, Particles
from deepfinder_dask.tomograms import Tomogram, VoxelSize
from deepfinder_dask.viewing.browser.shaders import CENTRES, GREY, HEAT, SPHERES
from deepfinder_dask.viewing.browser.sources import space_of
from deepfinder_dask.viewing.marks import marks_of

OPACITY = 0.4
"""Of labels over grey values."""
UNKNOWN = -1.0
"""Stands for an unknown score: JSON has no NaN."""


def grey_layer(
    source: neuroglancer.LayerDataSource, shown: tuple[float, float], window: tuple[float, float]
) -> neuroglancer.ImageLayer:
    """A tomogram in grey.

    Parameters
    ----------
    source : LayerDataSource
        Its voxels.
    shown : (float, float)
        Grey values shown as black and white.
    window : (float, float)
        Grey values between which the slider moves.
    """
    contrast = {"range": list(shown), "window": list(window)}
    return neuroglancer.ImageLayer(source=source, shader=GREY, shader_controls={"contrast": contrast}, opacity=1.0)


def heat_layer(source: neuroglancer.LayerDataSource, colour: str) -> neuroglancer.ImageLayer:
    """Scores, uint8 with 255 for 1, as a transparent overlay of one colour."""
    shader = HEAT.replace("COLOUR", colour)
    controls = {"score": {"range": [0, 255], "window": [0, 255]}}
    return neuroglancer.ImageLayer(source=source, shader=shader, shader_controls=controls, opacity=1.0)


def label_layer(
    sources: Sequence[neuroglancer.LayerDataSource | str], colours: Mapping[int, str], *, listed: bool = True
) -> neuroglancer.SegmentationLayer:
    """Labels in colours; 0 is transparent.

    Parameters
    ----------
    sources : sequence
        Voxels, and possibly the names of the labels.
    colours : mapping
        "#rrggbb" by label; others get one at random.
    listed : bool
        Show just the labels with a colour, each with a switch; False shows whatever is there.
    """
    return neuroglancer.SegmentationLayer(
        source=list(sources),
        segments=list(colours) if listed else [],
        segment_colors=dict(colours),
        selected_alpha=OPACITY,
        not_selected_alpha=0.0,
        hide_segment_zero=True,
    )


def names_document(classes: Sequence[ParticleClass]) -> dict[str, object]:
    """Names of labels, as neuroglancer's list of segments wants them."""
    return {
        "@type": "neuroglancer_segment_properties",
        "inline": {
            "ids": [str(one.label) for one in classes],
            "properties": [{"id": "label", "type": "label", "values": [one.name for one in classes]}],
        },
    }


def particle_layers(
    tomogram: Tomogram, particles: Particles, *, colour: str | None = None, notes: Sequence[str] | None = None
) -> tuple[neuroglancer.AnnotationLayer, neuroglancer.AnnotationLayer]:
    """A set of particles twice: as spheres of their class radius, with a list to jump to each, and as dots.

    Parameters
    ----------
    tomogram : Tomogram
        For voxel size and extent.
    particles : Particles
        Those of this tomogram.
    colour : str, optional
        "#rrggbb" for all of them; default the colours of their classes.
    notes : sequence of str, optional
        More words for each particle.
    """
    marks = marks_of(tomogram, particles)
    radii = marks.radii[:, None] / np.asarray(tomogram.voxel_size)
    colours = list(marks.colours) if colour is None else [colour] * len(marks)
    scores = particles.table["score"].to_numpy(dtype=np.float64, na_value=np.nan)
    words = _described(particles, scores, notes)
    properties = [
        [str(one), UNKNOWN if np.isnan(score) else float(score)] for one, score in zip(colours, scores, strict=True)
    ]
    rows = range(len(marks))
    spheres = [
        neuroglancer.EllipsoidAnnotation(
            id=f"{row}",
            center=_xyz(marks.centres[row]),
            radii=_xyz(radii[row]),
            description=words[row],
            props=properties[row],
        )
        for row in rows
    ]
    centres = [
        neuroglancer.PointAnnotation(id=f"{row}", point=_xyz(marks.centres[row]), props=properties[row]) for row in rows
    ]
    return (
        _annotations(tomogram.voxel_size, spheres, SPHERES),
        _annotations(tomogram.voxel_size, centres, CENTRES),
    )


def _annotations(
    voxel_size: VoxelSize, annotations: list[neuroglancer.Annotation], shader: str
) -> neuroglancer.AnnotationLayer:
    return neuroglancer.LocalAnnotationLayer(
        dimensions=space_of(voxel_size),
        annotations=annotations,
        annotation_properties=[
            neuroglancer.AnnotationPropertySpec(id="colour", type="rgb", default="#ffffff"),
            neuroglancer.AnnotationPropertySpec(id="score", type="float32", default=UNKNOWN),
        ],
        shader=shader,
        ignore_null_segment_filter=False,
    )


def _xyz(zyx: NDArray[np.float64]) -> list[float]:
    return [float(v) for v in zyx[::-1]]


def _described(particles: Particles, scores: NDArray[np.float64], notes: Sequence[str] | None) -> list[str]:
    """``ribosome 12, score 0.93, missed``: class, row of the table, and what is known."""
    words = []
    for row, name in enumerate(particles.table["class"]):
        parts = [f"{name} {row}"]
        if not np.isnan(scores[row]):
            parts.append(f"score {scores[row]:.3f}")
        if notes is not None and notes[row]:
            parts.append(notes[row])
        words.append(", ".join(parts))
    return words
