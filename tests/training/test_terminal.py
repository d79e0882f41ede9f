"""What a run prints."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from bandsplit.recipes.catalogue import find_recipe
from bandsplit.training.execution import BatchPlan
from bandsplit.training.reporters.events import Start, Validated
from bandsplit.training.reporters.terminal import TerminalProgress
from bandsplit.training.validation import SongScore, Validation

SONG = SongScore("a", {"vocals": 3.0}, 0.2)


def test_a_validation_names_the_winning_weights_where_several_compete():
    out = StringIO()
    show = TerminalProgress(Console(file=out, width=200))
    show(Start(Path("run"), find_recipe("simo").run_config(), BatchPlan(2, 4, 1), 5e-4, 1000, 0))
    show(Validated(1, 0.25, Validation(3.0, 0.2, (SONG,), "average over epochs 0.9"), best=True, others=4))
    show(Validated(2, 0.24, Validation(2.9, 0.21, (SONG,), "weights"), best=False, others=4))
    show(Validated(3, 0.23, Validation(3.1, 0.19, (SONG,)), best=True))
    assert out.getvalue().splitlines()[1:] == [
        "epoch   1  loss 0.2500  validation uSDR   3.00 dB, loss 0.2000, average over epochs 0.9  best",
        "epoch   2  loss 0.2400  validation uSDR   2.90 dB, loss 0.2100, weights",
        "epoch   3  loss 0.2300  validation uSDR   3.10 dB, loss 0.1900  best",
    ]
