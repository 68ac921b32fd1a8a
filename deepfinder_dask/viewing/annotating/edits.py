"""What a session knows, and how it changes: one kind of edit, its undoing, and their lines in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, get_args

Verdict = Literal["open", "accepted", "rejected"]
"""What a person says of a particle; those added by hand are accepted."""
Position = tuple[float, float, float]
"""Å, (z, y, x)."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One particle as it stands in a session."""

    label: int
    """Its class."""
    position: Position
    """Its centre, Å, (z, y, x); the centre of voxel ``i`` is at ``i * voxel_size``."""
    verdict: Verdict = "accepted"
    """Whether a person has judged it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; floats survive the round trip bit for bit."""
        return {"label": self.label, "zyx": list(self.position), "verdict": self.verdict}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Annotation:
        """The inverse of :meth:`to_dict`; a ValueError, TypeError or KeyError where that cannot be."""
        z, y, x = (float(v) for v in values["zyx"])
        verdict = values["verdict"]
        if verdict not in get_args(Verdict) or not all(isfinite(v) for v in (z, y, x)):
            raise ValueError(f"no annotation: {values!r}")
        return cls(int(values["label"]), (z, y, x), verdict)


@dataclass(frozen=True, slots=True)
class Edit:
    """A particle becomes something else: added (before None), removed (after None), moved, relabelled or judged."""

    particle: int
    """Its number, never used for another one."""
    before: Annotation | None
    """As it was."""
    after: Annotation | None
    """As it is."""


@dataclass
class History:
    """The particles of a session, and the edits that made them so."""

    particles: dict[int, Annotation] = field(default_factory=dict)
    """By number."""
    done: list[Edit] = field(default_factory=list)
    """Edits that :meth:`undo` can take back, the last one first."""
    undone: list[Edit] = field(default_factory=list)
    """Edits that :meth:`redo` can bring back, the last one first."""
    free: int = 0
    """Smallest number above all that were ever used."""

    def __post_init__(self) -> None:
        self.free = max(self.free, max(self.particles, default=-1) + 1)

    def put(self, particle: int, after: Annotation | None) -> Edit:
        """Make a particle what is given, None for removed."""
        edit = Edit(particle, self.particles.get(particle), after)
        self._set(particle, after)
        self.done.append(edit)
        self.undone.clear()
        self.free = max(self.free, particle + 1)
        return edit

    def undo(self) -> Edit | None:
        """Take back the last edit; None where there is none."""
        if not self.done:
            return None
        edit = self.done.pop()
        self._set(edit.particle, edit.before)
        self.undone.append(edit)
        return edit

    def redo(self) -> Edit | None:
        """Bring back what was undone last; None where nothing was, or where an edit came in between."""
        if not self.undone:
            return None
        edit = self.undone.pop()
        self._set(edit.particle, edit.after)
        self.done.append(edit)
        return edit

    def apply(self, line: Mapping[str, Any]) -> None:
        """Do what a line of the journal says.

        Raises
        ------
        ValueError, TypeError, KeyError
            It says nothing that can be done.
        """
        if "particle" in line:
            after = line["is"]
            self.put(int(line["particle"]), None if after is None else Annotation.from_dict(after))
        elif "undo" in line or "redo" in line:
            if (self.undo() if "undo" in line else self.redo()) is None:
                raise ValueError(f"nothing to {next(iter(line))}")
        elif "saved" not in line:
            raise ValueError(f"unknown line {dict(line)!r}")

    def _set(self, particle: int, value: Annotation | None) -> None:
        if value is None:
            self.particles.pop(particle, None)
        else:
            self.particles[particle] = value


def line_of(edit: Edit) -> dict[str, Any]:
    """What the journal says of an edit."""
    return {"particle": edit.particle, "is": None if edit.after is None else edit.after.to_dict()}
