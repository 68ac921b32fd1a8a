"""``train``: from tomograms, targets and positions to weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deepfinder_dask import __version__
from deepfinder_dask.clustering import ClusterSettings
from deepfinder_dask.errors import OutputExistsError, PartialFailure, SettingsError
from deepfinder_dask.execution import Progress, options_to_settings
from deepfinder_dask.execution.computing import own_cores
from deepfinder_dask.execution.progress import in_notebook
from deepfinder_dask.networks import Weights, load_weights, save_weights
from deepfinder_dask.segmentation import SegmentSettings
from deepfinder_dask.segmentation.block import TURNED
from deepfinder_dask.training.augmentation import NONE, Augmentation
from deepfinder_dask.training.checkpoints import append_log, load_state, read_facts, save_state, write_log
from deepfinder_dask.training.config import TrainingConfig, find_config, read_config
from deepfinder_dask.training.counting import check_tolerance, count_particles
from deepfinder_dask.training.data import TrainingData, open_data
from deepfinder_dask.training.fine_tuning import TakenOver, take_over
from deepfinder_dask.training.loop import Place, run
from deepfinder_dask.training.losses import Loss
from deepfinder_dask.training.patches import Annotated, PatchSampler
from deepfinder_dask.training.processes import Processes, open_processes
from deepfinder_dask.training.settings import TrainSettings
from deepfinder_dask.training.starting import hold_folder, identity_of, precision_of
from deepfinder_dask.training.state import Schedule, State, new_state, scores_of
from deepfinder_dask.training.watching.board import Board, open_board
from deepfinder_dask.training.watching.pictures import PICTURES, RunPictures
from deepfinder_dask.training.watching.view import TrainingView

KEPT = ("best.safetensors", "last.safetensors", "state.safetensors", *PICTURES)
"""What checkpoints leave in a run's folder."""
MOST_READERS = 8
"""Threads that read for a GPU, where nobody says."""


def train(
    config: str | Path,
    output: str | Path,
    settings: TrainSettings | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> Path:
    """Train a network.

    The folder gets ``best.safetensors`` (highest mean F1: of the particles found in the validation tomograms where
    these are counted, else of the validation patches' voxels) and ``last.safetensors``, ``log.jsonl`` (one line per
    step), ``curves.png``, ``patches.png`` (validation patches with target and prediction) and ``curves.html``, which
    shows all of it and renews itself, and ``state.safetensors`` to resume from.
    :func:`~deepfinder_dask.training.watch` shows in a notebook what a run, of any process, has reached.

    Under ``torchrun`` the processes share each batch; the result is that of one process, but for the order of sums.

    Parameters
    ----------
    config : str or path
        TOML file (see :mod:`deepfinder_dask.training.config`), or ``demo``, which comes with the package.
    output : str or path
        Folder of the run; made if it is not there.
    settings : TrainSettings, optional
        How; default the defaults.
    progress : bool
        Show a bar where standard error is a terminal; in a notebook, curves, scores and example patches too.
    **options
        Single fields of the settings, such as ``resume=True``.

    Returns
    -------
    Path
        The best weights.

    Raises
    ------
    InputError
        If configuration or data cannot work (see :func:`~deepfinder_dask.training.data.open_data`), the folder holds a
        run already, or another process trains in it.
    PartialFailure
        If the loss is no longer finite; ``last.safetensors`` then holds the last good weights.
    """
    chosen = options_to_settings(TrainSettings, settings, options)
    what = read_config(config)
    folder = Path(output)
    with open_processes(chosen.device) as processes, hold_folder(folder, processes):
        taken = (folder / "log.jsonl").exists() and not (chosen.resume or chosen.overwrite)
        if processes.told([float(taken)]) != [0.0]:  # one answer for all: the first process writes that file soon
            raise OutputExistsError(
                f"{folder} holds a run already: go on with --resume, or replace it with --overwrite"
            )
        prepared = _Run.prepare(what, chosen, folder, chosen.data or find_config(config).parent, processes)
        prepared.go(progress and processes.first)
    return folder / "best.safetensors"


@dataclass
class _Run:
    """A run, ready to go."""

    config: TrainingConfig
    data: TrainingData
    folder: Path
    schedule: Schedule
    place: Place
    state: State
    identity: str
    began: dict[str, Any]
    taken_over: TakenOver | None
    resumed: bool
    pictures: RunPictures | None = None
    """What draws the run, in the first process."""

    @classmethod
    def prepare(
        cls, what: TrainingConfig, chosen: TrainSettings, folder: Path, root: Path, processes: Processes
    ) -> _Run:
        """Open everything, and refuse what cannot work."""
        if what.batch < processes.count:
            raise SettingsError(f"batch must be as many as the processes, got {what.batch} for {processes.count}")
        data = open_data(what, root)
        if what.particles_every:
            check_tolerance(what.tolerance, data.classes)
        init = None if chosen.init is None else load_weights(chosen.init)
        identity = identity_of(what, data, init)
        checkpoint = folder / "state.safetensors"
        began = read_facts(checkpoint, identity)["began"] if chosen.resume else {}
        threads = chosen.threads or int(began.get("threads", 0)) or max(1, own_cores() // processes.count)
        precision = precision_of(what, processes, began)
        gpu = processes.device.type == "cuda"
        readers = chosen.readers or (min(MOST_READERS, max(2, own_cores() // processes.count)) if gpu else 2)
        schedule = Schedule(
            what.steps,
            what.learning_rate,
            what.warm_up,
            what.check_every,
            what.seed,
            what.decay,
            what.average,
            what.patience,
            what.particles_every,
            what.hard_negatives,
        )
        network_classes = len(data.classes) + 1
        state = new_state(network_classes, schedule, processes.device)
        taken_over = None
        if init is not None:
            taken_over = take_over(state.network, init, data)
            if state.averaged is not None:
                state.averaged.load_state_dict(state.network.state_dict())
        if chosen.resume:
            load_state(state, checkpoint, identity)
        place = Place(threads, readers, precision, processes)
        facts = {"threads": threads, "precision": precision}
        return cls(what, data, folder, schedule, place, state, identity, facts, taken_over, chosen.resume)

    def go(self, progress: bool) -> None:
        """Take the steps, and leave weights, log and curves."""
        what, state, log = self.config, self.state, self.folder / "log.jsonl"
        writes = self.place.processes.first
        if writes:
            if not self.resumed:
                for name in KEPT:  # weights of a run that is replaced would pass for this one's
                    (self.folder / name).unlink(missing_ok=True)
                shutil.rmtree(self.folder / "tensorboard", ignore_errors=True)
                self._keep_state()  # a run that is killed before its first check can be resumed too
            write_log(state.record, log)  # without steps that a killed run took after its checkpoint
        title = f"train {self.folder.name}"
        shown = None if progress else False
        with self._board() as board, Progress(title, what.steps, unit="step", enabled=shown, done=state.step) as bar:
            if writes:
                self.pictures = self._pictures(bar.enabled)

            def report(_: State, improved: bool) -> None:
                bar.advance()
                append_log(state.record[-1], log)
                board.add(state.record[-1])
                if "f1" in state.record[-1]:
                    self._checkpoint(improved)
                if self.pictures is not None:
                    self.pictures.step(state.record)

            try:
                run(
                    state,
                    self._sampler(self.data.train, what.batch, augmented=True),
                    self._sampler(self.data.validation, what.validation_patches, augmented=False),
                    self.schedule,
                    report,
                    loss=Loss(what.loss, *what.tversky),
                    place=self.place,
                    count_particles=self._count if what.particles_every else None,
                    look=self.pictures.judged if self.pictures is not None else None,
                )
            except PartialFailure:
                self._keep_last()  # the weights to begin with, if the very first step went wrong
                raise
            finally:
                if state.record:
                    self._keep_last()
                if self.pictures is not None:
                    self.pictures.end(state.record)

    def _pictures(self, shown: bool) -> RunPictures:
        """What draws the run, with a view in the notebook, if this is one."""
        view = TrainingView(self.folder) if shown and in_notebook() else None
        pictures = RunPictures(
            self.folder, self.data.classes, self.config.steps, None if view is None else view.refresh
        )
        pictures.begin()
        if view is not None:
            view.refresh().show()
        return pictures

    @contextmanager
    def _board(self) -> Iterator[Board]:
        if self.place.processes.first:
            with open_board(self.folder, self.data.classes, self.state.step) as board:
                yield board
        else:
            yield Board(None, ())

    def _sampler(self, tomograms: tuple[Annotated, ...], batch: int, *, augmented: bool) -> PatchSampler:
        what = self.config
        return PatchSampler(
            tomograms,
            what.patch_size,
            batch,
            what.shift,
            what.seed,
            len(self.data.classes),
            what.background,
            TURNED[self.data.imaging.tilt_axis],
            Augmentation(what.augment_intensity, what.augment_amplitudes) if augmented else NONE,
        )

    def _keep(self, name: str) -> None:
        save_weights(self.weights(), self.folder / name)

    def _keep_state(self) -> None:
        save_state(self.state, self.folder / "state.safetensors", self.identity, self.began)

    def _keep_last(self) -> None:
        if self.place.processes.first:
            self._keep("last.safetensors")

    def _checkpoint(self, improved: bool) -> None:
        if improved:
            self._keep("best.safetensors")
        self._keep_last()
        self._keep_state()

    def _count(self, _: State) -> dict[str, float]:
        device = "cuda" if self.place.processes.device.type == "cuda" else "cpu"
        return count_particles(
            self.weights(),
            self.data.whole,
            self.folder / "validation",
            segmenting=SegmentSettings(device=device, overwrite=True),  # type: ignore[arg-type]  # one of its two words
            clustering=ClusterSettings(method=self.config.clustering),
            tolerance=self.config.tolerance,
        )

    def weights(self) -> Weights:
        """The network as it is judged, with all that belongs to it and where it comes from."""
        state, data = self.state, self.data
        scores = [scores for entry in state.record if (scores := scores_of(entry))]
        settings = {k: v for k, v in asdict(self.config).items() if k not in ("train", "validation", "held_out")}
        provenance = {
            "program": f"deepfinder_dask {__version__}",
            "training": settings,
            "steps_taken": state.step,
            "data": data.provenance,
            "validation": {k: round(v, 4) for k, v in scores[-1].items()} if scores else {},
        }
        if self.taken_over is not None:
            provenance["init"] = self.taken_over.to_dict()
        return Weights(
            state={name: values.detach().cpu().contiguous() for name, values in state.judged.state_dict().items()},
            classes=data.classes,
            voxel_size=data.voxel_size,
            normalisation=data.normalisation,
            imaging=data.imaging,
            provenance=provenance,
        )


def describe_init(best: Path) -> str:
    """What a run took over from the weights it started from, in words; empty where it started anew."""
    facts = load_weights(best).provenance.get("init")
    if facts is None:
        return ""
    return f"; taken over {TakenOver.from_dict(facts).words()}"
