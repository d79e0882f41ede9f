"""The training losses.

Source: docs/numerics.md#loss; paper, equation (1); paper, equation (2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import assert_never

from bandsplit.audio.stft import analyse, stft
from bandsplit.audio.stft_config import StftConfig
from bandsplit.runs.losses import (
    DomainLoss,
    LossConfig,
    MagnitudeLoss,
    MaskedMseLoss,
    MultiResolutionLoss,
    WaveformL1Loss,
    WaveformMseLoss,
)


def compute_loss(
    loss: LossConfig,
    estimate: Tensor,
    target: Tensor,
    *,
    names: Sequence[str] = (),
    estimate_spec: Tensor | None = None,
    stft_config: StftConfig | None = None,
) -> Tensor:
    """Compute the loss that a run is trained with.

    Args:
        loss: the loss.
        estimate: estimated signals, ``b s c samples``.
        target: true signals, same shape.
        names: targets in the order of their axis, for a loss with weights.
        estimate_spec: estimated spectrogram before inversion, ``b s c f t``, of a network that makes one.
        stft_config: the transform that the network's spectrograms are compared in.

    Returns:
        The scalar loss, averaged over everything.

    Raises:
        ValueError: shapes differ.
    """
    if estimate.shape != target.shape:
        raise ValueError(f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} must have one shape")
    match loss:
        case DomainLoss(domain=domain, time_weight=time_weight, spectrogram_weight=spectrogram_weight):
            return separation_loss(
                estimate, target, estimate_spec=estimate_spec, domain=domain, stft_config=stft_config,
                time_weight=time_weight, spectrogram_weight=spectrogram_weight,
            )  # fmt: skip
        case WaveformL1Loss(weights=weights):
            error = (estimate - target).abs()
            if not weights:
                return error.mean()
            shares_and_means = zip(loss.weigh(names), error.mean(dim=(0, 2, 3)), strict=True)
            return torch.stack([share * mean for share, mean in shares_and_means]).sum()
        case WaveformMseLoss():
            return (estimate - target).square().mean()
        case MultiResolutionLoss():
            return multi_resolution_loss(estimate, target, loss)
        case MaskedMseLoss(quantile=quantile, coarse=coarse):
            return masked_mse(estimate, target, quantile, coarse=coarse)
        case MagnitudeLoss():
            return magnitude_loss(estimate, target, loss)
        case _ as unreachable:
            assert_never(unreachable)


def validation_loss(loss: LossConfig) -> LossConfig:
    """Return the loss of validation songs: the run's, but without a mask, since a piece of a song is no batch."""
    return WaveformMseLoss() if isinstance(loss, MaskedMseLoss) else loss


def multi_resolution_loss(estimate: Tensor, target: Tensor, config: MultiResolutionLoss) -> Tensor:
    """Mean absolute error of the signal, plus the mean moduli of the errors of complex spectrograms, added.

    A signal of at most half a transform is extended by zeros.

    Args:
        estimate: estimated signals, ``b s c samples``.
        target: true signals, same shape.
        config: windows, hops and weight.

    Source: docs/numerics.md#loss.
    """
    error = estimate - target
    total = torch.zeros((), dtype=error.dtype, device=error.device)
    for window in config.windows:
        hop = config.hop_samples if config.hop_rule == "fixed" else max(config.hop_samples, window // 4)
        # The transform is linear: that of the error is the error of the transforms.
        total = total + analyse(error, max(window, config.n_fft), hop, window).abs().mean()
    return error.abs().mean() + config.weight * total


_LEAST_POWER = 1e-8
"""Lower limit of squared magnitudes, which have no gradient below it."""


def magnitude_loss(estimate: Tensor, target: Tensor, config: MagnitudeLoss) -> Tensor:
    """Mean absolute errors of the signal and of magnitudes of the spectrogram, added over the targets.

    Args:
        estimate: estimated signals, ``b s c samples``.
        target: true signals, same shape.
        config: weights and transform.

    Source: docs/numerics.md#loss.
    """
    if config.with_sum:
        estimate, target = (torch.cat([x, x.sum(1, keepdim=True)], dim=1) for x in (estimate, target))
    found, expected = (_magnitudes(signal, config) for signal in (estimate, target))
    scale = config.magnitude_weight / math.sqrt(config.n_fft)
    error = config.time_weight * (estimate - target).abs().mean() + scale * (found - expected).abs().mean()
    return estimate.shape[1] * error


def _magnitudes(signal: Tensor, config: MagnitudeLoss) -> Tensor:
    spec = analyse(signal, config.n_fft, config.hop_samples, config.n_fft)
    return (spec.real.square() + spec.imag.square()).clamp(min=_LEAST_POWER).sqrt()


def masked_mse(estimate: Tensor, target: Tensor, quantile: float, *, coarse: bool) -> Tensor:
    """Mean squared error, with zeros for the errors at or above a quantile of those of the same target.

    Args:
        estimate: estimated signals, ``b s c samples``.
        target: true signals, same shape.
        quantile: of the errors of a target in the batch, interpolated linearly.
        coarse: compare and leave out complete examples, by their mean errors, instead of samples.

    Source: docs/numerics.md#loss.
    """
    error = (estimate - target).square()
    error = (error.mean(dim=(2, 3)) if coarse else error).transpose(0, 1).flatten(1)  # (s, rest)
    # torch.quantile refuses more than 16 million values, as an excerpt of some seconds in a batch has.
    ordered = error.detach().sort(dim=1).values
    place = quantile * (ordered.shape[1] - 1)
    low = ordered[:, int(place)]
    high = ordered[:, min(int(place) + 1, ordered.shape[1] - 1)]
    limit = torch.lerp(low, high, place - int(place))
    return (error * (error < limit.unsqueeze(1))).mean()


def separation_loss(
    estimate: Tensor,
    target: Tensor,
    *,
    estimate_spec: Tensor | None = None,
    domain: Literal["t", "tf", "t+tf"] = "t+tf",
    stft_config: StftConfig | None = None,
    time_weight: float = 1.0,
    spectrogram_weight: float = 1.0,
) -> Tensor:
    """Mean absolute error of the signal, of the real and of the imaginary part of the spectrogram, added.

    On spectrograms that are not normalised, as here and in the paper, the two spectrogram terms weigh about 39 times
    the signal term where both weights are 1, as in the paper.

    Args:
        estimate: estimated signals, ``b s c samples``.
        target: true signals, same shape.
        estimate_spec: masked mixture spectrogram ``b s c f t`` before inversion, which is what the paper compares;
            computed from ``estimate`` when absent.
        domain: which terms: ``t`` the signal, ``tf`` the spectrogram, ``t+tf`` both.
        stft_config: the transform of the spectrogram terms; 2048 / 512 when absent.
        time_weight: factor of the signal term.
        spectrogram_weight: factor of the two spectrogram terms.

    Returns:
        The scalar loss, averaged over everything.

    Raises:
        ValueError: shapes differ, or the domain is unknown.
    """
    if estimate.shape != target.shape:
        raise ValueError(f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} must have one shape")
    if domain not in ("t", "tf", "t+tf"):
        raise ValueError(f"domain: {domain!r} is unknown; legal: t, tf, t+tf")
    loss = torch.zeros((), dtype=target.dtype, device=target.device)
    if domain != "tf":
        loss = loss + time_weight * (estimate - target).abs().mean()
    if domain != "t":
        config = stft_config or StftConfig()
        spec = stft(estimate, config) if estimate_spec is None else estimate_spec
        loss = loss + spectrogram_weight * spectrogram_loss(spec, target, config)
    return loss


def spectrogram_loss(estimate_spec: Tensor, target: Tensor, stft_config: StftConfig) -> Tensor:
    """Mean absolute error of the real and of the imaginary part, added: the domain ``tf`` of `separation_loss`.

    Args:
        estimate_spec: masked mixture spectrogram ``b s c f t``.
        target: true signals, ``b s c samples``.
        stft_config: the transform that the estimate was made with.
    """
    error = torch.view_as_real(estimate_spec - stft(target, stft_config)).abs()
    return 2 * error.mean()  # the mean runs over both parts, the paper adds a mean of each
