"""Where everything in a scene goes: membranes first, then what is bound to them, gold, and free particles.

Particles keep their distance by their own shapes: every voxel within the gap of a new particle must be free of the
others, so that rods lie beside each other where balls of their length would not. Free particles come in random order;
where they do not all fit, and where crowding is asked for, the largest come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from deepfinder_dask.blocks import Box, Shape3, triple
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.simulation.bodies import Body, body_of, bottom_of
from deepfinder_dask.simulation.ice import IceField, random_ice
from deepfinder_dask.simulation.membranes import Membrane, fits, random_membrane
from deepfinder_dask.simulation.occupancy import Occupancy
from deepfinder_dask.simulation.recipe import SimulationConfig, Species, TomogramConfig
from deepfinder_dask.simulation.scene import (
    Placed,
    Position,
    Scene,
    angles_of,
    cube_around,
    gold_bead,
    object_points,
    random_rotation,
)

PLACES_TRIED = 3000
"""Random places tried for one free particle before its species finds no more room."""
MEMBRANES_TRIED = 300
"""Random membranes tried for one that has room."""
SITES_TRIED = 300
"""Random places on membranes tried for one bound particle."""
PROBES = 48
"""Voxels of a particle that are looked at first, in many places at once."""

Voxels = NDArray[np.int64]


def place_scene(config: SimulationConfig, tomogram: TomogramConfig) -> Scene:
    """Place all that a tomogram of a configuration holds.

    Raises
    ------
    SettingsError
        If something finds no room and no crowding was asked for; it is named, with the numbers.
    """
    free_seed, _, other_seed = np.random.SeedSequence(tomogram.seed).spawn(3)
    others = np.random.default_rng(other_seed)
    plan = _Plan(config, tomogram)
    plan.ice = random_ice(others, plan.extent[1::-1], tomogram.empty, tomogram.thick)
    plan.add_membranes(others)
    plan.add_bound(others)
    plan.add_gold(others)
    plan.add_free(np.random.default_rng(free_seed))
    return plan.scene()


class _Plan:
    """A scene being made."""

    def __init__(self, config: SimulationConfig, tomogram: TomogramConfig) -> None:
        self.config = config
        self.tomogram = tomogram
        self.shape = tomogram.shape
        self.voxel_size = config.voxel_size
        self.bodies = {s.name: body_of(s, config.voxel_size) for s in config.species if tomogram.counts.get(s.name)}
        z, y, x = ((n - 1) * config.voxel_size for n in tomogram.shape)
        self.extent = (x, y, z)
        self.asked = self._asked()
        self.taken = Occupancy(tomogram.shape)
        self.membranes: list[Membrane] = []
        self.particles: list[Placed] = []
        self.beads: list[Position] = []
        self.ice: IceField | None = None

    def _asked(self) -> dict[str, int]:
        """Particles of each species to place."""
        counts = dict(self.tomogram.counts)
        if self.tomogram.crowding is None:
            return counts
        filled = sum(n * self.bodies[name].volume for name, n in counts.items() if n)
        volume = float(np.prod(self.shape)) * self.voxel_size**3
        factor = self.tomogram.crowding * volume / filled
        return {name: round(n * factor) for name, n in counts.items()}

    def add_membranes(self, rng: np.random.Generator) -> None:
        """Place the membranes, so far apart that what is bound to one has room."""
        extent = np.array(self.extent)
        reach = [self._height(s) + self.bodies[s.name].extent for s in self.config.species if self._bound(s)]
        gap = self.tomogram.gap + max(reach, default=0.0)
        for kind in self.tomogram.membranes:
            for number in range(kind.count):
                tries = (random_membrane(kind, extent, rng) for _ in range(MEMBRANES_TRIED))
                found = next((m for m in tries if fits(m, self.membranes, extent, gap, rng)), None)
                if found is None:
                    raise SettingsError(
                        f"cannot place {kind.count} {kind.shape} membranes in {_words(self.shape)} voxels: no room for "
                        f"number {number + 1}; use fewer, smaller ones or a larger shape"
                    )
                self.membranes.append(found)

    def _bound(self, species: Species) -> bool:
        return species.bound and self.asked.get(species.name, 0) > 0

    def _height(self, species: Species) -> float:
        """Å from the middle of a membrane to the centre of a bound particle."""
        if species.height is not None:
            return species.height
        half = max(m.thickness for m in self.tomogram.membranes) / 2
        return half + bottom_of(self.bodies[species.name])

    def add_bound(self, rng: np.random.Generator) -> None:
        """Place bound particles on the membranes."""
        missing: Counter[str] = Counter()
        for species in self.config.species:
            if not self._bound(species):
                continue
            height = self._height(species)
            for _ in range(self.asked[species.name]):
                if missing[species.name] or not self._bind(species, height, rng):
                    missing[species.name] += 1
        self._complain(missing)

    def _bind(self, species: Species, height: float, rng: np.random.Generator) -> bool:
        body = self.bodies[species.name]
        length = float(np.linalg.norm(self.extent))
        areas = np.array([m.area(length) for m in self.membranes])
        drawn = rng.multinomial(20 * SITES_TRIED, areas / areas.sum())
        sites = [(m, *pair) for m, n in zip(self.membranes, drawn, strict=True) for pair in _pairs(m, n, length, rng)]
        tried = 0
        for number in rng.permutation(len(sites)):
            membrane, point, normal = sites[number]
            centre = point + height * normal
            if tried == SITES_TRIED:
                break
            if not ((centre >= 0) & (centre <= self.extent)).all():
                continue
            tried += 1
            position = triple_of((centre / self.voxel_size)[::-1])
            rotation = _upright(normal, float(rng.uniform(0, 2 * np.pi)))
            distance, box = self._distance(body, position, rotation)
            forbidden = np.argwhere(distance < self.tomogram.gap)
            here = forbidden + box.start
            if not len(here) or (here < 0).any() or (here >= self.shape).any() or self.taken.taken(here).any():
                continue
            bodies = np.argwhere(distance <= 0) + box.start
            others = [m for m in self.membranes if m is not membrane]
            if self._clear_of(others, bodies, position, body.extent):
                self._put(species, position, rotation, bodies)
                return True
        return False

    def _distance(self, body: Body, position: Position, rotation: Rotation) -> tuple[NDArray[np.float64], Box]:
        """Signed distance in Å of all voxels around a particle that can be within the gap, and where they are."""
        box = cube_around(position, (body.extent + self.tomogram.gap) / self.voxel_size)
        return body.distance(object_points(box, position, rotation.as_matrix(), self.voxel_size)), box

    def _clear_of(self, membranes: Sequence[Membrane], voxels: Voxels, position: Position, extent: float) -> bool:
        """Whether the voxels (n, 3) of a body keep the gap from membranes."""
        centre = np.array(position, dtype=np.float64)[::-1] * self.voxel_size
        for membrane in membranes:
            least = membrane.half + self.tomogram.gap
            if abs(float(membrane.distance(centre))) > least + extent:
                continue
            points = voxels[:, ::-1].astype(np.float64) * self.voxel_size
            if np.abs(membrane.distance(points)).min(initial=np.inf) < least:
                return False
        return True

    def _put(self, species: Species, position: Position, rotation: Rotation, voxels: Voxels) -> None:
        self.taken.take(voxels)
        self.particles.append(Placed(species.name, species.label, position, angles_of(rotation)))

    def add_gold(self, rng: np.random.Generator) -> None:
        """Place gold beads anywhere, empty regions included."""
        bead = gold_bead(self.tomogram.gold_diameter)
        for number in range(self.tomogram.gold):
            found = self._free_place(bead, "gold", Rotation.identity(), rng, lambda _: np.array(True))
            if found is None:
                self._complain(Counter(gold=self.tomogram.gold - number))
                return
            position, voxels = found
            self.taken.take(voxels)
            self.beads.append(position)

    def add_free(self, rng: np.random.Generator) -> None:
        """Place free particles, in random order if all fit so, else the largest first."""
        free = [s for s in self.config.species if not s.bound for _ in range(self.asked.get(s.name, 0))]
        before, bound = self.taken.copy(), len(self.particles)
        order = [free[n] for n in rng.permutation(len(free))]
        if self.tomogram.crowding is None:
            if not self._place_all(order, rng, stop=True):
                return
            self.taken, self.particles = before, self.particles[:bound]
        order.sort(key=lambda s: -self.bodies[s.name].volume)
        self._complain(self._place_all(order, rng, stop=False))

    def _place_all(self, order: list[Species], rng: np.random.Generator, *, stop: bool) -> Counter[str]:
        """Place particles one after the other; those that found no room. ``stop`` at the first of them."""
        missing: Counter[str] = Counter()
        for species in order:
            if missing[species.name]:  # its next one would find no room either
                missing[species.name] += 1
                continue
            rotation = random_rotation(rng)
            found = self._free_place(self.bodies[species.name], species.name, rotation, rng, self._is_icy)
            if found is None:
                missing[species.name] += 1
                if stop:
                    break
            else:
                self._put(species, found[0], rotation, found[1])
        return +missing

    def _is_icy(self, centres: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether particles may be at these places (..., 3), z, y, x in voxels."""
        if self.ice is None:
            return np.ones(centres.shape[:-1], np.bool_)
        return ~self.ice.empty(centres[..., 1] * self.voxel_size, centres[..., 2] * self.voxel_size)

    def _free_place(
        self,
        body: Body,
        name: str,
        rotation: Rotation,
        rng: np.random.Generator,
        allowed: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    ) -> tuple[Position, Voxels] | None:
        """A random place where a particle keeps the gap, wholly inside, and the voxels of its body there."""
        fraction = rng.uniform(-0.5, 0.5, size=3)
        distance, box = self._distance(body, triple_of(fraction), rotation)
        voxels = np.argwhere(distance <= 0)
        if not len(voxels):
            raise SettingsError(f"{name} falls between the voxels of {self.voxel_size:g} Å: use a smaller voxel_size")
        forbidden = np.argwhere(distance < self.tomogram.gap)
        lows, highs = -forbidden.min(axis=0), np.array(self.shape) - forbidden.max(axis=0)
        if (lows >= highs).any():
            return None
        corners = rng.integers(lows, highs, size=(PLACES_TRIED, 3))
        centres = corners - np.array(box.start) + fraction
        probes = forbidden[:: max(1, len(forbidden) // PROBES)]
        for first, last in ((0, 32), (32, 512), (512, PLACES_TRIED)):
            some = slice(first, last)
            good = ~self.taken.taken(corners[some, None] + probes).any(axis=1) & allowed(centres[some])
            for number in np.flatnonzero(good) + first:
                corner, position = corners[number], triple_of(centres[number])
                if self.taken.taken(corner + forbidden).any():
                    continue
                if self._clear_of(self.membranes, corner + voxels, position, body.extent):
                    return position, corner + voxels
        return None

    def _complain(self, missing: Counter[str]) -> None:
        """Refuse what found no room, unless crowding was asked for: then it is only counted."""
        missing = +missing
        if not missing or (self.tomogram.crowding is not None and "gold" not in missing):
            return
        asked = {**self.asked, "gold": self.tomogram.gold}
        what = ", ".join(f"{n} of {asked[name]} {name}" for name, n in sorted(missing.items()))
        raise SettingsError(
            f"cannot place {sum(self.asked.values())} particles of {self.tomogram.name!r} in {_words(self.shape)} "
            f"voxels: no room for {what}; use lower counts, a smaller gap or a larger shape, or set crowding"
        )

    def scene(self) -> Scene:
        """What has been placed."""
        gold = self.tomogram.gold > 0
        return Scene(
            shape=self.shape,
            voxel_size=self.voxel_size,
            species={s.name: s for s in self.config.species},
            particles=tuple(self.particles),
            beads=tuple(self.beads),
            bead=gold_bead(self.tomogram.gold_diameter) if gold else None,
            gold_label=self.config.label_of("gold") if gold else 0,
            membranes=tuple(self.membranes),
            membrane_label=self.config.label_of("membrane") if self.membranes else 0,
            ice=self.ice,
            asked=self.asked,
        )


def _pairs(
    membrane: Membrane, number: int, length: float, rng: np.random.Generator
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    points, normals = membrane.draw(rng, number, length)
    return list(zip(points, normals, strict=True))


def _upright(normal: NDArray[np.float64], spin: float) -> Rotation:
    """Rotation object → tomogram that takes z to a unit vector (x, y, z), after a turn by ``spin`` about z."""
    tilt, turn = np.arccos(np.clip(normal[2], -1, 1)), np.arctan2(normal[1], normal[0])
    return Rotation.from_euler("ZYZ", (turn, tilt, spin))


def triple_of(values: NDArray[np.float64]) -> Position:
    """Three floats."""
    z, y, x = values.tolist()
    return z, y, x


def _words(shape: Shape3) -> str:
    return "x".join(str(n) for n in triple(shape))
