"""The plots of the experiments, in the form the paper gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .sizes import KILODALTONS, PUBLISHED

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
Results = Mapping[str, Mapping[str, Any]]


def f1_of(result: Mapping[str, Any], tomogram: str, species: str) -> float:
    """Class F1 of a species in a test tomogram."""
    return float(result["tomograms"][tomogram]["classes"][species]["f1"] or 0.0)


def ordered(species: Sequence[str]) -> list[str]:
    """Species from light to heavy, as far as their mass is known."""
    return sorted(species, key=lambda name: (KILODALTONS.get(name, 0.0), name))


def draw(study: str, results: Results, species: Sequence[str], path: Path) -> None:
    """Draw a study into a PNG.

    Parameters
    ----------
    study : str
        Its name.
    results : mapping
        Results of its networks by name.
    species : sequence of str
    path : Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    {"sizes": _sizes, "classes": _classes, "targets": _targets, "amounts": _amounts, "curve": _curve}[study](
        axes, results, ordered(species)
    )
    axes.set_ylim(0, 1.05)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _sizes(axes: Any, results: Results, species: list[str]) -> None:
    """Paper, Fig. 3a."""
    for number, tomogram in enumerate(results["multi"]["tomograms"]):
        values = [f1_of(results["multi"], tomogram, name) for name in species]
        axes.plot(range(len(species)), values, "o-", color=COLOURS[number], label=f"DeepFinder, {tomogram}")
    if all(name in PUBLISHED or name == "5mrc" for name in species) and len(species) > 6:
        there = [(i, PUBLISHED[name]) for i, name in enumerate(species) if name in PUBLISHED]
        axes.plot(*zip(*there, strict=True), "x--", color="0.5", label="published, SHREC'20 (other tomograms)")
    names = [f"{name}\n{KILODALTONS[name]:g} kDa" if name in KILODALTONS else name for name in species]
    axes.set_xticks(range(len(species)), names, fontsize="small")
    axes.set_ylabel("class F1")
    axes.set_title("F1 against particle size")


def _bars(axes: Any, sides: Mapping[str, Sequence[float]], species: list[str]) -> None:
    width = 0.8 / len(sides)
    for number, (label, values) in enumerate(sides.items()):
        places = [i + (number - (len(sides) - 1) / 2) * width for i in range(len(species))]
        axes.bar(places, values, width, label=label, color=COLOURS[number])
    axes.set_xticks(range(len(species)), species)
    axes.set_ylabel("class F1")


def _first(results: Results) -> str:
    """The test tomogram that is compared."""
    return next(iter(next(iter(results.values()))["tomograms"]))


def _classes(axes: Any, results: Results, species: list[str]) -> None:
    """Paper, Fig. 3b."""
    test = _first(results)
    done = [name for name in species if f"only_{name}" in results]
    several = [f1_of(results["multi"], test, name) for name in done]
    single = [f1_of(results[f"only_{name}"], test, name) for name in done]
    _bars(axes, {"one network for all classes": several, "a network for each class": single}, done)
    axes.set_title("Multi-class against mono-class networks")


def _targets(axes: Any, results: Results, species: list[str]) -> None:
    """Paper, Fig. 3c."""
    test, words = _first(results), {"multi": "shapes", "spheres": "spheres"}
    sides = {words[name]: [f1_of(one, test, s) for s in species] for name, one in results.items()}
    _bars(axes, sides, species)
    axes.set_title("Trained on shapes and on spheres")


def _amounts(axes: Any, results: Results, species: list[str]) -> None:
    """Paper, Extended Data Fig. 4."""
    test = _first(results)
    amounts = [one["recipe"]["network"]["particles"] for one in results.values()]
    labels = [str(n) if n is not None else "all" for n in amounts]
    for number, name in enumerate(species):
        values = [f1_of(one, test, name) for one in results.values()]
        axes.plot(range(len(values)), values, "o-", label=name, color=f"C{number}")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("training particles of each species")
    axes.set_ylabel("class F1")
    axes.set_title("F1 against the number of training particles")


def _curve(axes: Any, results: Results, species: list[str]) -> None:
    """Paper, Extended Data Fig. 5b."""
    curve, losses = results["multi"]["curve"], results["multi"]["losses"]
    names = list(next(iter(results["multi"]["tomograms"].values()))["classes"])
    for number, name in enumerate(names):
        axes.plot([e["step"] for e in curve], [e[f"f1_{number + 1}"] for e in curve], label=name)
    second = axes.twinx()
    second.plot(range(1, len(losses) + 1), losses, color="0.8", linewidth=0.6, zorder=0)
    second.set_ylabel("training loss")
    axes.set_xlabel("step")
    axes.set_ylabel("F1 of voxels, validation patches")
    axes.set_title("Training curve")
