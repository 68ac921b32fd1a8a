from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import zarr

from deepfinder_dask.blocks import Box
from deepfinder_dask.cli import main
from deepfinder_dask.errors import FormatError, GeometryError, InputError, OutputExistsError, SettingsError
from deepfinder_dask.networks import load_weights
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, write_classes
from deepfinder_dask.simulation import SimulationConfig, Species, TiltImaging, TomogramConfig, simulate
from deepfinder_dask.simulation import read_config as read_simulation
from deepfinder_dask.targets import target
from deepfinder_dask.tomograms import (
    Normalisation,
    Volume,
    create_image,
    finish_image,
    statistics_of,
    write_attributes,
)
from deepfinder_dask.training import TrainSettings, read_config, train
from deepfinder_dask.training.config import config_of
from deepfinder_dask.training.data import open_data
from deepfinder_dask.training.patches import NEGATIVE, Patch, PatchSampler
from deepfinder_dask.training.starting import identity_of
from deepfinder_dask.training.state import State

EXAMPLE = {"tomogram": "a.zarr", "target": "a_labels.zarr", "particles": "a_particles.parquet"}
TABLES = {
    "steps": 4,
    "patch_size": 16,
    "batch": 2,
    "check_every": 2,
    "validation_patches": 2,
    "held_out": ["demo"],
    "train": [EXAMPLE],
    "validation": [{key: value.replace("a", "b", 1) for key, value in EXAMPLE.items()}],
}
SCENES = SimulationConfig(
    20.0,
    (Species("ring", 1, min_size=20), Species("rod", 2)),
    tuple(
        TomogramConfig(name, seed, (24, 40, 32), {"ring": 2, "rod": 1}, 20.0, TiltImaging(tilt_step=10.0))
        for name, seed in (("a", 1), ("b", 2))
    ),
)


def write_toml(path, **changes):
    tables = {**TABLES, **changes}
    lines = [f"{k} = {json.dumps(v)}" for k, v in tables.items() if k not in ("train", "validation")]
    for role in ("train", "validation"):
        for table in tables[role]:
            lines += [f"[[{role}]]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulate(SCENES, folder)
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(write_toml(data / "train.toml"), folder, threads=2)
    return folder


def test_a_run_leaves_weights_that_say_where_they_come_from(finished):
    weights = load_weights(finished / "best.safetensors")
    assert [(c.name, c.min_size) for c in weights.classes] == [("ring", 20), ("rod", None)]
    assert weights.voxel_size == 20.0
    assert weights.imaging.contrast == "dark"
    assert weights.normalisation == Normalisation("robust")
    told = weights.provenance
    assert told["training"]["steps"] == 4
    assert [t["source"]["seed"] for t in told["data"]["train"]] == [1]
    assert told["data"]["held_out"][0]["seed"] == read_simulation("demo").tomograms[0].seed
    assert set(told["validation"]) == {"f1", "f1_1", "f1_2"}
    entries = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in entries] == [1, 2, 3, 4]
    assert (finished / "curves.png").stat().st_size > 5000
    assert (finished / "patches.png").stat().st_size > 5000
    page = (finished / "curves.html").read_text()
    assert "refresh" not in page, "the run has ended"
    assert "<svg" in page
    assert "4 of 4" in page
    assert not re.search(r"(src|href)=.http", page), "the page holds all that it shows"
    assert page.count("data:image/png") == 1, "the example patches"


def test_a_resumed_run_gives_the_same_bytes(data, finished, tmp_path, monkeypatch):
    def killed(self, key, value):
        object.__setattr__(self, key, value)
        if key == "step" and value == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(State, "__setattr__", killed, raising=False)
        with pytest.raises(KeyboardInterrupt):
            train(data / "train.toml", tmp_path / "run", threads=2)
    train(data / "train.toml", tmp_path / "run", threads=2, resume=True)
    logs = [[json.loads(s) for s in (f / "log.jsonl").read_text().splitlines()] for f in (finished, tmp_path / "run")]
    assert [e["loss"] for e in logs[0]] == [e["loss"] for e in logs[1]]
    first, second = (load_weights(f / "last.safetensors") for f in (finished, tmp_path / "run"))
    assert first.sha256 == second.sha256


def test_a_resume_of_another_run_is_refused(data, finished, tmp_path):
    other = write_toml(data / "other.toml", steps=6)
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(FormatError, match="another configuration or other data"):
        train(other, tmp_path / "run", resume=True)
    with pytest.raises(InputError, match="no such file"):
        train(other, tmp_path / "empty", resume=True)
    (tmp_path / "run" / "state.safetensors").write_bytes(b"no tensors")
    with pytest.raises(FormatError, match="damaged"):
        train(data / "train.toml", tmp_path / "run", resume=True)


def test_a_run_is_not_replaced_unasked(data, finished):
    with pytest.raises(OutputExistsError, match="--resume"):
        train(data / "train.toml", finished)


def test_nothing_of_a_replaced_run_stays(data, finished, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    shutil.copytree(finished, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("deepfinder_dask.training.verb.run", killed)
        with pytest.raises(KeyboardInterrupt):
            train(write_toml(data / "short.toml", steps=2), tmp_path / "run", overwrite=True)
    left = {p.name for p in (tmp_path / "run").iterdir()} - {"tensorboard"}  # begun anew, where it is installed
    assert left == {"log.jsonl", "run.json", "state.safetensors"}
    assert (tmp_path / "run" / "log.jsonl").read_text() == ""
    train(data / "short.toml", tmp_path / "run", resume=True)  # from the very beginning
    assert load_weights(tmp_path / "run" / "last.safetensors").provenance["steps_taken"] == 2


def test_a_run_driven_to_not_a_number_stops_in_one_line(data, tmp_path, capsys):
    """The first step ruins the weights; kept are those it began with, and they can be gone on from."""
    path = write_toml(data / "fast.toml")
    path.write_text("learning_rate = inf\n" + path.read_text())
    assert main(["train", str(path), "-o", str(tmp_path / "run"), "--threads", "1"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.match(r"error: training stopped at step 1 of 4: the weights are not finite; the last good weights", said)
    kept = load_weights(tmp_path / "run" / "last.safetensors")
    assert kept.provenance["steps_taken"] == 0
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_a_label_without_a_class_is_named(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    labels = Volume(tmp_path / "data" / "a_labels.zarr", "0")
    labels.write(Box.whole(labels.space), np.full(labels.shape, 7, np.uint8))
    with pytest.raises(FormatError, match=r"target of a holds label 7, but .* labels 1 to 2"):
        train(tmp_path / "data" / "train.toml", tmp_path / "run", threads=1)


def change_particles(data, folder, name, change):
    shutil.copytree(data, folder, dirs_exist_ok=True)
    particles = Particles.read(folder / f"{name}_particles.parquet")
    replace(particles, table=change(particles.table.copy())).write(folder / f"{name}_particles.parquet")
    return folder


def test_a_position_outside_its_tomogram_is_named(data, tmp_path):
    def outside(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[1, "x"] = 20.0 * 32
        return table

    folder = change_particles(data, tmp_path / "data", "a", outside)
    with pytest.raises(
        GeometryError, match=r"outside its tomogram: row 1 of a_particles.parquet .* check the voxel size"
    ):
        open_data(config_of(TABLES), folder)


def test_a_class_without_positions_is_named(data, tmp_path):
    folder = change_particles(data, tmp_path / "data", "a", lambda table: table[table["class"] != "rod"])
    with pytest.raises(SettingsError, match="class 'rod' has no positions"):
        open_data(config_of(TABLES), folder)


def test_a_target_of_another_shape_is_refused(data, tmp_path):
    simulate(replace(SCENES, tomograms=(replace(SCENES.tomograms[0], name="c", shape=(24, 32, 40)),)), tmp_path)
    odd = {**TABLES, "train": [{**EXAMPLE, "target": str(tmp_path / "c_labels.zarr")}]}
    with pytest.raises(GeometryError, match=r"target and tomogram must have one shape: .*\(24, 32, 40\)"):
        open_data(config_of(odd), data)
    grey = {**TABLES, "train": [{**EXAMPLE, "target": "a.zarr"}]}
    with pytest.raises(GeometryError, match="whole numbers"):
        open_data(config_of(grey), data)


def test_a_target_of_other_classes_is_refused(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    write_attributes(str(tmp_path / "data" / "a_labels.zarr"), {"classes": [{"name": "cube", "label": 1}]})
    with pytest.raises(SettingsError, match=r"target and particles must have the same classes: a_labels.zarr has"):
        open_data(config_of(TABLES), tmp_path / "data")


@pytest.mark.parametrize("told_by", ["configuration", "target"])
def test_annotated_classes_come_from_the_configuration_or_the_target(data, tmp_path, told_by):
    shutil.copytree(data, tmp_path / "data")
    more = {"annotated": ["ring"]} if told_by == "configuration" else {}
    if told_by == "target":
        write_attributes(str(tmp_path / "data" / "a_labels.zarr"), {"annotated": ["ring"]})
    second = TABLES["validation"][0]
    opened = open_data(config_of({**TABLES, "train": [{**EXAMPLE, **more}, second]}), tmp_path / "data")
    assert [t.known for t in opened.train] == [(1,), None]
    assert set(opened.train[0].position_labels.tolist()) == {1}
    assert set(opened.train[1].position_labels.tolist()) == {1, 2}
    assert opened.provenance["train"][0]["annotated"] == ["ring"]
    with pytest.raises(SettingsError, match="class 'rod' is annotated in no training tomogram"):
        open_data(config_of({**TABLES, "train": [{**EXAMPLE, **more}]}), tmp_path / "data")
    with pytest.raises(SettingsError, match="annotated names 'cube'"):
        open_data(config_of({**TABLES, "train": [{**EXAMPLE, "annotated": ["cube"]}]}), tmp_path / "data")


def test_a_target_that_was_drawn_says_what_is_annotated_and_brings_its_structures(data, tmp_path):
    """Rings and a slab of membrane are annotated; rods are not, and have a label all the same."""
    shutil.copytree(data, tmp_path / "data")
    slab = np.zeros((24, 40, 32), np.uint8)
    slab[:4] = 1
    volume = create_image(tmp_path / "slab.zarr", shape=slab.shape, dtype="uint8", voxel_size=20.0)
    volume.write(Box.whole(slab.shape), slab)
    finish_image(tmp_path / "slab.zarr")
    classes = [ParticleClass("ring", 1, radius=60.0), ParticleClass("rod", 2, radius=40.0)]
    write_classes([*classes, ParticleClass("membrane", 3, kind="structure")], tmp_path / "classes.toml")
    target(
        tmp_path / "data" / "a_particles.parquet",
        tmp_path / "data" / "a.zarr",
        tmp_path / "data" / "a_target.zarr",
        classes=str(tmp_path / "classes.toml"),
        add=(f"{tmp_path / 'slab.zarr'}=membrane",),
        annotated=("ring", "membrane"),
        progress=False,
    )
    one = {**EXAMPLE, "target": "a_target.zarr"}
    opened = open_data(
        config_of({**TABLES, "train": [one, {**one, "annotated": ["rod"]}], "validation": [one]}), tmp_path / "data"
    )
    assert [c.name for c in opened.classes] == ["ring", "rod", "membrane"]
    assert opened.classes[0].min_size == 20, "what the particles say of their classes stays"
    assert [t.known for t in opened.train] == [(1, 3), (2,)]
    sampler = PatchSampler(opened.train[:1], size=16, batch=1, shift=0, seed=0, classes=3)
    labels = sampler.read([Patch(0, Box((0, 0, 0), (16, 16, 16)), turned=False)])[1]
    assert set(np.unique(labels[0, :4])) <= {1, 3, 255}
    assert (labels == 3).sum() > 500


def test_negatives_are_positions_without_a_class(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    facts = TomogramFacts((20.0, 20.0, 20.0), (24, 40, 32))
    ice = (ParticleClass("ice", 9, kind="structure"),)
    for name, x in (("ice", 30), ("far", 40)):
        table = Particles.from_voxels([[2, 3, x]], tomogram="a", facts=facts, labels=[9], classes=ice)
        table.write(tmp_path / "data" / f"{name}.parquet")
    opened = open_data(config_of({**TABLES, "train": [{**EXAMPLE, "negatives": "ice.parquet"}]}), tmp_path / "data")
    assert opened.train[0].positions[-1].tolist() == [2, 3, 30]
    assert opened.train[0].position_labels.tolist().count(NEGATIVE) == 1
    assert opened.provenance["train"][0]["negatives"] == 1
    with pytest.raises(GeometryError, match=r"row 0 of far.parquet is at voxel \[2.0, 3.0, 40.0\]"):
        open_data(config_of({**TABLES, "train": [{**EXAMPLE, "negatives": "far.parquet"}]}), tmp_path / "data")


@pytest.mark.parametrize("same", ["seed", "imaging"])
def test_a_held_out_simulation_must_not_be_among_the_data(tmp_path, same):
    demo = read_simulation("demo").tomograms[0]
    leaky = replace(SCENES.tomograms[0], **{same: getattr(demo, same)})
    simulate(replace(SCENES, tomograms=(leaky, SCENES.tomograms[1])), tmp_path)
    with pytest.raises(SettingsError, match=r"held_out 'demo' must stay unseen, but a has"):
        open_data(config_of(TABLES), tmp_path)


def test_one_normalisation_serves_patches_masks_and_whole_tomograms(data, tmp_path):
    """Of a tomogram with a bright half, a mask decides the robust mean, and which particles are sought."""
    shutil.copytree(data, tmp_path / "data")
    grey = Volume(tmp_path / "data" / "b.zarr", "0")
    values = grey.read()
    values[:, :, 16:] = values[:, :, 16:] * 5 + 400
    grey.write(Box.whole(grey.space), values)
    write_attributes(tmp_path / "data" / "b.zarr", {"statistics": statistics_of(grey).to_dict()})
    inside = np.zeros(grey.space, np.uint8)
    inside[:, :, :16] = 1
    zarr.create_array(tmp_path / "data" / "mask.zarr", data=inside)
    masked = {**TABLES["validation"][0], "mask": "mask.zarr"}

    def opened(**changes):
        return open_data(config_of({**TABLES, **changes}), tmp_path / "data")

    robust, plain = opened(validation=[masked]), opened(validation=[masked], normalisation="mean-std")
    half = values[:, :, :16].astype(float)
    assert robust.validation[0].scaling.mean == pytest.approx(half.mean(), abs=0.1 * half.std())
    assert robust.validation[0].scaling.std == pytest.approx(half.std(), rel=0.1)
    assert (plain.validation[0].scaling.mean, plain.validation[0].scaling.std) == pytest.approx(
        (values.mean(dtype=float), values.std(dtype=float))
    )
    assert robust.train[0].scaling.limit < float("inf") == plain.train[0].scaling.limit
    whole = opened().whole[0]
    assert (whole.mask, robust.whole[0].mask) == (None, str(tmp_path / "data" / "mask.zarr"))
    left = whole.truth.positions()[:, 2] / 20 < 15.5
    assert 0 < left.sum() < len(left)
    assert np.array_equal(robust.whole[0].truth.positions(), whole.truth.positions()[left])


def test_a_run_from_before_normalisations_had_names_goes_on(data, monkeypatch):
    """What identifies a plain run says nothing of it."""
    plain, robust = (config_of({**TABLES, "normalisation": name}) for name in ("mean-std", "robust"))
    assert identity_of(plain, open_data(plain, data), None) != identity_of(robust, open_data(robust, data), None)
    seen = []

    def noting(facts, **options):
        seen.append(facts)
        return dumps(facts, **options)

    dumps = json.dumps
    monkeypatch.setattr(json, "dumps", noting)
    for one in (plain, robust):
        identity_of(one, open_data(one, data), None)
    configs = [facts[0] for facts in seen if isinstance(facts[0], dict)]
    assert ["normalisation" in one for one in configs] == [False, True]
    assert not any("mask" in example for one in configs for example in one["train"])


def test_grey_values_are_read_as_they_are_needed(data, monkeypatch):
    def refuse(*_):
        raise AssertionError("opening must read no voxels")

    monkeypatch.setattr(Volume, "read", refuse)
    opened = open_data(config_of(TABLES), data)
    assert opened.train[0].scaling.std > 0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", 0, "steps must be 1 or more"),
        ("steps", 1.5, "steps must be a whole number"),
        ("patch_size", 30, "patch_size must be a multiple of 4"),
        ("learning_rate", 0, "learning_rate must be more than 0"),
        ("learning_rate", "fast", "learning_rate must be a number"),
        ("shift", -1, "shift must be 0 or more"),
        ("epochs", 3, "epochs must be a key among"),
        ("patchsize", 3, r"did you mean 'patch_size'"),
        ("learning_rate", float("nan"), "learning_rate must be more than 0"),
        ("average", 1.0, "average must be 0 or more and less than 1"),
        ("background", 1, "background must be true or false"),
        ("loss", "focal", "loss must be one of dice"),
        ("precision", 16, "precision must be a word"),
        ("tversky", [0.5], "tversky must be two numbers"),
        ("particles_every", 3, "particles_every must be a multiple of check_every = 2"),
        ("held_out", [1], "held_out must be a list of names"),
        ("train", [], "train must be at least one"),
        ("validation", [{"tomogram": "a.zarr"}], "validation must be tables with the paths"),
        ("train", 3, "train must be a list"),
        ("train", [3], "train must be tables with the paths"),
        ("train", [{**EXAMPLE, "negative": "x"}], r"negative must be a key among .* \(did you mean 'negatives'\?\)"),
        ("train", [{**EXAMPLE, "annotated": "rod"}], "annotated in .* must be a list of class names"),
    ],
)
def test_what_cannot_work_is_named(key, value, message):
    with pytest.raises(SettingsError, match=message) as caught:
        config_of({**TABLES, key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, r"^x.toml, line 7: epochs must be a key among"),
        ({"batch": 0}, r"^x.toml, line 3: batch must be 1 or more, got 0$"),
        ({"train": [EXAMPLE, {**EXAMPLE, "labels": "m"}]}, r"^x.toml, line 15: labels must be a key among"),
        ({"train": [EXAMPLE, {"tomogram": "a"}]}, r"^x.toml, line 11: train must be tables .* table 2 has no target$"),
    ],
)
def test_the_line_of_what_cannot_work_is_named(tmp_path, changes, message):
    with pytest.raises(SettingsError, match=message):
        read_config(write_toml(tmp_path / "x.toml", **changes))


def test_missing_tables_files_and_odd_settings_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="validation must be at least one"):
        config_of({"train": [EXAMPLE]})
    with pytest.raises(SettingsError, match="one of: demo, quick"):
        read_config("no_such")
    (tmp_path / "x.toml").write_text("a = ")
    with pytest.raises(SettingsError, match="no valid TOML"):
        read_config(tmp_path / "x.toml")
    with pytest.raises(SettingsError, match="give one of them"):
        TrainSettings(resume=True, overwrite=True)
    with pytest.raises(SettingsError, match="threads"):
        TrainSettings(threads=-1)
    with pytest.raises(SettingsError, match="device"):
        TrainSettings(device="tpu")


def test_the_shipped_configuration_matches_the_shipped_scenes():
    config = read_config("demo")
    names = [t.name for t in read_simulation("training").tomograms]
    assert [e.tomogram for e in (*config.train, *config.validation)] == [f"{name}.zarr" for name in names]
    assert config.held_out == ("demo",)


def test_the_shipped_weights_never_saw_the_demo():
    weights = load_weights("demo")
    (demo,) = read_simulation("demo").tomograms
    told = weights.provenance["data"]
    assert told["held_out"][0]["seed"] == demo.seed
    assert told["held_out"][0]["imaging"]["snr"] == demo.imaging.snr
    seen = [t["source"] for t in (*told["train"], *told["validation"])]
    assert len(seen) == len(read_simulation("training").tomograms)
    for source in seen:
        assert source["seed"] != demo.seed
        assert source["imaging"]["snr"] != demo.imaging.snr
        assert source["imaging"]["defocus"] != demo.imaging.defocus
    assert [c.name for c in weights.classes] == list(demo.counts)
    assert np.isclose(weights.voxel_size, read_simulation("demo").voxel_size)
