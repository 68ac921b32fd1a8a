"""``deepfinder run`` and ``deepfinder status``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deepfinder_dask.campaigns.settings import RunSettings
from deepfinder_dask.cli.options import Outcome, verb
from deepfinder_dask.errors import PartialFailure

if TYPE_CHECKING:
    from deepfinder_dask.campaigns import CampaignStatus

NAMED = 10
"""Most failures that an error names."""


@verb(RunSettings, only=Parameter(consume_multiple=True, metavar="NAME|GLOB|STAGE"))
def run(
    campaign: str,
    /,
    *,
    settings: RunSettings,
    dry_run: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> Outcome:
    """Find the particles in all tomograms of a campaign, on any cluster.

    Killed at any instant, the same command goes on. A tomogram that fails is named and never stops the others. Done
    tomograms are not touched; new ones in the file are done.

    Parameters
    ----------
    campaign
        Campaign file (TOML), or demo for the one that comes with the package.
    dry_run
        Write and compute nothing: print what each tomogram would take in blocks, hours, disk and memory.

    Examples
    --------
    deepfinder run campaign.toml
    # sizes, blocks, hours, disk and memory; writes nothing
    deepfinder run campaign.toml --dry-run
    # some tomograms, on two local processes; then what failed once more
    deepfinder run campaign.toml --only TS_01 'TS_1*' --workers 2
    deepfinder run campaign.toml --retry-failed
    """
    if dry_run:
        from deepfinder_dask.campaigns import plan_campaign

        plan = plan_campaign(campaign, settings)
        return Outcome(f"{plan}\n", plan.to_dict())
    from deepfinder_dask.campaigns import run

    result = run(campaign, settings)
    if result.failures:
        named = [f"{one.tomogram}: {one.reason}" for one in result.failures[:NAMED]]
        more = len(result.failures) - NAMED
        named += [f"and {more} more, see {result.folder / 'summary.json'}"] if more > 0 else []
        raise PartialFailure(f"{result.name}: {result.in_words()}: {'; '.join(named)}")
    found = "" if result.particles is None else f", {result.particles} particles"
    words = f"{result.name}: {result.in_words()}{found} → {result.folder}"
    return Outcome(words, {**asdict(result), "folder": str(result.folder)})


@verb()
def status(campaign: str, /) -> Outcome:
    """Say how far a campaign is.

    Reads small files only, also while it runs.

    Parameters
    ----------
    campaign
        Campaign file (TOML), or demo for the one that comes with the package.

    Examples
    --------
    deepfinder status campaign.toml
    deepfinder status campaign.toml --json
    """
    from deepfinder_dask.campaigns import status

    found = status(campaign)
    return Outcome(_table(found), found.to_dict())


def _table(found: CampaignStatus) -> str:
    """Tomograms that are not done, and how many are."""
    from rich.console import Console
    from rich.table import Table

    counts = ", ".join(f"{count} {state}" for state, count in found.counts().items())
    how = "at work" if found.active else "nobody at work"
    table = Table(box=None, pad_edge=False)
    for column in ("tomogram", "state", "stage", "tries", "seconds", "why"):
        table.add_column(column, overflow="fold")
    for row in found.to_dict()["tomograms"]:
        if row["state"] == "done":
            continue
        state = "interrupted" if row["state"] == "running" and not found.active else row["state"]
        blocks = f" {row['blocks'][0]}/{row['blocks'][1]}" if row["blocks"] else ""
        table.add_row(
            row["tomogram"],
            state,
            f"{row['stage'] or ''}{blocks}",
            str(row["attempts"] or ""),
            f"{row['seconds']:.0f}" if row["seconds"] else "",
            row["reason"] or "",
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    with console.capture() as capture:
        if table.row_count:
            console.print(table)
    return f"{found.name}: {counts}; {how} → {found.folder}\n{capture.get()}"
