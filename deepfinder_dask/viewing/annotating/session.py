"""A session: the particles of one tomogram while a person works on them, safe at every edit."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from deepfinder_dask.errors import FormatError, GeometryError, InputError
from deepfinder_dask.particles import ParticleClass, Particles
from deepfinder_dask.particles.files import atomic_write
from deepfinder_dask.tomograms import Tomogram
from deepfinder_dask.viewing.annotating.edits import Annotation, Edit, History, Position, Verdict, line_of
from deepfinder_dask.viewing.annotating.journal import Journal, digest
from deepfinder_dask.viewing.annotating.settings import AnnotateSettings
from deepfinder_dask.viewing.annotating.tables import annotations_of, table_of


class Session:
    """Particles being annotated. Made by :func:`open_session`; to be closed, as by ``with``.

    Each edit is in the journal, on disk, when its method returns; :meth:`save` writes the table. Any thread may call.
    """

    def __init__(
        self,
        tomogram: Tomogram,
        output: Path,
        classes: tuple[ParticleClass, ...],
        journal: Journal,
        settings: AnnotateSettings,
    ) -> None:
        self.tomogram = tomogram
        """What is annotated."""
        self.output = output
        """Table of particles that is written."""
        self.classes = classes
        """All classes, in order of label."""
        self.settings = settings
        """How the session was opened."""
        self.start = journal.start
        """Particles that the session started from; number ``n`` is row ``n``."""
        self._journal = journal
        self._lock = RLock()
        self._held = ExitStack()
        self._closed = False
        self._unsaved = True
        self._labels = {one.label for one in classes if one.kind == "particle"}
        self._history = History(annotations_of(journal.start))
        for number, line in enumerate(journal.lines, 2):
            try:
                self._history.apply(line)
            except (ValueError, TypeError, KeyError) as error:
                raise FormatError(f"{journal.path}: line {number} is damaged: {error}") from error
        unknown = {one.label for one in self._history.particles.values()} - self._labels
        if unknown:
            raise InputError(
                f"{journal.path} has particles of label {min(unknown)}: give the classes that it belongs to"
            )

    # --- looking ------------------------------------------------------------------------------------------------

    @property
    def annotations(self) -> dict[int, Annotation]:
        """All particles by number, rejected ones too."""
        with self._lock:
            return dict(self._history.particles)

    @property
    def scores(self) -> dict[int, float]:
        """Scores that particles came with, by number, where they are known."""
        known = self.start.table["score"].to_numpy(dtype=np.float64)
        return {int(number): float(known[number]) for number in np.flatnonzero(~np.isnan(known))}

    @property
    def unsaved(self) -> bool:
        """Whether the table lacks edits that the journal has."""
        return self._unsaved

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return bool(self._history.done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone edit to bring back."""
        return bool(self._history.undone)

    def particles(self) -> Particles:
        """The table as it stands, without rejected particles."""
        judged: tuple[Verdict, ...] = ("accepted",) if self.settings.reviewed_only else ("accepted", "open")
        return self._table(judged)

    def rejected(self) -> Particles:
        """The rejected particles, under the classes that they are none of."""
        return self._table(("rejected",))

    def _table(self, verdicts: tuple[Verdict, ...]) -> Particles:
        kept = {number: one for number, one in self.annotations.items() if one.verdict in verdicts}
        return table_of(self.start, self.classes, kept)

    # --- editing ------------------------------------------------------------------------------------------------

    def add(self, label: int, position: Position) -> Edit:
        """Add a particle.

        Parameters
        ----------
        label : int
            Its class.
        position : tuple of float
            Its centre in Å, (z, y, x).

        Raises
        ------
        InputError
            There is no such class, or the position is outside the tomogram.
        StorageError
            The edit cannot be kept; nothing has changed.
        """
        with self._lock:
            return self._put(self._history.free, Annotation(label, position))

    def move(self, particle: int, position: Position) -> Edit:
        """Give a particle another position (Å, (z, y, x)); it counts as judged. Errors as in :meth:`add`."""
        with self._lock:
            return self._put(particle, replace(self._known(particle), position=position, verdict="accepted"))

    def relabel(self, particle: int, label: int) -> Edit:
        """Give a particle another class; it counts as judged. Errors as in :meth:`add`."""
        with self._lock:
            return self._put(particle, replace(self._known(particle), label=label, verdict="accepted"))

    def judge(self, particle: int, verdict: Verdict) -> Edit:
        """Accept or reject a particle, or make it ``open`` again. Errors as in :meth:`add`."""
        with self._lock:
            return self._put(particle, replace(self._known(particle), verdict=verdict))

    def remove(self, particle: int) -> Edit:
        """Remove a particle; unlike a rejected one it is no negative either. Errors as in :meth:`add`."""
        with self._lock:
            self._known(particle)
            return self._put(particle, None)

    def undo(self) -> Edit | None:
        """Take back the last edit; None where there is none. A StorageError as in :meth:`add`."""
        with self._lock:
            if not self._history.done:
                return None
            self._keep({"undo": 1})
            return self._history.undo()

    def redo(self) -> Edit | None:
        """Bring back the edit undone last; None where there is none. A StorageError as in :meth:`add`."""
        with self._lock:
            if not self._history.undone:
                return None
            self._keep({"redo": 1})
            return self._history.redo()

    def _known(self, particle: int) -> Annotation:
        found = self._history.particles.get(particle)
        if found is None:
            raise InputError(f"there is no particle {particle} (any more)")
        return found

    def _put(self, particle: int, after: Annotation | None) -> Edit:
        before = self._history.particles.get(particle)
        edit = Edit(particle, before, after)
        if after is not None:
            after = Annotation.from_dict(after.to_dict())  # numbers of NumPy are no JSON
            if after.label not in self._labels:
                raise InputError(f"label {after.label} belongs to none of the classes {sorted(self._labels)}")
            voxels = np.asarray(after.position) / np.asarray(self.tomogram.voxel_size)
            if np.any((voxels < -0.5) | (voxels > np.asarray(self.tomogram.shape) - 0.5)):
                raise GeometryError(
                    f"a position is inside the tomogram, {self.tomogram.shape} voxels (z, y, x), "
                    f"got voxel {np.round(voxels, 2).tolist()}"
                )
            edit = Edit(particle, before, after)
            if before == after:
                return edit
        self._keep(line_of(edit))
        return self._history.put(particle, after)

    def _keep(self, line: dict[str, Any]) -> None:
        if self._closed:
            raise InputError(f"the session of {self.output} is closed: open it again")
        self._journal.append(line)
        self._unsaved = True

    # --- saving -------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the table, and the negatives if asked for; each is whole or as before.

        Raises
        ------
        StorageError
            One of them cannot be written; the journal holds all edits nevertheless.
        """
        with self._lock:
            with ExitStack() as stack:
                line = {"saved": _placed(self.particles(), self.output, stack)}
                if self.settings.negatives is not None:
                    line["negatives"] = _placed(self.rejected(), Path(self.settings.negatives), stack)
                # The journal knows a file before it is in its place, so that none of ours looks like another's.
                self._journal.append(line)
            self._unsaved = False

    def hold(self, stack: ExitStack) -> None:
        """Take over what is to be let go of at the end."""
        self._held = stack

    def close(self) -> None:
        """Save what is not saved yet, and let go of the output. Errors as in :meth:`save`."""
        with self._lock, self._held:
            if self._unsaved and not self._closed:
                self.save()
            self._closed = True

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _placed(particles: Particles, path: Path, stack: ExitStack) -> str | None:
    """Write a table beside its place, to take it when the stack ends; its digest."""
    temporary = stack.enter_context(atomic_write(path))
    particles.write(temporary)
    return digest(temporary)
