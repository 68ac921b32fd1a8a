"""Compiled search for the nearest centre of each voxel, and the tally of what each centre has got.

Cubes of voxels share a list of the centres that can be nearest to any of them. A voxel to which two centres are as
good as equally near is left to scikit-learn's own tree, which settles ties by its own order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepfinder_dask.clustering.kernels import SUPERTILE, TILE, WORD, Bits, popcount
from deepfinder_dask.execution.compiling import compiled

DOUBT = 2.0**-44
"""Squared distances count as equal below this share of the squared distance from the origin: far above rounding."""


@compiled
def _narrow(
    chosen: NDArray[np.int64],
    n: int,
    centres: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    result: NDArray[np.int64],
) -> int:
    """Write those of the first ``n`` chosen centres that can be nearest to a voxel from ``low`` to ``high``; count."""
    bound = np.inf
    for i in range(n):
        far = 0.0
        for axis in range(3):
            c = centres[chosen[i], axis]
            d = max(abs(c - low[axis]), abs(c - high[axis]))
            far += d * d
        bound = min(bound, far)
    # More than all the doubt there can be about ties, whatever the size of the volume.
    bound += 1e-3
    kept = 0
    for i in range(n):
        near = 0.0
        for axis in range(3):
            c = centres[chosen[i], axis]
            d = max(0.0, low[axis] - c, c - high[axis])
            near += d * d
        if near <= bound:
            result[kept] = chosen[i]
            kept += 1
    return kept


@compiled
def assign(
    bits: Bits,
    labels: NDArray[np.uint8],
    weights: NDArray[np.uint8],
    slot: NDArray[np.int64],
    start: NDArray[np.int64],
    shape: NDArray[np.int64],
    centres: NDArray[np.float64],
    members: NDArray[np.int32],
    everyone: NDArray[np.int64],
    chosen: NDArray[np.int64],
    place: NDArray[np.float64],
    boxes: NDArray[np.int64],
    sizes: NDArray[np.int64],
    sums: NDArray[np.int64],
    first: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    votes: NDArray[np.int64],
    probability: NDArray[np.int64],
    doubtful: NDArray[np.int64],
) -> int:
    """Give each voxel of a box to its nearest centre; return the number of voxels in doubt.

    Parameters
    ----------
    bits : (z, y, w) uint64
        Which voxels.
    labels : (z, y, x) uint8
        Their labels.
    weights : (z, y, x) uint8
        Their probabilities, or no voxels.
    slot : (256,) int64
        Column of each label in the votes.
    start, shape : (3,) int64
        Where the box begins, and the extent of the volume, (z, y, x).
    centres : (n, 3) float64
        All centres that can be nearest to one of the voxels.
    members : (z, y, x) int32
        Takes the centre of each voxel, -2 for one in doubt; or no voxels.
    everyone, chosen, place, boxes : (n,) int64, (2, n) int64, (n, 3) float64, (3, 3) int64
        0 to n - 1, and room to work in.
    sizes, sums, first, low, high, votes, probability : (n, …) int64
        Of each centre as in :class:`Components`, begun with zeros, or with more than all that is to come for ``first``
        and ``low``; they take what the centres get.
    doubtful : (d,) int64
        Takes the linear indices in the box of voxels to which two centres are as good as equally near, as many as there
        is room for; these voxels count nowhere.
    """
    n = centres.shape[0]
    near, nearest = chosen[0], chosen[1]
    corner, end, at = boxes[0], boxes[1], boxes[2]
    doubts = 0
    nz, ny, nx = labels.shape
    for top_z in range(0, nz, SUPERTILE):
        for top_y in range(0, ny, SUPERTILE):
            for top_x in range(0, nx, SUPERTILE):
                n_near = -1
                for tile in range((SUPERTILE // TILE) ** 3):
                    side = SUPERTILE // TILE
                    z_low = top_z + tile // (side * side) * TILE
                    y_low = top_y + tile // side % side * TILE
                    x_low = top_x + tile % side * TILE
                    if z_low >= nz or y_low >= ny or x_low >= nx:
                        continue
                    z_high, y_high = min(nz, z_low + TILE), min(ny, y_low + TILE)
                    q = x_low // WORD
                    shift = np.uint64(x_low % WORD)
                    some = np.uint64(0)
                    for z in range(z_low, z_high):
                        for y in range(y_low, y_high):
                            some |= bits[z, y, q] >> shift
                    if some & np.uint64(0xFF) == np.uint64(0):
                        continue
                    if n_near < 0:
                        corner[0], corner[1], corner[2] = top_z + start[0], top_y + start[1], top_x + start[2]
                        end[0] = min(nz, top_z + SUPERTILE) - 1 + start[0]
                        end[1] = min(ny, top_y + SUPERTILE) - 1 + start[1]
                        end[2] = min(nx, top_x + SUPERTILE) - 1 + start[2]
                        n_near = _narrow(everyone, n, centres, corner, end, near)
                    corner[0], corner[1], corner[2] = z_low + start[0], y_low + start[1], x_low + start[2]
                    end[0], end[1] = z_high - 1 + start[0], y_high - 1 + start[1]
                    end[2] = min(nx, x_low + TILE) - 1 + start[2]
                    count = _narrow(near, n_near, centres, corner, end, nearest)
                    for i in range(count):
                        for axis in range(3):
                            place[i, axis] = centres[nearest[i], axis]
                    for z in range(z_low, z_high):
                        for y in range(y_low, y_high):
                            byte = (bits[z, y, q] >> shift) & np.uint64(0xFF)
                            while byte != np.uint64(0):
                                x = x_low + np.int64(popcount((byte & (~byte + np.uint64(1))) - np.uint64(1)))
                                byte &= byte - np.uint64(1)
                                at[0], at[1], at[2] = z + start[0], y + start[1], x + start[2]
                                best = second = np.inf
                                who = 0
                                for i in range(count):
                                    d0, d1, d2 = at[0] - place[i, 0], at[1] - place[i, 1], at[2] - place[i, 2]
                                    d = d0 * d0 + d1 * d1 + d2 * d2
                                    if d < best:
                                        second = best
                                        best = d
                                        who = i
                                    elif d < second:
                                        second = d
                                origin = 1.0 + best
                                for axis in range(3):
                                    origin += float(at[axis]) * float(at[axis])
                                if second - best <= DOUBT * origin:
                                    if doubts < len(doubtful):
                                        doubtful[doubts] = (z * ny + y) * nx + x
                                    doubts += 1
                                    if members.size:
                                        members[z, y, x] = -2
                                    continue
                                one = nearest[who]
                                if members.size:
                                    members[z, y, x] = one
                                column = slot[labels[z, y, x]]
                                sizes[one] += 1
                                votes[one, column] += 1
                                if weights.size:
                                    probability[one, column] += weights[z, y, x]
                                line = (at[0] * shape[1] + at[1]) * shape[2] + at[2]
                                first[one] = min(first[one], line)
                                for axis in range(3):
                                    sums[one, axis] += at[axis]
                                    low[one, axis] = min(low[one, axis], at[axis])
                                    high[one, axis] = max(high[one, axis], at[axis] + 1)
    return doubts
