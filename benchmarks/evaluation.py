"""Our windows against museval's on one minute of four stereo stems, and the cost of all metrics.

Needs the extra ``oracle`` and ffmpeg: ``.venv/bin/python benchmarks/evaluation.py [--songs ROOT]``. museval runs once,
since it takes a minute or more; ours runs before and after it. With songs in folders, as MUSDB18-HQ has them, their
windows are compared too, whole songs. `--costs` leaves museval out. Prints Markdown.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bandsplit.core.machine import environment
from bandsplit.data.songs.tracks import Track, TrackAudio
from bandsplit.data.synth.songs import synthesise_song
from bandsplit.evaluation import metrics, spectra
from bandsplit.evaluation.measuring import SongReference
from bandsplit.evaluation.metrics import csdr_windows

STEMS = ("vocals", "bass", "drums", "other")
REPETITIONS = 5


def degrade(reference: np.ndarray) -> np.ndarray:
    """Leak a tenth of the mixture into each stem, with noise at -60 dB."""
    noise = np.random.default_rng(0).normal(0, 1e-3, reference.shape)
    return (0.9 * reference + 0.1 * reference.sum(axis=0) + noise).astype(np.float32)


def seconds(work: Callable[[], Any]) -> float:
    """Time one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def museval_windows(reference: np.ndarray, estimate: np.ndarray, rate_hz: int) -> np.ndarray:
    """SDR of museval, ``targets windows``."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        import museval

        swapped = (np.swapaxes(array, 1, 2) for array in (reference, estimate))
        return museval.evaluate(*swapped, win=rate_hz, hop=rate_hz)[0]


def compare(name: str, reference: np.ndarray, estimate: np.ndarray, rate_hz: int) -> float:
    """Print a line of the table; return the time of museval."""
    began = time.perf_counter()
    expected = museval_windows(reference, estimate, rate_hz)
    theirs_s = time.perf_counter() - began
    found = csdr_windows(reference, estimate, rate_hz)
    same_nan = (np.isnan(found) == np.isnan(expected)).all()
    worst = np.nanmax(np.abs(found - expected), initial=0.0)
    counted = int(np.isfinite(expected).sum())
    print(f"| {name} | {found.size} | {counted} | {worst:.1e} | {'yes' if same_nan else 'NO'} |", flush=True)
    return theirs_s


def print_costs(reference: np.ndarray, estimate: np.ndarray) -> None:
    """Print CPU times of each metric, and of all of a first and a second system; all take turns."""
    stems: dict[str, Any] = dict(zip(STEMS, reference, strict=True))
    estimates: dict[str, Any] = dict(zip(STEMS, estimate, strict=True))
    mixture = reference.sum(axis=0)
    track = Track("song", "test", {}, None, reference.shape[-1], reference.shape[1], 44100)
    later = SongReference(TrackAudio(track, mixture, stems))
    later.measure(estimates, STEMS)
    span = metrics.Span.of(reference)
    pairs = list(zip(reference, estimate, strict=True))
    bands = [spectra.mel_magnitudes(signal, 44100) for signal in reference]
    work: dict[str, Callable[[], Any]] = {
        "uSDR, with checks": lambda: metrics.usdr(reference, estimate),
        "cSDR, with checks": lambda: csdr_windows(reference, estimate, 44100),
        "SI-SDR, with checks": lambda: metrics.si_sdr(reference, estimate),
        "L1-freq, with checks": lambda: metrics.l1_freq(reference, estimate),
        "energies": lambda: metrics.compute_energies(reference, estimate),
        "SI-SDR": lambda: metrics.compute_si_sdr(reference, estimate),
        "L1-freq": lambda: [spectra.compute_l1_freq(*pair) for pair in pairs],
        "cSDR, all rules": lambda: metrics.compute_windows(reference, estimate, mixture, 44100),
        "SI-SAR": lambda: metrics.compute_si_sar(reference, estimate, span),
        "SI-SAR, stems": lambda: metrics.Span.of(reference),
        "log-spectral distance": lambda: [spectra.compute_log_spectral_distance(*pair) for pair in pairs],
        "bleedless, fullness": lambda: [
            spectra.compute_bleed(band, spectra.mel_magnitudes(guess, 44100))
            for band, guess in zip(bands, estimate, strict=True)
        ],
        "bleedless, fullness, stems": lambda: [spectra.mel_magnitudes(signal, 44100) for signal in reference],
        "all, first system": lambda: SongReference(TrackAudio(track, mixture, stems)).measure(estimates, STEMS),
        "all, later systems": lambda: later.measure(estimates, STEMS),
    }
    times_s: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(REPETITIONS):
        for name, run in work.items():
            began = time.process_time()
            run()
            times_s[name].append(time.process_time() - began)
    medians_s = {name: float(np.median(some)) for name, some in times_s.items()}
    four_s = sum(value_s for name, value_s in medians_s.items() if name.endswith("with checks"))
    print("\n| metric | CPU time, s | over the four with checks |")
    print("|---|---:|---:|")
    for name, value_s in medians_s.items():
        print(f"| {name} | {value_s:.3f} | {value_s / four_s:.2f} |")


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=Path, help="folder of song folders, flac or wav")
    parser.add_argument("--costs", action="store_true", help="only the CPU times of our metrics")
    options = parser.parse_args()
    root = options.songs
    if options.costs:
        song = synthesise_song(1, 60.0)
        reference = np.stack([song[stem] for stem in STEMS])
        print_costs(reference, degrade(reference))
        return
    museval_windows(*np.random.default_rng(0).normal(size=(2, 2, 2, 2000)), 1000)  # import and plans of FFTs
    facts = environment()
    print(f"{facts['cpu']}, Python {facts['python']}, numpy {np.__version__}\n")
    song = synthesise_song(1, 60.0)
    reference = np.stack([song[stem] for stem in STEMS])
    estimate = degrade(reference)
    print("| song | windows x stems | that count | largest difference, dB | NaN in the same places |")
    print("|---|---:|---:|---:|---|")
    ours_s = [seconds(lambda: csdr_windows(reference, estimate, 44100)) for _ in range(REPETITIONS)]
    theirs_s = compare("one minute, four stereo stems", reference, estimate, 44100)
    ours_s += [seconds(lambda: csdr_windows(reference, estimate, 44100)) for _ in range(REPETITIONS)]
    for folder in sorted({path.parent for path in root.rglob("mixture.*")}) if root else ():
        parts = [soundfile.read(next(folder.glob(f"{stem}.*")), always_2d=True) for stem in STEMS]
        stems = np.stack([signal.T for signal, _ in parts])
        stems = stems[stems.any(axis=(1, 2))]  # museval refuses songs in which a whole stem is silent
        compare(folder.name, stems, degrade(stems), parts[0][1])
    median_s = float(np.median(ours_s))
    print(
        f"\nmuseval: {theirs_s:.1f} s. csdr_windows: median {median_s:.3f} s, {min(ours_s):.3f} to {max(ours_s):.3f} s."
    )
    print(f"Ratio: {theirs_s / median_s:.0f} (slowest of ours: {theirs_s / max(ours_s):.0f}).")
    print_costs(reference, estimate)


if __name__ == "__main__":
    main()
