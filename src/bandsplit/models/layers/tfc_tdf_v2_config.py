"""The U-Net of post-activation TFC-TDF blocks as data: its options, the shapes of its tensors, its operations.

Source: DTTNet paper; DTTNet-Pytorch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from typing_extensions import assert_never

from bandsplit.core.config import Config, Size
from bandsplit.models.contract import Shapes


class BottleneckTdf(Config):
    """Two linear layers along frequency with fewer values between them."""

    kind: Literal["bottleneck"] = "bottleneck"
    factor: Size = 8
    """Divisor of the number of bins, rounded down."""
    bias: bool = False
    """Whether the linear layers have biases."""


class SquareTdf(Config):
    """One linear layer from all bins to all bins."""

    kind: Literal["square"] = "square"
    bias: bool = False
    """Whether the linear layer has a bias."""


TdfConfig = Annotated[BottleneckTdf | SquareTdf, Field(discriminator="kind")]


class UnetConfig(Config):
    """A U-Net of TFC-TDF blocks: convolutions in time and frequency, and linear layers along frequency."""

    block: Literal["plain", "res1", "res2"] = "res2"
    """``plain``: convolutions, then linear layers around which there is a shortcut. ``res1``: a shortcut with one
    convolution around the convolutions, too. ``res2``: the same number of convolutions again after the linear layers,
    and that shortcut around all."""
    convs: int = Field(default=3, ge=1, le=100)
    """Convolutions in front of the linear layers."""
    kernel: Size = 3
    """Size of their kernels; odd, so that the padding is symmetric."""
    n_features: Size = 32
    """Features of the finest level; each level adds as many."""
    levels: int = Field(default=2, ge=0, le=10)
    """How often the image is halved."""
    tdf: TdfConfig | None = BottleneckTdf()
    """Linear layers along frequency; null for none."""

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd; {value - 1} and {value + 1} are legal")
        return value

    def features_at(self, level: int) -> int:
        """Return the features of a level; 0 is the finest."""
        return self.n_features * (level + 1)

    def bins_problem(self, bins: int) -> str | None:
        """Return why images of ``bins`` do not fit; None if they do."""
        step = 2**self.levels
        if bins % step:
            lower = bins // step * step
            legal = f"{lower} and {lower + step}" if lower else f"{step}"
            return f"bins: {bins} cannot be halved {self.levels} times; use a multiple of {step}, such as {legal}"
        if isinstance(self.tdf, BottleneckTdf) and self.tdf.factor > bins // step:
            return f"unet.tdf.factor: {self.tdf.factor} leaves none of {bins // step} bins; legal: 1 to {bins // step}"
        return None


def linear_sizes(tdf: TdfConfig | None, bins: int) -> list[tuple[int, int]]:
    """Return inputs and outputs of the linear layers along ``bins``."""
    match tdf:
        case BottleneckTdf():
            return [(bins, bins // tdf.factor), (bins // tdf.factor, bins)]
        case SquareTdf():
            return [(bins, bins)]
        case None:
            return []
        case _:
            assert_never(tdf)


def unet_shapes(config: UnetConfig, image: int, bins: int) -> Shapes:
    """Yield name and shape of each tensor of a U-Net on ``image`` channels and ``bins``, without its middle."""
    features = [config.features_at(level) for level in range(config.levels + 1)]
    yield from _unit("enter", (features[0], image, 1, 1), features[0])
    for level in range(config.levels):
        yield from _block(f"encoder.{level}.block", config, features[level], bins >> level)
    for level in range(config.levels):
        yield from _unit(f"down.{level}", (features[level + 1], features[level], 2, 2), features[level + 1])
    yield from _block("bottleneck.block", config, features[-1], bins >> config.levels)
    for number, level in enumerate(reversed(range(config.levels))):
        yield from _unit(f"up.{number}", (features[level + 1], features[level], 2, 2), features[level])
    for number, level in enumerate(reversed(range(config.levels))):
        yield from _block(f"decoder.{number}.block", config, features[level], bins >> level)
    yield "leave.weight", (image, features[0], 1, 1)
    yield "leave.bias", (image,)


def _unit(name: str, weight: tuple[int, ...], n: int, bias: int | None = None) -> Shapes:
    yield f"{name}.layer.weight", weight
    bias = n if bias is None else bias
    if bias:
        yield f"{name}.layer.bias", (bias,)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.norm.{part}", (n,)


def _block(name: str, config: UnetConfig, n: int, bins: int) -> Shapes:
    kernel = (n, n, config.kernel, config.kernel)
    for number in range(config.convs):
        yield from _unit(f"{name}.tfc.{number}", kernel, n)
    if config.tdf is not None:
        for number, (n_in, n_out) in enumerate(linear_sizes(config.tdf, bins)):
            yield from _unit(f"{name}.tdf.{number}", (n_out, n_in), n, n_out if config.tdf.bias else 0)
    if config.block != "plain":
        yield from _unit(f"{name}.shortcut", kernel, n)
    if config.block == "res2":
        for number in range(config.convs):
            yield from _unit(f"{name}.tfc2.{number}", kernel, n)


def unet_flop(config: UnetConfig, image: int, bins: int, frames: int) -> tuple[int, int]:
    """Count the forward operations of the first layer, and of all others without the middle.

    A multiplication and its addition are two operations. Normalisations and activations are not counted.
    """
    finest = 2 * frames * bins * config.n_features * image
    others = finest + _block_flop(config, config.levels, bins, frames)
    for level in range(config.levels):
        others += 2 * _block_flop(config, level, bins, frames)
        # Each pixel of the finer image is in one product of each pair of features, on the way down and up.
        pairs = config.features_at(level) * config.features_at(level + 1)
        others += 2 * 2 * (frames >> level) * (bins >> level) * pairs
    return finest, others


def _block_flop(config: UnetConfig, level: int, bins: int, frames: int) -> int:
    n, width = config.features_at(level), bins >> level
    convs = {"plain": config.convs, "res1": config.convs + 1, "res2": 2 * config.convs + 1}[config.block]
    per_frame = width * convs * config.kernel**2 * n * n
    per_frame += n * sum(n_in * n_out for n_in, n_out in linear_sizes(config.tdf, width))
    return 2 * (frames >> level) * per_frame
