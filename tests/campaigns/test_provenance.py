"""Provenance: particles made again from what stands beside them, and from nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil

import mrcfile
import numpy as np
import pytest
import torch

from deepfinder_dask.campaigns import (
    LocateSettings,
    locate,
    provenance,
    read_provenance,
    reproduce,
    run,
    write_provenance,
)
from deepfinder_dask.campaigns.provenance import campaign_facts, hash_file, input_facts
from deepfinder_dask.campaigns.reproduction import settings_of
from deepfinder_dask.errors import FormatError, InputError, WeightsError
from deepfinder_dask.networks import UNet, Weights, load_weights, save_weights
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.tomograms import convert


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A tomogram of 24 × 28 × 36 voxels, a mask, and a network that finds nonsense in earnest."""
    folder = tmp_path_factory.mktemp("inputs")
    values = np.random.default_rng(3).normal(size=(24, 28, 36)).astype(np.float32)
    inside = np.ones(values.shape, np.int8)
    inside[:, :6] = 0
    for name, data in (("TS_01.mrc", values), ("mask.mrc", inside)):
        with mrcfile.new(folder / name) as file:
            file.set_data(data)
            file.voxel_size = 10.0
    torch.manual_seed(4)
    state = {name: values.detach().clone() for name, values in UNet(3).state_dict().items()}
    classes = (ParticleClass("ribosome", 1, radius=40.0), ParticleClass("proteasome", 2, radius=30.0))
    save_weights(Weights(state, classes, voxel_size=10.0), folder / "w.safetensors")
    (folder / "classes.toml").write_text(
        '[[class]]\nname = "a"\nlabel = 1\nradius = 20\n[[class]]\nname = "b"\nlabel = 2\nradius = 25\n'
    )
    return folder


@pytest.fixture(scope="module")
def located(inputs, tmp_path_factory):
    """Located with what is not the default: a mask, other classes, a bandwidth, small blocks, fp32."""
    return locate(
        inputs / "TS_01.mrc",
        inputs / "w.safetensors",
        tmp_path_factory.mktemp("located") / "out",
        LocateSettings(
            mask=str(inputs / "mask.mrc"),
            classes=str(inputs / "classes.toml"),
            bandwidth=2.5,
            tomogram="position_7",
            block=(12, 28, 36),
            precision="fp32",
            min_size={"a": 3},
        ),
    )


def test_particles_are_made_again_byte_for_byte(inputs, located, tmp_path):
    assert len(located.particles) > 5
    again = reproduce(located.folder, tmp_path / "again")
    assert again.same
    assert again.differences == ()
    written = (tmp_path / "again" / "particles.parquet").read_bytes()
    assert written == (located.folder / "particles.parquet").read_bytes()


def test_particles_of_a_campaign_are_made_again_from_its_provenance(campaign, tmp_path):
    """What ``run`` left of a tomogram, alone, is enough; and its page lists the same particles."""
    run(campaign(1))
    home = tmp_path / "out" / "tomograms" / "t0"
    again = reproduce(home / "provenance.json", tmp_path / "again")
    assert len(again.located.particles) > 0
    assert again.same
    assert (tmp_path / "again" / "particles.parquet").read_bytes() == (home / "particles.parquet").read_bytes()
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert f"<dt>particles</dt><dd>{len(again.located.particles)}<" in page
    assert "deepfinder run c.toml --retry-failed" in page


def test_a_tomogram_that_is_gone_is_named(located, tmp_path):
    facts = read_provenance(located.folder)
    facts["input"]["path"] = str(tmp_path / "gone.mrc")
    write_provenance(tmp_path, facts)
    with pytest.raises(InputError, match=r"gone\.mrc: cannot be read: No such file"):
        reproduce(tmp_path, tmp_path / "again")


def test_what_is_told_is_what_was_used(inputs, located):
    facts = read_provenance(located.folder)
    source = inputs / "TS_01.mrc"
    assert facts["input"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert facts["input"]["bytes"] == source.stat().st_size
    assert facts["mask"]["sha256"] == hashlib.sha256((inputs / "mask.mrc").read_bytes()).hexdigest()
    assert facts["weights"]["sha256"] == load_weights(inputs / "w.safetensors").sha256
    assert [one["name"] for one in facts["weights"]["classes"]] == ["a", "b"]
    assert facts["resolved"]["precision"] == "fp32"
    assert facts["resolved"]["device"] in ("cpu", "cuda")
    assert facts["resolved"]["machine"] == facts["identity"]["machine"]
    assert facts["resolved"]["grid"]["core"] == [12, 28, 36]
    assert facts["resolved"]["method"] == "mean-shift"
    assert facts["resolved"]["bandwidths"] == [{"labels": [1, 2], "voxels": 2.5}]
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["outputs"]["particles.parquet"] == hash_file(located.folder / "particles.parquet")
    assert {"convert", "segment", "cluster"} <= set(facts["seconds"])


def test_settings_come_back_as_they_were(inputs, located):
    settings = settings_of(read_provenance(located.folder))
    assert settings == LocateSettings(
        mask=str(inputs / "mask.mrc"),
        bandwidth=2.5,
        tomogram="position_7",
        block=(12, 28, 36),
        precision="fp32",
        device=settings.device,
        min_size={"a": 3},
    )


def test_other_particles_are_told(located, tmp_path):
    """The comparison is with what was recorded, so a list that was changed afterwards does not count as the same."""
    facts = read_provenance(located.folder)
    facts["outputs"]["particles.parquet"] = "0" * 64
    facts["versions"]["numpy"] = "1.0"
    write_provenance(tmp_path / "other", facts)
    again = reproduce(tmp_path / "other", tmp_path / "again")
    assert not again.same
    assert [line.split()[:2] for line in again.differences] == [["numpy", "1.0"]]


@pytest.mark.parametrize("name", ["TS_01.mrc", "mask.mrc"])
def test_another_input_is_refused(inputs, located, tmp_path, name):
    """One bit of one voxel is enough."""
    facts = read_provenance(located.folder)
    moved = shutil.copy(inputs / name, tmp_path / name)
    content = bytearray(moved.read_bytes())
    content[-2] ^= 1
    moved.write_bytes(content)
    if name == "mask.mrc":
        facts["settings"]["mask"] = str(moved)
    write_provenance(tmp_path, facts)
    with pytest.raises(InputError, match=r"is not the (tomogram|mask) that was used: expected SHA-256"):
        reproduce(tmp_path, tmp_path / "again", source=moved if name == "TS_01.mrc" else None)
    assert not (tmp_path / "again").exists()


def test_a_tomogram_that_was_moved_is_taken_from_there(inputs, located, tmp_path):
    moved = shutil.copy(inputs / "TS_01.mrc", tmp_path / "elsewhere.mrc")
    assert reproduce(located.folder, tmp_path / "again", source=moved).same


def test_other_weights_are_refused(inputs, located, tmp_path):
    weights = load_weights(inputs / "w.safetensors")
    state = dict(weights.state)
    name = next(iter(state))
    state[name] = state[name] + 1e-3
    save_weights(Weights(state, weights.classes, voxel_size=10.0), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="expected weights"):
        reproduce(located.folder, tmp_path / "again", weights=tmp_path / "w.safetensors")


def test_a_store_is_known_by_its_metadata(inputs, tmp_path):
    convert(inputs / "TS_01.mrc", tmp_path / "a.zarr")
    facts = input_facts(tmp_path / "a.zarr")
    assert facts == input_facts(tmp_path / "a.zarr")
    found = locate(tmp_path / "a.zarr", inputs / "w.safetensors", tmp_path / "out")
    assert reproduce(found.folder / "summary.json", tmp_path / "again").same
    convert(inputs / "TS_01.mrc", tmp_path / "b.zarr", voxel_size=12.0)
    assert input_facts(tmp_path / "b.zarr")["metadata_sha256"] != facts["metadata_sha256"]


def test_a_large_file_is_hashed_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PIECE", 7)
    (tmp_path / "file").write_bytes(bytes(range(256)))
    assert hash_file(tmp_path / "file") == hashlib.sha256(bytes(range(256))).hexdigest()


def test_provenance_of_a_campaign_says_its_settings(inputs, tmp_path):
    weights = load_weights(inputs / "w.safetensors")
    facts = campaign_facts({"segment": LocateSettings(block=(8, 8, 8)), "output": tmp_path}, weights, "w.safetensors")
    assert facts["settings"]["segment"]["block"] == [8, 8, 8]
    assert facts["settings"]["output"] == str(tmp_path)
    write_provenance(tmp_path, facts)
    assert read_provenance(tmp_path) == facts
    with pytest.raises(InputError, match="provenance of a campaign"):
        reproduce(tmp_path, tmp_path / "again")


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"layout": 99}'])
def test_what_is_no_provenance_is_refused(tmp_path, text):
    (tmp_path / "provenance.json").write_text(text)
    with pytest.raises(FormatError, match=r"expected (JSON|provenance of layout 1)"):
        read_provenance(tmp_path)


def test_missing_provenance_is_refused(tmp_path):
    with pytest.raises(InputError, match="found neither"):
        read_provenance(tmp_path)


def test_provenance_is_plain_json(located):
    facts = read_provenance(located.folder)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
