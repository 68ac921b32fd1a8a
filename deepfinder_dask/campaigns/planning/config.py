"""The campaign file: one TOML that says which tomograms, with which weights, in which steps, where.

::

    name = "chlamy"
    output = "chlamy_campaign"                # folder; paths count from the folder of this file
    weights = "ribosomes.safetensors"
    tomograms = ["raw/*.mrc", "manifest.csv"] # files, patterns, URLs, tables; or [tomograms] copick = "project.json"

    [stages]                                  # all of them unless said otherwise; evaluate where there is a truth
    evaluate = false

    [convert]                                 # the options of the verbs, with the names of their fields
    voxel_size = 13.5
    [segment]
    memory = "8GiB"
    [cluster]
    min_size = 50
    [export]
    files = ["particles.star", "copick"]
    [evaluate]
    tolerance = "1r"

    [workers]                                 # what computes: see docs/clusters; without it this process does
    kind = "local"
    processes = 2
    [limits]                                  # what the campaign may take at once, and how often it tries
    free_disk = "20GiB"
    [keep]                                    # what stays when a tomogram is done
    tomogram = false
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from deepfinder_dask.campaigns.planning.tables import settings_of
from deepfinder_dask.clustering.settings import ClusterSettings
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.evaluation.settings import EvaluateSettings
from deepfinder_dask.execution.toml_files import KeyedError, find_toml, toml_tables
from deepfinder_dask.particles.settings import ExportSettings
from deepfinder_dask.segmentation.settings import SegmentSettings
from deepfinder_dask.tomograms.settings import ConvertSettings

SHIPPED = Path(__file__).parent / "configs"
"""Folder of the campaign files that come with the package."""
GIB = 1024**3
STAGES = ("convert", "segment", "cluster", "export", "evaluate")
"""In the order of the work."""
EXPORTS = ("particles.csv", "particles.xml", "particles.star", "copick")
"""Exports beside the table, each in the format its name says."""
INSENSITIVE = {
    "convert": ("overwrite",),
    "segment": ("overwrite", "workers", "scheduler", "memory", "block"),
    "cluster": ("overwrite", "workers", "scheduler", "memory", "block"),
    "export": ("overwrite",),
    "evaluate": (),
}
"""Fields of each stage that change nothing in its result."""

_WORKERS = "what computes is said in [workers]"
_ALWAYS = "a campaign says it itself: run it with --overwrite"
_REFUSED: dict[str, dict[str, str]] = {
    "convert": {"overwrite": _ALWAYS},
    "segment": {"overwrite": _ALWAYS, "workers": _WORKERS, "scheduler": _WORKERS},
    "cluster": {
        "overwrite": _ALWAYS,
        "workers": _WORKERS,
        "scheduler": _WORKERS,
        "tomogram": "names are given in a manifest",
        "voxel_size": "give it in [convert] or in a manifest",
        "mask": "give it in [segment], which clustering follows",
        "border": "give it in [segment], which clustering follows",
    },
    "export": {"overwrite": _ALWAYS, "format": "the names in files say the formats"},
    "evaluate": {},
}
"""Fields that have no place in a campaign, and what to do instead."""


@dataclass(frozen=True)
class Stages:
    """Which steps are done with each tomogram."""

    convert: bool = True
    """Convert the files to OME-Zarr; without it they must be OME-Zarr already."""
    segment: bool = True
    """Classify every voxel."""
    cluster: bool = True
    """Turn the label maps into particles."""
    export: bool = True
    """Write particles for other programs, and pictures."""
    evaluate: bool = True
    """Compare particles with true ones, where a tomogram has such."""

    def __post_init__(self) -> None:
        if not self.segment and (self.cluster or self.export):
            raise SettingsError("cluster and export need segment: switch them off too")
        if self.export and not self.cluster:
            raise SettingsError("export needs cluster: switch it off too")

    def names(self) -> tuple[str, ...]:
        """Names of the steps that are done, in order."""
        return tuple(name for name in STAGES if getattr(self, name) and (name != "evaluate" or self.cluster))


@dataclass(frozen=True)
class Limits:
    """What a campaign may take at once, and how often it tries."""

    tomograms: int | None = None
    """Tomograms under way at once; by default two more than workers, one where there are none."""
    conversion: int | None = None
    """Conversions submitted at once; by default what keeps the workers busy."""
    inference: int | None = None
    """Blocks of segmentation submitted at once; by default what keeps the workers busy."""
    clustering: int | None = None
    """Tasks of clustering, export and evaluation submitted at once; by default what keeps the workers busy."""
    free_disk: int = GIB
    """Space that stays free on the disk of the output, in bytes, or like 20GiB: below it no tomogram is begun."""
    wait_for_disk: float = 3600.0
    """Seconds to wait for free disk before the campaign gives up, to be resumed by the same command."""
    retries: int = 3
    """How often a step is tried again after an error of reading or writing, or blocks that failed."""
    backoff: float = 2.0
    """Seconds before the first new try; doubled at each further one."""

    def __post_init__(self) -> None:
        for name in ("tomograms", "conversion", "inference", "clustering"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} is 1 or more, got {value}")
        for name in ("free_disk", "wait_for_disk", "retries", "backoff"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} is 0 or more, got {getattr(self, name)}")

    def windows(self) -> dict[str, int]:
        """Most tasks submitted at once, by kind of work."""
        kinds = {name: getattr(self, name) for name in ("conversion", "inference", "clustering")}
        return {name: limit for name, limit in kinds.items() if limit is not None}


@dataclass(frozen=True)
class Keep:
    """What stays when a tomogram is done; what goes is made again if it is ever needed."""

    tomogram: bool = True
    """The converted tomogram."""
    segmentation: bool = True
    """Label map and probability."""


@dataclass(frozen=True)
class Exports:
    """What stands beside the particles of each tomogram."""

    files: tuple[str, ...] = EXPORTS
    """Files, each in the format that its name says: particles.star, particles.tbl, copick, …"""
    pictures: bool = True
    """Also draw slices.png, projection.png and distributions.png."""

    def __post_init__(self) -> None:
        for name in self.files:
            if name in EXPORTS:
                continue
            if Path(name).name != name or name.startswith("."):  # else all tomograms would write one file
                raise SettingsError(f"files are plain names, each written for every tomogram, got {name!r}")
            from deepfinder_dask.particles.formats.registry import format_for_output

            try:
                format_for_output(name)
            except SettingsError as error:
                raise SettingsError(f"files: {error}") from error


@dataclass(frozen=True)
class Tomograms:
    """Where tomograms come from."""

    files: tuple[str, ...] = ()
    """Files, patterns, URLs, and manifests (.csv, .star)."""
    copick: str | None = None
    """Configuration of a copick project whose tomograms are taken."""
    voxel_spacing: float | None = None
    """copick: voxel spacing of the tomograms, in Å; by default the only one there is."""
    tomo_type: str | None = None
    """copick: kind of tomogram, such as wbp or denoised; by default the only one there is."""

    def __post_init__(self) -> None:
        if not self.files and self.copick is None:
            raise SettingsError("expected files or copick, found neither: name some tomograms")


@dataclass(frozen=True)
class CampaignConfig:
    """A campaign, as its file says it."""

    name: str
    """What it is called."""
    output: str
    """Folder that everything is left in."""
    tomograms: Tomograms
    """Which tomograms."""
    weights: str | None = None
    """Weights file, or the name of weights that come with the package; not needed where nothing is segmented."""
    truth: str | None = None
    """True particles, or a pattern such as truth/{tomogram}.star; a manifest can name them too."""
    stages: Stages = field(default_factory=Stages)
    """Which steps."""
    convert: ConvertSettings = field(default_factory=ConvertSettings)
    """How files are converted."""
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    """How tomograms are segmented."""
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    """How label maps become particles."""
    export: ExportSettings = field(default_factory=ExportSettings)
    """How particles are written for other programs."""
    exports: Exports = field(default_factory=Exports)
    """What is written."""
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    """How particles are compared with true ones."""
    workers: Mapping[str, Any] = field(default_factory=dict)
    """What computes, as in the file."""
    limits: Limits = field(default_factory=Limits)
    """What it may take at once."""
    keep: Keep = field(default_factory=Keep)
    """What stays."""
    folder: Path = Path()
    """Folder of the file, from which paths count."""
    file: str = ""
    """The file, for messages."""

    def path(self, text: str) -> str:
        """A path as the file means it; URLs stay as they are."""
        return text if "://" in text else str(self.folder / Path(text).expanduser())

    @property
    def home(self) -> Path:
        """Folder that everything is left in."""
        return Path(self.path(self.output))

    def relevant(self, stage: str) -> dict[str, Any]:
        """Settings that the result of a stage follows from, JSON."""
        facts = asdict(getattr(self, stage))
        for name in INSENSITIVE[stage]:
            facts.pop(name, None)
        if stage == "export":
            facts |= asdict(self.exports)
        return facts


def find_config(source: str | Path) -> Path:
    """Path of a campaign file: a TOML file, or the name of one that comes with the package.

    Raises
    ------
    SettingsError
        If there is neither.
    """
    return find_toml(source, SHIPPED, "campaign")


def read_campaign(source: str | Path) -> CampaignConfig:
    """Read a campaign file.

    Raises
    ------
    SettingsError
        If there is no such file, it is no TOML, or a key is missing, unknown or cannot work; key and line are named.
    """
    path = find_config(source)
    # What comes with the package leaves its output where the user is.
    folder = Path.cwd() if path.parent == SHIPPED else path.resolve().parent
    with toml_tables(path) as tables:
        return replace(campaign_of(tables, folder), file=str(path.absolute()))


def campaign_of(tables: Mapping[str, Any], folder: Path) -> CampaignConfig:
    """A campaign from the tables of a TOML file; raises as `read_campaign`, without the line."""
    plain: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    kinds: dict[str, Any] = {
        "stages": Stages,
        "convert": ConvertSettings,
        "segment": SegmentSettings,
        "cluster": ClusterSettings,
        "evaluate": EvaluateSettings,
        "limits": Limits,
        "keep": Keep,
    }
    for key, value in tables.items():
        if key == "tomograms":
            parts[key] = _tomograms(value)
        elif key in (*kinds, "export", "workers"):
            if not isinstance(value, Mapping):
                raise KeyedError(f"{key} must be a table: write [{key}], with its keys below, got {value!r}", key)
            if key == "workers":
                parts[key] = _workers(value)
            elif key == "export":
                own = {name: v for name, v in value.items() if name in ("files", "pictures")}
                parts["exports"] = settings_of(Exports, own, key, {})
                parts[key] = settings_of(ExportSettings, value, key, _REFUSED[key], extra=("files", "pictures"))
            else:
                parts[key] = settings_of(kinds[key], value, key, _REFUSED.get(key, {}))
        else:
            plain[key] = value
    if "tomograms" not in parts:
        raise KeyedError("expected a key 'tomograms': files, patterns, manifests, or a table, found none", "")
    top = settings_of(_Top, plain, "", {}, extra=("tomograms", *kinds, "export", "workers"))
    config = CampaignConfig(**asdict(top), **parts, folder=folder)
    if config.weights is None and config.stages.segment:
        raise KeyedError("expected a key 'weights': a weights file, or demo, found none", "")
    return _placed(config)


@dataclass(frozen=True)
class _Top:
    """Keys before the first table."""

    name: str
    output: str
    weights: str | None = None
    truth: str | None = None

    def __post_init__(self) -> None:
        if "://" in self.output:
            raise SettingsError(f"output is a local folder, got {self.output}")


def _workers(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table of workers, checked."""
    from deepfinder_dask.execution.clusters.reading import read_workers

    try:
        read_workers(table)
    except SettingsError as error:
        name, _, key = str(error).partition(":")[0].rpartition(".")
        raise KeyedError(str(error), key, name or "workers") from error
    return dict(table)


def _tomograms(value: Any) -> Tomograms:
    """Tomograms from a text, a list of texts, or a table."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        if not value or not all(isinstance(one, str) for one in value):
            raise KeyedError(
                f"tomograms must be files, patterns, URLs or manifests in quotes, got {value!r}", "tomograms"
            )
        return Tomograms(tuple(value))
    if not isinstance(value, Mapping):
        raise KeyedError(f"tomograms must be text in quotes, a list of them, or a table, got {value!r}", "tomograms")
    return settings_of(Tomograms, value, "tomograms", {})


def _placed(config: CampaignConfig) -> CampaignConfig:
    """Paths in settings, counted from the folder of the file."""

    def settled(settings: Any, *names: str) -> Any:
        held = {name: getattr(settings, name) for name in names}
        return replace(settings, **{name: config.path(value) for name, value in held.items() if value is not None})

    weights = config.weights
    if weights is not None and (Path(weights).suffix or (config.folder / weights).exists()):
        weights = config.path(weights)
    return replace(
        config,
        weights=weights,
        truth=None if config.truth is None else config.path(config.truth),
        segment=settled(config.segment, "mask"),
        cluster=settled(config.cluster, "classes"),
        export=settled(config.export, "tomograms_star"),
        evaluate=settled(config.evaluate, "truth_volume", "mask", "classes"),
    )
