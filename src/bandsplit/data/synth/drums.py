"""The drummer: grooves with fills, and kits whose pieces are synthesised again for every stroke."""

from dataclasses import dataclass

import numpy as np

from bandsplit.data.synth.composition import Composition
from bandsplit.data.synth.sound import (
    Rng,
    Signal,
    band_pass,
    bend,
    decay,
    high_pass,
    mix_in,
    one_pole,
    ramps,
    reverb,
    sine,
    times,
)

# Sixteenths of a bar for kick, snare and hat: x loud, o medium, g ghost, - open hat.
GROOVES = (
    ("x.....x.x.......", "....x.......x...", "x.o.x.o.x.o.x.o."),
    ("x...x...x...x...", "....x.......x...", "..-...-...-...-."),
    ("x.....x....x....", "........x.......", "x.o.x.o.x.o.x.-."),
    ("x..o..x...x..o..", "....x..g.g..x..g", "xgogxgogxgogxgog"),
    ("x......xx.x.....", "....x.......x..g", "x.o.x.o.x.o.x.o."),
    ("x.x.......xx....", "....x..g.g..x...", "x.x.x.x.x.x.x.-."),
    ("x...x...x...x...", "x...x...x...x...", "x.o.x.o.x.o.x.o."),
    ("x.........x.....", "....x.......x...", "xooxoo.xooxoox.."),
)
VELOCITY = {"x": 0.95, "o": 0.65, "g": 0.28, "-": 0.8}
# Ranges of the parameters of a kit, by kind of kit; see `Kit`.
KITS = {
    "acoustic": {
        "kick_hz": (48, 66), "kick_sweep": (2, 4), "kick_decay_s": (0.06, 0.12), "kick_click": (0.2, 0.6),
        "snare_hz": (160, 250), "snare_decay_s": (0.05, 0.1), "snare_noise": (0.7, 1.4), "snare_low_hz": (180, 500),
        "snare_high_hz": (4500, 8000), "metal_share": (0.1, 0.5), "hat_low_hz": (4500, 7500),
        "hat_decay_s": (0.014, 0.03), "tom_hz": (75, 115), "crash_decay_s": (0.3, 0.5), "dark_hz": (14000, 16000),
    },
    "electronic": {
        "kick_hz": (42, 54), "kick_sweep": (2, 5), "kick_decay_s": (0.12, 0.24), "kick_click": (0.05, 0.2),
        "snare_hz": (170, 220), "snare_decay_s": (0.04, 0.09), "snare_noise": (0.5, 1.0), "snare_low_hz": (500, 1000),
        "snare_high_hz": (5000, 8000), "metal_share": (0.7, 1.1), "hat_low_hz": (6000, 8000),
        "hat_decay_s": (0.01, 0.022), "tom_hz": (80, 110), "crash_decay_s": (0.3, 0.5), "dark_hz": (14000, 16000),
    },
    "tight": {
        "kick_hz": (52, 66), "kick_sweep": (4, 8), "kick_decay_s": (0.04, 0.07), "kick_click": (0.3, 0.7),
        "snare_hz": (200, 280), "snare_decay_s": (0.03, 0.05), "snare_noise": (0.6, 1.2), "snare_low_hz": (300, 700),
        "snare_high_hz": (5000, 8000), "metal_share": (0.2, 0.8), "hat_low_hz": (5500, 8000),
        "hat_decay_s": (0.009, 0.016), "tom_hz": (90, 120), "crash_decay_s": (0.2, 0.3), "dark_hz": (14000, 16000),
    },
    "lo-fi": {
        "kick_hz": (50, 62), "kick_sweep": (1.5, 3), "kick_decay_s": (0.07, 0.14), "kick_click": (0.1, 0.3),
        "snare_hz": (140, 200), "snare_decay_s": (0.06, 0.1), "snare_noise": (0.7, 1.2), "snare_low_hz": (180, 400),
        "snare_high_hz": (2500, 4500), "metal_share": (0.1, 0.4), "hat_low_hz": (3500, 5000),
        "hat_decay_s": (0.014, 0.028), "tom_hz": (75, 100), "crash_decay_s": (0.25, 0.4), "dark_hz": (4500, 7500),
    },
}  # fmt: skip
# Frequency ratios of free-running, inharmonic oscillators, which make the metal of a cymbal.
METAL = np.array([1.0, 1.483, 1.800, 2.546, 2.630, 3.897])


@dataclass(frozen=True)
class Kit:
    """Sound of the drums of a song; frequencies in hertz, decays in seconds to 1/e."""

    kick_hz: float
    kick_sweep: float
    kick_decay_s: float
    kick_click: float
    snare_hz: float
    snare_decay_s: float
    snare_noise: float
    snare_low_hz: float
    snare_high_hz: float
    clap: bool
    metal: Signal
    """Sound of the metal of the cymbals; each stroke uses an excerpt of it."""
    metal_share: float
    hat_low_hz: float
    hat_decay_s: float
    tom_hz: float
    crash_decay_s: float
    dark_hz: float
    """Frequency above which the drums are softened, as on a worn tape."""


def draw_kit(rate_hz: int, rng: Rng) -> Kit:
    """Draw a random kit: acoustic, electronic and booming, tight and dry, or lo-fi and dull."""
    kind = str(rng.choice(list(KITS), p=[0.4, 0.25, 0.2, 0.15]))
    cycles = np.outer(METAL * rng.uniform(320, 620), times(6.0, rate_hz)).astype(np.float32)
    return Kit(
        clap=bool(rng.random() < {"electronic": 0.5, "tight": 0.25}.get(kind, 0.1)),
        metal=np.where((cycles + rng.random((6, 1))) % 1.0 < 0.5, 0.6, -0.6).sum(0),
        **{name: rng.uniform(low, high) for name, (low, high) in KITS[kind].items()},
    )


def strokes(plan: Composition, rng: Rng) -> list[tuple[float, str, float]]:
    """Draw all strokes as (time in seconds, piece, velocity): a groove that varies by bar, fills and crashes."""
    groove = GROOVES[rng.integers(len(GROOVES))]
    hits = []
    for bar in range(plan.n_bars):
        fill_from = 16 - int(rng.choice([4, 8])) if bar % 4 == 3 and rng.random() < 0.7 else 16
        if bar % 4 == 0 and rng.random() < 0.4:
            hits.append((plan.at(bar, 0), "crash", rng.uniform(0.6, 0.9)))
        for step in range(fill_from):
            for piece, pattern in zip(("kick", "snare", "hat"), groove, strict=True):
                mark = pattern[step]
                if piece == "kick" and mark == "." and step % 2 == 0 and rng.random() < 0.06:
                    mark = "o"
                if piece == "hat" and mark == "o" and rng.random() < 0.04:
                    mark = "-"
                if mark != "." and not (mark in "og" and rng.random() < 0.08):
                    name = "open" if mark == "-" else piece
                    hits.append((plan.at(bar, step / 4), name, VELOCITY[mark]))
        for step in range(fill_from, 16):
            if step % 2 == 0 or rng.random() < 0.55:
                name = "snare" if rng.random() < 0.4 else f"tom{min(2, (step - fill_from) * 3 // (16 - fill_from))}"
                hits.append((plan.at(bar, step / 4), name, rng.uniform(0.5, 0.95)))
    return hits


def play_drums(plan: Composition, samples: int, rate_hz: int, rng: Rng) -> Signal:
    """Play the drums of a song, ``c samples``."""
    kit = draw_kit(rate_hz, rng)
    sides = {"kick": 0.0, "snare": rng.uniform(-0.15, 0.15), "hat": rng.uniform(-0.5, 0.5)}
    sides |= {"open": sides["hat"], "crash": rng.uniform(-0.7, 0.7), "tom0": -0.5, "tom1": 0.05, "tom2": 0.5}
    gains = {"kick": rng.uniform(0.5, 0.85), "snare": rng.uniform(0.9, 1.4), "crash": rng.uniform(0.2, 0.35)}
    gains |= {"hat": rng.uniform(0.15, 0.35), "tom0": 0.75, "tom1": 0.75, "tom2": 0.75}
    gains["open"] = gains["hat"]
    track = np.zeros((2, samples), dtype=np.float32)
    for start_s, piece, loudness in strokes(plan, rng):
        if plan.silent("drums", start_s + 1e-6) or start_s >= plan.duration_s:
            continue
        velocity = float(np.clip(loudness * (1 + rng.normal(0, 0.1)), 0.05, 1.0))
        sound = _stroke(kit, piece, velocity, rate_hz, rng)
        gain = gains[piece] * velocity**1.3
        mix_in(track, sound, start_s + rng.normal(0, 0.004), rate_hz, sides[piece], gain)
    room = reverb(track.sum(0), rng.uniform(0.15, 0.6), rng.uniform(3000, 8000), rate_hz, rng)
    room *= rng.uniform(0.02, 0.12)
    track += room
    # The soft knee of a bus compressor lowers the highest peaks, as in mixed drums.
    return high_pass(one_pole(bend(track, 1.2), kit.dark_hz, rate_hz), 25, rate_hz)


def _stroke(kit: Kit, piece: str, velocity: float, rate_hz: int, rng: Rng) -> Signal:
    if piece == "kick":
        return _membrane(kit.kick_hz, kit.kick_sweep, kit.kick_decay_s, kit.kick_click * velocity, rate_hz, rng)
    if piece == "snare":
        return _snare(kit, velocity, rate_hz, rng)
    if piece.startswith("tom"):
        f0_hz = kit.tom_hz * (1.9, 1.4, 1.0)[int(piece[-1])]
        return _membrane(f0_hz, 0.7, 0.16, 0.25 * velocity, rate_hz, rng)
    if piece == "crash":
        return 1.6 * _cymbal(kit, 0.3 * kit.metal_share, kit.crash_decay_s, 2500.0, rate_hz, rng)
    decay_s = kit.hat_decay_s * (1 + velocity) if piece == "hat" else rng.uniform(0.12, 0.2)
    return _cymbal(kit, kit.metal_share, decay_s, kit.hat_low_hz, rate_hz, rng)


def _membrane(f0_hz: float, sweep: float, decay_s: float, click: float, rate_hz: int, rng: Rng) -> Signal:
    """Make a kick or a tom: a tone that falls to `f0_hz` from `1 + sweep` times that, and the beater's click."""
    t = times(5 * decay_s, rate_hz)
    f_hz = f0_hz * (1 + rng.normal(0, 0.008)) * (1 + sweep * np.exp(-t / rng.uniform(0.016, 0.022)))
    sound = np.tanh(1.6 * sine(np.cumsum(f_hz) / rate_hz) * decay(t, decay_s))
    beater = rng.standard_normal(t.size)[: round(0.1 * rate_hz)]  # It has decayed by then.
    beater *= decay(t[: beater.size], 0.004)
    sound[: beater.size] += click * band_pass(beater, 900, 5000, rate_hz)
    return ramps(sound, 0.0008, 0.01, rate_hz)


def _snare(kit: Kit, velocity: float, rate_hz: int, rng: Rng) -> Signal:
    """Make a snare of two modes of the skin and the noise of the wires; or a clap of four bursts of noise."""
    t = times(5 * kit.snare_decay_s, rate_hz)
    decay_s = kit.snare_decay_s * rng.uniform(0.9, 1.1)
    wires = band_pass(rng.standard_normal(t.size), kit.snare_low_hz, kit.snare_high_hz, rate_hz)
    if kit.clap:
        bursts = sum(decay(np.clip(t - at, 0, None), 0.006) * (t >= at) for at in (0.0, 0.011, 0.023))
        return ramps(wires * (bursts + decay(t, decay_s)), 0.001, 0.01, rate_hz)
    f0_hz = kit.snare_hz * (1 + rng.normal(0, 0.01)) * (1 + 0.4 * np.exp(-t / 0.012))
    cycles = np.cumsum(f0_hz) / rate_hz
    skin = sine(cycles) * decay(t, 0.8 * decay_s) + 0.5 * sine(1.593 * cycles) * decay(t, 0.4 * decay_s)
    return ramps(0.7 * skin + kit.snare_noise * velocity**0.4 * wires * decay(t, decay_s), 0.0008, 0.01, rate_hz)


def _cymbal(kit: Kit, metal_share: float, decay_s: float, low_hz: float, rate_hz: int, rng: Rng) -> Signal:
    """Make a hat or a crash: inharmonic square waves and noise above `low_hz`."""
    t = times(5 * decay_s, rate_hz)
    start = rng.integers(kit.metal.size - t.size)
    metal = kit.metal[start : start + t.size]
    raw = metal_share * metal + (1.2 - metal_share) * rng.standard_normal(t.size)
    return ramps(1.7 * band_pass(raw, low_hz, 11000, rate_hz) * decay(t, decay_s), 0.001, 0.01, rate_hz)
