"""The command line. Imports stay inside the commands, so that ``bandsplit --help`` is fast.

Exit codes: 0 all done, 1 something failed (the rest was done) or was stopped, 2 the command line is invalid,
3 a training run or a study was stopped and can continue.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bandsplit.cli.bench import bench_app
from bandsplit.cli.data import data_app
from bandsplit.cli.doctor import doctor
from bandsplit.cli.energy import energy_app
from bandsplit.cli.evaluate import evaluate
from bandsplit.cli.export import export
from bandsplit.cli.models import models_app
from bandsplit.cli.plan import plan
from bandsplit.cli.runs import runs as runs_command
from bandsplit.cli.separate import separate
from bandsplit.cli.serve import serve
from bandsplit.cli.study.commands import study_app
from bandsplit.cli.submit import submit
from bandsplit.cli.terminal import PrintableLog, make_console, show, show_error
from bandsplit.cli.train import TrainCommand, train
from bandsplit.core.errors import BandsplitError, ConfigError, RunStopped
from bandsplit.core.extras import describe_missing
from bandsplit.core.interrupt import finish, watching

_TYPERS_CTRL_C = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Systems for music separation: train, separate, evaluate, compare.",
)
app.add_typer(models_app, name="models")
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")
app.add_typer(energy_app, name="energy")
app.add_typer(study_app, name="study")
app.command()(separate)
app.command()(serve)
app.command()(evaluate)
app.command(cls=TrainCommand)(train)
app.command()(plan)
app.command()(submit)
app.command()(export)
app.command()(doctor)
app.command("runs")(runs_command)


def main() -> None:
    """Run the command line; known errors become one message, and signals clean up first."""
    if logging.lastResort is not None:  # it prints records, since no other handler is set
        logging.lastResort.setFormatter(PrintableLog())
    with watching():
        _run()


def _run() -> None:
    try:
        if _is_song(sys.argv[1:]):
            sys.argv.insert(1, "separate")
        app()
    except RunStopped as stopped:
        show_error(stopped, colour="yellow")
        sys.exit(3)
    except BandsplitError as error:
        show_error(error, "error: ")
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except ModuleNotFoundError as error:
        text = describe_missing(error.name)
        if text is None:
            raise
        show_error(BandsplitError(text), "error: ")
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != _TYPERS_CTRL_C:
            raise
        from bandsplit.core.processes import end_processes

        finish()
        end_processes()
        show_error(BandsplitError("stopped"))
        sys.exit(1)


def _is_song(arguments: list[str]) -> bool:
    """Return whether the arguments are ``bandsplit SONG``, short for ``bandsplit separate SONG``."""
    names = {group.name for group in app.registered_groups}
    names |= {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    return bool(arguments) and arguments[0] not in names and os.path.isfile(arguments[0])


def _version(asked: bool) -> None:
    if asked:
        from bandsplit.core.version import __version__

        show(f"bandsplit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Folder for songs, run, stems and pictures.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the songs and of the training.", min=0)] = 0,
) -> None:
    """Make songs, train a small network, score it on unseen songs, separate one, draw it: in minutes, on a CPU."""
    from bandsplit.tools.demo import run_demo

    if not run_demo(folder, make_console(), seed=seed):
        raise typer.Exit(1)
