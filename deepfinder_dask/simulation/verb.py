"""``simulate``: tomograms with known truth, as stores that every other verb reads."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepfinder_dask import __version__
from deepfinder_dask.blocks import Box
from deepfinder_dask.execution import Progress, options_to_settings
from deepfinder_dask.particles import ParticleClass, Particles, TomogramFacts, write_classes
from deepfinder_dask.particles.files import refuse_existing
from deepfinder_dask.simulation.config import SimulationConfig, TomogramConfig, read_config
from deepfinder_dask.simulation.imaging import simulate_tomogram
from deepfinder_dask.simulation.settings import SimulateSettings
from deepfinder_dask.tomograms import Imaging, Tomogram, create_image, finish_image
from deepfinder_dask.tomograms.pyramid import build_pyramid
from deepfinder_dask.tomograms.statistics import StatisticsBuilder
from deepfinder_dask.tomograms.storage import check_output

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepfinder_dask.simulation.scene import Scene
    from deepfinder_dask.tomograms.pyramid import Method

KINDS = {"": "tomogram", "_labels": "labels", "_instances": "labels"}
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
    from 1 in the order of the table) and ``NAME_particles.parquet`` (true centres and orientations); and once
    ``classes.toml``. Each tomogram is made in memory, one after another: at most 4 volumes of its size and 5 of its
    tilt series.

    Parameters
    ----------
    config : str or path or SimulationConfig
        TOML file (see :mod:`deepfinder_dask.simulation.config`), or the name of one that comes with the package:
        ``demo`` or ``training``.
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
        The tomograms, opened, in the order of the configuration. The same configuration, seed and versions of NumPy and
        SciPy give the same bytes.

    Raises
    ------
    SettingsError
        If the configuration cannot work (the key is named), or the particles do not fit.
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
    tables = [folder / "classes.toml", *(folder / f"{t.name}_particles.parquet" for t in what.tomograms)]
    refuse_existing(tables, chosen.overwrite)
    for tomogram in what.tomograms:
        for ending, kind in KINDS.items():
            check_output(folder / f"{tomogram.name}{ending}.zarr", kind=kind, overwrite=chosen.overwrite)
    classes = classes_of(what)
    with Progress("simulate", len(what.tomograms), unit="tomogram", enabled=None if progress else False) as bar:
        for tomogram in what.tomograms:
            scene, values = simulate_tomogram(what, tomogram)
            _write(folder, what, tomogram, scene, values, classes, overwrite=chosen.overwrite)
            bar.advance()
    write_classes(classes, folder / "classes.toml")
    return [Tomogram.open(folder / f"{t.name}.zarr") for t in what.tomograms]


def classes_of(config: SimulationConfig) -> tuple[ParticleClass, ...]:
    """The species as classes; the radius in Å is that of the ball of equal volume."""
    return tuple(
        ParticleClass(
            s.name,
            s.label,
            radius=round(s.body.radius, 1),
            colour=s.colour or "",
            min_size=s.min_size,
            max_size=s.max_size,
        )
        for s in config.species
    )


def facts_of(config: SimulationConfig, tomogram: TomogramConfig) -> dict[str, Any]:
    """What a simulated tomogram keeps about its making, JSON values: what it takes to make it again."""
    return {
        "format": "simulation",
        "simulation": {
            **asdict(tomogram),
            "shape": list(tomogram.shape),
            "counts": dict(tomogram.counts),
            "voxel_size": config.voxel_size,
            "species": [asdict(s) for s in config.species],
            "version": __version__,
        },
    }


def particles_of(
    config: SimulationConfig, tomogram: TomogramConfig, scene: Scene, classes: tuple[ParticleClass, ...]
) -> Particles:
    """The truth of a scene as a table: centres, orientations and sizes."""
    sizes = np.bincount(scene.instances.ravel(), minlength=len(scene.particles) + 1)[1:]
    return Particles.from_voxels(
        np.array([p.position for p in scene.particles], dtype=np.float64).reshape(-1, 3),
        tomogram=tomogram.name,
        facts=TomogramFacts((config.voxel_size,) * 3, tomogram.shape),
        labels=np.array([p.label for p in scene.particles], dtype=np.int64),
        classes=classes,
        sizes=sizes,
        orientations=np.array([p.angles for p in scene.particles], dtype=np.float64).reshape(-1, 3),
    )


def _write(
    folder: Path,
    config: SimulationConfig,
    tomogram: TomogramConfig,
    scene: Scene,
    values: NDArray[np.float32],
    classes: tuple[ParticleClass, ...],
    *,
    overwrite: bool,
) -> None:
    """Write all that is known of one tomogram; the tomogram itself comes last."""
    particles_of(config, tomogram, scene, classes).write(folder / f"{tomogram.name}_particles.parquet")
    size = config.voxel_size
    source = {"source": facts_of(config, tomogram)}
    colours = {c.label: c.colour for c in classes}
    labels = {**source, "classes": [c.to_dict() for c in classes]}
    _store(folder, f"{tomogram.name}_labels", scene.labels, size, "mode", labels, overwrite, "labels", colours)
    _store(folder, f"{tomogram.name}_instances", scene.instances, size, "mode", source, overwrite, "labels", {})
    statistics = StatisticsBuilder(tomogram.shape, values.dtype)
    statistics.add(0, 0, values)
    facts = {**source, "imaging": Imaging().to_dict(), "statistics": statistics.result().to_dict()}
    _store(folder, tomogram.name, values, size, "mean", facts, overwrite, "tomogram", None)


def _store(
    folder: Path,
    name: str,
    values: NDArray[Any],
    voxel_size: float,
    method: Method,
    attributes: dict[str, Any],
    overwrite: bool,
    kind: str,
    colours: dict[int, str] | None,
) -> None:
    path = str(folder / f"{name}.zarr")
    volume = create_image(
        path, shape=values.shape, dtype=values.dtype, voxel_size=voxel_size, overwrite=overwrite, kind=kind
    )
    volume.write(Box.whole(volume.space), values)
    build_pyramid(path, method=method)
    finish_image(path, attributes, method=method, label_colours=colours)
