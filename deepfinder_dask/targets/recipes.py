"""What each class is drawn from: a radius, a shape, given label maps; from the classes file and the settings.

In a classes file it stands under the class, paths counted from the folder of the file::

    [[class]]
    name = "proteasome"
    label = 1
    radius = 75.0                       # Å: spheres, for particles without angles too
    target.shape = "maps/4cr2.mrc"      # a cubic density map or mask: oriented shapes
    target.threshold = 0.4              # of the density; by default what gives a sphere's volume of that radius
    target.voxel_size = 10.0            # Å, where the file does not say it

    [[class]]
    name = "membrane"
    label = 2
    kind = "structure"
    target.labels = "{tomogram}_membranes.mrc"    # voxels other than 0, or those of target.value
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepfinder_dask.errors import FormatError, SettingsError
from deepfinder_dask.particles import ParticleClass, read_classes
from deepfinder_dask.particles.classes import class_tables
from deepfinder_dask.targets.settings import TargetSettings

KEYS = ("labels", "shape", "threshold", "value", "voxel_size")
"""What may stand under ``target`` of a class."""


@dataclass(frozen=True)
class ShapeFile:
    """A file that a class is drawn from."""

    path: str
    """Density map or mask."""
    threshold: float | None = None
    """Grey value from which on a voxel belongs to the shape; None: halfway for masks, by the radius for densities."""
    voxel_size: Any = None
    """Å per voxel, one number or (z, y, x), where the file does not say it."""


@dataclass(frozen=True)
class LabelFile:
    """A label map to merge."""

    path: str
    """File or Zarr store."""
    label: int | None = None
    """Label that its voxels take; None keeps those it holds."""
    value: int | None = None
    """The one value that counts; None for every value other than 0."""


@dataclass(frozen=True)
class Recipe:
    """What to draw."""

    classes: tuple[ParticleClass, ...]
    """All classes, in order of label."""
    shapes: Mapping[str, ShapeFile]
    """Shapes by name of class."""
    labels: tuple[LabelFile, ...]
    """Label maps to merge."""
    source: str
    """Where the classes come from, for messages."""

    def class_named(self, name: str, what: str) -> ParticleClass:
        """The class of this name.

        Raises
        ------
        SettingsError
            There is none; ``what`` says who asks.
        """
        for one in self.classes:
            if one.name == name:
                return one
        raise SettingsError(f"{what} names the class {name!r}; the classes in {self.source} are {self.names()}")

    def names(self) -> list[str]:
        """Names of all classes, in order of label."""
        return [one.name for one in self.classes]


def recipe_of(settings: TargetSettings, tomogram: str, classes: Sequence[ParticleClass], source: str) -> Recipe:
    """What to draw in a tomogram.

    Parameters
    ----------
    settings : TargetSettings
        Its classes file, shapes and label maps.
    tomogram : str
        Name of the tomogram: stands for ``{tomogram}`` in paths.
    classes : sequence of ParticleClass
        Classes that come with the particles, where there is no classes file.
    source : str
        Where those come from.

    Raises
    ------
    InputError
        There is no classes file, or it cannot work.
    SettingsError
        A setting names an unknown class or label.
    """
    without_file = Recipe(tuple(classes), {}, (), source)
    recipe = without_file if settings.classes is None else _from_file(Path(settings.classes))
    shapes = dict(recipe.shapes)
    for rule in settings.shapes:
        name, _, file = rule.partition("=")
        recipe.class_named(name, f"the shape {rule!r}")
        shapes[name] = _shape_of(file)
    shapes = {
        name: replace(one, path=_path(one.path, tomogram), voxel_size=one.voxel_size or settings.shape_voxel_size)
        for name, one in shapes.items()
    }
    added = (*recipe.labels, *(_labels_of(rule, recipe) for rule in settings.add))
    labels = tuple(replace(one, path=_path(one.path, tomogram)) for one in added)
    return replace(recipe, shapes=shapes, labels=labels)


def _from_file(path: Path) -> Recipe:
    classes = read_classes(path)
    shapes: dict[str, ShapeFile] = {}
    labels: list[LabelFile] = []
    for table in class_tables(path):
        given = table.get("target", {})
        _check(given, table["name"], path)
        if "shape" in given:
            shapes[table["name"]] = ShapeFile(
                str(path.parent / given["shape"]), given.get("threshold"), given.get("voxel_size")
            )
        if "labels" in given:
            labels.append(LabelFile(_beside(path, given["labels"]), table["label"], given.get("value")))
    return Recipe(classes, shapes, tuple(labels), str(path))


def _beside(path: Path, file: str) -> str:
    """Path of a file that is named in another one."""
    return file if "://" in file else str(path.parent / file)


def _check(given: object, name: str, path: Path) -> None:
    """Refuse what cannot stand under ``target``."""
    where = f"{path}: class {name!r}"
    if not isinstance(given, dict):
        raise FormatError(f"{where}: target is a table with some of {list(KEYS)}, got {given!r}")
    unknown = sorted(set(given) - set(KEYS))
    if unknown:
        raise FormatError(f"{where}: unknown key target.{unknown[0]}; known are {list(KEYS)}")
    for key in ("shape", "labels"):
        if key in given and not isinstance(given[key], str):
            raise FormatError(f"{where}: target.{key} is the path of a file, got {given[key]!r}")
    threshold, value = given.get("threshold"), given.get("value")
    if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise FormatError(f"{where}: target.threshold is a number, got {threshold!r}")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 255):
        raise FormatError(f"{where}: target.value is a label from 1 to 255, got {value!r}")
    for key, needs in (("threshold", "shape"), ("voxel_size", "shape"), ("value", "labels")):
        if key in given and needs not in given:
            raise FormatError(f"{where}: target.{key} belongs to target.{needs}, which is missing")


def _shape_of(text: str) -> ShapeFile:
    """``FILE`` or ``FILE@THRESHOLD``."""
    file, at, number = text.rpartition("@")
    try:
        return ShapeFile(file, float(number)) if at and file else ShapeFile(text)
    except ValueError:  # an @ in the name of a file
        return ShapeFile(text)


def _labels_of(text: str, recipe: Recipe) -> LabelFile:
    """``FILE``, ``FILE=LABEL`` or ``FILE=CLASS``."""
    file, equals, word = text.rpartition("=")
    if not equals or not file or "/" in word:
        return LabelFile(text)
    if not word.isdigit():
        return LabelFile(file, recipe.class_named(word, f"the label map {text!r}").label)
    if int(word) not in [one.label for one in recipe.classes]:
        labels = {one.name: one.label for one in recipe.classes}
        raise SettingsError(f"the label map {text!r}: label {word} belongs to none of the classes {labels}")
    return LabelFile(file, int(word))


def _path(path: str, tomogram: str) -> str:
    return path.replace("{tomogram}", tomogram)
