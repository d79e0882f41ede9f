"""The network of the family: the spectrogram of a target from that of the mixture, by a U-Net with a dual path.

Source: docs/dttnet.md#forward-pass; DTTNet paper.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal, cast

from torch import Tensor, nn

from bandsplit.audio.stft import istft, stft
from bandsplit.models.dttnet.config import FEATURES_OF_A_GROUP, DttnetConfig
from bandsplit.models.layers.complex_channels import from_channels, to_channels
from bandsplit.models.layers.dual_path import Along, DualPath
from bandsplit.models.layers.sequence import RecurrentLayer
from bandsplit.models.layers.tfc_tdf_v2 import TfcTdfUnet
from bandsplit.models.network import RepeatedPart, Separation, SeparationModel

EPS = 1e-5
"""Epsilon of the normalisation in front of the recurrent layers."""
HIDDEN_FACTOR = 2
"""Hidden features of a direction, as a multiple of the features of a head."""


class DttnetNetwork(SeparationModel):
    """A separation model of one target that estimates its spectrogram directly, without a mask."""

    config: DttnetConfig

    def __init__(self, config: DttnetConfig) -> None:
        """Build the network that ``config`` describes, with random weights from torch's global generator."""
        super().__init__()
        self.config = config
        middle = DualPath(*(_dual_path_layer(config) for _ in range(config.dual_path.layers)))
        self.unet = TfcTdfUnet(config.unet, config.image_channels, config.bins, middle)

    def forward(self, mixture: Tensor) -> Separation:
        """Estimate the target of ``mixture``, ``b c samples``.

        Raises:
            ValueError: the number of channels or samples does not fit the model.
        """
        spec = self.spectrograms(mixture)
        return Separation(istft(spec, self.config.stft, mixture.shape[-1]), spec)

    def spectrograms(self, mixture: Tensor) -> Tensor:
        """Estimate the spectrogram ``b 1 c f t`` of the target of ``b c samples``, without inverting it.

        Raises:
            ValueError: as `forward`.
        """
        self._check(mixture)
        config = self.config
        estimate = self.estimate(to_channels(stft(mixture, config.stft), config.bins))
        return from_channels(estimate, config.stft.n_fft // 2 + 1).unsqueeze(1)

    def estimate(self, image: Tensor) -> Tensor:
        """Map the image ``b (c r) f t`` of the mixture's lowest bins to the target's; all numbers are real."""
        return self.unet(image)

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Return the blocks of the U-Net and the layers of the dual path."""
        return [*self.unet.blocks(), *cast(Iterable[RepeatedPart], self.unet.middle.children())]

    def _check(self, mixture: Tensor) -> None:
        if mixture.dim() != 3:
            raise ValueError(f"mixture: must be (batch, channels, samples), got {tuple(mixture.shape)}")
        channels, samples = mixture.shape[1:]
        if channels != self.config.channels:
            raise ValueError(
                f"mixture: has {channels} channel(s), but this model needs exactly {self.config.channels}; duplicate "
                f"or fold the channels first"
            )
        fitting = self.config.geometry.fitting(samples)
        if samples != fitting:
            raise ValueError(f"mixture: the model does not take {samples} samples; the next legal length is {fitting}")


def _dual_path_layer(config: DttnetConfig) -> RepeatedPart:
    return RepeatedPart(OrderedDict(time=_along(config, "time"), band=_along(config, "band")))


def _along(config: DttnetConfig, axis: Literal["time", "band"]) -> Along:
    n, path = config.head_features, config.dual_path
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[path.rnn]
    layer = RecurrentLayer(kind, n, HIDDEN_FACTOR * n, n // FEATURES_OF_A_GROUP, EPS, path.bidirectional)
    return Along(axis, layer, path.heads)
