"""The rate at which this machine multiplies large matrices: the reference for all speeds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

ProductPrecision = Literal["fp32", "tf32", "bf16", "fp16"]
"""Precision of products: single; on CUDA, single with TF32's rounding; automatic bfloat16; on CUDA, float16."""

MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}


def matrix_rate(device: torch.device, precision: ProductPrecision = "fp32") -> float:
    """Measure the operations per second of products of large square matrices; return the median of several."""
    size = MATRIX_SIZE[device.type]
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    a, out = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))

    def multiply() -> Tensor:
        return torch.mm(a, a, out=out)

    multiply()
    return 2 * size**3 / statistics.median(time_s(multiply, device) for _ in range(5))


def time_s(work: Callable[[], object], device: torch.device) -> float:
    """Time some work in seconds, until the device has finished it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
