"""Classes: what is refused, palette, TOML and JSON round trips."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from deepfinder_dask.errors import FormatError, InputError, SettingsError, StorageError
from deepfinder_dask.particles import (
    ParticleClass,
    check_classes,
    classes_from_dicts,
    classes_to_dicts,
    placeholder_classes,
    read_classes,
    write_classes,
)

SOME = (
    ParticleClass("ribosome", 1, radius=130.0, min_size=40, max_size=4000),
    ParticleClass("membrane", 2, kind="structure", colour="#abcdef"),
    ParticleClass("weird \"name\" = [x] \\ 'é'", 200),
)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"name": "", "label": 1}, "name"),
        ({"name": "a\nb", "label": 1}, "name"),
        ({"name": "a", "label": 0}, "label"),
        ({"name": "a", "label": 255}, "label"),
        ({"name": "a", "label": 1.5}, "label"),
        ({"name": "a", "label": True}, "label"),
        ({"name": "a", "label": 1, "kind": "blob"}, "kind"),
        ({"name": "a", "label": 1, "radius": 0}, "radius"),
        ({"name": "a", "label": 1, "radius": float("nan")}, "radius"),
        ({"name": "a", "label": 1, "radius": "5"}, "radius"),
        ({"name": "a", "label": 1, "colour": "red"}, "colour"),
        ({"name": "a", "label": 1, "min_size": -1}, "min_size"),
        ({"name": "a", "label": 1, "min_size": 9, "max_size": 3}, "min_size"),
        ({"name": "a", "label": 1, "color": "#000000"}, "unknown field"),
        ({"name": "a"}, "label"),
    ],
)
def test_refused_in_one_line(fields, word):
    with pytest.raises(SettingsError, match=word) as error:
        ParticleClass.from_dict(fields)
    assert "\n" not in str(error.value)


def test_colours_come_from_the_palette_and_stay_when_given():
    colours = [one.colour for one in placeholder_classes(range(1, 9))]
    assert len(set(colours)) == 8
    assert ParticleClass("a", 3, colour="#102030").rgb == (16, 32, 48)
    with pytest.raises(FrozenInstanceError):
        SOME[0].radius = 3.0


def test_names_and_labels_are_unique_and_in_order():
    assert [one.label for one in check_classes(reversed(SOME))] == [1, 2, 200]
    with pytest.raises(SettingsError, match="label 1"):
        check_classes([*SOME, ParticleClass("other", 1)])
    with pytest.raises(SettingsError, match="name 'ribosome'"):
        check_classes([*SOME, ParticleClass("ribosome", 9)])


def test_json_and_toml_round_trips(tmp_path):
    assert classes_from_dicts(classes_to_dicts(SOME)) == SOME
    write_classes(SOME, tmp_path / "new" / "classes.toml")
    assert read_classes(tmp_path / "new" / "classes.toml") == SOME
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["classes.toml"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[class]\n", "TOML"),
        ("name = 1\n", "class"),
        ("[[class]]\nname = 'a'\n", "label"),
        ("[[class]]\nname='a'\nlabel=1\n[[class]]\nname='b'\nlabel=1\n", "label 1"),
    ],
)
def test_bad_files_say_which_file(tmp_path, text, word):
    path = tmp_path / "classes.toml"
    path.write_text(text)
    with pytest.raises(FormatError, match=word) as error:
        read_classes(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_unwritable_place(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_classes(tmp_path / "none.toml")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_classes(SOME, tmp_path / "file" / "classes.toml")


def test_classes_need_no_heavy_library():
    code = (
        "import sys, deepfinder_dask.particles as p; p.ParticleClass('a', 1); p.TomogramFacts(10.0); "
        "from deepfinder_dask.particles import settings; "
        "print(sorted({'pandas', 'torch', 'numpy', 'pyarrow', 'scipy', 'dask'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
