"""Systems that need no model: references for the scores of models."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bandsplit.audio.stft import istft, stft
from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.errors import DataError
from bandsplit.core.machine import has_packages
from bandsplit.data.songs.tracks import Audio, Track, TrackAudio
from bandsplit.evaluation.systems import About, System

STATIC_GAIN = "static gain per frequency"
IDEAL_RATIO_MASK = "ideal ratio mask (ceiling)"
WIENER_MISSING = "multichannel Wiener: not scored, since it needs norbert: pip install 'bandsplit[wiener]'"
_BLOCK_FRAMES = 128


class Silence:
    """Silence for every stem: uSDR is 0 dB by definition."""

    def about(self, track: Track) -> About:
        """It has no settings."""
        return About()

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Return zeros for every stem."""
        return {stem: np.zeros_like(song.mixture) for stem in song.stems}


class Mixture:
    """The mixture itself as the estimate of every stem."""

    def about(self, track: Track) -> About:
        """It has no settings."""
        return About()

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Return the mixture for every stem."""
        return {stem: song.mixture for stem in song.stems}


class StaticGain:
    """One real gain per stem and frequency bin: the best filter that is the same for every song."""

    def __init__(
        self, gains: Mapping[str, Tensor], config: StftConfig, sample_rate_hz: int, source: str | None = None
    ) -> None:
        """Take gains ``f`` by stem, as `fit` finds them, their sample rate, and a hash of the songs."""
        self.gains = gains
        self.config = config
        self.sample_rate_hz = sample_rate_hz
        self._about = About(inference=_describe(config), source=source, targets=tuple(gains))

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
        songs = hashlib.sha256()
        for track in tracks:
            songs.update(f"{track.split}/{track.name} {track.samples} {track.mixture_from}\n".encode())
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
        return cls(gains, config, rates_hz.pop(), songs.hexdigest()[:12])

    def about(self, track: Track) -> About:
        """Describe the transform and the gains."""
        return self._about

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


class IdealMask:
    """An oracle ceiling: the mixture times a real mask per stem, computed from the true stems' powers.

    It uses the true stems, so systems that see only the mixture cannot be compared with it; it shows the limit of real
    masks on this transform. All masks add up to 1 where anything sounds, and are 0 elsewhere.
    """

    def __init__(self, config: StftConfig | None, rule: str, make_masks: Callable[[Tensor], Tensor]) -> None:
        """Take the transform (default 2048 / 512), the rule in words, and a function from powers ``s f t`` to masks."""
        self.config = config or StftConfig()
        self._make_masks = make_masks
        self._about = About(inference=f"{_describe(self.config)}, {rule}")

    def about(self, track: Track) -> About:
        """Describe the transform and the rule."""
        return self._about

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Mask the mixture once per stem."""

        def masks(channel: int) -> Iterator[tuple[str, Tensor]]:
            specs = (_spectrogram(signal, channel, self.config) for signal in song.stems.values())
            yield from zip(
                song.stems, self._make_masks(torch.stack([spec.abs().square() for spec in specs])), strict=True
            )

        return _filter_mixture(song, self.config, masks)


class IdealRatioMask(IdealMask):
    """|S|^2 / sum |S_i|^2. The exponent is 2 (power ratio); other authors use 1."""

    def __init__(self, config: StftConfig | None = None) -> None:
        """Take the transform; 2048 / 512 when absent."""
        super().__init__(config, "power ratio of the true stems", _share)


class IdealBinaryMask(IdealMask):
    """1 for the loudest stem of a bin, 0 for the others; other authors ask for half of the mixture instead."""

    def __init__(self, config: StftConfig | None = None) -> None:
        """Take the transform; 2048 / 512 when absent."""
        super().__init__(config, "each bin to the loudest true stem", _give_to_loudest)


class MultichannelWiener:
    """An oracle ceiling that may mix channels: the filter of local Gaussian models of the true stems, by norbert.

    A stem's model is its power per frame and bin, mean over channels, and one spatial covariance per bin for the entire
    song. Memory: about 20 MB per second of a stereo song at 44.1 kHz with four stems.
    """

    def __init__(self, config: StftConfig | None = None) -> None:
        """Take the transform; 2048 / 512 when absent."""
        self.config = config or StftConfig()
        self._about = About(inference=f"{_describe(self.config)}, models of the true stems, norbert")

    def about(self, track: Track) -> About:
        """Describe the transform and the filter."""
        return self._about

    def __call__(self, song: TrackAudio) -> Mapping[str, Audio]:
        """Filter the mixture.

        Source: norbert. Its `expectation_maximization` with the true stems as the initial estimates and one iteration,
        here block by block; scaling and regularisation are those of its `wiener`.
        """
        norbert = _import_norbert()
        x = self._frames(song.mixture)
        scale = max(1.0, float(np.abs(x).max()) / 10)
        eps = np.finfo(np.float64).eps
        models = [
            norbert.get_local_gaussian_model(self._frames(stem).astype(np.complex128) / scale, eps)
            for stem in song.stems.values()
        ]
        power = np.stack([v for v, _ in models], axis=-1)
        spatial = np.stack([r[0] for _, r in models], axis=-1)
        specs = np.empty((len(models), *x.shape), np.complex64)
        for start in range(0, len(x), _BLOCK_FRAMES):
            inside = slice(start, start + _BLOCK_FRAMES)
            v = power[inside]
            mixed = norbert.get_mix_model(v, spatial) + np.sqrt(eps) * np.eye(x.shape[-1])
            inverse = np.linalg.inv(mixed)
            for stem in range(len(models)):
                gain = norbert.wiener_gain(v[..., stem], spatial[..., stem], inverse)
                specs[stem, inside] = norbert.apply_filter(x[inside], gain)
        samples = song.mixture.shape[1]
        return {
            stem: istft(torch.from_numpy(spec).permute(2, 1, 0), self.config, samples).numpy()
            for stem, spec in zip(song.stems, specs, strict=True)
        }

    def _frames(self, signal: Audio) -> np.ndarray:
        """Transform ``c samples`` to ``t f c``, the layout of norbert."""
        return stft(torch.from_numpy(signal), self.config).permute(2, 1, 0).numpy()


def yardstick_systems(
    train: Sequence[Track], stems: Sequence[str], config: StftConfig | None = None
) -> dict[str, System]:
    """Make all yardsticks, from the lowest to the ceilings; the static gain is fitted on the songs ``train``.

    Without such songs there is no static gain. The multichannel Wiener filter is among them where norbert is installed.
    """
    systems: dict[str, System] = {
        "silence": Silence(),
        "mixture": Mixture(),
        **({STATIC_GAIN: StaticGain.fit(train, stems, config)} if train else {}),
        "ideal binary mask (ceiling)": IdealBinaryMask(config),
        IDEAL_RATIO_MASK: IdealRatioMask(config),
    }
    if has_wiener():
        systems["multichannel Wiener (ceiling)"] = MultichannelWiener(config)
    return systems


def has_wiener() -> bool:
    """Return whether `MultichannelWiener` can be used: norbert, its library, is an extra."""
    return has_packages("norbert")


def _import_norbert() -> Any:
    with warnings.catch_warnings():  # norbert imports a SciPy name from a deprecated place
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("norbert")


def _share(powers: Tensor) -> Tensor:
    total = powers.sum(0)
    return torch.where(total > 0, powers / total, 0)


def _give_to_loudest(powers: Tensor) -> Tensor:
    loudest = torch.zeros_like(powers).scatter_(0, powers.argmax(0, keepdim=True), 1)
    return torch.where(powers.sum(0) > 0, loudest, 0)


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
