"""``deepfinder report``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from deepfinder_dask.campaigns.reporting.settings import ReportSettings
from deepfinder_dask.cli.options import Outcome, verb
from deepfinder_dask.cli.values import converter, format_bytes, to_bytes

Page = Annotated[str | None, Parameter(name=("--output", "-o"), metavar="PAGE.html")]


@verb(
    ReportSettings,
    picture_bytes=Parameter(converter=converter(to_bytes), n_tokens=1, metavar="SIZE", show_default=format_bytes),
    flag_at=Parameter(metavar="Z"),
)
def report(campaign: str, /, *, output: Page = None, settings: ReportSettings) -> Outcome:
    """Write the page that shows what a campaign found.

    One HTML file with totals, a table, pictures, distributions, what is unlike the rest, failures, settings and
    versions; it opens without a server and asks for nothing outside. It may be written while the campaign runs.

    Parameters
    ----------
    campaign
        Campaign file (TOML), or the folder of the campaign.
    output
        The page; by default report.html in that folder. An older page is replaced.

    Examples
    --------
    deepfinder report campaign.toml
    # larger pictures, on a page to send to somebody
    deepfinder report cells -o cells.html --picture-bytes 100MiB
    """
    from deepfinder_dask.campaigns import write_report

    page = write_report(campaign, output, settings)
    return Outcome(f"wrote {page}", {"page": str(page), "bytes": page.stat().st_size})
