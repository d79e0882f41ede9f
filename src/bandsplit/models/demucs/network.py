"""The networks of HT Demucs and Hybrid Demucs: U-Nets on the spectrogram and on the waveform, whose estimates add up.

Attributes have the names of the published files, so that their tensors are read without renaming. Networks are built by
`bandsplit.models.demucs.build`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from bandsplit.models.demucs.config import HtDemucsConfig, HybridDemucsConfig
from bandsplit.models.demucs.layers import BareDecoder, BareEncoder
from bandsplit.models.demucs.transformer import CrossTransformer
from bandsplit.models.layers.aligned_stft import aligned_istft, aligned_stft
from bandsplit.models.layers.complex_channels import from_channels, to_channels
from bandsplit.models.layers.convolutions import PointwiseConv1d
from bandsplit.models.network import RepeatedPart, Separation, SeparationModel


class FrequencyEmbedding(nn.Module):
    """A vector for each bin behind the first encoder layer."""

    WEIGHT, SCALE = 0.2, 10.0

    def __init__(self, bins: int, n_features: int) -> None:
        """Make vectors that change smoothly from bin to bin."""
        super().__init__()
        self.embedding = nn.Embedding(bins, n_features)
        with torch.no_grad():
            walk = self.embedding.weight.cumsum(dim=0)
            steps = torch.arange(1, bins + 1, device=walk.device, dtype=walk.dtype)
            self.embedding.weight.copy_(walk / steps.sqrt()[:, None] / self.SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """Add to ``b n f t``."""
        return x + self.WEIGHT * self.SCALE * self.embedding.weight.mT[:, :, None]


class Branches(NamedTuple):
    """The layers of both U-Nets: encoders from the outermost on, decoders from the deepest on."""

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    tencoder: nn.ModuleList
    """Encoders of the waveform, which end where the branches merge."""
    tdecoder: nn.ModuleList
    freq_emb: FrequencyEmbedding


class TwoBranchNetwork(SeparationModel):
    """The common part of both families: everything but what is between encoders and decoders."""

    config: HtDemucsConfig | HybridDemucsConfig

    def __init__(self, config: HtDemucsConfig | HybridDemucsConfig, branches: Branches) -> None:
        """Take the layers."""
        super().__init__()
        self.config = config
        self.encoder, self.decoder, self.tencoder, self.tdecoder, self.freq_emb = branches

    def forward(self, mixture: Tensor) -> Separation:
        """Estimate all targets of ``mixture``, ``b c samples``, of any length."""
        config = self.config
        if mixture.dim() != 3 or mixture.shape[1] != config.channels or not mixture.shape[-1]:
            raise ValueError(f"mixture: must be (batch, {config.channels}, samples >= 1), got {tuple(mixture.shape)}")
        spec = self.transform(mixture)
        images, waves = self.estimate(self.picture(spec), mixture)
        return Separation(self.invert(images, spec, mixture.shape[-1]) + waves, None)

    def estimate(self, image: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Map a real spectrogram ``b c f t`` and a waveform ``b c samples`` to those of the targets, ``b s c ...``."""
        mean, std = _mean_and_std(image)
        mean_t, std_t = _mean_and_std(wave)
        decoded, decoded_t = self.apply_layers((image - mean) / (1e-5 + std), (wave - mean_t) / (1e-5 + std_t))
        s = len(self.config.targets)
        images = rearrange(decoded, "b (s c) f t -> b s c f t", s=s) * std[:, None] + mean[:, None]
        return images, rearrange(decoded_t, "b (s c) l -> b s c l", s=s) * std_t[:, None] + mean_t[:, None]

    def apply_layers(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Map a normalised spectrogram ``b c f t`` and waveform ``b c samples`` to those of all targets."""
        skips: list[Tensor] = []
        skips_t: list[Tensor] = []
        lengths = [x.shape[-1]]
        lengths_t = [xt.shape[-1]]
        for number, layer in enumerate(self.encoder):
            inject = None
            if number < len(self.tencoder):
                xt = self.tencoder[number](xt)
                if isinstance(self.tencoder[number], BareEncoder):
                    inject = xt
                else:
                    skips_t.append(xt)
                    lengths_t.append(xt.shape[-1])
            x = layer(x[:, :, 0] if _is_merged(layer, x) else x, inject)
            if number == 0:
                x = self.freq_emb(x)
            skips.append(x)
            lengths.append(x.shape[-1])
        x, xt = self.exchange(x, xt)
        lengths.pop()
        if len(lengths_t) > len(self.tencoder):
            lengths_t.pop()
        first_t = len(self.decoder) - len(self.tdecoder)
        for number, layer in enumerate(self.decoder):
            skip = skips.pop()
            x, inner = layer(x[:, :, None] if skip.dim() > x.dim() else x, skip, lengths.pop())
            if number >= first_t:
                layer_t = self.tdecoder[number - first_t]
                if isinstance(layer_t, BareDecoder):
                    xt = layer_t(inner[:, :, 0], lengths_t.pop())
                else:
                    xt, _ = layer_t(xt, skips_t.pop(), lengths_t.pop())
        return x, xt

    def exchange(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Turn what the encoders return into what the decoders take."""
        raise NotImplementedError

    def transform(self, mixture: Tensor) -> Tensor:
        """Transform ``b c samples`` to a spectrogram ``b c f t``."""
        return aligned_stft(mixture, self.config.n_fft)

    def picture(self, spec: Tensor) -> Tensor:
        """Turn a spectrogram into the real input of the network."""
        return to_channels(spec, self.config.bins)

    def invert(self, images: Tensor, mixture: Tensor, samples: int) -> Tensor:
        """Turn output ``b s c f t`` and the mixture's spectrogram ``b c f t`` into signals ``b s c samples``."""
        return aligned_istft(from_channels(images, self.config.bins), samples)

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Return the layers of both U-Nets."""
        return cast(Iterable[RepeatedPart], [*self.encoder, *self.tencoder, *self.decoder, *self.tdecoder])


class HtDemucsNetwork(TwoBranchNetwork):
    """HT Demucs: a cross-domain transformer between encoders and decoders."""

    config: HtDemucsConfig

    def __init__(self, config: HtDemucsConfig, branches: Branches, transformer: CrossTransformer) -> None:
        """Take the layers and the transformer, and make the linear layers around it."""
        super().__init__(config, branches)
        width, inner = config.features(config.depth - 1), config.bottleneck
        if inner is not None:
            self.channel_upsampler = PointwiseConv1d(width, inner)
            self.channel_downsampler = PointwiseConv1d(inner, width)
            self.channel_upsampler_t = PointwiseConv1d(width, inner)
            self.channel_downsampler_t = PointwiseConv1d(inner, width)
        self.crosstransformer = transformer

    def exchange(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the transformer to both branches."""
        if self.config.bottleneck is None:
            return self.crosstransformer(x, xt)
        bins = x.shape[2]
        wide = self.channel_upsampler(x.flatten(2)).unflatten(2, (bins, -1))
        wide, wide_t = self.crosstransformer(wide, self.channel_upsampler_t(xt))
        x = self.channel_downsampler(wide.flatten(2)).unflatten(2, (bins, -1))
        return x, self.channel_downsampler_t(wide_t)

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Return the layers of both U-Nets and of the transformer."""
        return [*super().repeated_parts(), *self.crosstransformer.parts()]


class HybridDemucsNetwork(TwoBranchNetwork):
    """Hybrid Demucs: decoders begin with zeros, and see the mixture only through skip connections."""

    config: HybridDemucsConfig

    def exchange(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Return zeros."""
        return torch.zeros_like(x), torch.zeros_like(xt)

    def transform(self, mixture: Tensor) -> Tensor:
        """Transform ``b c samples`` to a spectrogram ``b c f t``."""
        return aligned_stft(mixture, self.config.n_fft, reflect=not self.config.old_padding)

    def picture(self, spec: Tensor) -> Tensor:
        """Turn a spectrogram into the real input of the network."""
        return super().picture(spec) if self.config.spectrum == "complex" else spec.abs()

    def invert(self, images: Tensor, mixture: Tensor, samples: int) -> Tensor:
        """Turn output ``b s c f t`` and the mixture's spectrogram ``b c f t`` into signals ``b s c samples``."""
        if self.config.spectrum == "complex":
            spec = from_channels(images, self.config.bins)
        else:
            spec = torch.polar(images, mixture.angle()[:, None])
        return aligned_istft(spec, samples, late=self.config.old_padding)


def _mean_and_std(x: Tensor) -> tuple[Tensor, Tensor]:
    axes = tuple(range(1, x.dim()))
    return x.mean(axes, keepdim=True), x.std(axes, keepdim=True)


def _is_merged(layer: nn.Module, x: Tensor) -> bool:
    return x.dim() == 4 and isinstance(getattr(layer, "conv", None), nn.Conv1d)
