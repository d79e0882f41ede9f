"""Speed of the data path: wav, flac and a packed copy; 10 and 1000 songs; short and long ones. Prints Markdown.

Run it on a quiet machine: ``.venv/bin/python benchmarks/data.py``. Songs are synthesised; the sets of 1000 link to the
same ten, so that the disk's cache holds all of them and only our own work is compared.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from bandsplit.core.machine import environment
from bandsplit.data.examples.dataset import make_examples
from bandsplit.data.examples.mixing import UMX_LIKE, MixingConfig
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.pack import pack_dataset
from bandsplit.data.synth.songs import synthesise_song
from bandsplit.tools.bench.examples import DataSpeed, measure_examples

RATE_HZ = 44100
PER_ROUND = 60


def write_songs(root: Path, suffix: str, songs: list[dict[str, np.ndarray]]) -> Path:
    """Write songs without mixtures, 16 bit."""
    for number, stems in enumerate(songs):
        folder = root / "train" / f"Song {number}"
        folder.mkdir(parents=True)
        for stem, signal in stems.items():
            soundfile.write(folder / f"{stem}{suffix}", signal.T, RATE_HZ, subtype="PCM_16")
    return root


def link_songs(root: Path, source: Path, count: int) -> Path:
    """Make ``count`` songs of links to those of ``source``."""
    originals = sorted((source / "train").iterdir())
    for number in range(count):
        folder = root / "train" / f"Song {number:04d}"
        folder.mkdir(parents=True)
        for file in originals[number % len(originals)].iterdir():
            (folder / file.name).symlink_to(file)
    return root


def speed(root: Path) -> DataSpeed:
    """Measure with the examples of row 19, one target."""
    tracks = index_dataset(root, mixture="sum").tracks
    options = {"excerpt_s": 3.0, "examples": PER_ROUND * 10, "sample_rate_hz": RATE_HZ, "channels": 2, "seed": 0}
    return measure_examples(make_examples(tracks, ["vocals"], MixingConfig.parse(UMX_LIKE), **options), PER_ROUND)


def main() -> None:
    """Measure everything and print the table."""
    facts = environment()
    print(f"{facts['cpu']}, {os.cpu_count()} cores, Python {facts['python']}, torch {facts['torch']}\n")
    print("| songs | soundfile alone, examples/s | made in one process | from one loader worker | memory growth |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        short = [synthesise_song(seed, 30.0) for seed in range(10)]
        long = [{stem: np.tile(signal, 10) for stem, signal in song.items()} for song in short[:2]]
        wav, flac = write_songs(root / "wav", ".wav", short), write_songs(root / "flac", ".flac", short)
        pack_dataset(index_dataset(flac, mixture="sum"), root / "packed")
        sets = {
            "10 of 30 s, wav": wav,
            "1000 of 30 s, wav": link_songs(root / "many", wav, 1000),
            "10 of 300 s, wav": link_songs(root / "long", write_songs(root / "two", ".wav", long), 10),
            "10 of 30 s, flac": flac,
            "10 of 30 s, flac, packed": root / "packed",
        }
        for name, place in sets.items():
            found = speed(place)
            print(
                f"| {name} | {found.floor:.0f} | {found.made:.0f} ({100 * found.made_ratio:.0f} %) | "
                f"{found.loaded:.0f} ({100 * found.loaded_ratio:.0f} %) | {found.growth_mb:.1f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
