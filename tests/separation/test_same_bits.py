"""Which options change no bit of the stems, and how little the number of threads of a song changes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bandsplit.audio import files as audio
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.card import ModelCard
from bandsplit.models.files import save_model
from bandsplit.models.network import build_model

RATE_HZ = 8000
SONGS = ("one.wav", "two.wav", "three.wav")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three songs of several chunks, and a model whose channels meet and whose LSTMs are the project's own."""
    for number, name in enumerate(SONGS):
        noise = np.random.default_rng(number).normal(0, 0.1, (2, RATE_HZ * (5 + number)))
        audio.write(tmp_path / name, noise.astype(np.float32), RATE_HZ)
    settings = {"stft": {"n_fft": 512, "hop_samples": 128}, "bands": [[100, 40]], "n_features": 16, "n_blocks": 2}
    config = BsrnnConfig.parse(settings | {"targets": ["bass"], "sample_rate_hz": RATE_HZ, "stereo": {"kind": "tac"}})
    torch.manual_seed(0)
    save_model(tmp_path / "m.safetensors", build_model(config), ModelCard(name="m", training_data="", licence="CC0"))
    return tmp_path


def separate(folder: Path, out: str, threads: int, *options: str) -> list[Path]:
    command = [sys.executable, "-m", "bandsplit", "separate", *SONGS, "-n", "m.safetensors", "-o", out, "--chunk", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run([*command, *options], cwd=folder, env=environment, check=True, capture_output=True)
    return [folder / out / Path(name).stem / "bass.wav" for name in SONGS]


def same_bytes(some: list[Path], others: list[Path]) -> bool:
    return all(one.read_bytes() == other.read_bytes() for one, other in zip(some, others, strict=True))


@pytest.mark.slow
def test_jobs_and_batches_change_no_bit_while_a_song_has_as_many_threads(folder: Path):
    alone = separate(folder, "alone", 1)
    assert same_bytes(alone, separate(folder, "batches", 1, "--batch-size", "3"))
    assert same_bytes(alone, separate(folder, "two jobs", 2, "--jobs", "2"))
    assert same_bytes(alone, separate(folder, "three jobs", 3, "--jobs", "3"))


@pytest.mark.slow
def test_more_threads_for_a_song_change_no_more_than_rounding(folder: Path):
    alone = separate(folder, "alone", 1)
    for stem, other in zip(alone, separate(folder, "three threads", 3), strict=True):
        one, three = audio.read(stem)[0], audio.read(other)[0]
        assert np.abs(one - three).max() <= 1e-6 * np.abs(one).max()
