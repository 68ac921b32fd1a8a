"""What a viewer shows when it opens: its layers, where it looks, and how the page is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count
from typing import Any

import neuroglancer
import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.blocks import Box, triple
from deepfinder_dask.tomograms import Tomogram, Volume, open_image
from deepfinder_dask.viewing.browser.contents import LabelMap, ParticleSet, open_scores
from deepfinder_dask.viewing.browser.layers import grey_layer, heat_layer, label_layer, names_document, particle_layers
from deepfinder_dask.viewing.browser.serving import PageServer
from deepfinder_dask.viewing.browser.sources import blocks_source, source_of, space_of
from deepfinder_dask.viewing.greys import grey_range
from deepfinder_dask.viewing.marks import Marks, densest_index, marks_of

PANEL = (480, 400)
"""Pixels of a panel, width and height, that the tomogram is fitted to when the page opens."""
MOST_COLOURS = 20_000
"""Particles of an instance map that get the colour of their class; the page is told of each by name."""
SAMPLE = 256
"""Edge in voxels of what is read to find the range of grey values where the store does not say it."""
HEAT = "#ff5a00"
"""Colour of a probability, which belongs to no class."""


def start_state(server: PageServer, tomogram: Tomogram) -> neuroglancer.ViewerState:
    """A viewer with the tomogram in four panels, fitted to the page.

    Parameters
    ----------
    server : PageServer
        Serves the tomogram as "tomogram".
    tomogram : Tomogram
        Read by the page; here only where it has no statistics, and then the middle of its coarsest level.
    """
    state = neuroglancer.ViewerState()
    state.title = tomogram.name
    state.dimensions = space_of(tomogram.voxel_size)
    source = source_of(server, "tomogram", tomogram.path, open_image(tomogram.path), tomogram.voxel_size)
    state.layers.append(name="tomogram", layer=grey_layer(source, *_contrast(tomogram)))
    # The viewer counts in its smallest voxel edge.
    z, y, x = np.asarray(tomogram.shape) * tomogram.voxel_size / min(tomogram.voxel_size)
    state.cross_section_scale = float(max(x / PANEL[0], z / PANEL[0], y / PANEL[1], z / PANEL[1]))
    state.projection_scale = float(1.4 * np.linalg.norm([z, y, x]))
    nz, ny, nx = tomogram.shape
    state.position = [nx // 2, ny // 2, nz // 2]
    state.layout = "4panel"
    state.cross_section_background_color = "#000000"
    return state


def full_state(
    server: PageServer,
    tomogram: Tomogram,
    maps: Sequence[LabelMap] = (),
    sets: Sequence[ParticleSet] = (),
    scores: str | None = None,
) -> neuroglancer.ViewerState:
    """A viewer with all that is asked for, at the slice across z that cuts most particles.

    Parameters
    ----------
    server : PageServer
        Serves what the page reads.
    tomogram : Tomogram
        At the bottom.
    maps : sequence of LabelMap
        Label maps and instance maps, over it.
    sets : sequence of ParticleSet
        Each as spheres and as dots; the list of the first is open.
    scores : str, optional
        Segmentation whose scores are shown as heat.
    """
    state = start_state(server, tomogram)
    for number, one in enumerate(maps):
        add_labels(state, server, tomogram, one, "instances" if one.instances else "labels", visible=number == 0)
    if scores is not None:
        _add_scores(state, server, tomogram, scores)
    for one_set in sets:
        name = _free_name(state, one_set.name)
        spheres, centres = particle_layers(tomogram, one_set.particles, colour=one_set.colour, notes=one_set.notes)
        state.layers.append(name=f"{name} centres", layer=centres)
        state.layers.append(name=name, layer=spheres)
    # In the middle of x and y, so that the tomogram fills the panels.
    _, ny, nx = tomogram.shape
    state.position = [nx // 2, ny // 2, _slice_through(tomogram, [marks_of(tomogram, one.particles) for one in sets])]
    if sets:
        # The list of particles: a click on one goes there.
        spheres.tab = "annotations"
        state.selected_layer.layer = name
        state.selected_layer.visible = True
    return state


def add_labels(
    state: neuroglancer.ViewerState,
    server: PageServer,
    tomogram: Tomogram,
    labels: LabelMap,
    name: str,
    *,
    visible: bool = True,
) -> None:
    """Add a label map or an instance map to a viewer, under a name that is not taken yet."""
    source = source_of(server, name, labels.path, labels.image, tomogram.voxel_size, segments=True)
    if labels.instances:
        few = dict(list(labels.colours.items())[:MOST_COLOURS])
        layer = label_layer([source], few, listed=False)
    else:
        sources: list[neuroglancer.LayerDataSource | str] = [source]
        if labels.classes:
            server.serve_document(f"{name}-names/info", names_document(labels.classes))
            sources.append(f"{server.address_of(f'{name}-names')}/|neuroglancer-precomputed:")
        layer = label_layer(sources, labels.colours, listed=bool(labels.colours))
    state.layers.append(name=name, layer=layer, visible=visible)


def _add_scores(state: neuroglancer.ViewerState, server: PageServer, tomogram: Tomogram, path: str) -> None:
    """One layer for each class, or one for the probability; the first is shown."""
    place, image, classes = open_scores(path, tomogram)
    if image.levels[0].ndim == 3:
        source = source_of(server, "probability", place, image, tomogram.voxel_size)
        state.layers.append(name="probability", layer=heat_layer(source, HEAT))
        return
    for one in classes:
        source = blocks_source(server, f"score-{one.label}", image, tomogram.voxel_size, class_number=one.label)
        state.layers.append(name=f"score of {one.name}", layer=heat_layer(source, one.colour))


def _contrast(tomogram: Tomogram) -> tuple[tuple[float, float], tuple[float, float]]:
    """Grey values shown as black and white, and those between which the slider moves."""
    known = None if tomogram.statistics is None else tomogram.statistics.percentiles
    if known and {"0.1", "0.5", "99.5", "99.9"} <= set(known):
        shown, window = (known["0.5"], known["99.5"]), (known["0.1"], known["99.9"])
    else:
        values = [_middle(tomogram.levels[-1])]
        shown, window = grey_range(values), grey_range(values, 0.0, 100.0)
    if shown[0] == shown[1]:
        shown = (shown[0] - 0.5, shown[1] + 0.5)
    reach = shown[1] - shown[0]
    return shown, (min(window[0], shown[0] - reach), max(window[1], shown[1] + reach))


def _middle(volume: Volume) -> NDArray[Any]:
    """Grey values in the middle of a volume, all of them where it is small."""
    edges = triple(min(n, SAMPLE) for n in volume.space)
    start = triple((n - e) // 2 for n, e in zip(volume.space, edges, strict=True))
    return volume.read(Box(start, triple(a + e for a, e in zip(start, edges, strict=True))))


def _free_name(state: neuroglancer.ViewerState, name: str) -> str:
    """A name for a set that no layer has, nor one for its centres."""
    taken = {one.name for one in state.layers}
    names = chain([name], (f"{name} {number}" for number in count(2)))
    return next(one for one in names if not {one, f"{one} centres"} & taken)


def _slice_through(tomogram: Tomogram, marks: Sequence[Marks]) -> int:
    """Voxel along z at which a slice cuts most particles; the middle where there are none."""
    if not sum(map(len, marks)):
        return tomogram.shape[0] // 2
    centres = np.concatenate([one.centres for one in marks])
    radii = np.concatenate([one.radii for one in marks])
    return densest_index(centres[:, 0], radii / tomogram.voxel_size[0], tomogram.shape[0])
