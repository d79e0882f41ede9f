"""The command ``bandsplit evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bandsplit.terminal import (
    DEFAULT_STEMS,
    AllowOption,
    ChunkOption,
    DataOption,
    DeviceOption,
    GeometryOption,
    HopOption,
    LengthsOption,
    MethodOption,
    MixtureOption,
    OverlapOption,
    StemsOption,
    chunk_config,
    make_console,
    open_dataset,
    tell,
)


def evaluate(
    model: Annotated[
        list[Path],
        typer.Argument(
            help="Model files; those of different targets are scored together, a repeated target starts a new system."
        ),
    ],
    data: DataOption,
    split: Annotated[Literal["train", "valid", "test"], typer.Option("--split", help="Which songs.")] = "test",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Rows are added to this file (default: results/<data>-<split>.jsonl)."),
    ] = None,
    yardsticks: Annotated[
        bool,
        typer.Option(
            "--yardsticks",
            help="Score silence, the mixture, a static gain fitted on train/ and the ideal ratio mask too.",
        ),
    ] = False,
    device: DeviceOption = "auto",
    method: MethodOption = "crossfade",
    chunk: ChunkOption = None,
    overlap: OverlapOption = None,
    hop: HopOption = None,
    geometry: GeometryOption = None,
    stems: StemsOption = DEFAULT_STEMS,
    lengths: LengthsOption = "error",
    mixture: MixtureOption = "file",
    allow: AllowOption = False,
) -> None:
    """Score models on whole songs: uSDR and cSDR per song and target, as rows in a file and a table."""
    from rich.markup import escape

    from bandsplit.evaluation import System, model_systems
    from bandsplit.evaluation import evaluate as score
    from bandsplit.results import append_scores
    from bandsplit.tables import score_tables
    from bandsplit.yardsticks import yardstick_systems

    console = make_console()
    models = model_systems(model, device, chunk_config(method, chunk, overlap, hop, geometry))
    splits = ("train", split) if yardsticks else (split,)
    dataset = open_dataset(console, data, splits, stems=stems, lengths=lengths, mixture=mixture, allow=allow)
    systems: dict[str, System] = {}
    if yardsticks:
        systems |= yardstick_systems(dataset.songs("train"), dataset.stems)
    systems |= models
    path = out or Path("results") / f"{dataset.name}-{split}.jsonl"
    rows = []
    with console.status("") as status:
        for number, some in enumerate(score(systems, dataset, split), start=len(systems)):
            append_scores(path, some)
            rows += some
            status.update(f"song {number // len(systems)} of {len(dataset.songs(split))}: {escape(some[0].track)}")
    for table in score_tables(rows):
        console.print(table.screen())
    tell(console, f"{len(rows)} rows added to {path}")
