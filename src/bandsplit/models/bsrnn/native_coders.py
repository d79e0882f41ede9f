"""Encoder and mask decoder of band-split networks in NumPy and the CPU kernels.

`bandsplit.models.bsrnn.coders` is the same in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bandsplit.core.kernels import Dense, KernelPrecision, Kernels, PackedStack
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.layers.bands import are_side_by_side, mean_of_bands
from bandsplit.models.layers.epsilon import EPS
from bandsplit.models.layers.kernel_packing import Arrays, fold_norm, pack_perceptrons, part


def standardised(x: np.ndarray, axes: int) -> np.ndarray:
    """Normalise contiguous arrays over their last ``axes`` axes."""
    rows = x.reshape(*x.shape[:-axes], -1)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    centred *= 1 / np.sqrt(variance + np.float32(EPS))
    return centred.reshape(x.shape)


class NativeEncoder:
    """The band split module."""

    def __init__(self, config: BsrnnConfig, arrays: Arrays, kernels: Kernels) -> None:
        """Pack the weights."""
        self.runs, self.channels = config.band_runs(), config.merged_channels
        self.bins = None if are_side_by_side(self.runs) else [bin for run in self.runs for bin in run.bins()]
        self.layers = []
        for run in range(len(self.runs)):
            weight, bias = fold_norm(part(arrays, f"projections.{run}"))
            missing = -weight.shape[1] % 16  # of inputs to a multiple that the kernels have
            padded = np.pad(weight, ((0, 0), (0, missing), (0, 0))).swapaxes(1, 2)
            self.layers.append(PackedStack(kernels, [Dense(padded, bias[:, 0])]))

    def __call__(self, mixture: np.ndarray, threads: int) -> np.ndarray:
        """Map ``(b c t f)``, contiguous, to ``(b c k t n)``; with merged channels c becomes 1."""
        b, c, t, f = mixture.shape
        m = self.channels
        items = b * c // m
        parts = mixture.view(np.float32).reshape(items, m, t, f, 2)
        parts = parts if self.bins is None else parts[:, :, :, self.bins]
        latent = np.empty((items, sum(run.count for run in self.runs), t, self.layers[0].n_out), np.float32)
        band = bin = 0
        for (_, k, width, _), layer in zip(self.runs, self.layers, strict=True):
            stop = bin + k * width
            spectra = parts[:, :, :, bin:stop].reshape(items, m, t, k, width, 2)
            inputs = standardised(np.ascontiguousarray(spectra.transpose(3, 0, 2, 1, 5, 4)), 4)  # k i t m r w
            rows = np.zeros((k, 1, items * t, layer.n_in), np.float32)
            rows[..., : 2 * m * width] = inputs.reshape(k, 1, items * t, -1)
            latent[:, band : band + k] = layer.apply(rows, threads).reshape(k, items, t, -1).swapaxes(0, 1)
            band, bin = band + k, stop
        return latent.reshape(b, c // m, *latent.shape[1:])


class NativeDecoder:
    """The mask estimation module of one target."""

    def __init__(self, config: BsrnnConfig, arrays: Arrays, kernels: Kernels, precision: KernelPrecision) -> None:
        """Pack the weights; those of the middle layers for the precision beside LSTMs in ``precision``."""
        self.runs, self.channels = config.band_runs(), config.merged_channels
        self.taps, self.hidden_layers = 2 * config.mask.context + 1, config.mask.hidden_layers
        self.stacks = pack_perceptrons(kernels, self._layers(arrays), kernels.beside(precision))
        self.mean = None if are_side_by_side(self.runs) else [np.array(one) for one in mean_of_bands(self.runs)]

    def _layers(self, arrays: Arrays) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
        """Yield weights and biases of all layers for each run of bands."""
        hidden = (f"hidden.{layer}" for layer in range(self.hidden_layers - 1))
        shared = [fold_norm(part(arrays, "enter")), *(_weight_and_bias(arrays, name) for name in hidden)]
        start = 0
        for number, run in enumerate(self.runs):
            stop = start + run.count
            own = _weight_and_bias(arrays, f"leave.{number}")
            yield [*((weight[start:stop], bias[start:stop]) for weight, bias in shared), own]
            start = stop

    @staticmethod
    def rows(latent: np.ndarray) -> np.ndarray:
        """Standardise ``(b c k t n)`` for all decoders: ``(k b*c t n)``."""
        b, c, k, t, n = latent.shape
        return standardised(latent.transpose(2, 0, 1, 3, 4).reshape(k, b * c, t, n), 2)

    def __call__(self, rows: np.ndarray, mixture: np.ndarray, threads: int) -> np.ndarray:
        """Estimate ``(b c t f)`` from `rows` and the mixture's spectrogram ``(b c t f)``."""
        mask = self._mask(rows, threads).reshape(*mixture.shape[:2], self.taps, mixture.shape[2], -1)
        if self.taps == 1:
            return mask[:, :, 0] * mixture
        context, bins = self.taps // 2, mixture.shape[-1]
        around = np.pad(mixture, ((0, 0), (0, 0), (0, 0), (context, context)))
        estimate = np.zeros_like(mixture)
        for tap in range(self.taps):
            estimate += mask[:, :, tap] * around[..., tap : tap + bins]
        return estimate

    def _mask(self, rows: np.ndarray, threads: int) -> np.ndarray:
        """Return the complex masks ``(i m j t f)`` of items i with m merged channels and j taps."""
        (_, items, t, n), m, j = rows.shape, self.channels, self.taps
        bins = sum(run.count * run.width for run in self.runs)
        mask = np.empty((items, m, j, t, bins), np.complex64)
        band = bin = 0
        for (_, k, width, _), stack in zip(self.runs, self.stacks, strict=True):
            found = stack.apply(rows[band : band + k].reshape(k, 1, items * t, n), threads)
            value, gate = np.moveaxis(found.reshape(k, items, t, m, 2, j, 2, width), 4, 0)
            with np.errstate(over="ignore"):  # exp of a gate that is shut is infinite
                gated = value / (1 + np.exp(-gate))
            here = mask[..., bin : bin + k * width].reshape(items, m, j, t, k, width)  # a view: it splits an axis
            here.real, here.imag = gated.transpose(5, 1, 3, 4, 2, 0, 6)
            band, bin = band + k, bin + k * width
        if self.mean is None:
            return mask
        places, shares = self.mean
        return (mask[..., places] * shares.astype(np.float32)).sum(axis=-1)


def _weight_and_bias(arrays: Arrays, name: str) -> tuple[np.ndarray, np.ndarray]:
    return arrays[f"{name}.weight"], arrays[f"{name}.bias"]
