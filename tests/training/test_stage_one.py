"""Stage I through the command line alone, as docs/training.md has it: from a scene to particles found."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from deepfinder_dask.cli import main
from deepfinder_dask.simulation import read_config as read_simulation
from deepfinder_dask.training import read_config

DOCS = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def commands() -> list[list[str]]:
    """The words of each command of the first block."""
    block = re.search(r"```bash\n(deepfinder simulate quick.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return [shlex.split(line)[1:] for line in block[1].splitlines()]


def test_the_quick_configuration_matches_its_scenes_and_its_test_is_unseen():
    scenes = {t.name: t for t in read_simulation("quick").tomograms}
    config = read_config("quick")
    used = [Path(e.tomogram).stem for e in (*config.train, *config.validation)]
    assert sorted([*used, "test"]) == sorted(scenes)
    others = [scenes[name] for name in used]
    assert scenes["test"].seed not in [t.seed for t in others]
    assert scenes["test"].imaging.defocus not in [t.imaging.defocus for t in others]
    drawn = {words[words.index("-o") + 1] for words in commands() if words[0] == "target"}
    assert drawn == {f"quick/{e.target}" for e in (*config.train, *config.validation)}


@pytest.mark.slow
def test_a_species_is_learnt_and_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    *steps, last = commands()
    assert [words[0] for words in steps] == ["simulate", "target", "target", "target", "train", "locate"]
    for words in steps:
        assert main(words) == 0, words
    capsys.readouterr()
    assert main([*last, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["localisation"]["f1"] >= 0.8
    assert found["classes"]["shell"]["f1"] >= 0.8
