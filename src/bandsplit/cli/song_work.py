"""The work of ``bandsplit separate`` on each song, and its output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bandsplit.cli.terminal import print_lines
from bandsplit.core.errors import BandsplitError, Cancelled
from bandsplit.core.interrupt import check, stopping

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from bandsplit.separation.batch import Batch, Song
    from bandsplit.separation.forecast import Forecast


class SongWork:
    """Separation of songs, one by one or several at a time, and the lines printed about it."""

    def __init__(self, batch: Batch, console: Console, *, as_json: bool, force: bool, show_plan: bool) -> None:
        """Keep the batch and the options of the command."""
        self.batch, self.console, self.as_json = batch, console, as_json
        self.force, self.show_plan = force, show_plan

    def run(self, songs: Sequence[Song], jobs: int) -> int:
        """Separate the songs; return how many failed."""
        from concurrent.futures import ThreadPoolExecutor

        from rich.progress import Progress

        bar = Progress(console=self.console, transient=True, disable=not self.console.is_terminal)
        with bar:
            if jobs == 1:
                failed = sum(not self._separate(song, bar) for song in songs)
            else:
                with ThreadPoolExecutor(jobs, initializer=_use_threads, initargs=(_threads(),)) as pool:
                    try:
                        futures = [pool.submit(self._separate, song, bar) for song in songs]
                        failed = sum(not future.result() for future in futures)
                    finally:
                        pool.shutdown(cancel_futures=True)
        check()
        return failed

    def print_forecast(self, songs: Sequence[Song]) -> int:
        """Print what would be done and about how long it would take; return how many songs cannot be separated."""
        from bandsplit.separation.forecast import Forecast

        forecast, planned, total_s, failed = Forecast(self.batch.separator), 0, 0.0, 0
        for song in songs:
            try:
                record = self._forecast_song(song, forecast)
            except BandsplitError as error:
                failed += not self._fail(song, error)
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
            self.console, f"{song.path} -> {self.batch.out_dir}: {', '.join(record['outputs'].values())} ({what})"
        )
        for note in (source.note, *notes) if not is_done else ():
            if note:
                print_lines(self.console, f"note: {song.path.name}: {note}")
        return record

    def _separate(self, song: Song, bar: Progress) -> bool:
        from rich.markup import escape

        from bandsplit.core.printable import printable

        if stopping():
            return False
        try:
            if self._is_done(song):
                print_lines(self.console, f"{song.path}: done already; --force separates it again")
                self._print(self.batch.describe(song, "skipped"))
                return True
            task = bar.add_task(escape(printable(song.path.name)))
            try:
                result, record = self.batch.separate(song, self._progress(bar, task))
            finally:
                bar.remove_task(task)
        except Cancelled:
            return False  # reported by the code that stopped it
        except BandsplitError as error:
            return self._fail(song, error)
        for note in result.notes:
            print_lines(self.console, f"note: {song.path.name}: {note}")
        if self.show_plan:
            print_lines(self.console, *(line for plan in result.plans for line in str(plan).splitlines()))
        times = f"{result.audio_s:.1f} s in {result.wall_s:.1f} s, {result.audio_s / result.wall_s:.1f} x real time"
        where = next(iter(result.paths.values())).parent
        print_lines(self.console, f"{song.path} -> {where}  ({times})")
        self._print(record)
        return True

    def _progress(self, bar: Progress, task: Any) -> Callable[[float, float, str], bool]:
        def progress(done_s: float, total_s: float, _stage: str) -> bool:
            bar.update(task, completed=done_s, total=total_s)
            return not stopping()

        return progress

    def _is_done(self, song: Song) -> bool:
        return not self.force and self.batch.is_done(song)

    def _fail(self, song: Song, error: BandsplitError) -> bool:
        print_failure(self.console, song, error, self.as_json)
        return False

    def _print(self, record: dict[str, Any]) -> None:
        if self.as_json:
            _print_json(record)


def print_failure(console: Console, song: Song, error: BandsplitError, as_json: bool) -> None:
    """Print why a song failed."""
    print_lines(console, f"failed: {error}", style="red")
    if as_json:
        _print_json({"status": "failed", "input": str(song.path), "error": str(error)})


def _print_json(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


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
