"""``deepfinder evaluate``."""

from __future__ import annotations

import json
from math import isnan
from typing import TYPE_CHECKING

from deepfinder_dask.cli.options import Json, verb
from deepfinder_dask.evaluation.settings import EvaluateSettings

if TYPE_CHECKING:
    from rich.table import Table

    from deepfinder_dask.evaluation import Evaluation


@verb(EvaluateSettings)
def evaluate(truth: str, found: str, /, *, settings: EvaluateSettings, as_json: Json = False) -> str | None:
    """Compare found particles with true ones, one to one.

    Parameters
    ----------
    truth
        True particles, in any known format.
    found
        Found particles, in any known format.
    as_json
        Print one JSON object instead of a table.
    """
    from deepfinder_dask.evaluation import evaluate

    result = evaluate(truth, found, settings)
    if as_json:
        return json.dumps(result.to_dict(), ensure_ascii=False) + "\n"
    from rich.console import Console

    console = Console()
    console.print(table_of(result))
    for note in result.notes:
        console.print(note, markup=False, highlight=False, style="dim")
    return None


def table_of(result: Evaluation) -> Table:
    """Counts and ratios, one row for each class, then all of them together and class-blind."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=f"one-to-one matches within {result.tolerance}", title_justify="left")
    table.add_column("class")
    for column in ("true", "found", "matched", "precision", "recall", "F1"):
        table.add_column(column, justify="right")
    classes = len(result.classes)
    for number, row in enumerate(result.rows()):
        counts = [str(row[name]) for name in ("true", "found", "matched")]
        ratios = ["–" if isnan(row[name]) else f"{row[name]:.3f}" for name in ("precision", "recall", "f1")]
        style = None if number < classes else "dim" if row["name"] == "localisation" else "bold"
        table.add_row(Text(row["name"]), *counts, *ratios, style=style, end_section=number == classes - 1)
    return table
