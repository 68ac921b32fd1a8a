"""``report``: a campaign's folder in, one HTML page out."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.environment import TemplateStream
from markupsafe import Markup

from deepfinder_dask.campaigns.reporting.charts import HEIGHT, WIDTH, class_charts
from deepfinder_dask.campaigns.reporting.digests import Digest, digest_of
from deepfinder_dask.campaigns.reporting.outliers import Flag, find_outliers
from deepfinder_dask.campaigns.reporting.rows import Row, make_row, stage_times
from deepfinder_dask.campaigns.reporting.settings import LARGEST, SMALLEST, ReportSettings
from deepfinder_dask.campaigns.reporting.snapshots import THICKNESS
from deepfinder_dask.campaigns.reporting.states import Campaign, State, read_campaign
from deepfinder_dask.campaigns.reporting.words import duration, flattened, whole
from deepfinder_dask.execution import options_to_settings
from deepfinder_dask.particles import ParticleClass
from deepfinder_dask.particles.files import atomic_write

PAGE = "report.html"
"""Name of the page in the campaign's folder."""
SHOWN = 20
"""Most settings that are shown without a click."""
FLAGGED = 24
"""Most tomograms that are listed as worth a look; the table has all."""


def write_report(
    campaign: str | Path, output: str | Path | None = None, settings: ReportSettings | None = None, **options: Any
) -> Path:
    """Write the report of a campaign: one HTML page that needs no server and asks for nothing outside.

    It may be written at any time, also while the campaign runs, and again: what it needs of each tomogram is kept in
    the tomogram's folder. One tomogram's particles are held at a time, and slices of volumes. The page takes some
    kilobytes of text for each tomogram, and pictures as large as the settings allow.

    Parameters
    ----------
    campaign : str or path
        Folder of the campaign, or its file (TOML).
    output : str or path, optional
        The page; by default ``report.html`` in the folder. An older page is replaced.
    settings : ReportSettings, optional
        How; single settings can be given as keyword options instead.
    **options
        Fields of :class:`~deepfinder_dask.campaigns.ReportSettings`.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If it is no campaign's folder.
    StorageError
        If the page cannot be written.
    """
    settings = options_to_settings(ReportSettings, settings, options)
    found = read_campaign(_home(campaign))
    path = Path(output) if output is not None else found.folder / PAGE
    page = _render(found, settings, path.absolute().parent)
    with atomic_write(path) as temporary:
        page.dump(str(temporary), encoding="utf-8")  # piece by piece: it is never held as a whole
    return path


def _home(campaign: str | Path) -> Path:
    """Folder of a campaign: the one given, or that in which its file leaves everything."""
    if Path(campaign).is_dir():
        return Path(campaign)
    from deepfinder_dask.campaigns.planning.config import read_campaign as read_file

    return read_file(campaign).home


def _render(campaign: Campaign, settings: ReportSettings, beside: Path) -> TemplateStream:
    states = campaign.tomograms
    done = [one for one in states if one.done]
    size = _picture_size(settings.picture_bytes, len(done))
    digests = {one.name: digest_of(one, size) for one in states}
    finished = {one.name: digests[one.name] for one in done}
    flags = find_outliers(finished, {one.name: sum(one.seconds.values()) for one in done}, settings.flag_at)
    every = _classes(finished.values())
    counted = [one for one in every if one.kind == "particle"]
    pictured = _pictured(done, finished, flags, settings.picture_bytes)
    rows = [
        make_row(
            number,
            one,
            digests[one.name],
            counted,
            flags.get(one.name, ()),
            beside=beside,
            picture=one.name in pictured,
        )
        for number, one in enumerate(states)
    ]
    script = _template_text("report.js")
    return (
        _environment()
        .get_template("report.html")
        .stream(
            **_head(campaign, rows, finished, counted),
            css=Markup(_template_text("report.css")),  # our own file
            script=Markup(script),  # our own file
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            states=campaign.counts,
            rows=rows,
            classes=counted,
            legend=every,
            evaluated=any(row.f1 is not None for row in rows),
            failures=[row for row in rows if row.state in ("failed", "quarantined", "unknown")],
            flags=sorted((row for row in rows if row.flags), key=lambda row: -abs(row.flags[0].z))[:FLAGGED],
            flagged=sum(bool(row.flags) for row in rows),
            flag_at=settings.flag_at,
            pictures=len(pictured),
            drawable=sum(one.picture is not None for one in finished.values()),
            thickness=THICKNESS,
            charts=[_of_class(one, finished) for one in counted],
            width=WIDTH,
            height=HEIGHT,
            stages=stage_times(states),
            **_foot(campaign),
        )
    )


def _head(
    campaign: Campaign, rows: Sequence[Row], finished: Mapping[str, Digest], classes: Sequence[ParticleClass]
) -> dict[str, Any]:
    """Name, times and totals."""
    done, all_of = len([row for row in rows if row.state == "done"]), len(rows)
    volume = sum(one.volume or 0.0 for one in finished.values())  # nm³
    spent = sum(row.seconds for row in rows)
    totals = [
        {
            "label": "tomograms done",
            "value": f"{whole(done)} of {whole(all_of)}",
            "note": f"{100 * done / all_of:.0f} %" if all_of else "",
        },
        {
            "label": "particles",
            "value": whole(sum(one.count for one in finished.values())),
            "note": f"of {len(classes)} classes" if len(classes) != 1 else f"of {classes[0].name}",
        },
    ]
    if volume:
        seen = f"{volume / 1e9:.3g} µm³" if volume >= 1e6 else f"{whole(volume)} nm³"
        totals.append({"label": "volume seen", "value": seen, "note": ""})
    scores = _pooled(one.evaluation.get("overall", {}) for one in finished.values())
    if scores is not None:
        evaluated = sum(one.f1 is not None for one in finished.values())
        totals.append({"label": "F1", "value": f"{scores:.3f}", "note": f"pooled over {whole(evaluated)} evaluated"})
    if spent:
        totals.append({"label": "time of all steps", "value": duration(spent), "note": "as if one after the other"})
    started, ended = campaign.started, campaign.ended
    when = "no run has ended yet"
    if started and ended:
        took = duration((ended - started).total_seconds())
        when = f"last run from {started:%d %B %Y, %H:%M} to {ended:%d %B %Y, %H:%M} UTC ({took})"
    return {"name": campaign.name, "when": when, "totals": totals}


def _foot(campaign: Campaign) -> dict[str, Any]:
    """Commands, settings and versions."""
    from deepfinder_dask import __version__

    facts = campaign.facts
    file = str(facts.get("file") or facts.get("campaign_file") or "CAMPAIGN.toml")
    word = shlex.quote(Path(file).name)
    # The list of tomograms is the table of the page, and what was asked for is among the settings.
    known = ("settings", "versions", "weights", "config", "tomograms", "file")
    rest = {key: value for key, value in facts.items() if key not in known}
    settings = flattened(_table(facts, "settings"))
    tables = [("Settings", settings, len(settings) <= SHOWN)]
    tables += [(key.capitalize(), flattened(_table(facts, key)), False) for key in ("weights", "versions")]
    tables.append(("Everything else in campaign.json", flattened(rest), False))
    return {
        "commands": [
            (f"deepfinder run {word}", "go on"),
            (f"deepfinder run {word} --retry-failed", "go on, and try failed and quarantined ones again"),
            (f"deepfinder status {word}", "how far it is"),
            (f"deepfinder report {shlex.quote(campaign.folder.resolve().name)}", "this page anew"),
        ],
        "retry": f"deepfinder run {word} --retry-failed",
        "tables": [(title, lines, shown) for title, lines, shown in tables if lines],
        "written": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        "version": __version__,
    }


def _table(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = facts.get(key)
    return value if isinstance(value, Mapping) else {}


def _picture_size(budget: int, number: int) -> int:
    """Bytes that each of so many pictures may take; 0 for none."""
    if budget <= 0 or number == 0:
        return 0
    share = budget // number
    # Few sizes, so that a campaign that grows by one tomogram keeps the pictures it has.
    steps = [SMALLEST * 2**n for n in range(ceil(LARGEST / SMALLEST).bit_length())]
    return max((step for step in steps if step <= min(share, LARGEST)), default=SMALLEST)


def _pictured(
    done: Sequence[State], digests: Mapping[str, Digest], flags: Mapping[str, tuple[Flag, ...]], budget: int
) -> set[str]:
    """Names of tomograms whose pictures are on the page: all that fit, else flagged ones and others spread evenly."""
    drawn = {one.name: digests[one.name].picture for one in done}
    sizes = {name: picture.size for name, picture in drawn.items() if picture is not None}
    if sum(sizes.values()) <= budget:
        return set(sizes)
    names = list(sizes)
    spread: list[str] = []
    step = len(names)
    while step >= 1:  # every n-th, then those halfway between, …
        spread += names[::step]
        step //= 2
    order = dict.fromkeys([name for name in flags if name in sizes] + spread)
    chosen, spent = set(), 0
    for name in order:
        if spent + sizes[name] > budget:
            break
        chosen.add(name)
        spent += sizes[name]
    return chosen


def _classes(digests: Any) -> list[ParticleClass]:
    """Classes of the whole campaign in order of label, each name once."""
    found: dict[str, ParticleClass] = {}
    for digest in digests:
        for one in digest.classes:
            found.setdefault(one.name, one)
    return sorted(found.values(), key=lambda one: (one.label, one.name))


def _of_class(one: ParticleClass, digests: Mapping[str, Digest]) -> dict[str, Any]:
    """What the distributions say of a class."""
    particles = {name: digest.particles for name, digest in digests.items()}
    found = [each[one.name].count for each in particles.values() if one.name in each]
    return {
        "name": one.name,
        "colour": one.colour,
        "radius": one.radius,
        "count": sum(found),
        "tomograms": len(found),
        "f1": _pooled(digest.evaluation.get("classes", {}).get(one.name, {}) for digest in digests.values()),
        "charts": class_charts(one.name, particles),
    }


def _pooled(scores: Any) -> float | None:
    """F1 of the counts of several evaluations together; None where there are none."""
    true = found = matched = 0
    for one in scores:
        true, found, matched = true + one.get("true", 0), found + one.get("found", 0), matched + one.get("matched", 0)
    return 2 * matched / (true + found) if true + found else None


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Templates in which everything that a user named is escaped."""
    environment = Environment(
        loader=PackageLoader("deepfinder_dask.campaigns.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "whole": whole}
    return environment


def _template_text(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8").strip()
