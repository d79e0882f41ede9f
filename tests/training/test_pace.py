"""Runs that stop at a price: stretched schedules, equal prices, and what a stopped run has spent."""

import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from bandsplit.core.errors import ConfigError, RunError, RunStopped
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset
from bandsplit.models.card import read_card
from bandsplit.runs.config import RunConfig
from bandsplit.runs.folder import TrainingPosition
from bandsplit.runs.records import read_run
from bandsplit.training import pace
from bandsplit.training.execution import BatchPlan, Execution
from bandsplit.training.loop import TrainingResult, train
from bandsplit.training.pace import Pace
from bandsplit.training.reporters.events import Event, Start, Step
from small_recipes import small_run
from songs import write_dataset
from tiny_models import TINY

PER_UPDATE = 2


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return index_dataset(write_dataset(tmp_path / "data", train=2, test=1, samples=3000))


@pytest.fixture(autouse=True)
def _short_trials(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace, "TRIAL_S", 0.01)


def small(**training: Any) -> RunConfig:
    settings = {"examples_per_epoch": 8, "excerpt_s": 0.1, "max_epochs": 5, "learning_rate": 0.05, "batch_size": 2}
    settings["mixing"] = {"activity": None, "pairing": "free", "drop": "none"}
    model = TINY | {"targets": ["vocals", "bass"]}
    return RunConfig.parse({"recipe": "test", "model": model, "training": settings | training})


def flop(updates: float, **training: Any) -> RunConfig:
    """A run whose budget in operations pays for this many updates."""
    return small(budget={"kind": "flop", "amount": updates * small().update_flop(PER_UPDATE)}, **training)


def make_pace(config: RunConfig) -> Pace:
    return Pace(config, BatchPlan(PER_UPDATE, 1, 1), Fabric(accelerator="cpu", devices=1))


class Meter:
    """One more Wh each time that it is read, after those that it began with."""

    def __init__(self, wh: int = 0, fails_after: int | None = None) -> None:
        self.wh, self.fails_after = wh, fails_after

    def __call__(self, *_: Any) -> "Meter":
        return self

    def start(self) -> None: ...

    def phase(self, name: str) -> None: ...

    def kwh(self) -> float:
        self.wh += 1
        return self.wh / 1000

    def problem(self) -> str | None:
        return "unplugged" if self.fails_after is not None and self.wh >= self.fails_after else None

    def stop(self, reason: str) -> None: ...


class Steps(list[Step]):
    """A reporter that keeps the steps, and can stop the run after some of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.stop_after = stop_after

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step):
            self.append(event)
            if len(self) == self.stop_after:
                os.kill(os.getpid(), signal.SIGTERM)


def run(config: RunConfig, dataset: Dataset, root: Path, steps: Any, **options: Any) -> TrainingResult:
    torch.manual_seed(0)
    return train(config, dataset, root, steps, execution=Execution("cpu"), **options)


# --- schedules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updates", [7, 20, 63])
def test_schedules_are_stretched_to_the_budget(updates: int):
    """The schedule of all has 5 epochs of 4 updates."""
    expected = {
        "cosine": ({}, lambda share: 0.5 * (1 + math.cos(math.pi * share))),
        "step": ({"factor": 0.5, "every_epochs": 1}, lambda share: 0.5 ** math.floor(5 * share)),
        "step-updates": ({"factor": 0.5, "every_updates": 3}, lambda share: 0.5 ** math.floor(20 * share / 3)),
        "constant": ({}, lambda share: 1.0),
    }
    for kind, (settings, factor) in expected.items():
        config = flop(updates + 0.5, decay={"kind": kind, **settings}, learning_rate_rule="none")
        paces = make_pace(config)
        assert paces.updates == updates
        for done in range(updates):
            position = TrainingPosition(epoch=done // 4, examples=PER_UPDATE * (done % 4))
            assert not paces.is_over(position)
            assert paces.rate(position) == pytest.approx(0.05 * factor(done / updates), rel=1e-9), kind
        position = TrainingPosition(epoch=updates // 4, examples=PER_UPDATE * (updates % 4))
        assert paces.is_over(position)


def test_so_is_the_warm_up():
    paces = make_pace(flop(40, decay={"kind": "constant"}, warm_up_updates=10, learning_rate_rule="none"))
    rates = [paces.rate(TrainingPosition(epoch=done // 4, examples=PER_UPDATE * (done % 4))) for done in range(40)]
    assert rates[0] == pytest.approx(0.05 / 10)
    assert rates[10] == pytest.approx(0.05 * 6 / 10)
    assert rates[17] < 0.05 and rates[18:] == [0.05] * 22


def test_without_a_budget_the_schedule_is_that_of_the_epochs():
    paces = make_pace(small(decay={"kind": "step", "factor": 0.5, "every_epochs": 1}, learning_rate_rule="none"))
    rates = [paces.rate(TrainingPosition(epoch=done // 4, examples=PER_UPDATE * (done % 4))) for done in range(20)]
    assert rates == [0.05 * 0.5 ** (done // 4) for done in range(20)]


def test_a_plateau_counts_epochs_of_the_schedule(dataset: Dataset, tmp_path: Path):
    """With twice the updates, an epoch of the schedule takes two: a patience of one waits for two validations."""
    decay = {"kind": "plateau", "factor": 0.5, "patience": 1}
    config = flop(40, decay=decay, learning_rate=1e-12)  # weights that hardly change: scores go up and down by rounding
    run(config, dataset, tmp_path, Steps())
    validations = read_run(config.folder_in(tmp_path)).validations
    best_at, decays = 0.0, 0
    for row in validations:
        at = row.epoch / 2
        if row.best:
            best_at = at
        elif at - best_at >= 1:
            decays, best_at = decays + 1, at
        rate = 1e-12 * PER_UPDATE / 16 * 0.5**decays
        assert row.learning_rate == pytest.approx(rate, rel=1e-9)
    assert len(validations) == 10 and decays > 0


# --- equal prices ----------------------------------------------------------------------------------------------------


def test_different_families_spend_the_same_operations_up_to_an_update(tmp_path: Path):
    songs = index_dataset(write_dataset(tmp_path / "data", train=3, test=1, samples=20_000))
    runs = [small_run(name) for name in ("mini-base", "mini-dttnet", "mini-tfc-tdf")]
    flops = [one.update_flop(4) for one in runs]
    price = 2.5 * max(flops)
    for one, per_update in zip(runs, flops, strict=True):
        changes = {"validate_max_s": 1.0, "budget": {"kind": "flop", "amount": price}}
        config = RunConfig.parse(one.model_dump() | {"training": one.training.model_dump() | changes})
        steps = Steps()
        run(config, songs, tmp_path / "runs", steps)
        assert price - per_update < len(steps) * per_update <= price
        assert [step.share for step in steps][-1] == 1.0
        assert read_card(config.folder_in(tmp_path / "runs") / "best.safetensors")[1].budget is not None


@pytest.mark.parametrize(("updates", "epochs"), [(3, 1), (8, 2), (13, 4)])
def test_the_run_ends_with_the_budget_and_validates_once_more(
    dataset: Dataset, tmp_path: Path, updates: int, epochs: int
):
    config = flop(updates, max_epochs=2, patience=1, learning_rate=1e-12)
    steps, starts = Steps(), []
    result = run(config, dataset, tmp_path, lambda event: (steps(event), starts.append(event)))
    assert [step.update for step in steps] == list(range(1, updates + 1)), "more than its epochs, beyond its patience"
    assert result.epochs == epochs
    (start,) = (one for one in starts if isinstance(one, Start))
    assert (start.updates, start.share) == (updates, 0.0)
    record = read_run(config.folder_in(tmp_path))
    assert record.finished and len(record.validations) == epochs
    card = read_card(config.folder_in(tmp_path) / "best.safetensors")[1]
    budget = config.training.budget
    assert budget is not None and card.budget == budget.price
    assert card.name == f"test {budget}" and f"budget {budget}" in card.source and card.recipe == "test"


# --- energy and time -------------------------------------------------------------------------------------------------


def test_energy_is_spent_until_none_is_left_and_sets_the_learning_rate(dataset: Dataset, tmp_path: Path):
    config = small(budget={"kind": "energy", "amount": 0.040}, decay={"kind": "cosine"}, learning_rate_rule="none")
    steps = Steps()
    run(config, dataset, tmp_path, steps, make_meter=Meter())
    state = torch.load(max(tmp_path.rglob("state-*.pt")), weights_only=True)["progress"]
    assert 0.040 <= state["spent"] <= 0.045 and state["finished"] == "finished"
    shares = [step.share for step in steps]
    assert shares == sorted(shares) and shares[0] < 0.3 and shares[-1] == 1
    rates = [step.learning_rate for step in steps]
    expected = [0.025 * (1 + math.cos(math.pi * share)) for share in [0.0, *shares[:-1]]]
    within = [number for number in range(len(rates)) if number % 4]
    assert [rates[number] for number in within] == pytest.approx([expected[number] for number in within], rel=1e-9)
    assert all(rate < other for rate, other in zip(rates[4::4], expected[4::4], strict=True)), "validations cost, too"


def test_a_resumed_run_keeps_what_was_spent_although_its_energy_cards_are_gone(dataset: Dataset, tmp_path: Path):
    config = small(budget={"kind": "energy", "amount": 0.060})
    with pytest.raises(RunStopped):
        run(config, dataset, tmp_path, Steps(stop_after=5), make_meter=Meter())
    folder = config.folder_in(tmp_path)
    before = torch.load(max(tmp_path.rglob("state-*.pt")), weights_only=True)["progress"]["spent"]
    assert before > 0.008
    shutil.rmtree(folder / "energy", ignore_errors=True)
    steps = Steps()
    run(config, dataset, tmp_path, steps, make_meter=Meter(), resume=True)  # a meter that knows of no earlier attempt
    assert steps[0].update == 6
    assert before / 0.060 <= steps[0].share < steps[1].share < steps[-1].share


def test_time_of_all_attempts_counts(dataset: Dataset, tmp_path: Path):
    config = small(budget={"kind": "time", "amount": 2.0})
    with pytest.raises(RunStopped):
        run(config, dataset, tmp_path, Steps(stop_after=3))
    first = torch.load(max(tmp_path.rglob("state-*.pt")), weights_only=True)["progress"]["spent"]
    assert first > 0
    steps = Steps()
    run(config, dataset, tmp_path, steps, resume=True)
    last = torch.load(max(tmp_path.rglob("state-*.pt")), weights_only=True)["progress"]
    assert last["finished"] == "finished" and last["spent"] >= 2.0 > first
    assert all(step.share >= first / 2 for step in steps)


def test_a_meter_that_fails_stops_a_run_that_depends_on_it(dataset: Dataset, tmp_path: Path):
    config = small(budget={"kind": "energy", "amount": 0.060})
    with pytest.raises(RunError, match=r"budget 0.06kWh: no energy is measured any more \(unplugged\)"):
        run(config, dataset, tmp_path, Steps(), make_meter=Meter(fails_after=20))


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "meter", "message"),
    [
        ({"kind": "flop", "amount": 1.0}, None, "budget 1flop: does not pay for an update of test; the smallest that"),
        ({"kind": "time", "amount": 1e-6}, None,
         "budget 1e-6s: does not pay for an update of test and a validation, by a trial on this machine; the smallest"),
        ({"kind": "energy", "amount": 1e-9}, Meter(), "budget 1e-9kWh: does not pay for an update of test and a valid"),
        ({"kind": "energy", "amount": 1.0}, None, "budget 1kWh: energy is not measured; leave out --no-energy, or"),
        ({"kind": "energy", "amount": 1.0}, Meter(fails_after=0),
         "budget 1kWh: energy cannot be measured here (unplugged); or give a budget in flop or time"),
    ],
)  # fmt: skip
def test_a_budget_that_cannot_be_met_is_refused_before_anything_starts(
    dataset: Dataset, tmp_path: Path, budget: dict[str, Any], meter: Meter | None, message: str
):
    with pytest.raises(ConfigError) as caught:
        run(small(budget=budget), dataset, tmp_path / "runs", Steps(), make_meter=meter)
    assert message in str(caught.value)
    assert not (tmp_path / "runs").exists()
