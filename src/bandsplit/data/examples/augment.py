"""Augmentations of training excerpts: polarity, pitch, tempo and low-pass per stem, MP3 coding of the mixture.

All are off by default; the paper uses none of them. Nothing here draws random numbers: `draw_stem` and `draw_mixture`
turn uniform numbers of the caller into what to do, which depends on nothing else and gives the same samples wherever
it is applied on the same kind of machine.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from bandsplit.core.errors import ConfigError
from bandsplit.data.examples.mixing import AugmentConfig
from bandsplit.data.songs.tracks import Audio

STEM_DRAWS = ("polarity", "pitch", "pitch_semitones", "tempo", "tempo_factor", "low_pass", "low_pass_hz")
"""Meaning of the uniform numbers of a stem, in order: for each effect whether it happens, then how much of it."""
MIXTURE_DRAWS = ("mp3", "mp3_kbps")
"""Meaning of the uniform numbers of a mixture, in order."""

_LOW_PASS_ORDER = 4

# Bit rates of MPEG-1, 2 and 2.5, layer III, by the lowest sample rate of each; and the sample rates there are.
_MP3_KBPS = {
    32000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    16000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    8000: (8, 16, 24, 32, 40, 48, 56, 64),
}
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Samples by which LAME (576) and any decoder (528 + 1) delay a signal.
_MP3_DELAY_SAMPLES = 1105
# LAME turns signals down before it codes them, below 256 kbit/s; the targets are not, so it is undone.
_LAME_GAIN = {192: 0.97, 224: 0.98, 256: 1.0, 320: 1.0}
_LAME_GAIN_BELOW = 0.95


def check(config: AugmentConfig, sample_rate_hz: int, channels: int) -> None:
    """Make sure that everything switched on can be done to such excerpts, so that training cannot fail late.

    Raises:
        ConfigError: the extra ``augment`` is missing; pitch, tempo or MP3 of more than two channels; a sample rate
            that MP3 does not have.
    """
    if config.low_pass_probability:
        _library("scipy.signal")
    if config.pitch_probability or config.tempo_probability:
        _library("python_stretch.Signalsmith")
    for effect in ("pitch", "tempo", "mp3"):
        name = f"{effect}_probability"
        if channels > 2 and getattr(config, name):
            raise ConfigError(f"{name}: cannot be done to {channels} channels, only to 1 or 2; set it to 0")
    if config.mp3_probability and sample_rate_hz not in _MP3_RATES_HZ:
        legal = ", ".join(map(str, _MP3_RATES_HZ))
        raise ConfigError(f"mp3_probability: MP3 has no sample rate of {sample_rate_hz} Hz, only {legal}; set it to 0")


class StemAugmentation(NamedTuple):
    """What is done to an excerpt of a stem, in this order; None and False leave it as it is."""

    inverted: bool = False
    pitch_semitones: float | None = None
    tempo_factor: float | None = None
    low_pass_hz: float | None = None

    def needed_samples(self, samples: int) -> int:
        """Return the length of the excerpt to read, at the same sample rate, for ``samples`` after `apply`."""
        return math.ceil(samples * (self.tempo_factor or 1.0))

    def apply(self, signal: Audio, sample_rate_hz: int, samples: int) -> Audio:
        """Return ``signal`` augmented: float32 ``c samples``, exactly ``samples`` long.

        It starts where ``signal`` starts. Where ``signal`` is shorter than `needed_samples`, zeros follow it. The
        result is ``signal`` itself if there is nothing to do.

        Raises:
            ConfigError: the extra ``augment`` is missing. `check` finds this and what else may not work beforehand.
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
    """What is done to the mixture of an example, after its stems were mixed; its targets stay as they are."""

    mp3_kbps: float | None = None

    def apply(self, signal: Audio, sample_rate_hz: int) -> Audio:
        """Return ``signal`` augmented, float32 ``c samples``: as long and in the same place, at the same level.

        The result is ``signal`` itself if there is nothing to do. Peaks beyond 1 are not clipped.
        """
        return signal if self.mp3_kbps is None else _code_mp3(signal, sample_rate_hz, self.mp3_kbps)


def draw_stem(config: AugmentConfig, uniforms: Sequence[float]) -> StemAugmentation:
    """Turn numbers from 0 to below 1, in the order of `STEM_DRAWS`, into what to do to a stem.

    Every number has one meaning, whatever is switched on. Stems that should keep together in pitch or tempo, as those
    of one song, get the same numbers there.
    """
    draws = dict(zip(STEM_DRAWS, map(float, uniforms), strict=True))
    pitch = _between(config.pitch_semitones, draws["pitch_semitones"])
    tempo = _between(config.tempo_factor, draws["tempo_factor"])
    low_pass = _between_in_octaves(config.low_pass_hz, draws["low_pass_hz"])
    return StemAugmentation(
        inverted=draws["polarity"] < config.polarity_probability,
        pitch_semitones=pitch if draws["pitch"] < config.pitch_probability else None,
        tempo_factor=tempo if draws["tempo"] < config.tempo_probability else None,
        low_pass_hz=low_pass if draws["low_pass"] < config.low_pass_probability else None,
    )


def draw_mixture(config: AugmentConfig, uniforms: Sequence[float]) -> MixtureAugmentation:
    """Turn numbers from 0 to below 1, in the order of `MIXTURE_DRAWS`, into what to do to a mixture."""
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
            "get them with: pip install 'bandsplit[augment]'"
        ) from None


def _stretch(signal: Audio, sample_rate_hz: int, semitones: float, factor: float) -> Audio:
    """Change pitch and tempo: play faster or slower by resampling, then stretch to the wanted length.

    The library can shift pitch too, but is off by up to 30 cents below 200 Hz; this is exact.
    """
    # Phases are random beyond a stretch of 2, hence a seed.
    stretch = _library("python_stretch.Signalsmith").Stretch(0)
    stretch.preset(len(signal), sample_rate_hz)
    # Mirrored edges instead of silence around the excerpt: without them its ends fade.
    margin = stretch.outputLatency()
    edge = round(margin * factor)
    padded = np.pad(signal, ((0, 0), (edge, edge)), mode="symmetric")
    ratio = 2 ** (semitones / 12)
    played = soxr.resample(np.ascontiguousarray(padded.T), sample_rate_hz * ratio, sample_rate_hz).T
    stretch.timeFactor = factor / ratio
    # The library takes the memory as it lies, whatever the strides, and may crash on a view.
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
    # libsndfile's way to name a bit rate; it refuses 1 and LAME takes the nearest rate.
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
    # LAME notes length and delay in the first frame, and the decoder heeds them; at low rates the note has no room.
    start = 0 if len(decoded) == samples else _MP3_DELAY_SAMPLES
    gain = _LAME_GAIN.get(rate, _LAME_GAIN_BELOW)
    return np.divide(decoded[start : start + samples].T, gain, dtype=np.float32, order="C")
