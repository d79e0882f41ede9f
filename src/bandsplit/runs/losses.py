"""The losses that a run can be trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat

from bandsplit.core.config import Config, Size


class DomainLoss(Config):
    """Mean absolute error of the signal, of the real and of the imaginary part of the spectrogram, added.

    Source: docs/numerics.md#loss; paper, equation (1); paper, equation (2).
    """

    kind: Literal["l1-domains"] = "l1-domains"
    domain: Literal["t", "tf", "t+tf"] = "t+tf"
    """Terms: time signal, complex spectrogram of the model's transform, or both."""
    time_weight: PositiveFloat = 1.0
    """Factor of the signal term. At 1, the paper's balance, the spectrogram terms weigh about 39 times as much."""
    spectrogram_weight: PositiveFloat = 1.0
    """Factor of the two spectrogram terms."""


class WaveformL1Loss(Config):
    """Mean absolute error of the signal, a weighted mean over the targets."""

    kind: Literal["l1-waveform"] = "l1-waveform"
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Weights of targets; 1 for each that is not named."""

    def weigh(self, targets: Sequence[str]) -> list[float]:
        """Return the share of each target in the mean.

        Raises:
            ValueError: a weight belongs to no target, or all are 0.
        """
        if unknown := [name for name in self.weights if name not in targets]:
            raise ValueError(
                f"training.loss.weights: {', '.join(unknown)} is not a target of the model; legal: {', '.join(targets)}"
            )
        weights = [self.weights.get(name, 1.0) for name in targets]
        if not any(weights):
            raise ValueError(
                f"training.loss.weights: the weights of {', '.join(targets)} are all 0; give one of them more"
            )
        return [weight / sum(weights) for weight in weights]


class WaveformMseLoss(Config):
    """Mean squared error of the signal."""

    kind: Literal["mse-waveform"] = "mse-waveform"


class MultiResolutionLoss(Config):
    """Mean absolute error of the signal, plus that of complex spectrograms of several windows.

    Source: docs/numerics.md#loss.
    """

    kind: Literal["multi-resolution-stft"] = "multi-resolution-stft"
    windows: Annotated[tuple[Size, ...], Field(min_length=1)] = (4096, 2048, 1024, 512, 256)
    """Lengths of the Hann windows in samples."""
    n_fft: Size = 2048
    """Least length of the transforms, that of the model's: a shorter window is centred in it."""
    hop_samples: Size = 147
    """Hop of each transform, or the smallest one."""
    hop_rule: Literal["fixed", "quarter"] = "fixed"
    """The same hop for all windows, or a quarter of the window where that is longer."""
    weight: PositiveFloat = 1.0
    """Factor of the sum over the windows. At 1, as published, it weighs about 120 times the signal term."""


class MaskedMseLoss(Config):
    """Mean squared error of the signal without the largest errors, which may come from bad stems.

    Source: docs/numerics.md#loss.
    """

    kind: Literal["masked-mse"] = "masked-mse"
    quantile: float = Field(default=0.93, gt=0, lt=1)
    """Quantile of a target's errors in the examples of a step; errors at or above it count as zero."""
    coarse: bool = False
    """Leave out complete examples, by their mean errors, instead of samples."""


class MagnitudeLoss(Config):
    """Mean absolute errors of the signal and of magnitudes of the spectrogram, added over the targets.

    Source: docs/numerics.md#loss.
    """

    kind: Literal["l1-magnitude"] = "l1-magnitude"
    time_weight: PositiveFloat = 0.85
    """Factor of the signal term."""
    magnitude_weight: PositiveFloat = 0.15
    """Factor of the magnitude term, which is divided by the square root of ``n_fft``."""
    n_fft: Size = 2048
    """Length of the Hann window and of the transform."""
    hop_samples: Size = 441
    """Hop of the transform."""
    with_sum: bool = False
    """Add the loss of the sum of all estimates against that of the targets."""


DEFAULT_LOSS = DomainLoss()
_EARLIER = {"loss_domain": "domain", "time_weight": "time_weight", "spectrogram_weight": "spectrogram_weight"}
"""Settings of a training before there was a second loss -> fields of `DEFAULT_LOSS`."""


def _with_kind(loss: Any) -> Any:
    return {"kind": DEFAULT_LOSS.kind} | loss if isinstance(loss, dict) else loss


LossConfig: TypeAlias = Annotated[
    Annotated[
        DomainLoss | WaveformL1Loss | WaveformMseLoss | MultiResolutionLoss | MaskedMseLoss | MagnitudeLoss,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_with_kind),
]
"""Type of a field that holds a loss; the paper's if it names no kind."""


def least_batch(loss: LossConfig) -> int:
    """Return the fewest examples of a step that teach anything: two where one would be compared with itself."""
    return 2 if isinstance(loss, MaskedMseLoss) and loss.coarse else 1


def check_batch(loss: LossConfig, batch_size: int) -> None:
    """Check that a step of ``batch_size`` examples teaches something.

    Raises:
        ValueError: it does not.
    """
    if batch_size < least_batch(loss):
        raise ValueError(
            f"batch_size: a step of {batch_size} with loss.coarse teaches nothing, since one example is never below "
            f"the quantile of itself; use steps of at least {least_batch(loss)}, or set loss.coarse to false"
        )


def in_current_form(training: Any) -> Any:
    """Return the plain data of a training with the settings of its loss in ``loss``, where earlier versions had none.

    Raises:
        ValueError: such a setting does not belong to the loss, or is given twice.
    """
    if not isinstance(training, dict) or not _EARLIER.keys() & training.keys():
        return training
    loss = training.get("loss", {})
    loss = _with_kind(loss.model_dump(exclude_unset=True) if isinstance(loss, Config) else loss)
    for key, field in _EARLIER.items():
        if key in training and (not isinstance(loss, dict) or loss["kind"] != DEFAULT_LOSS.kind):
            kind = loss["kind"] if isinstance(loss, dict) else loss
            raise ValueError(f"{key}: belongs to the loss {DEFAULT_LOSS.kind!r}, but loss.kind is {kind!r}; drop it")
        if key in training and field in loss:
            raise ValueError(f"{key}: is the earlier name of loss.{field}, which is given too; drop it")
    earlier = {field: training[key] for key, field in _EARLIER.items() if key in training}
    return {key: value for key, value in training.items() if key not in _EARLIER} | {"loss": loss | earlier}


def in_earlier_form(training: dict[str, Any]) -> dict[str, Any]:
    """Return the plain data of a training as versions stored it that knew one loss, where it uses that one."""
    if training["loss"]["kind"] != DEFAULT_LOSS.kind:
        return training
    rest = {key: value for key, value in training.items() if key != "loss"}
    return rest | {key: training["loss"][field] for key, field in _EARLIER.items()}
