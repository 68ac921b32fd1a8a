"""Who may write into an output, whatever happened in it meanwhile, and wherever an earlier run was killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepfinder_dask.errors import InputError, OutputExistsError, SettingsError
from deepfinder_dask.execution import SerialExecutor
from deepfinder_dask.networks import save_weights
from deepfinder_dask.segmentation import Segmentation, forecast, forecasting, job, segment, verb, workers
from deepfinder_dask.segmentation.store import ledger_of
from deepfinder_dask.tomograms import location, normalisation

SHAPE = (11, 20, 30)
BLOCK = (12, 12, 16)


class Interrupting(SerialExecutor):
    """Stops after so many blocks."""

    def __init__(self, after: int) -> None:
        self.after = after

    def run(self, function, items, **options):
        for number, result in enumerate(super().run(function, items, **options)):
            if number == self.after and hasattr(function, "ledger"):
                raise KeyboardInterrupt
            yield result


def interrupted(*work, after=2, **options):
    with pytest.raises(KeyboardInterrupt):
        segment(*work, executor=Interrupting(after), block=BLOCK, **options)


def contents(done: Segmentation):
    return [volume.read() for volume in (done.label_map, done.probability_map)]


def same(one: Segmentation, other: Segmentation) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(contents(one), contents(other), strict=True))


def removing_half(monkeypatch, name, later=""):
    """Removing a folder of this name removes the shards in it and is interrupted; another one comes later."""
    remove = shutil.rmtree

    def half(path, *words, **options):
        if Path(path).name != name:
            return None if Path(path).name == later else remove(path, *words, **options)
        shards = [p for p in Path(path).rglob("*") if p.is_file() and p.suffix != ".json"]
        for shard in shards:
            shard.unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(location.shutil, "rmtree", half)


def test_a_finished_output_that_is_half_removed_is_not_gone_on_with(make_tomogram, weights, tmp_path, monkeypatch):
    tomogram, output = make_tomogram(SHAPE), tmp_path / "s.zarr"
    reference = segment(tomogram, weights, tmp_path / "reference.zarr")
    segment(tomogram, weights, output, block=BLOCK)
    with monkeypatch.context() as patch:
        removing_half(patch, "labels", later=".ledger")
        with pytest.raises(KeyboardInterrupt):
            segment(tomogram, weights, output, block=BLOCK, overwrite=True)
    assert same(segment(tomogram, weights, output, block=BLOCK), reference)


def test_a_rescaled_segmentation_killed_while_it_tidies_up_ends_the_same(make_tomogram, weights, tmp_path, monkeypatch):
    tomogram, output = make_tomogram((9, 12, 14), voxel_size=16.0), tmp_path / "s.zarr"
    reference = segment(tomogram, weights, tmp_path / "reference.zarr", rescale=True)
    with monkeypatch.context() as patch:
        removing_half(patch, "labels")
        with pytest.raises(KeyboardInterrupt):
            segment(tomogram, weights, output, rescale=True)
    assert same(segment(tomogram, weights, output, rescale=True), reference)
    assert not (output / "rescaled").exists()


class Slow(SerialExecutor):
    """While its workers are waited for, something happens."""

    def __init__(self, happens) -> None:
        self.happens = happens

    def ask(self, function):
        self.happens()
        return super().ask(function)


def test_what_another_process_finished_meanwhile_is_not_removed(make_tomogram, weights, tmp_path):
    tomogram, output = make_tomogram(SHAPE), tmp_path / "s.zarr"
    slow = Slow(lambda: segment(tomogram, weights, output))
    with pytest.raises(OutputExistsError, match="already there"):
        segment(tomogram, weights, output, executor=slow)
    assert Segmentation.open(str(output)).label_map.shape == SHAPE


def test_what_another_process_began_meanwhile_is_not_removed(make_tomogram, weights, tmp_path):
    tomogram, output = make_tomogram(SHAPE), tmp_path / "s.zarr"
    slow = Slow(lambda: interrupted(tomogram, weights, output))
    with pytest.raises(InputError, match=r"another process has been at work .*: run the same command again"):
        segment(tomogram, weights, output, executor=slow)
    assert len(ledger_of(str(output)).recorded()) >= 2


def test_work_that_another_process_went_on_with_and_finished_is_not_done_again(make_tomogram, weights, tmp_path):
    tomogram, output = make_tomogram(SHAPE), tmp_path / "s.zarr"
    interrupted(tomogram, weights, output)
    slow = Slow(lambda: segment(tomogram, weights, output))
    with pytest.raises(OutputExistsError, match="already there"):
        segment(tomogram, weights, output, executor=slow)


def with_(monkeypatch, **changes):
    """Workers that are said to be different."""
    choose = workers.choose_workers
    monkeypatch.setattr(job, "choose_workers", lambda *words: replace(choose(*words), **changes))


def test_begun_work_goes_on_with_more_cores_than_it_was_planned_for(make_tomogram, weights, tmp_path, monkeypatch):
    """Each core takes some memory of its own; --memory cannot help, since the blocks stay."""
    tomogram, output = make_tomogram(SHAPE), tmp_path / "s.zarr"
    interrupted(tomogram, weights, output)
    with_(monkeypatch, threads=1000)
    with pytest.raises(SettingsError, match="GiB"):
        segment(tomogram, weights, tmp_path / "t.zarr", block=BLOCK)
    segment(tomogram, weights, output)


def test_a_mirrored_tomogram_is_another_one_though_its_statistics_are_the_same(make_tomogram, weights, tmp_path):
    values = np.random.default_rng(0).permuted(np.tile(np.float32([-1, 1]), (11, 20, 15)), axis=2)
    output = tmp_path / "s.zarr"
    interrupted(make_tomogram(SHAPE, values=values, statistics=True), weights, output)
    for axis in range(3):
        mirrored = make_tomogram(SHAPE, values=np.flip(values, axis), statistics=True)
        with pytest.raises(OutputExistsError, match="another tomogram"):
            segment(mirrored, weights, output)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("device", r"another device \(cuda, now cpu\)"),
        ("precision", r"another precision \(bf16, now fp32\)"),
    ],
)
def test_begun_work_names_the_hardware_that_it_needs(make_tomogram, weights, tmp_path, monkeypatch, entry, words):
    tomogram, output = make_tomogram(SHAPE), tmp_path / "s.zarr"
    interrupted(tomogram, weights, output, precision="fp32")
    plan = output / ".ledger" / "plan.json"
    text = json.loads(plan.read_text())
    text["identity"][entry] = {"device": "cuda", "precision": "bf16"}[entry]
    plan.write_text(json.dumps(text))
    describe = workers._describe()
    monkeypatch.setattr(workers, "_describe", lambda: replace(describe, bf16=()))
    with pytest.raises(OutputExistsError, match=words):
        segment(tomogram, weights, output)


def test_classes_named_anew_are_those_of_the_resumed_segmentation(make_tomogram, weights, tmp_path):
    tomogram, output = make_tomogram(SHAPE), tmp_path / "s.zarr"
    interrupted(tomogram, weights, output)
    renamed = weights.with_classes((replace(weights.classes[0], name="ribosome"), weights.classes[1]))
    assert [c.name for c in segment(tomogram, renamed, output).classes] == ["ribosome", "membrane"]


def test_progress_is_told_also_where_only_the_end_was_missing(make_tomogram, weights, tmp_path, monkeypatch):
    tomogram, output = make_tomogram(SHAPE), tmp_path / "s.zarr"
    ledger = ledger_of(str(output))

    def killed(*_, **__):
        ledger.write_progress({"finished": False})  # the last that was said
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(verb, "finish_outputs", killed)
        with pytest.raises(KeyboardInterrupt):
            segment(tomogram, weights, output)
    segment(tomogram, weights, output)
    assert ledger.progress()["finished"]


def test_no_level_of_the_tomogram_is_replaced(make_tomogram, weights):
    tomogram = make_tomogram(SHAPE)
    with pytest.raises(SettingsError, match="would replace the tomogram"):
        segment(tomogram, weights, f"{tomogram.path}/0", overwrite=True)
    assert tomogram.read().any()


def test_a_tomogram_without_statistics_is_measured_once(make_tomogram, weights, tmp_path, monkeypatch):
    measured = []
    measure = normalisation.statistics_of
    monkeypatch.setattr(normalisation, "statistics_of", lambda volume: measured.append(volume) or measure(volume))
    segment(make_tomogram(SHAPE), weights, tmp_path / "s.zarr")
    assert len(measured) == 1


def test_plans_are_made_for_the_workers_that_are_fit(make_tomogram, weights, monkeypatch):
    here = workers._describe()
    other = replace(here, machines={"cpu": "cpu SVE"})

    class Mixed(SerialExecutor):
        workers = 5

        def ask(self, function):
            answers = {"a": function(), "c": function()}
            with monkeypatch.context() as patch:
                patch.setattr(workers, "_describe", lambda: other)
                return answers | {"b": other if function is describe else function()}

    describe = workers._describe
    monkeypatch.setattr(forecasting, "open_workers", lambda settings: nullcontext(Mixed()))
    assert forecast(make_tomogram(SHAPE), weights).workers == 2


START = """
import sys, time
from deepfinder_dask import segment
from deepfinder_dask.errors import DeepFinderError
import deepfinder_dask.segmentation.verb
if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        segment(*sys.argv[1:], progress=False)
    except DeepFinderError as error:
        print(error, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_of_three_that_begin_at_once_one_does_the_work(make_tomogram, weights, tmp_path, there):
    tomogram, output = make_tomogram(SHAPE, statistics=True), tmp_path / "s.zarr"
    reference = segment(tomogram, weights, tmp_path / "reference.zarr")
    if there:
        interrupted(tomogram, weights, output)
    save_weights(weights, tmp_path / "w.safetensors")
    words = [sys.executable, "-c", START, tomogram.path, str(tmp_path / "w.safetensors"), str(output)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        three = [stack.enter_context(subprocess.Popen(words, **pipes)) for _ in range(3)]
        for process in three:
            assert process.stdout.readline() == "ready\n"
        for process in three:
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate()[0] for process in three]
    assert sorted(map(bool, said)) == [False, True, True], said
    assert all("another process" in words or "already there" in words for words in said if words)
    assert same(Segmentation.open(str(output)), reference)
    assert not (tmp_path / ".s.zarr.lock").exists()
