"""A folder with everything that the commands in the documents read, at a tiny size."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import torch

from deepfinder_dask.cli import main
from deepfinder_dask.networks import UNet, Weights, save_weights
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, export, write_classes
from deepfinder_dask.tomograms import convert

SHAPE = (24, 32, 40)
CLASSES = (
    ParticleClass("ribosome", 1, radius=40.0),
    ParticleClass("proteasome", 2, radius=30.0),
    ParticleClass("membrane", 3, kind="structure"),
)
SCENE = """
voxel_size = 10.0
[[species]]
name = "ring"
label = 1
phantom = "ring"
[[tomogram]]
name = "demo"
seed = 1
shape = [32, 48, 48]
counts = { ring = 1 }
gap = 10.0
imaging = { snr = 0.1, defocus = 3.0, tilt_limit = 40, tilt_step = 20 }
"""
QUICK = SCENE.partition("[[tomogram]]")[0] + "".join(
    "[[tomogram]]" + SCENE.partition("[[tomogram]]")[2].replace('"demo"', f'"{name}"')
    for name in ("train_1", "train_2", "validation", "test")
)
"""Four tomograms of the scene."""
CAMPAIGN = """
name = "cells"
output = "cells"
weights = "weights.safetensors"
tomograms = ["TS_0*.mrc"]
[limits]
free_disk = 0
"""
TRAINING = """
steps = 1
patch_size = 16
batch = 2
check_every = 1
validation_patches = 2
[[train]]
tomogram = "TS_01.zarr"
target = "TS_01_target.zarr"
particles = "picks.parquet"
[[validation]]
tomogram = "TS_02.zarr"
target = "TS_02_target.zarr"
particles = "picks.parquet"
"""


def set_up(folder: Path) -> None:
    """Fill a folder: two tomograms with two balls each, positions in many formats, weights, what each verb leaves."""
    tables = []
    for number, name in enumerate(("TS_01", "TS_02")):
        centres = np.array([[8.0, 9.0, 9.0], [15.0, 22.0, 29.0]]) + number
        _write_tomogram(folder / f"{name}.mrc", centres, number)
        convert(folder / f"{name}.mrc", folder / f"{name}.zarr", voxel_size=10.0, progress=False)
        facts = TomogramFacts(10.0, SHAPE)
        tables.append(
            Particles.from_voxels(
                centres,
                tomogram=name,
                facts=facts,
                labels=[1, 2],
                sizes=[100, 120],
                scores=[0.7, 0.9],
                orientations=np.zeros((2, 3)),
                classes=CLASSES,
            )
        )
    both, one = Particles.concat(tables), tables[0]
    export(both.of_class("ribosome"), folder / "ribosomes.star")
    for name in ("picks.parquet", "particles.parquet", "all.parquet", "particles.star", "picks.csv", "picks.star"):
        export(both, folder / name)
    for name in (
        "truth.parquet",
        "TS_01.parquet",
        "ribosomes.parquet",
        "ann.parquet",
        "ben.parquet",
        "truth.star",
    ):
        export(one, folder / name)
    export(one, folder / "picks.xml")
    for name in ("truth", "found"):
        (folder / name).mkdir()
        export(one, folder / name / "TS_01.parquet")
    write_classes(CLASSES, folder / "classes.toml")
    write_classes(CLASSES[:1], folder / "ribosomes.toml")
    write_classes((CLASSES[0], ParticleClass("membrane", 2, kind="structure")), folder / "old_classes.toml")
    (folder / "campaign.toml").write_text(CAMPAIGN)
    (folder / "scene.toml").write_text(SCENE)
    (folder / "quick.toml").write_text(QUICK)
    quick = TRAINING.replace("TS_01", "train_1").replace("TS_02", "validation")
    (folder / "quick_training.toml").write_text(
        quick.replace("picks.parquet", "train_1_particles.parquet", 1).replace("picks", "validation_particles")
    )
    (folder / "training.toml").write_text(TRAINING)
    _write_mrc(folder / "membranes.mrc", np.pad(np.ones((SHAPE[0], 2, SHAPE[2]), np.int8), ((0, 0), (28, 2), (0, 0))))
    _write_mrc(folder / "annotated.mrc", np.ones(SHAPE, np.int8))
    ball = (sum((axis - 4) ** 2 for axis in np.ogrid[:9, :9, :9]) <= 12).astype(np.float32)
    for name in ("ribosome.mrc", "map.mrc"):
        _write_mrc(folder / name, ball)
    _write_weights(folder / "weights.safetensors")
    _write_tomograms_star(folder / "tomograms.star")
    for name in ("TS_01", "TS_02"):
        store, target = folder / f"{name}.zarr", folder / f"{name}_target.zarr"
        membranes = f"{folder / 'membranes.mrc'}=3"
        _run("target", folder / "picks.parquet", "-t", store, "-o", target, "--add", membranes, "--no-picture")
        _run("segment", store, "-w", folder / "weights.safetensors", "-o", folder / f"{name}_labels.zarr")


def _run(*words: object) -> None:
    code = main([*map(str, words), "-q"])
    if code:
        raise RuntimeError(f"{' '.join(map(str, words))} ended with {code}")


def _write_tomogram(path: Path, centres: np.ndarray, seed: int) -> None:
    """Dark balls of radius 4 voxels in noise."""
    values = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    for centre in centres:
        values[np.linalg.norm(grid - centre, axis=-1) <= 4] -= 5
    _write_mrc(path, values)


def _write_mrc(path: Path, values: np.ndarray) -> None:
    with mrcfile.new(path) as file:
        file.set_data(values)
        file.voxel_size = 10.0


def _write_weights(path: Path) -> None:
    """An untrained network: it finds nonsense, but in earnest."""
    torch.manual_seed(4)
    state = {name: values.detach().clone() for name, values in UNet(4).state_dict().items()}
    save_weights(Weights(state, CLASSES, voxel_size=10.0), path)


def _write_tomograms_star(path: Path) -> None:
    z, y, x = SHAPE
    rows = "\n".join(f"{name} {4 * x} {4 * y} {4 * z} 2.5 4" for name in ("TS_01", "TS_02"))
    columns = ("TomoName", "TomoSizeX", "TomoSizeY", "TomoSizeZ", "TomoTiltSeriesPixelSize", "TomoTomogramBinning")
    head = "\n".join(f"_rln{name} #{number}" for number, name in enumerate(columns, 1))
    path.write_text(f"\ndata_global\n\nloop_\n{head}\n{rows}\n")
