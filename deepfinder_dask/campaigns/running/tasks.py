"""What runs on a worker for a tomogram as a whole: everything serial, so that the driver has little to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfinder_dask.campaigns.locating.steps import EVALUATION, Steps, noted
from deepfinder_dask.campaigns.running.inputs import identify
from deepfinder_dask.campaigns.running.trouble import PassingError, is_passing
from deepfinder_dask.errors import DeepFinderError, InputError
from deepfinder_dask.evaluation.settings import EvaluateSettings
from deepfinder_dask.execution import SerialExecutor
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.particles.settings import ExportSettings

# A task imports what it does: no process loads what only others need.
if TYPE_CHECKING:
    from deepfinder_dask.networks import Weights

__all__ = ["Cluster", "Convert", "Digest", "Evaluate", "Export", "Identify", "Tell", "weights_of"]


@contextmanager
def reading_and_writing() -> Iterator[None]:
    """Say of an error whether it may be over a little later: where it came from does not travel with it."""
    try:
        yield
    except (OSError, DeepFinderError) as error:
        if is_passing(error) and not isinstance(error, PassingError):
            raise PassingError(" ".join(str(error).split())) from error
        raise


def weights_of(path: str, classes: str | None) -> Weights:
    """Weights, with the classes that overrule theirs; read once in a process, and again when a file has changed."""
    from deepfinder_dask.networks import resolve_weights

    files = [resolve_weights(path), *([] if classes is None else [Path(classes)])]
    stamps = tuple((one.stat().st_size, one.stat().st_mtime_ns) if one.exists() else None for one in files)
    return _weights_of(path, classes, stamps)


@lru_cache(maxsize=2)
def _weights_of(path: str, classes: str | None, stamps: tuple[tuple[int, int] | None, ...]) -> Weights:
    from deepfinder_dask.networks import load_weights
    from deepfinder_dask.particles import read_classes

    weights = load_weights(path)
    return weights if classes is None else weights.with_classes(read_classes(classes))


@dataclass(frozen=True)
class Identify:
    """Hashes an input."""

    in_flight = 2

    def __call__(self, source: str) -> dict[str, Any]:
        """What identifies it."""
        with reading_and_writing():
            return identify(source)


@dataclass(frozen=True)
class Convert:
    """Converts a file, and hashes it."""

    in_flight = 2

    def __call__(self, steps: Steps) -> dict[str, Any]:
        """What identifies the input."""
        with reading_and_writing():
            before = identify(steps.source)
            steps.convert(progress=False)
            return before


@dataclass(frozen=True)
class Cluster:
    """Clusters a whole label map."""

    def __call__(self, steps: Steps) -> list[str]:
        """What had to be assumed."""
        notes: list[str] = []
        with reading_and_writing(), noted(notes):
            steps.cluster(SerialExecutor(), progress=False)
        return notes


@dataclass(frozen=True)
class Export:
    """Writes the particles for other programs, and pictures."""

    files: tuple[str, ...]
    """Exports, by name."""
    pictures: bool
    """Whether to draw."""
    settings: ExportSettings
    """How particles are written."""

    def __call__(self, steps: Steps) -> list[str]:
        """What had to be assumed."""
        from deepfinder_dask.particles import Particles
        from deepfinder_dask.segmentation import Segmentation

        notes: list[str] = []
        with reading_and_writing(), noted(notes):
            particles = Particles.read(steps.table)
            steps.export(particles, self.files, self.settings)
            if self.pictures:
                steps.draw(particles, Segmentation.open(str(steps.segmented)).classes)
        return notes


@dataclass(frozen=True)
class Evaluate:
    """Compares the particles with true ones."""

    truth: str
    """True particles."""
    settings: EvaluateSettings
    """How."""

    def __call__(self, steps: Steps) -> list[str]:
        """Notes of the comparison."""
        from deepfinder_dask.evaluation import evaluate
        from deepfinder_dask.particles import Particles, read_particles

        with reading_and_writing():
            found = Particles.read(steps.table)
            facts = found.tomograms[steps.name]
            truth = read_particles(
                self.truth, voxel_size=self.settings.voxel_size or facts.voxel_size, shape=facts.shape
            )
            if len(truth.tomograms) > 1:  # of all tomograms
                if steps.name not in truth.tomograms:
                    raise InputError(f"{self.truth} has no tomogram {steps.name!r}: give it a truth in a manifest")
                truth = truth.of_tomogram(steps.name)
            settings = replace(
                self.settings,
                mask=_filled(self.settings.mask, steps.name),
                truth_volume=_filled(self.settings.truth_volume, steps.name),
            )
            result = evaluate(truth, found, settings)
            with atomic_write(steps.folder / EVALUATION) as temporary:
                temporary.write_text(json.dumps(result.to_dict(), ensure_ascii=False, indent=1) + "\n")
            return list(result.notes)


@dataclass(frozen=True)
class Tell:
    """Writes ``provenance.json`` of a tomogram."""

    weights: str
    """Where the weights are."""
    seconds: dict[str, float]
    """Wall time of each stage."""
    notes: tuple[str, ...]
    """What stages had to assume."""
    input: dict[str, Any]
    """What identifies the input."""

    def __call__(self, steps: Steps) -> str:
        """Path of the file."""
        from deepfinder_dask.campaigns.provenance import locating_facts, write_provenance
        from deepfinder_dask.segmentation import Segmentation
        from deepfinder_dask.tomograms import Tomogram

        known = None
        if Path(steps.source).is_file() and self.input.get("sha256"):
            known = {"path": steps.source, "bytes": self.input["bytes"], "sha256": self.input["sha256"]}
        with reading_and_writing():
            facts = locating_facts(
                steps.source,
                steps.name,
                Tomogram.open(steps.converted),
                Segmentation.open(str(steps.segmented)),
                weights_of(self.weights, steps.settings.classes),
                steps.settings,
                weights_file=self.weights,
                particles=steps.table if steps.table.exists() else None,
                seconds=self.seconds,
                notes=self.notes,
                known_input=known,
            )
            return str(write_provenance(steps.folder, facts))


@dataclass(frozen=True)
class Digest:
    """Makes what the report shows of a tomogram, while its volumes are there."""

    def __call__(self, folder: str) -> None:
        """Make it, in the tomogram's folder."""
        from deepfinder_dask.campaigns.reporting.digests import digest_of
        from deepfinder_dask.campaigns.reporting.settings import LARGEST
        from deepfinder_dask.campaigns.reporting.states import read_state

        with reading_and_writing():
            digest_of(read_state(Path(folder)), LARGEST)  # the page makes it smaller


def _filled(text: str | None, name: str) -> str | None:
    return None if text is None else text.replace("{tomogram}", name)
