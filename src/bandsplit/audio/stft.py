"""The only STFT / inverse STFT pair in PyTorch.

Periodic Hann window, centred, reflect padding, one-sided, not normalised.

Source: docs/numerics.md#stft.
"""

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from bandsplit.audio.stft_config import StftConfig


def stft(signal: Tensor, config: StftConfig) -> Tensor:
    """Transform ``(..., samples)`` real to ``(..., f, t)`` complex, with f = n_fft / 2 + 1.

    In two cases zeros are appended first: to signals of at most n_fft / 2 samples, which reflect padding cannot extend,
    and for hops above n_fft / 4, where samples after the last frame's centre would be reconstructed from the edge of a
    single window, that is, divided by almost zero.

    Raises:
        ValueError: the signal has no samples.
    """
    samples = signal.shape[-1]
    if samples < 1:
        raise ValueError("signal: needs at least one sample on its last axis, got 0")
    padded = max(samples, config.n_fft // 2 + 1)
    if config.hop_samples * 4 > config.n_fft:
        padded += -padded % config.hop_samples
    return analyse(F.pad(signal, (0, padded - samples)), config.n_fft, config.hop_samples, config.n_fft)


def analyse(signal: Tensor, n_fft: int, hop_samples: int, window_samples: int) -> Tensor:
    """Transform ``(..., samples)`` real to ``(..., f, t)`` complex, without regard to its inversion.

    Args:
        signal: extended by zeros to n_fft / 2 + 1 samples, the fewest that reflect padding can extend.
        n_fft: length of the transform.
        hop_samples: samples between frames.
        window_samples: length of the window, which is centred in the transform.
    """
    padded = max(signal.shape[-1], n_fft // 2 + 1)
    spec = torch.stft(
        F.pad(signal, (0, padded - signal.shape[-1])).reshape(-1, padded),
        n_fft,
        hop_samples,
        window_samples,
        window=_window(window_samples, signal),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    return spec.reshape(*signal.shape[:-1], *spec.shape[-2:])


def istft(spec: Tensor, config: StftConfig, samples: int) -> Tensor:
    """Invert `stft`: ``(..., f, t)`` complex to ``(..., samples)`` real.

    The result equals that of `torch.istft`, whose scattered overlap-add is several times slower on a CPU: here frames
    are cut into hops and the hops added.
    """
    window = _window(config.n_fft, spec.real)
    frames = torch.fft.irfft(spec.mT, config.n_fft)
    return join_frames(frames, window, config.hop_samples, config.n_fft // 2, samples)


def join_frames(frames: Tensor, window: Tensor, hop: int, first: int, samples: int, silent: int = 0) -> Tensor:
    """Add windowed frames ``(..., t, n)`` and divide by the sum of squared windows: ``(..., samples)``.

    Args:
        frames: the frames, before windowing.
        window: the window of analysis and synthesis.
        hop: samples between frames.
        first: the first sample of the result.
        samples: length of the result.
        silent: frames of zeros at either end, whose windows count.
    """
    signal = overlap_add(frames * window, hop)[..., first : first + samples]
    envelope = overlap_add(window.square().expand(frames.shape[-2] + 2 * silent, -1), hop)
    return signal / envelope[silent * hop :][first : first + samples]


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """Add frames ``(..., t, n)`` at multiples of ``hop``: ``(..., samples)``, at least all of them."""
    missing = -int(frames.shape[-1]) % hop  # an exporter's sizes are tensors
    hops = (F.pad(frames, (0, missing)) if missing else frames).unflatten(-1, (-1, hop)).unbind(-2)
    last = len(hops) - 1
    return reduce(torch.add, [F.pad(part, (0, 0, i, last - i)) for i, part in enumerate(hops)]).flatten(-2)


def _window(samples: int, like: Tensor) -> Tensor:
    return torch.hann_window(samples, periodic=True, dtype=like.dtype, device=like.device)
