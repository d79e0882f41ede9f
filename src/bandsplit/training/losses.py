"""The training loss.

Source: docs/numerics.md#loss; paper, equation (1); paper, equation (2).
"""

from typing import Literal

import torch
from torch import Tensor

from bandsplit.audio.stft import stft
from bandsplit.audio.stft_config import StftConfig


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
