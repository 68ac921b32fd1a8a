"""Bad lists of particles in every format: one line and exit code 2, or a warning that counts and names, and it goes on.

Each case goes through the verbs that read particles: import, evaluate, export.
"""

from __future__ import annotations

import json
import re
import struct
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfinder_dask.cli import main
from deepfinder_dask.particles import ParticleClass, Particles, ParticlesWarning, TomogramFacts, write_particles
from deepfinder_dask.particles.formats import FORMATS

FACTS = TomogramFacts(10.0, (16, 16, 16))
CLASSES = (ParticleClass("ribosome", 1, radius=50.0),)
SPOT = (3.0, 5.0, 12.375)
"""Voxel z, y, x whose x is found again in every format: .375 in voxels, .75 in Å, whatever they count from."""
FILES = {
    "parquet": "p.parquet",
    "csv": "p.csv",
    "deepfinder_xml": "p.xml",
    "deepfinder_txt": "t.txt",
    "relion5": "p.star",
    "relion4": "p.star",
    "warp": "p.star",
    "stopgap": "p.star",
    "dynamo": "p.tbl",
    "imod": "t.mod",
    "copick": "project",
    "portal": "t.ndjson",
    "eman2": "t_info.json",
}
TOLD = ["--voxel-size", "10", "--shape", "16,16,16"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():  # what main makes of them is kept to the test
        yield tmp_path


def some(*voxels):
    """Particles of the tomogram t."""
    return Particles.from_voxels(
        list(voxels), tomogram="t", facts=FACTS, labels=[1] * len(voxels), classes=CLASSES, scores=[0.5] * len(voxels)
    )


def written(format, particles):
    """The file that holds the particles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParticlesWarning)
        return write_particles(particles, FILES[format], format)[0]


def run(capsys, *words):
    """Exit code, and the lines on standard error."""
    code = main([str(word) for word in words])
    return code, capsys.readouterr().err.splitlines()


def test_every_format_is_here():
    assert set(FILES) == {one.name for one in FORMATS}


@pytest.mark.parametrize("format", FILES)
def test_positions_that_are_no_numbers(format, capsys):
    """NaN as a coordinate is refused by name of the file, whatever the format, and nothing is written."""
    path = written(format, some((3, 5, 7), SPOT))
    if format == "parquet":
        table = pq.read_table(path)
        x = table.column("x").to_pylist()
        table = table.set_column(table.schema.get_field_index("x"), "x", pa.array([x[0], float("nan")]))
        pq.write_table(table, path)
    elif format == "imod":
        content = path.read_bytes()
        spot = struct.pack(">f", SPOT[2] + 0.5)
        assert content.count(spot) == 1
        path.write_bytes(content.replace(spot, struct.pack(">f", float("nan"))))
    else:
        text, count = re.subn(r"\d*\.375(?!\d)0*|\d+\.75(?!\d)", "NaN", path.read_text(), count=1)
        assert count == 1
        path.write_text(text)
    some((3, 5, 7)).write("truth.parquet")
    for words in (
        ["import", path, "-o", "out.parquet", "--from", format, *TOLD],
        ["evaluate", "truth.parquet", path, *TOLD],
    ):
        code, lines = run(capsys, *words)
        errors = [line for line in lines if not line.startswith("warning: ")]
        assert code == 2
        assert len(errors) == 1
        assert errors[0].startswith("error: ")
        assert path.name in errors[0]
        assert re.search(r"nan|position|number|finite|format", errors[0], re.IGNORECASE), errors[0]
    assert not Path("out.parquet").exists()


@pytest.mark.parametrize("format", FILES)
def test_positions_outside_of_the_volume(format, capsys):
    """Counted, the first one named, and it goes on."""
    path = written(format, some((3, 5, 7), (3, 5, 30), (3, 5, 40)))
    some((3, 5, 7)).write("truth.parquet")
    for words in (
        ["import", path, "-o", "out.parquet", "--from", format, *TOLD],
        ["evaluate", "truth.parquet", path, *TOLD],
    ):
        code, lines = run(capsys, *words)
        assert code == 0
        named = [line for line in lines if "2 of 3 particles lie outside" in line]
        assert len(named) == 1
        assert re.fullmatch(r"warning: .*first particle 1 at x, y, z = 300\.0, 50\.0, 30\.0 Å in 't'.*", named[0])
    assert len(Particles.read("out.parquet")) == 3


@pytest.mark.parametrize("format", FILES)
def test_an_empty_list(format, capsys):
    path = written(format, Particles.empty({"t": FACTS}, CLASSES))
    code, lines = run(capsys, "import", path, "-o", "out.parquet", "--from", format, *TOLD)
    assert code == 0
    assert any("no particles in it" in line for line in lines) == (format != "parquet"), "an empty table is a result"
    assert len(Particles.read("out.parquet")) == 0
    some((3, 5, 7)).write("truth.parquet")
    for words in (["evaluate", "truth.parquet", "out.parquet"], ["export", "out.parquet", "-o", "out.csv"]):
        code, lines = run(capsys, *words)
        assert (code, lines) == (0, [])


@pytest.mark.parametrize("format", FILES)
def test_export_says_how_to_go_on(format, capsys):
    """A list that does not say everything is no table: import it first."""
    path = written(format, some((3, 5, 7)))
    code, lines = run(capsys, "export", path, "-o", "out.csv")
    if code == 0:
        assert abs(pd.read_csv("out.csv")["x"][0] - 70) < 1e-6
    else:
        assert code == 2
        assert "deepfinder import" in lines[-1] or "--binning" in lines[-1]
        assert lines[-1].startswith("error: ")


COLUMNS = {
    "csv": ("x,y,z,colour\n1,2,3,red\n", "1 unknown column is kept: ['colour']"),
    "relion4": (
        "data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_wrpMood\n_wrpColour\n1 2 3 4 5\n",
        "2 columns that are not RELION's are passed over: ['wrpMood', 'wrpColour']",
    ),
    "stopgap": (
        "data_stopgap_motivelist\n\nloop_\n_tomo_num\n_orig_x\n_orig_y\n_orig_z\n_mood\n1 1 2 3 4\n",
        "1 unknown column is passed over: ['mood']",
    ),
    "deepfinder_xml": ('<objlist><object class_label="1" x="1" y="2" z="3" mood="5"/></objlist>\n', "['mood']"),
    "portal": ('{"type": "point", "location": {"x": 1, "y": 2, "z": 3}, "mood": 4}\n', "['mood']"),
}


@pytest.mark.parametrize("format", COLUMNS)
def test_unknown_columns_are_counted_and_named(format, capsys):
    text, expected = COLUMNS[format]
    Path(FILES[format]).write_text(text)
    code, lines = run(capsys, "import", FILES[format], "-o", "out.parquet", "--binning", "1", *TOLD)
    assert code == 0
    assert [line for line in lines if expected in line and line.startswith("warning: ")]
    assert len(Particles.read("out.parquet")) == 1


def twice_in_parquet():
    some((3, 5, 7)).write("p.parquet")
    table = pq.read_table("p.parquet")
    pq.write_table(table.append_column("x", table.column("x")), "p.parquet")


def twice_in_copick():
    for user in ("ann", "ben"):
        write_particles(some((3, 5, 7)), "project", user=user)


TWICE = {
    "p.csv": ("x,y,z,x\n1,2,3,4\n", "twice"),
    "p.star": (
        "data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnCoordinateX\n1 2 3 4\n",
        "twice",
    ),
    "names.star": (
        "data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnMicrographName\n_rlnPixelSize\n"
        "1 2 3 a/TS_1.mrc 10\n1 2 3 b/TS_1.mrc 10\n",
        "would both be named 'TS_1'",
    ),
    "p.xml": ('<objlist><object class_label="1" x="1" x="2" y="2" z="3"/></objlist>\n', "duplicate attribute"),
    "p.parquet": (twice_in_parquet, "twice"),
    "project": (twice_in_copick, "choose by --user or --session"),
}


@pytest.mark.parametrize("name", TWICE)
def test_names_that_stand_twice(name, capsys):
    content, expected = TWICE[name]
    if callable(content):
        content()
    else:
        Path(name).write_text(content)
    some((3, 5, 7)).write("truth.parquet")
    for words in (
        ["import", name, "-o", "out.parquet", "--binning", "1", *TOLD],
        ["evaluate", "truth.parquet", name, *TOLD],
        ["export", name, "-o", "out.csv"],
    ):
        code, lines = run(capsys, *words)
        assert code == 2
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert expected in lines[0], lines[0]


def test_two_objects_of_one_name_are_one_class(capsys):
    """IMOD: objects may share a name; they are read as one class, and that is said."""
    from deepfinder_dask.particles.formats.imod_binary import Model, ModelObject, model_bytes

    one = ModelObject("ribosome", np.array([[1.0, 2.0, 3.0]]), (1.0, 0.0, 0.0), 5)
    Path("t.mod").write_bytes(model_bytes(Model((16, 16, 16), 10.0, [one, one], [])))
    code, lines = run(capsys, "import", "t.mod", "-o", "out.parquet")
    assert code == 0
    assert "1 names stand for several objects" in lines[0]
    assert Particles.read("out.parquet").counts() == {"ribosome": 2}


@pytest.mark.parametrize("format", ["relion5", "eman2"])
def test_centred_coordinates_need_the_size_of_the_tomogram(format, capsys):
    """What counts from the centre says so, and how to tell its size; evaluate takes it from the other side."""
    path = written(format, some((3, 5, 7)))
    for extra in path.parent.glob("tomograms.star"):
        extra.unlink()
    code, lines = run(capsys, "import", path, "-o", "out.parquet", "--voxel-size", "10")
    assert code == 2
    assert len(lines) == 1
    assert "--shape" in lines[0]
    assert not Path("out.parquet").exists()
    some((3, 5, 7)).write("truth.parquet")
    assert main(["evaluate", "truth.parquet", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["overall"]["f1"] == 1


def test_pixels_need_a_size(capsys):
    Path("p.star").write_text("data_\n\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n1 2 3\n")
    code, lines = run(capsys, "import", "p.star", "-o", "out.parquet")
    assert code == 2
    assert lines[-1].startswith("error: p.star: positions are in unbinned pixels")
    assert "--voxel-size" in lines[-1]
