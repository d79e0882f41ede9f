"""The work of ``bandsplit separate`` on its songs, and its output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from bandsplit.cli.summary import Summary
from bandsplit.cli.terminal import print_lines
from bandsplit.core.errors import AudioError, BandsplitError, OutputError
from bandsplit.core.interrupt import check, stopping

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from bandsplit.separation.batch import Batch, Outcome
    from bandsplit.separation.forecast import Forecast
    from bandsplit.separation.schedule import End
    from bandsplit.separation.songs import Song
    from bandsplit.separation.workers import Workers


@dataclass(frozen=True)
class Patience:
    """Attempts at a song, and the time that one may take."""

    attempts: int = 1
    limit_s: float | None = None


class SongWork:
    """Separation of songs by any kind of workers, and the lines printed about it."""

    def __init__(
        self,
        batch: Batch,
        console: Console,
        *,
        json_to: TextIO | None,
        force: bool,
        show_plan: bool,
        patience: Patience,
    ) -> None:
        """Keep the batch and the options of the command; records go to ``json_to``."""
        self.batch, self.console, self.json_to = batch, console, json_to
        self.force, self.show_plan, self.patience = force, show_plan, patience
        self.summary = Summary(0)

    def run(self, songs: Sequence[Song], jobs: int) -> int:
        """Separate the songs in this process; return how many failed."""
        from bandsplit.separation.workers import MainThread, Threads

        with self._bar() as bar:
            attempt = partial(self._attempt, bar=bar)
            if jobs == 1:
                return self._work_off(songs, MainThread(attempt))
            threads = Threads(attempt, jobs, partial(_use_threads, _threads()))
            try:
                return self._work_off(songs, threads)
            finally:
                threads.close()

    def run_on(self, workers: Workers, songs: Sequence[Song]) -> int:
        """Separate the songs on a cluster; return how many failed."""
        with self._bar() as bar:
            task = bar.add_task("songs", total=len(songs))
            return self._work_off(
                songs, workers, limit_s=self.patience.limit_s, copies=True, step=lambda: bar.advance(task)
            )

    def note(self, text: str) -> None:
        """Print a note for the user."""
        print_lines(self.console, f"note: {text}")

    def _bar(self) -> Progress:
        from rich.progress import Progress

        return Progress(console=self.console, transient=True, disable=not self.console.is_terminal)

    def _work_off(
        self,
        songs: Sequence[Song],
        workers: Workers,
        *,
        limit_s: float | None = None,
        copies: bool = False,
        step: Callable[[], object] = lambda: None,
    ) -> int:
        """Separate the songs, in a catalogue the longest first."""
        from bandsplit.separation.schedule import Schedule
        from bandsplit.separation.songs import about_s
        from bandsplit.separation.workers import work_off

        began = time.monotonic()
        missing = list(songs)
        if self.batch.catalogue is not None and not self.force:
            missing = [song for song in songs if not self._is_done_for_sure(song)]
        self.summary = Summary(len(songs) - len(missing))
        lengths_s = [about_s(song) if self.batch.catalogue is not None else 0.0 for song in missing]
        schedule = Schedule(lengths_s, attempts=self.patience.attempts, limit_s=limit_s, copies=copies)

        def report(song: Song, outcome: Outcome, end: End) -> None:
            self._report(song, outcome, end)
            step()

        work_off(schedule, missing, workers, report)
        check()
        if self.batch.catalogue is not None:
            wall_s = time.monotonic() - began
            print_lines(self.console, *self.summary.lines(wall_s))
            self._print(self.summary.as_json(wall_s))
        return self.summary.failures.total()

    def _is_done_for_sure(self, song: Song) -> bool:
        with suppress(AudioError):  # its stems can have no names, which is reported when its turn comes
            return self.batch.is_done(song)
        return False

    def print_forecast(self, songs: Sequence[Song]) -> int:
        """Print what would be done and about how long it would take; return how many songs cannot be separated."""
        from bandsplit.separation.forecast import Forecast

        forecast, planned, total_s, failed = Forecast(self.batch.separator), 0, 0.0, 0
        for song in songs:
            try:
                record = self._forecast_song(song, forecast)
            except BandsplitError as error:
                self._print(print_failure(self.console, song, error))
                failed += 1
                continue
            self._print(record)
            if record["status"] == "planned":
                planned, total_s = planned + 1, total_s + record["about_s"]
        if planned > 1:
            print_lines(self.console, f"{planned} songs to separate, one after the other in {_about(total_s)}")
        return failed

    def _forecast_song(self, song: Song, forecast: Forecast) -> dict[str, Any]:
        from bandsplit.audio.decoding import open_song

        is_done = self._is_done(song)
        record = self.batch.describe(song, "skipped" if is_done else "planned")
        with open_song(song.path, **self.batch.part) as source:
            plans = self.batch.separator.plans(source.samples, source.sample_rate_hz)
            notes = self.batch.separator.notes(source.channels, source.sample_rate_hz, str(song.path))
            what = "already done"
            if not is_done:
                cost = forecast.cost(plans, source.channels)
                memory = "" if cost.megabytes is None else f" and {cost.megabytes:.0f} MB of memory"
                what = f"{' + '.join(plan.title for plan in plans)}; {_about(cost.seconds)}{memory}"
                record |= {"about_s": cost.seconds, "about_mb": cost.megabytes}
        print_lines(
            self.console, f"{song.name} -> {self.batch.out_dir}: {', '.join(record['outputs'].values())} ({what})"
        )
        for note in (source.note, *notes) if not is_done else ():
            if note:
                print_lines(self.console, f"note: {song.path.name}: {note}")
        return record

    def _attempt(self, song: Song, bar: Progress) -> Outcome:
        """Separate a song, in any thread."""
        from rich.markup import escape

        from bandsplit.core.printable import printable

        began = time.monotonic()
        task = bar.add_task(escape(printable(song.path.name)))

        def progress(done_s: float, total_s: float, _stage: str) -> bool:
            bar.update(task, completed=done_s, total=total_s)
            return not stopping()

        def is_late() -> bool:
            return self.patience.limit_s is not None and time.monotonic() - began > self.patience.limit_s

        try:
            return self.batch.attempt(song, progress, force=self.force, limit=is_late)
        finally:
            bar.remove_task(task)

    def _report(self, song: Song, outcome: Outcome, end: End) -> None:
        from bandsplit.separation.schedule import End

        match end:
            case End.DONE:
                self._report_done(song, outcome)
            case End.FAILED:
                self._report_failed(song, outcome)
            case End.AGAIN:
                print_lines(self.console, f"note: another attempt follows: {outcome.error}")
            case End.SETTLED:
                pass

    def _report_done(self, song: Song, outcome: Outcome) -> None:
        result = outcome.result
        if result is None:
            print_lines(self.console, f"{song.name}: done already; --force separates it again")
        else:
            for note in result.notes:
                print_lines(self.console, f"note: {song.path.name}: {note}")
            if self.show_plan:
                print_lines(self.console, *(line for plan in result.plans for line in str(plan).splitlines()))
            times = f"{result.audio_s:.1f} s in {result.wall_s:.1f} s, {result.audio_s / result.wall_s:.1f} x real time"
            print_lines(self.console, f"{song.name} -> {self.batch.place(song)}  ({times})")
        if self.batch.catalogue is not None:
            self.summary.add(outcome.record)
            self.batch.forgive(song)
        self._print(outcome.record)

    def _report_failed(self, song: Song, outcome: Outcome) -> None:
        assert outcome.error is not None and outcome.reason is not None
        self.summary.failures[outcome.reason] += 1
        record = print_failure(self.console, song, outcome.error)
        try:
            if outcome.reason == "output" and self.batch.catalogue is not None:  # it would be that of all others, too
                raise OutputError(*outcome.error.args, "stopped; run the same command again to continue")
            record = self.batch.record_failure(song, outcome)
        except BandsplitError:
            if self.batch.catalogue is not None:
                raise
        finally:
            self._print(record)

    def _is_done(self, song: Song) -> bool:
        return not self.force and self.batch.is_done(song)

    def _print(self, record: dict[str, Any]) -> None:
        print_record(record, self.json_to)


def print_record(record: dict[str, Any], to: TextIO | None) -> None:
    """Print a record as a line of JSON, if that is wanted."""
    if to is not None:
        to.write(json.dumps(record) + "\n")
        to.flush()


def print_failure(console: Console, song: Song, error: BandsplitError) -> dict[str, Any]:
    """Print why a song failed; return its record."""
    print_lines(console, f"failed: {error}", style="red")
    return {"status": "failed", "input": song.name, "error": str(error)}


def _about(seconds: float) -> str:
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"about {seconds / unit_s:.1f} {unit}"
    return f"about {max(1, round(seconds))} s"


def _threads() -> int:
    """Return how many threads PyTorch uses in this thread; 0 if PyTorch is not loaded."""
    torch = sys.modules.get("torch")
    return 0 if torch is None else torch.get_num_threads()


def _use_threads(count: int) -> None:
    """Let PyTorch use ``count`` threads in this thread; a new one starts with the count another job has just set."""
    if count:
        sys.modules["torch"].set_num_threads(count)


@contextmanager
def limit_threads(jobs: int) -> Iterator[None]:
    """Share PyTorch's CPU threads, if it is loaded, between jobs, which would otherwise slow each other down."""
    before = _threads()
    _use_threads(before and max(1, before // jobs))
    try:
        yield
    finally:
        _use_threads(before)
