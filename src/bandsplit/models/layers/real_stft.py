"""The transforms of `bandsplit.audio.stft` in real arithmetic, for graphs without complex numbers."""

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from bandsplit.audio.stft import join_frames
from bandsplit.audio.stft_config import StftConfig
from bandsplit.audio.stft_numpy import hann_window
from bandsplit.core.sizes import missing_to_multiple
from bandsplit.models.layers.fourier_tables import fourier_tables


def real_stft(signal: Tensor, config: StftConfig) -> Tensor:
    """Transform ``b c samples``, more than n_fft / 2, to real and imaginary parts ``b c f t r``."""
    if config.hop_samples * 4 > config.n_fft:
        signal = F.pad(signal, (0, missing_to_multiple(signal.shape[-1], config.hop_samples)))
    edge = config.n_fft // 2
    return transform_frames(F.pad(signal, (edge, edge), mode="reflect"), config.n_fft, config.hop_samples)


def real_istft(parts: Tensor, config: StftConfig, samples: int) -> Tensor:
    """Invert `real_stft`: parts ``(..., f, t, r)`` to ``(..., samples)``; the highest bins are zero if left out."""
    window = torch.from_numpy(hann_window(config.n_fft))
    frames = invert_frames(parts, config.n_fft)
    return join_frames(frames, window, config.hop_samples, config.n_fft // 2, samples)


def transform_frames(signal: Tensor, n_fft: int, hop_samples: int) -> Tensor:
    """Cut ``(..., samples)`` into complete frames and transform them to parts ``(..., f, t, r)``."""
    count = (signal.shape[-1] - n_fft) // hop_samples + 1
    frames = signal[..., hop_samples * torch.arange(count)[:, None] + torch.arange(n_fft)]
    first, cosines, sines, last = map(torch.from_numpy, fourier_tables(n_fft))
    x = first @ (frames * torch.from_numpy(hann_window(n_fft))).unflatten(-1, cosines.shape)
    re, im = x.split(len(cosines), dim=-2)  # ... t k b
    x = torch.cat([re * cosines + im * sines, im * cosines - re * sines], dim=-1) @ last
    return rearrange(x, "... t k (r m) -> ... (m k) t r", r=2)[..., : n_fft // 2 + 1, :, :]


def invert_frames(parts: Tensor, n_fft: int) -> Tensor:
    """Turn parts ``(..., f, t, r)`` of the lowest bins into frames ``(..., t, n)``."""
    first, cosines, sines, last = map(torch.from_numpy, fourier_tables(n_fft))
    p, q = cosines.shape
    bins = np.arange(int(parts.shape[-3]))
    weight = np.where((bins == 0) | (2 * bins == n_fft), 1, 2) / n_fft
    x = parts * torch.from_numpy(weight.astype(np.float32))[:, None, None]
    x = F.pad(x, (0, 0, 0, 0, 0, p * (last.shape[1] // 2) - len(bins)))
    x = rearrange(x, "... (m k) t r -> ... t k (r m)", k=p) @ last.mT
    re, im = x.split(q, dim=-1)  # ... t k b
    x = torch.cat([re * cosines - im * sines, im * cosines + re * sines], dim=-2)
    return (first.mT @ x).flatten(-2)
