"""Band-split networks in NumPy and the CPU kernels, without PyTorch.

`bandsplit.models.bsrnn.network` is the same in PyTorch, and says what the parts are and where they come from. Axes are
as there; spectrograms are ``(b c t f)`` here, as NumPy's transform leaves them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from bandsplit.audio.stft_numpy import istft, stft
from bandsplit.core.kernel_attention import attend
from bandsplit.core.kernels import KernelPrecision, Kernels, PackedRecurrent, PackedStack, fits
from bandsplit.models.bsrnn.config import BsrnnConfig, GruConfig, LstmConfig, TacStereo
from bandsplit.models.bsrnn.native_coders import NativeDecoder, NativeEncoder, standardised
from bandsplit.models.layers.epsilon import EPS
from bandsplit.models.layers.kernel_packing import Arrays, pack_head_projections, pack_mixing, pack_recurrent, part

Part = Callable[[np.ndarray, int], np.ndarray]
"""Part of a block: maps ``(b c k t n)`` to the same shape with a number of threads."""


class BsrnnNative:
    """The `NativeCore` of the family."""

    def problem(self, config: BsrnnConfig) -> str | None:
        """Return why the kernels do not suit: they have recurrent layers of certain sizes."""
        n = config.n_features // config.heads
        for axis, layer in (("time", config.time), ("band", config.band)):
            if layer is None:
                continue
            if not isinstance(layer, LstmConfig | GruConfig):
                return f"has recurrent layers only, and the layer {axis!r} of this model is {layer.kind!r}"
            if not fits(n, layer.hidden_factor * n, config.norm_groups):
                return f"needs features in multiples of 16 per head and group; this model has {n // config.norm_groups}"
        return None if config.n_features % 16 == 0 else f"needs features in multiples of 16, not {config.n_features}"

    def pack(
        self, config: BsrnnConfig, arrays: Arrays, kernels: Kernels, precision: KernelPrecision
    ) -> Callable[[np.ndarray, int], np.ndarray]:
        """Pack the weights; return the network, see `NativeCore`."""
        return _Network(config, arrays, kernels, precision)


class _Network:
    def __init__(self, config: BsrnnConfig, arrays: Arrays, kernels: Kernels, precision: KernelPrecision) -> None:
        self.config = config
        self.encode = NativeEncoder(config, part(arrays, "encoder"), kernels)
        self.parts = [
            one
            for block in range(config.n_blocks)
            for one in _block(config, part(arrays, f"blocks.{block}"), kernels, precision)
        ]
        self.decoders = {
            target: NativeDecoder(config, part(arrays, f"decoders.{target}"), kernels, precision)
            for target in config.targets
            if target != config.residual
        }

    def __call__(self, batch: np.ndarray, threads: int) -> np.ndarray:
        """Map ``b c samples`` to ``b s c samples``."""
        mixture = np.ascontiguousarray(stft(batch, self.config.stft).swapaxes(-1, -2))
        latent = self.encode(mixture, threads)
        for one in self.parts:
            latent = one(latent, threads)
        estimates = self._estimate(latent, mixture, threads)
        return istft(estimates.swapaxes(-1, -2), self.config.stft, batch.shape[-1])

    def _estimate(self, latent: np.ndarray, mixture: np.ndarray, threads: int) -> np.ndarray:
        """Map the latent and the mixture ``(b c t f)`` to ``(b s c t f)``."""
        config, (b, *others) = self.config, mixture.shape
        rows = NativeDecoder.rows(latent)
        estimates = np.empty((b, len(config.targets), *others), np.complex64)
        for target, decoder in self.decoders.items():
            estimates[:, config.targets.index(target)] = decoder(rows, mixture, threads)
        if config.residual is not None:
            place = config.targets.index(config.residual)
            estimates[:, place] = 0
            estimates[:, place] = mixture - estimates.sum(axis=1)
        if config.mixture_consistency:
            estimates += (mixture - estimates.sum(axis=1))[:, None] / estimates.shape[1]
        return estimates


def _block(config: BsrnnConfig, arrays: Arrays, kernels: Kernels, precision: KernelPrecision) -> list[Part]:
    parts: list[Part] = []
    axes: tuple[Literal["time", "band"], ...] = ("time", "band")
    for axis in axes:
        if getattr(config, axis) is not None:
            layer = part(arrays, f"{axis}.layer")
            packed = pack_recurrent(kernels, layer, groups=config.norm_groups, eps=EPS, precision=precision)
            parts.append(_Along(packed, axis, config.heads))
    if isinstance(config.stereo, TacStereo):
        layer = part(arrays, "tac")
        packed = pack_mixing(kernels, layer, kernels.beside(precision))
        norm = (layer["norm.weight"], layer["norm.bias"]) if config.stereo.norm else None
        parts.append(_Tac(packed, norm))
    if config.attention is not None:
        parts.append(_Attention(part(arrays, "attention"), kernels, kernels.beside(precision)))
    return parts


class _Along(NamedTuple):
    """A layer along an axis, with its residual."""

    layer: PackedRecurrent
    axis: Literal["time", "band"]
    heads: int

    def __call__(self, x: np.ndarray, threads: int) -> np.ndarray:
        y = np.empty_like(x)
        self.layer.along(x, y, self.axis, self.heads, threads)
        return y


class _Tac(NamedTuple):
    """Transform-average-concatenate, with its residual."""

    layers: PackedStack
    norm: tuple[np.ndarray, np.ndarray] | None
    """Gain and bias of the normalisation in front."""

    def __call__(self, x: np.ndarray, threads: int) -> np.ndarray:
        b, c, k, t, n = x.shape
        if self.norm is None:
            return self.layers.apply(x.reshape(b, c, k * t, n), threads).reshape(x.shape)
        gain, bias = self.norm
        normed = standardised(x, 3) * gain + bias
        mixed = self.layers.apply(normed.reshape(b, c, k * t, n), threads).reshape(x.shape)
        return x + (mixed - normed)


class _Heads:
    """Linear layers of several projections as one, PReLU, and a normalisation of each head over (bands, features)."""

    def __init__(self, kernels: Kernels, *projections: Arrays) -> None:
        self.layer = pack_head_projections(kernels, *projections)
        self.gains, self.biases = ([one[name][:, None] for one in projections] for name in ("weight", "bias"))
        self.ends = np.cumsum([len(one["linear.bias"]) for one in projections])

    def __call__(self, x: np.ndarray, threads: int) -> list[np.ndarray]:
        """Map ``(b k t n)`` to ``(b h t k n)`` of each projection."""
        b, k, t, n = x.shape
        features = self.layer.apply(x.reshape(1, 1, b * k * t, n), threads).reshape(b, k, t, -1)
        found, parts = [], np.split(features, self.ends[:-1], axis=-1)
        for one, gain, bias in zip(parts, self.gains, self.biases, strict=True):
            heads = one.reshape(b, k, t, len(gain), -1)
            normed = standardised(np.ascontiguousarray(heads.transpose(0, 3, 2, 1, 4)), 2)
            normed *= gain
            normed += bias
            found.append(normed)
        return found


class _Attention:
    """Self-attention over frames, with its residual."""

    def __init__(self, arrays: Arrays, kernels: Kernels, precision: KernelPrecision) -> None:
        self.kernels = kernels
        self.precision: KernelPrecision = precision
        self.enter = _Heads(kernels, *(part(arrays, name) for name in ("query", "key", "value")))
        self.leave = _Heads(kernels, part(arrays, "project"))

    def __call__(self, x: np.ndarray, threads: int) -> np.ndarray:
        b, c, k, t, n = x.shape
        parts = self.enter(x.reshape(b * c, k, t, n), threads)
        heads = parts[0].shape[1]
        query, key, value = (one.reshape(b * c * heads, t, -1) for one in parts)
        attended = attend(self.kernels, query, key, value, threads, self.precision)
        joined = attended.reshape(b * c, heads, t, k, n // heads).transpose(0, 3, 2, 1, 4)
        (y,) = self.leave(np.ascontiguousarray(joined).reshape(b * c, k, t, n), threads)
        return x + y[:, 0].swapaxes(1, 2).reshape(x.shape)
