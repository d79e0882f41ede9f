"""Check of a complete data set before it is used: measurements of each song, problems, and a fingerprint of the audio.

The fingerprint depends on splits, song names, stems and samples, not on paths or file formats: a copy in flac has the
same one as the original.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bandsplit.core.errors import AudioError, DataError
from bandsplit.data.songs import musdb
from bandsplit.data.songs.errata import errata_of
from bandsplit.data.songs.facts import Facts, SongProgress
from bandsplit.data.songs.tracks import MIXTURE, SPLITS, Audio, Dataset, Problem, Track

# Increment whenever a measurement changes.
MEASURES = 2
BLOCK_SAMPLES = 1 << 18
N_FFT = 4096
BELOW_HZ, ABOVE_HZ = (13000.0, 15500.0), (17000.0, 20000.0)
"""Bands around the cutoffs of lossy coders: 16 kHz for the compressed MUSDB18, 17 kHz for MP3 at 128 kbit/s."""
CLIFF_DB = 35.0
"""Fall of the level from one band to the other: lossless songs measured 1 to 19 dB, AAC and MP3 48 to 68."""
SILENT_PEAK = 1e-4
"""A stem whose peak stays below this (-80 dB) counts as silent."""
SUM_WARNING_DB, SUM_BROKEN_DB = -50.0, -15.0
"""Mixture minus sum of stems, relative to the mixture: rounding gives -90, separate coding of the stems -30."""


@dataclass(frozen=True)
class PartFacts:
    """Measurements of a stem or a mixture."""

    digest: str
    """Hash of rate, channels and samples."""
    peak: float
    rms_db: float
    clipped_samples: int
    """Samples at full scale that follow two others at full scale."""
    finite: bool
    below_db: float | None
    """Mean level per bin in `BELOW_HZ`; None if the rate is too low to measure it."""
    above_db: float | None
    """The same in `ABOVE_HZ`."""

    @property
    def silent(self) -> bool:
        """Whether the peak is below `SILENT_PEAK`."""
        return self.peak < SILENT_PEAK

    @property
    def cliff_db(self) -> float | None:
        """Fall of the level from `BELOW_HZ` to `ABOVE_HZ`; None if it is unknown."""
        return None if self.below_db is None or self.above_db is None else self.below_db - self.above_db


@dataclass(frozen=True)
class SongFacts:
    """Measurements of a song."""

    track: Track
    parts: dict[str, PartFacts]
    """By stem, and for ``mixture``, which is a file or the sum."""
    residual_db: float | None
    """Energy of the mixture minus the sum of the stems, relative to the mixture; None without a mixture file."""

    @property
    def label(self) -> str:
        """Name of the song in messages."""
        return f"{self.track.split}/{self.track.name}"


@dataclass(frozen=True)
class DatasetReport:
    """Result of checking a data set."""

    dataset: Dataset
    songs: tuple[SongFacts, ...]
    broken: tuple[Problem, ...]
    """Problems that make results wrong; training refuses the set."""
    remarks: tuple[Problem, ...]
    """Observations that do not make results wrong."""
    unusable: tuple[Track, ...] = ()
    """Songs that cannot be read to the end, or contain samples that are not finite."""

    def fingerprint(self, split: str) -> str:
        """Return twelve hexadecimal digits that identify the audio of a split."""
        lines = sorted(line for song in self.songs if song.track.split == split for line in _digest_lines(song))
        return hashlib.sha256("\n".join([split, *lines]).encode()).hexdigest()[:12]

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of all splits that have songs."""
        present = {song.track.split for song in self.songs}
        return {split: self.fingerprint(split) for split in SPLITS if split in present}

    @property
    def compressed(self) -> tuple[str, ...]:
        """Songs without content above 16 kHz, as is typical of lossy coding."""
        return tuple(song.label for song in self.songs if (song.parts[MIXTURE].cliff_db or 0.0) > CLIFF_DB)

    @property
    def lossy(self) -> bool | None:
        """Whether most songs look lossy; None if it is unknown."""
        known = [song for song in self.songs if song.parts[MIXTURE].cliff_db is not None]
        return 2 * len(self.compressed) > len(known) if known else None

    @property
    def benchmark(self) -> str | None:
        """``MUSDB18-HQ`` if the checked splits are complete splits of it, by names, headers and bandwidth."""
        sound = not self.broken and self.lossy is False and self.dataset.errata is None
        return musdb.NAME if sound and musdb.looks_like_musdb18_hq([song.track for song in self.songs]) else None

    @property
    def bandwidth(self) -> str:
        """Evidence from the spectra on whether the songs are lossless."""
        cliffs_db = [song.parts[MIXTURE].cliff_db for song in self.songs]
        known = sorted(cliff for cliff in cliffs_db if cliff is not None)
        if not known:
            rates_hz = {song.track.sample_rate_hz for song in self.songs}
            why = "the songs are too short" if max(rates_hz, default=0) / 2 > ABOVE_HZ[1] else "the rate is too low"
            return f"{why if self.songs else 'there are no songs'} to distinguish lossless from lossy"
        evidence = (
            f"the level falls by {known[len(known) // 2]:.0f} dB (median) from {BELOW_HZ[0] / 1e3:g} - "
            f"{BELOW_HZ[1] / 1e3:g} kHz to {ABOVE_HZ[0] / 1e3:g} - {ABOVE_HZ[1] / 1e3:g} kHz, by more than "
            f"{CLIFF_DB:g} dB in {len(self.compressed)} of {len(known)} songs"
        )
        if self.lossy:
            return (
                f"LOSSY: {evidence}; this is typical of lossy coding (as in MUSDB18, not MUSDB18-HQ): never mix results"
            )
        return f"full bandwidth: {evidence}"


def _digest_lines(song: SongFacts) -> list[str]:
    name = unicodedata.normalize("NFC", song.track.name)  # some systems normalise it differently in a copy
    digests = {part: facts.digest for part, facts in song.parts.items()}
    if song.track.is_summed:
        digests[MIXTURE] = "sum"
    return [f"{name}/{part}/{digest}" for part, digest in digests.items()]


def check_dataset(
    dataset: Dataset, splits: Sequence[str] = SPLITS, progress: SongProgress | None = None
) -> DatasetReport:
    """Read and check all songs of ``splits``; later calls read only songs whose files changed."""
    tracks = [track for track in dataset.tracks if track.split in splits]
    # A song that could not be read is tried again each time: it may have been repaired without a new date.
    facts_of = Facts(dataset, f"check-{MEASURES}").of
    found = facts_of(tracks, _find, progress, keep=lambda facts: "error" not in facts)
    songs: list[SongFacts] = []
    unreadable: list[Problem] = []
    unusable: list[Track] = []
    for track, facts in zip(tracks, found, strict=True):
        if "error" in facts:
            unreadable.append(Problem(f"{track.split}/{track.name}", facts["part"], facts["error"]))
            unusable.append(track)
            continue
        parts = {part: PartFacts(**values) for part, values in facts["parts"].items()}
        songs.append(SongFacts(track, parts, facts["residual_db"]))
        if not all(part.finite for part in parts.values()):
            unusable.append(track)
    broken, remarks = _judge(songs)
    report = DatasetReport(dataset, tuple(songs), (*unreadable, *broken), tuple(remarks), tuple(unusable))
    return replace(report, dataset=replace(dataset, fingerprints=report.fingerprints, benchmark=report.benchmark))


def require_sound(report: DatasetReport, allow: bool = False) -> Dataset:
    """Return the data set with its fingerprints, unless it is broken.

    With ``allow``, unusable songs are left out and the others stay.

    Raises:
        DataError: the data set is broken, and ``allow`` is false.
    """
    if report.broken and not allow:
        raise DataError(
            f"{report.dataset.root}: {len(report.broken)} problem(s) that would spoil the results",
            *(f"  {problem}" for problem in report.broken),
            "fix them (see `bandsplit data check`), or continue anyway with --allow",
        )
    if not report.unusable:
        return report.dataset
    dataset = report.dataset
    songs = tuple(song for song in report.songs if song.track not in report.unusable)
    return replace(
        dataset,
        tracks=tuple(track for track in dataset.tracks if track not in report.unusable),
        left_out=(*dataset.left_out, *(f"{track.split}/{track.name}" for track in report.unusable)),
        fingerprints=replace(report, songs=songs).fingerprints,
    )


# --- measuring -------------------------------------------------------------------------------------------------------


class _StemMeter:
    """Measures a stem block by block."""

    def __init__(self, sample_rate_hz: int, channels: int) -> None:
        self.hash = hashlib.blake2b(f"{sample_rate_hz} {channels} ".encode(), digest_size=8)
        self.peak, self.energy, self.samples, self.clipped, self.finite = 0.0, 0.0, 0, 0, True
        bins_hz = np.fft.rfftfreq(N_FFT, 1 / sample_rate_hz)
        self.bands = [(low <= bins_hz) & (bins_hz < high) for low, high in (BELOW_HZ, ABOVE_HZ)]
        self.known = sample_rate_hz / 2 > ABOVE_HZ[1]
        self.power, self.frames = np.zeros(2), 0

    def add(self, block: Audio) -> None:
        self.hash.update(np.ascontiguousarray(block.T + np.float32(0)).data)  # float wav has -0, flac does not
        self.finite = self.finite and bool(np.isfinite(block).all())
        if not self.finite:
            return
        level = np.abs(block)
        self.peak = max(self.peak, float(level.max()))
        self.energy += float(np.vdot(block, block))
        self.samples += block.size
        if self.peak > 0.9999:
            full = level > 0.9999
            self.clipped += int((full[:, 2:] & full[:, 1:-1] & full[:, :-2]).sum())
        if self.known:
            self._add_spectrum(block)

    def _add_spectrum(self, block: Audio) -> None:
        if block.shape[1] < N_FFT:
            return  # the end of a song
        frames = np.lib.stride_tricks.sliding_window_view(block, N_FFT, axis=1)[:, :: 4 * N_FFT]
        power = np.square(np.abs(np.fft.rfft(frames * np.hanning(N_FFT).astype(np.float32))))
        self.power += [power[..., band].sum(axis=(0, 1)).mean() for band in self.bands]
        self.frames += frames.shape[0] * frames.shape[1]

    def facts(self) -> PartFacts:
        below, above = (
            _db(float(power) / (self.frames * N_FFT)) if self.known and self.frames else None for power in self.power
        )
        if not self.finite:
            return PartFacts(self.hash.hexdigest(), math.inf, math.inf, 0, False, None, None)
        rms_db = _db(self.energy / self.samples)
        return PartFacts(self.hash.hexdigest(), self.peak, rms_db, self.clipped, self.finite, below, above)


def _find(track: Track) -> dict[str, Any]:
    """Measure a song block by block: memory does not grow with its length."""
    meters = {part: _StemMeter(track.sample_rate_hz, track.channels) for part in (MIXTURE, *track.stems)}
    residual = total = 0.0
    for start in range(0, track.samples, BLOCK_SAMPLES):
        samples = min(BLOCK_SAMPLES, track.samples - start)
        blocks: dict[str, Audio] = {}
        for part in track.files:
            try:
                blocks[part] = track.read(part, start, samples)
            except AudioError as error:
                return {"error": str(error), "part": part}
        with np.errstate(over="ignore", invalid="ignore"):  # samples that are not finite are reported below
            together = np.sum([blocks[stem] for stem in track.stems], axis=0)
            mixture = blocks.setdefault(MIXTURE, together)
            difference = mixture - together
            residual += float(np.vdot(difference, difference))
            total += float(np.vdot(mixture, mixture))
        for part, block in blocks.items():
            meters[part].add(block)
    known = track.mixture is not None and math.isfinite(residual) and math.isfinite(total)
    residual_db = _db(residual) - _db(total) if known else None
    return {"parts": {part: asdict(meter.facts()) for part, meter in meters.items()}, "residual_db": residual_db}


def _db(power: float) -> float:
    return 10 * math.log10(power + 1e-20)


# --- judging ---------------------------------------------------------------------------------------------------------


def _judge(songs: Sequence[SongFacts]) -> tuple[list[Problem], list[Problem]]:
    broken: list[Problem] = []
    remarks: list[Problem] = []
    for song in songs:
        _judge_song(song, broken, remarks)
    _find_duplicates(songs, broken, remarks)
    return broken, remarks


def _judge_song(song: SongFacts, broken: list[Problem], remarks: list[Problem]) -> None:
    for part, facts in song.parts.items():
        if part == MIXTURE and song.track.is_summed:
            continue  # the sum of its stems, which are reported themselves
        if not facts.finite:
            broken.append(Problem(song.label, part, "holds samples that are not finite; export it again"))
        elif facts.silent and (part == MIXTURE or song.track.stems[part]):
            remarks.append(Problem(song.label, part, "is silent"))
        if facts.clipped_samples:
            remarks.append(Problem(song.label, part, f"{facts.clipped_samples} samples are clipped"))
    silent = all(song.parts[stem].silent for stem in song.track.stems)
    if silent and not song.parts[MIXTURE].silent:
        broken.append(Problem(song.label, None, "all stems are silent but the mixture is not; copy the stems again"))
    residual_db = song.residual_db
    if residual_db is None or residual_db <= SUM_WARNING_DB or song.parts[MIXTURE].silent or silent:
        return
    text = f"mixture minus sum of stems is {residual_db:.1f} dB"
    known = next((erratum for erratum in errata_of(song.track) if erratum.kind == "sum"), None)
    if known is not None:
        remarks.append(Problem(song.label, MIXTURE, f"{text}; known erratum: {known}"))
    elif residual_db > SUM_BROKEN_DB:
        broken.append(Problem(song.label, MIXTURE, f"{text}; a stem is missing, shifted or of another song"))
    else:
        remarks.append(Problem(song.label, MIXTURE, f"{text}; it was processed or coded separately from the stems"))


def _find_duplicates(songs: Sequence[SongFacts], broken: list[Problem], remarks: list[Problem]) -> None:
    seen: dict[str, tuple[SongFacts, str]] = {}
    for song in songs:
        for part, facts in song.parts.items():
            if facts.silent or (part == MIXTURE and song.track.is_summed):
                continue
            first, first_part = seen.setdefault(facts.digest, (song, part))
            if first is song and first_part == part:
                continue
            alone = part == MIXTURE or first_part == MIXTURE
            if first is song and alone:
                continue  # a song with only one stem that is not silent equals its mixture
            text = f"is the same audio as {first_part} of {first.label}; remove one of them"
            serious = first is song or first.track.split != song.track.split
            (broken if serious else remarks).append(Problem(song.label, part, text))
