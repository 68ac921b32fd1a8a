"""What each option of the training beyond the paper does to the particles that are found.

Run::

    python benchmarks/ablation.py                           # tiny: the plain training and all options
    python benchmarks/ablation.py --size cpu none           # the plain training, minutes on two cores
    python benchmarks/ablation.py --size cpu mean-std       # one option a command; it goes on where it was interrupted
    python benchmarks/ablation.py --size cpu --show         # the table of what is done

Each network is trained as the plain one but for its option, on the same tomograms and from the same first weights, and
is judged on a test tomogram whose seed and imaging no training saw, and on the same one spoilt: a quarter of it padded
with zeros, and gold of 60 deviations in it. Thresholds of size and score are chosen on the validation tomogram. One
network of each kind says little: differences of a few hundredths may be chance (``--seed`` gives another).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lib.accuracy.networks import Experiments, Network
from lib.accuracy.sizes import SCENES, SIZES, Size
from lib.measure import machine

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "mean-std": {"normalisation": "mean-std"},
    "intensity": {"augment_intensity": 0.2},
    "amplitudes": {"augment_amplitudes": 0.2},
    "average": {"average": 0.98},
    "hard-negatives": {"hard_negatives": True},
    "tversky": {"loss": "tversky+cross-entropy", "tversky": [0.3, 0.7]},
}
"""Keys of the training's configuration that each option changes."""
PADDED = 4
"""One over the part of a spoilt tomogram that is padding, along y."""
GOLD = 60.0
"""Grey value of gold in a spoilt tomogram, in standard deviations below the mean."""
BEADS = 12
"""Gold beads in a spoilt tomogram."""


class OneFile(Size):
    """Scenes to learn from and to judge on in one file."""

    def scenes(self, part: str) -> Path:
        """Path of the scenes."""
        return SCENES / f"{self.scene}.toml"


ABLATIONS: Mapping[str, Size] = {
    "tiny": SIZES["tiny"],
    "cpu": OneFile(
        scene="ablation",
        train=("train_1", "train_2"),
        validation="validation",
        test=("test",),
        training={
            "steps": 160,
            "patch_size": 24,
            "batch": 4,
            "shift": 6,
            "background": True,
            "learning_rate": 2e-3,
            "check_every": 40,
            "validation_patches": 8,
        },
        amounts=(),
        needs_maps=False,
    ),
}
"""Sizes of the ablation."""


def spoil(folder: Path, name: str) -> str:
    """A test tomogram with padding and gold, beside the one it is made from; the particles outside the padding stay."""
    from deepfinder_dask.blocks import Box
    from deepfinder_dask.particles import Particles
    from deepfinder_dask.tomograms import Tomogram, create_image, finish_image, statistics_of

    spoilt = f"{name}_spoilt"
    if (folder / f"{spoilt}_particles.parquet").exists():
        return spoilt
    source = Tomogram.open(folder / f"{name}.zarr")
    values, statistics = source.read(), statistics_of(source.volume)
    edge = source.shape[1] // PADDED
    rng = np.random.default_rng(0)
    for centre in rng.uniform((0, edge, 0), source.shape, size=(BEADS, 3)):
        z, y, x = (np.arange(n) - c for n, c in zip(source.shape, centre, strict=True))
        ball = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2 <= 2.5**2
        values[ball] = statistics.mean - GOLD * statistics.std
    values[:, :edge] = 0
    volume = create_image(
        folder / f"{spoilt}.zarr", shape=source.shape, dtype="float32", voxel_size=source.voxel_size, overwrite=True
    )
    volume.write(Box.whole(source.shape), values)
    finish_image(
        folder / f"{spoilt}.zarr",
        {"imaging": source.imaging.to_dict(), "statistics": statistics_of(volume).to_dict()},
    )
    truth = Particles.read(folder / f"{name}_particles.parquet")
    inside = truth.positions()[:, 1] / source.voxel_size[1] >= edge
    left = truth.where(inside)
    moved = Particles(left.table.assign(tomogram=spoilt), {spoilt: left.tomograms[name]}, left.classes)
    moved.write(folder / f"{spoilt}_particles.parquet")
    return spoilt


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train and judge the networks of some options; the figures of all that are done."""
    size = ABLATIONS[options.size]
    folder = options.folder or Path(f"ablation-{options.size}")
    training = {"device": options.device, "threads": options.threads, "progress": not options.json}
    test = Experiments(size, folder, training).scene("test")
    size = replace(size, test=(*size.test, *(spoil(test, name) for name in size.test)))
    figures = {}
    for name, changes in OPTIONS.items():
        home = f"{name}_{options.seed}"
        known = (folder / "networks" / home / "result.json").exists()
        wanted = not options.show and (not options.option or name in options.option)
        if known or wanted:
            changed = replace(size, training={**size.training, **changes, "seed": options.seed})
            result = Experiments(changed, folder, training).result(Network(home))
            figures[name] = {
                tomogram: {
                    "mean": round(_mean(judged), 3),
                    "localisation": round(judged["localisation"]["f1"] or 0.0, 3),
                }
                for tomogram, judged in result["tomograms"].items()
            }
            figures[name]["seconds"] = round(result["training_seconds"], 1)
    return {"size": options.size, "seed": options.seed, "options": figures, "machine": machine()}


def _mean(judged: dict[str, Any]) -> float:
    scores = [one["f1"] or 0.0 for one in judged["classes"].values() if one["true"]]
    return sum(scores) / len(scores)


def main() -> None:
    """Parse the options, train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("option", nargs="*", metavar="OPTION", help="which (default all): " + ", ".join(OPTIONS))
    parser.add_argument("--size", default="tiny", choices=ABLATIONS, help="how large (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of first weights and patches (default %(default)s)")
    parser.add_argument("--show", action="store_true", help="only the table of what is done")
    parser.add_argument("--folder", type=Path, help="where everything is kept (default ablation-SIZE here)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the training on a CPU (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    unknown = sorted(set(options.option) - set(OPTIONS))
    if unknown:
        parser.error(f"no option {unknown[0]!r}: {', '.join(OPTIONS)}")
    done = run(options)
    if options.json:
        print(json.dumps(done))
        return
    print(", ".join(f"{key}: {value}" for key, value in done["machine"].items()))
    print("F1, mean of the classes and class-blind")
    for name, one in done["options"].items():
        judged = {tomogram: v for tomogram, v in one.items() if tomogram != "seconds"}
        cells = [f"{tomogram} {v['mean']:.3f} {v['localisation']:.3f}" for tomogram, v in judged.items()]
        print(f"{name:16}" + "   ".join(cells) + f"   {one['seconds']} s")


if __name__ == "__main__":
    main()
