"""``simulate``: tomograms with known truth, as stores that every other verb reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from deepfinder_dask import __version__
from deepfinder_dask.blocks import Box
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import Executor, Progress, hold, open_executor, options_to_settings
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, write_classes
from deepfinder_dask.particles.files import atomic_write, refuse_existing
from deepfinder_dask.simulation.bodies import body_of
from deepfinder_dask.simulation.config import read_config
from deepfinder_dask.simulation.exports import write_mrc
from deepfinder_dask.simulation.imaging import Camera, camera_of
from deepfinder_dask.simulation.job import SHARD, Outcome, Outputs, fill, steps
from deepfinder_dask.simulation.pictures import draw_simulation
from deepfinder_dask.simulation.placing import place_scene
from deepfinder_dask.simulation.recipe import SimulationConfig, TomogramConfig
from deepfinder_dask.simulation.scene import Scene
from deepfinder_dask.simulation.settings import SimulateSettings
from deepfinder_dask.tomograms import Imaging, Tomogram, Volume, create_image, finish_image, statistics_of
from deepfinder_dask.tomograms.pyramid import Method, build_pyramid
from deepfinder_dask.tomograms.storage import check_output, discard

KINDS = {"": "tomogram", "_labels": "labels", "_instances": "labels", "_density": "density", "_tilts": "tilt series"}
"""What each ``NAME<ending>.zarr`` holds."""


def simulate(
    config: str | Path | SimulationConfig,
    output: str | Path,
    settings: SimulateSettings | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> list[Tomogram]:
    """Simulate the tomograms of a configuration.

    For each tomogram ``NAME`` the folder gets ``NAME.zarr`` (float32, dark particles, tilt axis y, beam z),
    ``NAME_labels.zarr`` (true class of each voxel, uint8), ``NAME_instances.zarr`` (number of the particle, uint32,
    from 1 in the order of the table; gold and membranes follow), ``NAME_particles.parquet`` (true centres and
    orientations), ``NAME_gold.parquet`` where there is gold, and the picture ``NAME.png``; and once ``classes.toml``
    and ``summary.json`` (what was placed, and the measured SNR). Everything is made slab by slab (64 rows of y): a
    worker holds a slab, not the volume.

    Parameters
    ----------
    config : str or path or SimulationConfig
        TOML file (see :mod:`deepfinder_dask.simulation.config`), or the name of one that comes with the package, such
        as ``demo`` or ``training``.
    output : str or path
        Folder; made if it is not there.
    settings : SimulateSettings, optional
        How; default the defaults.
    progress : bool
        Show a bar where standard error is a terminal.
    **options
        Single fields of the settings, such as ``seed=7``.

    Returns
    -------
    list of Tomogram
        The tomograms, opened, in the order of the configuration. The same configuration, seed, kind of CPU and versions
        of NumPy, SciPy and PyTorch give the same bytes, whatever the workers.

    Raises
    ------
    SettingsError
        If the configuration cannot work (the key is named), or the particles do not fit.
    FormatError, VoxelSizeError
        If a density map cannot be used.
    OutputExistsError
        If an output is there and may not be replaced.
    StorageError
        If an output cannot be written.
    """
    chosen = options_to_settings(SimulateSettings, settings, options)
    what = config if isinstance(config, SimulationConfig) else read_config(config)
    if chosen.seed is not None:
        seeded = tuple(replace(t, seed=chosen.seed + n) for n, t in enumerate(what.tomograms))
        what = replace(what, tomograms=seeded)
    folder = Path(output)
    _check_device(chosen)
    with hold(folder.absolute().with_name(f".{folder.absolute().name}.lock"), folder):
        _check_outputs(folder, what, chosen)
        classes = classes_of(what)
        shown = None if progress else False
        with Progress("place particles", len(what.tomograms), unit="tomogram", enabled=shown) as bar:
            scenes = []
            for tomogram in what.tomograms:  # all of them, before anything is written
                scenes.append(place_scene(what, tomogram))
                bar.advance()
        made: list[dict[str, Any]] = []
        with open_executor(chosen.workers, chosen.scheduler) as executor:
            for tomogram, scene in zip(what.tomograms, scenes, strict=True):
                camera = camera_of(what, tomogram, scene, chosen.device)
                total = steps(tomogram.shape, len(camera.tilts))
                with Progress(f"simulate {tomogram.name}", total, enabled=shown) as bar:
                    job = _Job(folder, what, tomogram, scene, camera, classes, chosen, executor)
                    made.append(job.run(bar))
        write_classes(classes, folder / "classes.toml")
        with atomic_write(folder / "summary.json") as temporary:
            text = json.dumps({"voxel_size": what.voxel_size, "tomograms": made, "version": __version__}, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")
    return [Tomogram.open(folder / f"{t.name}.zarr") for t in what.tomograms]


def classes_of(config: SimulationConfig) -> tuple[ParticleClass, ...]:
    """Species and structures as classes; the radius in Å is that of the ball of equal volume."""
    found = [
        ParticleClass(
            s.name,
            s.label,
            radius=round(body_of(s, config.voxel_size).radius, 1),
            colour=s.colour or "",
            min_size=s.min_size,
            max_size=s.max_size,
        )
        for s in config.species
    ]
    found += [ParticleClass(s.name, s.label, kind="structure", colour=s.colour or "") for s in config.structures]
    return tuple(sorted(found, key=lambda c: c.label))


def facts_of(config: SimulationConfig, tomogram: TomogramConfig) -> dict[str, Any]:
    """What a simulated tomogram keeps about its making, JSON values: what it takes to make it again."""
    facts = {
        **asdict(tomogram),
        "voxel_size": config.voxel_size,
        "species": [asdict(s) for s in config.species],
        "structures": [asdict(s) for s in config.structures],
        "version": __version__,
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))  # tuples as JSON has them
    return {"format": "simulation", "simulation": plain}


def _check_device(settings: SimulateSettings) -> None:
    if settings.device == "cuda" and settings.scheduler is None:
        import torch

        if not torch.cuda.is_available():
            raise SettingsError("expected a GPU for device cuda, found none: use --device cpu")


def _check_outputs(folder: Path, config: SimulationConfig, settings: SimulateSettings) -> None:
    """Refuse to replace anything unasked, before any work."""
    files = [folder / "classes.toml", folder / "summary.json"]
    for tomogram in config.tomograms:
        endings = ["_particles.parquet", ".png", *[".mrc"] * settings.mrc, *["_gold.parquet"] * (tomogram.gold > 0)]
        files += [folder / f"{tomogram.name}{ending}" for ending in endings]
        for ending, kind in KINDS.items():
            wanted = {"_density": settings.density, "_tilts": settings.tilt_series}.get(ending, True)
            if wanted:
                check_output(folder / f"{tomogram.name}{ending}.zarr", kind=kind, overwrite=settings.overwrite)
    refuse_existing(files, settings.overwrite)


class _Job:
    """One tomogram on its way into the folder."""

    def __init__(
        self,
        folder: Path,
        config: SimulationConfig,
        tomogram: TomogramConfig,
        scene: Scene,
        camera: Camera,
        classes: tuple[ParticleClass, ...],
        settings: SimulateSettings,
        executor: Executor,
    ) -> None:
        self.folder, self.config, self.tomogram = folder, config, tomogram
        self.scene, self.camera, self.classes = scene, camera, classes
        self.settings, self.executor = settings, executor
        self.source = {"source": facts_of(config, tomogram)}

    def run(self, bar: Progress) -> dict[str, Any]:
        """Make and write everything; the tables come last. Returns the entry of the summary."""
        outputs = Outputs(
            self._create("", np.float32),
            self._create("_labels", np.uint8),
            self._create("_instances", np.uint32),
            self._create("_density", np.float32) if self.settings.density else None,
        )
        scratch = self.folder / f".{self.tomogram.name}.scratch"
        with ExitStack() as cleanup:
            if self.settings.tilt_series:
                images = self._path("_tilts")
                discard(images)
            else:
                images = self.folder / f".{self.tomogram.name}.tilts.zarr"
                cleanup.callback(shutil.rmtree, images, ignore_errors=True)
                shutil.rmtree(images, ignore_errors=True)
            outcome = fill(self.scene, self.camera, outputs, self.executor, images, scratch, bar)
            middle = self.camera.untilted
            box = Box((middle, 0, 0), (middle + 1, *self.scene.shape[1:]))
            untilted = Volume(str(images), "0").read(box)[0]
            if self.settings.tilt_series:
                finish_image(images, {**self.source, "tilts": self.camera.tilts.tolist()})
        self._finish(outputs)
        finished = Tomogram.open(self._path(""))
        if self.settings.mrc:
            write_mrc(finished, self.folder / f"{self.tomogram.name}.mrc")
        self._write_tables(outcome)
        entry = self._summary(outcome)
        draw_simulation(
            self.folder / f"{self.tomogram.name}.png",
            finished,
            Tomogram.open(self._path("_labels")),
            {c.label: c.colour for c in self.classes},
            untilted,
            f"{self.tomogram.name}: {len(self.scene.particles)} particles, SNR {entry['snr']:.3g}",
        )
        return entry

    def _path(self, ending: str) -> Path:
        return self.folder / f"{self.tomogram.name}{ending}.zarr"

    def _create(self, ending: str, dtype: type[np.generic]) -> Volume:
        return create_image(
            self._path(ending),
            shape=self.scene.shape,
            dtype=dtype,
            voxel_size=self.config.voxel_size,
            shard=SHARD,
            overwrite=self.settings.overwrite,
            kind=KINDS[ending],
        )

    def _finish(self, outputs: Outputs) -> None:
        """Pyramids and attributes; the tomogram itself comes last."""
        colours = {c.label: c.colour for c in self.classes}
        labels = {**self.source, "classes": [c.to_dict() for c in self.classes]}
        self._close(outputs.labels, "mode", labels, colours)
        self._close(outputs.instances, "mode", self.source, {})
        if outputs.density is not None:
            self._close(outputs.density, "mean", self.source, None)
        statistics = {"statistics": statistics_of(outputs.tomogram).to_dict(), "imaging": Imaging().to_dict()}
        self._close(outputs.tomogram, "mean", {**self.source, **statistics}, None)

    def _close(
        self, volume: Volume, method: Method, attributes: Mapping[str, Any], colours: Mapping[int, str] | None
    ) -> None:
        build_pyramid(volume.path, method=method, executor=self.executor)
        finish_image(volume.path, attributes, method=method, label_colours=colours)

    def _write_tables(self, outcome: Outcome) -> None:
        """Particles and gold beads: centres, orientations and sizes."""
        scene, name = self.scene, self.tomogram.name
        facts = TomogramFacts((self.config.voxel_size,) * 3, scene.shape)
        count = len(scene.particles)
        particles = Particles.from_voxels(
            np.array([p.position for p in scene.particles], dtype=np.float64).reshape(-1, 3),
            tomogram=name,
            facts=facts,
            labels=np.array([p.label for p in scene.particles], dtype=np.int64),
            classes=self.classes,
            sizes=outcome.sizes[1 : 1 + count],
            orientations=np.array([p.angles for p in scene.particles], dtype=np.float64).reshape(-1, 3),
        )
        particles.write(self.folder / f"{name}_particles.parquet")
        if scene.beads:
            gold = Particles.from_voxels(
                np.array(scene.beads),
                tomogram=name,
                facts=facts,
                labels=np.full(len(scene.beads), scene.gold_label),
                classes=[c for c in self.classes if c.label == scene.gold_label],
                sizes=outcome.sizes[1 + count : 1 + count + len(scene.beads)],
            )
            gold.write(self.folder / f"{name}_gold.parquet")

    def _summary(self, outcome: Outcome) -> dict[str, Any]:
        """What was asked for, what was placed, and what the images turned out to be."""
        placed, asked = self.scene.counts(), self.scene.asked
        untilted = outcome.measured[self.camera.untilted]
        filled = outcome.sizes[1 : 1 + len(self.scene.particles)].sum() / np.prod(self.scene.shape)
        return {
            "name": self.tomogram.name,
            "seed": self.tomogram.seed,
            "shape": list(self.scene.shape),
            "particles": {name: n for name, n in placed.items() if n or asked.get(name)},
            "left_out": {name: n - placed[name] for name, n in asked.items() if n > placed[name]},
            "gold": len(self.scene.beads),
            "membranes": len(self.scene.membranes),
            "filled": float(filled),
            "snr_asked": self.tomogram.imaging.snr,
            "snr": untilted.signal / untilted.noise if untilted.noise else float("inf"),
            "tilts": [
                {"tilt": float(t), "signal_variance": m.signal, "noise_variance": m.noise}
                for t, m in zip(self.camera.tilts, outcome.measured, strict=True)
            ],
        }
