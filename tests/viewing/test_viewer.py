"""What the viewer is asked to show, without a browser: layers, names, colours, refusals, and the command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.blocks import Box
from deepfinder_dask.cli import main
from deepfinder_dask.errors import FormatError, GeometryError, InputError, SettingsError
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, classes_to_dicts, write_classes
from deepfinder_dask.tomograms import Tomogram, Volume, create_group, create_image, finish_group, finish_image
from deepfinder_dask.tomograms.statistics import statistics_of
from deepfinder_dask.viewing import ViewSettings

pytest.importorskip("neuroglancer", reason="needs neuroglancer: pip install 'deepfinder_dask[view]'")

from deepfinder_dask.viewing import view
from deepfinder_dask.viewing.browser.blocks import BLOCK, Blocks

SHAPE = (10, 20, 70)
VOXEL = (20.0, 10.0, 10.0)
CLASSES = (ParticleClass("ribosome", 1, radius=60.0), ParticleClass("proteasome", 3, colour="#123456"))


def image(path: Path, values: np.ndarray, **finish: object) -> Path:
    axes = ("class", "z", "y", "x")[4 - values.ndim :]
    volume = create_image(path, shape=values.shape, dtype=values.dtype, voxel_size=VOXEL, axes=axes)
    volume.write(Box.whole(volume.space), values)
    finish_image(path, **finish)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tomogram with statistics."""
    path = tmp_path_factory.mktemp("cell") / "cell.zarr"
    volume = create_image(path, shape=SHAPE, dtype="float32", voxel_size=VOXEL)
    volume.write(Box.whole(SHAPE), np.random.default_rng(1).normal(5, 2, SHAPE).astype(np.float32))
    finish_image(path, {"statistics": statistics_of(volume).to_dict()})
    return path


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels, instances, probability and 16-bit scores."""
    path = tmp_path_factory.mktemp("seg") / "seg.zarr"
    rng = np.random.default_rng(2)
    create_group(path, kind="segmentation")
    image(path / "labels", rng.integers(0, 4, SHAPE).astype(np.uint8), label_colours={1: "#ffffff"}, method="mode")
    image(
        path / "instances",
        rng.integers(0, 3, SHAPE).astype(np.uint32),
        label_colours={1: CLASSES[0].colour, 2: CLASSES[1].colour},
        attributes={"kind": "instances"},
    )
    image(path / "scores", rng.random((4, *SHAPE)).astype(np.float16))
    finish_group(path, {"classes": classes_to_dicts(CLASSES), "voxel_size": list(VOXEL)})
    return path


@pytest.fixture(scope="module")
def particles() -> Particles:
    return Particles.from_voxels(
        [(2, 3, 40), (5, 12, 8.5)],
        tomogram="cell",
        facts=TomogramFacts(VOXEL, SHAPE),
        labels=[1, 3],
        classes=CLASSES,
        scores=[0.25, np.nan],
        sizes=[900, 123],
    )


@pytest.fixture
def no_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever reads voxels fails."""

    def refuse(volume: Volume, box: Box | None = None) -> np.ndarray:
        raise AssertionError(f"reads {volume}")

    monkeypatch.setattr(Volume, "read", refuse)
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("no_reads")
def test_opening_reads_no_voxels(cell: Path, segmentation: Path, particles: Particles) -> None:
    """Everything is there, straight from the stores, and nothing was loaded."""
    with view(cell, particles, labels=str(segmentation), instances=True, scores=str(segmentation)) as shown:
        state = shown.state.to_json()
    layers = {one["name"]: one for one in state["layers"]}
    assert list(layers) == [
        "tomogram", "labels", "instances", "score of ribosome", "score of proteasome", "particles centres", "particles",
    ]  # fmt: skip
    assert state["dimensions"] == {"x": [1e-9, "m"], "y": [1e-9, "m"], "z": [2e-9, "m"]}
    assert "/tomogram/|zarr3:" in json.dumps(layers["tomogram"]["source"])
    assert layers["labels"]["segmentColors"] == {"1": CLASSES[0].colour, "3": "#123456", "255": "#9aa0a6"}
    assert layers["instances"]["segmentColors"] == {"1": CLASSES[0].colour, "2": "#123456"}
    assert [one.get("visible", True) for one in layers.values()].count(False) == 1
    spheres = layers["particles"]["annotations"]
    assert [one["center"] for one in spheres] == [[40, 3, 2], [8.5, 12, 5]]
    assert spheres[0]["radii"] == [6, 6, 3]
    volume = 4 / 3 * np.pi * np.prod(np.asarray(spheres[1]["radii"]))
    assert volume == pytest.approx(123)  # no radius of the class: as large as its voxels
    assert [one["props"] for one in spheres] == [[CLASSES[0].colour, 0.25], ["#123456", -1]]
    assert [one["description"] for one in spheres] == ["ribosome 0, score 0.250", "proteasome 1"]
    assert [one["point"] for one in layers["particles centres"]["annotations"]] == [[40, 3, 2], [8.5, 12, 5]]


def test_contrast_is_that_of_the_percentiles(cell: Path) -> None:
    statistics = Tomogram.open(cell).statistics
    assert statistics is not None
    with view(cell) as shown:
        contrast = shown.state.to_json()["layers"][0]["shaderControls"]["contrast"]
    assert contrast["range"] == [statistics.percentiles["0.5"], statistics.percentiles["99.5"]]
    assert contrast["window"][0] < contrast["range"][0] < contrast["range"][1] < contrast["window"][1]


def test_sets_have_names_and_colours(cell: Path, particles: Particles, tmp_path: Path) -> None:
    particles.write(tmp_path / "a.parquet")
    with view(cell, [tmp_path / "a.parquet", particles, particles], colours=("#ff0000", "#00ff00")) as shown:
        layers = shown.state.to_json()["layers"][2::2]
    assert [one["name"] for one in layers] == ["a", "particles", "particles 2"]
    colours = [{two["props"][0] for two in one["annotations"]} for one in layers]
    assert colours == [{"#ff0000"}, {"#00ff00"}, {CLASSES[0].colour, "#123456"}]
    with view(cell, {"mine": particles}) as shown:
        assert shown.state.to_json()["layers"][2]["name"] == "mine"
    with pytest.raises(SettingsError, match="at most 1 names"):
        view(cell, particles, names=("a", "b"))


def test_a_table_of_several_tomograms(cell: Path, particles: Particles) -> None:
    other = Particles.from_voxels(
        [(1, 1, 1)], tomogram="other", facts=TomogramFacts(VOXEL, SHAPE), labels=[1], classes=CLASSES
    )
    both = Particles.concat([particles, other])
    for name, expected in ((None, 2), ("other", 1)):
        with view(cell, both, name=name) as shown:
            assert len(shown.state.to_json()["layers"][1]["annotations"]) == expected
    strangers = both.with_table(both.table.assign(tomogram=["a", "b", "c"]))
    strangers = Particles(strangers.table, {name: TomogramFacts(VOXEL, SHAPE) for name in "abc"}, CLASSES)
    with pytest.raises(InputError, match="--name"):
        view(cell, strangers)


def test_a_comparison_matches_one_to_one(cell: Path, particles: Particles) -> None:
    """Two found beside one true particle: one of them has no partner."""
    found = Particles.from_voxels(
        [(2, 3, 41), (2, 3, 42), (5, 12, 60)],
        tomogram="cell",
        facts=TomogramFacts(VOXEL, SHAPE),
        labels=[1, 1, 3],
        classes=CLASSES,
    )
    with view(cell, truth=particles, found=found, tolerance="50A") as shown:
        layers = {one["name"]: one.get("annotations", []) for one in shown.state.to_json()["layers"]}
    assert [one["description"] for one in layers["truth"]] == ["ribosome 0, score 0.250, found"]
    assert [one["description"] for one in layers["missed"]] == ["proteasome 0, missed"]
    assert [one["description"] for one in layers["found"]] == [
        "ribosome 0", "ribosome 1, no true particle here", "proteasome 2, no true particle here",
    ]  # fmt: skip
    with pytest.raises(InputError, match="both"):
        view(cell, truth=particles)


def test_classes_of_a_file_come_first(cell: Path, segmentation: Path, tmp_path: Path) -> None:
    write_classes([ParticleClass("mine", 1, colour="#abcdef")], tmp_path / "classes.toml")
    with view(cell, labels=str(segmentation), classes=str(tmp_path / "classes.toml")) as shown:
        layer = shown.state.to_json()["layers"][1]
        address = layer["source"][1]["url"] if isinstance(layer["source"][1], dict) else layer["source"][1]
        with urllib.request.urlopen(address.split("|")[0] + "info", timeout=30) as answer:
            names = json.load(answer)
    assert layer["segmentColors"]["1"] == "#abcdef"
    assert names["inline"] == {"ids": ["1"], "properties": [{"id": "label", "type": "label", "values": ["mine"]}]}


def test_what_cannot_be_shown(cell: Path, segmentation: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mrc").write_bytes(b"x" * 2000)
    with pytest.raises(FormatError, match="deepfinder convert"):
        view(tmp_path / "a.mrc")
    small = image(tmp_path / "small.zarr", np.zeros((4, 5, 6), np.uint8))
    with pytest.raises(GeometryError, match="shape"):
        view(cell, labels=str(small))
    with pytest.raises(FormatError, match="whole numbers"):
        view(cell, labels=str(cell))
    with pytest.raises(FormatError, match="segmentation"):
        view(cell, scores=str(cell))
    with pytest.raises(InputError, match="--labels"):
        view(cell, instances=True)
    create_group(tmp_path / "half.zarr", kind="segmentation")
    with pytest.raises(FormatError, match="never finished"):
        view(cell, labels=str(tmp_path / "half.zarr"))
    for bad in ({"colours": ("red",)}, {"port": 70000}):
        with pytest.raises(SettingsError):
            ViewSettings(**bad)  # type: ignore[arg-type]


def test_what_locate_left_is_shown_whole(cell: Path, segmentation: Path, particles: Particles, tmp_path: Path) -> None:
    (tmp_path / "tomogram.zarr").symlink_to(cell)
    (tmp_path / "segmentation.zarr").symlink_to(segmentation)
    particles.write(tmp_path / "particles.parquet")
    with view(tmp_path) as shown:
        assert [one.name for one in shown.state.layers] == ["tomogram", "labels", "particles centres", "particles"]


def test_the_handle_in_a_notebook(cell: Path) -> None:
    shown = view(cell)
    assert f'<iframe src="{shown.url}"' in shown._repr_html_()
    assert shown.url in repr(shown)
    shown.close()
    shown.close()
    assert "iframe" not in shown._repr_html_()


def test_blocks_are_the_voxels_of_their_boxes(segmentation: Path) -> None:
    """One class of a score map as bytes, x fastest; nothing but blocks of the grid's size."""
    volume = Volume(str(segmentation / "scores"), "0")
    blocks = Blocks((volume,), VOXEL, class_number=3)
    info = json.loads(blocks.answer("info"))
    assert info["scales"][0]["size"] == [70, 20, 10]
    assert info["scales"][0]["resolution"] == [1, 1, 2]
    found = np.frombuffer(blocks.answer("0/64-70_0-20_0-10"), np.uint8).reshape(10, 20, 6)
    expected = np.rint(volume.read()[3, :, :, 64:].astype(np.float32) * 255)
    assert np.array_equal(found, expected)
    for key in ("0/0-71_0-1_0-1", f"0/0-{BLOCK + 1}_0-1_0-1", "1/0-1_0-1_0-1", "0/3-3_0-1_0-1", "0/../info", ""):
        with pytest.raises(FileNotFoundError):
            blocks.answer(key)


def test_the_command_serves_until_it_is_interrupted(cell: Path, particles: Particles, tmp_path: Path) -> None:
    """It says where the page is; Ctrl-C ends it without a word, and the page is gone."""
    particles.write(tmp_path / "a.parquet")
    words = ["view", str(cell), "--particles", str(tmp_path / "a.parquet"), "--names", "mine", "--no-open"]
    child = subprocess.Popen(
        [sys.executable, "-m", "deepfinder_dask", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    said = child.stderr.readline()
    address = said.split()[2]
    assert said == f"view at {address} — Ctrl-C here ends it\n"
    with urllib.request.urlopen(address, timeout=60) as answer:
        assert b"<html" in answer.read().lower()
    child.send_signal(signal.SIGINT)
    printed, errors = child.communicate(timeout=60)
    assert (child.returncode, printed, errors) == (0, "", "\n")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address, timeout=60)


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(tmp_path / "none.zarr"), "--no-open"]) == 2
    assert capsys.readouterr().err.startswith("error: no such tomogram")


def test_a_page_opens_in_the_middle_of_the_slice_with_most_particles(cell: Path) -> None:
    corner = Particles.from_voxels(
        [(8, 2, 3), (8, 3, 9), (8, 17, 5)],
        tomogram="cell",
        facts=TomogramFacts(VOXEL, SHAPE),
        labels=[1, 1, 1],
        classes=(ParticleClass("small", 1, radius=30.0),),
    )
    with view(cell, corner) as shown:
        assert list(shown.state.position) == [35, 10, 8]


def test_sets_of_particles_never_take_the_name_of_a_layer(cell: Path, segmentation: Path, particles: Particles) -> None:
    """The page tells layers apart by name: the list at the side is that of the particles."""
    sets = {"labels": particles, "labels centres": particles, "found": particles}
    with view(cell, sets, labels=str(segmentation), truth=particles, found=particles, tolerance="50A") as shown:
        names = [one.name for one in shown.state.layers]
        selected = shown.state.selected_layer.layer
    assert len(set(names)) == len(names), names
    assert {"labels", "labels 2", "found", "found 2"} <= set(names)
    assert selected == "missed"


def test_no_tables_and_no_particles(cell: Path) -> None:
    empty = Particles.empty({"cell": TomogramFacts(VOXEL, SHAPE)}, CLASSES)
    with view(cell, empty, truth=empty, found=empty) as shown:
        layers = {one["name"]: one.get("annotations", []) for one in shown.state.to_json()["layers"]}
    assert {len(one) for one in layers.values()} == {0}


def test_contrast_of_a_large_array_reads_its_middle_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One level and no statistics, as other programs leave it: memory does not grow with it."""
    volume = create_image(tmp_path / "big.zarr", shape=(30, 40, 50), dtype="float32", voxel_size=VOXEL)
    values = np.full((30, 40, 50), 100.0, np.float32)
    values[10:20, 15:25, 20:30] = np.linspace(-3, 3, 1000).reshape(10, 10, 10)
    volume.write(Box.whole(volume.space), values)
    finish_image(tmp_path / "big.zarr")
    monkeypatch.setattr("deepfinder_dask.viewing.browser.states.SAMPLE", 10)
    with view(tmp_path / "big.zarr") as shown:
        low, high = shown.state.to_json()["layers"][0]["shaderControls"]["contrast"]["range"]
    assert -3 < low < -2.9
    assert 2.9 < high < 3


def test_a_store_made_anew_is_read_anew(tmp_path: Path) -> None:
    """In a notebook a segmentation is repeated under its name, and looked at again."""
    for value in (7, 9):
        volume = create_image(tmp_path / "a.zarr", shape=SHAPE, dtype="int64", voxel_size=VOXEL, overwrite=value == 9)
        volume.write(Box.whole(SHAPE), np.full(SHAPE, value))
        finish_image(tmp_path / "a.zarr")
        blocks = Blocks((Volume(str(tmp_path / "a.zarr"), "0"),), VOXEL, segments=True)
        assert set(np.frombuffer(blocks.answer("0/0-64_0-20_0-10"), np.uint32)) == {value}


@pytest.mark.parametrize("what", ["moved", "no unit", "unit", "lz4"])
def test_stores_that_the_client_would_misplace_or_not_read(what: str, tmp_path: Path) -> None:
    """As other programs write them: the page gets blocks, where every position means the same voxel."""
    path = tmp_path / "foreign.zarr"
    codec = {"id": "lz4", "acceleration": 1} if what == "lz4" else {"id": "zlib", "level": 1}
    (path / "0").mkdir(parents=True)
    axes = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]
    moves = [{"type": "scale", "scale": list(VOXEL)}, {"type": "translation", "translation": [0, 0, 0]}]
    entry = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": moves}]}
    array = {
        "zarr_format": 2, "shape": SHAPE, "chunks": SHAPE, "dtype": "|u1", "compressor": codec, "fill_value": 3,
        "order": "C", "filters": None, "dimension_separator": "/",
    }  # fmt: skip
    attributes = {"multiscales": [entry]}
    (path / "0" / ".zarray").write_text(json.dumps(array))
    (path / ".zgroup").write_text('{"zarr_format": 2}')

    def source() -> str:
        (path / ".zattrs").write_text(json.dumps(attributes))
        with view(path) as shown:
            return json.dumps(shown.state.to_json()["layers"][0]["source"])

    if what != "lz4":
        assert "|zarr2:" in source()
    if what == "moved":
        moves[1]["translation"] = [0, 100, 0]
    elif what == "no unit":
        del axes[1]["unit"]
    elif what == "unit":
        axes[1]["unit"] = "å"
    assert "|neuroglancer-precomputed:" in source()
