"""The 3D U-Net of DeepFinder, written down once as a list of steps.

Everything else about the network is derived from these steps: the plain forward pass, the voxels that each step needs
for a block (:mod:`deepfinder_dask.networks.regions`), and so the halo. Source: Moebel et al., Nature Methods 2021,
Methods and Extended Data Fig. 1.

::

    x ── 32 ── 32 ──────────────────── high ───────────────────┐
               └ pool ── 48 ── 48 ──── mid ────┐               │
                         └ pool ── 64 ×4 ── up 64 ─ + 48 ── up 48 ─ + 32 ── 32 ── classes
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIVISOR = 4
"""Two poolings halve the volume twice: block origins and padded sizes are multiples of this many voxels."""


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution with 'same' zero padding; an even kernel pads on the high side only."""

    source: str
    """Step whose output is read."""
    channels_in: int
    """Channels read."""
    channels_out: int
    """Channels written."""
    kernel: int = 3
    """Kernel size in voxels, equal on all axes."""
    relu: bool = True
    """Whether a ReLU follows."""
    group: int = 1
    """Planes along z that are computed together, counted from the first plane of the volume."""

    @property
    def pad_low(self) -> int:
        """Voxels of context before a voxel."""
        return (self.kernel - 1) // 2

    @property
    def pad_high(self) -> int:
        """Voxels of context after a voxel."""
        return self.kernel // 2


@dataclass(frozen=True, slots=True)
class Pool:
    """Maximum over 2 × 2 × 2 voxels."""

    source: str
    """Step whose output is read."""


@dataclass(frozen=True, slots=True)
class Up:
    """Each voxel repeated 2 × 2 × 2 times."""

    source: str
    """Step whose output is read."""


@dataclass(frozen=True, slots=True)
class UpConv:
    """Up, a convolution of size 2 and a ReLU in one step, as only inference computes it."""

    source: str
    """Step whose output is read."""
    channels_in: int
    """Channels read."""
    channels_out: int
    """Channels written."""


@dataclass(frozen=True, slots=True)
class Concat:
    """Channels of two steps, one after the other."""

    first: str
    """Step whose channels come first."""
    second: str
    """Step whose channels follow."""


Step = Conv | Pool | Up | UpConv | Concat
Program = dict[str, Step]
"""Steps by name, in the order of computation; ``x`` is the input, the last step the output."""

INPUT = "x"


def deepfinder_program(classes: int) -> Program:
    """Steps of the DeepFinder U-Net for ``classes`` classes, the background among them."""
    return {
        "high_1": Conv(INPUT, 1, 32),
        "high_2": Conv("high_1", 32, 32),
        "pool_1": Pool("high_2"),
        "mid_1": Conv("pool_1", 32, 48),
        "mid_2": Conv("mid_1", 48, 48),
        "pool_2": Pool("mid_2"),
        "low_1": Conv("pool_2", 48, 64),
        "low_2": Conv("low_1", 64, 64),
        "low_3": Conv("low_2", 64, 64),
        "low_4": Conv("low_3", 64, 64),
        "up_2": Up("low_4"),
        "up_2_conv": Conv("up_2", 64, 64, kernel=2),
        "join_2": Concat("up_2_conv", "mid_2"),
        "mid_3": Conv("join_2", 112, 48),
        "mid_4": Conv("mid_3", 48, 48),
        "up_1": Up("mid_4"),
        "up_1_conv": Conv("up_1", 48, 48, kernel=2),
        "join_1": Concat("up_1_conv", "high_2"),
        "high_3": Conv("join_1", 80, 32),
        "high_4": Conv("high_3", 32, 32),
        "classify": Conv("high_4", 32, classes, kernel=1, relu=False),
    }


GROUPED = ("high_2", "mid_3", "high_3", "high_4")
"""Convolutions that inference may compute in groups of planes: four fifths of the arithmetic, and of those at half the
resolution the one that makes no other step wait longer for its planes."""


def folded_program(classes: int, group: int = 1) -> Program:
    """Steps that inference computes: each upsampling and its convolution are one step.

    Parameters
    ----------
    classes : int
        Number of classes, the background among them.
    group : int
        Planes computed together by the steps of ``GROUPED``.
    """
    program = deepfinder_program(classes)
    folded: Program = {}
    for name, step in program.items():
        match step:
            case Up():
                continue
            case Conv(kernel=2) if isinstance(up := program[step.source], Up):
                folded[name] = UpConv(up.source, step.channels_in, step.channels_out)
            case Conv() if name in GROUPED:
                folded[name] = replace(step, group=group)
            case _:
                folded[name] = step
    return folded


class UNet(nn.Module):
    """The 3D U-Net of DeepFinder; 903,060 parameters with 4 classes.

    Parameters
    ----------
    classes : int
        Number of classes, the background among them.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.program = deepfinder_program(classes)
        self.convs = nn.ModuleDict(
            {
                name: nn.Conv3d(step.channels_in, step.channels_out, step.kernel)
                for name, step in self.program.items()
                if isinstance(step, Conv)
            }
        )
        for name, step in self.program.items():
            if isinstance(step, Conv):
                nn.init.kaiming_normal_(self.conv(name).weight, nonlinearity="relu" if step.relu else "linear")
                nn.init.zeros_(self.bias(name))

    def conv(self, name: str) -> nn.Conv3d:
        """The convolution of this step: its weight is (out, in, z, y, x) float32, its bias (out,)."""
        layer = self.convs[name]
        if not isinstance(layer, nn.Conv3d):
            raise TypeError(f"step {name!r} is no convolution")
        return layer

    def bias(self, name: str) -> Tensor:
        """Bias of this step, (out,) float32."""
        bias = self.conv(name).bias
        if bias is None:
            raise TypeError(f"step {name!r} has no bias")
        return bias

    def forward(self, x: Tensor) -> Tensor:
        """One pass over a whole volume, zero padding in each layer at its borders.

        Parameters
        ----------
        x : Tensor
            Normalised volumes, (n, 1, z, y, x) float32; z, y and x multiples of 4.

        Returns
        -------
        Tensor
            Logits, (n, class, z, y, x) float32.
        """
        values: dict[str, Tensor] = {INPUT: x}
        for name, step in self.program.items():
            values[name] = self._compute(name, step, values)
        return values[name]

    def _compute(self, name: str, step: Step, values: dict[str, Tensor]) -> Tensor:
        match step:
            case Conv():
                return self._convolve(name, step, values[step.source])
            case Pool():
                return F.max_pool3d(values[step.source], 2)
            case Up():
                return F.interpolate(values[step.source], scale_factor=2, mode="nearest")
            case UpConv():
                raise TypeError(f"step {name!r} is for inference alone")
            case Concat():
                return torch.cat([values[step.first], values[step.second]], 1)

    def _convolve(self, name: str, step: Conv, x: Tensor) -> Tensor:
        """Convolution and activation of one step."""
        layer = self.conv(name)
        padding = step.pad_low
        if step.pad_low != step.pad_high:
            x, padding = F.pad(x, [step.pad_low, step.pad_high] * 3), 0
        y = F.conv3d(x, layer.weight, layer.bias, padding=padding)
        return F.relu(y) if step.relu else y
