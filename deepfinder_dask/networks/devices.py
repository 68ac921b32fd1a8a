"""What a device can compute in, and what decides the last bits of its results."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
"""Numbers of weights and activations; sums are always float32, and so are the logits."""


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
