"""The errors of deepfinder_dask, and the exit code each one gives on the command line.

::

    DeepFinderError                 everything raised on purpose
    ├── InputError             (2)  something the user gave is wrong
    │   ├── FormatError        (2)  a file is not what its name or header says, or is damaged
    │   ├── VoxelSizeError     (2)  a voxel size is unknown, or differs from what is needed
    │   ├── GeometryError      (2)  shapes, blocks or boxes do not fit each other
    │   ├── SettingsError      (2)  an option has a value that cannot work
    │   ├── WeightsError       (2)  weights are damaged or belong to another architecture
    │   ├── OutputExistsError  (2)  the output is already there and may not be overwritten
    │   └── StorageError       (2)  the output cannot be written: disk full, no permission
    └── PartialFailure         (1)  some of the work was done, and the failures are named

Every message is one line: what was expected, what was found, how to fix it.
"""

from __future__ import annotations


class DeepFinderError(Exception):
    """Root of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code: int = 2


class InputError(DeepFinderError):
    """Something the user gave is wrong."""


class FormatError(InputError):
    """A file is not what its name or header says, or is damaged."""


class VoxelSizeError(InputError):
    """A voxel size is unknown, or differs from what is needed."""


class GeometryError(InputError):
    """Shapes, blocks or boxes do not fit each other."""


class SettingsError(InputError):
    """An option has a value that cannot work."""


class WeightsError(InputError):
    """Weights are damaged, or belong to another architecture."""


class OutputExistsError(InputError):
    """The output is already there and may not be overwritten."""


class StorageError(InputError):
    """The output cannot be written: disk full, no permission, read-only."""


class PartialFailure(DeepFinderError):
    """Some of the work was done; the failures are named in the message."""

    exit_code = 1
