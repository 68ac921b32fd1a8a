"""The page of figures in the documentation, from what the benchmark scripts printed.

Run::

    make bench                              # all scripts; what each prints goes to benchmarks/figures/NAME.txt
    python benchmarks/lib/page.py           # the page, from the figures of the README and those files

The documentation writes the page anew whenever it is built.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAD = """# Benchmarks

Every figure was printed by a script in `benchmarks/`. The tables compare; below them is what scripts printed, with the
machine and versions. `make bench` runs all scripts; `make docs` writes this page anew from the README's figures and
from what they printed.
"""


def page(readme: Path = ROOT / "README.md", figures: Path = ROOT / "benchmarks" / "figures") -> str:
    """Markdown of the page: the figures of the README, then the printed ones, script by script."""
    text = readme.read_text("utf-8")
    section = re.search(r"^## Figures\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    if section is None:
        raise SystemExit(f"expected a section '## Figures' in {readme}, found none")
    parts = [HEAD, section[1].strip()]
    for printed in sorted(figures.glob("*.txt")):
        parts += [f"## {printed.stem}", about(printed.stem), f"```text\n{printed.read_text('utf-8').strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def about(name: str) -> str:
    """What a benchmark script says of itself first."""
    script = ROOT / "benchmarks" / f"{name}.py"
    summary = re.match(r'"""(.*?)(?:\n\n|""")', script.read_text("utf-8"), re.DOTALL) if script.exists() else None
    words = " ".join(summary[1].split()) if summary else ""
    return f"`benchmarks/{name}.py`: {words}" if words else f"`{name}`"


if __name__ == "__main__":
    print(page(), end="")
