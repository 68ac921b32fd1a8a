"""Cluster a huge label map that is mostly empty: 2048 x 4096 x 4096 voxels, 34 thousand million, made block by block.

Run::

    python benchmarks/clustering_sparse.py                                          # 2 workers, 3,000 balls
    python benchmarks/clustering_sparse.py --shape 96,128,160 --balls 12            # small

Balls of radius 8 to 10 lie anywhere, at least a diameter apart, a third of them right on a border between two shards,
so that their number is known: both methods must find each of them once, with all its voxels. Shards without a ball are
not stored. The map is clustered from Zarr to the table; the memory is that of the worker that needed most.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lib.inputs import VOXEL_SIZE, Shape3, parse_shape
from lib.measure import machine, measured, report, run_and_print, run_reporting
from scipy.spatial import KDTree

SHARD = 256
RADII = (8, 10)
APART = 2 * RADII[1] + 2
"""Voxels between two centres, at least: balls neither touch nor share a mean-shift ball."""
BANDWIDTH = 9.0


def make_balls(path: Path, shape: Shape3, count: int, seed: int = 0) -> dict[str, Any]:
    """Store balls as an image, shard by shard; their centres (n, 3), (z, y, x), and their voxels."""
    from deepfinder_dask.blocks import BlockGrid, triple
    from deepfinder_dask.tomograms import create_image, finish_image

    shard = min(SHARD, *(n // 32 * 32 or n for n in shape))
    image = create_image(
        path, shape=shape, dtype="uint8", voxel_size=VOXEL_SIZE, chunk=(shard // 4,) * 3, shard=(shard,) * 3
    )
    rng = np.random.default_rng(seed)
    centres = place(shape, count, shard, rng)
    radii = rng.integers(RADII[0], RADII[1] + 1, count)
    tree = KDTree(centres)
    sizes = np.zeros(count, np.int64)
    for block in BlockGrid(shape, triple(image.write_unit)):
        low, high = np.array(block.write.start), np.array(block.write.stop)
        near = tree.query_ball_point((low + high) / 2, np.linalg.norm(high - low) / 2 + RADII[1])
        values = np.zeros(block.write.shape, np.uint8)
        for ball in near:
            start = np.clip(centres[ball] - radii[ball], low, high)
            stop = np.clip(centres[ball] + radii[ball] + 1, low, high)
            box = tuple(slice(a, b) for a, b in zip(start - low, stop - low, strict=True))
            grid = np.ogrid[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
            inside = sum((axis - c) ** 2 for axis, c in zip(grid, centres[ball], strict=True)) <= radii[ball] ** 2
            values[box][inside] = 1
            sizes[ball] += np.count_nonzero(inside)
        if values.any():
            image.write(block.write, values)
    finish_image(path, {})
    return {"centres": centres, "sizes": sizes, "shard": shard}


def place(shape: Shape3, count: int, shard: int, rng: np.random.Generator) -> np.ndarray:
    """Centres of balls that keep their distance, (count, 3) int64, (z, y, x)."""
    kept = np.empty((0, 3), np.int64)
    margin = RADII[1] + 1
    for _ in range(1000):
        found = np.stack([rng.integers(margin, n - margin, 2 * count) for n in shape], axis=1)
        axis = rng.integers(0, 3, len(found))
        rows = np.flatnonzero(rng.random(len(found)) < 1 / 3)
        border = (found[rows, axis[rows]] // shard + 1) * shard
        inside = border < np.array(shape)[axis[rows]] - margin
        found[rows[inside], axis[rows[inside]]] = border[inside]
        everything = np.concatenate([kept, found])
        for second in sorted({second for _, second in KDTree(everything).query_pairs(APART, output_type="ndarray")}):
            everything[second] = -1
        kept = everything[everything[:, 0] >= 0]
        if len(kept) >= count:
            return kept[:count]
    raise SystemExit(f"{count} balls do not fit into {shape}")


def child(store: str, method: str, workers: int, memory: float, path: str) -> None:
    """One measured call in this process."""
    from deepfinder_dask.clustering import cluster

    options: dict[str, Any] = {"method": method, "workers": workers, "memory": int(memory * 2**30)}
    if method == "mean-shift":
        options["bandwidth"] = BANDWIDTH
    table = Path(store).parent / f"{method}.parquet"
    figures, found = measured(lambda: cluster(store, table, progress=sys.stderr.isatty(), **options))
    rows = found.table
    np.savez(Path(store).parent / f"{method}.npz", positions=found.positions(), sizes=rows["size_voxels"])
    report(path, figures)


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    shape = parse_shape(options.shape)
    made, truth = measured(lambda: make_balls(folder / "labels.zarr", shape, options.balls))
    figures: dict[str, Any] = {
        "shape": shape,
        "balls": options.balls,
        "workers": options.workers,
        "made_in_seconds": made["seconds"],
        "methods": {},
    }
    for method in ("components", "mean-shift"):
        words = ["--child", str(folder / "labels.zarr"), method, str(options.workers), str(options.memory)]
        row = run_reporting([sys.executable, __file__, *words])
        found = np.load(folder / f"{method}.npz")
        distance, nearest = KDTree(truth["centres"]).query(found["positions"] / VOXEL_SIZE)
        exact = len(found["sizes"]) == options.balls == len(set(nearest.tolist()))
        row["found"] = len(found["sizes"])
        row["farthest"] = float(distance.max(initial=0))
        row["exact"] = exact and bool(np.array_equal(found["sizes"], truth["sizes"][nearest]))
        figures["methods"][method] = row
    return {**figures, "machine": machine()}


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(
        f"{' x '.join(map(str, figures['shape']))}, {figures['balls']} balls, {figures['workers']} workers; "
        f"made in {figures['made_in_seconds']:.0f} s\n"
    )
    print(f"{'':12}{'CPU-s':>8}{'wall s':>8}{'worker MiB':>12}{'client MiB':>12}{'found':>8}{'farthest':>10}  exact")
    for name, row in figures["methods"].items():
        print(
            f"{name:12}{row['cpu_seconds']:8.0f}{row['seconds']:8.0f}{row['peak_children_mib']:12.0f}"
            f"{row['peak_mib']:12.0f}{row['found']:8}{row['farthest']:10.3f}  {'yes' if row['exact'] else 'NO'}"
        )
    print()
    for key, value in figures["machine"].items():
        print(f"{key:10}{value}")


def main() -> None:
    """Parse the options, measure, print."""
    if sys.argv[1:2] == ["--child"]:
        store, method, workers, memory, path = sys.argv[2:]
        child(store, method, int(workers), float(memory), path)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="2048,4096,4096", help="voxels z,y,x (default %(default)s)")
    parser.add_argument("--balls", type=int, default=3000, help="particles (default %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="local workers (default %(default)s)")
    parser.add_argument("--memory", type=float, default=1, help="GiB a worker (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="where temporary files go (default the system's place)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    run_and_print(options, run, show)


if __name__ == "__main__":
    main()
