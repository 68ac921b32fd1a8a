"""What to say when a command is interrupted: what is kept, and the words to go on with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

GOES_ON: dict[str, tuple[str, ...]] = {"segment": (), "locate": (), "run": (), "annotate": (), "train": ("--resume",)}
"""Verbs that keep what is finished, and the options that make them go on."""


def interrupted(words: Sequence[str]) -> str:
    """One line for a command that was interrupted.

    Parameters
    ----------
    words : sequence of str
        The command without its name: verb, arguments and options.
    """
    if not words:
        return "interrupted; no half-written output is taken for whole: run the same command again"
    verb = words[0]
    if verb in GOES_ON:
        # With --overwrite the same command would start from the beginning.
        kept = [word for word in words if word != "--overwrite"]
        kept += [option for option in GOES_ON[verb] if option not in kept]
        return f"interrupted; what is finished is kept, go on with: {shlex.join(['deepfinder', *kept])}"
    again = shlex.join(["deepfinder", *words])
    return f"interrupted; no half-written output is taken for whole, start again with: {again}"
