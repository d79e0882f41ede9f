"""Tools that the players share: oscillators, envelopes, filters, reverb and other effects.

Signals are arrays ``samples`` or, where stated, ``c samples`` with two channels; times are in seconds. Arrays of the
length of a song are float32 and processed block by block, in place where possible: they are expensive to allocate and
to move through the caches. Blocks in which a stem rests are skipped.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from scipy.signal import butter, sosfilt

Signal = NDArray[np.floating]
Rng = np.random.Generator

TABLE_SAMPLES = 4096
HOP_SAMPLES = 512
BLOCK_SAMPLES = 64 * HOP_SAMPLES
# Below this (-160 dB) a voice or the state of a filter is at rest.
NOTHING = 1e-8


def pitch_hz(pitch: float) -> float:
    """Return the frequency of a pitch in semitones; 69 is 440 Hz."""
    return 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)


def times(length_s: float, rate_hz: int) -> Signal:
    """Return the sample times from 0 to `length_s`, at least one."""
    return _numbers(max(1, round(length_s * rate_hz))) / rate_hz


def _numbers(count: int) -> NDArray[np.float64]:
    """Return 0, 1, 2, ... as a view of a cached array."""
    return _kept_numbers(max(16, (count - 1).bit_length()))[:count]


@lru_cache(maxsize=4)
def _kept_numbers(bits: int) -> NDArray[np.float64]:
    numbers = np.arange(float(1 << bits))
    numbers.setflags(write=False)
    return numbers


def blocks(samples: int) -> Iterator[slice]:
    """Yield slices of `BLOCK_SAMPLES` that cover ``samples`` samples; the last one may be shorter."""
    for start in range(0, samples, BLOCK_SAMPLES):
        yield slice(start, min(start + BLOCK_SAMPLES, samples))


def decay(t: Signal, seconds: float) -> NDArray[np.float32]:
    """Return an exponential decay to 1/e in `seconds`, at times `t`; at least exp(-60): denormal numbers are slow."""
    fall = (t / -seconds).astype(np.float32)
    return np.exp(np.maximum(fall, np.float32(-60.0), out=fall), out=fall)


def sine(cycles: Signal) -> NDArray[np.float32]:
    """Return the sine of a phase in cycles, which is wrapped before it is rounded to float32."""
    return np.sin((2 * np.pi * (cycles - np.rint(cycles))).astype(np.float32))


def deviation(track: Signal) -> float:
    """Return the standard deviation over all samples, summed in blocks."""
    total = squares = 0.0
    for row in track:
        for part in blocks(row.size):
            total += float(row[part].sum())
            squares += float(np.square(row[part]).sum())
    return math.sqrt(max(0.0, squares / track.size - (total / track.size) ** 2))


def harmonics(f0_hz: float, rate_hz: int) -> Signal:
    """Return the numbers 1, 2, ... of the harmonics of `f0_hz` that do not alias at the sample rate."""
    top = int(min(16000.0, 0.45 * rate_hz) / f0_hz)
    return np.arange(1.0, min(max(top, 1), TABLE_SAMPLES // 2 - 1) + 1)


def period(amplitudes: Signal) -> NDArray[np.float32]:
    """Return one period of a tone with these amplitudes of harmonics 1, 2, ..., for reading at `positions`."""
    spectrum = np.zeros(TABLE_SAMPLES // 2 + 1, dtype=np.complex64)
    spectrum.imag[1 : len(amplitudes) + 1] = -0.5 * TABLE_SAMPLES * amplitudes
    return np.asarray(fft.irfft(spectrum))


def positions(f0_hz: float, samples: int, rate_hz: int, rng: Rng) -> NDArray[np.int64]:
    """Return the index into the period of a tone of `f0_hz` for each sample, from a random phase."""
    step = f0_hz / rate_hz * TABLE_SAMPLES
    at = _numbers(samples) * step
    at += rng.uniform(0, TABLE_SAMPLES)
    whole = at.astype(np.int64)
    whole &= TABLE_SAMPLES - 1
    return whole


def sawtooth(f0_hz: Signal, rate_hz: int, begin: float = 0.0) -> Signal:
    """Return a sawtooth with a frequency per sample and smoothed jumps (PolyBLEP), so that it hardly aliases.

    `begin` is its phase in cycles just before the first sample.
    """
    step = f0_hz / rate_hz
    phase = np.cumsum(step)
    phase += begin
    phase -= np.floor(phase)
    wave = 2.0 * phase - 1.0
    after = np.flatnonzero(phase < step)
    late = phase[after] / step[after]
    wave[after] -= 2 * late - late**2 - 1
    before = np.flatnonzero(phase > 1 - step)
    early = (phase[before] - 1) / step[before]
    wave[before] -= early**2 + 2 * early + 1
    return wave


def pluck(f0_hz: float, length_s: float, brightness: float, ring_s: float, rate_hz: int, rng: Rng) -> Signal:
    """Return a plucked string: a burst of noise that circulates in a loop and loses its high harmonics first.

    `brightness` (0 to 1) sets the colour of the burst and the decay of the high harmonics, `ring_s` the time in
    which the lowest falls by 60 dB.
    Source: plucked-string paper. This implementation computes all rounds of the loop at once in the frequency domain.
    """
    size = _fast_length(int(np.ceil(rate_hz / f0_hz)))
    n_rounds = int(np.ceil(length_s * f0_hz)) + 2
    number = np.arange(size // 2 + 1)
    f_hz = number * f0_hz
    # A string plucked at a fraction of its length lacks the harmonics that have a node there.
    burst = np.sin(np.pi * number * rng.uniform(0.12, 0.3)) * np.exp(2j * np.pi * rng.random(number.size))
    burst *= rng.uniform(0.5, 1.0, number.size) / (1 + f_hz / (300 + 4000 * brightness**2)) ** 1.5
    burst[0] = 0.0
    burst[f_hz > min(16000.0, 0.45 * rate_hz)] = 0.0
    loss = 10 ** (-3 / (ring_s * f0_hz) * (1 + (f_hz / (200 + 2500 * brightness)) ** 1.3))
    present = int(np.flatnonzero(burst)[-1]) + 1 if burst.any() else 1
    # Computed with logarithms, since products that become denormal numbers are slow.
    fade = np.outer(np.arange(1.0, n_rounds + 1), np.log(loss[:present].astype(np.float32), dtype=np.float64))
    rounds = np.exp(np.maximum(fade, -60.0).astype(np.float32))
    burst = (burst[:present] * (size / 4)).astype(np.complex64)
    string = np.asarray(fft.irfft(rounds * burst, size, axis=-1)).ravel()
    # A round has an integer number of samples that is fast to transform; resampling it brings it in tune.
    return _read(string, _numbers(round(length_s * rate_hz)) * (f0_hz * size / rate_hz))


def _read(sound: Signal, at: NDArray[np.float64]) -> Signal:
    """Return the sound at fractional positions, interpolated linearly."""
    whole = at.astype(np.int64)
    share = (at - whole).astype(np.float32)
    left, rise = sound[whole], np.diff(sound)[whole]
    rise *= share
    left += rise
    return left


def _fast_length(samples: int) -> int:
    length = fft.next_fast_len(samples, real=True)
    assert length is not None  # SciPy's stub allows None.
    return length


def ramps(sound: Signal, attack_s: float, release_s: float, rate_hz: int) -> Signal:
    """Apply raised-cosine ramps to both ends in place, so that the sound starts and stops without a click."""
    for seconds, part in ((attack_s, slice(None)), (release_s, slice(None, None, -1))):
        n = min(round(seconds * rate_hz), sound.shape[-1])
        sound[..., part][..., :n] *= _rise(n)
    return sound


@lru_cache(maxsize=64)
def _rise(samples: int) -> NDArray[np.float64]:
    rise = 0.5 - 0.5 * np.cos(np.pi * np.arange(samples) / max(samples, 1))
    rise.setflags(write=False)
    return rise


def _filtered(sos: NDArray[np.float64], sound: Signal) -> Signal:
    """Filter a sound ``... samples`` block by block; silent blocks are skipped."""
    if sound.ndim == 1 and sound.size <= BLOCK_SAMPLES:
        return np.asarray(sosfilt(sos, sound))
    filtered = np.empty_like(sound)
    for row, out in zip(np.atleast_2d(sound), np.atleast_2d(filtered), strict=True):
        state = np.zeros((len(sos), 2))
        for part in blocks(row.size):
            if not row[part].any() and np.abs(state).max() < 1e-3 * NOTHING:
                out[part], state[:] = 0, 0
            else:
                out[part], state = sosfilt(sos, row[part], zi=state)
    return filtered


def one_pole(sound: Signal, cutoff_hz: float, rate_hz: int) -> Signal:
    """Apply a low-pass of 6 dB per octave."""
    return _filtered(_butterworth(1, "low", (round(cutoff_hz),), rate_hz), sound)


def low_pass(sound: Signal, cutoff_hz: float, rate_hz: int) -> Signal:
    """Apply a low-pass of 12 dB per octave."""
    return _filtered(_butterworth(2, "low", (round(cutoff_hz),), rate_hz), sound)


def high_pass(sound: Signal, cutoff_hz: float, rate_hz: int) -> Signal:
    """Apply a high-pass of 12 dB per octave."""
    return _filtered(_butterworth(2, "high", (round(cutoff_hz),), rate_hz), sound)


def band_pass(sound: Signal, low_hz: float, high_hz: float, rate_hz: int) -> Signal:
    """Apply a band-pass of 12 dB per octave on either side."""
    return _filtered(_butterworth(2, "band", (round(low_hz), round(high_hz)), rate_hz), sound)


@lru_cache(maxsize=256)
def _butterworth(order: int, kind: str, edges_hz: tuple[int, ...], rate_hz: int) -> NDArray[np.float64]:
    edges = [min(edge, 0.42 * rate_hz + 0.04 * rate_hz * i) for i, edge in enumerate(edges_hz)]
    return np.asarray(butter(order, edges if len(edges) > 1 else edges[0], kind, fs=rate_hz, output="sos"))


def mix_in(track: Signal, sound: Signal, start_s: float, rate_hz: int, pan: float = 0.0, gain: float = 1.0) -> None:
    """Add a sound to a track ``c samples`` at a time, at constant power for `pan` from -1 (left) to 1 (right).

    A track with one channel gets the left one.
    """
    start = max(0, round(start_s * rate_hz))
    sound = sound[: max(0, track.shape[1] - start)]
    angle = (pan + 1) * math.pi / 4
    for row, share in zip(track, (math.cos(angle), math.sin(angle)), strict=False):
        row[start : start + sound.size] += float(gain * share) * sound


def reverb(sound: Signal, decay_s: float, damping_hz: float, rate_hz: int, rng: Rng) -> NDArray[np.float32]:
    """Return the reverb tail, ``c samples``, of a mono sound: decaying noise that differs between the channels.

    `decay_s` is the time in which the tail falls by 60 dB; its energy is roughly that of the sound.
    """
    t = times(0.75 * decay_s, rate_hz)  # Down to -45 dB.
    tail = rng.standard_normal((2, t.size)) * 10 ** (-3 * t / decay_s)
    tail = ramps(one_pole(tail, damping_hz, rate_hz), 0.01, 0.05, rate_hz)
    tail /= np.sqrt(np.sum(tail**2, axis=-1, keepdims=True))
    delay = round(rng.uniform(0.005, 0.03) * rate_hz)
    # Convolve piece by piece (overlap-add).
    size = 1 << (3 * t.size).bit_length()
    hop = size - t.size + 1
    response = np.asarray(fft.rfft(tail.astype(np.float32), size))
    wet = np.zeros((2, sound.size), dtype=np.float32)
    for start in range(0, sound.size - delay, hop):
        piece = sound[start : start + hop]
        if piece.any():
            late = np.asarray(fft.irfft(response * fft.rfft(piece.astype(np.float32), size), size))
            place = wet[:, start + delay : start + delay + size]
            place += late[:, : place.shape[1]]
    return wet


def chorus(sound: Signal, depth_s: float, speed_hz: float, rate_hz: int) -> Signal:
    """Add a copy with an oscillating delay to a sound ``c samples``, with opposite phase in the two channels."""
    longest = math.ceil((0.012 + depth_s) * rate_hz) + 1
    swing = _swing(speed_hz, rate_hz)
    both = np.zeros_like(sound)
    for part in blocks(sound.shape[1]):
        first = part.start - longest
        source = sound[:, max(0, first) : part.stop]
        if not source.any():
            continue
        if first < 0:
            source = np.pad(source, ((0, 0), (-first, 0)))
        at = _numbers(part.stop - part.start) + (longest - 0.012 * rate_hz)
        bend = depth_s * rate_hz * swing(part)
        for row, out, place in zip(source, both[:, part], (at - bend, at + bend), strict=True):
            out += _read(row, place)
            out += row[longest:]
            out *= 0.75
    return both


def _swing(speed_hz: float, rate_hz: int) -> Callable[..., Signal]:
    """Return a function that gives a low-frequency sine in any block, by addition theorems; `turn` is in cycles."""
    angle = 2 * np.pi * speed_hz / rate_hz * np.arange(BLOCK_SAMPLES)
    sines, cosines = np.sin(angle), np.cos(angle)

    def swing(part: slice, turn: float = 0.0) -> Signal:
        begin = 2 * np.pi * (speed_hz / rate_hz * part.start + turn)
        n = part.stop - part.start
        return math.sin(begin) * cosines[:n] + math.cos(begin) * sines[:n]

    return swing


def overdrive(sound: Signal, drive: float, cabinet_hz: float, rate_hz: int) -> Signal:
    """Simulate a valve amplifier, which distorts loud passages, and its loudspeaker, a low-pass at `cabinet_hz`.

    High frequencies are filtered first so that their harmonics do not alias.
    """
    return low_pass(bend(low_pass(sound, 3000, rate_hz), drive), cabinet_hz, rate_hz)


def bend(sound: Signal, drive: float) -> Signal:
    """Saturate a sound ``c samples`` in place: louder passages are compressed more."""
    for row in sound:
        for part in blocks(row.size):
            row[part] *= drive
            np.tanh(row[part], out=row[part])
    return sound


def tremolo(sound: Signal, speed_hz: float, depth: float, turn: float, rate_hz: int) -> Signal:
    """Modulate the level of a sound ``c samples`` in place; with a `turn` of 0.5 it moves between the channels."""
    swing = _swing(speed_hz, rate_hz)
    for part in blocks(sound.shape[1]):
        if sound[:, part].any():
            sound[0, part] *= 1 - depth * (0.5 + 0.5 * swing(part))
            sound[1, part] *= 1 - depth * (0.5 + 0.5 * swing(part, turn))
    return sound


def echo(sound: Signal, delay_s: float, strength: float, rate_hz: int) -> Signal:
    """Add two duller echoes that alternate sides to a sound ``c samples``."""
    wet = sound.copy()
    delay = round(delay_s * rate_hz)
    for k in (1, 2):
        late = one_pole(sound[:: (-1) ** k, : max(0, sound.shape[1] - k * delay)], 3000, rate_hz)
        late *= strength**k
        wet[:, sound.shape[1] - late.shape[1] :] += late
    return wet


def mastering_gain(
    mixture: NDArray[np.float32], peaks: NDArray[np.float32], loudness_db: float, ceiling: float, rate_hz: int
) -> NDArray[np.float32]:
    """Return the gain per sample that sets the loudness of the loudest third of a song and limits its peaks.

    The limiter looks ahead: the gain that each peak allows is held for some milliseconds before and after the peak,
    then averaged over no more than that, so that it is smooth and never above what any peak allows. Songs with peaks
    more than 4 dB above the ceiling stay softer instead.

    Args:
        mixture: signal ``c samples`` whose loudness is measured.
        peaks: largest absolute value at each sample that must stay below the ceiling, ``samples``.
        loudness_db: target of the mean power of the loudest third in dB, in pieces of 0.4 s.
        ceiling: largest absolute value allowed.
        rate_hz: sample rate.
    """
    piece = min(round(0.4 * rate_hz), mixture.shape[1])
    pieces = mixture[:, : mixture.shape[1] // piece * piece].reshape(2, -1, piece)
    powers = np.sort(np.einsum("cps,cps->cp", pieces, pieces).mean(axis=0, dtype=np.float64)) / piece
    loudest = np.mean(powers[-max(1, powers.size // 3) :])
    wanted = min(10 ** (loudness_db / 20) / np.sqrt(loudest), 10 ** (4 / 20) * ceiling / peaks.max())
    width = round(0.01 * rate_hz) | 1
    allowed = np.maximum(peaks, 1e-9)
    np.minimum(wanted, np.divide(ceiling, allowed, out=allowed), out=allowed)
    return np.asarray(uniform_filter1d(minimum_filter1d(allowed, 2 * width - 1), width), dtype=np.float32)


def filter_by_frames(sound: Signal, respond: Callable[[slice], NDArray[np.complexfloating]]) -> Signal:
    """Apply a filter that changes every `HOP_SAMPLES`.

    `respond` returns the response ``t f`` of a slice of the frames (see `frame_count` and `frame_bins_hz`). Frames of
    two hops under a Hann window are filtered with padding of the same length and overlap-added; few frames at a time,
    because responses are large. `respond` is not called for silent frames.
    """
    hop = HOP_SAMPLES
    n_frames = frame_count(sound.size)
    padded = np.zeros((n_frames + 1) * hop, dtype=np.float32)
    padded[hop : hop + sound.size] = sound
    window = (0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop]
    out = np.zeros((n_frames + 3, hop), dtype=np.float32)
    for start in range(0, n_frames, 64):
        some = slice(start, min(start + 64, n_frames))
        if not padded[some.start * hop : (some.stop + 1) * hop].any():
            continue
        spectra = np.asarray(fft.rfft(frames[some] * window, 4 * hop))
        spectra *= respond(some)
        filtered = np.asarray(fft.irfft(spectra, 4 * hop))
        for part in range(4):
            out[some.start + part : some.stop + part] += filtered[:, part * hop : (part + 1) * hop]
    return out.ravel()[hop : hop + sound.size]


def frame_count(samples: int) -> int:
    """Return the number of frames that `filter_by_frames` needs for a sound of this length."""
    return -(-samples // HOP_SAMPLES) + 1


def frame_bins_hz(rate_hz: int) -> Signal:
    """Return the frequencies of the bins of a response for `filter_by_frames`."""
    return np.fft.rfftfreq(4 * HOP_SAMPLES, 1 / rate_hz)
