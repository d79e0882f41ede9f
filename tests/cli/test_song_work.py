"""The loop of `bandsplit separate` with workers of the test: order, second copies, errors, and the summary."""

import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bandsplit.audio import files as audio
from bandsplit.cli.song_work import Patience, SongWork
from bandsplit.cli.summary import Summary
from bandsplit.core.stores import Store
from bandsplit.separation.batch import Batch, Outcome, unexpected
from bandsplit.separation.outputs import OutputConfig
from bandsplit.separation.songs import Song, find_songs
from bandsplit.separation.workers import Ended
from tiny_models import RATE_HZ, separator

POLLS = 100_000
MACHINE = {"cpu": "Intel(R) Xeon(R) Gold 6126", "cores": 12, "threads": 3, "memory_gb": 96.0, "gpu": None}


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """A catalogue of four songs in a folder, whose order by name is not that by length."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name, samples in (("a", 2000), ("b", 9000), ("c", 4000), ("d", 3000)):
        noise = np.random.default_rng(samples).uniform(-0.3, 0.3, (2, samples))
        audio.write(f"in/{name}.wav", noise.astype(np.float32), RATE_HZ)
    return Batch(separator(), Store("out"), OutputConfig())


def work_on(batch: Batch, attempts: int = 3) -> tuple[SongWork, io.StringIO, list[Song]]:
    printed = io.StringIO()
    work = SongWork(
        batch, Console(file=printed, width=300), json_to=None, force=False, show_plan=False,
        patience=Patience(attempts),
    )  # fmt: skip
    return work, printed, find_songs(["in"], "out")


class TwoWorkers:
    """Two workers, of which the one with the song ``stuck`` ends only after the other has begun the same song."""

    def __init__(self, batch: Batch, stuck: str) -> None:
        self.batch, self.stuck = batch, stuck
        self.begun: list[str] = []
        self.running: dict[int, Song] = {}
        self.polls = 0

    def free(self) -> Sequence[int]:
        return sorted({0, 1} - self.running.keys())

    def start(self, worker: int, song: Song) -> None:
        self.begun.append(song.track)
        self.running[worker] = song

    def wait(self) -> Sequence[Ended]:
        self.polls += 1
        assert self.polls < POLLS, "no second copy was begun"
        time.sleep(0.001)
        ended = []
        for worker, song in list(self.running.items()):
            if song.track != self.stuck or self.begun.count(song.track) == 2:
                ended.append((worker, self.batch.attempt(self.running.pop(worker), force=True, limit=lambda: False)))
        return ended

    def stop(self, worker: int) -> None:
        del self.running[worker]


def test_workers_of_a_cluster_take_the_longest_songs_first_and_copy_the_one_that_is_stuck(batch: Batch):
    (work, printed, songs), workers = work_on(batch), TwoWorkers(batch, "b")
    assert [song.track for song in songs] == ["a", "b", "c", "d"]
    assert work.run_on(workers, songs) == 0
    assert workers.begun == ["b", "c", "d", "a", "b"]
    assert printed.getvalue().count("b.wav -> ") == 1 and "4 song(s) done" in printed.getvalue()
    assert len(list(Path("out/done").iterdir())) == 4


def test_the_main_thread_takes_the_longest_songs_of_a_catalogue_first(batch: Batch):
    work, printed, songs = work_on(batch)
    assert work.run(songs, 1) == 0
    order = [line.partition(".wav")[0][-1] for line in printed.getvalue().splitlines() if " -> " in line]
    assert order == ["b", "c", "d", "a"]


def test_an_error_that_nobody_foresaw_fails_one_song_of_a_catalogue_and_its_record_keeps_the_trace(batch: Batch):
    class Broken(TwoWorkers):
        def wait(self) -> Sequence[Ended]:
            return [(worker, self.attempt(self.running.pop(worker))) for worker in list(self.running)]

        def attempt(self, song: Song) -> Outcome:
            return self.batch.attempt(song, force=True, limit=lambda: song.track == "c" and 1 // 0 > 0)

    work, printed, songs = work_on(batch, attempts=2)
    assert work.run_on(Broken(batch, ""), songs) == 1
    assert "c.wav: failed unexpectedly (ZeroDivisionError: integer division or modulo by zero)" in printed.getvalue()
    assert "Traceback" not in printed.getvalue() and work.summary.done == 3
    (failed,) = (json.loads(path.read_text()) for path in Path("out/failed").iterdir())
    assert failed["reason"] == "song" and "Traceback" in failed["trace"] and "ZeroDivisionError" in failed["trace"]
    plain = Batch(separator(), Path("plain"), OutputConfig())
    with pytest.raises(ZeroDivisionError):  # without a catalogue, a mistake shows where it is
        plain.attempt(songs[0], limit=lambda: 1 // 0 > 0)


def test_a_trace_does_not_hold_the_secret_of_an_address(batch: Batch):
    (song, *_) = find_songs(["in"], "out")
    trace = "ValueError: https://me:secret@host/a.wav?Key=secret is odd"
    outcome = unexpected(song, ValueError(trace), trace)
    assert outcome.record["trace"] == "ValueError: https://host/a.wav" and "secret" not in str(outcome.error)


def test_the_summary_has_hours_speed_and_the_energy_of_the_share_of_the_machine():
    summary = Summary(5)
    for _ in range(2):
        summary.add({"audio_s": 5400.0, "wall_s": 3600.0, "machine": MACHINE})
    summary.failures["time"] += 1
    found = summary.as_json(1800)
    # An hour of 3 of 12 cores of 125 W and of a quarter of 96 GB at 0.3725 W, twice.
    assert found.pop("kwh_estimated") == pytest.approx(2 * (3 * 125 / 12 + 24 * 0.3725) / 1000)
    assert found == {
        "status": "summary", "done": 2, "skipped": 5, "failed": 1, "audio_h": 3.0, "wall_h": 0.5,
        "songs_per_hour": 4.0, "failures": {"time": 1},
    }  # fmt: skip
    assert summary.lines(1800)[:2] == [
        "2 song(s) done, 5 had been done before, 1 failed",
        "3.00 hours of music in 0.50 hours: 4 songs per hour; energy: about 0.0804 kWh (estimated)",
    ]
    summary.add({"audio_s": 1.0, "wall_s": 3600.0, "machine": MACHINE | {"gpu": "NVIDIA GeForce RTX 3090"}})
    assert summary.kwh == pytest.approx((3 * (3 * 125 / 12 + 24 * 0.3725) + 350) / 1000)
    summary.add({"audio_s": 1.0, "wall_s": 1.0, "machine": MACHINE | {"gpu": "nobody's"}})
    assert summary.as_json(1800)["kwh_estimated"] is None
