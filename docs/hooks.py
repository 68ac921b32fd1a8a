"""What the site has that no one writes by hand: the pages of the command line, of Python and of the notebooks."""

from __future__ import annotations

import io
import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100
"""Columns of a help page."""

OUTSIDE = "https://unpkg.com/iframe-worker/shim"
"""What the theme's script would load."""

ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc):<code>(~?)([^<]+)</code>")
"""A reference in a docstring, as Markdown leaves it."""

CLI_HEAD = """# Command line

What `deepfinder --help` and `deepfinder VERB --help` print. Exit codes: 0 done, 1 done in part (failures are named),
2 bad input or settings, 130 interrupted. Errors are one line on standard error. `deepfinder completion bash` prints
a script that completes verbs and options. `--json` gives scripts one JSON object: [Scripts](../guides/scripts.md).
"""
PYTHON_HEAD = """# Python

`import deepfinder_dask as df` gives all of these; each is loaded when it is first used. Functions take the fields of
their settings as keyword options: `df.segment(…, memory=8 * 2**30)`. Shapes and blocks are in the order
z, y, x.
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out of the navigation what is not there."""
    config.nav = _present(config.nav or [])
    return config


def _present(entries: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for entry in entries:
        title, value = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(value, list):
            value = _present(value)
        elif value == "notebooks":
            value = [f"notebooks/{path.stem}.md" for path in notebooks()]
        elif value not in GENERATED and not (ROOT / "docs" / value).exists():
            continue
        if value:
            kept.append(value if title is None else {title: value})
    return kept


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, write in GENERATED.items():
        files.append(File.generated(config, name, content=write()))
    for path in notebooks():
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=notebook_page(path)))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Write references of docstrings as their names."""
    return ROLE.sub(lambda found: f"<code>{found[2].rsplit('.', 1)[-1] if found[1] else found[2]}</code>", html)


def on_post_build(config: MkDocsConfig) -> None:
    """Keep pages that are opened from the disk from asking for the theme's only script that lies elsewhere.

    It would let the search work without a server; `python -m http.server -d site` does so too.
    """
    for script in Path(config.site_dir, "assets", "javascripts").glob("bundle.*.js"):
        text = script.read_text("utf-8")
        script.write_text(text.replace(OUTSIDE, "data:text/javascript,"), "utf-8")


def notebooks() -> list[Path]:
    """All notebooks, in the order of their names."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def notebook_page(path: Path) -> str:
    """Text and code of a notebook; its outputs are not kept in git."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"]).strip()
        if text:
            words = re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", text).replace("](../docs/", "](../")
            parts.append(words if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    page = "\n\n".join(parts)
    if not page.startswith("# "):
        page = f"# {path.stem}\n\n{page}"
    title, _, rest = page.partition("\n")
    return f"{title}\n\n`notebooks/{path.name}` in the repository: open it with Jupyter and run it.\n{rest}\n"


def cli_page() -> str:
    """The help pages as they are printed, in the order of the work."""
    from deepfinder_dask.cli.app import STAGES, app

    parts = [CLI_HEAD, "## deepfinder", help_of(app, [])]
    for stage, verbs in STAGES.items():
        parts += [f"## {stage}"] if verbs else []
        for verb in verbs:
            parts += [f"### {verb}", help_of(app, [verb])]
            if app[verb].default_command is None:
                for inner in app[verb]:
                    if not inner.startswith("-"):
                        parts += [f"#### {verb} {inner}", help_of(app, [verb, inner])]
    return "\n\n".join(parts) + "\n"


def help_of(app: Any, words: list[str]) -> str:
    """One help page, as a block of text."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=WIDTH, force_terminal=False, color_system=None)
    app.help_print(words, console=console)
    text = re.sub(r" +$", "", console.file.getvalue(), flags=re.MULTILINE)  # type: ignore[attr-defined]
    return f"```text\n{text.strip()}\n```"


def python_page() -> str:
    """The public names, by the room that they are from."""
    import deepfinder_dask

    parts = [PYTHON_HEAD]
    for room, names in deepfinder_dask._ROOMS.items():
        parts.append(f"## {room}")
        parts += [f"::: deepfinder_dask.{name}" for name in names.split()]
    settings = sorted((ROOT / "deepfinder_dask").glob("*/settings.py"))
    parts.append("## Settings\n\nFields of the settings are the options of the verbs, here and on the command line.")
    parts += [f"::: deepfinder_dask.{path.parent.name}.settings" for path in settings]
    return "\n\n".join(parts) + "\n"


def benchmarks_page() -> str:
    """The figures that the benchmark scripts printed."""
    place = spec_from_file_location("page", ROOT / "benchmarks" / "lib" / "page.py")
    module = module_from_spec(place)  # type: ignore[arg-type]
    place.loader.exec_module(module)  # type: ignore[union-attr]
    return str(module.page())


def changelog_page() -> str:
    """The changelog of the repository."""
    return (ROOT / "CHANGELOG.md").read_text("utf-8")


GENERATED = {
    "reference/cli.md": cli_page,
    "reference/python.md": python_page,
    "benchmarks.md": benchmarks_page,
    "changelog.md": changelog_page,
}
"""Pages that are written when the site is built."""
