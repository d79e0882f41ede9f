"""All metrics of a song: what depends on its stems alone is computed once, for any number of systems."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

import numpy as np

from bandsplit.data.songs.tracks import Audio, TrackAudio
from bandsplit.evaluation import metrics, spectra
from bandsplit.evaluation.results import Metric

CONVENTIONS: dict[Metric, str] = {
    "usdr_db": "whole song, 1e-7 added to both energies",
    "csdr_db": "museval 0.4.1, 1 s windows, median",
    "si_sdr_db": "whole song, one scale for all channels, no mean removed",
    "l1_freq": "100 / (1 + 10 L1), STFT 2048 / 1024, no window",
    "si_sar_db": "entire song, projection on all stems of the song, one weight each for all channels",
    "bleedless": "version 1: STFT 4096 / 1024, 512 mel bands, 80 dB below the maximum of the pair, channels apart",
    "fullness": "version 1: STFT 4096 / 1024, 512 mel bands, 80 dB below the maximum of the pair, channels apart",
    "lsd_db": "STFT 2048 / 512, power of at least 1e-8, root mean square over bins, mean over frames and channels",
    "msst_sdr_db": "entire song, 1e-8 added to both energies",
    "kuielab_sdr_db": "entire song, 1e-10 added to the ratio of energies",
    "csdr_rest_db": "1 s windows in which target and rest of the mixture are not silent, median",
    "csdr_own_db": "1 s windows in which the target is not silent, median",
}
"""Metrics, and their definitions as rows record them; see `bandsplit.evaluation.metrics`."""

_WINDOWS: dict[metrics.WindowRule, Metric] = {"set": "csdr_db", "rest": "csdr_rest_db", "own": "csdr_own_db"}

Measured = tuple[str, Metric, dict[str, Any]]
"""A target, a metric, and fields of its row."""


class SongReference:
    """The stems of a song, which estimates are compared with."""

    def __init__(self, song: TrackAudio) -> None:
        """Keep the song."""
        self._song = song
        self._mel: dict[str, np.ndarray] = {}

    def measure(
        self, estimates: Mapping[str, Audio], scored: Sequence[str], threads: int = 1
    ) -> dict[tuple[str, Metric], dict[str, Any]]:
        """Measure targets that are scored together: (target, metric) -> fields of the row.

        Args:
            estimates: at least the scored targets, ``c samples``, finite and as long as the song.
            scored: the targets.
            threads: threads that share the work; the numbers do not depend on it.
        """
        reference = [self._song.stems[target] for target in scored]
        estimate = [estimates[target] for target in scored]
        work: list[Callable[[], Iterable[Measured]]] = [
            partial(measure_one, target, estimates[target])
            for measure_one in (self._bleed, self._distance, self._likeness)
            for target in scored
        ]
        work += [
            partial(measure_all, scored, reference, estimate)
            for measure_all in (self._sar, self._si_sdr, self._windows, self._energies)
        ]
        if threads == 1:
            parts = [list(part()) for part in work]
        else:
            with ThreadPoolExecutor(threads) as pool:
                parts = list(pool.map(lambda part: list(part()), work))
        return {(target, metric): fields for part in parts for target, metric, fields in part}

    @cached_property
    def _span(self) -> metrics.Span:
        return metrics.Span.of(list(self._song.stems.values()))

    def _bleed(self, target: str, estimate: Audio) -> Iterator[Measured]:
        rate_hz = self._song.track.sample_rate_hz
        if target not in self._mel:
            self._mel[target] = spectra.mel_magnitudes(self._song.stems[target], rate_hz)
        found = spectra.compute_bleed(self._mel[target], spectra.mel_magnitudes(estimate, rate_hz))
        yield target, "bleedless", _value(found[0])
        yield target, "fullness", _value(found[1])

    def _distance(self, target: str, estimate: Audio) -> Iterator[Measured]:
        yield target, "lsd_db", _value(spectra.compute_log_spectral_distance(self._song.stems[target], estimate))

    def _likeness(self, target: str, estimate: Audio) -> Iterator[Measured]:
        yield target, "l1_freq", _value(spectra.compute_l1_freq(self._song.stems[target], estimate))

    def _sar(self, targets: Sequence[str], _: Sequence[Audio], estimate: Sequence[Audio]) -> Iterator[Measured]:
        values_db = metrics.compute_si_sar(list(self._song.stems.values()), estimate, self._span)
        return _values(targets, "si_sar_db", values_db)

    def _si_sdr(
        self, targets: Sequence[str], reference: Sequence[Audio], estimate: Sequence[Audio]
    ) -> Iterator[Measured]:
        return _values(targets, "si_sdr_db", metrics.compute_si_sdr(reference, estimate))

    def _energies(
        self, targets: Sequence[str], reference: Sequence[Audio], estimate: Sequence[Audio]
    ) -> Iterator[Measured]:
        energies = metrics.compute_energies(reference, estimate)
        yield from _values(targets, "usdr_db", metrics.usdr_of_energies(energies))
        yield from _values(targets, "msst_sdr_db", metrics.usdr_of_energies(energies, metrics.MSST_EPSILON))
        yield from _values(targets, "kuielab_sdr_db", metrics.kuielab_sdr_of_energies(energies))

    def _windows(
        self, targets: Sequence[str], reference: Sequence[Audio], estimate: Sequence[Audio]
    ) -> Iterator[Measured]:
        found = metrics.compute_windows(reference, estimate, self._song.mixture, self._song.track.sample_rate_hz)
        for rule, metric in _WINDOWS.items():
            for target, windows_db, median_db in zip(
                targets, found[rule], metrics.median_over_windows(found[rule]), strict=True
            ):
                yield target, metric, {**_value(median_db), "windows": tuple(map(_number, windows_db))}


def _values(targets: Sequence[str], metric: Metric, values: np.ndarray) -> Iterator[Measured]:
    return ((target, metric, _value(value)) for target, value in zip(targets, values, strict=True))


def _value(value: float) -> dict[str, Any]:
    return {"value": _number(value)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
