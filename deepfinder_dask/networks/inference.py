"""Forward passes for use, not for training: parameters made ready once, then blocks that equal one pass over the whole.

See :mod:`deepfinder_dask.networks.regions` for which voxels of each step a block needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from deepfinder_dask.blocks import Box, Shape3
from deepfinder_dask.errors import SettingsError
from deepfinder_dask.networks.regions import forward_core
from deepfinder_dask.networks.unet import Program, UNet
from deepfinder_dask.networks.weights import Weights

Precision = Literal["fp32", "bf16"]
"""Numbers of weights and activations; sums are always float32, and so are the logits."""
NUMERICS = 1
"""Version of the arithmetic here: raised whenever the bits of a logit change on the same machine."""


class Inference:
    """A network made ready for a device and a precision.

    Built by :func:`prepare`; not to be used by two threads at once.
    """

    def __init__(self, network: UNet, device: torch.device, precision: Precision) -> None:
        self.network = network
        self.classes = network.classes
        self.program: Program = network.program
        self.device = device
        self.precision = precision

    def logits(
        self, x: Tensor, read: Box, core: Box, shape: Shape3, *, check: Callable[[], None] | None = None
    ) -> Tensor:
        """Logits of a core, bit-identical to those of one pass over the whole volume.

        Parameters
        ----------
        x : Tensor
            Normalised voxels of ``read``, (1, 1, z, y, x) float32.
        read : Box
            Voxels that ``x`` holds; contains what the core needs (``needed_regions(self.program, …)``).
        core : Box
            Voxels wanted of the output.
        shape : Shape3
            Whole volume in voxels, (z, y, x), multiples of 4.
        check : callable, optional
            Called before every step; what it raises stops the pass.

        Returns
        -------
        Tensor
            (class, z, y, x) float32, on the device.

        Raises
        ------
        GeometryError
            If ``read`` lacks voxels that the core needs, or ``x`` is not of its shape.
        """
        if check is not None:
            check()
        with torch.inference_mode():
            return forward_core(self.network, x.to(self.device), read, core, shape)[0]


def prepare(weights: Weights, *, device: str = "cpu", precision: Precision = "fp32") -> Inference:
    """A network ready for forward passes.

    Parameters
    ----------
    weights : Weights
        The parameters.
    device : str
        ``cpu`` or a CUDA device.
    precision : str
        ``fp32`` or ``bf16``.

    Returns
    -------
    Inference
        What computes logits.

    Raises
    ------
    SettingsError
        If the device cannot compute in this precision.
    """
    if precision == "bf16" and not bf16_supported(device):
        raise SettingsError(f"expected a device that computes in bf16, found {machine_kind(device)}: use fp32")
    return Inference(weights.build().to(device), torch.device(device), precision)


def bf16_supported(device: str = "cpu") -> bool:
    """Whether a device multiplies bf16 numbers in hardware (AVX512-BF16, AMX, CUDA from compute capability 8)."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    allowed = limit in ("", "ALL", "DEFAULT") or any(word in limit for word in ("BF16", "FP16", "AMX", "AVX10"))
    return allowed and not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpu_flags())


def machine_kind(device: str = "cpu") -> str:
    """What decides the last bits of a result, torch's version apart: instruction set, or the GPU's name."""
    if torch.device(device).type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    words = ["cpu", torch.backends.cpu.get_cpu_capability()]
    words += [short for flag, short in (("avx512_bf16", "bf16"), ("amx_bf16", "amx")) if flag in _cpu_flags()]
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return " ".join([*words, f"oneDNN {limit}"] if limit else words)


@lru_cache(maxsize=1)
def _cpu_flags() -> frozenset[str]:
    """Instruction sets of this processor, as Linux names them; empty elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return frozenset(next((line.split(":", 1)[1] for line in lines if line.startswith("flags")), "").split())
