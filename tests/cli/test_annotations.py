"""Every file among the annotations goes through ``deepfinder import``, or is no list of particles and is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from deepfinder_dask.cli import main
from deepfinder_dask.particles import Particles

PICKS = "copick_TS_5_4/ExperimentRuns/TS_5_4/Picks"
RELION5 = "relion5/test_jobs"
LISTS = {
    "chlamy_star/mitoribosome.star": 228,
    "chlamy_star/ps2.star": 3111,
    f"{PICKS}/apo-ferritin.json": 46,
    f"{PICKS}/beta-amylase.json": 10,
    f"{PICKS}/beta-galactosidase.json": 12,
    f"{PICKS}/ribosome.json": 31,
    f"{PICKS}/thyroglobulin.json": 30,
    f"{PICKS}/virus-like-particle.json": 11,
    "czi_portal/copick.json": 4,
    "czi_portal/copick_instance.json": 6,
    "czi_portal/oriented_points.mod": 4,
    "czi_portal/points.csv": 3,
    "czi_portal/points.mod": 3,
    "czi_portal/points_tab_delim.csv": 3,
    "czi_portal/points_with_header.csv": 3,
    "czi_portal/points_with_header_pipe_delim.csv": 3,
    "czi_portal/relion_3_star.star": 6,
    "czi_portal/relion_4_star.star": 6,
    "czi_portal/stopgap_star.star": 6,
    "czi_portal/tardis.csv": 6,
    "czi_portal/tomoman_relion_star.star": 6,
    "dynamo/t_double.tbl": 300,
    "imod/multiple_objects_example.mod": 6,
    "imod/point_sizes_example.mod": 18,
    "imod/points_hist.mod": 3,
    "imod/slicer_angle_example.mod": 4,
    f"{RELION5}/Class3D/job_class3d/run_it025_data.star": 10,
    f"{RELION5}/Class3D/job_class3d/run_it025_optimisation_set.star": 10,
    f"{RELION5}/Picks/job_picks/optimisation_set.star": 5,
    f"{RELION5}/Picks/job_picks/particles.star": 5,
    f"{RELION5}/Refine3D/job_refine/run_it050_data.star": 5,
    f"{RELION5}/Refine3D/job_refine/run_it050_optimisation_set.star": 5,
    "star/one_loop.star": 16,
    "star/rln3.1_data_style.star": 2,
}
"""Particles of each list."""
OTHERS = {
    **{f"{RELION5}/{job}/job.star": "rlnTomoName" for job in ("Class3D/job_class3d", "Picks/job_picks")},
    **{f"{RELION5}/{job}/job.star": "rlnTomoName" for job in ("Refine3D/job_refine", "Tomograms/job_tomo")},
    f"{RELION5}/Refine3D/job_refine/run_it040_optimisation_set.star": "run_it040_data.star",  # which is not there
    f"{RELION5}/Tomograms/job_tomo/tilt_series/13pf_MT.star": "rlnTomoName",
    f"{RELION5}/Tomograms/job_tomo/tilt_series/14pf_MT.star": "rlnTomoName",
    f"{RELION5}/Tomograms/job_tomo/tomograms.star": "rlnCenteredCoordinateXAngst",
    "star/empty_loop.star": "rlnTomoName",
    "star/two_basic_blocks.star": "rlnTomoName",
    **{
        f"czi_portal/{name}.mrc": "not a list of particles"
        for name in (
            "large_probability_map",
            "segmask",
            "semantic_mask",
            "small_probability_map",
            "small_semantic_mask",
        )
    },
}
"""Files that are no lists, and a word of the line that says so."""


@pytest.fixture
def folder(data_dir, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():  # what main makes of them is kept to the test
        yield data_dir / "annotations"


def test_all_files_are_in_the_tables(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    files = {name for name in files if ".zarr/" not in name and not name.rsplit("/", 1)[-1].startswith("LICENSE")}
    assert files == set(LISTS) | set(OTHERS)


def test_lists_are_imported(folder, capsys):
    """With voxel size and shape told, for those that do not say them; the whole folder of picks is one list, too."""
    for name, count in {**LISTS, "copick_TS_5_4": 140}.items():
        words = ["import", str(folder / name), "-o", "p.parquet", "--overwrite", "-v", "10.52", "--shape", "44,136,84"]
        assert main(words) == 0, capsys.readouterr().err
        captured = capsys.readouterr()
        assert captured.out.startswith(f"imported {count} particles ("), name
        assert all(line.startswith("warning: ") for line in captured.err.splitlines())
        assert len(Particles.read("p.parquet")) == count


def test_others_are_refused_in_one_line(folder, capsys):
    for name, word in OTHERS.items():
        assert main(["import", str(folder / name), "-o", "p.parquet"]) == 2, name
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert word in error
    assert not Path("p.parquet").exists()
