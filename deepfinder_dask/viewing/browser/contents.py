"""What there is to show: label maps, instance maps and score maps with their classes, and sets of particles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepfinder_dask.errors import FormatError, GeometryError, InputError, SettingsError
from deepfinder_dask.particles import IGNORE, ParticleClass, Particles, classes_from_dicts, read_particles
from deepfinder_dask.tomograms import Image, Tomogram, open_image, read_attributes
from deepfinder_dask.tomograms.location import base_name, is_zarr, normalise
from deepfinder_dask.tomograms.opening import all_attributes, open_node
from deepfinder_dask.viewing.greys import FAINT
from deepfinder_dask.viewing.marks import in_tomogram

if TYPE_CHECKING:
    from deepfinder_dask.viewing.browser.settings import ViewSettings

Table = str | Path | Particles
"""Particles, or a file of them in any readable format."""
TRUTH, FOUND, MISSED = "#2ca02c", "#1f77ff", "#ffd400"
"""Colours of a comparison, as in the figures of Moebel et al. (2021): true particles, found ones, missed ones."""


@dataclass(frozen=True)
class LabelMap:
    """A label map, or an instance map."""

    path: str
    """The image in its store."""
    image: Image
    """Its levels."""
    classes: tuple[ParticleClass, ...]
    """What is known of its labels."""
    colours: Mapping[int, str]
    """"#rrggbb" by label, or by number of the particle."""
    instances: bool
    """Whether values number particles."""

    def with_classes(self, classes: Sequence[ParticleClass]) -> LabelMap:
        """The same with these classes, unless it says more of its labels itself."""
        if self.instances or self.classes or self.colours or not classes:
            return self
        return replace(self, classes=tuple(classes), colours=colours_of(classes))


@dataclass(frozen=True)
class ParticleSet:
    """Particles that are shown as one layer."""

    name: str
    """Name of the layer."""
    particles: Particles
    """Those of the tomogram."""
    colour: str | None = None
    """One colour for all; None takes that of each class."""
    notes: Sequence[str] | None = None
    """More words for each."""


def open_labels(path: str, tomogram: Tomogram, classes: Sequence[ParticleClass] = ()) -> LabelMap:
    """The label map at a path, which may be a segmentation.

    Raises
    ------
    FormatError
        There is none.
    GeometryError
        It has another shape than the tomogram.
    """
    location, facts = normalise(path), read_attributes(path)
    if facts.get("kind") == "segmentation":
        _check_finished(location, facts)
        location = f"{location}/labels"
    image = open_image(location)
    if image.levels[0].dtype.kind == "f":
        raise FormatError(f"expected a label map of whole numbers at {location}, found {image.levels[0].dtype}")
    _check_shape(location, image, tomogram)
    known = tuple(classes) or classes_from_dicts(facts.get("classes", []))
    instances = image.attributes.get("kind") == "instances"
    colours = _colours(location)
    if not instances:
        colours |= colours_of(known)
    return LabelMap(location, image, known, colours, instances)


def open_instances(path: str, tomogram: Tomogram) -> LabelMap:
    """The instance map in a segmentation.

    Raises
    ------
    FormatError
        There is none.
    """
    place = f"{normalise(path)}/instances"
    if not is_zarr(place):
        raise FormatError(
            f"expected an instance map at {place}, found none: "
            f"make it with `deepfinder cluster {path} --instances auto`"
        )
    return open_labels(place, tomogram)


def open_scores(path: str, tomogram: Tomogram) -> tuple[str, Image, tuple[ParticleClass, ...]]:
    """Path, image and classes of the score map of a segmentation; its probability where there is no score map.

    Raises
    ------
    FormatError
        It is no segmentation.
    """
    location, facts = normalise(path), read_attributes(path)
    if facts.get("kind") != "segmentation":
        raise FormatError(f"expected a segmentation with scores at {location}, found another kind of store")
    _check_finished(location, facts)
    place = f"{location}/scores" if is_zarr(f"{location}/scores") else f"{location}/probability"
    image = open_image(place)
    _check_shape(place, image, tomogram)
    return place, image, classes_from_dicts(facts["classes"])


def read_sets(
    particles: Table | Sequence[Table] | Mapping[str, Table] | None,
    tomogram: Tomogram,
    settings: ViewSettings,
    classes: Sequence[ParticleClass],
) -> list[ParticleSet]:
    """Sets of particles with their names and colours.

    Raises
    ------
    InputError
        A file is missing or damaged, or has no such tomogram.
    SettingsError
        There are more names or colours than sets.
    """
    if isinstance(particles, Mapping):
        given = list(particles.items())
    else:
        several: Sequence[Table] = [particles] if isinstance(particles, str | Path | Particles) else particles or []
        given = [(_name_of(one), one) for one in several]
    for what, values in (("names", settings.names), ("colours", settings.colours)):
        if len(values) > len(given):
            raise SettingsError(
                f"expected at most {len(given)} {what}, one for each set of particles, got {len(values)}"
            )
    names = [*settings.names, *(name for name, _ in given[len(settings.names) :])]
    colours = [*settings.colours, *[None] * len(given)]
    return [
        ParticleSet(name, read_table(table, tomogram, settings, classes), colour)
        for name, (_, table), colour in zip(_told_apart(names), given, colours, strict=False)
    ]


def read_table(table: Table, tomogram: Tomogram, settings: ViewSettings, classes: Sequence[ParticleClass]) -> Particles:
    """Particles of the tomogram, whatever the file; voxels in it are those of the tomogram.

    Raises
    ------
    InputError
        As :func:`read_sets`.
    """
    every = read_particles(table, classes=list(classes) or None, voxel_size=tomogram.voxel_size, shape=tomogram.shape)
    if settings.name is not None:
        return every.of_tomogram(settings.name)
    if len(every.tomograms) > 1 and tomogram.name not in every.tomograms:
        raise InputError(
            f"no tomogram {tomogram.name!r} among {list(every.tomograms)[:8]}: name one of them with --name"
        )
    return in_tomogram(tomogram, every)


def compared(truth: Particles, found: Particles, tolerance: str) -> list[ParticleSet]:
    """True particles that were found, those that were missed, and found ones, matched one to one as ``evaluate`` does.

    Raises
    ------
    SettingsError
        The tolerance needs the radius of a class, which is unknown.
    """
    from deepfinder_dask.evaluation import evaluate

    pairs = evaluate(truth, found, tolerance=tolerance, bootstrap=0).pairs
    same = None if pairs is None else pairs[pairs["rule"] == "class"]
    hit = set() if same is None else set(same["truth_row"])
    used = set() if same is None else set(same["found_row"])
    rows = [row in hit for row in range(len(truth))]
    notes = ["" if row in used else "no true particle here" for row in range(len(found))]
    return [
        ParticleSet("truth", truth.where(rows), TRUTH, ["found"] * sum(rows)),
        ParticleSet("found", found, FOUND, notes),
        ParticleSet("missed", truth.where([not one for one in rows]), MISSED, ["missed"] * rows.count(False)),
    ]


def colours_of(classes: Sequence[ParticleClass]) -> dict[int, str]:
    """Colours of labels: those of the classes, and grey for what nobody annotated; empty without classes."""
    return {one.label: one.colour for one in classes} | ({IGNORE: FAINT} if classes else {})


def _name_of(table: Table) -> str:
    return "particles" if isinstance(table, Particles) else base_name(Path(table).stem)


def _told_apart(names: Sequence[str]) -> list[str]:
    """The same name for several gets numbers."""
    return [
        name if names.index(name) == number else f"{name} {names[: number + 1].count(name)}"
        for number, name in enumerate(names)
    ]


def _colours(location: str) -> dict[int, str]:
    """Colours that the metadata of an OME-Zarr label image give."""
    attributes = all_attributes(open_node(location))
    entries = attributes.get("ome", attributes).get("image-label", {}).get("colors", [])
    return {
        int(one["label-value"]): "#{:02x}{:02x}{:02x}".format(*one["rgba"][:3])
        for one in entries
        if one.get("rgba") and one["label-value"] != 0
    }


def _check_finished(location: str, facts: Mapping[str, object]) -> None:
    if facts.get("state", "complete") != "complete":
        raise FormatError(f"{location} was never finished: run the same command again")


def _check_shape(location: str, image: Image, tomogram: Tomogram) -> None:
    if image.levels[0].space != tomogram.shape:
        raise GeometryError(
            f"expected {location} of the tomogram's shape {tomogram.shape} (z, y, x), found {image.levels[0].space}"
        )
