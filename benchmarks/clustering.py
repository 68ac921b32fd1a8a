"""Cluster a label map of balls, by mean-shift and into components, beside the original, scikit-learn, scipy and cc3d.

Run::

    make peers                                                     # once: the original, in .venv-peers/
    python benchmarks/clustering.py                                # 200 x 400 x 400, 300 balls, bandwidths 5 and 9
    python benchmarks/clustering.py --sklearn                      # also scikit-learn, minutes more
    python benchmarks/clustering.py --shape 464,928,928 --balls 2500 --bandwidth 9 --workers 2 --without-original
    python benchmarks/clustering.py --shape 40,60,60 --balls 12    # small

The balls have radii of 8 to 10 voxels and one of three classes; they are where chance puts them, whole inside the
volume, and some touch or overlap. Everybody gets the same label map, as an array in memory, and is called once in a
process of its own. What is counted is the call in that running process, imports before it and, for ours, code compiled
before it: what compiling takes in a process that has none kept is listed apart. CPU-seconds are those of the process
and its workers; peak memory is that of the process since it began.

- ours, array: `find_clusters`, all four phases: seeds, trajectories, suppression, nearest centre with sizes and votes.
- ours, file: `cluster`, from the Zarr store on the disk to the table on the disk.
- original: `Cluster(clustRadius).launch`. scikit-learn: `MeanShift(bandwidth, bin_seeding=True).fit`, and nothing else.

Particles found are counted against the truth one to one, within half a radius of 9 voxels.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from lib.inputs import VOXEL_SIZE, Shape3, parse_shape
from lib.measure import machine, measured, report, run_and_print, run_reporting

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
ORIGINAL = ROOT / "benchmarks" / "peers" / "original_cluster.py"
RADII = (8, 10)
CLASSES = 3
NEAR = 4.5
"""Voxels within which a particle counts as found."""


def make_balls(folder: Path, shape: Shape3, count: int, seed: int = 0) -> dict[str, Any]:
    """Store a label map of balls as an array and as an image, with the true centres; how much of it they fill."""
    from deepfinder_dask.blocks import BlockGrid, triple
    from deepfinder_dask.tomograms import create_image, finish_image

    rng = np.random.default_rng(seed)
    largest = RADII[1]
    centres = np.stack([rng.integers(min(largest, n // 2), max(n - largest, n // 2 + 1), count) for n in shape], axis=1)
    labels = np.zeros(shape, np.uint8)
    for centre in centres:
        radius, label = int(rng.integers(RADII[0], RADII[1] + 1)), int(rng.integers(1, CLASSES + 1))
        low, high = np.maximum(centre - radius, 0), np.minimum(centre + radius + 1, shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        distance = sum((index - c) ** 2 for index, c in zip(np.ogrid[box], centre, strict=True))
        labels[box][distance <= radius**2] = label
    np.save(folder / "labels.npy", labels)
    np.save(folder / "truth.npy", centres)
    image = create_image(folder / "labels.zarr", shape=shape, dtype="uint8", voxel_size=VOXEL_SIZE)
    for block in BlockGrid(shape, triple(image.write_unit)):
        image.write(block.write, np.ascontiguousarray(labels[block.write.slices()]))
    finish_image(folder / "labels.zarr", method="mode")
    foreground = int(np.count_nonzero(labels))
    return {"foreground": foreground, "share": foreground / labels.size}


def compile_all() -> None:
    """Have everything that is imported and compiled on the way."""
    from deepfinder_dask.clustering import find_clusters, find_components

    labels = np.zeros((12, 12, 70), np.uint8)
    labels[2:9, 2:9, ::3] = 1
    find_clusters(labels, labels, bandwidth=2.0, block=(6, 6, 35))
    find_components(labels)


def child(folder: Path, job: str, bandwidth: float, workers: int, path: str) -> None:
    """One measured call in this process."""
    labels = np.load(folder / "labels.npy") if job not in ("compile", "file", "components file") else None
    options = {"workers": workers} if workers else {}
    found = None
    if job == "compile":
        figures, _ = measured(compile_all)
    elif job == "ours":
        from deepfinder_dask.clustering import find_clusters

        compile_all()
        figures, clusters = measured(lambda: find_clusters(labels, bandwidth=bandwidth))
        found = clusters.centers
        np.save(folder / f"ours-{bandwidth:g}.npy", np.column_stack([found, clusters.components.sizes]))
    elif job == "file":
        from deepfinder_dask.clustering import cluster

        compile_all()
        target = folder / f"found-{bandwidth:g}-{workers}.parquet"
        call = {"method": "mean-shift", "bandwidth": bandwidth, "progress": False, **options}
        figures, particles = measured(lambda: cluster(folder / "labels.zarr", target, **call))
        found = particles.positions() / VOXEL_SIZE
    elif job == "components file":
        from deepfinder_dask.clustering import cluster

        figures, particles = measured(
            lambda: cluster(
                folder / "labels.zarr",
                folder / f"components-{workers}.parquet",
                method="components",
                progress=False,
                **options,
            )
        )
        found = particles.positions() / VOXEL_SIZE
    elif job == "sklearn":
        from sklearn.cluster import MeanShift

        points = np.argwhere(labels)
        figures, fit = measured(lambda: MeanShift(bandwidth=bandwidth, bin_seeding=True).fit(points))
        found = fit.cluster_centers_
        sizes = np.bincount(fit.labels_, minlength=len(found))
        np.save(folder / f"sklearn-{bandwidth:g}.npy", np.column_stack([found, sizes]))
    elif job == "components":
        from deepfinder_dask.clustering import find_components

        compile_all()
        figures, components = measured(lambda: find_components(labels))
        found = components.centroids
    elif job == "scipy":
        from scipy import ndimage

        def by_scipy() -> Any:
            numbers, n = ndimage.label(labels)
            return np.array(ndimage.center_of_mass(labels > 0, numbers, np.arange(1, n + 1)))

        figures, found = measured(by_scipy)
    else:
        import cc3d

        def by_cc3d() -> Any:
            numbers = cc3d.connected_components(labels > 0, connectivity=6)
            return cc3d.statistics(numbers)["centroids"][1:]

        figures, found = measured(by_cc3d)
    if found is not None:
        figures = {**figures, **against_truth(np.asarray(found), np.load(folder / "truth.npy"))}
    report(path, figures)


def against_truth(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How many were found, and how many true centres have one within reach that is no other's."""
    from scipy.spatial import KDTree

    figures: dict[str, float] = {"found": len(found)}
    if not len(found):
        return {**figures, "matched": 0}
    pairs = KDTree(truth).sparse_distance_matrix(KDTree(found), NEAR, output_type="coo_matrix")
    taken_truth, taken_found, distances = set(), set(), []
    for k in np.argsort(pairs.data):
        if pairs.row[k] not in taken_truth and pairs.col[k] not in taken_found:
            taken_truth.add(pairs.row[k])
            taken_found.add(pairs.col[k])
            distances.append(pairs.data[k])
    return {**figures, "matched": len(distances), "mean_distance": float(np.mean(distances)) if distances else 0.0}


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    shape = parse_shape(options.shape)
    figures: dict[str, Any] = {"shape": shape, "balls": options.balls, **make_balls(folder, shape, options.balls)}
    command = [sys.executable, __file__, "--child", str(folder)]
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        before = os.environ.get("NUMBA_CACHE_DIR")
        os.environ["NUMBA_CACHE_DIR"] = fresh
        figures["compile"] = run_reporting([*command, "compile", "5", "0"])
        figures["compiled_before"] = run_reporting([*command, "compile", "5", "0"])
        if before is None:
            del os.environ["NUMBA_CACHE_DIR"]
        else:
            os.environ["NUMBA_CACHE_DIR"] = before
    figures["bandwidths"] = {}
    for text in options.bandwidth.split(","):
        bandwidth = f"{float(text):g}"
        here: dict[str, Any] = {}
        figures["bandwidths"][bandwidth] = here
        here["ours, array"] = run_reporting([*command, "ours", bandwidth, "0"])
        here["ours, file"] = run_reporting([*command, "file", bandwidth, "0"])
        if options.workers:
            here[f"ours, file, {options.workers} workers"] = run_reporting(
                [*command, "file", bandwidth, str(options.workers)]
            )
        if options.sklearn:
            here["scikit-learn"] = run_reporting([*command, "sklearn", bandwidth, "0"])
            ours, theirs = (np.load(folder / f"{name}-{bandwidth}.npy") for name in ("ours", "sklearn"))
            here["scikit-learn"]["same_centres_and_sizes"] = bool(np.array_equal(ours, theirs))
        here["original"] = run_original(options, folder, bandwidth)
        if "skipped" not in here["original"]:
            keys = ("cpu_seconds", "seconds", "peak_mib")
            here["original_to_ours"] = {key: here["original"][key] / here["ours, array"][key] for key in keys}
    figures["components"] = {}
    jobs = {"ours, array": ("components", 0), "ours, file": ("components file", 0)}
    if options.workers:
        jobs[f"ours, file, {options.workers} workers"] = ("components file", options.workers)
    for name, (job, workers) in {**jobs, "scipy": ("scipy", 0), "cc3d": ("cc3d", 0)}.items():
        figures["components"][name] = run_reporting([*command, job, "5", str(workers)])
    return {**figures, "machine": machine()}


def run_original(options: argparse.Namespace, folder: Path, bandwidth: str) -> dict[str, Any]:
    """The original's figures, and whether its centres, order and sizes are ours; why it was left out otherwise."""
    if options.without_original:
        return {"skipped": "left out, as asked"}
    if not PEERS.exists():
        return {"skipped": f"{PEERS.relative_to(ROOT)} is missing: run `make peers`"}
    if not float(bandwidth).is_integer():
        return {"skipped": "it takes whole numbers only"}
    figures = run_reporting([str(PEERS), str(ORIGINAL), str(folder), bandwidth])
    theirs, ours = np.load(folder / f"original-{bandwidth}.npy"), np.load(folder / f"ours-{bandwidth}.npy")
    same = bool(np.array_equal(theirs[:, [0, 1, 2, 4]], ours))
    truth = against_truth(theirs[:, :3], np.load(folder / "truth.npy"))
    return {**figures, **truth, "same_centres_and_sizes": same}


def show(figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    shape = " x ".join(map(str, figures["shape"]))
    print(f"{shape}, {figures['balls']} balls, {figures['foreground']} voxels in them ({figures['share']:.1%})")
    for name, key in (("with nothing kept", "compile"), ("with compiled code kept", "compiled_before")):
        row = figures[key]
        print(f"imports and compiled code, {name}: {row['cpu_seconds']:.1f} CPU-s, {row['seconds']:.1f} s")
    tables = {f"mean-shift, bandwidth {h}": rows for h, rows in figures["bandwidths"].items()}
    for title, rows in {**tables, "components": figures["components"]}.items():
        print(f"\n{title:26}{'CPU-s':>9}{'wall s':>9}{'peak MiB':>10}{'workers':>9}{'found':>8}{'true':>7}{'off':>7}")
        for name, row in rows.items():
            if "skipped" in row:
                print(f"{name:26} skipped: {row['skipped']}")
            elif "found" in row:
                same = {True: "   as ours", False: "   NOT as ours"}.get(row.get("same_centres_and_sizes"), "")
                print(
                    f"{name:26}{row['cpu_seconds']:9.2f}{row['seconds']:9.2f}{row['peak_mib']:10.0f}"
                    f"{row['peak_children_mib']:9.0f}{row['found']:8}{row['matched']:7}"
                    f"{row.get('mean_distance', 0):7.2f}{same}"
                )
        if "original_to_ours" in rows:
            cpu, wall, peak = rows["original_to_ours"].values()
            print(f"original / ours: CPU-seconds {cpu:.0f}, wall {wall:.0f}, peak memory {peak:.1f}")
    print()
    for key, value in figures["machine"].items():
        print(f"{key:10}{value}")


def main() -> None:
    """Parse the options, measure, print."""
    if sys.argv[1:2] == ["--child"]:
        folder, job, bandwidth, workers, path = sys.argv[2:]
        child(Path(folder), job, float(bandwidth), int(workers), path)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="200,400,400", help="voxels z,y,x (default %(default)s)")
    parser.add_argument("--balls", type=int, default=300, help="particles (default %(default)s)")
    parser.add_argument("--bandwidth", default="5,9", help="bandwidths in voxels (default %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="also with so many local workers")
    parser.add_argument("--sklearn", action="store_true", help="also run scikit-learn's own MeanShift")
    parser.add_argument("--without-original", action="store_true", help="do not run the original")
    parser.add_argument("--folder", type=Path, help="where temporary files go (default the system's place)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    run_and_print(options, run, show)


if __name__ == "__main__":
    main()
