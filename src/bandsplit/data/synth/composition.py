"""Composition: key, tempo, chords and form of a song, and the notes of each part, without sound."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bandsplit.data.synth.sound import Rng

STEMS = ("vocals", "bass", "drums", "other")
NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
# Probability that vocals, bass, drums and other play in a section.
PRESENCE = {
    "any": (0.6, 0.6, 0.6, 0.6),
    "intro": (0.05, 0.4, 0.45, 0.75),
    "verse": (0.9, 0.7, 0.65, 0.55),
    "chorus": (0.9, 0.95, 0.95, 0.9),
    "break": (0.3, 0.35, 0.35, 0.5),
    "outro": (0.2, 0.5, 0.45, 0.75),
}
# Sections that repeat between intro and outro.
CYCLE = ("verse", "chorus", "verse", "chorus", "break", "chorus", "break")
# Degrees of the scale, one chord per bar.
PROGRESSIONS = (
    (0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (0, 6, 5, 6), (0, 2, 3, 4), (3, 0, 4, 5),
    (0, 3, 0, 4), (0, 5, 1, 4), (0, 0, 3, 4), (1, 4, 0, 5), (0, 6, 3, 0), (0, 2, 5, 4), (0, 3, 6, 2),
)  # fmt: skip
# (beat, length in beats, steps of the scale above the root of the chord), one bar of four beats.
BASS_RHYTHMS = (
    ((0, 4, 0),),
    ((0, 1.5, 0), (1.5, 0.5, 0), (2, 1.5, 4), (3.5, 0.5, 0)),
    ((0, 1, 0), (1, 1, 2), (2, 1, 4), (3, 1, 5)),
    tuple((i / 2, 0.5, 0) for i in range(8)),
    tuple((i / 2, 0.5, 7 * (i % 2)) for i in range(8)),
    ((0, 0.75, 0), (0.75, 0.75, 0), (1.5, 0.5, 4), (2, 0.75, 0), (2.75, 0.75, 7), (3.5, 0.5, 4)),
    ((0, 2, 0), (2.5, 0.5, 0), (3, 0.5, 4), (3.5, 0.5, 2)),
)
# (beat, length in beats); the first three suit sustained sounds.
CHORD_RHYTHMS = (
    ((0, 4),),
    ((0, 2), (2, 2)),
    ((0, 1.5), (1.5, 2.5)),
    ((0, 1), (1, 1), (2, 1), (3, 1)),
    ((0.5, 0.4), (1.5, 0.4), (2.5, 0.4), (3.5, 0.4)),
    ((0, 1), (1, 0.5), (1.5, 1), (2.5, 0.5), (3, 0.5), (3.5, 0.5)),
    ((0, 0.75), (0.75, 0.75), (1.5, 1), (2.5, 1.5)),
)


@dataclass(frozen=True)
class Note:
    """A note: start, length, pitch in semitones (69 is 440 Hz) and velocity (0 to 1)."""

    start_s: float
    length_s: float
    pitch: float
    velocity: float


@dataclass(frozen=True)
class Composition:
    """A song before it is played."""

    tonic: int
    mode: str
    tempo_bpm: int
    swing: float
    """Delay of every second sixteenth, as a fraction of its length."""
    tuning: float
    """Tuning of all instruments relative to 440 Hz, in semitones."""
    progression: tuple[int, ...]
    sevenths: bool
    duration_s: float
    silences: dict[str, list[tuple[float, float]]]
    """Time spans in seconds in which each stem rests."""

    @property
    def title(self) -> str:
        """Key and tempo in words."""
        return f"{NAMES[self.tonic]} {self.mode} {self.tempo_bpm} bpm"

    @property
    def beat_s(self) -> float:
        """Length of a beat."""
        return 60.0 / self.tempo_bpm

    @property
    def n_bars(self) -> int:
        """Number of bars of four beats, including an incomplete last one."""
        return int(np.ceil(self.duration_s / (4 * self.beat_s)))

    def pitch(self, degree: int) -> float:
        """Return the semitones above the tonic of a scale degree, which may be above the octave or negative."""
        return SCALES[self.mode][degree % 7] + 12 * (degree // 7)

    def chord(self, bar: int) -> list[int]:
        """Return the degrees of the chord of a bar, root first."""
        root = self.progression[bar % len(self.progression)]
        return [root + step for step in ((0, 2, 4, 6) if self.sevenths else (0, 2, 4))]

    def at(self, bar: int, beat: float) -> float:
        """Return the time in seconds of a beat of a bar, with swing."""
        late = self.swing * 0.25 if round(beat * 4) % 2 else 0.0
        return (4 * bar + beat + late) * self.beat_s

    def silent(self, stem: str, time_s: float) -> bool:
        """Return whether a stem rests at a time."""
        return any(start <= time_s < end for start, end in self.silences[stem])


def compose(rng: Rng, duration_s: float) -> Composition:
    """Draw a random song."""
    tempo_bpm = int(rng.integers(76, 149))
    n_bars = int(np.ceil(duration_s * tempo_bpm / 240))
    return Composition(
        tonic=int(rng.integers(12)),
        mode=str(rng.choice(list(SCALES), p=[0.36, 0.36, 0.14, 0.14])),
        tempo_bpm=tempo_bpm,
        swing=float(rng.choice([0.0, 0.0, 0.2, 0.45])),
        tuning=float(rng.uniform(-0.3, 0.3)),
        progression=PROGRESSIONS[rng.integers(len(PROGRESSIONS))],
        sevenths=bool(rng.random() < 0.4),
        duration_s=duration_s,
        silences=_form(rng, n_bars, 240 / tempo_bpm),
    )


def _form(rng: Rng, n_bars: int, bar_s: float) -> dict[str, list[tuple[float, float]]]:
    """Draw the rests of each stem: the song has sections of a few bars, each with its own arrangement.

    At least one stem always plays; each stem plays in at least a third of the sections.
    """
    bars = next((bars for bars in (8, 4, 2) if n_bars >= 6 * bars), 2)
    n_sections = max(1, round(n_bars / bars))
    kinds = ["any"] * n_sections  # A short song is an excerpt, without intro and outro.
    if bars > 2:
        kinds = ["intro", *(CYCLE[i % len(CYCLE)] for i in range(n_sections - 2)), "outro"]
    plays = np.zeros((len(STEMS), n_sections), dtype=bool)
    while not (plays.any(axis=0).all() and (plays.mean(axis=1) >= 1 / 3).all()):
        plays = _arrange(rng, kinds)
    spans: dict[str, list[tuple[float, float]]] = {}
    for stem, row in zip(STEMS, plays, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[True], row, [True]])))
        starts, ends = edges[::2], edges[1::2]
        # The last section continues to the end of the song.
        spans[stem] = [
            (bars * bar_s * start if start else -1.0, bars * bar_s * end if end < n_sections else math.inf)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
    return spans


def _arrange(rng: Rng, kinds: list[str]) -> NDArray[np.bool_]:
    """Draw which stems play, ``stem section``: in a repeated kind of section most stems do the same as before."""
    plays = np.zeros((len(STEMS), len(kinds)), dtype=bool)
    for i, kind in enumerate(kinds):
        fresh = rng.random(len(STEMS)) < np.array(PRESENCE[kind])
        again = (rng.random(len(STEMS)) < 0.7) & (kind != "any") & (kind in kinds[:i])
        last = plays[:, i - 1 - kinds[:i][::-1].index(kind)] if kind in kinds[:i] else fresh
        plays[:, i] = np.where(again, last, fresh)
    return plays


def played(plan: Composition, stem: str, notes: list[Note], rng: Rng) -> list[Note]:
    """Vary timing and velocity of notes as a human player does, and drop notes in the stem's rests."""
    kept = []
    for note in notes:
        if plan.silent(stem, note.start_s + 1e-6) or note.start_s >= plan.duration_s - 0.05:
            continue
        ends = [start for start, _ in plan.silences[stem] if start > note.start_s]
        length_s = min([note.length_s, *(end - note.start_s for end in ends)])
        start_s = max(0.0, note.start_s + rng.normal(0, 0.006))
        velocity = float(np.clip(note.velocity * (1 + rng.normal(0, 0.12)), 0.1, 1.0))
        kept.append(Note(start_s, max(0.05, length_s * rng.uniform(0.95, 1.0)), note.pitch + plan.tuning, velocity))
    return kept


def bass_line(plan: Composition, rng: Rng) -> list[Note]:
    """Draw a bass line of roots and neighbours between 52 and 185 Hz, mostly in one rhythm, sometimes in another."""
    rhythms = [BASS_RHYTHMS[i] for i in rng.permutation(len(BASS_RHYTHMS))[:2]]
    gate = rng.uniform(0.55, 0.95)
    notes = []
    for bar in range(plan.n_bars):
        root = plan.chord(bar)[0]
        base = 32 + (plan.tonic + plan.pitch(root) - 32) % 12
        for beat, beats, step in rhythms[int(rng.random() < 0.25)]:
            if beat and rng.random() < 0.08:
                continue
            pitch = base + plan.pitch(root + step) - plan.pitch(root)
            pitch -= 12 if pitch > 54 else 0
            velocity = (0.9 if beat % 2 == 0 else 0.75) * rng.uniform(0.85, 1.0)
            notes.append(Note(plan.at(bar, beat), beats * plan.beat_s * gate, pitch, velocity))
    return notes


def chord_tones(plan: Composition, bar: int, lowest: float) -> list[float]:
    """Return the pitches of the chord of a bar within the octave above `lowest`, ascending: a close voicing."""
    return sorted(lowest + (plan.tonic + plan.pitch(degree) - lowest) % 12 for degree in plan.chord(bar))


def chord_part(plan: Composition, rng: Rng, sustained: bool, strum_s: float) -> list[Note]:
    """Draw chords in one rhythm for the song; `strum_s` is the time between the notes of a chord."""
    rhythm = CHORD_RHYTHMS[rng.integers(3 if sustained else len(CHORD_RHYTHMS))]
    lowest = int(rng.integers(50, 60))
    notes = []
    for bar in range(plan.n_bars):
        tones = chord_tones(plan, bar, lowest)
        if rng.random() < 0.3:
            tones.append(tones[0] + 12)
        for i, (beat, beats) in enumerate(rhythm):
            velocity = rng.uniform(0.65, 0.9)
            # Strums alternate between down and up.
            for k, tone in enumerate(tones if i % 2 == 0 else tones[::-1]):
                notes.append(Note(plan.at(bar, beat) + k * strum_s, beats * plan.beat_s, tone, velocity))
    return notes


def arpeggio_part(plan: Composition, rng: Rng) -> list[Note]:
    """Draw an arpeggio: single chord tones over two octaves, with gaps."""
    step = float(rng.choice([0.25, 0.5, 0.5]))
    shape = rng.choice(["up", "down", "both", "any"])
    lowest = int(rng.integers(55, 67))
    overlap = rng.uniform(0.8, 1.6)
    gap = rng.uniform(0.02, 0.2)
    notes = []
    for bar in range(plan.n_bars):
        tones = chord_tones(plan, bar, lowest)
        ladder = tones + [tone + 12 for tone in tones]
        ladder = {"up": ladder, "down": ladder[::-1], "both": ladder + ladder[-2:0:-1], "any": ladder}[str(shape)]
        for i in range(round(4 / step)):
            if rng.random() < gap:
                continue
            tone = ladder[rng.integers(len(ladder)) if shape == "any" else i % len(ladder)]
            velocity = (0.9 if i * step % 1 == 0 else 0.7) * rng.uniform(0.8, 1.0)
            notes.append(Note(plan.at(bar, i * step), step * overlap * plan.beat_s, tone, velocity))
    return notes


def melody(plan: Composition, rng: Rng, lowest: float, highest: float) -> list[Note]:
    """Draw a melody: phrases of two bars in one of two rhythms, stepping through the scale, with time to breathe."""
    degrees = [d for d in range(0, 80) if lowest <= plan.tonic + plan.pitch(d) <= highest]
    rhythms = [_phrase_rhythm(rng) for _ in range(2)]
    notes: list[Note] = []
    degree = degrees[len(degrees) // 2]
    for bar in range(0, plan.n_bars, 2):
        rhythm = rhythms[int(rng.choice([0, 0, 1]))]
        for beat, beats in rhythm:
            degree += int(rng.choice([-3, -2, -1, -1, 0, 1, 1, 2, 3]))
            if beat % 1 == 0:
                tones = {d % 7 for d in plan.chord(bar + int(beat >= 4))}
                degree = min(degrees, key=lambda d, near=degree, tones=tones: abs(d - near) + 3 * (d % 7 not in tones))
            degree = min(max(degree, degrees[0]), degrees[-1])
            start_s = plan.at(bar, beat)
            notes.append(Note(start_s, beats * plan.beat_s, plan.tonic + plan.pitch(degree), rng.uniform(0.6, 1.0)))
    # Legato: a syllable lasts until the next one unless there is a breath between them.
    for i, (note, following) in enumerate(pairwise(notes)):
        if 0 < following.start_s - note.start_s < note.length_s + 0.2 * plan.beat_s:
            notes[i] = replace(note, length_s=following.start_s - note.start_s)
    return notes


def _phrase_rhythm(rng: Rng) -> list[tuple[float, float]]:
    beat = float(rng.choice([0.0, 0.0, 0.5, 1.0]))
    last = 8.0 - float(rng.choice([1.0, 1.5, 2.0]))
    rhythm = []
    while beat < last - 0.6:
        beats = min(float(rng.choice([0.5, 0.5, 0.5, 0.75, 1.0, 1.0, 1.5, 2.0])), last - beat)
        rhythm.append((beat, beats))
        beat += beats
    return rhythm
