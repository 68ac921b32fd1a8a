"""What the viewer shows, pixel by pixel: voxels, labels and particles are where they must be, in all three planes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Browser
from neuroglancer_pages import Planes, changed, plain, settle

from deepfinder_dask.blocks import Box
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.tomograms import Volume, build_pyramid, create_image, finish_image
from deepfinder_dask.viewing import View, view

pytest.importorskip("neuroglancer", reason="needs neuroglancer: pip install 'deepfinder_dask[view]'")
pytest.importorskip("selenium", reason="needs selenium: pip install 'deepfinder_dask[dev]'")

from selenium.webdriver import ActionChains

pytestmark = pytest.mark.browser

SHAPE = (31, 46, 71)
VOXEL = (15.0, 10.0, 10.0)
ZOOM = 0.2
"""Voxel edges to a pixel: one of 10 Å has 5 of them."""
CLASSES = (
    ParticleClass("ribosome", 1, radius=60.0, colour="#ff0000"),
    ParticleClass("proteasome", 2, radius=40.0, colour="#00c800"),
    ParticleClass("membrane", 3, kind="structure", colour="#0000ff"),
)
PARTICLES = (((6.0, 9.0, 12.0), 1), ((25.0, 10.5, 60.25), 2), ((8.25, 36.0, 58.0), 1), ((22.0, 38.0, 14.0), 2))
"""(z, y, x) in voxels, label: in different corners."""


def write(path: Path, values: np.ndarray, *, method: str = "mean", plain_array: bool = False, **finish: Any) -> Path:
    """A store with two levels, in shards; or its full resolution alone, which is no OME-Zarr."""
    volume = create_image(path, shape=values.shape, dtype=values.dtype, voxel_size=VOXEL, chunk=16, shard=(32, 32, 32))
    volume.write(Box.whole(volume.space), values)
    build_pyramid(path, method=method, smallest=40)
    finish_image(path, method=method, **finish)
    return path / "0" if plain_array else path


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Balls at the particles and a membrane across y and z, (z, y, x)."""
    values = np.zeros(SHAPE, np.uint8)
    values[:, 20:24, 40:] = 3
    grid = np.stack(np.indices(SHAPE), -1)
    for centre, label in PARTICLES:
        values[(((grid - centre) * VOXEL) ** 2).sum(-1) <= (CLASSES[label - 1].radius or 0) ** 2] = label
    return values


@pytest.fixture(scope="module")
def particles() -> Particles:
    return Particles.from_voxels(
        [centre for centre, _ in PARTICLES],
        tomogram="cell",
        facts=TomogramFacts(VOXEL, SHAPE),
        labels=[label for _, label in PARTICLES],
        classes=CLASSES,
        scores=[0.9, 0.8, 0.4, np.nan],
    )


@pytest.fixture(scope="module")
def stores(grey: np.ndarray, labels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    colours = {one.label: one.colour for one in CLASSES}
    return {
        "tomogram": write(folder / "cell.zarr", grey),
        "labels": write(folder / "labels.zarr", labels, method="mode", label_colours=colours),
        "array": write(folder / "array.zarr", grey, plain_array=True),
        "label array": write(folder / "label_array.zarr", labels.astype(np.int64), method="mode", plain_array=True),
    }


def show(browser: Browser, shown: View) -> None:
    """Open a view without what is drawn beside its layers, grey values as they are."""
    with shown.page.txn() as state:
        plain(state)
        state.cross_section_scale = ZOOM
        state.layers["tomogram"].shader_controls = {"contrast": {"range": [0, 255], "window": [0, 255]}}
    browser.open(shown.url)
    settle(browser, shown.page)


def look_at(browser: Browser, shown: View, voxel: tuple[float, ...]) -> tuple[Planes, np.ndarray]:
    with changed(browser, shown.page) as state:
        state.position = list(voxel[::-1])
    return Planes(browser, shown.page, VOXEL), browser.pixels().astype(int)


def corners(voxel: tuple[int, ...], planes: Planes, plane: str, reach: float = 0.38) -> Iterator[tuple[float, ...]]:
    """Places in a voxel near its centre and near its edges: half a voxel off, and they are in another one."""
    a, b, _ = planes.axes(plane)
    for i, j in ((0, 0), (-reach, -reach), (reach, reach), (-reach, reach)):
        place = np.asarray(voxel, float)
        place[a] += i
        place[b] += j
        yield tuple(place)


def check_grey(planes: Planes, pixels: np.ndarray, grey: np.ndarray, factor: int = 1, minimum: int = 60) -> None:
    """Every pixel that is looked at has the value of the voxel there; voxels are ``factor`` times as large."""
    rng = np.random.default_rng(3)
    for plane in planes.boxes:
        _, _, across = planes.axes(plane)
        checked = 0
        for _ in range(400):
            voxel = [int(rng.integers(0, n)) for n in grey.shape]
            # Corners of a lower level coincide with corners of the full resolution.
            voxel[across] = int(np.floor((planes.position[across] + 0.5) / factor))
            middle = tuple(factor * v + (factor - 1) / 2 for v in voxel)
            for place in corners(middle, planes, plane, 0.38 * factor):
                spot = planes.pixel(plane, place)
                if spot is None:
                    continue
                checked += 1
                found = pixels[spot]
                assert np.ptp(found) <= 2, f"{plane} {voxel}: {found} is no grey"
                assert abs(found[0] - int(grey[tuple(voxel)])) <= 2, f"{plane}: voxel {voxel} at pixel {spot}"
        assert checked > minimum, f"only {checked} pixels of {plane} are on screen"


def test_voxels_are_where_they_must_be(browser: Browser, stores: dict[str, Path], grey: np.ndarray) -> None:
    """Full resolution and pyramid, in the three planes, to an eighth of a voxel."""
    with view(stores["tomogram"]) as shown:
        show(browser, shown)
        for place in ((9, 20, 33), (24, 38, 60)):
            planes, pixels = look_at(browser, shown, place)
            check_grey(planes, pixels, grey)
        with changed(browser, shown.page) as state:
            state.layers["tomogram"].cross_section_render_scale = 3 / ZOOM
            state.position = [33.5, 20.5, 10.5]  # the middle of voxels of the lower level
        planes = Planes(browser, shown.page, VOXEL)
        coarse = Volume(str(stores["tomogram"]), "1").read()
        check_grey(planes, browser.pixels().astype(int), coarse, factor=2)
        assert browser.errors() == []
        assert browser.outside == []
        assert all(url.startswith(shown.server.address) for url in browser.requests())


def test_an_array_that_is_no_ome_zarr(browser: Browser, stores: dict[str, Path], grey: np.ndarray) -> None:
    """Its centres lie at whole numbers, too; labels of 64 bits are handed out in blocks, at the same places."""
    with view(stores["array"], voxel_size=VOXEL, labels=str(stores["label array"])) as shown:
        show(browser, shown)
        with changed(browser, shown.page) as state:
            state.layers["labels"].visible = False
        planes, pixels = look_at(browser, shown, (9, 20, 33))
        check_grey(planes, pixels, grey)


@pytest.mark.parametrize("kind", ["labels", "label array"])
def test_labels_have_their_colours_over_their_voxels(
    browser: Browser, stores: dict[str, Path], labels: np.ndarray, particles: Particles, kind: str
) -> None:
    colours = {one.label: one.rgb for one in CLASSES}
    with view(stores["tomogram"], particles, voxel_size=VOXEL, labels=str(stores[kind])) as shown:
        show(browser, shown)
        with changed(browser, shown.page) as state:
            state.layers["labels"].layer.selected_alpha = 1.0
            state.layers["particles"].visible = state.layers["particles centres"].visible = False
        seen = set()
        for place in ((8, 22, 58), (24, 11, 58)):
            planes, pixels = look_at(browser, shown, place)
            for plane in planes.boxes:
                _, _, across = planes.axes(plane)
                cut = np.argwhere(labels.take(place[across], across) >= 0)
                for voxel in np.insert(cut[::7], across, place[across], axis=1):
                    for spot in corners(tuple(voxel), planes, plane):
                        pixel = planes.pixel(plane, spot)
                        if pixel is None:
                            continue
                        label = int(labels[tuple(voxel)])
                        found = pixels[pixel]
                        seen.add((plane, label))
                        if label == 0:
                            assert np.ptp(found) <= 2, f"{plane} {voxel}: colour where there is no label"
                        else:
                            assert np.abs(found - colours[label]).max() <= 3, f"{plane} {voxel} of {label}: {found}"
        assert seen >= {(plane, label) for plane in ("xy", "xz", "yz") for label in (0, 1, 2, 3)}


def test_particles_are_discs_of_their_radius_and_colour(
    browser: Browser, stores: dict[str, Path], particles: Particles
) -> None:
    """Each from its centre and from half a radius beside it, in the three planes, and nothing around it."""
    with view(stores["tomogram"], {"found": particles}) as shown:
        show(browser, shown)
        with changed(browser, shown.page) as state:
            state.layers["found"].shader_controls = {"opacity": 1.0}
            state.layers["found centres"].visible = False
        checked = dict.fromkeys(("xy", "xz", "yz"), 0)
        for centre, label in PARTICLES:
            one = CLASSES[label - 1]
            assert one.radius is not None
            for beside in (0.0, 0.5):
                place = np.asarray(centre) + beside * one.radius / np.asarray(VOXEL)
                planes, pixels = look_at(browser, shown, tuple(place))
                radius = one.radius * np.sqrt(1 - beside**2)
                for plane in planes.boxes:
                    a, b, _ = planes.axes(plane)
                    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
                        for part in (0.5, 0.88, 1.12):
                            spot = np.asarray(centre, float)
                            spot[a] += part * radius * np.cos(angle) / VOXEL[a]
                            spot[b] += part * radius * np.sin(angle) / VOXEL[b]
                            pixel = planes.pixel(plane, tuple(spot))
                            if pixel is None or any(not 0 <= v < n - 1 for v, n in zip(spot, SHAPE, strict=True)):
                                continue
                            coloured = np.abs(pixels[pixel] - one.rgb).max() <= 3
                            assert coloured == (part < 1), f"{one.name} at {centre} in {plane}: {pixels[pixel]}"
                            checked[plane] += 1
        assert min(checked.values()) > 100


def test_centres_scores_and_the_list(browser: Browser, stores: dict[str, Path], particles: Particles) -> None:
    """Dots at the centres; the score threshold hides particles; a right click in the list goes to one."""
    with view(stores["tomogram"], {"found": particles}) as shown:
        show(browser, shown)
        with changed(browser, shown.page) as state:
            state.layers["found"].visible = False
            state.layers["found centres"].shader_controls = {"size": 9, "smallest_score": 0.5}
        for row, (centre, label) in enumerate(PARTICLES):
            planes, pixels = look_at(browser, shown, centre)
            for plane in planes.boxes:
                spot = planes.pixel(plane, centre)
                assert spot is not None
                coloured = np.abs(pixels[spot] - CLASSES[label - 1].rgb).max() <= 3
                assert coloured == (row != 2), f"{row} in {plane}"  # its score is 0.4; one without a score is shown
        with changed(browser, shown.page) as state:
            state.selected_layer.layer = "found"
            state.selected_layer.visible = True
            state.layers["found"].tab = "annotations"
        rows = "return [...document.querySelectorAll('.neuroglancer-annotation-list-entry')]"
        words = browser.wait(lambda: browser.run(f"{rows}.map(one => one.innerText)"), what="the list")
        assert len(words) == len(PARTICLES)
        assert any("proteasome 1, score 0.800" in one for one in words)
        entry = browser.run(f"{rows}.filter(one => one.innerText.includes('proteasome 1'))[0]")
        ActionChains(browser.driver).context_click(entry).perform()
        expected = list(PARTICLES[1][0][::-1])
        browser.wait(
            lambda: np.allclose(browser.run("return viewer.state.toJSON().position"), expected, atol=0.51),
            30,
            what="the jump",
        )


def test_truth_found_and_missed_have_the_colours_of_the_paper(
    browser: Browser, stores: dict[str, Path], particles: Particles
) -> None:
    found = particles.where([True, True, False, False])
    with view(stores["tomogram"], truth=particles, found=found) as shown:
        names = [one.name for one in shown.state.layers]
        assert names == ["tomogram", "truth centres", "truth", "found centres", "found", "missed centres", "missed"]
        show(browser, shown)
        with changed(browser, shown.page) as state:
            for name in names[1:]:
                state.layers[name].visible = name in ("truth", "missed")
                state.layers[name].shader_controls = {} if "centres" in name else {"opacity": 1.0}
        colours = {0: "#2ca02c", 1: "#2ca02c", 2: "#ffd400", 3: "#ffd400"}
        for row, colour in colours.items():
            planes, pixels = look_at(browser, shown, PARTICLES[row][0])
            spot = planes.pixel("xy", PARTICLES[row][0])
            assert spot is not None
            assert np.abs(pixels[spot] - [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).max() <= 3


def test_spheres_stand_in_the_third_dimension(browser: Browser, stores: dict[str, Path], particles: Particles) -> None:
    """Seen in 3D without slices, there is as much red and green as four spheres have, and no other colour."""
    with view(stores["tomogram"], particles) as shown:
        show(browser, shown)
        with changed(browser, shown.page) as state:
            state.layout = "3d"
            state.show_slices = False
        pixels = browser.pixels().astype(int)[80:, :]
        red = (pixels[..., 0] > 60) & (pixels[..., 1] < 40) & (pixels[..., 2] < 40)
        green = (pixels[..., 1] > 50) & (pixels[..., 0] < 40) & (pixels[..., 2] < 40)
        assert red.sum() > 1.5 * green.sum() > 500  # radii are as 3 to 2, discs as 9 to 4


def test_a_score_map_is_heat_in_the_colour_of_its_class(
    browser: Browser, stores: dict[str, Path], grey: np.ndarray, labels: np.ndarray, tmp_path: Path
) -> None:
    """16-bit floats, one layer for each class."""
    from deepfinder_dask.particles import classes_to_dicts
    from deepfinder_dask.tomograms import create_group, finish_group

    path = tmp_path / "seg.zarr"
    create_group(path, kind="segmentation")
    scores = create_image(
        f"{path}/scores", shape=(4, *SHAPE), dtype="float16", voxel_size=VOXEL, axes=("class", "z", "y", "x")
    )
    values = np.stack([labels == label for label in range(4)]).astype(np.float16)
    scores.write(Box.whole(scores.space), values)
    finish_image(f"{path}/scores")
    finish_group(path, {"classes": classes_to_dicts(CLASSES), "voxel_size": list(VOXEL)})
    with view(stores["tomogram"], scores=str(path)) as shown:
        show(browser, shown)
        assert [one.name for one in shown.state.layers][1:] == [f"score of {one.name}" for one in CLASSES]
        for centre, label in PARTICLES:
            place = tuple(round(v) for v in centre)
            planes, pixels = look_at(browser, shown, place)
            heat = 0.4 * np.asarray(CLASSES[label - 1].rgb) + 0.6 * 255
            colour = 0.8 * heat + 0.2 * float(grey[place])
            for plane in planes.boxes:
                for voxel in corners(place, planes, plane):
                    spot = planes.pixel(plane, voxel)
                    assert spot is not None
                    assert np.abs(pixels[spot] - colour).max() <= 4, f"{plane} {place}: {pixels[spot]}"
