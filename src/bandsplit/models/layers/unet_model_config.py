"""Models that are a U-Net of post-activation TFC-TDF blocks from a spectrogram to one: their common options.

Source: docs/dttnet.md#forward-pass; docs/mdx-net.md#forward-pass.
"""

from __future__ import annotations

from pydantic import model_validator
from typing_extensions import Self

from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.config import Size
from bandsplit.models.chunk_config import ChunkConfig
from bandsplit.models.contract import Geometry, ModelConfig
from bandsplit.models.layers.tfc_tdf_v2_config import UnetConfig


class UnetModelConfig(ModelConfig):
    """One U-Net from the spectrogram of the mixture to that of one target."""

    stft: StftConfig = StftConfig(n_fft=6144, hop_samples=1024)
    """Time-frequency representation."""
    bins: Size = 2048
    """Lowest bins, which the network sees and estimates; the others are zero in the estimate."""
    unet: UnetConfig
    """The U-Net."""
    plan: ChunkConfig
    """Published way to cut songs."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problem := self._problem():
            raise ValueError(problem)
        return self

    def _problem(self) -> str | None:
        """Return why the options contradict each other; None if they do not."""
        if len(self.targets) > 1:
            return f"targets: {', '.join(self.targets)} are {len(self.targets)}, and a model estimates 1; name one"
        most = self.stft.n_fft // 2 + 1
        if self.bins > most:
            return f"bins: {self.bins} are more than the {most} of n_fft {self.stft.n_fft}; legal: 1 to {most}"
        return self.unet.bins_problem(self.bins)

    @property
    def image_channels(self) -> int:
        """Real and imaginary parts of all channels."""
        return 2 * self.channels

    @property
    def geometry(self) -> Geometry:
        """Lengths whose frames can be halved at each level; the authors' plan, whose chunks have the best length."""
        hop = self.stft.hop_samples
        return Geometry(
            self.plan,
            best_s=self.plan.chunk_s,
            least_samples=self.stft.n_fft // 2 + 1,  # so that there is enough to reflect
            multiple_samples=hop * 2**self.unet.levels,
            less_samples=hop,
        )

    @property
    def loss_stft(self) -> StftConfig:
        """Transform of the mixture and of the estimates."""
        return self.stft
