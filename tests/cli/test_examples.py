"""Help pages: every one ends with examples, and every example can be run as it is written."""

from __future__ import annotations

import pytest

from deepfinder_dask.cli.app import VERBS, app
from deepfinder_dask.cli.pages import Command, commands_in, examples_of, split_examples

PAGES = [(), *((verb,) for verb in VERBS), ("weights", "import")]


def page_of(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    app([*words, "--help"], result_action="return_value")
    return capsys.readouterr().out


def examples_in(page: str) -> str:
    _, _, examples = page.partition("\nExamples:\n\n")
    return "\n".join(line.removeprefix("  ") for line in examples.splitlines())


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_every_page_ends_with_examples_that_parse(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """The lines as they are shown go through the parser, which runs nothing; one at least is of this very verb."""
    commands = commands_in(examples_in(page_of(words, capsys)))
    assert any(command[: len(words)] == list(words) for command in commands)
    for command in commands:
        function, _, _ = app.parse_args(command, exit_on_error=False, print_error=False)
        assert function is not app.help_print


@pytest.mark.parametrize("verb", VERBS)
def test_pages_show_the_whole_docstring(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    function = app[verb].default_command
    if function is None:  # verbs of its own
        return
    words = (function.__doc__ or "").partition("\nParameters\n")[0]
    shown = " ".join(page_of((verb,), capsys).split("\n╭")[0].replace("│", " ").split())
    assert " ".join(words.replace("`", "").split()) in shown.replace("`", "")


def test_examples_are_neither_broken_nor_coloured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    page = page_of(("segment",), capsys)
    long = next(line for line in page.splitlines() if line.startswith("  deepfinder segment"))
    assert len(long) > 80


def test_examples_are_split_from_words() -> None:
    words, examples = split_examples("Sieve.\n\nParameters\n----------\nx\n    It.\n\nExamples\n--------\n# a\ndo it\n")
    assert words == "Sieve.\n\nParameters\n----------\nx\n    It.\n"
    assert examples == "# a\ndo it"
    assert split_examples("Sieve.") == ("Sieve.\n", "")
    assert examples_of(None) == ""


def test_commands_are_read_as_a_shell_does() -> None:
    text = "# deepfinder no\ndeepfinder a 'b c' \\\n    -d  # e\nother f\n"
    assert commands_in(text) == [["a", "b c", "-d"]]


def test_a_page_without_examples_ends_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Command(name="plain", result_action="return_value")

    @plain.command
    def verb() -> None:
        """Do it."""

    plain(["verb", "--help"])
    assert "Examples" not in capsys.readouterr().out
