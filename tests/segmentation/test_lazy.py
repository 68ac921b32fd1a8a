"""The lazy door: the same values as ``segment`` writes, as Dask arrays."""

from __future__ import annotations

import dask
import numpy as np
import pytest

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.segmentation import segment, segment_lazily
from deepfinder_dask.segmentation.block import Classifier

SHAPE = (21, 34, 30)
BLOCK = (12, 16, 20)


def test_lazy_arrays_hold_what_segment_writes(make_tomogram, weights, tmp_path):
    tomogram = make_tomogram(SHAPE)
    options = {"scores": True, "augment": True, "score_type": "uint8"}
    done = segment(tomogram, weights, tmp_path / "s.zarr", **options)
    lazy = segment_lazily(tomogram, weights, block=BLOCK, **options)
    assert lazy.labels.chunksize == BLOCK
    labels, probability, scores = dask.compute(lazy.labels, lazy.probability, lazy.scores)
    assert np.array_equal(labels, done.label_map.read())
    assert np.array_equal(probability, done.probability_map.read())
    assert np.array_equal(scores, done.score_map.read())
    assert lazy.scores.shape == scores.shape
    assert lazy.labels.dtype == labels.dtype


def test_it_composes_with_a_graph_and_computes_only_what_is_asked(make_tomogram, weights, tmp_path, monkeypatch):
    tomogram = make_tomogram(SHAPE)
    whole = segment(tomogram, weights, tmp_path / "s.zarr").label_map.read()
    labels = segment(tomogram, weights, compute=False, block=BLOCK)
    classified = []
    call = Classifier.__call__
    monkeypatch.setattr(Classifier, "__call__", lambda self, box: (classified.append(box), call(self, box))[1])
    corner = (labels[:5, :6, :7] == 1).sum().compute(scheduler="threads")
    assert corner == (whole[:5, :6, :7] == 1).sum()
    assert len(classified) == 1


@pytest.mark.slow
def test_it_gives_the_same_on_a_cluster(make_tomogram, weights, tmp_path):
    from distributed import Client, LocalCluster

    tomogram = make_tomogram(SHAPE)
    whole = segment(tomogram, weights, tmp_path / "s.zarr").label_map.read()
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50)
    with cluster, Client(cluster):
        assert np.array_equal(segment(tomogram, weights, compute=False, block=BLOCK).compute(), whole)


def test_what_lazy_cannot_do_is_refused(make_tomogram, weights, tmp_path):
    tomogram = make_tomogram((8, 8, 8))
    with pytest.raises(SettingsError, match="leave out the output"):
        segment(tomogram, weights, tmp_path / "s.zarr", compute=False)
    with pytest.raises(SettingsError, match="cannot resample"):
        segment(make_tomogram((8, 8, 8), voxel_size=16.0), weights, compute=False, rescale=True)
    with pytest.raises(SettingsError, match="expected an output"):
        segment(tomogram, weights)
