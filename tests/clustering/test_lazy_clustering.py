"""The lazy door: a Delayed of the particles that ``cluster`` finds, bit for bit, in anybody's graph."""

from __future__ import annotations

import gzip

import dask
import dask.array
import numpy as np
import pytest
from dask.delayed import Delayed, delayed
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from deepfinder_dask.blocks import BlockGrid, Box
from deepfinder_dask.clustering import cluster, find_components
from deepfinder_dask.clustering.components import SizeLimits
from deepfinder_dask.clustering.labelling import LabelJob, label_block
from deepfinder_dask.clustering.merging import Merger
from deepfinder_dask.clustering.sources import ArraySource, open_label_map
from deepfinder_dask.errors import GeometryError, SettingsError, VoxelSizeError
from deepfinder_dask.particles import ParticleClass, Particles, classes_to_dicts
from deepfinder_dask.segmentation.store import LazySegmentation, Segmentation
from deepfinder_dask.tomograms import create_group, create_image, finish_group, finish_image

SHAPE = (21, 34, 30)
BLOCK = (12, 16, 20)
CLASSES = (
    ParticleClass("ribosome", 1, radius=40.0, min_size=4),
    ParticleClass("membrane", 2, kind="structure"),
    ParticleClass("proteasome", 5, radius=30.0),
)


@pytest.fixture(scope="module")
def volumes():
    rng = np.random.default_rng(3)
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.2)
    kinds = ndimage.zoom(rng.choice([1, 2, 5, 5], size=(3, 4, 3)), np.divide(SHAPE, (3, 4, 3)), order=0)
    labels = np.where(field > 0.05, kinds, 0).astype(np.uint8)
    return labels, rng.integers(100, 256, SHAPE, dtype=np.uint8)


@pytest.fixture(scope="module")
def store(volumes, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("seg") / "seg.zarr")
    facts = {"tomogram": "TS_01", "voxel_size": [10.0] * 3, "classes": classes_to_dicts(CLASSES)}
    create_group(path, kind="segmentation")
    for name, values in zip(("labels", "probability"), volumes, strict=True):
        volume = create_image(f"{path}/{name}", shape=SHAPE, dtype="uint8", voxel_size=10.0)
        volume.write(Box.whole(SHAPE), values)
        finish_image(f"{path}/{name}")
    finish_group(path, {**facts, "settings": {"scores": False}})
    return path


def lazy_segmentation(volumes, chunks):
    labels, probability = (dask.array.from_array(v, chunks=chunks) for v in volumes)
    return LazySegmentation(labels, probability, None, "TS_01", (10.0,) * 3, CLASSES)


def same(found: Particles, expected: Particles) -> None:
    """Bit for bit, facts and classes too."""
    assert len(expected) > 3
    assert found.table.equals(expected.table)
    assert found.tomograms == expected.tomograms
    assert found.classes == expected.classes


METHODS = [
    {"method": "components"},
    {"connectivity": 26, "per_class": True, "min_distance": "1r"},
    {"split": True, "min_size": 8},
    {"method": "mean-shift", "bandwidth": 3, "per_class": True},
    {"position": "centroid", "measures": True, "min_size": {"ribosome": 9}},
]


@pytest.mark.parametrize("options", METHODS, ids=lambda o: " ".join(o))
def test_whatever_is_given_the_table_is_that_of_the_eager_call(store, volumes, options):
    expected = cluster(store, **options)
    with open_label_map(store, None) as label_map:
        sources = [store, label_map, Segmentation.open(store)]
    sources += [lazy_segmentation(volumes, BLOCK), lazy_segmentation(volumes, ((5, 16), (30, 4), (7, 7, 16)))]
    for source in sources:
        promise = cluster(source, compute=False, block=BLOCK, **options)
        assert isinstance(promise, Delayed)
        same(promise.compute(scheduler="synchronous"), expected)
    same(cluster(sources[-1], block=BLOCK, **options), expected)


def test_arrays_need_a_voxel_size_and_know_no_classes(volumes):
    labels, probability = volumes
    for array, weights in [(labels, probability), map(dask.array.from_array, volumes)]:
        options = {"probability": weights, "voxel_size": 7.5, "tomogram": "mine", "block": BLOCK, "connectivity": 6}
        eager = cluster(array, **options)
        same(cluster(array, compute=False, **options).compute(scheduler="threads"), eager)
        assert eager.table["score"].notna().all()
        assert set(eager.table["class"]) == {"class_1", "class_2", "class_5"}
        assert set(eager.table["tomogram"]) == {"mine"}
        with pytest.raises(VoxelSizeError, match="--voxel-size"):
            cluster(array, compute=False)
    assert eager.table["size_voxels"].tolist() == find_components(labels).sizes.tolist()
    with pytest.raises(GeometryError, match="expected probabilities as uint8"):
        cluster(labels, probability=probability / 255, voxel_size=1.5, compute=False)


def test_nothing_is_read_or_computed_before_it_is_asked_for(store, volumes, monkeypatch):
    touched = []

    def note(block):
        touched.append(1)
        return block

    labels = dask.array.from_array(volumes[0], chunks=BLOCK).map_blocks(note, dtype=np.uint8, meta=np.empty((0, 0, 0)))
    read = type(Segmentation.open(store).label_map).read
    monkeypatch.setattr(
        "deepfinder_dask.tomograms.Volume.read", lambda self, box=None: (touched.append(1), read(self, box))[1]
    )
    for options in METHODS:
        cluster(store, compute=False, block=BLOCK, **options)
    promise = cluster(labels, compute=False, voxel_size=10.0, connectivity=6)
    assert touched == []
    expected = cluster(volumes[0], voxel_size=10.0, connectivity=6)
    same(promise.compute(scheduler="synchronous"), expected)
    assert len(touched) == len(BlockGrid(SHAPE, BLOCK))  # each chunk once


def test_it_composes_with_a_graph_and_shares_what_labels_and_probability_share(volumes):
    calls = []

    def both(block):
        calls.append(1)
        found = np.empty((1, 1, 1), object)
        found[0, 0, 0] = block
        return found

    stacked = dask.array.from_array(np.stack(volumes, axis=-1), chunks=(*BLOCK, 2))
    blocks = stacked.map_blocks(both, dtype=object, chunks=(1, 1, 1), drop_axis=3, meta=np.empty((0, 0, 0), object))
    chunks = dask.array.empty(SHAPE, chunks=BLOCK).chunks

    def part(which):
        return blocks.map_blocks(
            lambda b: b[0, 0, 0][..., which], dtype=np.uint8, chunks=chunks, meta=np.empty((0,) * 3)
        )

    segmentation = LazySegmentation(part(0), part(1), None, "TS_01", (10.0,) * 3, CLASSES)
    promise = cluster(segmentation, compute=False, connectivity=18)
    table = delayed(lambda particles: particles.table)(promise)
    size, particles = dask.compute(table["size_voxels"].sum(), promise, scheduler="threads")
    assert len(calls) == len(BlockGrid(SHAPE, BLOCK))  # each block once for labels, probability and both results
    voxels = (segmentation.labels == 1).sum()
    # Dask fuses arrays on its own unless told not to; then they share blocks with the particles too.
    voxels, again = dask.compute(voxels, promise, scheduler="threads", optimize_graph=False)
    assert len(calls) == 2 * len(BlockGrid(SHAPE, BLOCK))
    same(again, particles)
    assert size == particles.table["size_voxels"].sum()
    assert voxels == (volumes[0] == 1).sum()


def test_on_a_cluster_it_is_the_same(store, volumes):
    from distributed import Client, LocalCluster

    expected = cluster(store, connectivity=6)
    local = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50)
    with local, Client(local) as client:
        same(cluster(store, compute=False, block=BLOCK, connectivity=6).compute(), expected)
        promise = cluster(lazy_segmentation(volumes, BLOCK), compute=False, connectivity=6)
        same(client.compute(promise).result(), expected)


def test_pairs_are_joined_in_a_tree(store, monkeypatch):
    promise = cluster(store, compute=False, block=(8, 8, 8), connectivity=6)
    graph = dict(promise.__dask_graph__())
    blocks = len(BlockGrid(SHAPE, (8, 8, 8)))
    assert blocks == 60
    joins = [key for key in graph if str(key).startswith("joined")]
    assert len(joins) == blocks - 1
    deepest = []
    joined = Merger.joined

    def counted(self, other):
        both = joined(self, other)
        both.depth = 1 + max(getattr(self, "depth", 0), getattr(other, "depth", 0))
        deepest.append(both.depth)
        return both

    monkeypatch.setattr(Merger, "joined", counted)
    cluster(store, compute=False, block=(8, 8, 8), connectivity=6).compute(scheduler="synchronous")
    assert max(deepest) == 6  # the logarithm of 60


@given(
    block=st.tuples(*[st.integers(2, 9)] * 3),
    connectivity=st.sampled_from([6, 18, 26]),
    per_class=st.booleans(),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40)
def test_collectors_join_in_any_tree(volumes, block, connectivity, per_class, seed):
    labels = volumes[0][:9, :12, :14]
    rng = np.random.default_rng(seed)
    job = LabelJob(ArraySource(labels), None, labels.shape, connectivity, per_class, (2,), None, SizeLimits({}, {}))
    grid = BlockGrid(labels.shape, block)
    nodes = []
    for one in grid:
        node = Merger(grid, connectivity, per_class=per_class, scored=False)
        node.add(one, label_block(job, one))
        nodes.append(node)
    while len(nodes) > 1:
        a, b = rng.choice(len(nodes), 2, replace=False)
        both = nodes[a].joined(nodes[b])
        nodes = [node for n, node in enumerate(nodes) if n not in (a, b)] + [both]
    assert nodes[0].faces_held == 0
    found = nodes[0].finish()
    expected = find_components(labels, connectivity=connectivity, per_class=per_class, structures=(2,))
    for name in ("sizes", "sums", "first", "low", "high", "vote_component", "vote_label", "vote_size"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_what_lazy_cannot_do_is_refused(store, tmp_path):
    with pytest.raises(SettingsError, match="leave out the output"):
        cluster(store, tmp_path / "p.parquet", compute=False)
    with pytest.raises(SettingsError, match="leave out the instance map"):
        cluster(store, compute=False, instances="auto")
    (tmp_path / "labels.mrc.gz").write_bytes(gzip.compress(b"anything"))
    with pytest.raises(SettingsError, match=r"unpack .*labels.mrc.gz first"):
        cluster(tmp_path / "labels.mrc.gz", compute=False)
    with pytest.raises(SettingsError, match="a segmentation has its own"):
        cluster(store, compute=False, probability=np.zeros(SHAPE, np.uint8))
    with pytest.raises(SettingsError, match="did you mean 'connectivity'"):
        cluster(store, compute=False, conectivity=6)
