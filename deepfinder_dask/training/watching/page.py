"""What is to be seen of a run, in HTML: how far it is, the scores of each class, curves and example patches.

Pictures are part of the text, so that nothing is fetched from anywhere.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepfinder_dask.training.watching.following import Entry, RunFacts

if TYPE_CHECKING:
    from deepfinder_dask.particles import ParticleClass

RENEW = 20
"""Seconds after which the page renews itself."""
CHECKS = 10
"""Latest checks that are listed."""
FIGURES = (
    ("f1", "F1 of voxels"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("particles_f1", "F1 of particles"),
)
"""Figures of each class, and their headings."""
STYLE = (
    ".deepfinder-run{font:14px sans-serif;color:#22252a;background:#fff;display:flex;flex-wrap:wrap;gap:1.5em 2.5em}"
    ".deepfinder-run table{border-collapse:collapse;margin:0 0 1.2em}"
    ".deepfinder-run caption{text-align:left;font-weight:bold;padding-bottom:.3em}"
    ".deepfinder-run td,.deepfinder-run th{padding:.15em .9em .15em 0;text-align:right;background:#fff}"
    ".deepfinder-run td:first-child,.deepfinder-run th:first-child{text-align:left}"
    ".deepfinder-run th{font-weight:normal;color:#6b7075;border-bottom:1px solid #d5d8dc}"
    ".deepfinder-run svg,.deepfinder-run img{max-width:100%;height:auto;display:block;margin-bottom:1em}"
    ".deepfinder-run i{display:inline-block;width:.8em;height:.8em;margin-right:.4em;border-radius:50%}"
)


def page(name: str, record: Sequence[Entry], facts: RunFacts, curves: str, patches: bytes | None) -> str:
    """A page that renews itself until the run has ended.

    Parameters
    ----------
    name : str
        Of the run.
    record : sequence of mappings
        One per step.
    facts : RunFacts
    curves : str
        Its curves, as SVG or another piece of HTML.
    patches : bytes, optional
        Its example patches, as PNG.
    """
    renew = "" if facts.ended else f'<meta http-equiv="refresh" content="{RENEW}">'
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{renew}<link rel="icon" href="data:,">'
        f"<title>{html.escape(name)}</title></head>"
        f'<body style="margin:2em">{content(name, record, facts, curves, patches)}</body></html>\n'
    )


def content(name: str, record: Sequence[Entry], facts: RunFacts, curves: str, patches: bytes | None) -> str:
    """What the page holds, to be put into another page or a notebook; parameters as for `page`."""
    examples = "" if patches is None else picture(patches, "tomogram, target and prediction of a slice for each class")
    return (
        f'<style>{STYLE}</style><div class="deepfinder-run"><div><h2>{html.escape(name)}</h2>'
        f"{_now(record, facts)}{_classes(record, facts.classes)}{_checks(record)}</div>"
        f"<div>{curves}</div><div>{examples}</div></div>"
    )


def picture(png: bytes, words: str) -> str:
    """A PNG as a part of HTML."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}">'


def _now(record: Sequence[Entry], facts: RunFacts) -> str:
    step = int(record[-1]["step"]) if record else 0
    state = "" if not facts.ended else ", all done" if step >= facts.steps else ", ended"
    rows = [("step", f"{step} of {facts.steps}{state}")]
    if record:
        seconds = float(np.median([e["seconds"] for e in record[-50:]]))
        rows += [("loss, mean of the last 50", f"{np.mean([e['loss'] for e in record[-50:]]):.4f}")]
        rows += [("seconds a step", f"{seconds:.3g}")]
        if not facts.ended:
            rows += [("left, about", f"{(facts.steps - step) * seconds / 60:.0f} min")]
    for key, words in (("f1", "F1 of voxels"), ("particles_f1", "F1 of particles")):
        checked = [e for e in record if key in e]
        if checked:
            best = max(checked, key=lambda e: e[key])
            told = f"{checked[-1][key]:.3f}, best {best[key]:.3f} at step {int(best['step'])}"
            rows += [(words, told)]
    return _table("now", "", (), ((html.escape(a), html.escape(b)) for a, b in rows))


def _classes(record: Sequence[Entry], classes: Sequence[ParticleClass]) -> str:
    """The latest figures of each class; those of particles may be from an earlier check than those of voxels."""
    latest: dict[str, float] = {}
    for entry in record:
        if "f1" in entry:
            latest |= entry
    shown = [(key, words) for key, words in FIGURES if any(f"{key}_{one.label}" in latest for one in classes)]
    if not shown:
        return ""
    rows = []
    for one in classes:
        values = [latest.get(f"{key}_{one.label}") for key, _ in shown]
        mark = f'<i style="background:{html.escape(one.colour)}"></i>{html.escape(one.name)}'
        rows.append((mark, *("–" if value is None else f"{value:.3f}" for value in values)))
    return _table("classes", "classes, at the latest check", ("class", *(words for _, words in shown)), rows)


def _checks(record: Sequence[Entry]) -> str:
    """Loss and mean scores at the latest checks, newest first."""
    checked = [e for e in record if "f1" in e][-CHECKS:][::-1]
    if not checked:
        return ""
    counted = any("particles_f1" in e for e in checked)
    heads = ("step", "loss", "F1 of voxels", *(["F1 of particles"] if counted else []))
    rows = []
    for entry in checked:
        row = [f"{entry['step']:g}", f"{entry['loss']:.4f}", f"{entry['f1']:.3f}"]
        if counted:
            row.append(f"{entry['particles_f1']:.3f}" if "particles_f1" in entry else "–")
        rows.append(row)
    return _table("checks", "latest checks", heads, rows)


def _table(kind: str, caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    title = f"<caption>{caption}</caption>" if caption else ""
    head = f"<tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr>" if heads else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="{kind}">{title}{head}{body}</table>'
