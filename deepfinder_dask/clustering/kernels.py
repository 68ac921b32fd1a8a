"""Compiled loops of mean-shift over the voxels of one region.

They work on sets of voxels packed into bits, one bit a voxel, so that a ball's worth of voxels stays in the fastest
cache. Positions are whole numbers, so that every sum is exact; nothing here may be compiled with fast maths. The
compiled functions fill arrays that their callers make: making arrays is what takes long to compile.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray

from deepfinder_dask.execution.compiling import compiled

Bits = NDArray[np.uint64]
"""(z, y, w) uint64: voxel x of a row is bit ``x % 64`` of word ``x // 64``; the last word is always empty."""

WORD = 64
FEW = 11
"""Up to so many points scikit-learn measures distances another way."""
TILE = 8
"""Side of the cubes of voxels that share a list of centres: eight bits of a row."""
SUPERTILE = 32
"""Side of the cubes whose lists those are chosen from."""


def _count_bits(typing: Any, word: Any) -> Any:
    """One instruction of the processor."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return numba.types.uint64(numba.types.uint64), generate


popcount: Any = intrinsic(_count_bits)


def pack(labels: NDArray[np.uint8], table: NDArray[np.bool_], seen: NDArray[np.bool_]) -> Bits:
    """Voxels whose label is in the table, as bits.

    Parameters
    ----------
    labels : (z, y, x) uint8
        Label map.
    table : (256,) bool
        Which labels count.
    seen : (256,) bool
        Set to True for labels that occur (0 is not looked for).
    """
    bits = np.zeros((*labels.shape[:2], labels.shape[2] // WORD + 2), np.uint64)
    _pack(labels, table, seen, bits)
    return bits


@compiled
def _pack(labels: NDArray[np.uint8], table: NDArray[np.bool_], seen: NDArray[np.bool_], bits: Bits) -> None:
    nz, ny, nx = labels.shape
    for z in range(nz):
        for y in range(ny):
            row = labels[z, y]
            for q in range((nx + WORD - 1) // WORD):
                start = q * WORD
                stop = min(nx, start + WORD)
                some = np.uint8(0)
                for x in range(start, stop):
                    some |= row[x]
                if some == 0:
                    continue
                word = np.uint64(0)
                for x in range(start, stop):
                    value = row[x]
                    seen[value] = True
                    word |= np.uint64(table[value]) << np.uint64(x - start)
                bits[z, y, q] = word


@compiled
def first_in_bins(
    bits: Bits,
    start: NDArray[np.int64],
    shape: NDArray[np.int64],
    bin_z: NDArray[np.int64],
    bin_y: NDArray[np.int64],
    bin_x: NDArray[np.int64],
    bins: NDArray[np.int64],
    first: NDArray[np.int64],
    few: NDArray[np.int64],
    box: NDArray[np.int64],
) -> int:
    """Find the first voxel of each bin of a block, in C order; return the number of voxels.

    Parameters
    ----------
    bits : (z, y, w) uint64
        Voxels of the block.
    start, shape : (3,) int64
        Where the block begins, and the extent of the volume, (z, y, x).
    bin_z, bin_y, bin_x : (z,), (y,) and (x,) int64
        Number of the bin of each plane, row and column of the block.
    bins : (3,) int64
        How many bins the block has on each axis.
    first : (product of bins,) int64
        All -1; takes the linear index in the volume of the first voxel of each bin that has one.
    few : (11,) int64
        Takes the linear indices of the first eleven voxels.
    box : (6,) int64
        The shape, then zeros; takes the first voxel, then one past the last, z, y, x each, in the volume.
    """
    nz, ny, words = bits.shape
    count = 0
    for z in range(nz):
        for y in range(ny):
            line = ((z + start[0]) * shape[1] + y + start[1]) * shape[2] + start[2]
            row = (bin_z[z] * bins[1] + bin_y[y]) * bins[2]
            for q in range(words):
                word = bits[z, y, q]
                while word != np.uint64(0):
                    x = q * WORD + np.int64(popcount((word & (~word + np.uint64(1))) - np.uint64(1)))
                    word &= word - np.uint64(1)
                    if first[row + bin_x[x]] < 0:
                        first[row + bin_x[x]] = line + x
                    if count < FEW:
                        few[count] = line + x
                    count += 1
                    box[0] = min(box[0], z + start[0])
                    box[1] = min(box[1], y + start[1])
                    box[2] = min(box[2], x + start[2])
                    box[3] = max(box[3], z + start[0] + 1)
                    box[4] = max(box[4], y + start[1] + 1)
                    box[5] = max(box[5], x + start[2] + 1)
    return count


@compiled
def follow(
    bits: Bits,
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    known: NDArray[np.float64],
    bandwidth: float,
    limit: int,
    position: NDArray[np.float64],
    count: NDArray[np.int64],
    iteration: NDArray[np.int64],
    left: NDArray[np.bool_],
) -> None:
    """Move each position to the mean of the voxels around it, until it stays or leaves what is known.

    A voxel is around a position where the sum of the squares of their differences, in the order z, y, x, is at most the
    square of the bandwidth, in float64 throughout: the predicate of scikit-learn's trees. Along a row that holds for
    one range of voxels, whose ends are found with it.

    Parameters
    ----------
    bits : (z, y, w) uint64
        Voxels of the region.
    start, stop : (3,) int64
        Where the region begins and ends in the volume, (z, y, x).
    known : (3, 2) float64
        Lowest and highest position on each axis from which the next step can be made with the voxels of the region.
    bandwidth : float
        Radius of the ball, in voxels.
    limit : int
        Most steps.
    position, count, iteration, left
        As in ``Shifted``, begun with positions and steps taken, zeros and False; they take what comes out.
    """
    square = bandwidth * bandwidth
    enough = 1e-3 * bandwidth
    for one in range(position.shape[0]):
        c0, c1, c2 = position[one, 0], position[one, 1], position[one, 2]
        step = iteration[one]
        while True:
            if (
                c0 < known[0, 0]
                or c0 > known[0, 1]
                or c1 < known[1, 0]
                or c1 > known[1, 1]
                or c2 < known[2, 0]
                or c2 > known[2, 1]
            ):
                left[one] = True
                break
            n = s0 = s1 = s2 = np.int64(0)
            z_low = max(start[0], np.int64(np.floor(c0 - bandwidth)))
            z_high = min(stop[0] - 1, np.int64(np.ceil(c0 + bandwidth)))
            for z in range(z_low, z_high + 1):
                d = c0 - z
                a = d * d
                if a > square:
                    continue
                reach = np.sqrt(square - a)
                y_low = max(start[1], np.int64(np.floor(c1 - reach)))
                y_high = min(stop[1] - 1, np.int64(np.ceil(c1 + reach)))
                for y in range(y_low, y_high + 1):
                    d = c1 - y
                    b = a + d * d
                    if b > square:
                        continue
                    reach = np.sqrt(square - b)
                    low = np.int64(np.ceil(c2 - reach)) - 1
                    high = np.int64(np.floor(c2 + reach)) + 1
                    while low <= high and b + (c2 - low) * (c2 - low) > square:
                        low += 1
                    while low <= high and b + (c2 - high) * (c2 - high) > square:
                        high -= 1
                    low = max(low, start[2])
                    high = min(high, stop[2] - 1)
                    row = bits[z - start[0], y - start[1]]
                    while low <= high:
                        offset = low - start[2]
                        q = offset >> 6
                        shift = np.uint64(offset & 63)
                        word = row[q] >> shift
                        if shift != np.uint64(0):
                            word |= row[q + 1] << (np.uint64(64) - shift)
                        length = high - low + 1
                        if length < WORD:
                            word &= (np.uint64(1) << np.uint64(length)) - np.uint64(1)
                        if word != np.uint64(0):
                            m = np.int64(popcount(word))
                            n += m
                            s0 += m * z
                            s1 += m * y
                            s2 += m * low + _sum_of_places(word)
                        low += WORD
            if n == 0:
                break
            count[one] = n
            e0, e1, e2 = s0 / n, s1 / n, s2 / n
            moved = np.sqrt((e0 - c0) * (e0 - c0) + (e1 - c1) * (e1 - c1) + (e2 - c2) * (e2 - c2))
            c0, c1, c2 = e0, e1, e2
            if moved <= enough or step == limit:
                break
            step += 1
            count[one] = 0
        position[one, 0], position[one, 1], position[one, 2] = c0, c1, c2
        iteration[one] = step


@compiled
def _sum_of_places(word: Any) -> np.int64:
    """Sum of the places of the bits that are set: each digit of the places counted by one mask."""
    return (
        np.int64(popcount(word & np.uint64(0xAAAAAAAAAAAAAAAA)))
        + (np.int64(popcount(word & np.uint64(0xCCCCCCCCCCCCCCCC))) << 1)
        + (np.int64(popcount(word & np.uint64(0xF0F0F0F0F0F0F0F0))) << 2)
        + (np.int64(popcount(word & np.uint64(0xFF00FF00FF00FF00))) << 3)
        + (np.int64(popcount(word & np.uint64(0xFFFF0000FFFF0000))) << 4)
        + (np.int64(popcount(word & np.uint64(0xFFFFFFFF00000000))) << 5)
    )
