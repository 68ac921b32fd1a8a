"""The tomograms of a campaign: files, patterns, URLs, manifests and copick projects, each with a name of its own."""

from __future__ import annotations

import csv
import glob
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from deepfinder_dask.campaigns.planning.config import CampaignConfig
from deepfinder_dask.errors import InputError, SettingsError
from deepfinder_dask.tomograms.location import base_name, normalise

MANIFESTS = (".csv", ".tsv", ".star")
_NAME = re.compile(r"[^\s/\\.][^/\\\n]*")
_COLUMNS: dict[str, tuple[str, ...]] = {
    "source": ("path", "source", "file", "tomogram", "rlnTomoReconstructedTomogram", "wrpTomogram"),
    "name": ("name", "rlnTomoName"),
    "voxel_size": ("voxel_size", "pixel_size"),
    "truth": ("truth",),
    "mask": ("mask",),
    "contrast": ("contrast",),
    "tilt_axis": ("tilt_axis",),
}
"""Columns of a manifest by what they say."""


@dataclass(frozen=True)
class Entry:
    """One tomogram of a campaign."""

    name: str
    """What it is called, in tables and as a folder."""
    source: str
    """File, store or URL."""
    voxel_size: float | None = None
    """Å per voxel, where the manifest says it."""
    truth: str | None = None
    """Its true particles."""
    mask: str | None = None
    """Its mask volume."""
    contrast: str | None = None
    """Contrast, where the manifest says it."""
    tilt_axis: str | None = None
    """Tilt axis, where the manifest says it."""


def find_entries(config: CampaignConfig, known: Mapping[str, str] | None = None) -> list[Entry]:
    """All tomograms of a campaign, in the order of its file; patterns sorted.

    Parameters
    ----------
    config : CampaignConfig
        The campaign.
    known : mapping, optional
        Names by source, as an earlier run gave them: they stay.

    Raises
    ------
    InputError
        A pattern fits no file, a manifest cannot be read, or two tomograms would have one name.
    """
    found: dict[str, Entry] = {}
    for entry in _all(config):
        held = found.setdefault(entry.source, entry)
        if held is not entry:  # a manifest of files that a pattern found adds what it knows
            said = {f.name: getattr(entry, f.name) for f in fields(Entry) if not getattr(held, f.name)}
            found[entry.source] = replace(held, **said)
    entries = _named(list(found.values()), known or {})
    if not entries:
        raise InputError(f"{config.file}: expected at least one tomogram, found none")
    if config.truth is not None:
        truth = config.truth
        entries = [
            one if one.truth is not None else replace(one, truth=truth.replace("{tomogram}", one.name))
            for one in entries
        ]
    return entries


def _all(config: CampaignConfig) -> Iterator[Entry]:
    for text in config.tomograms.files:
        path = config.path(text)
        if path.lower().endswith(MANIFESTS):
            yield from read_manifest(path)
        elif any(sign in path for sign in "*?["):
            yield from (Entry("", one) for one in _matching(path, text))
        else:
            yield Entry("", normalise(path))
    if config.tomograms.copick is not None:
        yield from copick_entries(config)


def _matching(pattern: str, text: str) -> list[str]:
    """Files or stores that fit a pattern, sorted."""
    if "://" in pattern:
        import fsspec

        files, inner = fsspec.core.url_to_fs(pattern)
        found = [str(files.unstrip_protocol(one)) for one in files.glob(inner)]
    else:
        found = [normalise(one) for one in glob.glob(pattern, recursive=True)]  # noqa: PTH207  # of any root
    if not found:
        raise InputError(f"no tomogram fits {text!r}: paths count from the folder of the campaign file")
    return sorted(found)


def read_manifest(path: str) -> list[Entry]:
    """Tomograms of a table: CSV with a header, or the first STAR table that names tomograms.

    Raises
    ------
    InputError
        The file is missing, has no column of paths, or a value cannot be read; the row is named.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file (expected a manifest)")
    try:
        rows = _star_rows(path) if path.lower().endswith(".star") else _csv_rows(path)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}): save it as CSV in UTF-8, or STAR") from error
    if not rows:
        raise InputError(f"{path}: expected at least one tomogram, found none")
    columns = {what: next((c for c in names if c in rows[0]), None) for what, names in _COLUMNS.items()}
    if columns["source"] is None:
        raise InputError(f"{path}: expected a column {' or '.join(_COLUMNS['source'])}, found {', '.join(rows[0])}")
    folder = Path(path).absolute().parent
    entries = []
    for number, row in enumerate(rows, 1):
        values: dict[str, Any] = {what: str(row[c]).strip() for what, c in columns.items() if c and row.get(c)}
        values = {what: text for what, text in values.items() if text}
        for what in ("source", "truth", "mask"):
            if what in values and "://" not in values[what]:
                values[what] = normalise(folder / values[what])
        if "source" not in values:
            raise InputError(f"{path}: row {number} names no tomogram")
        size = values.get("voxel_size") or _star_voxel_size(row)
        try:
            values["voxel_size"] = None if size is None else float(size)
        except ValueError as error:
            raise InputError(f"{path}: row {number}: expected a voxel size in Å, got {size!r}") from error
        entries.append(Entry(**({"name": ""} | values)))
    return entries


def _csv_rows(path: str) -> list[dict[str, Any]]:
    text = Path(path).read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    delimiter = "\t" if path.lower().endswith(".tsv") else ","
    return [{(k or "").strip(): v for k, v in row.items()} for row in csv.DictReader(lines, delimiter=delimiter)]


def _star_rows(path: str) -> list[dict[str, Any]]:
    import starfile

    tables = starfile.read(path, always_dict=True)
    wanted = _COLUMNS["source"]
    for table in tables.values():
        if hasattr(table, "columns") and any(name in table.columns for name in wanted):
            return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    return []


def _star_voxel_size(row: Mapping[str, Any]) -> float | None:
    """Å per voxel of a reconstruction as RELION 5 tells it."""
    pixel, binning = row.get("rlnTomoTiltSeriesPixelSize"), row.get("rlnTomoTomogramBinning")
    return None if pixel is None or binning is None else float(pixel) * float(binning)


def copick_entries(config: CampaignConfig) -> list[Entry]:
    """Tomograms of a copick project on a local disk or URL, one of each run.

    Raises
    ------
    InputError
        The configuration cannot be read, or does not say which tomograms.
    """
    chosen = config.tomograms
    file = Path(config.path(chosen.copick or ""))
    try:
        project = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: expected the configuration of a copick project: {error}") from error
    roots = [str(project[key]) for key in ("static_root", "overlay_root") if project.get(key)]
    entries: dict[str, Entry] = {}
    for root in roots:
        base = root.removeprefix("local://").removeprefix("file://").rstrip("/")
        if "://" not in base:
            base = str(file.parent / base)
        spacing = "*" if chosen.voxel_spacing is None else f"{chosen.voxel_spacing:.3f}"
        pattern = f"{base}/ExperimentRuns/*/VoxelSpacing{spacing}/{chosen.tomo_type or '*'}.zarr"
        try:
            stores = [one for one in _matching(pattern, pattern) if not one.endswith("_features.zarr")]
        except InputError:
            continue
        for store in stores:
            run = store.split("/")[-3]
            if run in entries and root == roots[0]:
                raise InputError(
                    f"{file}: run {run} has several tomograms ({entries[run].source}, {store}): "
                    "choose with voxel_spacing and tomo_type in [tomograms]"
                )
            entries.setdefault(run, Entry(run, store))
    if not entries:
        raise InputError(f"{file}: found no tomogram of the project: check its roots, voxel_spacing and tomo_type")
    return [entries[run] for run in sorted(entries)]


def _named(entries: Sequence[Entry], known: Mapping[str, str]) -> list[Entry]:
    """Entries that all have a name; files of the same name get that of their folder before it."""
    plain = Counter(base_name(one.source) for one in entries if not one.name)
    named = []
    for one in entries:
        name = one.name or known.get(one.source, "")
        if not name:
            name = base_name(one.source)
            if plain[name] > 1 or name in known.values():
                name = f"{base_name(str(Path(one.source).parent))}_{name}"
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"{one.source}: {name!r} cannot be the name of a folder: give another one in a manifest"
            )
        named.append(replace(one, name=name))
    twice = [name for name, count in Counter(one.name for one in named).items() if count > 1]
    if twice:
        both = [one.source for one in named if one.name == twice[0]][:2]
        raise InputError(f"two tomograms are called {twice[0]!r} ({', '.join(both)}): give names in a manifest (CSV)")
    return named


def entry_facts(entry: Entry) -> dict[str, Any]:
    """What an entry says beside its name and source; JSON."""
    return {f.name: getattr(entry, f.name) for f in fields(entry) if f.name not in ("name", "source")}
