"""The commands ``bandsplit bench ...``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bandsplit.cli.options import (
    MODEL_NAMES,
    DatasetOptions,
    DeviceOption,
    RootArgument,
    StemsOption,
    refuse_moved,
)
from bandsplit.cli.terminal import make_console, print_lines, split_names

if TYPE_CHECKING:
    from bandsplit.tools.bench.separation import SeparationSpeed
    from bandsplit.tools.bench.steps import TrainingSpeed

bench_app = typer.Typer(no_args_is_help=True, help="Measure speed, next to a reference on the same machine.")

TargetOption = Annotated[str, typer.Option("--target", "-t", help="Target of recipes with a single one.")]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")]
TRAINED = ("base", "optimised", "simo-optimised")


@bench_app.command("train", cls=refuse_moved({"--recipe": "`bandsplit bench train RECIPE ...`"}))
def bench_train(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE", help=f"Recipes to measure (default: {' '.join(TRAINED)}).", show_default=False
        ),
    ] = None,
    target: TargetOption = "vocals",
    batch: Annotated[int, typer.Option("--batch", help="Examples per step.", min=1)] = 2,
    steps: Annotated[int, typer.Option("--steps", help="Timed steps of each recipe.", min=1)] = 5,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda.")] = "auto",
    precision: Annotated[
        Literal["fp32", "tf32", "bf16", "fp16"],
        typer.Option("--precision", help="Of matrix products; tf32 and fp16 need CUDA."),
    ] = "fp32",
    markdown: MarkdownOption = False,
) -> None:
    """Measure training steps on noise, next to the rate of large matrix products on the same machine."""
    from bandsplit.core.errors import ConfigError
    from bandsplit.core.machine import describe_machine
    from bandsplit.recipes.catalogue import find_recipe
    from bandsplit.separation.torch_network import pick_device
    from bandsplit.tools.bench.steps import measure_steps

    console, out = make_console(), make_console(err=False)
    picked = pick_device(device)
    if precision in ("tf32", "fp16") and picked.type != "cuda":
        raise ConfigError(
            f"precision: {precision!r} needs CUDA, and the device is {picked.type!r}; use 'fp32' or 'bf16'"
        )
    found = [find_recipe(name) for name in recipes or TRAINED]
    configs = {recipe.id: recipe.run_config([] if recipe.shared else [target]) for recipe in found}
    with console.status(f"{steps + 1} steps of each recipe"):
        speed = measure_steps(configs, batch=batch, steps=steps, device=picked, precision=precision)
    matrix = f"large matrix products {speed.matrix_gflop_per_s:.0f} GFLOP/s"
    excerpts = ", ".join(sorted({f"{config.training.excerpt_s:g} s" for config in configs.values()}))
    what = f"batch {batch} x {excerpts}, {precision}, medians of {steps} step(s)"
    print_lines(out, f"{describe_machine(picked)}: {matrix}; {what}")
    for line in _lines(speed, markdown):
        print_lines(out, line)


@bench_app.command("separate")
def bench_separate(
    recipes: Annotated[
        str, typer.Option("--recipe", help="Architectures, with random weights; separated by commas.")
    ] = "base",
    model: Annotated[
        list[str] | None,
        typer.Option(*MODEL_NAMES, help="Models, by file or name, instead of recipes."),
    ] = None,
    target: TargetOption = "vocals",
    runtimes: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            help="Any of plain (PyTorch's layers, one chunk at a time), torch (without the CPU kernels), kernels, "
            "kernels-bf16, kernels-int8, native, native-bf16, native-int8 (the kernels without PyTorch), onnx, int8 "
            "(default: all installed).",
        ),
    ] = None,
    chunk: Annotated[
        float | None,
        typer.Option("--chunk", help="Length of a chunk in seconds (default: the model's own, as published).", min=0.1),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="Timed rounds of each runtime.", min=1)] = 3,
    device: DeviceOption = "auto",
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], typer.Option("--precision", help="Of the matrix products of `torch`.")
    ] = "fp32",
    markdown: MarkdownOption = False,
) -> None:
    """Measure separation of noise, next to the rate of large matrix products on the same machine.

    Each runtime runs in its own process; they take turns. `onnx` and `int8` run on the CPU and need the extra onnx.
    """
    from bandsplit.cli.model_choice import choose_models
    from bandsplit.core.machine import describe_machine, has_packages
    from bandsplit.core.unfinished import temporary_folder
    from bandsplit.separation.torch_network import pick_device
    from bandsplit.tools.bench.separation import RUNTIMES, benchmark_files, measure_separation

    console, out = make_console(), make_console(err=False)
    picked = pick_device(device)
    here = [name for name in RUNTIMES if name not in ("onnx", "int8") or has_packages("onnx", "onnxruntime")]
    wanted = split_names(runtimes) if runtimes is not None else here
    files = choose_models(console, model) if model else split_names(recipes)
    with temporary_folder() as folder:
        rows = []
        for name, ways in benchmark_files(files, target, wanted, Path(folder)):
            with console.status(f"{name}: {rounds + 1} rounds of {', '.join(ways)}"):
                speeds = measure_separation(
                    list(ways.values()), chunk_s=chunk, rounds=rounds, device=str(picked), precision=precision
                )
            rows += [_separation_row(name, runtime, speed) for runtime, speed in zip(ways, speeds, strict=True)]
    print_lines(out, f"{describe_machine(picked)}; {precision}, medians of {rounds} round(s)")
    for line in _separation_lines(rows, markdown):
        print_lines(out, line)


def _separation_lines(rows: Sequence[Sequence[str]], markdown: bool) -> list[str]:
    heading = (
        "model", "runtime", "chunk, s", "x real time", "x first", "GFLOP per 10 s", "matrix rate", "share", "peak",
        "of peak", "MB", "differs by",
    )  # fmt: skip
    return [
        *_table([heading, *rows], markdown),
        "matrix rate: GFLOP/s of large matrix products, 32 bit, in the same rounds; share: of that rate;",
        "peak: Gop/s of the kernels' products in registers, in all threads; of peak: all products over that;",
        "x first: speed relative to the model's first line in the same round; differs by: difference from that",
        "line as a fraction of the peak; MB: peak memory of the process",
    ]


def _separation_row(name: str, runtime: str, speed: SeparationSpeed) -> Sequence[str]:
    return (
        name, runtime, f"{speed.chunk_s:.4g}", f"{speed.realtime:.2f}", f"{speed.quicker:.2f}",
        f"{speed.gflop_per_10_s:.0f}", f"{speed.matrix_gflop_per_s:.0f}", f"{100 * speed.share:.0f} %",
        *_of_peak(speed), f"{speed.peak_mb:.0f}", f"{speed.difference:.1e}",
    )  # fmt: skip


def _of_peak(speed: SeparationSpeed) -> tuple[str, str]:
    if math.isnan(speed.peak_gop_per_s):
        return "-", "-"
    rate = speed.realtime * speed.gflop_per_10_s / 10
    return f"{speed.peak_gop_per_s:.0f}", f"{100 * rate / speed.peak_gop_per_s:.0f} %"


def _lines(speed: TrainingSpeed, markdown: bool) -> list[str]:
    rows = [("recipe", "step, ms", "examples/s", "GFLOP per step", "of the matrix rate", "peak memory, MB")]
    for name, row in speed.recipes.items():
        cells = f"{1000 * row.step_s:.0f}", f"{row.examples_per_s:.3g}", f"{row.gflop:.0f}"
        rows.append((name, *cells, f"{100 * row.share:.0f} %", f"{row.peak_mb:.0f}"))
    return _table(rows, markdown)


def _table(rows: Sequence[Sequence[str]], markdown: bool) -> list[str]:
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return ["", lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        row[0].ljust(widths[0]) + "".join(f"  {c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


@bench_app.command("data")
def bench_data(
    root: RootArgument,
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe whose examples are made.")] = "no-activity-detection",
    target: TargetOption = "vocals",
    stems: StemsOption = DatasetOptions.stems,
    examples: Annotated[int, typer.Option("--examples", help="Examples per round.", min=10)] = 60,
) -> None:
    """Measure how fast examples are made from these songs, next to soundfile reading the same bytes."""
    from bandsplit.data.examples.activity import index_activity
    from bandsplit.data.examples.dataset import make_examples
    from bandsplit.recipes.catalogue import find_recipe
    from bandsplit.tools.bench.examples import ROUNDS, measure_examples

    console, out = make_console(), make_console(err=False)
    found = find_recipe(recipe)
    config = found.run_config([] if found.shared else [target])
    dataset = DatasetOptions(stems, mixture="sum").open(console, root, ("train",))
    tracks, mixing = dataset.songs("train"), config.training.mixing
    made = make_examples(
        tracks,
        config.model.targets,
        mixing,
        excerpt_s=config.training.excerpt_s,
        examples=examples * (ROUNDS + 1),
        sample_rate_hz=config.model.sample_rate_hz,
        channels=config.model.channels,
        seed=0,
        active=index_activity(dataset, tracks, mixing.activity) if mixing.activity else None,
    )
    speed = measure_examples(made, examples)
    audio_s = config.training.excerpt_s * len(dataset.stems)
    print_lines(
        out, f"{len(tracks)} songs, {examples} examples of {config.training.excerpt_s:g} s in {ROUNDS} rounds, medians"
    )
    for what, rate, ratio in (
        ("soundfile alone: open, seek, read", speed.floor, 1.0),
        ("examples made in one process", speed.made, speed.made_ratio),
        ("examples from one loader worker", speed.loaded, speed.loaded_ratio),
    ):
        real_time = f"{audio_s * rate:.0f} s of stems per s"
        print_lines(out, f"{what:34s} {rate:7.1f} examples/s   {real_time:>24s}   {100 * ratio:4.0f} % of soundfile")
    print_lines(out, f"growth of peak memory over the rounds: {speed.growth_mb:.1f} MB")
