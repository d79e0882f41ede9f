"""Small seeded noise and songs for tests, written without the package's own audio code."""

from pathlib import Path

import numpy as np
import soundfile

STEMS = ("vocals", "bass", "drums", "other")


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    """Return noise between -0.5 and 0.5, float32 ``c samples``."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def noise_stems(seed: int, samples: int = 4000, channels: int = 2) -> dict[str, np.ndarray]:
    """Return four uncorrelated stems of 16-bit values, ``c samples``."""
    random = np.random.default_rng(seed)
    return {stem: np.round(random.normal(0, 2000, (channels, samples))) / 32768 for stem in STEMS}


def write_song(folder: Path, stems: dict[str, np.ndarray], sample_rate_hz: int = 8000, suffix: str = ".wav") -> Path:
    """Write stems and their sum as the mixture, 32-bit float wav or 16-bit flac."""
    folder.mkdir(parents=True)
    subtype = "FLOAT" if suffix == ".wav" else "PCM_16"
    for name, signal in {**stems, "mixture": np.sum(list(stems.values()), axis=0)}.items():
        soundfile.write(folder / f"{name}{suffix}", signal.T, sample_rate_hz, subtype=subtype)
    return folder


def write_dataset(root: Path, train: int = 3, test: int = 1, samples: int = 4000) -> Path:
    """Write songs named ``Song 0``, ``Song 1``, ... into train/, then the last ones into test/."""
    for number in range(train + test):
        split = "train" if number < train else "test"
        write_song(root / split / f"Song {number}", noise_stems(number, samples))
    return root


def link_songs(source: Path, root: Path) -> Path:
    """Link to the songs of a data set, so that nothing is written beside them."""
    for song in source.glob("*/*"):
        (root / song.parent.name).mkdir(parents=True, exist_ok=True)
        (root / song.parent.name / song.name).symlink_to(song)
    return root
