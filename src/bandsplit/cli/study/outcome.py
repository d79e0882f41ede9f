"""The commands ``bandsplit study tables | figures | report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bandsplit.cli.options import DatasetOptions, DeviceOption, with_options
from bandsplit.cli.terminal import make_console, print_lines, show, split_names

if TYPE_CHECKING:
    from bandsplit.studies.outcome import StudyData
    from bandsplit.studies.plans import Study
    from bandsplit.studies.runner.folder import StudyFolder

StudyArgument = Annotated[str, typer.Argument(help="Name of a study; see `bandsplit study list`.")]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="Folder of the study (default: study/<name>[-<budget>]).", show_default=False),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="PRICE",
        help="Train each system for this price: 2e15flop, 0.5kWh, 20min (default: as the study, or each recipe, says).",
        show_default=False,
    ),
]


def open_study(study: str, budget: str | None, folder: Path | None) -> tuple[Study, StudyFolder]:
    """Find a study and its folder; one with another budget than its own has a folder of its own.

    Raises:
        ConfigError: there is no such study, or the budget is not one.
    """
    from bandsplit.runs.budgets import parse_budget
    from bandsplit.studies.plans import STUDIES, find_study
    from bandsplit.studies.runner.folder import StudyFolder

    price = None if budget is None else parse_budget(budget)
    found = find_study(study, price)
    apart = f"-{found.budget.price}" if found.budget and found is not STUDIES[study] else ""
    return found, StudyFolder(folder or Path("study") / f"{found.id}{apart}")


def tables(
    study: StudyArgument,
    folder: FolderOption = None,
    budget: BudgetOption = None,
    form: Annotated[
        Literal["screen", "md", "tex", "csv"],
        typer.Option("--format", help="Format on the screen; files are written in md, tex and csv."),
    ] = "screen",
) -> None:
    """Make the tables: published, ours, difference, spread over seeds, and which differences are significant."""
    from bandsplit.studies.outcome import write_tables

    found, out = _gather(study, budget, folder), make_console(err=False)
    made = write_tables(found)
    if form == "screen":  # without the pairs of recipes, a line each, which are in the files
        for table in made.parts.values():
            out.print(table.screen())
    else:
        for table in (*made.parts.values(), *made.pairs.values()):
            show(*{"md": table.markdown, "tex": table.latex, "csv": table.csv}[form]().split("\n"))
    print_lines(
        make_console(), f"Markdown, LaTeX and CSV, also of all pairs of recipes, in {found.folder.path / 'tables'}"
    )


def figures(
    study: StudyArgument,
    folder: FolderOption = None,
    budget: BudgetOption = None,
    form: Annotated[Literal["svg", "png", "pdf"], typer.Option("--format", help="Format of the pictures.")] = "svg",
) -> None:
    """Draw the figures: validation curves, score against energy, parameters and separation time."""
    from bandsplit.studies.outcome import draw_figures

    for figure in draw_figures(_gather(study, budget, folder), f".{form}"):
        print_lines(make_console(err=False), f"{figure.path}: {figure.caption}")


@with_options
def report(
    study: StudyArgument,
    folder: FolderOption = None,
    budget: BudgetOption = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Songs whose test split can be listened to on the page.")
    ] = None,
    songs: Annotated[int, typer.Option("--songs", help="Number of songs to listen to.", min=0)] = 3,
    listen: Annotated[
        str | None,
        typer.Option("--listen", help="Recipes to listen to, separated by commas (default: the first, the best)."),
    ] = None,
    device: DeviceOption = "auto",
    *,
    options: DatasetOptions,
) -> None:
    """Write a page with all tables and figures, and songs to listen to; it opens from disk, without a network."""
    from bandsplit.studies.outcome import write_page

    found, console, dataset = _gather(study, budget, folder), make_console(), None
    if data is not None:
        dataset = options.open(console, data, ("test",))
    page = write_page(found, dataset=dataset, songs=songs, recipes=split_names(listen or ""), device=device)
    print_lines(make_console(err=False), str(page))


def prices(
    study: StudyArgument,
    budgets: Annotated[
        str, typer.Option("--budgets", metavar="PRICES", help="Prices at which it was run: 1e15flop,2e15flop.")
    ],
    root: Annotated[Path, typer.Option("--root", help="Folder of the studies' folders.")] = Path("study"),
    form: Annotated[Literal["svg", "png", "pdf"], typer.Option("--format", help="Format of the pictures.")] = "svg",
) -> None:
    """Compare a study at several budgets: a table and a picture of score against price."""
    from bandsplit.studies.prices import write_prices

    folders = [root / open_study(study, budget, None)[1].path.name for budget in split_names(budgets)]
    found = [_gather(study, budget, folder) for budget, folder in zip(split_names(budgets), folders, strict=True)]
    out = make_console(err=False)
    tables, pictures = write_prices(found, root / study, f".{form}")
    for table in tables.values():
        out.print(table.screen())
    print_lines(out, *map(str, pictures))


def _gather(study: str, budget: str | None, folder: Path | None) -> StudyData:
    from bandsplit.studies.outcome import gather

    one, where = open_study(study, budget, folder)
    console = make_console()
    found = gather(one, where, lambda note: print_lines(console, f"note: {note}"))
    if found.empty:
        print_lines(console, f"{found.folder.path}: holds no run of the study {one.id}; all numbers are published ones")
    return found
