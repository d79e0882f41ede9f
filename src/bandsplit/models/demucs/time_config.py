"""Configurations of the families on the waveform alone, Demucs v3 and v2: frozen, strict, documented under each field.

Their convolutions have no padding, so that lengths fit only if each strided convolution ends with the signal.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, model_validator
from typing_extensions import Self

from bandsplit.core.config import Size
from bandsplit.models.chunk_config import TriangleConfig
from bandsplit.models.contract import Geometry, ModelConfig
from bandsplit.models.demucs.config import KERNEL, STRIDE, DConvConfig

CONTEXT = 3
"""Kernel of the decoders' gated convolutions; those of Demucs v2 have no padding."""


class TimeConfig(ModelConfig):
    """The fields that Demucs v3 and v2 share."""

    n_features: Size = 64
    """Features of the first level; each deeper one has twice as many."""
    depth: int = Field(default=6, ge=1, le=12)
    """Number of levels."""
    resample: bool = True
    """Whether the network works at twice the sample rate."""
    chunk_s: PositiveFloat = 44.0
    """Length of the chunks that it is published with."""

    def features(self, level: int) -> int:
        """Return the features of a level."""
        return self.n_features * 2**level

    def inner_samples(self, samples: int) -> int:
        """Return the samples at the network's own rate."""
        return 2 * samples if self.resample else samples

    @property
    def lost_samples(self) -> int:
        """Samples at either end of the input that are without an estimate, at the network's own rate."""
        return 0

    @property
    def edge_samples(self) -> int:
        """Samples at either end of the input that are without an estimate."""
        return -(-self.lost_samples // self.inner_samples(1))

    @property
    def geometry(self) -> Geometry:
        """The lengths at which each strided convolution ends with the signal; published with chunks that overlap."""
        stride = STRIDE**self.depth
        least = stride + sum((KERNEL - STRIDE) * STRIDE**level for level in range(self.depth))
        rate = self.inner_samples(1)
        least += -(-2 * self.lost_samples // stride) * stride
        multiple = stride // rate
        less = -(least // rate) % multiple
        return Geometry(
            TriangleConfig(chunk_s=self.chunk_s, multiple_samples=multiple, less_samples=less, normalise="mono"),
            best_s=self.chunk_s,
            least_samples=-(-least // rate),
            multiple_samples=multiple,
            less_samples=less,
        )

    def fitting_around(self, samples: int) -> int:
        """Return the shortest input that has estimates for ``samples`` in its middle."""
        return self.geometry.fitting(samples + 2 * self.edge_samples)


class DemucsConfig(TimeConfig):
    """Demucs v3 on the waveform, like two of the four models of its winning bag of 2021."""

    family: Literal["demucs"] = "demucs"
    """Kind of network."""
    rewrite: bool = True
    """Whether each layer has a gated convolution, too."""
    normalize: bool = True
    """Whether the input is normalised by mean and standard deviation of the mean of its channels."""
    norm_from: int = Field(default=4, ge=0)
    """First level, from 0, whose layers have a group normalisation."""
    norm_groups: Size = 4
    """Groups of these normalisations."""
    dconv: DConvConfig = DConvConfig(lstm_from=4, attention_from=4)
    """Residual branches."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problem := self.dconv.problem(self.n_features, self.depth):
            raise ValueError(problem)
        # A level's decoder normalises the features of the level above.
        narrowest = self.features(max(self.norm_from - 1, 0))
        if 0 < self.norm_from < self.depth and narrowest % self.norm_groups:
            raise ValueError(f"norm_groups: {self.norm_groups} does not divide {narrowest} features")
        return self


class DemucsV2Config(TimeConfig):
    """Demucs v2 on the waveform: gated convolutions with ReLU, and a recurrent layer at the deepest level."""

    family: Literal["demucs_v2"] = "demucs_v2"
    """Kind of network."""
    chunk_s: PositiveFloat = 40.0
    """Length of the chunks that it is published with."""

    @property
    def lost_samples(self) -> int:
        """Samples that the decoders' convolutions without padding take from either end, at the network's own rate."""
        return sum(CONTEXT // 2 * STRIDE**level for level in range(1, self.depth + 1))
