"""Augmentations of training excerpts: polarity, pitch, tempo and low-pass per stem, MP3 coding of the mixture.

All are off by default; the paper uses none of them. This module draws no random numbers: `draw_stem` and `draw_mixture`
turn the caller's uniform numbers into augmentations, which depend on nothing else and give the same samples on all
machines of the same kind.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from io import BytesIO
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from bandsplit.core.errors import ConfigError
from bandsplit.data.examples.mixing import AugmentConfig
from bandsplit.data.songs.tracks import Audio

STEM_DRAWS = ("polarity", "pitch", "pitch_semitones", "tempo", "tempo_factor", "low_pass", "low_pass_hz")
"""Meaning of the uniform numbers of a stem, in order: for each effect whether it is applied, then its strength."""
MIXTURE_DRAWS = ("mp3", "mp3_kbps")
"""Meaning of the uniform numbers of a mixture, in order."""

_LOW_PASS_ORDER = 4
_TEMPO = NormalDist(1, 0.05)

# Bit rates of MPEG-1, 2 and 2.5, layer III, by the lowest sample rate of each; and the existing sample rates.
_MP3_KBPS = {
    32000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    16000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    8000: (8, 16, 24, 32, 40, 48, 56, 64),
}
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Samples by which LAME (576) and any decoder (528 + 1) delay a signal.
_MP3_DELAY_SAMPLES = 1105
# Below 256 kbit/s LAME attenuates signals before coding. This gain is undone, since the targets are not attenuated.
_LAME_GAIN = {192: 0.97, 224: 0.98, 256: 1.0, 320: 1.0}
_LAME_GAIN_BELOW = 0.95


def check(config: AugmentConfig, sample_rate_hz: int, channels: int) -> None:
    """Check that every augmentation that is on supports such excerpts, so that training cannot fail late.

    Raises:
        ConfigError: the extra ``augment`` is missing; pitch, tempo or MP3 with more than two channels; a sample rate
            that MP3 does not support.
    """
    if config.low_pass_probability:
        _library("scipy.signal")
    if config.pitch_probability or config.tempo_probability or config.retune_probability:
        _library("python_stretch.Signalsmith")
    for effect in ("pitch", "tempo", "retune", "mp3"):
        name = f"{effect}_probability"
        if channels > 2 and getattr(config, name):
            raise ConfigError(f"{name}: does not support {channels} channels, only 1 or 2; set it to 0")
    if config.mp3_probability and sample_rate_hz not in _MP3_RATES_HZ:
        legal = ", ".join(map(str, _MP3_RATES_HZ))
        raise ConfigError(f"mp3_probability: MP3 has no sample rate of {sample_rate_hz} Hz, only {legal}; set it to 0")


class StemAugmentation(NamedTuple):
    """Augmentations of an excerpt of a stem, in this order; None and False mean no change."""

    inverted: bool = False
    pitch_semitones: float | None = None
    tempo_factor: float | None = None
    low_pass_hz: float | None = None

    def needed_samples(self, samples: int) -> int:
        """Return the length of the excerpt to read, at the same sample rate, for ``samples`` after `apply`."""
        return math.ceil(samples * (self.tempo_factor or 1.0))

    def apply(self, signal: Audio, sample_rate_hz: int, samples: int) -> Audio:
        """Return ``signal`` augmented: float32 ``c samples``, exactly ``samples`` long.

        The result starts where ``signal`` starts. If ``signal`` is shorter than `needed_samples`, zeros follow it. The
        result is ``signal`` itself if there is nothing to do.

        Raises:
            ConfigError: the extra ``augment`` is missing. `check` reports this and other problems beforehand.
        """
        if self.inverted:
            signal = -signal
        if self.pitch_semitones is not None or self.tempo_factor is not None:
            signal = _stretch(signal, sample_rate_hz, self.pitch_semitones or 0.0, self.tempo_factor or 1.0)
        if signal.shape[1] != samples:
            signal = np.pad(signal[:, :samples], ((0, 0), (0, max(0, samples - signal.shape[1]))))
        if self.low_pass_hz is not None and self.low_pass_hz < sample_rate_hz / 2:
            signal = _low_pass(signal, sample_rate_hz, self.low_pass_hz)
        return signal


class MixtureAugmentation(NamedTuple):
    """Augmentation of the mixture of an example after mixing; its targets do not change."""

    mp3_kbps: float | None = None

    def apply(self, signal: Audio, sample_rate_hz: int) -> Audio:
        """Return ``signal`` augmented, float32 ``c samples``: with the same length, alignment and level.

        The result is ``signal`` itself if there is nothing to do. Peaks beyond 1 are not clipped.
        """
        return signal if self.mp3_kbps is None else _code_mp3(signal, sample_rate_hz, self.mp3_kbps)


def draw_stem(config: AugmentConfig, uniforms: Sequence[float]) -> StemAugmentation:
    """Turn numbers from 0 to below 1, in the order of `STEM_DRAWS`, into augmentations of a stem.

    Every number has one meaning, whichever augmentations are on. Stems that must share pitch or tempo, such as those
    of one song, get the same numbers for them.
    """
    draws = dict(zip(STEM_DRAWS, map(float, uniforms), strict=True))
    low_pass = _between_in_octaves(config.low_pass_hz, draws["low_pass_hz"])
    if draws["pitch"] < config.retune_probability:
        pitch, tempo = _retune(config, draws["pitch_semitones"], draws["tempo_factor"])
    else:
        pitch = _between(config.pitch_semitones, draws["pitch_semitones"])
        tempo = _between(config.tempo_factor, draws["tempo_factor"])
        pitch = pitch if draws["pitch"] < config.pitch_probability else None
        tempo = tempo if draws["tempo"] < config.tempo_probability else None
    return StemAugmentation(
        inverted=draws["polarity"] < config.polarity_probability,
        pitch_semitones=pitch,
        tempo_factor=tempo,
        low_pass_hz=low_pass if draws["low_pass"] < config.low_pass_probability else None,
    )


def _retune(config: AugmentConfig, pitch: float, tempo: float) -> tuple[float, float]:
    """Return the semitones and the tempo of both uniform numbers."""
    legal = config.integer_semitones
    slowest, fastest = config.tempo_factor
    factor = _TEMPO.inv_cdf(max(tempo, 2**-53))  # which 0 does not have
    return float(legal[int(pitch * len(legal))]), min(max(factor, slowest), fastest)


def draw_mixture(config: AugmentConfig, uniforms: Sequence[float]) -> MixtureAugmentation:
    """Turn numbers from 0 to below 1, in the order of `MIXTURE_DRAWS`, into the augmentation of a mixture."""
    draws = dict(zip(MIXTURE_DRAWS, map(float, uniforms), strict=True))
    kbps = _between_in_octaves(config.mp3_kbps, draws["mp3_kbps"])
    return MixtureAugmentation(mp3_kbps=kbps if draws["mp3"] < config.mp3_probability else None)


def _between(limits: tuple[float, float], uniform: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * uniform


def _between_in_octaves(limits: tuple[float, float], uniform: float) -> float:
    return limits[0] * (limits[1] / limits[0]) ** uniform


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            "augment: pitch shift, tempo change and low-pass need libraries that are not installed; "
            "install them with: pip install 'bandsplit[augment]'"
        ) from None


def _stretch(signal: Audio, sample_rate_hz: int, semitones: float, factor: float) -> Audio:
    """Change pitch and tempo: change the speed by resampling, then stretch to the target length.

    The library can also shift pitch, but with an error of up to 30 cents below 200 Hz; this method is exact.
    """
    # For stretches beyond 2 the phases are random, hence a seed.
    stretch = _library("python_stretch.Signalsmith").Stretch(0)
    stretch.preset(len(signal), sample_rate_hz)
    # The edges are mirrored instead of silent, because otherwise the ends of the excerpt would fade.
    margin = stretch.outputLatency()
    edge = round(margin * factor)
    padded = np.pad(signal, ((0, 0), (edge, edge)), mode="symmetric")
    ratio = 2 ** (semitones / 12)
    played = soxr.resample(np.ascontiguousarray(padded.T), sample_rate_hz * ratio, sample_rate_hz).T
    stretch.timeFactor = factor / ratio
    # The library ignores strides and may crash on a view.
    stretched = np.asarray(stretch.process(np.ascontiguousarray(played, np.float32)))
    return stretched[:, margin : margin + max(1, round(signal.shape[1] / factor))]


def _low_pass(signal: Audio, sample_rate_hz: int, cutoff_hz: float) -> Audio:
    scipy_signal = _library("scipy.signal")
    sections = scipy_signal.butter(_LOW_PASS_ORDER, cutoff_hz, fs=sample_rate_hz, output="sos")
    return scipy_signal.sosfilt(sections, signal).astype(np.float32)


def _code_mp3(signal: Audio, sample_rate_hz: int, kbps: float) -> Audio:
    """Code and decode at the legal bit rate nearest to ``kbps``, without the delay and the gain of the coder."""
    legal = next(rates for lowest_hz, rates in _MP3_KBPS.items() if sample_rate_hz >= lowest_hz)
    rate = min(legal, key=lambda each: abs(each - kbps))
    # libsndfile's representation of a bit rate; it refuses 1, and LAME uses the nearest rate.
    level = min(0.999, (legal[-1] - rate) / (legal[-1] - legal[0]))
    with BytesIO() as file:
        soundfile.write(
            file,
            signal.T,
            sample_rate_hz,
            format="MP3",
            subtype="MPEG_LAYER_III",
            compression_level=level,
            bitrate_mode="CONSTANT",
        )
        file.seek(0)
        decoded, _ = soundfile.read(file, dtype="float32", always_2d=True)
    samples = signal.shape[1]
    # LAME stores length and delay in the first frame, and the decoder uses them; at low rates there is no room for it.
    start = 0 if len(decoded) == samples else _MP3_DELAY_SAMPLES
    gain = _LAME_GAIN.get(rate, _LAME_GAIN_BELOW)
    return np.divide(decoded[start : start + samples].T, gain, dtype=np.float32, order="C")
