"""Options come from the settings: all of them, with their documentation, and back again."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields
from typing import Literal

import pytest
from cyclopts import App, CycloptsError, Parameter

from deepfinder_dask.cli.options import Output, verb
from deepfinder_dask.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Sieve:
    """How it is sieved."""

    block: tuple[int, int, int] | None = None
    """Voxels at a time, z, y, x."""
    memory: int = 2**30
    """Bytes that may be used."""
    mesh: Literal["fine", "coarse"] = "fine"
    """Which mesh."""
    dry: bool = False
    """Without water."""
    shake: bool = True
    """Shake it."""
    tomograms: tuple[str, ...] = ()
    """Names."""
    voxel_size: float | tuple[float, float, float] | None = None
    """Å per voxel."""

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise SettingsError("no memory")


@pytest.fixture
def seen() -> list[tuple[object, ...]]:
    return []


@pytest.fixture
def app(seen: list[tuple[object, ...]]) -> App:
    app = App(result_action="return_value", default_parameter=Parameter(negative_iterable=()))

    @app.command
    @verb(Sieve, mesh=Parameter(name="--with"))
    def sieve(source: str, /, *, output: Output, settings: Sieve) -> str:
        """Sieve sand.

        Parameters
        ----------
        source
            The sand.
        output
            The bucket.
        """
        seen.append((source, output, settings))
        return "sieved"

    return app


def call(app: App, *words: str) -> None:
    app(["sieve", *words], exit_on_error=False, print_error=False)


def test_defaults_are_those_of_the_settings(app: App, seen: list[tuple[object, ...]]) -> None:
    call(app, "sand", "-o", "bucket")
    assert seen == [("sand", "bucket", Sieve())]


def test_every_field_is_an_option(app: App, seen: list[tuple[object, ...]]) -> None:
    given = "-b 64,128,256 -m 8GiB --with coarse --dry --no-shake --tomograms a b -v 10.5,10,10"
    call(app, "sand", *given.split(), "--output", "bucket")
    expected = Sieve((64, 128, 256), 8 * 2**30, "coarse", True, False, ("a", "b"), (10.5, 10.0, 10.0))
    assert seen == [("sand", "bucket", expected)]


def test_settings_travel_to_workers(app: App, seen: list[tuple[object, ...]]) -> None:
    """What the function gets is of the very class it declares, not of one made for the command line."""
    call(app, "sand", "-o", "bucket", "--dry")
    settings = seen[0][2]
    assert type(settings) is Sieve
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301  # our own bytes


def test_help_is_the_documentation_of_the_fields(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    call(app, "--help")
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for text in ("Voxels at a time, z, y, x.", "Bytes that may be used.", "Which mesh.", "Without water.", "The sand."):
        assert text in words
    assert "--no-dry" not in words
    assert "--no-shake" in words
    assert "--empty" not in words
    assert "--quiet" in words
    assert len([f for f in fields(Sieve) if f"--{f.name.replace('_', '-')}" in words]) == len(fields(Sieve)) - 1


@pytest.mark.parametrize(
    "words",
    [
        ["sand"],
        ["-o", "bucket"],
        ["sand", "-o", "bucket", "--dry", "--unknown"],
        ["sand", "-o", "bucket", "--block", "1,2"],
        ["sand", "-o", "bucket", "--memory", "much"],
        ["sand", "-o", "bucket", "--with", "holes"],
        ["sand", "more", "-o", "bucket"],
    ],
)
def test_what_cannot_be_parsed_is_refused(app: App, seen: list[tuple[object, ...]], words: list[str]) -> None:
    with pytest.raises(CycloptsError):
        call(app, *words)
    assert seen == []


def test_values_that_cannot_work_are_refused_by_the_settings(app: App) -> None:
    with pytest.raises(SettingsError, match="no memory"):
        call(app, "sand", "-o", "bucket", "-m", "0")


def test_one_line_when_done_none_when_quiet(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    call(app, "sand", "-o", "bucket")
    out = capsys.readouterr().out
    assert out.startswith("sieved (0.")
    assert out.count("\n") == 1
    call(app, "sand", "-o", "bucket", "--quiet")
    assert capsys.readouterr().out == ""
