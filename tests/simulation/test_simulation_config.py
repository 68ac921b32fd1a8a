from __future__ import annotations

import copy

import pytest

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.simulation import SimulateSettings, read_config
from deepfinder_dask.simulation.config import config_of

GOOD = {
    "voxel_size": 10.0,
    "species": [{"name": "ring", "label": 2}, {"name": "stick", "phantom": "rod", "label": 1, "min_size": 5}],
    "tomogram": [{"name": "a", "seed": 1, "shape": [32, 48, 48], "counts": {"ring": 2}, "imaging": {"snr": 1}}],
}


def test_a_good_file_is_read():
    config = config_of(GOOD)
    assert [s.name for s in config.species] == ["stick", "ring"], "in the order of the labels"
    assert config.species[0].body.name == "rod"
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
        (["tomogram", 0, "imaging", "dose"], 1, "imaging.dose must be a key among"),
        (["tomogram", 0, "imaging", "tilt_limit"], 90, "imaging.tilt_limit"),
        (["tomogram", 0, "imaging"], 3, "tomogram.imaging must be a table"),
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


def test_missing_keys_are_named():
    with pytest.raises(SettingsError, match=r"lacks a key.*'seed'"):
        config_of({**GOOD, "tomogram": [{"name": "a", "shape": [32, 32, 32], "counts": {}}]})


def test_files_are_found_or_refused(tmp_path):
    with pytest.raises(SettingsError, match="one of: demo, training"):
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
