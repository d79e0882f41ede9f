"""A study whose runs last a second, and the command line that knows it: run as a program, it is ``bandsplit``."""

import sys
from pathlib import Path
from typing import Any

from bandsplit.recipes.catalogue import RECIPES
from bandsplit.recipes.recipe import Recipe
from bandsplit.studies.plans import STUDIES, Experiment, PlannedRun, Study
from bandsplit.studies.runner.folder import StudyFolder
from run_folders import write_run
from tiny_models import TINY

COMMAND = (sys.executable, str(Path(__file__).resolve()))


def _recipe(id: str, **training: Any) -> Recipe:
    settings = {
        "model": TINY,
        "training": {
            "examples_per_epoch": 12, "excerpt_s": 0.1, "max_epochs": 2, "learning_rate": 0.01,
            "mixing": {"activity": None, "pairing": "free", "drop": "none"},
        } | training,
    }  # fmt: skip
    return Recipe(id, "for tests", settings=settings)


LONG_EPOCHS = 2000
SMALL = {
    recipe.id: recipe
    for recipe in (
        _recipe("small"),
        _recipe("small-too", examples_per_epoch=16),
        _recipe("small-broken", learning_rate=1e30),  # its loss is soon not finite
        _recipe("small-long", max_epochs=LONG_EPOCHS, patience=LONG_EPOCHS),
    )
}
STUDY = Study(
    "small",
    "for tests",
    {
        "good": (Experiment("small", (1, 2)), Experiment("small-too", (1,))),
        "broken": (Experiment("small-broken", (1,)),),
        "long": (Experiment("small-long", (1,)),),
    },
    ("vocals", "bass"),
)


def put(folder: StudyFolder, run: PlannedRun, *args, **facts) -> Path:
    """Write what a run leaves where the study expects it."""
    (there,) = folder.look([run])
    written = write_run(
        folder.runs, *args, recipe=run.recipe, target="+".join(run.targets), seed=run.seed, name="0", **facts
    )
    written.rename(there.folder)
    return there.folder


def register() -> None:
    RECIPES.update(SMALL)
    STUDIES[STUDY.id] = STUDY


if __name__ == "__main__":
    import torch

    from bandsplit.cli import main as cli
    from bandsplit.studies.runner import run

    torch.set_num_threads(1)
    register()
    run.COMMAND = COMMAND
    cli.main()
