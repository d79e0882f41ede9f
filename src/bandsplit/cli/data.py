"""The commands ``bandsplit data ...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandsplit.cli.options import (
    AllowOption,
    DatasetOptions,
    LengthsOption,
    MixtureOption,
    RootArgument,
    StemsOption,
    YesOption,
    with_options,
)
from bandsplit.cli.terminal import byte_progress, make_console, print_lines, song_progress, split_names

if TYPE_CHECKING:
    from rich.table import Table

    from bandsplit.data.examples.mixing import ActivityConfig
    from bandsplit.data.songs.check import DatasetReport
    from bandsplit.data.songs.tracks import Track

EXACT_DB = -140.0
"""Below this, mixture and sum of stems differ by the rounding of 32-bit floats at most."""

SPLITS = ("train", "valid", "test")

data_app = typer.Typer(no_args_is_help=True, help="Check, inspect, fetch, pack and make data sets.")


@data_app.command()
def check(
    root: RootArgument,
    stems: StemsOption = DatasetOptions.stems,
    lengths: LengthsOption = "error",
    mixture: MixtureOption = "file",
) -> None:
    """Read all songs, report their properties and faults; exit code 1 if a fault would make results wrong."""
    from bandsplit.data.songs.check import check_dataset
    from bandsplit.data.songs.errata import errata_of
    from bandsplit.data.songs.layouts import index_dataset

    console, out = make_console(), make_console(err=False)
    dataset = index_dataset(root, split_names(stems), mixture=mixture, lengths=lengths, allow_broken=True)
    with song_progress(console, "reading") as progress:
        report = check_dataset(dataset, progress=progress)
    if report.songs:
        out.print(_check_table(report))
    for note in dataset.choices:
        print_lines(out, f"note: {note}")
    for track in dataset.tracks:
        for erratum in errata_of(track):
            print_lines(out, f"erratum: {track.split}/{track.name}, {erratum.part}: {erratum}")
    for problem in report.remarks:
        print_lines(out, f"remark: {problem}")
    print_lines(out, f"bandwidth: {report.bandwidth}")
    for split, fingerprint in report.fingerprints.items():
        n_songs = sum(song.track.split == split for song in report.songs)
        print_lines(out, f"fingerprint of {split}: {fingerprint} ({n_songs} songs)")
    problems = [*dataset.left_out, *map(str, report.broken)]
    for problem in problems:
        print_lines(out, f"BROKEN: {problem}", style="red")
    if problems:
        fix = "fix them before training; --allow continues without the songs that cannot be read"
        print_lines(out, f"{len(problems)} problem(s): {fix}")
        raise typer.Exit(1)
    print_lines(out, f"{dataset.layout}: {len(report.songs)} songs, nothing broken")


def _check_table(report: DatasetReport) -> Table:
    from bandsplit.core.screen import lean_table

    table = lean_table()
    for heading in ("song", "min:s", "Hz", "ch", "mixture", "mix-sum", "peak", "16k fall", "silent"):
        table.add_column(heading, justify="left" if heading in ("song", "mixture", "silent") else "right")
    for song in report.songs:
        track, whole = song.track, song.parts["mixture"]
        minutes, seconds = divmod(round(track.samples / track.sample_rate_hz), 60)
        table.add_row(
            song.label,
            f"{minutes}:{seconds:02d}",
            str(track.sample_rate_hz),
            str(track.channels),
            track.mixture_from,
            _residual(song.residual_db),
            f"{max(facts.peak for facts in song.parts.values()):.2f}",
            "-" if whole.cliff_db is None else f"{whole.cliff_db:.0f} dB",
            ", ".join(stem for stem in track.stems if song.parts[stem].silent) or "-",
        )
    return table


def _residual(residual_db: float | None) -> str:
    if residual_db is None:
        return "-"
    return "exact" if residual_db < EXACT_DB else f"{residual_db:.0f} dB"


@data_app.command()
def activity(
    root: RootArgument,
    stems: StemsOption = DatasetOptions.stems,
    lengths: LengthsOption = "error",
    song: Annotated[str | None, typer.Option("--song", help="Song to draw (default: the first).")] = None,
    allow: AllowOption = False,
) -> None:
    """Show the share of every stem that activity detection keeps, with our and the authors' settings; draw one song."""
    from bandsplit.core.errors import DataError
    from bandsplit.data.examples.activity import index_activity
    from bandsplit.data.examples.mixing import ACTIVITY_MODES
    from bandsplit.data.songs.facts import facts_folder
    from bandsplit.reports.spectrograms import draw_activity

    console, out = make_console(), make_console(err=False)
    dataset = DatasetOptions(stems, lengths, "sum", allow).open(console, root, SPLITS)
    tracks = dataset.tracks
    drawn = next((track for track in tracks if song in (None, track.name)), None)
    if drawn is None:
        raise DataError(f"{root}: has no song named {song!r}; it has {', '.join(track.name for track in tracks[:8])}")
    shares: dict[str, dict[tuple[int, str], float]] = {}
    segments = {}
    for mode, config in ACTIVITY_MODES.items():
        with song_progress(console, f"detecting activity ({mode})") as progress:
            active = index_activity(dataset, tracks, config, progress)
        shares[mode] = _kept_shares(tracks, active, config)
        segments[mode] = {stem: active[tracks.index(drawn), stem] for stem in drawn.stems}
    out.print(_activity_table(tracks, dataset.stems, shares))
    picture = facts_folder(dataset.root) / f"activity-{drawn.name.replace('/', '_')}.png"
    draw_activity(picture, drawn, ACTIVITY_MODES, segments)
    print_lines(out, f"kept segments of {drawn.name!r}: {picture}")


def _kept_shares(tracks: tuple[Track, ...], active: dict, config: ActivityConfig) -> dict[tuple[int, str], float]:
    from bandsplit.data.examples.activity import kept_share

    return {(number, stem): kept_share(starts, tracks[number], config) for (number, stem), starts in active.items()}


def _activity_table(
    tracks: tuple[Track, ...], stems: tuple[str, ...], shares: dict[str, dict[tuple[int, str], float]]
) -> Table:
    from bandsplit.core.screen import lean_table

    title = f"Share of segments kept, in %: {' / '.join(shares)}"
    table = lean_table(title=title, title_justify="left", padding=(0, 1), show_footer=True)
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
        table.add_row(f"{track.split}/{track.name}", *cells)
    return table


@data_app.command()
def download(
    name: Annotated[str, typer.Argument(help="Name of the data set: musdb18hq.")],
    to: Annotated[Path, typer.Option("--to", help="Folder in which the set's own folder is made.")] = Path("."),
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Address of a folder with the archive, instead of its record.")
    ] = None,
    md5: Annotated[str | None, typer.Option("--md5", help="Of the archive, if its record cannot be reached.")] = None,
    keep_archive: Annotated[bool, typer.Option("--keep-archive", help="Keep the archive after unpacking.")] = False,
    yes: YesOption = False,
) -> None:
    """Fetch a data set from its record, check it and unpack it; run the same command again to resume."""
    from bandsplit.data.songs.download import download_dataset, find_known_set, is_downloaded

    console = make_console()
    known = find_known_set(name)
    if not is_downloaded(known, to):
        print_lines(console, *known.notice().splitlines())
        if not yes:
            typer.confirm("Download it?", abort=True, err=True)
    with byte_progress(console) as progress:
        folder, new = download_dataset(
            known,
            to,
            mirror=mirror,
            md5=md5,
            keep_archive=keep_archive,
            progress=progress,
        )
    print_lines(
        console,
        f"{folder}: {'complete' if new else 'exists already'}; check it with: bandsplit data check {folder}",
    )


@data_app.command()
@with_options
def pack(
    root: RootArgument,
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    sample_rate_hz: Annotated[
        int | None, typer.Option("--sample-rate", help="In Hz (default: each song's own).", min=1)
    ] = None,
    *,
    songs: DatasetOptions,
) -> None:
    """Copy songs to 16-bit wav at one rate, so that training neither decodes nor resamples."""
    from bandsplit.data.songs.pack import pack_dataset

    console = make_console()
    dataset = songs.open(console, root, SPLITS)
    with song_progress(console, "packing") as progress:
        pack_dataset(dataset, out, sample_rate_hz, progress)
    print_lines(console, f"{len(dataset.tracks)} songs in {out}; train with --data {out}")


@data_app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="A new or empty folder, or one with the same songs.")],
    songs: Annotated[int, typer.Option("--songs", help="Songs for training.", min=1)] = 100,
    minutes: Annotated[float, typer.Option("--minutes", help="Length of a song.", min=1 / 60)] = 3.0,
    valid: Annotated[
        int | None, typer.Option("--valid", help="Songs for validation (default: a tenth).", min=0)
    ] = None,
    test: Annotated[int | None, typer.Option("--test", help="Songs for testing (default: a tenth).", min=0)] = None,
    seed: Annotated[int, typer.Option("--seed", help="Determines every sample of every song.", min=0)] = 0,
    sample_rate_hz: Annotated[int, typer.Option("--sample-rate", help="In Hz.", min=16000)] = 44100,
    workers: Annotated[int, typer.Option("--workers", help="Processes; no effect on the songs.", min=1)] = 2,
) -> None:
    """Synthesise a multitrack data set, deterministic to the sample, on which nobody else has rights."""
    import time

    from bandsplit.data.synth.songs import write_dataset

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
    print_lines(
        make_console(), f"{songs + n_valid + n_test} songs in {out}: {made_s / 60:.0f} min of music in {took_s:.0f} s"
    )
