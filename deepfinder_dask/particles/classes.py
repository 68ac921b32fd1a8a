"""Classes of particles and structures: what a label means.

Light on purpose: settings, weights and stores carry classes, so nothing here imports more than the standard library.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from deepfinder_dask.errors import FormatError, InputError, SettingsError
from deepfinder_dask.particles.files import atomic_write, existing_file

BACKGROUND = 0
"""Label of voxels that belong to no class."""
IGNORE = 255
"""Label of voxels that nobody annotated."""
MAX_LABEL = 254
"""Largest label of a class."""

PALETTE = (
    "#4e79a7",
    "#f28e2b",
    "#59a14f",
    "#e15759",
    "#b07aa1",
    "#edc948",
    "#76b7b2",
    "#ff9da7",
    "#9c755f",
    "#1b9e77",
    "#d95f02",
    "#7570b3",
    "#e7298a",
    "#66a61e",
    "#a6761d",
    "#5ad4e6",
)
"""Colours given to classes without one, by label: 1 takes the first, and so on around."""

Kind = Literal["particle", "structure"]


@dataclass(frozen=True, slots=True)
class ParticleClass:
    """One class that is segmented: its name, its label, and what is known of its size.

    Raises
    ------
    SettingsError
        A field has a value that cannot work.
    """

    name: str
    """Name, unique among the classes it is used with."""
    label: int
    """Value of its voxels in label maps, 1 to 254 (0 is background, 255 is *ignore*)."""
    kind: Kind = "particle"
    """``particle`` (clustered and counted) or ``structure`` (membranes, gold, ice: segmented, never clustered)."""
    radius: float | None = None
    """Radius in Å, None where unknown."""
    colour: str = ""
    """``#rrggbb``; left empty, the palette gives one by label."""
    min_size: int | None = None
    """Smallest size that counts as a particle, in voxels."""
    max_size: int | None = None
    """Largest size that counts as a particle, in voxels."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or not self.name.isprintable():
            raise SettingsError(f"a class needs a printable name, got {self.name!r}")
        if isinstance(self.label, bool) or not isinstance(self.label, int) or not 1 <= self.label <= MAX_LABEL:
            raise SettingsError(
                f"class {self.name!r}: a label is an integer from 1 to {MAX_LABEL} "
                f"(0 is background, 255 is ignore), got {self.label!r}"
            )
        if self.kind not in ("particle", "structure"):
            raise SettingsError(f"class {self.name!r}: kind is 'particle' or 'structure', got {self.kind!r}")
        if self.radius is not None:
            if not _is_number(self.radius) or not 0 < self.radius < float("inf"):
                raise SettingsError(f"class {self.name!r}: radius is a length in Å above 0, got {self.radius!r}")
            object.__setattr__(self, "radius", float(self.radius))
        if not self.colour:
            object.__setattr__(self, "colour", PALETTE[(self.label - 1) % len(PALETTE)])
        elif not isinstance(self.colour, str) or not re.fullmatch(r"#[0-9a-fA-F]{6}", self.colour):
            raise SettingsError(f"class {self.name!r}: colour is written '#rrggbb', got {self.colour!r}")
        for field, value in (("min_size", self.min_size), ("max_size", self.max_size)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise SettingsError(f"class {self.name!r}: {field} is a number of voxels, got {value!r}")
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            raise SettingsError(
                f"class {self.name!r}: min_size {self.min_size} is larger than max_size {self.max_size}"
            )

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Colour as red, green, blue, each 0 to 255."""
        return int(self.colour[1:3], 16), int(self.colour[3:5], 16), int(self.colour[5:7], 16)

    @property
    def unnamed(self) -> bool:
        """Whether the name says no more than the label (``class_3``)."""
        return self.name == placeholder_name(self.label)

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain values for JSON; unknown ones (None) are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ParticleClass:
        """Class from the mapping that :meth:`to_dict` gives.

        Raises
        ------
        SettingsError
            A field is unknown, missing, or has a value that cannot work.
        """
        if not isinstance(values, Mapping):
            raise SettingsError(f"a class is a table with name and label, got {values!r}")
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise SettingsError(f"class {values.get('name', '?')!r}: unknown field {unknown[0]!r}; known: {known}")
        missing = [name for name in ("name", "label") if name not in values]
        if missing:
            raise SettingsError(f"a class needs a name and a label; {missing[0]!r} is missing in {dict(values)!r}")
        return cls(**values)


def placeholder_name(label: int) -> str:
    """Name given to a class of which only the label is known."""
    return f"class_{label}"


def placeholder_classes(labels: Iterable[int]) -> tuple[ParticleClass, ...]:
    """Classes ``class_1``, ``class_2`` … for labels whose names are unknown, in order of label."""
    return tuple(ParticleClass(placeholder_name(label), label) for label in sorted({int(n) for n in labels}))


def check_classes(classes: Iterable[ParticleClass]) -> tuple[ParticleClass, ...]:
    """Classes in order of label, with names and labels unique.

    Raises
    ------
    SettingsError
        Two classes share a name or a label.
    """
    ordered = tuple(sorted(classes, key=lambda c: c.label))
    for what in ("name", "label"):
        seen: dict[object, ParticleClass] = {}
        for one in ordered:
            value = getattr(one, what)
            if value in seen:
                other = seen[value]
                raise SettingsError(
                    f"two classes have the {what} {value!r} "
                    f"({other.name!r} = {other.label}, {one.name!r} = {one.label}); each needs its own"
                )
            seen[value] = one
    return ordered


def classes_to_dicts(classes: Iterable[ParticleClass]) -> list[dict[str, Any]]:
    """Classes as a list of mappings for JSON metadata."""
    return [one.to_dict() for one in classes]


def classes_from_dicts(values: Sequence[Mapping[str, Any]]) -> tuple[ParticleClass, ...]:
    """Classes from the list that :func:`classes_to_dicts` gives, checked and in order of label."""
    return check_classes(ParticleClass.from_dict(one) for one in values)


def read_classes(path: str | Path) -> tuple[ParticleClass, ...]:
    """Read classes from a TOML file of ``[[class]]`` tables.

    Parameters
    ----------
    path
        File such as::

            [[class]]
            name = "ribosome"
            label = 1
            radius = 130.0     # Å

        What a class is drawn from in targets stands under it as ``target.shape = "map.mrc"`` …, and is passed over here
        (see :mod:`deepfinder_dask.targets.recipes`).

    Returns
    -------
    tuple of ParticleClass
        In order of label.

    Raises
    ------
    InputError
        There is no such file.
    FormatError
        The file is not TOML, or a class in it cannot work.
    """
    path = Path(path)
    tables = [{key: value for key, value in one.items() if key != "target"} for one in class_tables(path)]
    try:
        return classes_from_dicts(tables)
    except InputError as error:
        raise FormatError(f"{path}: {error}") from error


def class_tables(path: str | Path) -> list[dict[str, Any]]:
    """The ``[[class]]`` tables of a TOML file, as they are.

    Raises
    ------
    InputError
        There is no such file.
    FormatError
        The file is not TOML, or has no such tables.
    """
    path = existing_file(path, "a classes file")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: not a TOML file: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    tables = document.get("class")
    if not isinstance(tables, list) or not tables or not all(isinstance(one, dict) for one in tables):
        raise FormatError(f"{path}: expected [[class]] tables with name and label, found {sorted(document) or 'none'}")
    return tables


def write_classes(classes: Iterable[ParticleClass], path: str | Path) -> None:
    """Write classes as the TOML file that :func:`read_classes` reads.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    tables = []
    for one in check_classes(classes):
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in one.to_dict().items()]
        tables.append("\n".join(["[[class]]", *lines]))
    with atomic_write(path) as temporary:
        temporary.write_text("\n\n".join(tables) + "\n", encoding="utf-8")


def _is_number(value: object) -> bool:
    """Whether a value is a real number (bool is none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
