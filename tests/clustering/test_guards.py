"""What a second look at clustering found: inputs that outputs would replace, and stores that look whole."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from deepfinder_dask.cli import main
from deepfinder_dask.clustering import cluster
from deepfinder_dask.clustering.distancing import measure_distances
from deepfinder_dask.clustering.settings import DistanceSettings
from deepfinder_dask.errors import FormatError, InputError, SettingsError
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts
from deepfinder_dask.tomograms import Region, create_group, create_image


@pytest.fixture
def labels(tmp_path):
    values = np.zeros((16, 20, 24), np.uint8)
    values[4:9, 4:9, 4:9] = 1
    zarr.create_array(tmp_path / "labels.zarr", data=values, chunks=(8, 8, 8))
    return str(tmp_path / "labels.zarr")


def test_the_instance_map_replaces_neither_mask_nor_table(labels, tmp_path):
    mask = zarr.create_array(tmp_path / "mask.zarr", data=np.ones((16, 20, 24), np.uint8), chunks=(8, 8, 8))
    options = {"voxel_size": 10.0, "method": "components", "overwrite": True}
    with pytest.raises(SettingsError, match="would replace the mask"):
        cluster(labels, mask=str(tmp_path / "mask.zarr"), instances=str(tmp_path / "mask.zarr"), **options)
    assert mask[:].all()
    with pytest.raises(SettingsError, match="would both be"):
        cluster(labels, tmp_path / "both", instances=str(tmp_path / "both"), **options)
    with pytest.raises(SettingsError, match="expected a label map, as a path or an array, got list"):
        cluster([[[1]]])


def test_the_array_of_an_unfinished_segmentation_is_refused(tmp_path):
    path = str(tmp_path / "seg.zarr")
    create_group(path, kind="segmentation")
    create_image(f"{path}/labels", shape=(8, 8, 8), dtype="uint8", voxel_size=10.0, chunk=8, shard=(8, 8, 8))
    for place in (path, f"{path}/labels", f"{path}/labels/0"):
        with pytest.raises(FormatError, match="never finished"):
            cluster(place, voxel_size=10.0, method="components")
    with pytest.raises(FormatError, match="never finished"):
        Region.open(f"{path}/labels/0", shape=(8, 8, 8))


def test_distances_are_neither_lost_nor_measured_in_another_tomogram(labels, tmp_path, capsys):
    def particles(shape, size):
        found = Particles.from_voxels(
            [[6.0, 6.0, 6.0]],
            tomogram="labels",
            facts=TomogramFacts(size, shape),
            labels=[1],
            classes=[ParticleClass("a", 1)],
        )
        found.write(tmp_path / "p.parquet")
        return found

    asked = DistanceSettings(structure="1", voxel_size=10.0)
    particles((16, 20, 24), 10.0)
    words = ["distance", str(tmp_path / "p.parquet"), "--segmentation", labels, "--structure", "1", "-v", "10"]
    assert main([*words, "-o", str(tmp_path / "out.png")]) == 2
    assert "written as Parquet" in capsys.readouterr().err
    measured, _ = measure_distances(particles((16, 20, 24), 10.0), labels, asked)
    assert measured.table.filter(like="distance").iloc[0, 0] == 0
    measure_distances(particles((32, 40, 48), 5.0), labels, asked)  # binned
    for shape, size in (((16, 20, 24), 20.0), ((99, 99, 99), 10.0)):
        with pytest.raises(InputError, match="another tomogram, or a voxel size is wrong"):
            measure_distances(particles(shape, size), labels, asked)
