"""Systems that need no model: what a model's scores are to be read against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bandsplit.config import StftConfig
from bandsplit.data.tracks import Audio, Track, TrackAudio
from bandsplit.errors import DataError
from bandsplit.spectral import istft, stft

STATIC_GAIN = "static gain per frequency"


class Silence:
    """Nothing at all: uSDR is 0 dB by definition."""

    inference = "none"

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Return zeros for every stem."""
        return {stem: np.zeros_like(song.mixture) for stem in song.stems}


class Mixture:
    """The mixture itself as the estimate of every stem."""

    inference = "none"

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Return the mixture for every stem."""
        return {stem: song.mixture for stem in song.stems}


class StaticGain:
    """One real gain per stem and frequency bin: the best filter that does not listen."""

    def __init__(self, gains: Mapping[str, Tensor], config: StftConfig, sample_rate_hz: int) -> None:
        """Take gains ``f`` by stem, as `fit` finds them, and the rate they hold for."""
        self.gains = gains
        self.config = config
        self.sample_rate_hz = sample_rate_hz
        self.inference = _describe(config)

    @classmethod
    def fit(cls, tracks: Iterable[Track], stems: Sequence[str], config: StftConfig | None = None) -> StaticGain:
        """Fit on songs: sum Re(X* S) / sum |X|^2 over frames, channels and songs, the least-squares solution.

        Bins where the mixtures are silent get a gain of 0.

        Raises:
            DataError: the songs do not share one sample rate, so that a bin has no one frequency.
        """
        config = config or StftConfig()
        n_bins = config.n_fft // 2 + 1
        power = torch.zeros(n_bins, dtype=torch.float64)
        product = {stem: torch.zeros(n_bins, dtype=torch.float64) for stem in stems}
        rates_hz: set[int] = set()
        for track in tracks:
            rates_hz.add(track.sample_rate_hz)
            song = track.load()
            for channel in range(track.channels):
                x = _spectrogram(song.mixture, channel, config)
                power += x.abs().square().sum(-1, dtype=torch.float64)
                for stem in stems:
                    s = _spectrogram(song.stems[stem], channel, config)
                    product[stem] += (x.conj() * s).real.sum(-1, dtype=torch.float64)
        if len(rates_hz) != 1:
            raise DataError(
                f"static gain: the training songs have sample rates {sorted(rates_hz)} Hz; it needs songs of one rate"
            )
        gains = {stem: torch.where(power > 0, total / power, 0).float() for stem, total in product.items()}
        return cls(gains, config, rates_hz.pop())

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Filter the mixture once per stem.

        Raises:
            DataError: the song has another sample rate than the training songs.
        """
        if song.track.sample_rate_hz != self.sample_rate_hz:
            raise DataError(
                f"static gain: {song.track.split}/{song.track.name} has {song.track.sample_rate_hz} Hz, the training "
                f"songs {self.sample_rate_hz} Hz; resample the song"
            )
        return _filter_mixture(song, self.config, lambda _: ((stem, g[:, None]) for stem, g in self.gains.items()))


class IdealRatioMask:
    """The oracle ceiling: the mixture times |S|^2 / sum |S_i|^2, computed from the true stems.

    The exponent is 2 (power ratio); other authors use 1. It knows the answer, so no system that hears only the mixture
    competes with it; it shows how far real masks on this transform can go.
    """

    def __init__(self, config: StftConfig | None = None) -> None:
        """Take the transform; 2048 / 512 when absent."""
        self.config = config or StftConfig()
        self.inference = f"{_describe(self.config)}, power ratio of the true stems"

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Mask the mixture once per stem."""

        def masks(channel: int) -> Iterator[tuple[str, Tensor]]:
            powers = {
                stem: _spectrogram(signal, channel, self.config).abs().square() for stem, signal in song.stems.items()
            }
            total = torch.stack(list(powers.values())).sum(0)
            for stem, power in powers.items():
                yield stem, torch.where(total > 0, power / total, 0)

        return _filter_mixture(song, self.config, masks)


def yardstick_systems(
    train: Iterable[Track], stems: Sequence[str], config: StftConfig | None = None
) -> dict[str, Silence | Mixture | StaticGain | IdealRatioMask]:
    """Make all yardsticks, from the lowest to the ceiling; ``train`` are the songs the static gain is fitted on."""
    return {
        "silence": Silence(),
        "mixture": Mixture(),
        STATIC_GAIN: StaticGain.fit(train, stems, config),
        "ideal ratio mask (ceiling)": IdealRatioMask(config),
    }


def _filter_mixture(
    song: TrackAudio, config: StftConfig, masks: Callable[[int], Iterable[tuple[str, Tensor]]]
) -> dict[str, Audio]:
    """Multiply the mixture by (stem, mask ``f t``) pairs, channel by channel: spectrograms of songs are large."""
    estimates: dict[str, Audio] = {}
    channels, samples = song.mixture.shape
    for channel in range(channels):
        spec = _spectrogram(song.mixture, channel, config)
        for stem, mask in masks(channel):
            estimate = estimates.setdefault(stem, np.empty_like(song.mixture))
            estimate[channel] = istft((spec * mask).unsqueeze(0), config, samples)[0].numpy()
    return estimates


def _spectrogram(signal: Audio, channel: int, config: StftConfig) -> Tensor:
    """Transform one channel of ``c samples`` to ``f t``."""
    return stft(torch.from_numpy(signal[channel : channel + 1]), config)[0]


def _describe(config: StftConfig) -> str:
    return f"STFT {config.n_fft} / {config.hop_samples}"
