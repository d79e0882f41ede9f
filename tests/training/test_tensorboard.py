"""Curves for TensorBoard, read back with TensorBoard."""

import sys

import pytest

from bandsplit.core.errors import ConfigError
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.training.execution import BatchPlan
from bandsplit.training.reporters.events import Start, Step, Validated, report_to
from bandsplit.training.reporters.tensorboard import TensorBoard
from bandsplit.training.validation import SongScore, Validation

VALIDATION = Validation(
    3.0, 0.2, (SongScore("a", {"vocals": 2.0, "bass": 5.0}, 0.1), SongScore("b", {"vocals": 4.0, "bass": 1.0}, 0.3))
)


def curves(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(point.step, round(point.value, 6)) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def write_curves(folder, done: int, updates: range) -> None:
    start = Start(folder, find_recipe("simo").run_config(), BatchPlan(2, 4, 1), 5e-4, 100, done)
    board = TensorBoard()
    shown = []
    report = report_to(shown.append, board)
    report(start)
    for update in updates:
        report(Step(1, update, update / 100, 5e-4, 2.0, 0.1, None if update < 20 else 0.5))
    report(Validated(1, 0.25, VALIDATION, True))
    assert [type(event) for event in shown] == [Start, *(Step for _ in updates), Validated]
    assert board.writer is not None
    board.writer.close()


@pytest.mark.filterwarnings("ignore")  # of TensorBoard, about itself
def test_curves_hold_losses_speed_energy_and_scores(tmp_path):
    write_curves(tmp_path, 0, range(1, 25))
    found = curves(tmp_path)
    assert found["train/loss"] == [(10, 0.1), (20, 0.2)]
    assert found["energy/kwh"] == [(20, 0.5)]
    assert found["valid/usdr_db"] == [(24, 3.0)]
    assert found["valid/usdr_db/vocals"] == [(24, 3.0)]
    assert found["valid/usdr_db/bass"] == [(24, 3.0)]
    assert found["train/epoch_loss"] == [(24, 0.25)]


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_goes_on_where_its_state_was(tmp_path):
    write_curves(tmp_path, 0, range(1, 35))
    write_curves(tmp_path, 15, range(16, 41))
    assert [step for step, _ in curves(tmp_path)["train/loss"]] == [10, 20, 30, 40]


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(ConfigError, match=r"needs tensorboard, .*: pip install 'bandsplit\[tensorboard\]'"):
        TensorBoard()
