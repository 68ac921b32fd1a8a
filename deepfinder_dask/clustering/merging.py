"""Merging of the components of blocks into those of the volume, as the blocks arrive, in any order.

Two blocks are merged as soon as both are there; a block's faces are dropped as soon as all its neighbours were there.
So the faces of about one layer of blocks are held at a time, and of a finished block only its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from deepfinder_dask.blocks import Block, BlockGrid, Shape3, triple
from deepfinder_dask.clustering.components import Components, combine, concatenate
from deepfinder_dask.clustering.labelling import BlockComponents
from deepfinder_dask.clustering.settings import Connectivity

AXES_CROSSED = {6: 1, 18: 2, 26: 3}
"""Along how many axes at once two neighbouring voxels may differ, by connectivity."""


@dataclass(frozen=True, slots=True)
class _Faces:
    """Foreground voxels at the faces of a block, in coordinates of the volume."""

    line: NDArray[np.int64]
    """(f,): linear index in the volume padded by one voxel at each axis's end (so no step wraps around), ascending."""
    ends: NDArray[np.uint8]
    """(f,): the ends of the block that the voxel lies at, bits as :func:`_ends`."""
    component: NDArray[np.int64]
    """(f,): component, numbered over all blocks in order of arrival."""

    def at(self, ends: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices and components of the voxels that lie at all of these ends."""
        chosen = self.ends & ends == ends
        return self.line[chosen], self.component[chosen]


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """The components of single blocks, and what became of them."""

    first: NDArray[np.int64]
    """(p,): smallest linear index (C order) in the volume of a voxel of each piece."""
    component: NDArray[np.int64]
    """(p,): component of the volume that it belongs to."""


class Merger:
    """Collects the blocks of a grid, and joins what touches across their faces, edges and corners.

    Parameters
    ----------
    grid : BlockGrid
        The blocks.
    connectivity : int
        6, 18 or 26.
    per_class : bool
        Whether components, each of one class, connect only within it.
    scored : bool
        Whether components carry probabilities.
    """

    def __init__(self, grid: BlockGrid, connectivity: Connectivity, *, per_class: bool, scored: bool) -> None:
        self.grid = grid
        self.connectivity: Connectivity = connectivity
        self.per_class = per_class
        self.scored = scored
        crossed = AXES_CROSSED[connectivity]
        self._steps = [triple(s) for s in product((-1, 0, 1), repeat=3) if 1 <= np.count_nonzero(s) <= crossed]
        _, y, x = grid.shape
        self._strides = np.array([(y + 1) * (x + 1), x + 1, 1])
        self._tables: list[Components] = []
        self._total = 0
        self._added: set[int] = set()
        self._faces: dict[int, _Faces] = {}
        self._joins = [np.zeros((0, 2), np.int64)]

    @property
    def faces_held(self) -> int:
        """Number of blocks whose faces are held now."""
        return len(self._faces)

    def add(self, block: Block, part: BlockComponents) -> None:
        """Take a block that is done, and merge it with the neighbours that were there before."""
        neighbours = list(self._neighbours(block))
        if len(part.face_index) and neighbours:
            faces = self._place(block, part)
            for step, number in neighbours:
                if number in self._faces:
                    self._joins.append(self._touching(faces, self._faces[number], step))
            self._faces[block.number] = faces
        self._added.add(block.number)
        self._drop_faces([block.number, *(number for _, number in neighbours)])
        self._tables.append(part.components)
        self._total += len(part.components)

    def joined(self, other: Merger) -> Merger:
        """A new collector with the blocks of this one and of another of the same grid; both stay as they are."""
        both = Merger(self.grid, self.connectivity, per_class=self.per_class, scored=self.scored)
        both._tables = self._tables + other._tables
        both._total = self._total + other._total
        both._added = self._added | other._added
        both._joins = self._joins + [pairs + self._total for pairs in other._joins]
        both._faces = dict(self._faces)
        for number, theirs in other._faces.items():
            faces = replace(theirs, component=theirs.component + self._total)
            for step, near in self._neighbours(self.grid[number]):
                if near in self._faces:
                    both._joins.append(self._touching(faces, self._faces[near], step))
            both._faces[number] = faces
        both._drop_faces(list(both._faces))
        return both

    def finish(self) -> Components:
        """Components of the whole volume, in canonical order; all blocks must have been added."""
        return self.merged()[0]

    def merged(self) -> tuple[Components, Pieces]:
        """Components as :meth:`finish` gives them, and the pieces that they were put together from."""
        parts = concatenate(self._tables, scored=self.scored)
        joins = np.concatenate(self._joins)
        if self.per_class:
            # Each component has one vote, its class, so that votes and components are numbered alike.
            labels = parts.vote_label[joins]
            joins = joins[labels[:, 0] == labels[:, 1]]
        nodes, ends = np.unique(joins, return_inverse=True)
        ends = ends.reshape(joins.shape)
        graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(len(nodes), len(nodes)))
        _, cluster = connected_components(graph, directed=False)
        leader = np.full(len(nodes), self._total)
        np.minimum.at(leader, cluster, nodes)
        group = np.arange(self._total)
        group[nodes] = leader[cluster]
        leaders, group = np.unique(group, return_inverse=True)
        first = np.full(len(leaders), np.iinfo(np.int64).max)
        np.minimum.at(first, group, parts.first)
        rank = np.empty(len(leaders), np.int64)
        rank[np.argsort(first)] = np.arange(len(leaders))
        owner = rank[group]
        return combine(parts, owner, len(leaders)), Pieces(parts.first, owner)

    def _neighbours(self, block: Block) -> Iterator[tuple[Shape3, int]]:
        """Step to and number of each block that touches this one."""
        counts = self.grid.counts
        for step in self._steps:
            z, y, x = (i + s for i, s in zip(block.index, step, strict=True))
            if 0 <= z < counts[0] and 0 <= y < counts[1] and 0 <= x < counts[2]:
                yield step, (z * counts[1] + y) * counts[2] + x

    def _drop_faces(self, numbers: Sequence[int]) -> None:
        """Drop those of these blocks whose neighbours are all there."""
        for number in numbers:
            if number in self._faces and all(near in self._added for _, near in self._neighbours(self.grid[number])):
                del self._faces[number]

    def _place(self, block: Block, part: BlockComponents) -> _Faces:
        """Faces of a block in coordinates of the volume."""
        line = np.zeros(len(part.face_index), np.int64)
        ends = np.zeros(len(part.face_index), np.uint8)
        for axis, index in enumerate(np.unravel_index(part.face_index.astype(np.int64), block.write.shape)):
            line += (index + block.write.start[axis]) * self._strides[axis]
            ends[index == 0] |= _ends(axis, -1)
            ends[index == block.write.shape[axis] - 1] |= _ends(axis, 1)
        return _Faces(line, ends, part.face_component.astype(np.int64) + self._total)

    def _touching(self, here: _Faces, there: _Faces, step: Shape3) -> NDArray[np.int64]:
        """(j, 2): pairs of components that touch between a block and its neighbour one ``step`` away."""
        line, component = here.at(sum(_ends(axis, s) for axis, s in enumerate(step)))
        other_line, other = there.at(sum(_ends(axis, -s) for axis, s in enumerate(step)))
        found = [np.zeros((0, 2), np.int64)]
        if len(line) and len(other_line):
            for move in self._steps:
                if any(s and s != m for s, m in zip(step, move, strict=True)):
                    continue
                wanted = line + np.dot(move, self._strides)
                where = np.minimum(np.searchsorted(other_line, wanted), len(other_line) - 1)
                hit = other_line[where] == wanted
                found.append(np.stack([component[hit], other[where[hit]]], axis=1))
        return _different(np.concatenate(found))


def _ends(axis: int, step: int) -> int:
    """Bit of the end of a block at which one steps out of it along an axis; 0 for no step."""
    return 0 if step == 0 else 1 << (2 * axis + (step > 0))


def _different(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pairs, each once."""
    if len(pairs) < 2:
        return pairs
    low = pairs.min(axis=0)
    span = int(pairs[:, 1].max()) - int(low[1]) + 1
    key = np.unique((pairs[:, 0] - low[0]) * span + pairs[:, 1] - low[1])
    different: NDArray[np.int64] = np.stack(np.divmod(key, span), axis=1) + low
    return different
