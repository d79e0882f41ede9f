"""Settings of the short-time Fourier transform."""

from __future__ import annotations

from pydantic import model_validator
from typing_extensions import Self

from bandsplit.core.config import Config, Size


class StftConfig(Config):
    """Short-time Fourier transform: periodic Hann window, centred, reflect padding, not normalised."""

    n_fft: Size = 2048
    """Window length in samples; even."""
    hop_samples: Size = 512
    """Hop in samples, at most half of ``n_fft``."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n_fft % 2 or self.hop_samples * 2 > self.n_fft:
            raise ValueError(
                f"n_fft {self.n_fft} and hop_samples {self.hop_samples}: n_fft must be even and hop_samples at most "
                f"half of it"
            )
        return self
