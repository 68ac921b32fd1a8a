"""Weights files: round trips, the original's weights, and files that are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from deepfinder_dask.errors import InputError, OutputExistsError, WeightsError
from deepfinder_dask.networks import (
    ImportWeightsSettings,
    UNet,
    Weights,
    import_keras_weights,
    load_weights,
    save_weights,
)
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.tomograms import Imaging, Normalisation

CLASSES = (
    ParticleClass("ring", 1, radius=90.0, min_size=30),
    ParticleClass("membrane", 2, kind="structure"),
    ParticleClass("rod", 3, radius=90.0, colour="#102030"),
)


@pytest.fixture
def weights(random_network) -> Weights:
    return Weights(
        state=random_network.state_dict(),
        classes=CLASSES,
        voxel_size=7.84,
        imaging=Imaging(contrast="bright", tilt_axis="x"),
        provenance={"steps": 12, "data": ["a", "b"]},
    )


def test_round_trip_keeps_everything(weights, tmp_path):
    path = tmp_path / "sub" / "w.safetensors"
    save_weights(weights, path)
    back = load_weights(path)
    assert back.classes == CLASSES
    assert (back.voxel_size, back.normalisation, back.imaging) == (7.84, Normalisation("mean-std"), weights.imaging)
    assert back.provenance == weights.provenance
    assert back.sha256 == weights.sha256
    assert all(torch.equal(back.state[name], values) for name, values in weights.state.items())
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]


def test_weights_say_how_grey_values_are_normalised(weights, tmp_path):
    """Older files say it in another word, or not at all; the hash of plain ones is what it always was."""
    robust = replace(weights, normalisation=Normalisation("robust", limit=8.0))
    save_weights(robust, tmp_path / "w.safetensors")
    back = load_weights(tmp_path / "w.safetensors")
    assert back.normalisation == robust.normalisation
    assert back.sha256 == robust.sha256 != weights.sha256
    with safe_open(tmp_path / "w.safetensors", framework="pt") as stream:
        facts = json.loads(stream.metadata()["deepfinder"])
    assert facts["normalisation"] == {"name": "robust", "percentiles": [1.0, 99.0], "limit": 8.0}
    for older in ({"normalisation": "meanstd"}, {}):
        other = {k: v for k, v in facts.items() if k != "normalisation"} | older
        save_file(dict(weights.state), tmp_path / "old.safetensors", {"deepfinder": json.dumps(other)})
        assert load_weights(tmp_path / "old.safetensors").sha256 == weights.sha256
    facts["normalisation"]["percentiles"] = [5, 95]
    save_file(dict(weights.state), tmp_path / "odd.safetensors", {"deepfinder": json.dumps(facts)})
    with pytest.raises(WeightsError, match=r"odd.safetensors: expected a robust normalisation with percentiles"):
        load_weights(tmp_path / "odd.safetensors")


def test_the_shipped_weights_are_those_they_always_were():
    demo = load_weights("demo")
    assert demo.normalisation == Normalisation("mean-std")
    assert demo.sha256.startswith("0734da06a8e67479")


def test_hash_follows_the_parameters(weights):
    name = "convs.mid_1.bias"
    other = {**weights.state, name: weights.state[name] + 1e-6}
    assert Weights(state=other, classes=CLASSES, voxel_size=7.84).sha256 != weights.sha256


def test_softmax_of_the_original_is_reproduced(data_dir):
    golden = data_dir / "original_deepfinder"
    weights = import_keras_weights(golden / "weights_3_classes.h5")
    with np.load(golden / "forward_64x72x80.npz") as archive:
        x, softmax = archive["x"].squeeze(), archive["softmax"].squeeze()
    with torch.inference_mode():
        ours = torch.softmax(weights.build()(torch.from_numpy(x)[None, None]), 1)[0]
    assert np.abs(np.moveaxis(ours.numpy(), 0, -1) - softmax).max() < 1e-5


def test_imported_weights_are_named_and_written(data_dir, tmp_path):
    source = data_dir / "original_deepfinder" / "weights_3_classes.h5"
    classes = tmp_path / "classes.toml"
    classes.write_text('[[class]]\nname = "small"\nlabel = 1\nradius = 40\n[[class]]\nname = "large"\nlabel = 2\n')
    target = tmp_path / "w.safetensors"
    import_keras_weights(source, target, ImportWeightsSettings(classes=classes, voxel_size=12.5))
    back = load_weights(target)
    assert [(c.name, c.radius) for c in back.classes] == [("small", 40.0), ("large", None)]
    assert back.voxel_size == 12.5
    with pytest.raises(OutputExistsError, match="--overwrite"):
        import_keras_weights(source, target)
    classes.write_text('[[class]]\nname = "small"\nlabel = 1\n')
    with pytest.raises(WeightsError, match="names 1 classes"):
        import_keras_weights(source, settings=ImportWeightsSettings(classes=classes))


def damaged(path):
    path.write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00{not json")


def foreign(path):
    save_file({"layer.weight": torch.zeros(3)}, path)


def other_architecture(path):
    facts = '{"architecture": {"name": "unet3plus"}}'
    save_file({"layer.weight": torch.zeros(3)}, path, metadata={"deepfinder": facts})


def keras(path):
    path.write_bytes(b"\x89HDF\r\n\x1a\n")


@pytest.mark.parametrize(
    ("make", "suffix", "message"),
    [
        (damaged, ".safetensors", "damaged"),
        (foreign, ".safetensors", "not one of our networks"),
        (other_architecture, ".safetensors", "another architecture"),
        (keras, ".h5", "deepfinder weights import"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, make, suffix, message):
    path = tmp_path / f"w{suffix}"
    make(path)
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.safetensors: no such file"):
        load_weights(tmp_path / "nowhere.safetensors")


def test_weights_must_fit_their_classes(weights):
    with pytest.raises(WeightsError, match="another architecture"):
        Weights(state=weights.state, classes=CLASSES[:2], voxel_size=10)
    with pytest.raises(WeightsError, match="without gaps"):
        Weights(state=weights.state, classes=(ParticleClass("a", 2),), voxel_size=10)
    half = {**weights.state, "convs.mid_1.bias": torch.zeros(48, dtype=torch.bfloat16)}
    with pytest.raises(WeightsError, match=r"expected float32 weights, found torch\.bfloat16"):
        Weights(state=half, classes=CLASSES, voxel_size=10)
    bad = {**weights.state, "convs.mid_1.bias": torch.full((48,), torch.nan)}
    with pytest.raises(WeightsError, match="not finite"):
        Weights(state=bad, classes=CLASSES, voxel_size=10)


def test_keras_files_of_other_networks_are_refused(tmp_path):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as stream:
        stream["dense/dense/kernel:0"] = np.zeros((3, 4), np.float32)
        stream["dense/dense/bias:0"] = np.zeros(4, np.float32)
    with pytest.raises(WeightsError, match="another architecture"):
        import_keras_weights(path)
    with h5py.File(path, "w") as stream:  # a tomogram larger than any memory, never written
        stream.create_dataset("volume", shape=(1 << 16, 1 << 12, 1 << 12), dtype="f4", chunks=(1, 1024, 1024))
    with pytest.raises(WeightsError, match="another architecture"):
        import_keras_weights(path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="damaged or other"):
        import_keras_weights(path)


def test_training_can_move_and_differentiate_the_network():
    network = UNet(3).to(torch.float64).to(torch.float32)
    loss = network(torch.randn(1, 1, 8, 8, 8)).square().mean()
    loss.backward()
    assert all(values.grad is not None and values.grad.abs().sum() > 0 for values in network.parameters())
