"""Options given by name, and progress."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from deepfinder_dask.errors import SettingsError
from deepfinder_dask.execution import Progress, options_to_settings


@dataclass(frozen=True)
class Wishes:
    depth: int = 3
    colour: str = "red"


def test_options_replace_single_settings():
    assert options_to_settings(Wishes, None, {}) == Wishes()
    assert options_to_settings(Wishes, Wishes(depth=5), {"colour": "blue"}) == Wishes(5, "blue")


def test_an_unknown_option_is_named_with_the_nearest():
    with pytest.raises(SettingsError, match=r"unknown option 'color': did you mean 'colour'\?"):
        options_to_settings(Wishes, None, {"color": "blue"})
    with pytest.raises(SettingsError, match="there are depth, colour"):
        options_to_settings(Wishes, None, {"xyz": 1})


def test_progress_counts_and_is_silent_off_a_terminal(capsys):
    with Progress("work", 4) as bar:
        bar.advance()
        bar.advance(2)
    assert bar.done == 3
    assert capsys.readouterr() == ("", "")


def test_progress_shows_what_and_how_far_when_asked(capsys):
    with Progress("dig deep", 4, unit="shovel", enabled=True) as bar:
        bar.advance(4)
    shown = capsys.readouterr().err
    assert "dig deep" in shown
    assert "4/4" in shown
    assert "shovels" in shown
