"""The networks on the waveform alone, Demucs v3 and v2, and their construction.

Parts have the names of the published files, so that their tensors are read without renaming.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.demucs.build import build_dconv, rescale_convolutions
from bandsplit.models.demucs.config import KERNEL, STRIDE
from bandsplit.models.demucs.levels import dconv_sizes
from bandsplit.models.demucs.time_config import CONTEXT, DemucsConfig, DemucsV2Config
from bandsplit.models.layers.convolutions import PointwiseConv1d, StridedConv1d, TransposedConv1d
from bandsplit.models.layers.dconv import LinearLstm
from bandsplit.models.layers.resample import downsample, upsample
from bandsplit.models.network import RepeatedPart, Separation, SeparationModel


class TimeNetwork(SeparationModel):
    """A U-Net on the waveform, with convolutions without padding."""

    config: DemucsConfig | DemucsV2Config

    def __init__(
        self, config: DemucsConfig | DemucsV2Config, encoder: list[RepeatedPart], decoder: list[RepeatedPart]
    ) -> None:
        """Take the layers: encoders from the outermost on, decoders from the deepest on."""
        super().__init__()
        self.config = config
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(decoder)

    def forward(self, mixture: Tensor) -> Separation:
        """Estimate all targets of ``mixture``, ``b c samples``, of a length that ``config.geometry`` allows.

        Samples at the edges that the convolutions do not reach are zero.
        """
        config, samples = self.config, mixture.shape[-1]
        if mixture.dim() != 3 or mixture.shape[1] != config.channels or samples != config.geometry.fitting(samples):
            raise ValueError(
                f"mixture: must be (batch, {config.channels}, a length of config.geometry), got {tuple(mixture.shape)}"
            )
        return Separation(self._estimate(mixture, 0, 0), None)

    def separate(self, mixture: Tensor) -> Tensor:
        """Estimate all targets of ``mixture``, ``b c samples``, of any length; zeros surround it."""
        samples = mixture.shape[-1]
        missing = self.config.fitting_around(samples) - samples
        left = missing // 2
        return self._estimate(mixture, left, missing - left)[..., left : left + samples]

    def normalise(self, mixture: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the network's input, and the mean and standard deviation that its estimates get back."""
        raise NotImplementedError

    def apply_inside(self, x: Tensor) -> Tensor:
        """Map the deepest level ``b n l`` to ``b n l``."""
        return x

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Return all layers."""
        return cast(Iterable[RepeatedPart], [*self.encoder, *self.decoder])

    def _estimate(self, mixture: Tensor, left: int, right: int) -> Tensor:
        """Estimate ``b s c samples`` of a mixture between zeros, whose estimates are included."""
        x, mean, std = self.normalise(mixture)
        x = F.pad(x, (left, right))
        y = self._apply_layers(upsample(x) if self.config.resample else x).to(x.dtype)  # autocast lowers it
        y = downsample(y) if self.config.resample else y
        lost = x.shape[-1] - y.shape[-1]
        y = F.pad(y, (lost // 2, lost - lost // 2)).unflatten(1, (len(self.config.targets), -1))
        return y if mean is None or std is None else y * std[:, None] + mean[:, None]

    def _apply_layers(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for layer in self.encoder:
            x = layer(x)
            skips.append(x)
        x = self.apply_inside(x)
        for layer in self.decoder:
            skip = skips.pop()
            surplus = skip.shape[-1] - x.shape[-1]
            x = layer(x + skip[..., surplus // 2 : surplus // 2 + x.shape[-1]])
        return x


class DemucsNetwork(TimeNetwork):
    """Demucs v3 on the waveform."""

    config: DemucsConfig

    def normalise(self, mixture: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Normalise by mean and standard deviation of the mean of the channels, if the configuration says so."""
        if not self.config.normalize:
            return mixture, None, None
        mono = mixture.mean(dim=1, keepdim=True)
        mean, std = mono.mean(dim=2, keepdim=True), mono.std(dim=2, keepdim=True)
        return (mixture - mean) / (1e-5 + std), mean, std


class DemucsV2Network(TimeNetwork):
    """Demucs v2."""

    config: DemucsV2Config

    def __init__(
        self, config: DemucsV2Config, encoder: list[RepeatedPart], decoder: list[RepeatedPart], lstm: LinearLstm
    ) -> None:
        """Take the layers, and the one at the deepest level."""
        super().__init__(config, encoder, decoder)
        self.lstm = lstm

    def normalise(self, mixture: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Divide by a standard deviation of 1 and the constant that keeps silence from a division by zero."""
        return mixture / (1e-5 + 1), None, None

    def apply_inside(self, x: Tensor) -> Tensor:
        """Apply the LSTM."""
        return self.lstm(x)


def build_demucs(config: DemucsConfig) -> DemucsNetwork:
    """Build the Demucs v3 that ``config`` describes, with random weights from torch's global generator."""
    encoder: list[RepeatedPart] = []
    decoder: list[RepeatedPart] = []
    n_in, n_out = config.channels, len(config.targets) * config.channels
    for level in range(config.depth):
        n = config.features(level)

        def norm(n_features: int, deep: bool = level >= config.norm_from) -> nn.Module:
            return nn.GroupNorm(config.norm_groups, n_features) if deep else nn.Identity()

        def dconv(wanted: bool, n: int = n, level: int = level) -> list[nn.Module]:
            part = build_dconv(dconv_sizes(config.dconv, n, level, wanted))
            return [] if part is None else [part]

        gate = [PointwiseConv1d(n, 2 * n), norm(2 * n), nn.GLU(1)] if config.rewrite else []
        into = [StridedConv1d(n_in, n, KERNEL, STRIDE), norm(n), nn.GELU(), *dconv(config.dconv.encoder), *gate]
        gate = [nn.Conv1d(n, 2 * n, CONTEXT, padding=CONTEXT // 2), norm(2 * n), nn.GLU(1)] if config.rewrite else []
        out = [*gate, *dconv(config.dconv.decoder), TransposedConv1d(n, n_out, STRIDE), norm(n_out)]
        encoder.append(RepeatedPart(*into))
        decoder.insert(0, RepeatedPart(*out, *([nn.GELU()] if level else [])))
        n_in = n_out = n
    network = DemucsNetwork(config, encoder, decoder)
    rescale_convolutions(network)
    return network


def build_demucs_v2(config: DemucsV2Config) -> DemucsV2Network:
    """Build the Demucs v2 that ``config`` describes, with random weights from torch's global generator."""
    encoder: list[RepeatedPart] = []
    decoder: list[RepeatedPart] = []
    n_in, n_out = config.channels, len(config.targets) * config.channels
    for level in range(config.depth):
        n = config.features(level)
        into = [StridedConv1d(n_in, n, KERNEL, STRIDE), nn.ReLU(), PointwiseConv1d(n, 2 * n), nn.GLU(1)]
        out = [nn.Conv1d(n, 2 * n, CONTEXT), nn.GLU(1), TransposedConv1d(n, n_out, STRIDE)]
        encoder.append(RepeatedPart(*into))
        decoder.insert(0, RepeatedPart(*out, *([nn.ReLU()] if level else [])))
        n_in = n_out = n
    network = DemucsV2Network(config, encoder, decoder, LinearLstm(n_in))
    rescale_convolutions(network)
    return network
