"""The command ``bandsplit bench train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bandsplit.cli_data import bench_app
from bandsplit.terminal import make_console, tell

if TYPE_CHECKING:
    from bandsplit.training.bench import TrainingSpeed

DEFAULT_RECIPES = "base,optimised,simo-optimised"


@bench_app.command("train")
def bench_train(
    recipes: Annotated[str, typer.Option("--recipe", help="Whose steps; separated by commas.")] = DEFAULT_RECIPES,
    target: Annotated[str, typer.Option("--target", "-t", help="Target of recipes with one.")] = "vocals",
    batch: Annotated[int, typer.Option("--batch", help="Examples of a step.", min=1)] = 2,
    steps: Annotated[int, typer.Option("--steps", help="Steps of each recipe that count.", min=1)] = 5,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda.")] = "auto",
    precision: Annotated[
        Literal["fp32", "tf32", "bf16"], typer.Option("--precision", help="Of products; tf32 needs CUDA.")
    ] = "fp32",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Measure training steps on noise, beside the rate of large matrix products on the same machine."""
    from bandsplit.errors import ConfigError
    from bandsplit.inference.torch_network import pick_device
    from bandsplit.recipes import find_recipe
    from bandsplit.terminal import split_names
    from bandsplit.training.bench import measure
    from bandsplit.training.checkpoint import environment

    console, out = make_console(), make_console(err=False)
    picked = pick_device(device)
    if precision == "tf32" and picked.type != "cuda":
        raise ConfigError(f"precision: 'tf32' needs CUDA, and the device is {picked.type!r}; use 'fp32' or 'bf16'")
    found = [find_recipe(name) for name in split_names(recipes)]
    if not found:
        raise ConfigError(f"recipe: {recipes!r} names none; name some, separated by commas, as {DEFAULT_RECIPES}")
    configs = {recipe.id: recipe.run_config([] if recipe.shared else [target]) for recipe in found}
    with console.status(f"{steps + 1} steps of each recipe"):
        speed = measure(configs, batch=batch, steps=steps, device=picked, precision=precision)
    facts = environment()
    machine = facts["gpu"] if picked.type == "cuda" else f"{facts['cpu']}, {facts['cpu_threads']} threads"
    matrix = f"large matrix products {speed.matrix_gflop_per_s:.0f} GFLOP/s"
    excerpts = ", ".join(sorted({f"{config.training.excerpt_s:g} s" for config in configs.values()}))
    what = f"batch {batch} x {excerpts}, {precision}, medians of {steps} step(s)"
    tell(out, f"{machine}, torch {facts['torch']}: {matrix}; {what}")
    for line in _lines(speed, markdown):
        tell(out, line)


def _lines(speed: TrainingSpeed, markdown: bool) -> list[str]:
    rows = [("recipe", "step, ms", "examples/s", "GFLOP per step", "of the matrix rate", "peak memory, MB")]
    for name, row in speed.recipes.items():
        cells = f"{1000 * row.step_s:.0f}", f"{row.examples_per_s:.3g}", f"{row.gflop:.0f}"
        rows.append((name, *cells, f"{100 * row.share:.0f} %", f"{row.peak_mb:.0f}"))
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return ["", lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        row[0].ljust(widths[0]) + "".join(f"  {c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
