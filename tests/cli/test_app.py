"""The command as a whole: its verbs, and every command that the documents show."""

from __future__ import annotations

import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import deepfinder_dask
from deepfinder_dask.cli.app import VERBS, app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_in(text: str) -> list[str]:
    """Lines of code blocks that call ``deepfinder``, continued lines joined, comments cut off."""
    found = []
    for block in re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and words[0].rsplit("/", 1)[-1] == "deepfinder":
                found.append(shlex.join(words[1 : words.index(">") if ">" in words else None]))
    return found


DOCUMENTED = sorted({(path.name, command) for path in DOCUMENTS for command in commands_in(path.read_text("utf-8"))})


def test_documents_show_commands() -> None:
    assert len(DOCUMENTED) > 5


@pytest.mark.parametrize(("document", "command"), DOCUMENTED, ids=str)
def test_documented_commands_parse(document: str, command: str) -> None:
    """Every command in the documents has the verbs, arguments and options that exist."""
    words = shlex.split(command)
    if words not in (["--help"], ["--version"]):
        function, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert callable(function)
        assert bound.arguments or words == []


def test_help_lists_the_verbs_in_the_order_of_the_work() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deepfinder_dask", "--help"], capture_output=True, text=True, check=True
    )
    listed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("│ ")]
    assert [word for word in listed if word in VERBS] == list(VERBS)


def test_summaries_agree_with_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    """The list of verbs says of each what its own help says first."""
    for name, (_, summary) in VERBS.items():
        app([name, "--help"], result_action="return_value")
        words = [" ".join(part.split()) for part in capsys.readouterr().out.split("\n\n")]
        assert words[1] == summary


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deepfinder_dask", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == deepfinder_dask.__version__


def test_help_answers_in_under_a_second() -> None:
    """Processor time, since other programs may keep this machine busy; the best of three."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "deepfinder_dask", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1
