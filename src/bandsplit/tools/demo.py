"""The demo: make songs, train a small network, score it on songs it was not trained on, separate one, draw it.

Every step is real, but small: the yardsticks in the table show the network's gain over a filter that ignores its input.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from bandsplit.audio import files as audio
from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.errors import BandsplitError
from bandsplit.core.files import write_atomically
from bandsplit.core.printable import printable
from bandsplit.core.table import TextTable
from bandsplit.data.songs.check import check_dataset, require_sound
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset, Track
from bandsplit.data.synth.songs import write_dataset
from bandsplit.evaluation.evaluate import evaluate
from bandsplit.evaluation.results import Score, aggregate, append_scores
from bandsplit.evaluation.systems import ModelSystem, System
from bandsplit.evaluation.tables import MAIN_METRICS, score_tables
from bandsplit.evaluation.yardsticks import IDEAL_RATIO_MASK, STATIC_GAIN, yardstick_systems
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.reports.spectrograms import draw_separation
from bandsplit.runs.config import RunConfig
from bandsplit.runs.energy.meter import meters
from bandsplit.separation.separator import Separator
from bandsplit.training.execution import Execution
from bandsplit.training.loop import train
from bandsplit.training.reporters.terminal import TerminalProgress

NETWORK = "network"
YARDSTICKS = ("silence", "mixture", STATIC_GAIN, IDEAL_RATIO_MASK)
AVERAGE_MARGIN_DB, TARGET_MARGIN_DB = 2.0, 1.0
"""Margins over the static gain, on average and for each target, that the network needs for the demo to succeed."""


def run_demo(
    folder: Path, console: Console, *, songs: Sequence[int] = (100, 4, 8), duration_s: float = 12.0, seed: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> bool:  # fmt: skip
    """Run the demo in ``folder``; results of an earlier run with the same settings are reused.

    Args:
        folder: folder of all files.
        console: prints the progress.
        songs: numbers of songs for training, validation and test.
        duration_s: length of a song in seconds.
        seed: seed of songs and training.
        changes: settings of the recipe to change, as dotted paths.

    Returns:
        Whether the network beat the static gain by the margins above.

    Raises:
        BandsplitError: a step failed.
    """
    began = time.monotonic()

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        console.print(f"[bold]{minutes:2d}:{seconds:02d}[/bold]  {escape(printable(text))}", highlight=False)

    data, n_train, n_valid, n_test = folder / "data", *songs
    say(f"Making {sum(songs)} songs of {duration_s:g} s: synthesised drums, bass, chords and a singer, in {data}")
    config = find_recipe("demo").run_config(seed=seed, changes=changes)
    rate_hz = config.model.sample_rate_hz
    write_dataset(
        data, n_train=n_train, n_valid=n_valid, n_test=n_test, duration_s=duration_s, seed=seed, sample_rate_hz=rate_hz
    )
    dataset = require_sound(check_dataset(index_dataset(data)))

    say(f"Training one small network for {', '.join(config.model.targets)} (Ctrl-C stops; the same command resumes)")
    model = _train(config, dataset, folder / "runs", console)

    say(f"Scoring it on {n_test} songs that it was not trained on, next to four yardsticks that bound it")
    separator = Separator(model)
    rows = _score(separator, config, dataset, folder / "scores.jsonl")
    tables = score_tables(row for row in rows if row.metric in MAIN_METRICS)
    _write_tables(folder / "scores.md", tables)
    for table in tables:
        console.print(table.screen())

    track = dataset.songs("test")[0]
    say(f"Separating one of them, {track.name!r}")
    stems, picture = folder / "separated" / track.name, folder / "spectrograms.png"
    _separate(separator, track, stems, picture)
    passed = _report_verdict(rows, say)
    say("Done. Listen to, look at, and continue with:")
    _list_results(console, folder, stems, picture, model)
    return passed


def _list_results(console: Console, folder: Path, stems: Path, picture: Path, model: Path) -> None:
    for what, where in (
        ("stems", stems),
        ("spectrograms", picture),
        ("scores", folder / "scores.md"),
        ("model", model),
        ("your music", f"{_program()} separate SONG.mp3 -n '{model}'"),
        ("the paper", f"{_program()} models list --architectures"),
    ):
        console.print(f"       {what:13s} {escape(printable(where))}", highlight=False, soft_wrap=True)
    console.print("This model was trained on synthetic songs in minutes: on real music it is a toy.", highlight=False)


def _program() -> str:
    """Return the command that starts this program: its name, or, outside the PATH, the command that started it."""
    return "bandsplit" if shutil.which("bandsplit") else sys.argv[0]


def _write_tables(path: Path, tables: Sequence[TextTable]) -> None:
    try:
        write_atomically(path, "\n".join(table.markdown() for table in tables).encode())
    except OSError as error:
        raise BandsplitError(
            f"{path}: cannot be written ({error.strerror}); fix that, or choose another --folder"
        ) from None


def _separate(separator: Separator, track: Track, stems: Path, picture: Path) -> None:
    assert track.mixture is not None  # the generator writes it
    result = separator.separate_file(track.mixture.path, stems)
    song = track.load()
    estimates = {target: audio.read(path)[0] for target, path in result.paths.items()}
    title = f"{track.name}, not used in training"
    draw_separation(picture, title, song.mixture, estimates, song.stems, track.sample_rate_hz)


def _train(config: RunConfig, dataset: Dataset, runs: Path, console: Console) -> Path:
    torch.manual_seed(config.seed)
    with TerminalProgress(console) as progress:
        return train(
            config, dataset, runs, progress, execution=Execution(workers=1), resume=True, make_meter=meters()
        ).best


def _score(separator: Separator, config: RunConfig, dataset: Dataset, path: Path) -> list[Score]:
    yardsticks = yardstick_systems(dataset.songs("train"), config.model.targets, config.model.loss_stft or StftConfig())
    systems: dict[str, System] = {name: yardsticks[name] for name in YARDSTICKS}
    systems[NETWORK] = ModelSystem(separator)
    path.unlink(missing_ok=True)
    rows: list[Score] = []
    for some in evaluate(systems, dataset, "test"):
        append_scores(path, some)
        rows += some
    return rows


def _report_verdict(rows: list[Score], say: Callable[[str], None]) -> bool:
    means: dict[str, dict[str, float]] = {}
    for setting, targets in aggregate(rows).items():
        if setting.metric == "usdr_db":
            means[setting.system] = {target: summary.value or 0.0 for target, summary in targets.items()}
    gains = {target: value - means[STATIC_GAIN][target] for target, value in means[NETWORK].items()}
    average = sum(gains.values()) / len(gains)
    least = min(gains, key=lambda target: gains[target])
    passed = average >= AVERAGE_MARGIN_DB and gains[least] >= TARGET_MARGIN_DB
    text = f"The network beats the static gain by {average:.2f} dB on average, by {gains[least]:.2f} dB for {least}"
    say(text if passed else f"[red]{text}: too little, the demo failed[/red]")
    return passed
