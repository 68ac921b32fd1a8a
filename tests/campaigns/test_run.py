"""``run`` on tiny tomograms: what it leaves, what goes on, what is refused, what failed; and ``status``."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.campaigns import locate, plan_campaign, run, status
from deepfinder_dask.campaigns.reporting.states import read_campaign
from deepfinder_dask.campaigns.running.tasks import weights_of
from deepfinder_dask.campaigns.running.verb import configured, prepare
from deepfinder_dask.campaigns.settings import RunSettings
from deepfinder_dask.cli import main
from deepfinder_dask.errors import InputError, OutputExistsError, SettingsError
from deepfinder_dask.execution import hold
from deepfinder_dask.networks import save_weights
from deepfinder_dask.particles import Particles
from deepfinder_dask.segmentation import Segmentation

STAGES = ["convert", "segment", "cluster", "export"]


def state_of(folder: Path, name: str) -> dict:
    return json.loads((folder / "tomograms" / name / "state.json").read_text())


def written(folder: Path) -> dict[str, int]:
    """When each file of a campaign was written, but for those of every run."""
    files = [one for one in folder.rglob("*") if one.is_file()]
    of_run = ("summary.json", "campaign.json", "report.html", ".digest.json")
    return {str(one): one.stat().st_mtime_ns for one in files if one.name not in of_run}


def test_one_broken_file_stops_no_other(campaign, tmp_path, capsys):
    """Results are those of ``locate``, byte for byte; the broken one is named with its reason, and the exit code 1."""
    file = campaign(3)
    whole = (tmp_path / "t1.mrc").read_bytes()
    (tmp_path / "t1.mrc").write_bytes(whole[: len(whole) // 2])
    assert main(["run", str(file)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: tiny: 2 of 3 tomograms done, 1 failed: t1:")
    assert "truncated" in said
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["counts"] == {"done": 2, "failed": 1}
    assert [(one["tomogram"], one["stage"]) for one in summary["failures"]] == [("t1", "convert")]
    state = state_of(out, "t0")
    assert list(state["stages"]) == STAGES
    assert {one["state"] for one in state["stages"].values()} == {"done"}
    assert json.loads((out / "tomograms" / "t0" / "provenance.json").read_text())["input"]["sha256"]
    for name in ("t0", "t2"):
        alone = locate(tmp_path / f"{name}.mrc", tmp_path / "w.safetensors", tmp_path / name, method="components")
        table = out / "tomograms" / name / "particles.parquet"
        assert table.read_bytes() == (tmp_path / name / "particles.parquet").read_bytes()
        labels = Segmentation.open(str(out / "tomograms" / name / "segmentation.zarr")).label_map.read()
        assert np.array_equal(labels, alone.segmentation.label_map.read())
    together = Particles.read(out / "particles.parquet")
    assert list(together.tomograms) == ["t0", "t2"]
    assert len(together) == summary["particles"] > 0
    # A mended file is tried again only when asked for.
    (tmp_path / "t1.mrc").write_bytes(whole)
    assert run(file).counts == {"done": 2, "failed": 1}
    assert run(file, retry_failed=True).counts == {"done": 3}


def test_the_same_again_does_nothing_and_more_tomograms_extend_it(campaign, tmp_path, write_noise):
    file, out = campaign(2), tmp_path / "out"
    assert run(file).done_now == 2
    before = written(out)
    for name in ("t0.mrc", "w.safetensors"):
        os.utime(tmp_path / name)  # another clock, the same bytes
    again = run(file)
    assert (again.done_now, again.complete) == (0, True)
    assert written(out) == before
    write_noise(tmp_path / "t5.mrc", 5)
    assert run(file).done_now == 1
    after = written(out)
    assert {name for name in before if after[name] != before[name]} == {str(out / "particles.parquet")}
    assert list(Particles.read(out / "particles.parquet").tomograms) == ["t0", "t1", "t5"]


@pytest.mark.parametrize("lost", ["particles.parquet", "particles.star"])
def test_a_result_that_somebody_removed_comes_back(campaign, tmp_path, lost):
    file, out = campaign(2, "\n[keep]\nsegmentation = false\n"), tmp_path / "out"
    assert run(file).complete
    table, whole = out / "tomograms" / "t1" / lost, out / "particles.parquet"
    content, together = table.read_bytes(), whole.read_bytes()
    table.unlink()
    assert run(file).done_now == 1
    assert table.read_bytes() == content
    assert whole.read_bytes() == together


def test_a_damaged_table_is_named(campaign, tmp_path, capsys):
    file, out = campaign(2), tmp_path / "out"
    run(file, only=["t0"])
    table = out / "tomograms" / "t0" / "particles.parquet"
    content = table.read_bytes()
    table.write_bytes(content[:-9])
    assert main(["run", str(file)]) == 2
    assert f"error: {table} is damaged: remove it" in capsys.readouterr().err
    table.unlink()
    assert main(["run", str(file)]) == 0
    assert table.read_bytes() == content


def test_other_bytes_are_noticed_and_named(campaign, tmp_path, write_noise):
    file, out = campaign(2), tmp_path / "out"
    run(file)
    before = written(out)
    write_noise(tmp_path / "t1.mrc", 99, (16, 24, 24))
    result = run(file)
    assert [one.tomogram for one in result.failures] == ["t1"]
    assert "has changed since it was done" in result.failures[0].reason
    assert written(out) == before
    assert run(file, overwrite=True).done_now == 1
    assert run(file).complete


def test_other_settings_are_refused_and_only_what_follows_is_done_again(campaign, tmp_path):
    file, out = campaign(1), tmp_path / "out"
    run(file)
    labels = out / "tomograms" / "t0" / "segmentation.zarr" / "zarr.json"
    made = labels.stat().st_mtime_ns
    campaign(1, **{'method = "components"': 'method = "components"\nmin_size = 30'})
    with pytest.raises(OutputExistsError, match=r"other settings \(cluster.min_size was null, now 30\)"):
        run(file)
    few = run(file, overwrite=True)
    assert (few.done_now, labels.stat().st_mtime_ns) == (1, made)
    assert Particles.read(out / "particles.parquet").table["size_voxels"].min() >= 30
    # What changes no result may change.
    campaign(
        1,
        "tomograms = 3\n[segment]\nmemory = '2GiB'\n",
        **{'method = "components"': 'method = "components"\nmin_size = 30'},
    )
    assert run(file).done_now == 0


def test_foreign_files_and_a_second_driver_are_refused(campaign, tmp_path):
    file, out = campaign(1), tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    with pytest.raises(OutputExistsError, match="holds other files"):
        run(file)
    (out / "thesis.tex").unlink()
    with hold(out / ".campaign.lock", out):
        assert status(file).active
        with pytest.raises(InputError, match="another process is at work"):
            run(file)
    assert not status(file).active


def test_a_kill_while_the_first_file_is_written_leaves_an_empty_folder(campaign, tmp_path):
    file, out = campaign(1), tmp_path / "out"
    out.mkdir()
    (out / ".campaign.json.0a1b2c3d.partial").write_text("{")
    config = configured(file, RunSettings())
    assert len(prepare(config, RunSettings()).survey.todo) == 1


def test_a_kill_before_results_are_gathered_leaves_no_older_ones(campaign, tmp_path, monkeypatch):
    file, out = campaign(1), tmp_path / "out"
    assert run(file).particles
    file.write_text(file.read_text().replace("[cluster]", "[cluster]\nmin_size = 100000"))

    def killed(folder, names):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("deepfinder_dask.campaigns.running.verb.gather_particles", killed)
        with pytest.raises(KeyboardInterrupt):
            run(file, overwrite=True)
    assert run(file).particles == len(Particles.read(out / "particles.parquet")) == 0


def test_a_tomogram_that_is_no_longer_named_is_in_no_report(campaign, tmp_path):
    file, out = campaign(2), tmp_path / "out"
    run(file, only="convert")
    (tmp_path / "m.csv").write_text("path,name\nt0.mrc,renamed\n")
    file.write_text(file.read_text().replace("*.mrc", "m.csv"))
    run(file, only="convert")
    assert [one.name for one in read_campaign(out).tomograms] == ["renamed"]


def test_weights_that_were_replaced_are_read_again(tiny_weights, tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(tiny_weights.read_bytes())
    before = weights_of(str(file), None)
    save_weights(replace(before, voxel_size=12.0), file)
    os.utime(file, (1, 1))
    assert weights_of(str(file), None).voxel_size == 12.0


def test_only_some_tomograms_and_some_stages(campaign, tmp_path):
    file, out = campaign(3), tmp_path / "out"
    assert run(file, only=("t1", "convert")).counts == {"pending": 3}
    assert list(state_of(out, "t1")["stages"]) == ["convert"]
    assert not (out / "tomograms" / "t0").exists()
    converted = (out / "tomograms" / "t1" / "tomogram.zarr" / "zarr.json").stat().st_mtime_ns
    assert run(file, only="t[12]").counts == {"done": 2, "pending": 1}
    assert (out / "tomograms" / "t1" / "tomogram.zarr" / "zarr.json").stat().st_mtime_ns == converted
    with pytest.raises(SettingsError, match="--only x fits no tomogram: there are t0, t1, t2"):
        run(file, only="x")


def test_what_is_not_kept_goes_and_comes_back_when_needed(campaign, tmp_path):
    file, out = campaign(1, "[keep]\ntomogram = false\nsegmentation = false\n"), tmp_path / "out"
    run(file)
    left = {one.name for one in (out / "tomograms" / "t0").iterdir()}
    assert "particles.parquet" in left
    assert not left & {"tomogram.zarr", "segmentation.zarr"}
    table = (out / "tomograms" / "t0" / "particles.parquet").read_bytes()
    assert run(file).done_now == 0
    shutil.copy(out / "particles.parquet", tmp_path / "truth.parquet")
    campaign(1, '[keep]\ntomogram = false\nsegmentation = false\n[evaluate]\ntolerance = "40A"\nbootstrap = 0\n')
    file.write_text(
        file.read_text()
        .replace("[cluster]", 'truth = "truth.parquet"\n[cluster]', 1)
        .replace('tomograms = ["*.mrc"]\n\ntruth', 'tomograms = ["*.mrc"]\ntruth')
    )
    assert run(file, overwrite=True).done_now == 1
    assert (out / "tomograms" / "t0" / "particles.parquet").read_bytes() == table
    scores = json.loads((out / "tomograms" / "t0" / "evaluation.json").read_text())
    assert scores["overall"]["f1"] == 1.0


def test_the_plan_writes_nothing(campaign, tmp_path, capsys):
    file = campaign(2)
    (tmp_path / "t1.mrc").write_bytes(b"MAP " * 100)
    before = sorted(tmp_path.rglob("*"))
    assert main(["run", str(file), "--dry-run"]) == 0
    table = capsys.readouterr().out
    assert "16 × 20 × 24" in table
    assert "truncated" in table
    plan = plan_campaign(file)
    assert sorted(tmp_path.rglob("*")) == before
    assert plan.lines[0].blocks >= 1
    assert plan.lines[0].hours > 0
    assert plan.lines[0].memory_bytes > 2**29
    assert plan.disk_bytes == plan.lines[0].disk_bytes > 16 * 20 * 24 * 6


def test_status_says_what_is_left(campaign, tmp_path, capsys):
    file = campaign(2)
    (tmp_path / "t1.mrc").write_bytes(b"MAP " * 100)
    run(file)
    assert main(["status", str(file)]) == 0
    words = capsys.readouterr().out
    assert "tiny: 1 done, 1 failed; nobody at work" in words
    assert "truncated" in words
    assert main(["status", str(file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in facts["tomograms"]] == ["done", "failed"]


def test_a_handle_stops_and_the_same_call_goes_on(campaign, tmp_path):
    file = campaign(3)
    handle = run(file, wait=False)
    handle.stop()
    with pytest.raises(KeyboardInterrupt):
        handle.result(120)
    assert not handle.running
    done = run(file, wait=False)
    assert done.result(300).complete
    assert done.states() == {"t0": "done", "t1": "done", "t2": "done"}
    assert done.progress["counts"]["done"] == 3
    assert "3 done of 3" in done._repr_html_()
