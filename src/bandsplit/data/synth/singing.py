"""The singer: a voice made of a glottal source, vowels that glide into one another, consonants and breath."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.signal import filtfilt

from bandsplit.data.synth.composition import Composition, Note, melody, played
from bandsplit.data.synth.sound import (
    HOP_SAMPLES,
    NOTHING,
    Rng,
    Signal,
    band_pass,
    blocks,
    decay,
    filter_by_frames,
    frame_bins_hz,
    frame_count,
    mix_in,
    pitch_hz,
    ramps,
    reverb,
    sawtooth,
    times,
)

# First three formants in hertz of a man's vowels and hummed sounds; higher ones depend on the singer, not the vowel.
# Source of the vowels: Peterson and Barney, "Control methods used in a study of the vowels", 1952.
FORMANTS_HZ = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (280, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (310, 870, 2240),
    "m": (250, 1050, 2200),
    "n": (280, 1500, 2500),
    "l": (370, 1150, 2700),
}
VOWELS = ("a", "a", "a", "e", "e", "i", "o", "o", "u")
# Noise of unvoiced consonants: band in hertz, length in seconds, strength.
NOISES = {
    "s": (5000, 10500, 0.10, 0.5),
    "sh": (2300, 6500, 0.10, 0.55),
    "f": (2500, 11000, 0.07, 0.2),
    "t": (3200, 9000, 0.035, 0.7),
    "k": (1400, 4200, 0.035, 0.6),
    "p": (500, 2500, 0.025, 0.5),
}
CONSONANTS = ("", "", "m", "n", "l", "l", "s", "s", "sh", "f", "t", "t", "k", "k", "p")


@dataclass(frozen=True)
class Singer:
    """A voice: its range in semitones (69 is 440 Hz) and its characteristics."""

    lowest: float
    highest: float
    formant_scale: float
    """Formants relative to a man's: a shorter vocal tract has higher ones."""
    tilt_hz: float
    """Frequency above which the source falls by a further 6 dB per octave; low for soft voices."""
    presence: float
    """Gain above about 3 kHz, minus one: recordings brighten voices for intelligibility."""
    breath: float
    vibrato_hz: float
    vibrato: float
    """Depth in semitones."""
    glide_s: float
    diction: float
    """Strength of the consonants."""


def draw_singer(rng: Rng) -> Singer:
    """Draw a random singer, from baritone to soprano."""
    lowest, scale = ((43, 0.97), (47, 1.03), (52, 1.13), (55, 1.18))[rng.integers(4)]
    return Singer(
        lowest=lowest + rng.integers(0, 3),
        highest=lowest + rng.integers(14, 18),
        formant_scale=scale * rng.uniform(0.96, 1.04),
        tilt_hz=rng.uniform(6000, 18000),
        presence=rng.uniform(0.5, 1.5),
        breath=rng.uniform(0.012, 0.06),
        vibrato_hz=rng.uniform(4.8, 6.6),
        vibrato=rng.uniform(0.25, 0.7),
        glide_s=rng.uniform(0.02, 0.06),
        diction=rng.uniform(0.9, 2.0),
    )


def play_vocals(plan: Composition, samples: int, rate_hz: int, rng: Rng) -> Signal:
    """Sing a song, ``c samples``: one voice in the centre, in some songs doubled at one side, with reverb."""
    singer = draw_singer(rng)
    notes = played(plan, "vocals", melody(plan, rng, singer.lowest, singer.highest), rng)
    words = [(str(rng.choice(CONSONANTS)), str(rng.choice(VOWELS))) for _ in notes]
    track = np.zeros((2, samples), dtype=np.float32)
    lead = sing(singer, notes, words, samples, rate_hz, rng)
    mix_in(track, lead, 0.0, rate_hz, rng.uniform(-0.08, 0.08))
    if rng.random() < 0.35:
        side = rng.uniform(0.4, 0.9) * rng.choice([-1, 1])
        late = [replace(note, start_s=note.start_s + abs(rng.normal(0, 0.015))) for note in notes]
        double = sing(singer, late, words, samples, rate_hz, rng)
        mix_in(track, double, 0.0, rate_hz, side, rng.uniform(0.3, 0.6))
    room = reverb(lead, rng.uniform(0.5, 1.4), rng.uniform(3000, 7000), rate_hz, rng)
    room *= rng.uniform(0.02, 0.07)
    track += room
    return track


def sing(
    singer: Singer, notes: list[Note], words: list[tuple[str, str]], samples: int, rate_hz: int, rng: Rng
) -> Signal:
    """Sing notes with one voice, each with a consonant and a vowel, ``samples``."""
    score = _Performance(singer, notes, words, samples, rate_hz, rng)
    begins = score.cycles(rate_hz)
    source = np.zeros(samples, dtype=np.float32)
    for part in blocks(samples):
        noise = rng.standard_normal(part.stop - part.start)
        first, last = part.start // HOP_SAMPLES, -(-part.stop // HOP_SAMPLES)
        pitch, loudness, breath = (
            _between(values[first : last + 1])[: noise.size] for values in (score.pitch, score.loudness, score.breath)
        )
        if max(loudness.max(), breath.max()) > NOTHING:
            f0_hz = 440.0 * np.exp2((pitch - 69) / 12)
            source[part] = loudness * sawtooth(f0_hz, rate_hz, float(begins[first])) + breath * noise
    voice = filter_by_frames(source, _vocal_tract(singer, score, rate_hz))
    _add_consonants(voice[None], singer, notes, words, rate_hz, rng)
    return voice


def _between(values: Signal) -> Signal:
    """Interpolate values given once per `HOP_SAMPLES` for every sample up to the last value."""
    return (np.diff(values)[:, None] * (np.arange(HOP_SAMPLES) / HOP_SAMPLES) + values[:-1, None]).ravel()


class _Performance:
    """Parameters of the voice over time, one value per `HOP_SAMPLES`: pitch, loudness, breath, three formants."""

    def __init__(
        self,
        singer: Singer,
        notes: list[Note],
        words: list[tuple[str, str]],
        samples: int,
        rate_hz: int,
        rng: Rng,
    ) -> None:
        n_frames = frame_count(samples)
        frame_s = HOP_SAMPLES / rate_hz
        time_s = np.arange(n_frames) * frame_s
        self.pitch = np.full(n_frames, notes[0].pitch if notes else 60.0)
        self.formants_hz = np.tile(np.array(FORMANTS_HZ["e"], dtype=float), (n_frames, 1))
        self.loudness = np.zeros(n_frames)
        self.breath = np.zeros(n_frames)
        vibrato = np.zeros(n_frames)
        end_s = -1.0
        for note, (consonant, vowel) in zip(notes, words, strict=True):
            start, stop = (round(s / frame_s) for s in (note.start_s, note.start_s + note.length_s))
            body = slice(start, stop)
            self.pitch[start:] = note.pitch
            self.formants_hz[start:] = FORMANTS_HZ[vowel]
            self.loudness[body] = note.velocity * np.exp(-0.25 * (time_s[body] - note.start_s))
            vibrato[body] = np.clip((time_s[body] - note.start_s - 0.18) / 0.3, 0, 1)
            if consonant in FORMANTS_HZ:
                hum = slice(start, start + round(rng.uniform(0.05, 0.1) / frame_s))
                self.formants_hz[hum] = FORMANTS_HZ[consonant]
                self.loudness[hum] *= 0.45
            elif consonant:
                self.loudness[max(0, start - round(NOISES[consonant][2] / frame_s)) : start] = 0.0
            if note.start_s - end_s > 0.35:  # Breathe in before a phrase.
                inhale = slice(max(0, start - round(0.35 / frame_s)), max(0, start - round(0.08 / frame_s)))
                self.breath[inhale] += 0.012 + singer.breath
            end_s = note.start_s + note.length_s
        self.pitch = _smooth(self.pitch, singer.glide_s / frame_s)
        wobble = np.sin(2 * np.pi * singer.vibrato_hz * time_s + _smooth(rng.normal(0, 2.0, n_frames), 20))
        self.pitch += singer.vibrato * _smooth(vibrato, 6) * wobble + 0.5 * _smooth(rng.normal(0, 0.3, n_frames), 3)
        shimmer = 1 + 0.5 * _smooth(rng.normal(0, 0.4, n_frames), 4)
        self.loudness = _smooth(self.loudness, 0.016 / frame_s) * shimmer
        self.breath = _smooth(self.breath, 0.03 / frame_s) + singer.breath * self.loudness
        self.formants_hz = _smooth(self.formants_hz, 0.03 / frame_s) * singer.formant_scale

    def cycles(self, rate_hz: int) -> NDArray[np.float64]:
        """Return the phase in cycles at each frame's start: pitch is linear in a frame, so steps sum geometrically."""
        f0_hz = 440.0 * np.exp2((self.pitch[:-1] - 69) / 12)
        growth = np.diff(self.pitch) * (np.log(2) / 12 / HOP_SAMPLES)
        growth = np.where(np.abs(growth) < 1e-14, 1e-14, growth)
        steps = f0_hz / rate_hz * np.expm1(HOP_SAMPLES * growth) / np.expm1(growth)
        return np.concatenate([[0.0], np.cumsum(steps)]) % 1.0


def _smooth(values: Signal, frames: float) -> Signal:
    """Smooth values forwards and backwards over about `frames`, which removes jumps without a delay."""
    keep = np.exp(-1.0 / max(frames, 0.3))
    return filtfilt([1 - keep], [1, -keep], values, axis=0, padlen=0)


def _vocal_tract(singer: Singer, score: _Performance, rate_hz: int) -> Callable[[slice], NDArray[np.complex64]]:
    """Return a function of frames: the response ``t f`` of the vocal tract, a cascade of resonances of equal loudness.

    The source (-12 dB per octave) and the radiation from the lips (+6) are in the sawtooth; a tube has a resonance
    about every kilohertz, and without all of them the spectrum would fall too steeply.
    """
    f_hz = frame_bins_hz(rate_hz).astype(np.float32)
    upper = np.arange(3500, 0.5 * rate_hz, 1000) * singer.formant_scale
    fixed = np.where(f_hz < 60, 0, 1 / (1 + 1j * f_hz / singer.tilt_hz))
    fixed = fixed * (1 + singer.presence * 1j * f_hz / (3500 + 1j * f_hz))
    for formant_hz in upper:
        fixed = fixed * formant_hz**2 / (formant_hz**2 - f_hz**2 + 1j * f_hz * (100 + 0.04 * formant_hz))
    low = slice(1, int(np.searchsorted(f_hz, 4000)))
    f0_hz = pitch_hz(0.0) * np.exp2(score.pitch / 12)
    formants_hz = score.formants_hz.copy()
    # A singer opens the mouth so that the first formant is not below the note.
    formants_hz[:, 0] = np.maximum(formants_hz[:, 0], 1.05 * f0_hz)

    passed, squared_hz = fixed.astype(np.complex64), f_hz**2

    def respond(frames: slice) -> NDArray[np.complex64]:
        resonances = np.ones((frames.stop - frames.start, f_hz.size), dtype=np.complex64)
        one = np.empty_like(resonances)
        for formant_hz in formants_hz[frames].T[:, :, None].astype(np.float32):
            np.subtract(1, squared_hz / formant_hz**2, out=one.real)
            np.multiply(f_hz, (50 + 0.035 * formant_hz) / formant_hz**2, out=one.imag)
            resonances *= one
        response = np.divide(passed, resonances, out=one)
        energy = np.square(np.abs(response[:, low]) / f_hz[low]).sum(1, keepdims=True)
        response *= 0.02 / np.sqrt(energy)
        return response

    return respond


def _add_consonants(
    track: Signal, singer: Singer, notes: list[Note], words: list[tuple[str, str]], rate_hz: int, rng: Rng
) -> None:
    """Add the noises of the unvoiced consonants, each just before its note, to a track of one channel."""
    for note, (consonant, _) in zip(notes, words, strict=True):
        if consonant not in NOISES:
            continue
        low_hz, high_hz, length_s, strength = NOISES[consonant]
        length_s *= rng.uniform(0.8, 1.3)
        t = times(length_s, rate_hz)
        shape = 1.0 if length_s > 0.05 else 0.3 + decay(t, 0.006)
        noise = band_pass(rng.standard_normal(t.size), low_hz, high_hz, rate_hz) * shape
        attack_s, release_s = (0.03, 0.03) if length_s > 0.05 else (0.001, 0.015)
        level = 0.5 * singer.diction * strength * (0.5 + 0.5 * note.velocity) * rng.uniform(0.7, 1.3)
        mix_in(track, ramps(noise, attack_s, release_s, rate_hz), note.start_s - length_s, rate_hz, -1.0, level)
