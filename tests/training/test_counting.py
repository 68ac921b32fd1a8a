"""Particles counted in whole tomograms: through segmentation, clustering and evaluation, with networks made by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from deepfinder_dask.blocks import Box
from deepfinder_dask.clustering import ClusterSettings
from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.networks import UNet, Weights, load_weights, save_weights
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.segmentation import SegmentSettings
from deepfinder_dask.tomograms import Imaging, Tomogram, create_image, finish_image
from deepfinder_dask.tomograms.statistics import statistics_of
from deepfinder_dask.training import describe_init, train
from deepfinder_dask.training.counting import WholeTomogram, check_tolerance, count_particles

SHAPE = (16, 24, 32)
CENTRES = np.array([[4, 5, 6], [9, 6, 20], [6, 17, 9], [10, 18, 26]])
CLASSES = (ParticleClass("cube", 1, radius=30.0), ParticleClass("rod", 2, radius=30.0))


def thresholding(labels=3):
    """A network whose first class is whatever is dark: one channel carries the reversed grey value all the way."""
    network = UNet(labels)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for name, source, sign in (("high_1", 0, -1), ("high_2", 0, 1), ("high_3", 48, 1), ("high_4", 0, 1)):
            network.conv(name).weight[0, source, 1, 1, 1] = sign
        network.conv("classify").weight[1, 0] = 1
        network.bias("classify")[0] = 1.5
    return network


def weights_of(network, classes=CLASSES):
    return Weights(dict(network.state_dict()), classes, 10.0, imaging=Imaging())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Dark cubes in a grey volume."""
    place = tmp_path_factory.mktemp("cubes")
    values, labels = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    for z, y, x in CENTRES:
        values[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = -1
        labels[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 1
    for name, array in (("t", values), ("t_labels", labels)):
        volume = create_image(place / f"{name}.zarr", shape=SHAPE, dtype=array.dtype, voxel_size=10.0)
        volume.write(Box.whole(SHAPE), array)
        facts = {"statistics": statistics_of(volume).to_dict(), "imaging": Imaging().to_dict()}
        finish_image(place / f"{name}.zarr", facts if name == "t" else {})
    table_of(CENTRES).write(place / "t.parquet")
    return place


def table_of(centres, labels=None):
    given = np.ones(len(centres)) if labels is None else labels
    facts = TomogramFacts((10.0, 10.0, 10.0), SHAPE)
    return Particles.from_voxels(centres, tomogram="t", facts=facts, labels=given, classes=CLASSES)


def count(folder, place, truth, annotated=("cube", "rod"), network=None):
    whole = WholeTomogram(Tomogram.open(folder / "t.zarr"), truth, annotated)
    found = count_particles(
        weights_of(network or thresholding()),
        (whole,),
        place,
        segmenting=SegmentSettings(device="cpu", precision="fp32", overwrite=True),
        clustering=ClusterSettings(method="components"),
        tolerance="1r",
    )
    assert not place.exists(), "segmentations are removed"
    return found


def test_what_is_there_is_found(folder, tmp_path):
    got = count(folder, tmp_path / "work", table_of(CENTRES))
    assert got == {"particles_f1_1": 1.0, "particles_f1": 1.0, "particles_localisation": 1.0}


def test_missed_and_misnamed_particles_cost(folder, tmp_path):
    """Of five true particles two have another class, and one is not there at all; four are found."""
    truth = table_of(np.concatenate([CENTRES, [[2, 2, 30]]]), [1, 1, 2, 2, 1])
    got = count(folder, tmp_path / "work", truth)
    assert got["particles_f1_1"] == pytest.approx(2 * 2 / (3 + 4))
    assert got["particles_f1_2"] == 0
    assert got["particles_f1"] == pytest.approx(2 / 7)
    assert got["particles_localisation"] == pytest.approx(2 * 4 / (5 + 4))


def test_classes_that_are_not_annotated_do_not_count(folder, tmp_path):
    truth = table_of(CENTRES[:0])
    got = count(folder, tmp_path / "work", truth, annotated=("rod",))
    assert got == {"particles_f1": 0.0, "particles_localisation": 0.0}


def test_a_tolerance_in_radii_needs_radii():
    check_tolerance("40A", (ParticleClass("cube", 1),))
    check_tolerance("1r", (*CLASSES, ParticleClass("membrane", 3, kind="structure")))
    with pytest.raises(SettingsError, match=r"tolerance '1r' counts in radii, and \['cube'\] have none"):
        check_tolerance("1r", (ParticleClass("cube", 1),))


CONFIG = """
steps = 4
patch_size = 16
batch = 2
check_every = 1
particles_every = 2
validation_patches = 1
learning_rate = 1e-9
{more}
[[train]]
tomogram = "t.zarr"
target = "t_labels.zarr"
particles = "t.parquet"
annotated = ["cube"]
[[train]]
tomogram = "t.zarr"
target = "t_labels.zarr"
particles = "rods.parquet"
[[validation]]
tomogram = "t.zarr"
target = "t_labels.zarr"
particles = "t.parquet"
"""


@pytest.fixture(scope="module")
def run_folder(folder, tmp_path_factory):
    """A run that starts from the network made by hand, whose classes have another order and one is new."""
    place = tmp_path_factory.mktemp("run")
    table_of(CENTRES[:1], [2]).write(folder / "rods.parquet")
    (folder / "c.toml").write_text(CONFIG.format(more=""))
    classes = (ParticleClass("ghost", 2, radius=30.0), ParticleClass("cube", 1, radius=30.0))
    save_weights(weights_of(thresholding(), classes), folder / "start.safetensors")
    train(folder / "c.toml", place, init=str(folder / "start.safetensors"), threads=1)
    return place


def test_particles_decide_which_weights_are_best(run_folder):
    log = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    assert ["particles_f1" in entry for entry in log] == [False, True, False, True]
    assert log[1]["particles_f1_1"] > 0.6
    assert log[1]["particles_localisation"] > 0.6
    best = load_weights(run_folder / "best.safetensors").provenance
    assert best["steps_taken"] == 2, "not the first check, which counted no particles"
    assert best["validation"]["particles_f1"] == pytest.approx(log[1]["particles_f1"], abs=1e-4)
    assert "F1 of particles" in (run_folder / "curves.html").read_text()


def test_what_was_taken_over_is_told(run_folder, folder):
    weights = load_weights(run_folder / "last.safetensors")
    told = weights.provenance["init"]
    assert told["normalisations"] == ["mean-std", "robust"]
    assert "trained with normalisation mean-std, now it is robust" in describe_init(run_folder / "last.safetensors")
    assert (told["kept"], told["new"], told["dropped"]) == (["cube"], ["rod"], ["ghost"])
    assert told["sha256"] == load_weights(folder / "start.safetensors").sha256
    head = weights.state["convs.classify.weight"]
    start = thresholding().state_dict()
    assert torch.allclose(head[:2], start["convs.classify.weight"][:2], atol=1e-6)
    assert head[2].abs().max() > 1e-3, "a new class starts from fresh weights"
    for name, values in start.items():
        if "classify" not in name:
            assert torch.allclose(weights.state[name], values, atol=1e-6)


def test_a_start_from_weights_of_other_tomograms_is_refused(folder, tmp_path):
    for changes, message in (
        ({"voxel_size": 12.0}, "trained at 12 Å, the tomograms have 10 Å"),
        ({"imaging": Imaging(contrast="bright")}, "convert them again, or use other weights"),
    ):
        other = replace(weights_of(thresholding()), **changes)
        save_weights(other, tmp_path / "other.safetensors")
        with pytest.raises(InputError, match=message):
            train(folder / "c.toml", tmp_path / "run", init=str(tmp_path / "other.safetensors"))
