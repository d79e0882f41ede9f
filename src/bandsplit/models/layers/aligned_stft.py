"""The aligned STFT: as many frames as hops, each a quarter of the window from the next, without the highest bin.

A signal of n samples has ceil(n / hop) frames, so that layers on the spectrogram and on the waveform keep step. The
transform is not invertible: the highest bin is lost.

Source: docs/demucs.md#aligned-stft.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bandsplit.audio.stft import overlap_add


def aligned_stft(signal: Tensor, n_fft: int, reflect: bool = True) -> Tensor:
    """Transform ``b c samples`` real to ``b c f t`` complex, with f = n_fft / 2 and t = ceil(samples / (n_fft / 4)).

    Args:
        signal: the signal, at least one sample.
        n_fft: length of the periodic Hann window; the spectrogram is divided by its square root.
        reflect: whether the signal is reflected at its ends; otherwise zeros surround it.
    """
    hop = n_fft // 4
    before = hop // 2 * 3
    after = before + -signal.shape[-1] % hop
    padded = _reflect(signal, before, after) if reflect else F.pad(signal, (before, after))
    # The original computes two frames more at either end, and drops them: here none of those is computed.
    spec = torch.stft(
        padded.flatten(0, 1), n_fft, hop, window=_window(n_fft, signal), center=False, normalized=True,
        return_complex=True,
    )  # fmt: skip
    return spec[:, :-1].unflatten(0, signal.shape[:-1])


def aligned_istft(spec: Tensor, samples: int, late: bool = False) -> Tensor:
    """Turn ``... f t`` complex into ``... samples``, as `aligned_stft` has aligned them.

    Args:
        spec: the spectrogram, without its highest bin.
        samples: length of the signal, at most a hop for each frame.
        late: whether the signal begins 1.5 hops late, as two published models were trained.
    """
    n_fft = 2 * spec.shape[-2]
    hop = n_fft // 4
    window = _window(n_fft, spec.real)
    frames = torch.fft.irfft(F.pad(spec, (0, 0, 0, 1)).mT, n_fft, norm="ortho") * window
    # The sum of squared windows counts two frames of zeros at either end.
    envelope = overlap_add(window.square().expand(frames.shape[-2] + 4, -1), hop)[2 * hop :]
    first = 0 if late else hop // 2 * 3
    return overlap_add(frames, hop)[..., first : first + samples] / envelope[first : first + samples]


def _reflect(signal: Tensor, before: int, after: int) -> Tensor:
    """Reflect the ends; zeros extend a signal that is too short for that, on the right as far as possible."""
    missing = max(before, after) - signal.shape[-1] + 1
    if missing > 0:
        right = min(after, missing)
        left = missing - right
        signal = F.pad(signal, (left, right))
        before, after = before - left, after - right
    return F.pad(signal, (before, after), mode="reflect")


def _window(n_fft: int, like: Tensor) -> Tensor:
    return torch.hann_window(n_fft, periodic=True, dtype=like.dtype, device=like.device)
