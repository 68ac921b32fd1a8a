from __future__ import annotations

import tomllib

import pytest

from deepfinder_dask.execution.toml_files import line_of

TEXT = """\
steps = 3   # steps = 4
"batch" = 2
[[train]]
steps = 5
target = "a # [[train]]"
[[train]]   # the second
  target="b"
[[validation]]
target = 'c'
"""


@pytest.mark.parametrize(
    ("key", "table", "number", "line"),
    [
        ("steps", "", 0, 1),
        ("batch", "", 0, 2),
        ("train", "", 0, 3),
        ("validation", "", 0, 8),
        ("steps", "train", 0, 4),
        ("target", "train", 0, 5),
        ("target", "train", 1, 7),
        ("", "train", 1, 6),
        ("target", "validation", 0, 9),
        ("steps", "validation", 0, None),
        ("target", "train", 2, None),
    ],
)
def test_lines_of_keys(key, table, number, line):
    assert tomllib.loads(TEXT)
    assert line_of(TEXT, key, table, number) == line
