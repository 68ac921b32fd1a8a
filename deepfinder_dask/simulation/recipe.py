"""What a simulation is made of: species, structures, scenes and imaging, each checked where it is stated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from deepfinder_dask.blocks import Shape3
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.simulation.phantoms import phantom_of

MembraneShape = Literal["sphere", "sheet", "tube"]
StructureKind = Literal["membrane", "gold"]
DoseScheme = Literal["equal", "cosine"]
Span = tuple[float, float]
"""Least and greatest value."""


@dataclass(frozen=True)
class Species:
    """A kind of particle in the simulation. Two species of one body, one of them bound, are two classes that only their
    surroundings tell apart.
    """

    name: str
    """Name of the class."""
    label: int
    """Class label, 1 to 254."""
    phantom: str = ""
    """Built-in phantom; by default the one called like the species."""
    map: str = ""
    """Density map instead (MRC or another volume file, any voxel size): a path, from the folder of the TOML file;
    ``$VARIABLES`` of the environment are filled in. The particle's centre is voxel n // 2 of the map."""
    threshold: float | None = None
    """Density on the surface of a map, in its own units; by default a tenth of its greatest."""
    density: float = 1.0
    """Density inside, times that of an ordinary particle."""
    bound: bool = False
    """Whether it sits on membranes, its z axis along their outward normal, instead of floating free."""
    height: float | None = None
    """Å from the middle of the membrane to the centre of a bound particle, along the outward normal; negative is
    inside. By default it stands on the outer surface."""
    colour: str | None = None
    """``#rrggbb``; by default from the palette of labels."""
    min_size: int | None = None
    """Components of fewer voxels are no particles."""
    max_size: int | None = None
    """Components of more voxels are no particles."""

    def __post_init__(self) -> None:
        need(bool(self.name), "species.name", "a name", self.name)
        _label("species", self.label, self.name)
        if self.map:
            need(not self.phantom, "species.phantom", "left out beside a map", self.phantom)
        else:
            phantom_of(self.phantom or self.name)
            need(self.threshold is None, "species.threshold", "left out without a map", self.threshold)
        need(self.threshold is None or self.threshold > 0, "species.threshold", "more than 0", self.threshold)
        need(self.density > 0, "species.density", "more than 0", self.density)
        need(self.bound or self.height is None, "species.height", "left out unless bound = true", self.height)


@dataclass(frozen=True)
class Structure:
    """A class of what is no particle: the membranes, or the gold beads, of all scenes."""

    name: str
    """Name of the class."""
    label: int
    """Class label, 1 to 254."""
    kind: StructureKind
    """``membrane`` or ``gold``."""
    colour: str | None = None
    """``#rrggbb``; by default from the palette of labels."""

    def __post_init__(self) -> None:
        need(bool(self.name), "structure.name", "a name", self.name)
        _label("structure", self.label, self.name)
        need(self.kind in get_args(StructureKind), "structure.kind", "membrane or gold", self.kind)


@dataclass(frozen=True)
class Membranes:
    """Membranes of one shape in a scene: bilayers with two dense faces."""

    shape: MembraneShape
    """``sphere`` (a vesicle), ``sheet`` (a plane) or ``tube``; what reaches out of the volume is cut."""
    count: int = 1
    """How many."""
    radius: Span = (300.0, 500.0)
    """Least and greatest radius in Å of spheres and tubes."""
    thickness: float = 50.0
    """Å."""

    def __post_init__(self) -> None:
        need(self.shape in get_args(MembraneShape), "membranes.shape", "sphere, sheet or tube", self.shape)
        need(self.count >= 0, "membranes.count", "0 or more", self.count)
        need(self.thickness > 0, "membranes.thickness", "more than 0 Å", self.thickness)
        need(
            len(self.radius) == 2 and self.thickness < self.radius[0] <= self.radius[1],
            "membranes.radius",
            "[least, greatest] Å, more than the thickness",
            self.radius,
        )


@dataclass(frozen=True)
class TiltImaging:
    """How a scene is imaged."""

    snr: float = 0.1
    """Variance of the CTF-modulated noise-free 0° projection over that of the noise, before filtering."""
    defocus: float = 3.0
    """Underfocus in µm."""
    tilt_limit: float = 60.0
    """Greatest tilt in degrees, to both sides."""
    tilt_step: float = 3.0
    """Degrees between tilts."""
    voltage: float = 300.0
    """kV."""
    spherical_aberration: float = 2.7
    """mm."""
    amplitude_contrast: float = 0.07
    """Share of amplitude contrast, 0 to 1."""
    alignment_error: float = 3.0
    """Standard deviation in Å of each image's shift along y and along x."""
    tilt_error: float = 0.0
    """Standard deviation in degrees of each image's tilt from the one it is reconstructed at."""
    dose: float = 0.0
    """Electrons per Å² of the whole series, taken from 0° outwards: fades fine detail. 0 is no damage."""
    dose_scheme: DoseScheme = "equal"
    """Exposure of each image: ``equal``, or ``cosine``: 1 / cos(tilt), as the ice gets thicker. Noise has a variance of
    1 / electrons."""
    ice_thickness: float = 0.0
    """Å of ice, which lets fewer electrons through at higher tilt: more noise there. 0 is the same noise everywhere."""
    extra_thickness: float = 1500.0
    """Å of ice more where a scene has thick regions."""

    def __post_init__(self) -> None:
        need(self.snr > 0, "imaging.snr", "more than 0", self.snr)
        need(self.defocus > 0, "imaging.defocus", "more than 0 µm", self.defocus)
        need(0 < self.tilt_limit < 90, "imaging.tilt_limit", "between 0 and 90 degrees", self.tilt_limit)
        step = 0 < self.tilt_step <= self.tilt_limit
        need(step, "imaging.tilt_step", "more than 0, up to tilt_limit", self.tilt_step)
        need(self.voltage > 0, "imaging.voltage", "more than 0 kV", self.voltage)
        need(0 <= self.amplitude_contrast <= 1, "imaging.amplitude_contrast", "0 to 1", self.amplitude_contrast)
        need(self.alignment_error >= 0, "imaging.alignment_error", "0 Å or more", self.alignment_error)
        need(0 <= self.tilt_error < 5, "imaging.tilt_error", "0 to 5 degrees", self.tilt_error)
        need(self.dose >= 0, "imaging.dose", "0 electrons or more", self.dose)
        need(self.dose_scheme in get_args(DoseScheme), "imaging.dose_scheme", "equal or cosine", self.dose_scheme)
        need(0 <= self.ice_thickness < 1e4, "imaging.ice_thickness", "0 to 10000 Å", self.ice_thickness)
        need(0 <= self.extra_thickness < 1e4, "imaging.extra_thickness", "0 to 10000 Å", self.extra_thickness)


@dataclass(frozen=True)
class TomogramConfig:
    """One tomogram to simulate."""

    name: str
    """Name of the tomogram and of its files."""
    seed: int
    """Decides everything random in it."""
    shape: Shape3
    """Voxels, (z, y, x)."""
    counts: Mapping[str, int]
    """Particles of each species."""
    gap: float = 40.0
    """Least distance in Å between the surfaces of two particles, and to anything else they are not bound to."""
    imaging: TiltImaging = field(default_factory=TiltImaging)
    """How it is imaged."""
    crowding: float | None = None
    """Share of the volume that particles are to fill; ``counts`` are proportions then, and what finds no room is left
    out and named in the summary. Without it all of ``counts`` must fit."""
    membranes: tuple[Membranes, ...] = ()
    """Membranes."""
    gold: int = 0
    """Gold beads."""
    gold_diameter: float = 100.0
    """Å."""
    empty: float = 0.0
    """Share of the area where no free particle is."""
    thick: float = 0.0
    """Share of the area, elsewhere, where the ice is thicker by ``imaging.extra_thickness``: noisier."""

    def __post_init__(self) -> None:
        need(re.fullmatch(r"\w[\w.+-]*", self.name) is not None, "tomogram.name", "a plain file name", self.name)
        need(self.seed >= 0, "tomogram.seed", "0 or more", self.seed)
        whole = len(self.shape) == 3 and all(isinstance(n, int) and n >= 16 for n in self.shape)
        need(whole, "tomogram.shape", "[z, y, x], 16 or more each", self.shape)
        counted = all(isinstance(n, int) and not isinstance(n, bool) for n in self.counts.values())
        need(counted, "tomogram.counts", "whole numbers", dict(self.counts))
        need(all(n >= 0 for n in self.counts.values()), "tomogram.counts", "0 or more each", dict(self.counts))
        need(self.gap >= 0, "tomogram.gap", "0 Å or more", self.gap)
        crowded = self.crowding is None or (0 < self.crowding <= 0.6 and any(self.counts.values()))
        need(crowded, "tomogram.crowding", "more than 0, up to 0.6, with counts above 0", self.crowding)
        need(self.gold >= 0, "tomogram.gold", "0 or more", self.gold)
        need(self.gold_diameter > 0, "tomogram.gold_diameter", "more than 0 Å", self.gold_diameter)
        need(0 <= self.empty <= 0.9, "tomogram.empty", "0 to 0.9", self.empty)
        need(0 <= self.thick <= 0.9 - self.empty, "tomogram.thick", "0 to 0.9, with empty", self.thick)


@dataclass(frozen=True)
class SimulationConfig:
    """Everything `deepfinder simulate` needs to know."""

    voxel_size: float
    """Å."""
    species: tuple[Species, ...]
    """The species, in the order of their labels."""
    tomograms: tuple[TomogramConfig, ...]
    """The tomograms."""
    structures: tuple[Structure, ...] = ()
    """Classes of membranes and gold, where scenes have them."""

    def __post_init__(self) -> None:
        need(self.voxel_size > 0, "voxel_size", "more than 0 Å", self.voxel_size)
        need(bool(self.species), "species", "at least one [[species]] table", "none")
        need(bool(self.tomograms), "tomogram", "at least one [[tomogram]] table", "none")
        classes: tuple[Species | Structure, ...] = (*self.species, *self.structures)
        for key, values in (
            ("species.name", [c.name for c in classes]),
            ("species.label", [c.label for c in classes]),
            ("structure.kind", [s.kind for s in self.structures]),
            ("tomogram.name", [t.name for t in self.tomograms]),
        ):
            need(len(set(values)) == len(values), key, "a different value in each table", values)
        known = {s.name for s in self.species}
        kinds = {s.kind for s in self.structures}
        for tomogram in self.tomograms:
            unknown = sorted(set(tomogram.counts) - known)
            need(not unknown, "tomogram.counts", f"names among {sorted(known)}", unknown)
            has = any(m.count for m in tomogram.membranes)
            need(not has or "membrane" in kinds, "structure", "a table of kind 'membrane' for them", sorted(kinds))
            need(not tomogram.gold or "gold" in kinds, "structure", "a table of kind 'gold' for it", sorted(kinds))
            bound = [s.name for s in self.species if s.bound and tomogram.counts.get(s.name)]
            need(has or not bound, "tomogram.membranes", f"at least one, for bound {bound}", "none")

    def label_of(self, kind: StructureKind) -> int:
        """Label of the membranes or of the gold; 0 where there is no such class."""
        return next((s.label for s in self.structures if s.kind == kind), 0)


def need(ok: bool, key: str, wanted: str, got: object) -> None:
    """Raise a `SettingsError` that names the key unless ``ok``."""
    if not ok:
        raise SettingsError(f"{key} must be {wanted}, got {got!r}")


def _label(where: str, label: int, name: str) -> None:
    if not 1 <= label <= 254:
        raise SettingsError(f"{where}.label must be 1 to 254, got {label} for {name!r}")
