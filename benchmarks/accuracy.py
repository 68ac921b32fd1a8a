"""The paper's experiments on simulated tomograms whose truth is known.

Run::

    python benchmarks/accuracy.py sizes                       # (a) F1 of each species against its size: one network
    python benchmarks/accuracy.py curve                       # (e) training curve of that network
    python benchmarks/accuracy.py classes --network only_4cr2 # (b) one network for all classes, or one for each
    python benchmarks/accuracy.py targets                     # (c) spheres against shapes
    python benchmarks/accuracy.py amounts                     # (d) F1 against the number of training particles

Sizes: ``tiny`` takes seconds and says nothing, ``cpu`` takes over an hour a network on two cores, ``full`` has the
paper's settings and wants a GPU. Whatever is interrupted goes on with the same command; ``--network`` does one network
of a study, and a study's table has the networks that are done.

Thresholds of size and score by class, and one of size for localisation (whatever the class), are chosen on the
validation tomogram, and the figures are of test tomograms, whose seeds and imaging the training never saw. A particle
counts as found within one class radius.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from lib.accuracy.networks import Experiments, networks_of
from lib.accuracy.plots import draw, f1_of, ordered
from lib.accuracy.sizes import PUBLISHED, SIZES
from lib.measure import machine

STUDIES = ("sizes", "classes", "targets", "amounts", "curve")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """A study: its networks trained and judged, its plot drawn, its figures."""
    size = SIZES[options.size]
    folder = options.folder or Path(f"accuracy-{options.size}")
    training = {"device": options.device, "threads": options.threads, "progress": not options.json}
    experiments = Experiments(size, folder, training)
    species = experiments.species()
    networks = networks_of(options.study, size, species)
    unknown = sorted(set(options.network) - {one.name for one in networks})
    if unknown:
        raise SystemExit(f"no network {unknown[0]!r} in {options.study}: {', '.join(one.name for one in networks)}")
    results = {}
    for network in networks:
        wanted = not options.network or network.name in options.network
        if wanted or (folder / "networks" / network.name / "result.json").exists():
            results[network.name] = experiments.result(network)
    if "multi" not in results and options.study in ("sizes", "classes", "curve"):
        results["multi"] = experiments.result(networks[0])
    path = folder / f"{options.study}.png"
    draw(options.study, results, species, path)
    figures = {name: _figures(one, species) for name, one in results.items()}
    done = {"study": options.study, "size": options.size, "networks": figures, "plot": str(path), "machine": machine()}
    (folder / f"{options.study}.json").write_text(json.dumps(done, indent=1) + "\n")
    return done


def _figures(result: dict[str, Any], species: tuple[str, ...]) -> dict[str, Any]:
    """What is stated of a network."""
    tomograms = {}
    for name, judged in result["tomograms"].items():
        known = [one for one in ordered(species) if one in judged["classes"]]
        scores = {one: round(f1_of(result, name, one), 3) for one in known}
        tomograms[name] = {
            "classes": scores,
            "mean": round(sum(scores.values()) / len(scores), 3),
            "localisation": round(judged["localisation"]["f1"] or 0.0, 3),
            "true": {one: judged["classes"][one]["true"] for one in known},
        }
    return {
        "steps": len(result["losses"]),
        "training_hours": round(result["training_seconds"] / 3600, 2),
        "loss": round(sum(result["losses"][-10:]) / len(result["losses"][-10:]), 4),
        "program": result["program"],
        "tomograms": tomograms,
    }


def show(done: dict[str, Any]) -> None:
    """Print a table."""
    print(", ".join(f"{key}: {value}" for key, value in done["machine"].items()))
    species = ordered(
        sorted({s for n in done["networks"].values() for t in n["tomograms"].values() for s in t["classes"]})
    )
    print(f"{'network':16}{'tomogram':16}" + "".join(f"{name:>8}" for name in species) + f"{'mean':>8}{'local.':>8}")
    for name, one in done["networks"].items():
        for tomogram, judged in one["tomograms"].items():
            cells = [judged["classes"].get(s) for s in species]
            words = "".join(f"{'' if c is None else format(c, '.3f'):>8}" for c in cells)
            print(f"{name:16}{tomogram:16}{words}{judged['mean']:8.3f}{judged['localisation']:8.3f}")
        print(f"{'':16}{one['steps']} steps, {one['training_hours']} h, loss {one['loss']}, {one['program']}")
    if done["study"] == "sizes" and done["size"] == "full":
        cells = "".join(f"{format(PUBLISHED[s], '.3f') if s in PUBLISHED else '':>8}" for s in species)
        print(f"{'published':16}{'(other data)':16}{cells}")
    print(f"plot: {done['plot']}")


def main() -> None:
    """Parse the options, run the study, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", default="sizes", choices=STUDIES, help="which one (default %(default)s)")
    parser.add_argument("--size", default="tiny", choices=SIZES, help="how large (default %(default)s)")
    parser.add_argument("--network", action="append", default=[], help="only this network of the study; again for more")
    parser.add_argument("--folder", type=Path, help="where everything is kept (default accuracy-SIZE here)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the training on a CPU (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if SIZES[options.size].needs_maps and not os.environ.get("DEEPFINDER_DATA"):
        parser.error(f"--size {options.size} takes density maps: set DEEPFINDER_DATA to the folder that holds maps_10A")
    done = run(options)
    if options.json:
        print(json.dumps(done))
    else:
        show(done)


if __name__ == "__main__":
    main()
