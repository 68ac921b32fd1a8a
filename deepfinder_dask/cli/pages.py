"""Help pages: the whole docstring of a verb, and its examples."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Annotated, Any

from cyclopts import App, Parameter

SECTION = "\nExamples\n--------\n"
"""Heads the examples in a docstring: lines of commands, which a backslash continues, and comments after #."""


class Command(App):
    """A command whose verbs show their whole docstring and their examples.

    Its own list shows one line of each verb, which the verbs need not be loaded for.
    """

    examples = ""
    """Examples of a command that only groups verbs."""

    def help_print(
        self,
        tokens: Annotated[str | Iterable[str] | None, Parameter(show=False)] = None,
        *,
        console: Annotated[Any, Parameter(parse=False)] = None,
    ) -> None:
        """Print the help page of the words before ``--help``, on a console of rich or the usual one."""
        _, apps, _ = self.parse_commands(tokens)
        shown = apps[-1]
        verb = shown.default_command
        if len(apps) > 1 and verb is not None and verb.__doc__:
            shown.help = verb.__doc__
        super().help_print(tokens, console=console)
        examples = examples_of(shown if verb is None else verb)
        if examples:
            where = console or self.console
            # Not broken into lines of the terminal's width: they are there to be copied.
            where.print(f"Examples:\n\n{_indented(examples)}\n", markup=False, highlight=False, soft_wrap=True)


def split_examples(docstring: str) -> tuple[str, str]:
    """The docstring of a verb without its examples, and these."""
    words, _, examples = docstring.partition(SECTION)
    return words.rstrip() + "\n", examples.strip("\n")


def examples_of(verb: object) -> str:
    """The examples of a verb, or of a command that groups verbs, as they are written; none are an empty string."""
    return str(getattr(verb, "examples", ""))


def commands_in(examples: str) -> list[list[str]]:
    """The words of each command in examples, without ``deepfinder``."""
    lines = (shlex.split(line, comments=True) for line in examples.replace("\\\n", " ").splitlines())
    return [words[1:] for words in lines if words and words[0] == "deepfinder"]


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
