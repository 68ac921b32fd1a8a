"""The first steps of the command: an interrupt is one line even while the command itself is still being loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(words: Sequence[str] | None = None) -> int:
    """Load the command and run it; the exit code is that of :func:`deepfinder_dask.cli.entry.run`.

    Parameters
    ----------
    words : sequence of str, optional
        Arguments; default those of this process.
    """
    try:
        from deepfinder_dask.cli.entry import run
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted before anything was done\n")
        return 130
    return run(words)
