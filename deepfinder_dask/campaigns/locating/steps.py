"""The steps from a tomogram file to its particles, each of which leaves its result in one folder.

``locate`` takes them one after the other for one tomogram, a campaign for many at once.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfinder_dask.campaigns.settings import LocateSettings
from deepfinder_dask.clustering.settings import ClusterSettings
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.segmentation.settings import SegmentSettings
from deepfinder_dask.tomograms.settings import ConvertSettings

# A step imports what it does: no process loads what only others need.
if TYPE_CHECKING:
    from deepfinder_dask.execution import Executor
    from deepfinder_dask.networks import Weights
    from deepfinder_dask.particles import Particles
    from deepfinder_dask.segmentation import Segmentation

EXPORTS = ("particles.csv", "particles.xml", "particles.star", "copick")
"""Exports beside the table, each in the format its name says."""
TOMOGRAM, SEGMENTATION, PARTICLES = "tomogram.zarr", "segmentation.zarr", "particles.parquet"
EVALUATION = "evaluation.json"

_noting = threading.local()
_noting_now = threading.Lock()


@dataclass(frozen=True)
class Steps:
    """One tomogram on its way to its particles; picklable, without its weights."""

    source: str
    """File that is converted."""
    name: str
    """What the tomogram is called."""
    folder: Path
    """Where everything is left."""
    settings: LocateSettings
    """How."""
    tomogram: str | None = None
    """A converted tomogram that is used as it is; by default the one that ``convert`` leaves in the folder."""
    clustered_by: Mapping[str, Any] = field(default_factory=dict)
    """Settings of clustering that differ from those of segmenting: its blocks and memory."""

    @property
    def converted(self) -> str:
        """Where the converted tomogram is."""
        return self.tomogram or str(self.folder / TOMOGRAM)

    @property
    def segmented(self) -> Path:
        """Where the segmentation is."""
        return self.folder / SEGMENTATION

    @property
    def table(self) -> Path:
        """Where the particles are."""
        return self.folder / PARTICLES

    @property
    def clustering(self) -> ClusterSettings:
        """How the label map is clustered."""
        own: dict[str, Any] = {
            "overwrite": True,
            "voxel_size": None,
            "classes": None,
            "tomogram": self.name,
            **self.clustered_by,
        }
        return self.settings.part(ClusterSettings, **own)

    def convert(self, *, progress: bool) -> None:
        """Convert the file; half of an earlier conversion is replaced."""
        from deepfinder_dask.tomograms import convert

        convert(self.source, self.converted, self.settings.part(ConvertSettings, overwrite=True), progress=progress)

    def check(self, weights: Weights) -> None:
        """Refuse what segmenting or clustering would refuse later."""
        from deepfinder_dask.clustering.request import check_request
        from deepfinder_dask.segmentation.matching import check_match
        from deepfinder_dask.tomograms import Tomogram

        converted = Tomogram.open(self.converted)
        if not finished(self.segmented):
            check_match(converted, weights, self.settings.part(SegmentSettings), name=self.source)
        with _noting_now:  # it silences warnings for a moment, which is for all threads
            check_request(tuple(weights.classes), converted.shape, converted.voxel_size, self.clustering, self.source)

    def segment(self, weights: Weights, executor: Executor, *, progress: bool | None) -> Segmentation:
        """Segment the converted tomogram; begun before, it goes on."""
        from deepfinder_dask.segmentation import Segmentation, segment

        if finished(self.segmented):
            return Segmentation.open(str(self.segmented))
        settings = self.settings.part(SegmentSettings, overwrite=False)
        return segment(
            self.converted, weights, self.segmented, settings, executor=executor, progress=progress, name=self.name
        )

    def cluster(self, executor: Executor | None = None, *, progress: bool) -> Particles:
        """Cluster the label map; an older table is replaced."""
        from deepfinder_dask.clustering import cluster

        return cluster(self.segmented, self.table, self.clustering, executor=executor, progress=progress)

    def export(
        self, particles: Particles, files: Sequence[str] = EXPORTS, settings: ExportSettings | None = None
    ) -> None:
        """Write the particles for other programs; older files are replaced."""
        from deepfinder_dask.particles import export

        chosen = replace(settings or ExportSettings(), overwrite=True)
        for file in files:
            export(particles, self.folder / file, chosen)

    def draw(self, particles: Particles, classes: Sequence[Any]) -> list[Path]:
        """Draw the pictures."""
        from deepfinder_dask.tomograms import Tomogram, open_image
        from deepfinder_dask.viewing import write_pictures

        labels = open_image(f"{self.segmented}/labels")
        return write_pictures(Tomogram.open(self.converted), labels, particles, self.folder, classes=classes)


def finished(store: Path) -> bool:
    """Whether a store is there, and whole."""
    from deepfinder_dask.tomograms import is_finished

    return store.exists() and is_finished(store)


@contextmanager
def noted(notes: list[str]) -> Iterator[None]:
    """Take down what a step on this thread had to assume, in place of warning of it; other warnings pass.

    Filters of warnings are for all threads of a process: they are set when the first of several threads comes, and set
    back when the last one leaves.
    """
    _listeners.enter(notes)
    try:
        yield
    finally:
        _listeners.leave()


class _Listeners:
    """Threads that take down their notes just now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._before: Any = None

    def enter(self, notes: list[str]) -> None:
        from deepfinder_dask.clustering import ClusterWarning
        from deepfinder_dask.particles import ParticlesWarning

        with self._lock:
            if self._count == 0:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                show = warnings.showwarning

                def listen(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
                    held: list[str] | None = getattr(_noting, "notes", None)
                    if held is not None and issubclass(category, ClusterWarning | ParticlesWarning):
                        held.append(str(message))
                    else:
                        show(message, category, *place, **more)

                warnings.showwarning = listen
                for category in (ClusterWarning, ParticlesWarning):
                    warnings.simplefilter("always", category)
            self._count += 1
        _noting.notes = notes

    def leave(self) -> None:
        _noting.notes = None
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._before.__exit__(None, None, None)


_listeners = _Listeners()
