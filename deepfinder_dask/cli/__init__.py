"""The ``deepfinder`` command: one verb per module.

In: words on the command line. Out: the same functions that Python users call, with the same settings; one line on
standard output when they succeed, one line on standard error when they do not, and an exit code.
"""

from deepfinder_dask.cli.start import main

__all__ = ["main"]
