"""Tools the players share: oscillators, envelopes, filters and space.

Signals are float64 arrays ``samples`` or, where said, ``c samples`` with two channels; times are in seconds.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from scipy.signal import butter, oaconvolve, sosfilt

Audio = NDArray[np.floating]
Rng = np.random.Generator

TABLE_SAMPLES = 4096
HOP_SAMPLES = 512


def pitch_hz(pitch: float) -> float:
    """Frequency of a pitch in semitones, 69 being 440 Hz."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def times(length_s: float, rate_hz: int) -> Audio:
    """Sample times from 0 to `length_s`, at least one."""
    return np.arange(max(1, round(length_s * rate_hz))) / rate_hz


def harmonics(f0_hz: float, rate_hz: int) -> Audio:
    """Numbers 1, 2, ... of the harmonics of `f0_hz` that the sampling rate can hold without aliasing."""
    top = int(min(16000.0, 0.45 * rate_hz) / f0_hz)
    return np.arange(1.0, min(max(top, 1), TABLE_SAMPLES // 2 - 1) + 1)


def period(amplitudes: Audio) -> Audio:
    """One period of a tone with these amplitudes of harmonics 1, 2, ..., to be read by `oscillate`."""
    spectrum = np.zeros(TABLE_SAMPLES // 2 + 1, dtype=complex)
    spectrum[1 : len(amplitudes) + 1] = -0.5j * TABLE_SAMPLES * amplitudes
    return np.asarray(fft.irfft(spectrum))


def positions(f0_hz: float, samples: int, rate_hz: int, rng: Rng) -> NDArray[np.int64]:
    """Where a tone of `f0_hz` reads its period at each sample, from a random phase."""
    step = f0_hz / rate_hz * TABLE_SAMPLES
    return (np.arange(samples) * step + rng.uniform(0, TABLE_SAMPLES)).astype(np.int64) & (TABLE_SAMPLES - 1)


def sawtooth(f0_hz: Audio, rate_hz: int) -> Audio:
    """A sawtooth whose frequency is given per sample, its jumps rounded (PolyBLEP) so that it hardly aliases."""
    step = f0_hz / rate_hz
    phase = np.cumsum(step) % 1.0
    wave = 2.0 * phase - 1.0
    after = np.flatnonzero(phase < step)
    late = phase[after] / step[after]
    wave[after] -= 2 * late - late**2 - 1
    before = np.flatnonzero(phase > 1 - step)
    early = (phase[before] - 1) / step[before]
    wave[before] -= early**2 + 2 * early + 1
    return wave


def pluck(f0_hz: float, length_s: float, brightness: float, ring_s: float, rate_hz: int, rng: Rng) -> Audio:
    """A plucked string: a burst of noise that goes round and round, losing its high harmonics first.

    `brightness` (0 to 1) sets the colour of the burst and how long the high harmonics last, `ring_s` the time in
    which the lowest falls by 60 dB.
    Source: Karplus and Strong, "Digital synthesis of plucked-string and drum timbres", 1983; the loop is computed for
    all rounds at once in the frequency domain.
    """
    size = _fast_length(int(np.ceil(rate_hz / f0_hz)))
    n_rounds = int(np.ceil(length_s * f0_hz)) + 2
    number = np.arange(size // 2 + 1)
    f_hz = number * f0_hz
    # Plucked at a fraction of its length, a string lacks the harmonics that have a node there.
    burst = np.sin(np.pi * number * rng.uniform(0.12, 0.3)) * np.exp(2j * np.pi * rng.random(number.size))
    burst *= rng.uniform(0.5, 1.0, number.size) / (1 + f_hz / (300 + 4000 * brightness**2)) ** 1.5
    burst[0] = 0.0
    burst[f_hz > min(16000.0, 0.45 * rate_hz)] = 0.0
    loss = 10 ** (-3 / (ring_s * f0_hz) * (1 + (f_hz / (200 + 2500 * brightness)) ** 1.3))
    rounds = np.cumprod(np.broadcast_to(loss.astype(np.float32), (n_rounds, loss.size)), axis=0)
    string = np.asarray(fft.irfft(rounds * burst.astype(np.complex64), size, axis=-1)).ravel() * size / 4
    # A round has a whole number of samples, one that is quick to transform: read at the speed that is in tune.
    at = np.arange(round(length_s * rate_hz)) * (f0_hz * size / rate_hz)
    return np.interp(at, np.arange(string.size), string)


def _fast_length(samples: int) -> int:
    length = fft.next_fast_len(samples, real=True)
    assert length is not None  # As scipy's stub says it might be.
    return length


def ramps(sound: Audio, attack_s: float, release_s: float, rate_hz: int) -> Audio:
    """The sound with raised-cosine ramps at both ends, so that it starts and stops without a click."""
    shaped = sound.copy()
    for seconds, part in ((attack_s, slice(None)), (release_s, slice(None, None, -1))):
        n = min(round(seconds * rate_hz), sound.shape[-1])
        shaped[..., part][..., :n] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / max(n, 1))
    return shaped


def one_pole(sound: Audio, cutoff_hz: float, rate_hz: int) -> Audio:
    """Low-passed at 6 dB per octave."""
    return np.asarray(sosfilt(_butterworth(1, "low", (round(cutoff_hz),), rate_hz), sound))


def low_pass(sound: Audio, cutoff_hz: float, rate_hz: int) -> Audio:
    """Low-passed at 12 dB per octave."""
    return np.asarray(sosfilt(_butterworth(2, "low", (round(cutoff_hz),), rate_hz), sound))


def high_pass(sound: Audio, cutoff_hz: float, rate_hz: int) -> Audio:
    """High-passed at 12 dB per octave."""
    return np.asarray(sosfilt(_butterworth(2, "high", (round(cutoff_hz),), rate_hz), sound))


def band_pass(sound: Audio, low_hz: float, high_hz: float, rate_hz: int) -> Audio:
    """Band-passed at 12 dB per octave on either side."""
    return np.asarray(sosfilt(_butterworth(2, "band", (round(low_hz), round(high_hz)), rate_hz), sound))


@lru_cache(maxsize=256)
def _butterworth(order: int, kind: str, edges_hz: tuple[int, ...], rate_hz: int) -> NDArray[np.float64]:
    edges = [min(edge, 0.42 * rate_hz + 0.04 * rate_hz * i) for i, edge in enumerate(edges_hz)]
    return np.asarray(butter(order, edges if len(edges) > 1 else edges[0], kind, fs=rate_hz, output="sos"))


def mix_in(track: Audio, sound: Audio, start_s: float, rate_hz: int, pan: float = 0.0) -> None:
    """Add a sound to a track ``c samples`` at a time, at constant power for `pan` from -1 (left) to 1 (right)."""
    start = max(0, round(start_s * rate_hz))
    sound = sound[: max(0, track.shape[1] - start)]
    angle = (pan + 1) * np.pi / 4
    track[0, start : start + sound.size] += np.cos(angle) * sound
    track[1, start : start + sound.size] += np.sin(angle) * sound


def reverb(sound: Audio, decay_s: float, damping_hz: float, rate_hz: int, rng: Rng) -> Audio:
    """The tail of a room, ``c samples``, of a mono sound: decaying noise that differs between the channels.

    `decay_s` is the time in which the tail falls by 60 dB; its energy equals that of the sound, roughly.
    """
    t = times(0.75 * decay_s, rate_hz)  # Down to -45 dB.
    tail = rng.standard_normal((2, t.size)) * 10 ** (-3 * t / decay_s)
    tail = ramps(one_pole(tail, damping_hz, rate_hz), 0.01, 0.05, rate_hz)
    tail /= np.sqrt(np.sum(tail**2, axis=-1, keepdims=True))
    wet = oaconvolve(sound[None].astype(np.float32), tail.astype(np.float32), axes=-1)
    delay = round(rng.uniform(0.005, 0.03) * rate_hz)
    return np.pad(wet, ((0, 0), (delay, 0)))[:, : sound.size]


def chorus(sound: Audio, depth_s: float, speed_hz: float, rate_hz: int) -> Audio:
    """The sound ``c samples`` plus a copy delayed by a time that swings, opposite in the two channels."""
    n = np.arange(sound.shape[1])
    swing = np.sin(2 * np.pi * speed_hz / rate_hz * n)
    delays_s = (0.012 + depth_s * swing, 0.012 - depth_s * swing)
    wet = [np.interp(n - delay_s * rate_hz, n, row) for delay_s, row in zip(delays_s, sound, strict=True)]
    return 0.75 * (sound + np.stack(wet))


def overdrive(sound: Audio, drive: float, cabinet_hz: float, rate_hz: int) -> Audio:
    """A valve amplifier and its loudspeaker: bends what is loud, and passes little above `cabinet_hz`.

    Highs are taken away before, lest their harmonics fold back from beyond half the sampling rate.
    """
    return low_pass(np.tanh(drive * low_pass(sound, 3000, rate_hz)), cabinet_hz, rate_hz)


def tremolo(sound: Audio, speed_hz: float, depth: float, turn: float, rate_hz: int) -> Audio:
    """The sound ``c samples`` swelling and fading; with half a `turn` between the channels it goes to and fro."""
    phase = 2 * np.pi * (speed_hz / rate_hz * np.arange(sound.shape[1]) + np.array([[0.0], [turn]]))
    return sound * (1 - depth * (0.5 + 0.5 * np.sin(phase)))


def echo(sound: Audio, delay_s: float, strength: float, rate_hz: int) -> Audio:
    """The sound ``c samples`` and two duller echoes of it that change sides."""
    wet = sound.copy()
    delay = round(delay_s * rate_hz)
    for k in (1, 2):
        late = one_pole(sound[:: (-1) ** k, : max(0, sound.shape[1] - k * delay)], 3000, rate_hz)
        wet[:, sound.shape[1] - late.shape[1] :] += strength**k * late
    return wet


def mastering_gain(
    mixture: NDArray[np.float32], peaks: NDArray[np.float32], loudness_db: float, ceiling: float, rate_hz: int
) -> NDArray[np.float32]:
    """Gain per sample that makes the loudest third of a song as loud as asked and keeps its peaks below a ceiling.

    A limiter that looks ahead: the gain each peak allows is held for some milliseconds before and after, then
    averaged over no more than that, so that it is smooth and never above what any peak allows. Songs with peaks more
    than 4 dB above the ceiling stay softer instead.

    Args:
        mixture: ``c samples``, whose loudness counts.
        peaks: largest absolute value at each sample that must stay below the ceiling, ``samples``.
        loudness_db: mean power of the loudest third in dB, in pieces of 0.4 s.
        ceiling: what no peak may go beyond.
        rate_hz: sample rate.
    """
    piece = min(round(0.4 * rate_hz), mixture.shape[1])
    pieces = mixture[:, : mixture.shape[1] // piece * piece].reshape(2, -1, piece)
    powers = np.sort(np.mean(np.square(pieces), axis=(0, 2), dtype=np.float64))
    loudest = np.mean(powers[-max(1, powers.size // 3) :])
    wanted = min(10 ** (loudness_db / 20) / np.sqrt(loudest), 10 ** (4 / 20) * ceiling / peaks.max())
    width = round(0.01 * rate_hz) | 1
    allowed = minimum_filter1d(np.minimum(wanted, ceiling / np.maximum(peaks, 1e-9)), 2 * width - 1)
    return uniform_filter1d(allowed.astype(np.float64), width).astype(np.float32)


def filter_by_frames(sound: Audio, respond: Callable[[slice], NDArray[np.complexfloating]]) -> Audio:
    """The sound through a filter that changes every `HOP_SAMPLES`.

    `respond` gives the response ``t f`` at some of the frames (see `frame_count` and `frame_bins_hz`). Frames of two
    hops under a Hann window, each filtered with as much padding, are added up; few at a time: responses are large.
    """
    hop = HOP_SAMPLES
    n_frames = frame_count(sound.size)
    padded = np.zeros((n_frames + 1) * hop, dtype=np.float32)
    padded[hop : hop + sound.size] = sound
    window = (0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop]
    out = np.zeros((n_frames + 3, hop))
    for start in range(0, n_frames, 64):
        some = slice(start, min(start + 64, n_frames))
        spectra = np.asarray(fft.rfft(frames[some] * window, 4 * hop))
        filtered = np.asarray(fft.irfft(spectra * respond(some), 4 * hop))
        for part in range(4):
            out[some.start + part : some.stop + part] += filtered[:, part * hop : (part + 1) * hop]
    return out.ravel()[hop : hop + sound.size]


def frame_count(samples: int) -> int:
    """Number of frames `filter_by_frames` needs for a sound of this length."""
    return -(-samples // HOP_SAMPLES) + 1


def frame_bins_hz(rate_hz: int) -> Audio:
    """Frequencies of the bins of a response for `filter_by_frames`."""
    return np.fft.rfftfreq(4 * HOP_SAMPLES, 1 / rate_hz)
