"""The network that maps the lowest bins of the mixture's spectrogram to a target's, by a U-Net, without a mask.

Source: docs/dttnet.md#forward-pass; docs/mdx-net.md#forward-pass.
"""

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from bandsplit.audio.stft import istft, stft
from bandsplit.models.layers.complex_channels import from_channels, to_channels
from bandsplit.models.layers.tfc_tdf_v2 import TfcTdfUnet
from bandsplit.models.layers.unet_model_config import UnetModelConfig
from bandsplit.models.network import RepeatedPart, Separation, SeparationModel


class UnetModel(SeparationModel):
    """A separation model of one target that estimates its spectrogram directly."""

    config: UnetModelConfig

    def __init__(self, config: UnetModelConfig, middle: nn.Sequential) -> None:
        """Build the U-Net of ``config``; ``middle``, of `RepeatedPart`, follows the block of its coarsest level."""
        super().__init__()
        self.config = config
        self.unet = TfcTdfUnet(config.unet, config.image_channels, config.bins, middle)

    def forward(self, mixture: Tensor) -> Separation:
        """Estimate the target of ``mixture``, ``b c samples``.

        Raises:
            ValueError: the number of channels or samples does not fit the model.
        """
        spec = self.spectrograms(mixture)
        return Separation(istft(spec, self.config.loss_stft, mixture.shape[-1]), spec)

    def spectrograms(self, mixture: Tensor) -> Tensor:
        """Estimate the spectrogram ``b 1 c f t`` of the target of ``b c samples``, without inverting it.

        Raises:
            ValueError: as `forward`.
        """
        self._check(mixture)
        config = self.config
        estimate = self.estimate(to_channels(stft(mixture, config.loss_stft), config.bins))
        return from_channels(estimate, config.loss_stft.n_fft // 2 + 1).unsqueeze(1)

    def estimate(self, image: Tensor) -> Tensor:
        """Map the image ``b (c r) f t`` of the mixture's lowest bins to the target's; all numbers are real."""
        return self.unet(image)

    def repeated_parts(self) -> Iterable[RepeatedPart]:
        """Return the blocks of the U-Net and the parts of its middle."""
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
