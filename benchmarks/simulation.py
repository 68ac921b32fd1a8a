"""Simulate a scene of 12 species in a process of its own: seconds, processor seconds, peak memory, measured SNR.

Run::

    python benchmarks/simulation.py                                             # 200 x 512 x 512, 1,500 particles
    python benchmarks/simulation.py --shape 128,256,256 --particles 300         # smaller
    python benchmarks/simulation.py --workers 2                                 # two local processes
    python benchmarks/simulation.py --phantoms                                  # where there are no density maps

The species are density maps in the folder that ``DEEPFINDER_DATA`` names (default ``../shared/data``). The peak is that
of the largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib.inputs import parse_shape
from lib.measure import machine, measured, report, run_reporting

from deepfinder_dask.simulation import PHANTOMS, SimulationConfig, Species, read_config

SCENE = Path(__file__).resolve().parent / "scenes" / "twelve_species.toml"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def scene(shape: str, particles: int, *, phantoms: bool) -> SimulationConfig:
    """The scene in another size: particles are shared out evenly among the species."""
    os.environ.setdefault("DEEPFINDER_DATA", str(DATA))
    config = read_config(SCENE)
    built_in = tuple(Species(name, label) for label, name in enumerate(PHANTOMS, start=1))
    species = built_in if phantoms else config.species
    share, more = divmod(particles, len(species))
    counts = {one.name: share + (number < more) for number, one in enumerate(species)}
    tomogram = replace(config.tomograms[0], shape=parse_shape(shape), counts=counts)
    return replace(config, species=species, tomograms=(tomogram,))


def simulate_here(options: argparse.Namespace) -> None:
    """What the measured process does."""
    from deepfinder_dask.simulation import simulate

    config = scene(options.shape, options.particles, phantoms=options.phantoms)
    figures, _ = measured(
        lambda: simulate(config, options.measured[0], progress=False, workers=options.workers, device=options.device)
    )
    report(options.measured[1], figures)


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures, with the files in a temporary folder inside ``folder``."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        output = Path(name, "scene")
        words = ["--shape", options.shape, "--particles", str(options.particles), "--device", options.device]
        words += ["--phantoms"] * options.phantoms
        words += [] if options.workers is None else ["--workers", str(options.workers)]
        figures = run_reporting([sys.executable, __file__, *words, "--measured", str(output)])
        (told,) = json.loads((output / "summary.json").read_text())["tomograms"]
    z, y, x = parse_shape(options.shape)
    return {
        "shape": [z, y, x],
        "particles": sum(told["particles"].values()),
        "species": len(told["particles"]),
        "filled": told["filled"],
        "workers": options.workers or 0,
        "snr_asked": told["snr_asked"],
        "snr": told["snr"],
        **figures,
        "voxels_per_second": z * y * x / figures["seconds"],
        "machine": machine(),
    }


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="200,512,512", help="voxels z,y,x (default %(default)s)")
    parser.add_argument("--particles", type=int, default=1500, help="of all species (default %(default)s)")
    parser.add_argument("--phantoms", action="store_true", help="built-in phantoms instead of density maps")
    parser.add_argument("--workers", type=int, help="local worker processes (default: the process itself)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of the FFTs (default %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where the files go (default here)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--measured", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measured:
        simulate_here(options)
        return
    figures = run(options, options.folder)
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key:26}{value:.3f}" if isinstance(value, float) else f"{key:26}{value}")


if __name__ == "__main__":
    main()
