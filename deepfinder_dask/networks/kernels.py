"""The arithmetic of inference on one tile: convolutions with their parameters made ready once.

A tile is a dense box of voxels in memory, (z, y, x, channel), that already holds all the context its result needs,
zeros beyond the volume's borders included; so a convolution pads nothing. On a CPU every convolution is one of oneDNN
in channels-last: torch's own choice between two kernels depends on the size, and their last bits differ.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from deepfinder_dask.blocks import Shape3

ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
"""Whether this torch has oneDNN."""
LINE_GROUP = 4
"""Planes that :class:`LineConvolution` computes together."""
LINE_TAPS = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))
"""Rows of the kernel transform of F(4, 3), times 24."""
PARITIES: tuple[Shape3, ...] = tuple((z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1))
"""Even and odd voxels of an upsampled grid, (z, y, x)."""


class Workspace(threading.local):
    """Memory for tiles, used again and again; each thread has its own."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Uninitialised values of this shape; what was taken under the same name before is overwritten."""
        part = self.parts.get((name, dtype, device))
        if part is None or part.numel() < prod(shape):
            self.parts.pop((name, dtype, device), None)
            part = self.parts[name, dtype, device] = torch.empty(prod(shape), dtype=dtype, device=device)
        return part[: prod(shape)].view(shape)

    def like(self, name: str, other: Tensor) -> Tensor:
        """Uninitialised values of another's shape, type and device."""
        return self.take(name, tuple(other.shape), other.dtype, other.device)


workspace = Workspace()
"""The memory of this thread."""


def convolve(tile: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution without padding.

    Parameters
    ----------
    tile : Tensor
        (z, y, x, channel), dense.
    weight : Tensor
        (out, in, z, y, x), channels-last, of the tile's type and device.
    bias : Tensor or None
        (out,), of the same type.

    Returns
    -------
    Tensor
        (z, y, x, out), smaller than the tile by the kernel less one.
    """
    # The strides are spelled out: for one channel or one row several layouts look alike, and size would decide.
    z, y, x, c = tile.shape
    values = tile.as_strided((1, c, z, y, x), (z * y * x * c, 1, y * x * c, x * c, c))
    if tile.device.type == "cpu" and ONEDNN:
        result = torch.mkldnn_convolution(values, weight, bias, [0, 0, 0], [1, 1, 1], [1, 1, 1], 1)
    else:
        result = F.conv3d(values, weight, bias)
    dense: Tensor = result[0].permute(1, 2, 3, 0)
    return dense


def channels_last(weight: Tensor) -> Tensor:
    """A kernel (out, in, z, y, x) in the layout that :func:`convolve` takes."""
    out, c, z, y, x = weight.shape
    dense = weight.permute(0, 2, 3, 4, 1).contiguous()
    return dense.as_strided((out, c, z, y, x), (z * y * x * c, 1, y * x * c, x * c, c))


class PlainConvolution:
    """Any convolution, as it stands."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = channels_last(weight), bias

    def planes(self, tile: Tensor) -> Iterator[Tensor]:
        """Planes of the result, (y, x, out) each, before any activation."""
        yield from convolve(tile, self.weight, self.bias)


class LineConvolution:
    """A convolution of size 3 whose planes come in fours at half the multiplications: Winograd's F(4, 3) along z.

    Six kernels of one plane are applied to sums of the tile's planes; four planes of the result are sums of theirs.
    Each factor below is a power of two, so that sums round alike with and without fused multiply-adds.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.bias = bias
        taps = torch.tensor(LINE_TAPS, dtype=torch.float64, device=weight.device) / 24
        lines = torch.einsum("tz,oizyx->toiyx", taps, weight.double()).to(weight.dtype)
        self.weights = [channels_last(line[:, :, None]) for line in lines]

    def planes(self, tile: Tensor) -> Iterator[Tensor]:
        """Planes of the result, (y, x, out) each, before any activation: four for each four of the tile after two."""
        count = (len(tile) - 2) // LINE_GROUP
        d = [tile[i : i + LINE_GROUP * (count - 1) + 1 : LINE_GROUP] for i in range(6)]
        u, v, w = (workspace.like(name, d[0]) for name in ("line u", "line v", "line w"))
        weights = self.weights
        torch.sub(d[4], d[2], alpha=4, out=u)  # d4 - 4 d2
        torch.sub(d[3], d[1], alpha=4, out=v)  # d3 - 4 d1
        m1 = convolve(torch.add(u, v, out=w), weights[1], self.bias)
        m2 = convolve(torch.sub(u, v, out=w), weights[2], None)
        u.sub_(d[2]).add_(d[0], alpha=4)  # 4 d0 - 5 d2 + d4
        m0 = convolve(u, weights[0], None)
        torch.sub(d[4], d[2], out=u)
        torch.sub(d[3], d[1], out=v)
        m3 = convolve(torch.add(u, v, alpha=2, out=w), weights[3], None)
        m4 = convolve(torch.sub(u, v, alpha=2, out=w), weights[4], None)
        torch.sub(d[5], d[3], alpha=4, out=u).sub_(d[3]).add_(d[1], alpha=4)  # 4 d1 - 5 d3 + d5
        m5 = convolve(u, weights[5], None)
        even = m1 + m2
        m1 -= m2
        m2 = torch.add(m3, m4, out=m2)
        m3 -= m4
        m0 += even
        m0 += m2
        even.add_(m2, alpha=4)
        m5 += m1
        m5.add_(m3, alpha=8)
        m1.add_(m3, alpha=2)
        for group in zip(m0, m1, even, m5, strict=True):
            yield from group


class UpConvolution:
    """Each voxel repeated 2 × 2 × 2 times, then a convolution of size 2, at 27 instead of 64 multiplications.

    An even voxel of the finer grid and its neighbour after it are one voxel of the coarse grid, so that along an axis
    even voxels have one tap and odd ones two: a kernel of its own for each of the eight parities.
    """

    def __init__(self, weight: Tensor, bias: Tensor, cast: Callable[[Tensor], Tensor]) -> None:
        self.bias = cast(bias)
        taps = [torch.tensor(rows, dtype=torch.float64, device=weight.device) for rows in (((1, 1),), ((1, 0), (0, 1)))]
        self.weights = {}
        for parity in PARITIES:
            summed = torch.einsum("oizyx,az,by,cx->oiabc", weight.double(), *(taps[p] for p in parity))
            self.weights[parity] = channels_last(cast(summed.to(weight.dtype)))

    def planes(self, tile: Tensor, parity: Shape3) -> Iterator[Tensor]:
        """Planes of the result at every other voxel, (y, x, out) each, before the activation."""
        yield from convolve(tile, self.weights[parity], self.bias)
