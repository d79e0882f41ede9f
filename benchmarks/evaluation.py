"""Our windows against museval's on one minute of four stereo stems: largest difference and ratio of times.

Needs the extra ``oracle`` and ffmpeg: ``.venv/bin/python benchmarks/evaluation.py [--songs ROOT]``. museval runs once,
since it takes a minute or more; ours runs before and after it. With songs in folders, as MUSDB18-HQ has them, their
windows are compared too, whole songs. Prints Markdown.
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
from bandsplit.data.synth.songs import synthesise_song
from bandsplit.evaluation.metrics import csdr_windows, l1_freq, si_sdr, usdr

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


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=Path, help="folder of song folders, flac or wav")
    root = parser.parse_args().songs
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
    for metric in (usdr, si_sdr, l1_freq):
        times_s = [seconds(lambda metric=metric: metric(reference, estimate)) for _ in range(REPETITIONS)]
        print(f"{metric.__name__}: median {np.median(times_s):.3f} s.")


if __name__ == "__main__":
    main()
