"""The one STFT / inverse STFT pair.

Source: NUMERICS "STFT": periodic Hann window, centred, reflect padding, one-sided, not normalised.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from bandsplit.config import StftConfig


def stft(signal: Tensor, config: StftConfig) -> Tensor:
    """Transform ``(..., samples)`` real to ``(..., f, t)`` complex, with f = n_fft / 2 + 1.

    Two cases need zeros at the end first: signals of at most n_fft / 2 samples, which reflect padding cannot extend,
    and hops above n_fft / 4, where samples after the last frame's centre would be rebuilt from the edge of a single
    window, that is, divided by almost nothing.

    Raises:
        ValueError: the signal has no samples.
    """
    samples = signal.shape[-1]
    if samples < 1:
        raise ValueError("signal: needs at least one sample on its last axis, got 0")
    padded = max(samples, config.n_fft // 2 + 1)
    if config.hop_samples * 4 > config.n_fft:
        padded += -padded % config.hop_samples
    flat = F.pad(signal, (0, padded - samples)).reshape(-1, padded)
    spec = torch.stft(
        flat,
        config.n_fft,
        config.hop_samples,
        window=_window(config, signal),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    return spec.unflatten(0, signal.shape[:-1])


def istft(spec: Tensor, config: StftConfig, samples: int) -> Tensor:
    """Invert `stft`: ``(..., f, t)`` complex to ``(..., samples)`` real."""
    flat = spec.flatten(0, -3)
    window = _window(config, spec.real)
    signal = torch.istft(flat, config.n_fft, config.hop_samples, window=window, center=True, length=samples)
    return signal.unflatten(0, spec.shape[:-2])


def _window(config: StftConfig, like: Tensor) -> Tensor:
    return torch.hann_window(config.n_fft, periodic=True, dtype=like.dtype, device=like.device)
