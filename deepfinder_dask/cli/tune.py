"""``deepfinder tune``."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from deepfinder_dask.cli.options import Json, Output, verb
from deepfinder_dask.evaluation.settings import TuneSettings

if TYPE_CHECKING:
    from rich.table import Table

    from deepfinder_dask.evaluation import Score, Tuning

PICTURE = "tuning.png"


@verb(TuneSettings, held_out=Parameter(consume_multiple=True, metavar="TOMOGRAM"))
def tune(
    truth: str, found: str, /, *, output: Output | None = None, settings: TuneSettings, as_json: Json = False
) -> str | None:
    """Choose the sizes and scores below which particles are dropped, on annotated tomograms.

    Every value is tried; at each, the particles that are left are matched anew, one to one.

    Parameters
    ----------
    truth
        True particles of one or more tomograms, in any known format.
    found
        Found particles, clustered without minimum sizes: deepfinder cluster SEG.zarr --min-size 0 -o FOUND.parquet.
    output
        Folder for tuning.json, curves.csv, tuning.png and the minimum sizes: deepfinder cluster OTHER.zarr
        --classes FOLDER/classes.toml.
    as_json
        Print one JSON object instead of a table.

    Examples
    --------
    deepfinder cluster TS_01_labels.zarr --min-size 0 -o all.parquet
    deepfinder tune truth.parquet all.parquet -o tuned
    deepfinder cluster TS_02_labels.zarr --classes tuned/classes.toml -o TS_02.parquet
    """
    from deepfinder_dask.evaluation import tune
    from deepfinder_dask.particles.files import refuse_existing

    if output is not None:
        refuse_existing([Path(output, PICTURE)], settings.overwrite)
    tuning = tune(truth, found, settings)
    if output is not None:
        from deepfinder_dask.viewing import threshold_curves
        from deepfinder_dask.viewing.drawing import save_png

        tuning.write(output, overwrite=settings.overwrite)
        save_png(threshold_curves(tuning), Path(output, PICTURE))
    if as_json:
        return json.dumps(tuning.to_dict(), ensure_ascii=False) + "\n"
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 120  # files and pipes need not be narrow
    console.print(table_of(tuning))
    for note in tuning.notes:
        console.print(note, markup=False, highlight=False, style="dim")
    return None if output is None else f"tuned {len(tuning.classes)} classes → {output}, see {Path(output, PICTURE)}"


def table_of(tuning: Tuning) -> Table:
    """One row for each class and what is compared, then all classes together."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    count = len(tuning.tomograms)
    title = f"{tuning.measure} within {tuning.tolerance}, tuned on {count} tomogram{'s' if count != 1 else ''}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("class")
    table.add_column("keeps", no_wrap=True)
    columns = ("true", "found", "matched", "precision", "recall", tuning.measure)
    for column in (*columns, f"{tuning.measure} held out"):
        table.add_column(column, justify="right")
    named = [(one.name, one.before, one.choices) for one in tuning.classes]
    for name, before, choices in [*named, ("overall", tuning.before, tuning.overall)]:
        style = "bold" if name == "overall" else None
        lines: list[tuple[str, Score, Score | None]] = [("everything", before, None)]
        for kind, choice in choices.items():
            limits = [f"size ≥ {choice.size}"] if choice.size is not None else []
            limits += [f"score ≥ {choice.score:.4g}"] if choice.score is not None else []
            words = ", ".join(limits) or ("the best of each" if name == "overall" else f"any {kind}")
            lines.append((words if name != "overall" else f"by {kind}", choice.tuned, choice.held_out))
        for number, (words, score, apart) in enumerate(lines):
            ratios = (score.precision, score.recall, score.f_beta(tuning.beta))
            held = float("nan") if apart is None else apart.f_beta(tuning.beta)
            shown = ["–" if isnan(value) else f"{value:.3f}" for value in (*ratios, held)]
            counts = [str(n) for n in (score.true, score.found, score.matched)]
            last = number == len(lines) - 1
            table.add_row(Text(name if not number else ""), words, *counts, *shown, style=style, end_section=last)
    return table
