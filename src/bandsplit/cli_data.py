"""The commands ``bandsplit data ...`` and ``bandsplit bench data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandsplit.terminal import (
    DEFAULT_STEMS,
    AllowOption,
    LengthsOption,
    MixtureOption,
    RootArgument,
    StemsOption,
    make_console,
    open_dataset,
    song_progress,
    tell,
)

if TYPE_CHECKING:
    from rich.table import Table

    from bandsplit.data.check import Report
    from bandsplit.data.tracks import Track
    from bandsplit.mixing import ActivityConfig

data_app = typer.Typer(no_args_is_help=True, help="Check, look at, fetch, pack and make data sets.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed, beside the floor it is compared to.")


@data_app.command()
def check(
    root: RootArgument,
    stems: StemsOption = DEFAULT_STEMS,
    lengths: LengthsOption = "error",
    mixture: MixtureOption = "file",
) -> None:
    """Read all songs and report what they are and what is wrong; exit code 1 if results would be."""
    from bandsplit.data.check import check_dataset
    from bandsplit.data.layouts import index_dataset

    console, out = make_console(), make_console(err=False)
    names = tuple(name.strip() for name in stems.split(",") if name.strip())
    dataset = index_dataset(root, names, mixture=mixture, lengths=lengths, allow_broken=True)
    with song_progress(console, "reading") as progress:
        report = check_dataset(dataset, progress=progress)
    if report.songs:
        out.print(_check_table(report))
    broken = [note for note in dataset.notes if note.startswith("left out: ")]
    for note in dataset.notes:
        if note not in broken:
            tell(out, f"note: {note}")
    for problem in report.remarks:
        tell(out, f"remark: {problem}")
    tell(out, f"bandwidth: {report.bandwidth}")
    for split, fingerprint in report.fingerprints.items():
        n_songs = sum(song.track.split == split for song in report.songs)
        tell(out, f"fingerprint of {split}: {fingerprint} ({n_songs} songs)")
    problems = [*(note.removeprefix("left out: ") for note in broken), *map(str, report.broken)]
    for problem in problems:
        tell(out, f"BROKEN: {problem}", style="red")
    if problems:
        tell(out, f"{len(problems)} problem(s): mend them before training; --allow goes on without what is broken")
        raise typer.Exit(1)
    tell(out, f"{dataset.layout}: {len(report.songs)} songs, nothing broken")


def _check_table(report: Report) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("song", "min:s", "Hz", "ch", "mixture", "mix - sum, dB", "peak", "16 kHz fall, dB", "silent"):
        table.add_column(heading, justify="left" if heading in ("song", "mixture", "silent") else "right")
    for song in report.songs:
        track, whole = song.track, song.parts["mixture"]
        minutes, seconds = divmod(round(track.samples / track.sample_rate_hz), 60)
        table.add_row(
            escape(song.label),
            f"{minutes}:{seconds:02d}",
            str(track.sample_rate_hz),
            str(track.channels),
            track.mixture_from,
            "-" if song.residual_db is None else f"{song.residual_db:.0f}",
            f"{max(facts.peak for facts in song.parts.values()):.2f}",
            "-" if whole.cliff_db is None else f"{whole.cliff_db:.0f}",
            ", ".join(stem for stem in track.stems if song.parts[stem].silent) or "-",
        )
    return table


@data_app.command()
def activity(
    root: RootArgument,
    stems: StemsOption = DEFAULT_STEMS,
    lengths: LengthsOption = "error",
    song: Annotated[str | None, typer.Option("--song", help="Song of the picture (default: the first).")] = None,
    allow: AllowOption = False,
) -> None:
    """Show which share of every stem activity detection keeps, by default and as the authors; draw one song."""
    from bandsplit.data.facts import facts_folder
    from bandsplit.errors import DataError
    from bandsplit.mixing import ACTIVITY_MODES
    from bandsplit.plots import draw_activity

    console, out = make_console(), make_console(err=False)
    dataset = open_dataset(
        console, root, ("train", "valid", "test"), stems=stems, lengths=lengths, mixture="sum", allow=allow
    )
    tracks = dataset.tracks
    drawn = next((track for track in tracks if song in (None, track.name)), None)
    if drawn is None:
        raise DataError(f"{root}: has no song named {song!r}; it has {', '.join(track.name for track in tracks[:8])}")
    from bandsplit.data.activity import index_activity

    shares: dict[str, dict[tuple[int, str], float]] = {}
    segments = {}
    for mode, config in ACTIVITY_MODES.items():
        with song_progress(console, f"listening ({mode})") as progress:
            active = index_activity(dataset, tracks, config, progress)
        shares[mode] = _kept_shares(tracks, active, config)
        segments[mode] = {stem: active[tracks.index(drawn), stem] for stem in drawn.stems}
    out.print(_activity_table(tracks, dataset.stems, shares))
    picture = facts_folder(dataset.root) / f"activity-{drawn.name.replace('/', '_')}.png"
    draw_activity(picture, drawn, ACTIVITY_MODES, segments)
    tell(out, f"kept segments of {drawn.name!r}: {picture}")


def _kept_shares(tracks: tuple[Track, ...], active: dict, config: ActivityConfig) -> dict[tuple[int, str], float]:
    from bandsplit.data.activity import kept_share

    return {(number, stem): kept_share(starts, tracks[number], config) for (number, stem), starts in active.items()}


def _activity_table(
    tracks: tuple[Track, ...], stems: tuple[str, ...], shares: dict[str, dict[tuple[int, str], float]]
) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    title = f"Share of segments kept, in %: {' / '.join(shares)}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, show_footer=True)
    table.add_column("song", footer="mean")
    for stem in stems:
        means = []
        for kept in shares.values():
            values = [value for (_, name), value in kept.items() if name == stem]
            means.append(f"{100 * sum(values) / len(values):.0f}" if values else "-")
        table.add_column(stem, justify="right", footer=" / ".join(means))
    for number, track in enumerate(tracks):
        cells = (
            " / ".join(f"{100 * kept[number, stem]:.0f}" if (number, stem) in kept else "-" for kept in shares.values())
            for stem in stems
        )
        table.add_row(escape(f"{track.split}/{track.name}"), *cells)
    return table


@data_app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="A new or empty folder, or one with the same songs.")],
    songs: Annotated[int, typer.Option("--songs", help="Songs for training.", min=1)] = 100,
    minutes: Annotated[float, typer.Option("--minutes", help="Length of a song.", min=1 / 60)] = 3.0,
    valid: Annotated[
        int | None, typer.Option("--valid", help="Songs for validation (default: a tenth).", min=0)
    ] = None,
    test: Annotated[int | None, typer.Option("--test", help="Songs for testing (default: a tenth).", min=0)] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides every sample of every song.", min=0)] = 0,
    sample_rate_hz: Annotated[int, typer.Option("--sample-rate", help="In Hz.", min=16000)] = 44100,
    workers: Annotated[int, typer.Option("--workers", help="Processes; no effect on the songs.", min=1)] = 2,
) -> None:
    """Make a multitrack data set by synthesis, deterministic to the sample, free of anyone's rights."""
    import time

    from bandsplit.data.synthesis import write_dataset

    tenth = max(1, songs // 10)
    n_valid, n_test = tenth if valid is None else valid, tenth if test is None else test
    began = time.monotonic()
    write_dataset(
        out,
        n_train=songs,
        n_valid=n_valid,
        n_test=n_test,
        duration_s=60 * minutes,
        seed=seed,
        sample_rate_hz=sample_rate_hz,
        workers=workers,
    )
    took_s, made_s = time.monotonic() - began, 60 * minutes * (songs + n_valid + n_test)
    tell(make_console(), f"{songs + n_valid + n_test} songs in {out}: {made_s / 60:.0f} min of music in {took_s:.0f} s")
