"""The campaign file: what it may say, what is refused and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepfinder_dask.campaigns.planning.config import SHIPPED, read_campaign
from deepfinder_dask.campaigns.planning.entries import find_entries
from deepfinder_dask.campaigns.running.locating import settings_for
from deepfinder_dask.errors import InputError, SettingsError

ROOT = Path(__file__).resolve().parents[2]
HEAD = 'name = "c"\noutput = "out"\nweights = "demo"\ntomograms = ["raw/*.mrc"]\n'


@pytest.fixture
def write(tmp_path):
    """Write a campaign file, with three empty tomogram files beside it."""

    def make(text: str) -> Path:
        (tmp_path / "raw").mkdir(exist_ok=True)
        for name in ("TS_02.mrc", "TS_01.mrc", "TS_10.mrc"):
            (tmp_path / "raw" / name).touch()
        file = tmp_path / "c.toml"
        file.write_text(text)
        return file

    return make


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[cluster]\nmin_sise = 5\n",
            r"c.toml, line 6: unknown key 'min_sise' in \[cluster\]: did you mean 'min_size'",
        ),
        ('[segment]\nscores = true\nmemory = "8 pounds"\n', r"c.toml, line 7: memory: expected a size such as 8GiB"),
        ("[segment]\n\nworkers = 2\n", r"c.toml, line 7: workers has no place in \[segment\]: .* \[workers\]"),
        ('[convert]\ncontrast = "grey"\n', r"c.toml, line 6: contrast in \[convert\] must be 'dark' or 'bright'"),
        (
            "[convert]\nvoxel_size = [1, 2]\n",
            r"c.toml, line 6: voxel_size in \[convert\] must be a number or a list of 3",
        ),
        ("[cluster]\nconnectivity = 7\n", r"c.toml, line 6: connectivity in \[cluster\] must be 6 or 18 or 26, got 7"),
        ("[cluster]\nbandwidth = -1\n", r"c.toml, line 6: bandwidth is a length above 0, got -1"),
        ("[limits]\nretries = -2\n", r"c.toml, line 6: retries is 0 or more, got -2"),
        ("[stages]\ncluster = false\n", r"c.toml, line 6: export needs cluster"),
        ("keep = 1\n", r"c.toml, line 5: keep must be a table"),
        ('[export]\nfiles = ["../p.star"]\n', r"c.toml, line 6: files are plain names, .*, got '../p.star'"),
        ('[export]\nfiles = ["p.foo"]\n', r"c.toml, line 6: files: p.foo: no format for the suffix '.foo'"),
        ("outputs = 1\n", r"c.toml, line 5: unknown key 'outputs': did you mean 'output'"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(write, text, message):
    with pytest.raises(SettingsError, match=message):
        read_campaign(write(HEAD + text))


def test_what_is_missing_is_named(write):
    with pytest.raises(SettingsError, match="expected a key 'tomograms'"):
        read_campaign(write('name = "c"\noutput = "out"\nweights = "demo"\n'))
    with pytest.raises(SettingsError, match="expected a key 'weights'"):
        read_campaign(write('name = "c"\noutput = "out"\ntomograms = "a"\n'))
    with pytest.raises(SettingsError, match="expected a key 'output'"):
        read_campaign(write('name = "c"\nweights = "demo"\ntomograms = "a"\n'))
    with pytest.raises(SettingsError, match=r"is no valid TOML.*line 1"):
        read_campaign(write("name = \n"))
    with pytest.raises(SettingsError, match="give a TOML file or one of: demo"):
        read_campaign("nothing.toml")


def test_patterns_are_sorted_and_count_from_the_file(write, tmp_path):
    entries = find_entries(read_campaign(write(HEAD)))
    assert [one.name for one in entries] == ["TS_01", "TS_02", "TS_10"]
    assert entries[0].source == str(tmp_path / "raw" / "TS_01.mrc")
    with pytest.raises(InputError, match=r"no tomogram fits 'raw/\*.rec'"):
        find_entries(read_campaign(write(HEAD.replace(".mrc", ".rec"))))


def test_a_manifest_says_what_it_knows(write, tmp_path):
    (tmp_path / "m.csv").write_text(
        "path,name,voxel_size,truth,mask\nraw/TS_01.mrc,first,13.5,truth/first.star,\nraw/TS_02.mrc,,,,m.mrc\n"
    )
    config = read_campaign(write(HEAD.replace("raw/*.mrc", "m.csv") + "[convert]\nvoxel_size = 10\n"))
    first, second = find_entries(config)
    assert (first.name, first.voxel_size, first.truth) == ("first", 13.5, str(tmp_path / "truth" / "first.star"))
    assert (second.name, second.voxel_size, second.mask) == ("TS_02", None, str(tmp_path / "m.mrc"))
    assert settings_for(config, first).voxel_size == 13.5
    assert settings_for(config, second).voxel_size == 10
    assert settings_for(config, second).mask == str(tmp_path / "m.mrc")


def test_a_bad_manifest_is_told_by_its_row(write, tmp_path):
    config = read_campaign(write(HEAD.replace("raw/*.mrc", "m.csv")))
    (tmp_path / "m.csv").write_text("path,voxel_size\nraw/TS_01.mrc,ten\n")
    with pytest.raises(InputError, match="row 1: expected a voxel size in Å, got 'ten'"):
        find_entries(config)
    (tmp_path / "m.csv").write_text("where,voxel_size\nraw/TS_01.mrc,10\n")
    with pytest.raises(InputError, match=r"expected a column path or .*, found where, voxel_size"):
        find_entries(config)


def test_a_manifest_in_another_encoding_is_told_in_one_line(write, tmp_path):
    config = read_campaign(write(HEAD.replace("raw/*.mrc", "m.csv")))
    (tmp_path / "m.csv").write_bytes("path,name\nraw/TS_01.mrc,Zellkörper\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"m\.csv: cannot be read as a table"):
        find_entries(config)


def test_a_manifest_adds_what_it_knows_to_files_of_a_pattern(write, tmp_path):
    (tmp_path / "m.csv").write_text("path,name,voxel_size\nraw/TS_01.mrc,first,13.5\n")
    config = read_campaign(write(HEAD.replace('"raw/*.mrc"', '"raw/*.mrc", "m.csv"')))
    assert next((one.name, one.voxel_size) for one in find_entries(config)) == ("first", 13.5)


def test_relions_table_of_tomograms(write, tmp_path):
    (tmp_path / "tomograms.star").write_text(
        "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesPixelSize #2\n_rlnTomoTomogramBinning #3\n"
        "_rlnTomoReconstructedTomogram #4\nTS_1 1.5 4.0 raw/TS_01.mrc\nTS_2 1.5 4.0 raw/TS_02.mrc\n"
    )
    entries = find_entries(read_campaign(write(HEAD.replace("raw/*.mrc", "tomograms.star"))))
    assert [(one.name, one.voxel_size) for one in entries] == [("TS_1", 6.0), ("TS_2", 6.0)]
    assert entries[1].source == str(tmp_path / "raw" / "TS_02.mrc")


def test_names_are_distinct_and_stay(write, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rec.mrc").touch()
    config = read_campaign(write(HEAD.replace("raw/*.mrc", "*/rec.mrc")))
    assert [one.name for one in find_entries(config)] == ["a_rec", "b_rec"]
    known = {str(tmp_path / "a" / "rec.mrc"): "rec"}
    assert [one.name for one in find_entries(config, known)] == ["rec", "b_rec"]
    (tmp_path / "m.csv").write_text("path,name\na/rec.mrc,one\nb/rec.mrc,one\n")
    with pytest.raises(InputError, match="two tomograms are called 'one'"):
        find_entries(read_campaign(write(HEAD.replace("raw/*.mrc", "m.csv"))))


def test_tomograms_of_a_copick_project(write, tmp_path):
    for run, kinds in (("r1", ("wbp", "wbp_features")), ("r2", ("wbp", "denoised"))):
        for kind in kinds:
            (tmp_path / "static" / "ExperimentRuns" / run / "VoxelSpacing10.000" / f"{kind}.zarr").mkdir(parents=True)
    (tmp_path / "copick.json").write_text(json.dumps({"static_root": "local://static"}))
    table = HEAD.replace('tomograms = ["raw/*.mrc"]\n', "") + '[tomograms]\ncopick = "copick.json"\n'
    with pytest.raises(InputError, match=r"run r2 has several tomograms .*choose with voxel_spacing and tomo_type"):
        find_entries(read_campaign(write(table)))
    entries = find_entries(read_campaign(write(table + 'tomo_type = "wbp"\n')))
    assert [(one.name, Path(one.source).name) for one in entries] == [("r1", "wbp.zarr"), ("r2", "wbp.zarr")]


def test_the_examples_can_be_read():
    assert read_campaign("demo").stages.names() == ("convert", "segment", "cluster", "export", "evaluate")
    example = read_campaign(ROOT / "docs" / "campaigns" / "campaign.toml")
    assert example.segment.memory == 4 * 1024**3
    assert [one.stem for one in SHIPPED.glob("*.toml")] == ["demo"]
