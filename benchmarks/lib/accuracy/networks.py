"""The networks that the experiments compare: what each is trained on, its training, what it finds.

Every step leaves its files in the folder of the experiments and is not done again where they are: an interrupted run
goes on, also in the middle of a training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .sizes import Size

if TYPE_CHECKING:
    from deepfinder_dask.evaluation import Tuning
    from deepfinder_dask.particles import Particles

SEED = 0
"""Decides which particles are annotated, where only some are."""
IGNORE = 255
"""Label of voxels that are not annotated."""


@dataclass(frozen=True)
class Network:
    """A network of the experiments."""

    name: str
    """Name of its folder."""
    species: str | None = None
    """The only species it knows; None for all."""
    spheres: bool = False
    """Whether its target is made of spheres, not of the particles' shapes."""
    particles: int | None = None
    """How many particles of each species are annotated in all training tomograms together; None for all."""


MULTI = Network("multi")
"""All species, shapes, all particles."""


def networks_of(study: str, size: Size, species: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks that a study compares."""
    if study == "classes":
        return (MULTI, *(Network(f"only_{one}", species=one) for one in species))
    if study == "targets":
        return (MULTI, Network("spheres", spheres=True))
    if study == "amounts":
        return (*(Network(f"particles_{n}", particles=n) for n in size.amounts), MULTI)
    return (MULTI,)


@dataclass(frozen=True)
class Experiments:
    """The experiments of one size, in one folder."""

    size: Size
    """How large."""
    folder: Path
    """Where all files are."""
    options: Mapping[str, Any]
    """Options of the training beside its configuration: ``device``, ``threads``."""

    def scene(self, part: str) -> Path:
        """Folder of the simulated tomograms ``training`` or ``test``; simulated where they are not there yet."""
        from deepfinder_dask.simulation import simulate

        folder = self.folder / "scenes" / part
        if not (folder / "summary.json").exists():
            simulate(self.size.scenes(part), folder, overwrite=True)
        return folder

    def species(self) -> tuple[str, ...]:
        """Names of the species."""
        import tomllib

        tables = tomllib.loads(self.size.scenes("training").read_text())
        return tuple(one["name"] for one in tables["species"])

    def result(self, network: Network) -> dict[str, Any]:
        """What a network finds in the test tomograms: trained, searched and judged where that is not done yet."""
        home = self.folder / "networks" / network.name
        recipe = {"network": asdict(network), "training": dict(self.size.training)}
        path = home / "result.json"
        if path.exists():
            known: dict[str, Any] = json.loads(path.read_text())
            if known["recipe"] == recipe:
                return known
        home.mkdir(parents=True, exist_ok=True)
        weights = self._trained(network, home)
        validation = self.scene("training") / self.size.validation
        truth = _known(_read(f"{validation}_particles.parquet"), network)
        found = self._found(f"{validation}.zarr", weights, home / "found")
        tuning, smallest = _tune(truth, found), smallest_localised(truth, found)
        judged = {}
        for name in self.size.test:
            there = self.scene("test") / name
            truth = _known(_read(f"{there}_particles.parquet"), network)
            found = self._found(f"{there}.zarr", weights, home / "found")
            judged[name] = _judge(truth, kept(found, tuning))
            judged[name]["localisation"] = _judge(truth, _larger(found, smallest))["localisation"]
        record = [json.loads(line) for line in (home / "run" / "log.jsonl").read_text().splitlines()]
        result = {
            "recipe": recipe,
            "tomograms": judged,
            "thresholds": {one.name: _choice(one) for one in tuning.classes},
            "smallest_localised": smallest,
            "curve": [entry for entry in record if "f1" in entry],
            "losses": [entry["loss"] for entry in record],
            "training_seconds": sum(entry["seconds"] for entry in record),
            "program": _provenance(weights),
        }
        path.write_text(json.dumps(result, indent=1) + "\n")
        return result

    def _trained(self, network: Network, home: Path) -> Path:
        """The best weights of a network; a training that was interrupted goes on."""
        from deepfinder_dask.training import train

        config, run, done = home / "config.toml", home / "run", home / "trained.json"
        text = self._configure(network, home)
        if not (done.exists() and json.loads(done.read_text()) == text):
            begun = config.exists() and config.read_text() == text and (run / "state.safetensors").exists()
            config.write_text(text)
            train(config, run, resume=begun, overwrite=not begun, **self.options)
            done.write_text(json.dumps(text))
        return run / "best.safetensors"

    def _configure(self, network: Network, home: Path) -> str:
        """The training's configuration, and the data where the simulation's own do not do."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.size.training.items()]
        scene, share = self.scene("training"), _shares(network.particles, len(self.size.train))
        for key, names in (("train", self.size.train), ("validation", (self.size.validation,))):
            for number, name in enumerate(names):
                files = {"tomogram": scene / f"{name}.zarr", "target": scene / f"{name}_labels.zarr"}
                files["particles"] = scene / f"{name}_particles.parquet"
                if replace(network, name=MULTI.name) != MULTI:
                    amount = share[number] if key == "train" else None
                    made = _derive(replace(network, particles=amount), scene, name, home / "data")
                    files |= {"target": made[0], "particles": made[1]}
                lines += ["", f"[[{key}]]", *(f"{k} = {json.dumps(str(v.resolve()))}" for k, v in files.items())]
        return "\n".join(lines) + "\n"

    def _found(self, tomogram: str, weights: Path, folder: Path) -> Particles:
        """Particles that the weights find in a tomogram, without thresholds."""
        from deepfinder_dask.clustering import cluster
        from deepfinder_dask.segmentation import segment
        from deepfinder_dask.tomograms import is_finished

        name = Path(tomogram).stem
        store, table = folder / f"{name}.zarr", folder / f"{name}.parquet"
        device = self.options.get("device", "auto")
        if not is_finished(store) or _older(store, weights):
            segment(tomogram, weights, store, device=device, overwrite=True)
        if not table.exists() or _older(table, store):
            cluster(store, table, min_size=0, overwrite=True, tomogram=name)
        return _read(table)


def kept(found: Particles, tuning: Tuning) -> Particles:
    """The particles above the thresholds of size and score that were chosen for their class."""
    keep = np.zeros(len(found), dtype=bool)
    names = found.table["class"].to_numpy()
    sizes, scores = found.table["size_voxels"].to_numpy(float), found.table["score"].to_numpy(float)
    for one in tuning.classes:
        choice = _choice(one)
        of_class = names == one.name
        keep |= of_class & (sizes >= (choice["size"] or 0)) & (scores >= (choice["score"] or 0))
    return found.where(keep)


def smallest_localised(truth: Particles, found: Particles) -> int:
    """The one minimum size of all classes that makes the F1 of localisation largest, in voxels; one of 20 quantiles."""
    sizes = np.sort(found.table["size_voxels"].to_numpy(dtype=np.int64))
    tried = [0, *np.unique(sizes[len(sizes) * np.arange(20) // 20]).tolist()] if len(sizes) else [0]
    scores = [_judge(truth, _larger(found, size))["localisation"]["f1"] or 0.0 for size in tried]
    return int(tried[int(np.argmax(scores))])


def _larger(found: Particles, smallest: int) -> Particles:
    return found.where(found.table["size_voxels"].to_numpy(dtype=np.int64) >= smallest)


def _choice(one: Any) -> dict[str, Any]:
    """Thresholds of a class: of size and score together."""
    choice = one.choices.get("joint")
    return {"size": choice.size, "score": choice.score} if choice else {"size": None, "score": None}


def _tune(truth: Particles, found: Particles) -> Tuning:
    from deepfinder_dask.evaluation import tune

    return tune(truth, found, tolerance="1r", joint=True)


def _judge(truth: Particles, found: Particles) -> dict[str, Any]:
    from deepfinder_dask.evaluation import evaluate

    judged: dict[str, Any] = evaluate(truth, found, tolerance="1r").to_dict()
    return {key: judged[key] for key in ("localisation", "overall", "classes", "mean_over_classes", "confusion")}


def _read(path: str | Path) -> Particles:
    from deepfinder_dask.particles import read_particles

    return read_particles(path)


def _known(particles: Particles, network: Network) -> Particles:
    """The particles of the species that a network knows, with its labels."""
    if network.species is None:
        return particles
    from deepfinder_dask.particles import Particles

    only = particles.of_class(network.species)
    kind = replace(only.class_named(network.species), label=1)
    return Particles(only.table.assign(label=1), only.tomograms, (kind,))


def _shares(amount: int | None, tomograms: int) -> list[int | None]:
    """How many particles of each species each training tomogram gives, the same total whatever the tomograms."""
    if amount is None:
        return [None] * tomograms
    return [len(range(number, amount, tomograms)) for number in range(tomograms)]


def _derive(network: Network, scene: Path, name: str, folder: Path) -> tuple[Path, Path]:
    """Label map and particles of a tomogram as a network is to know them."""
    from deepfinder_dask.particles import Particles
    from deepfinder_dask.targets import target

    labels, table = folder / f"{name}_labels.zarr", folder / f"{name}_particles.parquet"
    full = _read(scene / f"{name}_particles.parquet")
    particles = _known(full, network)
    chosen = _some(particles, network.particles)
    if not table.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if network.spheres:
            blind = particles.table.drop(columns=["rot", "tilt", "psi"], errors="ignore")
            plain = Particles(blind, particles.tomograms, particles.classes)
            target(plain, scene / f"{name}.zarr", labels, overwrite=True)
        elif network.species is not None:
            label = full.class_named(network.species).label
            _redraw(scene / f"{name}_labels.zarr", labels, partial(np.equal, label))
        else:
            numbers = np.flatnonzero(np.isin(np.arange(len(particles)), chosen, invert=True)) + 1
            _redraw(
                scene / f"{name}_labels.zarr",
                labels,
                partial(_ignored, numbers=numbers),
                scene / f"{name}_instances.zarr",
            )
        particles.where(np.isin(np.arange(len(particles)), chosen)).write(table)
    return labels, table


def _some(particles: Particles, amount: int | None) -> NDArray[np.intp]:
    """Rows of so many particles of each class, drawn at random; all where it is None."""
    if amount is None:
        return np.arange(len(particles))
    rng = np.random.default_rng(SEED)
    names = particles.table["class"].to_numpy()
    rows = [rng.permutation(np.flatnonzero(names == one.name))[:amount] for one in particles.classes]
    return np.concatenate(rows)


def _ignored(labels: NDArray[Any], instances: NDArray[Any], *, numbers: NDArray[np.intp]) -> NDArray[Any]:
    """A label map without the particles of some instances: they are not annotated."""
    return np.where(np.isin(instances, numbers), IGNORE, labels)


def _redraw(source: Path, output: Path, change: Any, *others: Path) -> None:
    """Write a label map whose voxels are a function of those of others, block by block."""
    from deepfinder_dask.blocks import BlockGrid, triple
    from deepfinder_dask.tomograms import create_image, finish_image, open_image

    volumes = [open_image(path).levels[0] for path in (source, *others)]
    size = open_image(source).voxel_size
    volume = create_image(output, shape=volumes[0].space, dtype="uint8", voxel_size=size, overwrite=True)
    for block in BlockGrid(volumes[0].space, triple(volume.write_unit)):
        volume.write(block.write, change(*(one.read(block.write) for one in volumes)).astype(np.uint8))
    finish_image(output)


def _older(path: Path, than: Path) -> bool:
    """Whether a file or store was made before another one."""
    return path.stat().st_mtime < than.stat().st_mtime


def _provenance(weights: Path) -> str:
    from deepfinder_dask.networks import load_weights

    return str(load_weights(weights).provenance["program"])
