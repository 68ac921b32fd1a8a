"""Segment a tomogram in blocks, beside one plain pass over the whole volume and beside the original DeepFinder.

Run::

    make peers                                                            # once: the original, in .venv-peers/
    python benchmarks/segmentation.py                                     # 160 x 256 x 256, bounds of 1, 2, 4 and 8 GiB
    python benchmarks/segmentation.py --precision fp32,bf16
    python benchmarks/segmentation.py --shape 32,40,80 --memory 1 --patch 80    # small

All get the same tomogram and the same weights: those that the original's network saved, imported. Each is called once
in a process of its own. What is counted is the call in that running process: seconds, processor seconds of the process
and its workers; what the process takes before it (Python, imports; for the original and the plain pass also building
the network) is listed apart as its start. Peak memory is that of the process since it began.

- plain pass: the network as PyTorch gives it, over the whole volume in memory, and argmax. No reading, no writing.
- original: its library call at its own settings, from an array in memory to score maps in memory. No reading, no
  writing, no label map.
- ours: `segment`, from a Zarr store on the disk to label map and probabilities on the disk, loading the weights
  included.

"changed" counts voxels whose label depends on the blocks: none may. The plain pass does its sums in another order than
`segment`, so that its labels differ where two classes are as good as equal.

The original pads the tomogram with zeros where the network pads each layer, crops less than its network's field of
view, and its patches do not begin at multiples of 4 voxels: its labels depend on its patches. So the labels that differ
are counted, with how sure the network was there (the difference of its two best probabilities in the plain pass), and
its network alone is compared with ours on one patch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lib.inputs import Shape3, make_tomogram, make_weights, parse_shape
from lib.measure import available_mib, machine, measured, report, run_and_print, run_reporting
from lib.segmenting import GIB, run_segment

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
ORIGINAL = ROOT / "benchmarks" / "peers" / "original.py"
WHOLE_BYTES = 1700
"""Memory that the plain pass takes for a voxel, in bytes, in fp32."""
BORDER = 36
"""Voxels from the borders within which the original's padding shows."""


def plain_pass(folder: Path, precision: str, device: str, path: str) -> None:
    """Child process: one plain pass over the whole volume."""
    import torch

    from deepfinder_dask.blocks import Box
    from deepfinder_dask.networks import load_weights, padded_shape
    from deepfinder_dask.tomograms import Tomogram

    tomogram = Tomogram.open(folder / "tomogram.zarr")
    inside = Box.whole(tomogram.shape).slices()
    padded = np.zeros(padded_shape(tomogram.shape), np.float32)
    weights = load_weights(folder / "weights.safetensors")
    padded[inside] = weights.normalisation.scaling(tomogram.statistics).apply(tomogram.read())
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    network = weights.build().to(device, dtype)
    if precision == "bf16":
        network = network.to(memory_format=torch.channels_last_3d)
    volume = torch.from_numpy(padded)[None, None]

    def forward() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            logits = network(volume.to(device, dtype))[0]
            return logits, logits.argmax(0).to("cpu", torch.uint8)

    figures, (logits, labels) = measured(forward)
    np.save(folder / f"whole-{precision}.npy", labels.numpy()[inside])
    best = logits.float().softmax(0).topk(2, 0).values
    np.save(folder / f"margin-{precision}.npy", (best[0] - best[1]).cpu().numpy()[inside])
    report(path, figures)


def run_original(folder: Path, classes: int, patch: str) -> dict[str, Any]:
    """The original's figures; beside them, how far its network alone is from ours on one patch."""
    import torch

    from deepfinder_dask.networks import load_weights

    command = [str(PEERS), str(ORIGINAL), "segment", str(folder), str(classes), patch]
    figures = run_reporting(command)
    probe = np.load(folder / "probe.npz")
    with torch.inference_mode():
        network = load_weights(folder / "weights.safetensors").build()
        scores = network(torch.from_numpy(np.float32(probe["x"]))[None, None])[0].softmax(0)
    figures["network_alone_differs_by"] = float(np.abs(scores.movedim(0, -1).numpy() - probe["scores"]).max())
    return figures


def make_inputs(folder: Path, shape: Shape3, classes: int, *, original: bool) -> None:
    """Tomogram and weights, those of the original's own network if it takes part."""
    from deepfinder_dask.networks import import_keras_weights
    from deepfinder_dask.tomograms import Tomogram

    make_tomogram(folder / "tomogram.zarr", shape)
    if not original:
        make_weights(folder / "weights.safetensors", classes)
        return
    np.save(folder / "tomogram.npy", Tomogram.open(folder / "tomogram.zarr").read())
    run_reporting([str(PEERS), str(ORIGINAL), "network", str(folder), str(classes)])
    import_keras_weights(folder / "original.h5", folder / "weights.safetensors")


def unavailable(precision: str, device: str) -> str | None:
    """Why a precision cannot be measured here; None where it can."""
    if precision == "fp32":
        return None
    try:
        from deepfinder_dask.networks import bf16_supported
    except ImportError:
        return "this version has no bf16"
    return None if bf16_supported(device) else "no fast bf16 on this hardware"


def measure_ours(
    folder: Path, options: argparse.Namespace, precision: str
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """Figures and label map of ``segment`` for each bound, and for a block if one was asked for, by name."""
    from deepfinder_dask.segmentation import Segmentation

    bounds = [float(n) for n in options.memory.split(",")]
    runs: list[tuple[str, float, dict[str, Any]]] = [(f"{bound:g} GiB", bound, {}) for bound in bounds]
    if options.block:
        runs.append((f"block {options.block}", max(bounds), {"block": options.block}))
    ours, maps = {}, {}
    for name, bound, choice in runs:
        output = folder / f"{precision}-{len(ours)}.zarr"
        settings = {"memory": int(bound * GIB), "precision": precision, "device": options.device, **choice}
        figures = run_segment(folder / "tomogram.zarr", folder / "weights.safetensors", output, **settings)
        ours[name] = {"bound_mib": bound * 1024, **figures}
        maps[name] = Segmentation.open(str(output)).label_map.read()
    return ours, maps


def compare(found_labels: np.ndarray, labels: np.ndarray, margin: np.ndarray | None) -> dict[str, Any]:
    """How many voxels of a label map have another label, and how sure the plain pass was there."""
    differ = found_labels != labels
    found: dict[str, Any] = {"voxels": int(differ.sum()), "share": float(differ.mean())}
    inner = tuple(slice(BORDER, n - BORDER) for n in labels.shape)
    if labels[inner].size:
        found["share_inside"] = float(differ[inner].mean())
    if margin is not None and differ.any():
        there = margin[differ]
        found["margin_smallest"], found["margin_median"], found["margin_largest"] = (
            float(f(there)) for f in (np.min, np.median, np.max)
        )
        found["margin_median_elsewhere"] = float(np.median(margin[~differ])) if not differ.all() else None
    return found


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    shape = parse_shape(options.shape)
    voxels = shape[0] * shape[1] * shape[2]
    figures: dict[str, Any] = {"shape": shape, "classes": options.classes, "voxels": voxels}
    reason = f"{PEERS.relative_to(ROOT)} is missing: run `make peers`" if not PEERS.exists() else None
    reason = "left out, as asked" if options.without_original else reason
    make_inputs(folder, shape, options.classes, original=reason is None)
    if reason is None:
        figures["original"] = run_original(folder, options.classes, options.patch)
        figures["original"]["voxels_per_second"] = voxels / figures["original"]["seconds"]
    else:
        figures["original"] = {"skipped": reason}
    figures["precisions"] = {}
    for precision in options.precision.split(","):
        reason = unavailable(precision, options.device)
        here: dict[str, Any] = {"skipped": reason} if reason else {}
        figures["precisions"][precision] = here
        if reason:
            continue
        need = WHOLE_BYTES * voxels / 2**20 / (2 if precision == "bf16" else 1)
        labels = margin = None
        if options.device == "cpu" and need > available_mib():
            here["whole"] = {"skipped": f"needs about {need / 1024:.0f} GiB, free are {available_mib() / 1024:.0f} GiB"}
        else:
            child = ["--child", str(folder), precision, options.device]
            here["whole"] = run_reporting([sys.executable, __file__, *child])
            here["whole"]["voxels_per_second"] = voxels / here["whole"]["seconds"]
            labels, margin = (np.load(folder / f"{name}-{precision}.npy") for name in ("whole", "margin"))
            counts = np.bincount(labels.ravel(), minlength=options.classes)
            here["whole"]["share_of_each_label"] = (counts / voxels).round(4).tolist()
        here["ours"], maps = measure_ours(folder, options, precision)
        first = next(iter(maps.values()))
        for name, found in maps.items():
            here["ours"][name]["labels_that_blocks_change"] = int((found != first).sum())
        here["ours_differs"] = None if labels is None else compare(first, labels, margin)
        labels = first if labels is None else labels
        here["best"] = min(here["ours"], key=lambda bound: here["ours"][bound]["cpu_seconds"])
        best = here["ours"][here["best"]]
        keys = ("cpu_seconds", "seconds", "peak_mib")
        if "skipped" not in here["whole"]:
            here["best_to_whole"] = {key: best[key] / here["whole"][key] for key in keys}
        if "skipped" not in figures["original"]:
            here["original_to_best"] = {key: figures["original"][key] / best[key] for key in keys}
            here["original_differs"] = compare(np.load(folder / "original.npy"), labels, margin)
    return {**figures, "machine": machine()}


def show(figures: dict[str, Any]) -> None:
    """Print the figures as a table for each precision."""
    print(f"{' x '.join(map(str, figures['shape']))}, {figures['classes']} classes")
    for precision, here in figures["precisions"].items():
        print(f"\n{precision}" + (f": not available here ({here['skipped']})" if "skipped" in here else ""))
        if "skipped" in here:
            continue
        rows = {"plain whole pass": here["whole"], "original": figures["original"]}
        rows |= {f"segment, {choice}": row for choice, row in here["ours"].items()}
        heads = f"{'CPU-s':>9}{'wall s':>9}{'peak MiB':>10}{'voxels/s':>12}{'waste':>7}{'changed':>9}"
        print(f"{'':26}{heads}   start CPU-s, s")
        for name, row in rows.items():
            if "skipped" in row:
                print(f"{name:26} skipped: {row['skipped']}")
                continue
            waste = f"{row['waste']:.2f}" if "waste" in row else ""
            changed = row.get("labels_that_blocks_change", "")
            core = f"   blocks of {'x'.join(map(str, row['core']))}" if "core" in row else ""
            print(
                f"{name:26}{row['cpu_seconds']:9.1f}{row['seconds']:9.1f}{row['peak_mib']:10.0f}"
                f"{row['voxels_per_second']:12.0f}{waste:>7}{changed!s:>9}   {row['start_cpu_seconds']:.1f}, "
                f"{row['start_seconds']:.1f}{core}"
            )
        print(f"fewest processor seconds with {here['best']}")
        for key, title in (
            ("original_to_best", "original / ours"),
            ("best_to_whole", "ours / plain whole pass"),
        ):
            if key in here:
                cpu, wall, peak = here[key].values()
                print(f"{title}: CPU-seconds {cpu:.2f}, wall {wall:.2f}, peak memory {peak:.2f}")
        if "original_differs" in here:
            print(
                f"original's network alone on one patch: pseudo-probabilities within "
                f"{figures['original']['network_alone_differs_by']:.1e} of ours"
            )
        for name in ("ours", "original"):
            if here.get(f"{name}_differs"):
                show_difference(name, here[f"{name}_differs"])
    print()
    for key, value in figures["machine"].items():
        print(f"{key:10}{value}")


def show_difference(name: str, found: dict[str, Any]) -> None:
    """Print how a label map differs from that of the plain pass."""
    inside = f", {found['share_inside']:.2%} away from the borders" if "share_inside" in found else ""
    print(f"label map, {name} beside the plain pass: {found['voxels']} voxels differ ({found['share']:.2%}{inside})")
    if "margin_largest" in found:
        print(
            f"  there the two best probabilities are {found['margin_smallest']:.1e} to {found['margin_largest']:.1e} "
            f"apart, median {found['margin_median']:.1e} (elsewhere {found['margin_median_elsewhere'] or 0:.3f})"
        )


def main() -> None:
    """Parse the options, measure, print."""
    if sys.argv[1:2] == ["--child"]:
        folder, precision, device, path = sys.argv[2:]
        plain_pass(Path(folder), precision, device, path)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="160,256,256", help="voxels z,y,x (default %(default)s)")
    parser.add_argument("--classes", type=int, default=4, help="with the background (default %(default)s)")
    parser.add_argument("--memory", default="1,2,4,8", help="bounds in GiB (default %(default)s)")
    parser.add_argument("--block", help="also with blocks of z,y,x voxels")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16 or both, with a comma (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="where ours and the plain pass run (default %(default)s)")
    parser.add_argument("--without-original", action="store_true", help="do not run the original")
    parser.add_argument("--patch", default="default", help="patch size of the original (default its own, 192)")
    parser.add_argument("--folder", type=Path, help="where temporary files go (default the system's place)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    run_and_print(options, run, show)


if __name__ == "__main__":
    main()
