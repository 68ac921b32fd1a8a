from __future__ import annotations

import copy

import pytest

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.simulation import SimulateSettings, body_of, read_config
from deepfinder_dask.simulation.config import config_of

GOOD = {
    "voxel_size": 10.0,
    "species": [{"name": "ring", "label": 2}, {"name": "stick", "phantom": "rod", "label": 1, "min_size": 5}],
    "tomogram": [{"name": "a", "seed": 1, "shape": [32, 48, 48], "counts": {"ring": 2}, "imaging": {"snr": 1}}],
}


def test_a_good_file_is_read():
    config = config_of(GOOD)
    assert [s.name for s in config.species] == ["stick", "ring"], "in the order of the labels"
    assert body_of(config.species[0], 10.0).name == "rod"
    assert config.tomograms[0].shape == (32, 48, 48)
    assert config.tomograms[0].imaging.snr == 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["voxel_size"], 0, "voxel_size must be more than 0"),
        (["voxel_size"], "ten", "voxel_size must be a number"),
        (["speces"], 1, "keys among"),
        (["species"], [], "at least one"),
        (["species"], 3, "tables"),
        (["species", 0, "name"], "cube", "phantom must be one of"),
        (["species", 0, "label"], 0, "species.label must be 1 to 254"),
        (["species", 0, "label"], 1, "species.label must be a different value"),
        (["species", 0, "label"], True, "species.label must be a value of type int"),
        (["species", 0, "size"], 1, "species.size must be a key among"),
        (["tomogram", 0, "seed"], -1, "tomogram.seed must be 0 or more"),
        (["tomogram", 0, "shape"], [32, 48], "tomogram.shape"),
        (["tomogram", 0, "shape"], 32, "tomogram.shape"),
        (["tomogram", 0, "counts"], {"rind": 1}, "tomogram.counts must be names among"),
        (["tomogram", 0, "counts"], {"ring": -1}, "tomogram.counts must be 0 or more"),
        (["tomogram", 0, "counts"], {"ring": 1.5}, "tomogram.counts must be whole numbers"),
        (["tomogram", 0, "shape"], [32, 48, "x"], "tomogram.shape"),
        (["tomogram", 0, "name"], "a/b", "tomogram.name"),
        (["tomogram", 0, "gap"], -1, "tomogram.gap"),
        (["tomogram", 0, "imaging", "snr"], 0, "imaging.snr must be more than 0"),
        (["tomogram", 0, "imaging", "doze"], 1, "imaging.doze must be a key among"),
        (["tomogram", 0, "imaging", "tilt_limit"], 90, "imaging.tilt_limit"),
        (["tomogram", 0, "imaging"], 3, "tomogram.imaging must be a table"),
        (["tomogram", 0, "imaging", "dose_scheme"], "sine", "imaging.dose_scheme must be equal or cosine"),
        (["tomogram", 0, "imaging", "tilt_error"], 9.0, "imaging.tilt_error"),
        (["tomogram", 0, "crowding"], 0.7, "tomogram.crowding"),
        (["tomogram", 0, "gold"], 3, "structure must be a table of kind 'gold'"),
        (["tomogram", 0, "gold"], -1, "tomogram.gold must be 0 or more"),
        (["tomogram", 0, "empty"], 1.0, "tomogram.empty"),
        (["tomogram", 0, "membranes"], [{"shape": "cube"}], "membranes.shape must be sphere, sheet or tube"),
        (["tomogram", 0, "membranes"], [{"shape": "tube", "radius": [9, 5]}], "membranes.radius"),
        (["tomogram", 0, "membranes"], [{"shape": "tube", "radius": ["a", "b"]}], "membranes.radius"),
        (["tomogram", 0, "membranes"], [{"shape": "tube"}], "structure must be a table of kind 'membrane'"),
        (["tomogram", 0, "membranes"], 3, "membranes must be .* tables"),
        (["species", 0, "bound"], 1, "species.bound must be a value of type bool"),
        (["species", 0, "bound"], True, r"membranes must be at least one, for bound \['ring'\]"),
        (["species", 0, "height"], 5.0, "species.height must be left out unless bound"),
        (["species", 0, "threshold"], 5.0, "species.threshold must be left out without a map"),
        (["species", 0, "map"], "$NO_SUCH_VARIABLE/x.mrc", "species.map must be a path whose"),
        (["species", 1, "map"], "x.mrc", "species.phantom must be left out beside a map"),
        (["structure"], [{"name": "ring", "label": 9, "kind": "gold"}], "species.name must be a different value"),
        (["structure"], [{"name": "bead", "label": 2, "kind": "gold"}], "species.label must be a different value"),
        (["structure"], [{"name": "bead", "label": 9, "kind": "ice"}], "structure.kind must be membrane or gold"),
    ],
)
def test_what_cannot_work_is_named(path, value, message):
    tables = copy.deepcopy(GOOD)
    place = tables
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(SettingsError, match=message) as caught:
        config_of(tables)
    assert "\n" not in str(caught.value)


def test_maps_are_found_from_the_file_or_by_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("MAPS", "/somewhere")
    tables = {**GOOD, "species": [{"name": "ring", "label": 1, "map": "maps/a.mrc"}]}
    assert config_of(tables, tmp_path).species[0].map == str(tmp_path / "maps" / "a.mrc")
    tables["species"][0]["map"] = "$MAPS/b.mrc"
    assert config_of(tables, tmp_path).species[0].map == "/somewhere/b.mrc"


def test_a_full_file_is_read():
    tables = {
        **GOOD,
        "structure": [
            {"name": "membrane", "label": 7, "kind": "membrane"},
            {"name": "bead", "label": 8, "kind": "gold"},
        ],
        "tomogram": [{**GOOD["tomogram"][0], "membranes": [{"shape": "tube", "radius": [90, 120]}], "gold": 4}],
    }
    config = config_of(tables)
    assert config.label_of("membrane") == 7
    assert config.label_of("gold") == 8
    assert config.tomograms[0].membranes[0].radius == (90, 120)


def test_missing_keys_are_named():
    with pytest.raises(SettingsError, match=r"lacks a key.*'seed'"):
        config_of({**GOOD, "tomogram": [{"name": "a", "shape": [32, 32, 32], "counts": {}}]})


def test_files_are_found_or_refused(tmp_path):
    with pytest.raises(SettingsError, match="one of: cell, demo, quick, training"):
        read_config("no_such")
    broken = tmp_path / "x.toml"
    broken.write_text("a = [")
    with pytest.raises(SettingsError, match="no valid TOML"):
        read_config(broken)


def test_the_settings_refuse_a_negative_seed():
    with pytest.raises(SettingsError, match="seed of 0 or more"):
        SimulateSettings(seed=-3)


def test_the_demo_is_hard_enough_and_unseen_in_training():
    (demo,) = read_config("demo").tomograms
    training = read_config("training")
    assert demo.imaging.snr <= 0.1
    assert len(demo.counts) >= 3
    for other in training.tomograms:
        assert other.seed != demo.seed
        assert other.imaging.snr != demo.imaging.snr
        assert other.imaging.defocus != demo.imaging.defocus
    assert training.species == read_config("demo").species
