"""Resampling by two with a windowed sinc, as layers of networks need it: its gradient is that of a convolution.

Source: docs/demucs.md#resampling. The numbers are those of the library julius with its defaults.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ZEROS = 24
"""Zero crossings of the sinc on either side."""
ROLLOFF = 0.945
"""Cut-off frequency, as a fraction of the highest frequency of the lower rate."""


def upsample(signal: Tensor) -> Tensor:
    """Turn ``... samples`` into twice as many."""
    first, second = _kernels(1, 2, signal)
    both = torch.stack([_filter(signal, kernel, 1) for kernel in (first, second)], dim=-1)
    return both.flatten(-2)


def downsample(signal: Tensor) -> Tensor:
    """Turn ``... samples`` into half as many, rounded down."""
    (kernel,) = _kernels(2, 1, signal)
    return _filter(signal, kernel, 2)[..., : signal.shape[-1] // 2]


def _kernels(before: int, after: int, like: Tensor) -> list[Tensor]:
    """Return a filter for each of the ``after`` samples that replace ``before``."""
    rate = min(before, after) * ROLLOFF
    width = math.ceil(ZEROS * before / rate)
    position = np.arange(-width, width + before)
    kernels: list[Tensor] = []
    for number in range(after):
        at = np.clip((position / before - number / after) * rate, -ZEROS, ZEROS)
        kernel = np.sinc(at) * np.cos(at * np.pi / ZEROS / 2) ** 2
        kernels.append(torch.from_numpy(kernel / kernel.sum()).to(like))
    return kernels


def _filter(signal: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Apply a filter to ``... samples`` at every ``stride``-th one; the ends of the signal are repeated."""
    width = (len(kernel) - stride) // 2
    flat = F.pad(signal.reshape(-1, 1, signal.shape[-1]), (width, width + stride), mode="replicate")
    with torch.autocast(signal.device.type, enabled=False):  # a signal in half precision has audible noise
        found = F.conv1d(flat, kernel[None, None], stride=stride)[..., : (signal.shape[-1] + stride - 1) // stride]
    return found.reshape(*signal.shape[:-1], -1)
