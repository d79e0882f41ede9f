"""Actors of a real Ray cluster of this process: errors that nobody foresaw, and actors without a place."""

from pathlib import Path

import numpy as np
import pytest

from bandsplit.audio import files as audio
from bandsplit.separation.outputs import OutputConfig
from bandsplit.separation.ray_workers import BatchRecipe, RayWorkers, connected, persist
from bandsplit.separation.songs import Song
from tiny_models import RATE_HZ, write_tiny_model
from waiting import wait_until

pytest.importorskip("ray")
DEADLINE_S = 280


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def recipe() -> BatchRecipe:
    model = write_tiny_model("small.safetensors")
    return BatchRecipe.of([model], {"device": "cpu"}, "out", OutputConfig(), {"start_s": 0, "duration_s": None})


def song(name: str) -> Path:
    audio.write(name, np.full((2, 900), 0.1, np.float32), RATE_HZ)
    return Path(name).absolute()


class Strange(Song):
    """A song that only this process can read from its bytes."""


@pytest.mark.slow
def test_an_actor_that_raises_what_nobody_foresaw_fails_the_song_and_takes_the_next():
    notes, outcomes = [], []
    with connected(None):
        workers = RayWorkers(recipe(), 1, notes.append)
        for given in (Strange(song("000.wav"), "a"), Song(song("001.wav"), "b")):
            wait_until(lambda: workers.wait() or workers.free(), "a free worker", DEADLINE_S)
            workers.start(0, given)
            wait_until(lambda: outcomes.extend(workers.wait()) or 0 not in workers._songs, "the song", DEADLINE_S)
        workers.close()
    (_, failed), (_, done) = outcomes
    assert (failed.status, failed.reason, done.status) == ("failed", "song", "done")
    assert "000.wav: failed unexpectedly (" in str(failed.error) and "test_ray_workers" in failed.record["trace"]
    assert notes == [] and Path("out/b/bass.wav").exists()


@pytest.mark.slow
def test_workers_without_a_place_are_noted(monkeypatch):
    monkeypatch.setattr("bandsplit.separation.ray_workers._PENDING_S", 1)
    monkeypatch.setattr("bandsplit.separation.ray_workers.share_of", lambda nodes, count: (1000, 0))
    notes = []
    with connected(None):
        workers = RayWorkers(recipe(), 2, notes.append)
        wait_until(lambda: workers.wait() or notes, "the note", DEADLINE_S)
        workers.close()
    assert notes[0].startswith("2 of 2 workers still wait for a place in the cluster")


def test_a_start_that_fails_is_tried_again_a_bounded_number_of_times():
    left = [RuntimeError("first"), RuntimeError("second")]

    def start() -> str:
        if left:
            raise left.pop(0)
        return "started"

    assert persist(start, 3) == "started"
    left[:] = [RuntimeError("first"), RuntimeError("second")]
    with pytest.raises(RuntimeError, match="second"):
        persist(start, 2)
