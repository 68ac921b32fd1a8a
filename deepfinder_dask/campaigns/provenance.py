"""Where a particle list comes from: everything that is needed to make it again, as JSON beside it.

``summary.json`` of one ``locate`` and ``provenance.json`` of each tomogram of a campaign hold the same facts, gathered
here; :func:`~deepfinder_dask.campaigns.reproduce` makes the particles again from either.
"""

from __future__ import annotations

import hashlib
import json
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from deepfinder_dask.clustering.bandwidths import groups_of, method_of
from deepfinder_dask.clustering.settings import ClusterSettings
from deepfinder_dask.errors import FormatError, InputError
from deepfinder_dask.networks import machine_kind, resolve_weights
from deepfinder_dask.networks.weights import PRETRAINED
from deepfinder_dask.particles import classes_to_dicts
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.segmentation.store import ledger_of
from deepfinder_dask.tomograms.location import ROOT_METADATA, is_remote, is_zarr, normalise, read_key
from deepfinder_dask.tomograms.sources import split_dataset

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from deepfinder_dask.campaigns.settings import LocateSettings
    from deepfinder_dask.clustering.shift_job import Group
    from deepfinder_dask.networks import Weights
    from deepfinder_dask.segmentation import Segmentation
    from deepfinder_dask.tomograms import Tomogram

PROVENANCE = "provenance.json"
"""Name of the file."""
LAYOUT = 1
"""Version of the layout of the file."""
PARTICLES = "particles.parquet"
"""The list whose origin is told."""
PACKAGES = (
    "torch",
    "dask",
    "distributed",
    "zarr",
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-image",
    "numba",
    "connected-components-3d",
    "pandas",
    "pyarrow",
    "safetensors",
    "mrcfile",
    "tifffile",
    "h5py",
)
"""Packages whose versions are told: those that read, compute or write."""
PIECE = 2**22
"""Bytes of a file that are hashed at a time."""


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that read, compute or write; loads none of them."""
    from deepfinder_dask import __version__

    found = {"deepfinder_dask": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file, read piece by piece.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as stream:
            while piece := stream.read(PIECE):
                digest.update(piece)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def hash_metadata(store: str) -> str:
    """SHA-256 of what a Zarr store says of itself, at its root and at its full resolution."""
    keys = [f"{folder}{name}" for folder in ("", "0/") for name in ROOT_METADATA]
    return hashlib.sha256(b"\0".join(read_key(store, key) or b"" for key in keys)).hexdigest()


def input_facts(path: str | Path) -> dict[str, Any]:
    """What identifies an input: SHA-256 of a local file; of a store, SHA-256 of its metadata.

    The grey values of a store are told apart by the statistics that stand beside these facts.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    file = split_dataset(path)[0]
    facts: dict[str, Any] = {"path": normalise(path)}
    if is_zarr(file):
        return facts | {"metadata_sha256": hash_metadata(file)}
    if is_remote(file):
        return facts  # a URL that is no store: convert refuses it
    digest = hash_file(file)  # tells of a file that is not there
    return facts | {"bytes": Path(file).stat().st_size, "sha256": digest}


def lasting_name(weights: str | Path) -> str:
    """Name of a weights file that is the same from everywhere: its full path, or the name of weights in the package.

    Raises
    ------
    InputError
        If there are no such weights.
    """
    path = resolve_weights(weights)
    return path.stem if path.parent == PRETRAINED else str(path.absolute())


def weights_facts(weights: Weights, file: str | Path | None = None) -> dict[str, Any]:
    """What identifies weights, and the classes they were used with.

    Parameters
    ----------
    weights : Weights
        The network, with the classes that it was used with.
    file : str or path, optional
        Where it was read from, or the name of weights that come with the package.
    """
    return {
        "sha256": weights.sha256,
        "voxel_size": weights.voxel_size,
        "file": None if file is None else str(file),
        "classes": classes_to_dicts(weights.classes),
        "provenance": dict(weights.provenance),
    }


def locating_facts(
    source: str | Path,
    name: str,
    tomogram: Tomogram,
    segmentation: Segmentation,
    weights: Weights,
    settings: LocateSettings,
    *,
    weights_file: str | Path | None = None,
    particles: str | Path | None = None,
    seconds: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
    known_input: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that a tomogram's particles follow from.

    Parameters
    ----------
    source : str or path
        File that was converted.
    name : str
        What the tomogram is called in tables.
    tomogram : Tomogram
        The converted tomogram.
    segmentation : Segmentation
        Its segmentation, finished.
    weights : Weights
        With the classes that were used.
    settings : LocateSettings
        As asked for.
    weights_file : str or path, optional
        Where the weights were read from.
    particles : str or path, optional
        The particles' Parquet file, to tell its hash.
    seconds : mapping, optional
        Wall time of each step, in seconds.
    notes : sequence of str
        What steps had to assume, one sentence each.
    known_input : mapping, optional
        What identifies the input, where somebody has read it already.

    Returns
    -------
    dict
        JSON values: ``written`` (UTC), ``version``, ``versions``, ``platform``, ``tomogram``, ``input``, ``mask``,
        ``weights``, ``settings`` (as asked for), ``resolved`` (as used: device, instruction set, grid, method and
        bandwidths in voxels), ``identity`` of the segmentation, ``segmentation``, ``seconds``, ``notes``, ``outputs``.
    """
    facts = {
        **_here(),
        "tomogram": {
            "name": name,
            "source": normalise(source),
            "shape": tomogram.shape,
            "voxel_size": tomogram.voxel_size,
            "imaging": tomogram.imaging.to_dict(),
            "statistics": tomogram.statistics.to_dict() if tomogram.statistics else None,
        },
        "input": input_facts(source) if known_input is None else dict(known_input),
        "mask": None if settings.mask is None else input_facts(settings.mask),
        "weights": weights_facts(weights, weights_file),
        "settings": asdict(settings),
        "resolved": _resolved(tomogram, segmentation, weights, settings),
        "identity": (ledger_of(segmentation.path).plan() or {}).get("identity"),
        "segmentation": dict(segmentation.attributes.get("plan", {})),
        "seconds": dict(seconds or {}),
        "notes": list(notes),
        "outputs": {} if particles is None else {PARTICLES: hash_file(particles)},
    }
    return cast("dict[str, Any]", _plain(facts))


def _here() -> dict[str, Any]:
    """When, with which versions and on what system."""
    found = versions()
    return {
        "layout": LAYOUT,
        "written": now(),
        "version": found["deepfinder_dask"],
        "versions": found,
        "platform": platform.platform(),
    }


def campaign_facts(
    settings: Mapping[str, Any] | DataclassInstance, weights: Weights | None = None, weights_file: str | None = None
) -> dict[str, Any]:
    """What all tomograms of a campaign share: versions, machine, weights and settings.

    Parameters
    ----------
    settings : mapping or dataclass
        The whole configuration, resolved.
    weights : Weights, optional
        With the classes that are used.
    weights_file : str, optional
        Where the weights were read from.
    """
    facts = {
        **_here(),
        "machine": machine_kind(),
        "weights": None if weights is None else weights_facts(weights, weights_file),
        "settings": dict(settings) if isinstance(settings, Mapping) else settings,
    }
    return cast("dict[str, Any]", _plain(facts))


def write_provenance(folder: str | Path, facts: Mapping[str, Any]) -> Path:
    """Write ``provenance.json`` into a folder, whole or not at all; its path.

    Parameters
    ----------
    folder : str or path
        Folder of a tomogram or of a campaign.
    facts : mapping
        What :func:`locating_facts` or :func:`campaign_facts` gathered, and whatever else.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    path = Path(folder) / PROVENANCE
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(_plain(facts), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Facts in a provenance file.

    Parameters
    ----------
    path : str or path
        The file, ``summary.json`` of ``locate``, or the folder that holds either.

    Raises
    ------
    InputError
        If there is none.
    FormatError
        If it does not hold such facts.
    """
    path = Path(path)
    if path.is_dir():
        held = [path / name for name in (PROVENANCE, "summary.json") if (path / name).is_file()]
        if not held:
            raise InputError(f"{path}: expected {PROVENANCE} or summary.json in it, found neither")
        path = held[0]
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise FormatError(f"{path}: expected JSON: {error}") from error
    if not isinstance(facts, dict) or facts.get("layout") != LAYOUT:
        found = facts.get("layout") if isinstance(facts, dict) else None
        raise FormatError(f"{path}: expected provenance of layout {LAYOUT}, found {found or 'none'}")
    return facts


def now() -> str:
    """The time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _resolved(
    tomogram: Tomogram, segmentation: Segmentation, weights: Weights, settings: LocateSettings
) -> dict[str, Any]:
    """Settings as they were used, where the ones asked for leave something open."""
    clustering = settings.part(ClusterSettings)
    kinds = [one for one in weights.classes if one.kind == "particle"]
    structures = [one.label for one in weights.classes if one.kind == "structure"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # told of when it was clustered
        method = method_of(kinds, clustering, segmentation.path)
    groups: tuple[Group, ...] = ()
    if method == "mean-shift":
        groups = groups_of(kinds, structures, clustering, tomogram.voxel_size, segmentation.path)
    plan = ledger_of(segmentation.path).plan() or {}
    return {
        "voxel_size": tomogram.voxel_size,
        **segmentation.attributes.get("workers", {}),
        "grid": plan.get("blocks") or segmentation.attributes.get("plan"),
        "method": method,
        "bandwidths": [{"labels": group.labels, "voxels": group.bandwidth} for group in groups],
        "connectivity": (clustering.connectivity or 6) if method == "components" else None,
    }


def _plain(value: Any) -> Any:
    """As it comes back from a JSON file."""
    return json.loads(json.dumps(value, default=_as_json))


def _as_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
