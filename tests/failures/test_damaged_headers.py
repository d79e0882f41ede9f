"""Headers with random faults: each file is read as a song of sane facts, or refused with a message that names it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from bandsplit.errors import AudioError
from bandsplit.streams import Source

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "wavex.wav": ("WAVEX", "PCM_24"),
    "rf64.wav": ("RF64", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "aiff": ("AIFF", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
}
LENGTHS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def damage(data: bytes, generator: np.random.Generator) -> bytes:
    """Change, flip, remove or insert a few bytes of the first 64, 200, or of all."""
    damaged = bytearray(data)
    kind, head = generator.integers(5), int(generator.choice([64, 200, len(data)]))
    for _ in range(generator.integers(1, 5)):
        at, some = int(generator.integers(min(head, len(damaged)))), int(generator.integers(1, 9))
        if kind == 0:
            damaged[at] = int(generator.integers(256))
        elif kind == 1:
            damaged[at] ^= 1 << (some - 1)
        elif kind == 2:
            length = int(generator.choice(LENGTHS)).to_bytes(4, "little" if generator.integers(2) else "big")
            damaged[at : at + 4] = length[: len(damaged) - at]
        elif kind == 3:
            del damaged[at : at + some]
        else:
            damaged[at:at] = generator.bytes(some)
    return bytes(damaged)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_damaged_header_gives_a_sane_song_or_an_error(tmp_path: Path, suffix: str):
    generator = np.random.default_rng(0)
    container, subtype = FORMATS[suffix]
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, generator.uniform(-0.5, 0.5, (4000, 2)), 48000, subtype, format=container)
    whole = path.read_bytes()
    for _ in range(60):
        path.write_bytes(damage(whole, generator))
        try:
            with Source(path, duration_s=2) as source:
                assert 1000 <= source.sample_rate_hz <= 1_000_000 and 1 <= source.channels <= 1024
                count = 0
                for block in source.blocks():
                    assert block.size <= 1 << 20 and np.isfinite(block).all()
                    count += block.shape[1]
                assert count == source.samples
        except AudioError as error:
            text = str(error)
        else:
            text = str(path)
        assert str(path) in text
