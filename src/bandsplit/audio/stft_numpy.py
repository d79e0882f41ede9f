"""The STFT / inverse STFT pair of `bandsplit.audio.stft` in NumPy; `docs/onnx.md` describes it."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bandsplit.audio.stft_config import StftConfig


def stft(signal: np.ndarray, config: StftConfig) -> np.ndarray:
    """Transform ``(..., samples)`` float32 to ``(..., f, t)`` complex64, with f = n_fft / 2 + 1.

    Raises:
        ValueError: the signal has no samples.
    """
    samples = signal.shape[-1]
    if samples < 1:
        raise ValueError("signal: needs at least one sample on its last axis, got 0")
    n_fft, hop = config.n_fft, config.hop_samples
    padded = max(samples, n_fft // 2 + 1)  # `bandsplit.audio.stft.stft` gives the two reasons for zeros at the end
    if hop * 4 > n_fft:
        padded += -padded % hop
    others = [(0, 0)] * (signal.ndim - 1)
    extended = np.pad(signal, [*others, (0, padded - samples)])
    extended = np.pad(extended, [*others, (n_fft // 2, n_fft // 2)], mode="reflect")
    frames = sliding_window_view(extended, n_fft, axis=-1)[..., ::hop, :] * hann_window(n_fft)
    return np.fft.rfft(frames).astype(np.complex64, copy=False).swapaxes(-1, -2)


def istft(spec: np.ndarray, config: StftConfig, samples: int) -> np.ndarray:
    """Invert `stft`: ``(..., f, t)`` complex to ``(..., samples)`` float32."""
    n_fft, hop = config.n_fft, config.hop_samples
    window = hann_window(n_fft)
    frames = np.fft.irfft(spec.swapaxes(-1, -2), n_fft).astype(np.float32, copy=False) * window
    signal = _overlap_add(frames, hop)
    envelope = _overlap_add(np.broadcast_to(window * window, frames.shape[-2:]), hop)
    inside = slice(n_fft // 2, n_fft // 2 + samples)
    return signal[..., inside] / envelope[inside]


def _overlap_add(frames: np.ndarray, hop: int) -> np.ndarray:
    """Add frames ``(..., t, n)`` at multiples of ``hop``: ``(..., samples)``, at least all of them."""
    *others, count, n = frames.shape
    hops = -(-n // hop)
    added = np.zeros((*others, count + hops - 1, hop), np.float32)
    for i in range(hops):
        part = frames[..., i * hop : (i + 1) * hop]
        added[..., i : i + count, : part.shape[-1]] += part
    return added.reshape(*others, -1)


def hann_window(n_fft: int) -> np.ndarray:
    """Return the periodic Hann window in float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
