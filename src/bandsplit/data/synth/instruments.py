"""The bass player and the players of chords and arpeggios."""

from collections.abc import Callable
from functools import partial

import numpy as np

from bandsplit.data.synth.composition import Composition, Note, arpeggio_part, bass_line, chord_part, played
from bandsplit.data.synth.sound import (
    Rng,
    Signal,
    bend,
    chorus,
    decay,
    deviation,
    echo,
    harmonics,
    high_pass,
    low_pass,
    mix_in,
    one_pole,
    overdrive,
    period,
    pitch_hz,
    pluck,
    positions,
    ramps,
    reverb,
    sine,
    times,
    tremolo,
)

Voice = Callable[[Note, int, Rng], Signal]
"""Function that makes the sound of one note at a sample rate."""


def play_bass(plan: Composition, samples: int, rate_hz: int, rng: Rng) -> Signal:
    """Play the bass of a song, ``c samples``: one instrument in the centre."""
    voice = draw_bass(rng)
    mono = np.zeros((1, samples), dtype=np.float32)
    for note in played(plan, "bass", bass_line(plan, rng), rng):
        mix_in(mono, voice(note, rate_hz, rng), note.start_s, rate_hz, gain=note.velocity)
    drive = rng.uniform(0.5, 1.5)
    mono = high_pass(bend(low_pass(mono, rng.uniform(700, 2000), rate_hz), drive), 28, rate_hz)
    return np.repeat(mono, 2, axis=0)


def draw_bass(rng: Rng) -> Voice:
    """Draw a random bass: finger-plucked, slapped, sub, filtered sawtooth or square."""
    kind = rng.choice(["finger", "slap", "sub", "saw", "square"], p=[0.28, 0.12, 0.28, 0.27, 0.05])
    if kind == "finger":
        return partial(_string_bass, brightness=rng.uniform(0.15, 0.4), ring_s=rng.uniform(1.2, 3), pop=0.0)
    if kind == "slap":
        return partial(_string_bass, brightness=rng.uniform(0.5, 0.8), ring_s=rng.uniform(0.8, 2), pop=0.5)
    if kind == "sub":
        return partial(_sub_bass, drive=rng.uniform(1.0, 3.0), decay_s=rng.uniform(0.25, 0.9))
    return partial(
        _synth,
        odd=bool(kind == "square"),
        voices=1,
        spread=0.0,
        dark_hz=rng.uniform(120, 350),
        bright_hz=rng.uniform(600, 2200),
        sweep_s=rng.uniform(0.08, 0.5),
        attack_s=0.004,
        release_s=0.03,
    )


def _string_bass(note: Note, rate_hz: int, rng: Rng, brightness: float, ring_s: float, pop: float) -> Signal:
    bright = brightness * (0.6 + 0.4 * note.velocity)
    string = pluck(pitch_hz(note.pitch), note.length_s, bright, ring_s, rate_hz, rng)
    # The body boosts the fundamental, which in a burst of noise is no stronger than any other harmonic.
    string = string + 3.0 * one_pole(string, 130, rate_hz)
    if pop:
        t = times(0.03, rate_hz)
        string[: t.size] += (
            pop * high_pass(rng.standard_normal(t.size) * np.exp(-t / 0.005), 900, rate_hz)[: string.size]
        )
    return ramps(string, 0.002, 0.03, rate_hz)


def _sub_bass(note: Note, rate_hz: int, rng: Rng, drive: float, decay_s: float) -> Signal:
    t = times(note.length_s, rate_hz)
    f0_hz = pitch_hz(note.pitch) * (1 + 0.6 * np.exp(-t / 0.01))
    tone = sine(np.cumsum(f0_hz) / rate_hz + rng.uniform(-0.2, 0.2) / (2 * np.pi))
    return ramps(np.tanh(drive * (tone + 0.15 * tone**2)) * decay(t, decay_s) / drive**0.5, 0.006, 0.04, rate_hz)


def play_other(plan: Composition, samples: int, rate_hz: int, rng: Rng) -> Signal:
    """Play the accompaniment of a song, ``c samples``: chords and in a quarter of songs a second layer, wide in stereo.

    As in most mixes, the centre is left to voice, bass and drums: layers are played twice, once for each side, or
    placed on one side, the second layer opposite the first.
    """
    side = rng.uniform(0.5, 0.9) * rng.choice([-1, 1])
    track = _chords(plan, samples, rate_hz, rng, side)
    if rng.random() < 0.25:
        level = rng.uniform(0.3, 0.6)
        second = _arpeggio(plan, samples, rate_hz, rng, -side)
        second *= level
        track += second
    room = reverb(track.sum(0), rng.uniform(0.4, 1.4), rng.uniform(2500, 7000), rate_hz, rng)
    room *= rng.uniform(0.01, 0.06)
    track += room
    return high_pass(track, 80, rate_hz)


def _chords(plan: Composition, samples: int, rate_hz: int, rng: Rng, side: float) -> Signal:
    kind = str(rng.choice(["pad", "organ", "electric piano", "guitar"], p=[0.1, 0.1, 0.4, 0.4]))
    sustained = kind in ("pad", "organ")
    strum_s = {"guitar": rng.uniform(0.008, 0.025)}.get(kind, 0.002)
    part = chord_part(plan, rng, sustained and rng.random() < 0.7, strum_s)
    return _layer(plan, part, kind, samples, rate_hz, rng, side)


def _arpeggio(plan: Composition, samples: int, rate_hz: int, rng: Rng, side: float) -> Signal:
    kind = str(rng.choice(["guitar", "electric piano", "synth pluck", "bell"]))
    return _layer(plan, arpeggio_part(plan, rng), kind, samples, rate_hz, rng, side)


def _layer(plan: Composition, part: list[Note], kind: str, samples: int, rate_hz: int, rng: Rng, side: float) -> Signal:
    """Play one instrument on one or both sides of the stereo image, with a standard deviation of 1."""
    voice = _draw_voice(kind, rng)
    track = np.zeros((2, samples), dtype=np.float32)
    takes = (side, -side) if rng.random() < 0.6 else (side,)
    for pan in takes:
        for note in played(plan, "other", part, rng):
            mix_in(track, voice(note, rate_hz, rng), note.start_s, rate_hz, pan, note.velocity**1.3)
    track /= deviation(track) + 1e-9
    effects = {"guitar": (overdrive, tremolo, echo, None), "electric piano": (tremolo, tremolo, None)}
    possible = effects.get(kind, (None,))
    effect = possible[rng.integers(len(possible))]
    if effect is overdrive:
        track = overdrive(track, rng.uniform(0.8, 3.0), rng.uniform(2500, 5000), rate_hz)
    elif effect is tremolo:
        track = tremolo(track, rng.uniform(3.5, 7), rng.uniform(0.2, 0.6), float(rng.choice([0, 0.5])), rate_hz)
    elif effect is echo:
        track = echo(track, float(rng.choice([0.5, 0.75])) * plan.beat_s, rng.uniform(0.1, 0.3), rate_hz)
    if rng.random() < 0.6:
        track = chorus(track, rng.uniform(0.0005, 0.003), rng.uniform(0.2, 1.2), rate_hz)
    track /= deviation(track) + 1e-9
    return track


def _draw_voice(kind: str, rng: Rng) -> Voice:
    if kind == "guitar":
        return partial(_guitar, brightness=rng.uniform(0.3, 0.85), ring_s=rng.uniform(0.7, 2.0))
    if kind == "organ":
        drawbars = rng.uniform(0.0, 1.0, 8) * np.array([0.6, 1, 0.9, 0.7, 0.4, 0.5, 0.3, 0.4])
        return partial(_organ, drawbars=drawbars, tremolo_hz=rng.uniform(5, 7), depth=rng.uniform(0, 0.25))
    if kind in ("electric piano", "bell"):
        ratio = float(rng.choice([1.0, 2.0, 14.0] if kind == "electric piano" else [1.41, 3.5, 2.76]))
        index = rng.uniform(0.6, 2.0) if ratio < 10 else rng.uniform(0.15, 0.5)
        return partial(_fm, ratio=ratio, index=index, decay_s=rng.uniform(0.3, 0.8))
    plucked = kind == "synth pluck"
    return partial(
        _synth,
        odd=bool(rng.random() < 0.25),
        voices=2 if plucked else 3,
        spread=rng.uniform(0.04, 0.14),
        dark_hz=rng.uniform(200, 500) if plucked else rng.uniform(400, 900),
        bright_hz=rng.uniform(2500, 6000) if plucked else rng.uniform(1000, 3000),
        sweep_s=rng.uniform(0.06, 0.25) if plucked else rng.uniform(0.3, 1.5),
        attack_s=0.003 if plucked else rng.uniform(0.03, 0.2),
        release_s=0.05 if plucked else 0.2,
    )


def _guitar(note: Note, rate_hz: int, rng: Rng, brightness: float, ring_s: float) -> Signal:
    # The string rings briefly after the note.
    return ramps(
        pluck(pitch_hz(note.pitch), note.length_s + 0.1, brightness, ring_s, rate_hz, rng), 0.0015, 0.1, rate_hz
    )


def _organ(note: Note, rate_hz: int, rng: Rng, drawbars: Signal, tremolo_hz: float, depth: float) -> Signal:
    f0_hz = pitch_hz(note.pitch - 12)
    amplitudes = np.zeros(16)
    amplitudes[[0, 1, 2, 3, 5, 7, 9, 15]] = drawbars
    n = times(note.length_s + 0.04, rate_hz)
    wave = period(amplitudes)[positions(f0_hz, n.size, rate_hz, rng)]
    wave *= 1 + np.float32(depth) * sine(tremolo_hz * (n + note.start_s))
    return ramps(wave, 0.008, 0.04, rate_hz)


def _fm(note: Note, rate_hz: int, rng: Rng, ratio: float, index: float, decay_s: float) -> Signal:
    """Modulate a sine by another, with a decaying index: a harder stroke is brighter."""
    t = times(note.length_s + 0.15, rate_hz).astype(np.float32)
    turn = 2 * np.pi * pitch_hz(note.pitch) * t
    bend = (
        index
        * note.velocity
        * np.exp(-t / ((0.4 if ratio < 10 else 0.1) * decay_s))
        * np.sin(ratio * turn + rng.uniform(0, 6))
    )
    return ramps(np.sin(turn + bend) * np.exp(-t / decay_s), 0.003, 0.15, rate_hz)


def _synth(
    note: Note,
    rate_hz: int,
    rng: Rng,
    odd: bool,
    voices: int,
    spread: float,
    dark_hz: float,
    bright_hz: float,
    sweep_s: float,
    attack_s: float,
    release_s: float,
) -> Signal:
    """Make detuned sawtooth or (`odd`) square waves whose low-pass falls from `bright_hz` to `dark_hz`."""
    f0_hz = pitch_hz(note.pitch)
    number = harmonics(f0_hz, rate_hz)
    amplitudes = (number % 2 if odd else 1.0) / number
    dark, bright = (
        period(amplitudes / (1 + (number * f0_hz / (cutoff_hz * (0.5 + note.velocity))) ** 2))
        for cutoff_hz in (dark_hz, bright_hz)
    )
    t = times(note.length_s + release_s, rate_hz)
    # One complex table holds both: the real part stays, the imaginary part decays.
    table = (dark + 1j * (bright - dark)).astype(np.complex64)
    sound = np.zeros(t.size, dtype=np.complex64)
    for k in range(voices):
        detune = spread * (k - (voices - 1) / 2) + rng.normal(0, 0.01)
        at = positions(f0_hz * 2 ** (detune / 12), t.size, rate_hz, rng)
        sound += table[at]
    return ramps(sound.real + decay(t, sweep_s) * sound.imag, attack_s, release_s, rate_hz)
