"""``deepfinder consensus``."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from deepfinder_dask.cli.options import Json, Output, verb
from deepfinder_dask.evaluation.settings import ConsensusSettings

if TYPE_CHECKING:
    from rich.table import Table

    from deepfinder_dask.evaluation import Consensus

PICTURE = "consensus.png"


@verb(ConsensusSettings, names=Parameter(consume_multiple=True, metavar="NAME"))
def consensus(
    sources: list[str], /, *, output: Output, settings: ConsensusSettings, as_json: Json = False
) -> str | None:
    """Bring particles of several methods or annotators together, one to one.

    Parameters
    ----------
    sources
        Two sets of particles or more, in any known formats: deepfinder consensus ann.star ben.csv net.parquet -o all.
    output
        Folder for union.parquet, with the confidence of each particle, intersection.parquet, only_NAME.parquet of each
        set, summary.json and consensus.png.
    as_json
        Print one JSON object instead of a table.

    Examples
    --------
    deepfinder consensus ann.parquet ben.parquet TS_01.parquet -o together
    # lists of other programs: what they do not say
    deepfinder consensus ann.star ben.star -o together --names Ann Ben --voxel-size 10 --shape 464,928,928
    """
    from deepfinder_dask.evaluation import consensus
    from deepfinder_dask.particles.files import refuse_existing
    from deepfinder_dask.viewing import agreement_diagram
    from deepfinder_dask.viewing.drawing import save_png

    picture = Path(output, PICTURE)
    refuse_existing([picture], settings.overwrite)
    together = consensus(sources, settings)
    together.write(output, overwrite=settings.overwrite)
    save_png(agreement_diagram(together), picture)
    if as_json:
        return json.dumps(together.to_dict(), ensure_ascii=False) + "\n"
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 120  # files and pipes need not be narrow
    console.print(table_of(together))
    for note in together.notes:
        console.print(note, markup=False, highlight=False, style="dim")
    shares = together.shares()
    every = "both" if len(together.sets) == 2 else "all"
    return f"{shares.union} particles, {shares.intersection} of them in {every} sets → {output}, see {picture}"


def table_of(together: Consensus) -> Table:
    """One row for each class and tomogram, then all together."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    how = "whatever the classes" if together.class_blind else "of the same class"
    title = f"particles {how} within {together.tolerance}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("")
    apart = list(together.sets) if len(together.sets) <= 4 else []  # more would not fit a line
    for column in (*together.sets, *(f"only {name}" for name in apart), "any", "all", "all/any"):
        table.add_column(Text(column), justify="right")
    counts = together.union.counts()
    rows = [(name, together.shares(class_name=name)) for name, n in counts.items() if n]
    tomograms = list(together.union.tomograms)
    ends = {len(rows) - 1}
    if len(tomograms) > 1:
        rows += [(name, together.shares(tomogram=name)) for name in tomograms]
        ends.add(len(rows) - 1)
    for number, (name, shares) in enumerate([*rows, ("overall", together.shares())]):
        alone = [shares.combinations.get((one,), 0) for one in apart]
        cells = [str(n) for n in (*shares.sets.values(), *alone, shares.union, shares.intersection)]
        cells.append("–" if isnan(shares.agreement) else f"{shares.agreement:.3f}")
        style = "bold" if number == len(rows) else None
        table.add_row(Text(name), *cells, style=style, end_section=number in ends)
    return table
