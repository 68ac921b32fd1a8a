"""``deepfinder evaluate``."""

from __future__ import annotations

import json
import sys
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deepfinder_dask.cli.options import Json, verb
from deepfinder_dask.errors import PartialFailure
from deepfinder_dask.evaluation.settings import EvaluateSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from deepfinder_dask.evaluation import Evaluation

_WIDTH = 120
"""Columns where the output is no terminal."""
_FEW = 5
"""Classes that have a column each in the table of regions."""

Folder = Annotated[str | None, Parameter(name=("--output", "-o"), metavar="FOLDER")]
Picture = Annotated[str | None, Parameter(metavar="FILE.png")]
Pairs = Annotated[str | None, Parameter(metavar="FILE")]
Overwrite = Annotated[bool, Parameter(negative="", show_default=False)]


@verb(
    EvaluateSettings,
    class_weights=Parameter(consume_multiple=True, metavar="NAME=WEIGHT"),
    mask=Parameter(metavar="VOLUME"),
    border=Parameter(metavar="Å"),
    truth_volume=Parameter(metavar="VOLUME"),
)
def evaluate(
    truth: str,
    found: str,
    /,
    *,
    output: Folder = None,
    picture: Picture = None,
    pairs: Pairs = None,
    overwrite: Overwrite = False,
    settings: EvaluateSettings,
    as_json: Json = False,
) -> str | None:
    """Compare found particles with true ones, one to one.

    Parameters
    ----------
    truth
        True particles, in any known format: a file, a folder, or a pattern in quotes such as 'truth/*.star'.
    found
        Found particles, in the same ways.
    output
        Folder for pictures, evaluation.json, tomograms.csv and pairs.parquet.
    picture
        Draw all on one sheet.
    pairs
        Write matched pairs, .csv or .parquet: rows, classes, distance.
    overwrite
        Replace outputs that are there.
    as_json
        Print one JSON object instead of a table.

    Examples
    --------
    deepfinder evaluate truth.parquet TS_01/particles.parquet
    deepfinder evaluate truth.star TS_01.parquet --tolerance 0.5r --json
    # many tomograms; pictures, tables and matched pairs
    deepfinder evaluate 'truth/*.parquet' found/ -o report --border 200
    """
    from deepfinder_dask.evaluation import check_pairs_path, evaluate
    from deepfinder_dask.particles.files import refuse_existing

    if pairs is not None:
        check_pairs_path(pairs, overwrite=overwrite)
    if picture is not None:
        refuse_existing([Path(picture)], overwrite)
    if output is not None:
        refuse_existing(_outputs(Path(output)), overwrite)
    result = evaluate(truth, found, settings)
    title = f"{Path(found).name} against {Path(truth).name}"
    _write(result, title, output, picture, pairs)
    said = None
    if as_json:
        said = json.dumps(result.to_dict(), ensure_ascii=False) + "\n"
        if result.failures:
            sys.stdout.write(said)
    else:
        _show(result)
    if result.failures:
        raise PartialFailure(f"{len(result.failures)} files cannot be read: {'; '.join(result.failures.values())}")
    return said


def _outputs(folder: Path) -> list[Path]:
    """Files of ``--output``."""
    from deepfinder_dask.viewing import EVALUATION_FILES

    return [folder / name for name in (*EVALUATION_FILES, "evaluation.json", "tomograms.csv", "pairs.parquet")]


def _write(result: Evaluation, title: str, output: str | None, picture: str | None, pairs: str | None) -> None:
    """Write what was asked for; that nothing is replaced unasked was checked before."""
    from deepfinder_dask.evaluation import write_pairs
    from deepfinder_dask.particles.files import atomic_write

    if pairs is not None and result.pairs is not None:
        write_pairs(result.pairs, pairs, overwrite=True)
    if picture is not None:
        from deepfinder_dask.viewing import evaluation_sheet
        from deepfinder_dask.viewing.drawing import save_png

        save_png(evaluation_sheet(result, title), Path(picture))
    if output is not None and result.pairs is not None:
        from deepfinder_dask.viewing import write_evaluation_pictures

        folder = Path(output)
        write_evaluation_pictures(result, folder, title=title)
        write_pairs(result.pairs, folder / "pairs.parquet", overwrite=True)
        with atomic_write(folder / "tomograms.csv") as temporary:
            result.tomogram_table().to_csv(temporary, index=False, lineterminator="\n")
        with atomic_write(folder / "evaluation.json") as temporary:
            text = json.dumps(result.to_dict(), ensure_ascii=False, indent=1) + "\n"
            temporary.write_text(text, encoding="utf-8")


def _show(result: Evaluation) -> None:
    """Print tables and notes."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(table_of(result))
    if len(result.tomograms) > 1:
        console.print(tomograms_of(result))
    if result.regions:
        console.print(regions_of(result))
    lines = list(result.notes)
    if result.bootstrap is not None:
        made = result.bootstrap
        lines.append(
            f"Intervals hold {made.confidence:.0%} of {made.replicates} bootstrap samples of {made.over}, "
            f"seed {made.seed}."
        )
    if result.czii is not None:
        lines.insert(0, f"CZII score {_ratio(result.czii)}: F4 of each class within half its radius, weighted.")
    for line in lines:
        console.print(line, markup=False, highlight=False, style="dim")


def table_of(result: Evaluation) -> Table:
    """Counts and ratios, one row for each class, then their mean, all of them together, and class-blind."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    beta = result.beta != 1
    table = Table(box=box.SIMPLE_HEAD, title=f"one-to-one matches within {result.tolerance}", title_justify="left")
    table.add_column("class")
    interval = [] if result.bootstrap is None else [f"{result.bootstrap.confidence:.0%}"]
    weighted = [f"F{result.beta:g}"] if beta else []
    for column in ("true", "found", "matched", "precision", "recall", "F1", *interval, *weighted, "AP", "off by Å"):
        table.add_column(column, justify="right")

    def add(name: str, cells: Sequence[str], style: str | None, last: bool = False) -> None:
        table.add_row(Text(name), *cells, style=style, end_section=last)

    classes = len(result.classes)
    for number, row in enumerate(result.rows()):
        counts = [str(row[name]) for name in ("true", "found", "matched")]
        ratios = [_ratio(row[name]) for name in ("precision", "recall", "f1")]
        ends = [_ends(row["f1_interval"])] if interval else []
        more = [_ratio(row["f_beta"])] if beta else []
        distance = "–" if isnan(row["distance"]) else f"{row['distance']:.1f}"
        style = None if number < classes else "dim" if row["name"] == "localisation" else "bold"
        cells = [*counts, *ratios, *ends, *more, _ratio(row["average_precision"]), distance]
        add(row["name"], cells, style, number == classes - 1)
        if number == classes - 1 and classes > 1:
            ends = [_ends(result.macro_intervals["f1"])] if interval else []
            more = [_ratio(result.macro["f_beta"])] if beta else []
            mean = _ratio(result.macro["average_precision"])
            add("mean of classes", ["", "", "", "", "", _ratio(result.macro["f1"]), *ends, *more, mean, ""], "bold")
    return table


def tomograms_of(result: Evaluation) -> Table:
    """Counts and ratios of each tomogram, then their mean."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("tomogram")
    for column in ("true", "found", "matched", "precision", "recall", "F1", "localisation F1"):
        table.add_column(column, justify="right")
    for number, (name, score) in enumerate(result.tomograms.items()):
        counts = [str(value) for value in (score.true, score.found, score.matched)]
        blind = result.tomogram_localisation[name].f1
        ratios = [_ratio(value) for value in (score.precision, score.recall, score.f1, blind)]
        table.add_row(Text(name), *counts, *ratios, end_section=number == len(result.tomograms) - 1)
    mean = result.mean_over_tomograms()
    ratios = [_ratio(mean["overall"][name]) for name in ("precision", "recall", "f1")]
    table.add_row("mean of tomograms", "", "", "", *ratios, _ratio(mean["localisation"]["f1"]), style="bold")
    return table


def regions_of(result: Evaluation) -> Table:
    """Counts and ratios of each region of a mask, with the F1 of each class where they are few."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("region", justify="right")
    columns = ("true", "found", "matched", "precision", "recall", "F1", "localisation F1")
    shown = list(result.classes) if len(result.classes) <= _FEW else []
    headers = [Text(words) for words in (*columns, *(f"F1 {name}" for name in shown))]
    for header in headers:
        table.add_column(header, justify="right")
    for number, one in result.regions.items():
        score = one.overall
        counts = [str(value) for value in (score.true, score.found, score.matched)]
        ratios = [_ratio(value) for value in (score.precision, score.recall, score.f1, one.localisation.f1)]
        own = [_ratio(one.classes[name].f1) if name in one.classes else "–" for name in shown]
        table.add_row(str(number), *counts, *ratios, *own)
    return table


def _ratio(value: float) -> str:
    return "–" if isnan(value) else f"{value:.3f}"


def _ends(interval: tuple[float, float]) -> str:
    """Both ends of an interval."""
    return "–" if isnan(interval[0]) else f"{interval[0]:.2f}–{interval[1]:.2f}"
