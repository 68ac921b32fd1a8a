"""Simulation, particle table and targets agree on where a particle is, and how it is turned."""

from __future__ import annotations

import numpy as np
import pytest

from deepfinder_dask.particles import Particles
from deepfinder_dask.simulation import Species, TiltImaging, simulate
from deepfinder_dask.targets import target
from deepfinder_dask.tomograms import Tomogram

THRESHOLD = 0.2


@pytest.fixture(scope="module")
def simulated(scene_of, blobs, tmp_path_factory):
    """A tomogram of a chiral body in any orientation."""
    folder = tmp_path_factory.mktemp("simulated")
    species = (Species("blobs", 1, map=str(blobs), threshold=THRESHOLD),)
    imaging = TiltImaging(tilt_step=60.0)
    simulate(scene_of({"blobs": 5}, (48, 64, 56), 10.0, species=species, imaging=imaging, gap=10.0), folder)
    return folder


def overlap(folder, tmp_path, blobs, particles):
    """Voxels that the target drawn from the table shares with the simulation's truth, over those of either."""
    made = target(
        particles, folder / "one.zarr", tmp_path / "t.zarr", shapes=f"blobs={blobs}@{THRESHOLD}", overwrite=True
    )
    drawn, truth = made.label_map.read() == 1, Tomogram.open(folder / "one_labels.zarr").read() == 1
    return (drawn & truth).sum() / (drawn | truth).sum()


def test_a_target_drawn_from_the_table_is_the_simulations_truth(simulated, blobs, tmp_path):
    """Faults that a shared convention hides do not pass: turned back, mirrored, or half a voxel off."""
    particles = Particles.read(simulated / "one_particles.parquet")
    right = overlap(simulated, tmp_path, blobs, particles)
    assert right > 0.97
    table = particles.table
    faults = {
        "inverse": table.assign(rot=-table["psi"], tilt=-table["tilt"], psi=-table["rot"]),
        "swapped": table.assign(rot=table["psi"], psi=table["rot"]),
        "half a voxel": table.assign(x=table["x"] + 5.0, y=table["y"] + 5.0, z=table["z"] + 5.0),
    }
    for name, faulty in faults.items():
        assert overlap(simulated, tmp_path, blobs, particles.with_table(faulty)) < right - 0.08, name
    assert np.abs(table[["rot", "tilt", "psi"]].to_numpy()).min() > 1, "no orientation is a special one"
