"""What the page needs of one tomogram, in a few kilobytes; kept beside it, so that the next report need not look again.

A report therefore holds digests and pictures of bounded size, one tomogram's particles at a time, and no volume.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from math import floor, log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.campaigns.reporting.snapshots import Snapshot, shrunk, snapshot
from deepfinder_dask.campaigns.reporting.states import State
from deepfinder_dask.errors import DeepFinderError, StorageError
from deepfinder_dask.particles import ParticleClass, Particles, classes_from_dicts, classes_to_dicts
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.tomograms import Tomogram, is_finished, open_image, read_attributes

LAYOUT = 1
"""Version of what is kept."""
KEPT = ".digest.json"
"""Where it is kept, in the tomogram's folder."""
SCORE_BINS = 40
"""Bins of a histogram of scores from 0 to 1."""
PER_DECADE = 40
"""Bins of a histogram of sizes from each power of ten to the next: each 6 % wide."""


@dataclass(frozen=True)
class ClassDigest:
    """Particles of one class in one tomogram."""

    count: int
    """How many."""
    size: float | None = None
    """Median size, in voxels; None where unknown."""
    score: float | None = None
    """Median score; None where unknown."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """How many sizes are in each bin that holds any: ``str(floor(40 log10(size)))``."""
    scores: tuple[int, ...] = ()
    """How many scores are in each of 40 bins from 0 to 1."""


@dataclass(frozen=True)
class Digest:
    """What the page says of one tomogram."""

    classes: tuple[ParticleClass, ...] = ()
    """Classes of its particles and labels."""
    particles: Mapping[str, ClassDigest] = field(default_factory=dict)
    """By name of class, kind particle only."""
    shape: tuple[int, ...] | None = None
    """Voxels, (z, y, x)."""
    voxel_size: tuple[float, ...] | None = None
    """Å per voxel, (z, y, x)."""
    grey: Mapping[str, Any] = field(default_factory=dict)
    """Statistics of its grey values, as :class:`~deepfinder_dask.tomograms.Statistics` names them."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """``overall`` and ``classes`` of its evaluation; empty where there was none."""
    notes: tuple[str, ...] = ()
    """What steps had to assume, and what cannot be read."""
    picture: Snapshot | None = None
    """None where there is nothing to draw."""

    @property
    def count(self) -> int:
        """Particles of all classes."""
        return sum(one.count for one in self.particles.values())

    @property
    def volume(self) -> float | None:
        """Volume in nm³; None where shape or voxel size are unknown."""
        if self.shape is None or self.voxel_size is None:
            return None
        return float(np.prod(self.shape) * np.prod(self.voxel_size) / 1000)

    @property
    def f1(self) -> float | None:
        """F1 of all classes, where it was evaluated."""
        found = self.evaluation.get("overall", {}).get("f1")
        return float(found) if isinstance(found, int | float) else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {**asdict(self), "classes": classes_to_dicts(self.classes)}
        return plain | {"picture": None if self.picture is None else self.picture.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Digest:
        """The inverse of :meth:`to_dict`."""
        particles = {
            name: ClassDigest(**{**one, "scores": tuple(one["scores"])}) for name, one in values["particles"].items()
        }
        picture = values["picture"]
        return cls(
            **{
                **values,
                "classes": classes_from_dicts(values["classes"]),
                "particles": particles,
                "shape": None if values["shape"] is None else tuple(values["shape"]),
                "voxel_size": None if values["voxel_size"] is None else tuple(values["voxel_size"]),
                "notes": tuple(values["notes"]),
                "picture": None if picture is None else Snapshot.from_dict(picture),
            }
        )


def digest_of(state: State, picture_bytes: int) -> Digest:
    """The digest of a tomogram: the one that is kept where nothing was done since, else a new one, which is kept.

    A kept picture that is too large is made smaller, without a look at the volumes, which may be gone.

    Parameters
    ----------
    state : State
        The tomogram.
    picture_bytes : int
        Bytes that its picture may take; 0 for none.
    """
    if not state.done:
        return Digest(notes=() if state.reason is None else (state.reason,))
    file, key = state.folder / KEPT, [LAYOUT, state.key]
    kept: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
        kept = found if isinstance(found, dict) and found.get("key") == key else {}
    with suppress(ValueError, KeyError, TypeError, DeepFinderError):
        # A larger picture needs the volumes: where they are gone, the one that is kept is better than none.
        if kept and (kept["made_for"] >= picture_bytes or not _volumes(state.folder)):
            digest = Digest.from_dict(kept["digest"])
            if picture_bytes == 0 or digest.picture is None:
                return replace(digest, picture=None)
            if digest.picture.size <= picture_bytes:
                return digest
            small = kept.get("small", {})
            if small.get("limit") != picture_bytes:
                picture = shrunk(digest.picture, picture_bytes)
                _keep(file, {**kept, "small": {"limit": picture_bytes, "picture": picture.to_dict()}})
                return replace(digest, picture=picture)
            return replace(digest, picture=Snapshot.from_dict(small["picture"]))
    digest = make_digest(state.folder, picture_bytes)
    _keep(file, {"key": key, "made_for": picture_bytes, "digest": digest.to_dict()})
    return digest


def make_digest(folder: Path, picture_bytes: int) -> Digest:
    """Look at everything in a tomogram's folder; what cannot be read is told in the notes."""
    notes: list[str] = []
    provenance, evaluation = _json(folder / "provenance.json", notes), _json(folder / "evaluation.json", notes)
    particles = None
    with _told(notes):
        if (folder / "particles.parquet").is_file():
            particles = Particles.read(folder / "particles.parquet")
    told = provenance.get("tomogram") if isinstance(provenance.get("tomogram"), dict) else {}
    tomogram = None
    with _told(notes):
        if (folder / "tomogram.zarr").is_dir():
            tomogram = Tomogram.open(folder / "tomogram.zarr")
    store = folder / "segmentation.zarr"
    classes = () if particles is None else particles.classes
    picture = None
    with _told(notes):
        labels = None
        if store.is_dir() and is_finished(store):
            classes = classes_from_dicts(read_attributes(store).get("classes", classes_to_dicts(classes)))
            labels = open_image(f"{store}/labels")
        if tomogram is not None and picture_bytes > 0:
            picture = snapshot(tomogram, labels, particles, classes, limit=picture_bytes)
    statistics = told.get("statistics") if told else None
    if statistics is None and tomogram is not None and tomogram.statistics is not None:
        statistics = tomogram.statistics.to_dict()
    shape, size = (told or {}).get("shape"), (told or {}).get("voxel_size")
    if tomogram is not None:
        shape, size = tomogram.shape, tomogram.voxel_size
    return Digest(
        classes=classes,
        particles={} if particles is None else _by_class(particles),
        shape=None if shape is None else tuple(shape),
        voxel_size=None if size is None else tuple(size),
        grey=statistics or {},
        evaluation={name: evaluation[name] for name in ("overall", "classes") if name in evaluation},
        notes=(*(str(note) for note in provenance.get("notes", ())), *notes),
        picture=picture,
    )


def size_bin(size: float) -> int:
    """Bin of a size in voxels, 1 or more."""
    return floor(PER_DECADE * log10(size) + 1e-9)


def _by_class(particles: Particles) -> dict[str, ClassDigest]:
    table = particles.table
    sizes = table["size_voxels"].to_numpy(dtype=np.float64, na_value=np.nan)
    scores = table["score"].to_numpy(dtype=np.float64)
    labels = table["label"].to_numpy()
    found = {}
    for one in particles.classes:
        if one.kind == "particle":
            rows = labels == one.label
            found[one.name] = _class_digest(sizes[rows], scores[rows])
    return found


def _class_digest(sizes: NDArray[np.float64], scores: NDArray[np.float64]) -> ClassDigest:
    known, scored = sizes[sizes >= 1], scores[np.isfinite(scores)]
    bins, counts = np.unique(np.floor(PER_DECADE * np.log10(known) + 1e-9).astype(int), return_counts=True)
    return ClassDigest(
        count=len(sizes),
        size=float(np.median(known)) if known.size else None,
        score=float(np.median(scored)) if scored.size else None,
        sizes={str(b): int(n) for b, n in zip(bins, counts, strict=True)},
        scores=tuple(int(n) for n in np.histogram(scored, SCORE_BINS, (0.0, 1.0))[0]) if scored.size else (),
    )


def _keep(file: Path, kept: Mapping[str, Any]) -> None:
    """Write what is kept; a folder that is read-only is reported all the same."""
    with suppress(StorageError), atomic_write(file) as temporary:
        temporary.write_text(json.dumps(kept), encoding="utf-8")


def _volumes(folder: Path) -> bool:
    """Whether there is still something to draw."""
    return (folder / "tomogram.zarr").is_dir()


def _json(path: Path, notes: list[str]) -> dict[str, Any]:
    """Content of a JSON file; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read: {error}")
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _told(notes: list[str]) -> Iterator[None]:
    """Take down what cannot be read instead of failing: one damaged tomogram never stops the report of the others."""
    try:
        yield
    except (DeepFinderError, OSError, ValueError, KeyError, TypeError) as error:
        notes.append(" ".join(str(error).split()))
