"""The aligned STFT: as many frames as hops, each a quarter of the window from the next, without the highest bin.

A signal of n samples has ceil(n / hop) frames, so that layers on the spectrogram and on the waveform keep step. The
transform is not invertible: the highest bin is lost.

Source: docs/demucs.md#aligned-stft.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from bandsplit.audio.stft import join_frames
from bandsplit.audio.stft_numpy import hann_window
from bandsplit.core.sizes import at_least, missing_to_multiple
from bandsplit.models.layers.real_stft import invert_frames, transform_frames


def aligned_stft(signal: Tensor, n_fft: int, reflect: bool = True) -> Tensor:
    """Transform ``b c samples`` real to ``b c f t`` complex, with f = n_fft / 2 and t = ceil(samples / (n_fft / 4)).

    Args:
        signal: the signal, at least one sample.
        n_fft: length of the periodic Hann window; the spectrogram is divided by its square root.
        reflect: whether the signal is reflected at its ends; otherwise zeros surround it.
    """
    # The original computes two frames more at either end, and drops them: here none of those is computed.
    spec = torch.stft(
        _extend(signal, n_fft, reflect).flatten(0, 1), n_fft, n_fft // 4, window=_window(n_fft, signal), center=False,
        normalized=True, return_complex=True,
    )  # fmt: skip
    return spec[:, :-1].unflatten(0, signal.shape[:-1])


def real_aligned_stft(signal: Tensor, n_fft: int, reflect: bool = True) -> Tensor:
    """Transform like `aligned_stft`, in real arithmetic: real and imaginary parts ``b c f t r``."""
    parts = transform_frames(_extend(signal, n_fft, reflect), n_fft, n_fft // 4)
    return parts[..., :-1, :, :] / math.sqrt(n_fft)


def aligned_istft(spec: Tensor, samples: int, late: bool = False) -> Tensor:
    """Turn ``... f t`` complex into ``... samples``, as `aligned_stft` has aligned them.

    Args:
        spec: the spectrogram, without its highest bin.
        samples: length of the signal, at most a hop for each frame.
        late: whether the signal begins 1.5 hops late, as two published models were trained.
    """
    n_fft = 2 * spec.shape[-2]
    frames = torch.fft.irfft(spec.mT, n_fft, norm="ortho")  # the highest bin becomes zero
    return _join(frames, _window(n_fft, spec.real), samples, late)


def real_aligned_istft(parts: Tensor, samples: int, late: bool = False) -> Tensor:
    """Turn parts ``... f t r`` into ``... samples`` like `aligned_istft`, in real arithmetic."""
    n_fft = 2 * int(parts.shape[-3])
    frames = invert_frames(parts, n_fft) * math.sqrt(n_fft)
    return _join(frames, torch.from_numpy(hann_window(n_fft)), samples, late)


def _extend(signal: Tensor, n_fft: int, reflect: bool) -> Tensor:
    """Extend the ends, so that there is a frame for each hop."""
    hop = n_fft // 4
    before = hop // 2 * 3
    after = before + missing_to_multiple(signal.shape[-1], hop)
    if not reflect:
        return F.pad(signal, (before, after))
    # Zeros extend a signal that is too short to be reflected, on the right as far as possible.
    missing = at_least(after - signal.shape[-1] + 1, 0)
    left = at_least(missing - after, 0)
    right = missing - left
    return F.pad(F.pad(signal, (left, right)), (before - left, after - right), mode="reflect")


def _join(frames: Tensor, window: Tensor, samples: int, late: bool) -> Tensor:
    hop = len(window) // 4
    # The sum of squared windows counts two frames of zeros at either end.
    return join_frames(frames, window, hop, 0 if late else hop // 2 * 3, samples, silent=2)


def _window(n_fft: int, like: Tensor) -> Tensor:
    return torch.hann_window(n_fft, periodic=True, dtype=like.dtype, device=like.device)
