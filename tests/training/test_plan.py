"""Predictions of what a run takes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset
from bandsplit.runs.config import RunConfig
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner
from bandsplit.training.plan import Fit, Range, RunForecast, describe_plan, find_fits, plan_run
from songs import write_dataset
from tiny_models import TINY


class Metered:
    """Three watts, for as long as it runs, in a time of its own."""

    def __init__(self, *_: Any) -> None:
        self.phases: list[str] = []

    def start(self) -> None: ...

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def kwh(self) -> float:
        return 1e-3

    def problem(self) -> None: ...

    def stop(self, reason: str) -> None: ...


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return index_dataset(write_dataset(tmp_path / "data", train=3, test=1, samples=6000))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bandsplit.training.plan.TRIAL_S", 0.2)


def config(**training: Any) -> RunConfig:
    settings = {"examples_per_epoch": 48, "excerpt_s": 0.2, "max_epochs": 40, "mixing": {"activity": None}} | training
    return RunConfig.parse({"recipe": "test", "model": TINY | {"targets": ["vocals"]}, "training": settings})


def plan(**changes: Any) -> RunForecast:
    values: dict[str, Any] = {
        "batches": BatchPlan(2, 4, 1), "update_s": Range(0.9, 1.0, 1.2), "updates_per_epoch": 100,
        "validation_s": 60.0, "loaded_per_s": 80.0, "needed_per_s": 8.0, "memory_gb": 3.2, "watts": 200.0,
        "epochs": (11, 200), "validate_every": 1,
    }  # fmt: skip
    return RunForecast(**values | changes)


def test_a_plan_is_measured_and_nothing_is_left(dataset: Dataset, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    found = plan_run(config(global_batch=8), dataset, Execution("cpu"), Metered)
    assert str(found.batches) == "global batch 8 = 2 x 4 steps x 1 device(s)"
    assert 0 < found.update_s.low <= found.update_s.middle <= found.update_s.high
    assert found.updates_per_epoch == 6
    assert found.epochs == (11, 40)
    assert found.validation_s > 0
    assert found.loaded_per_s > 0
    assert found.needed_per_s > 0
    assert found.memory_gb > 0.05
    assert found.watts is not None and found.watts > 0
    assert sorted(tmp_path.rglob("*")) == before


def test_hours_energy_and_cost_follow_from_the_steps():
    found = plan()
    assert found.epoch_s == pytest.approx((150, 160, 180))
    assert found.hours(200) == pytest.approx((200 * 150 / 3600, 200 * 160 / 3600, 200 * 180 / 3600))
    kwh = found.kwh(200)
    assert kwh == pytest.approx([hours * 0.2 for hours in found.hours(200)])
    rows = dict(describe_plan(found, price_kwh=0.5, price_hour=2.0))
    assert rows["at most"].startswith("200 epochs: 8.89 h (8.33 to 10); 1.78 kWh (1.67 to 2); cost 18.7 (17.5 to 21)")
    assert rows["at least"].startswith("11 epochs: 0.489 h")
    assert "cost" not in dict(describe_plan(found))["at most"]
    assert dict(describe_plan(plan(watts=None)))["power"] == "not measured"


def test_rare_validations_cost_less():
    assert plan(validate_every=4).epoch_s.middle == pytest.approx(115)


def test_every_average_that_competes_is_validated(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bandsplit.training.plan._validation_rate", lambda *_: 0.5)  # of the clock
    competing = {"kind": "competing", "update_decays": [0.9, 0.99], "epoch_decays": [0.5]}
    found = [plan_run(config(average=average), dataset, Execution("cpu")) for average in (None, {}, competing)]
    assert [one.validation_s for one in found] == pytest.approx([1.5, 1.5, 6.0])  # a song of 0.75 s


def test_a_slow_loader_sets_the_pace_and_is_told():
    starved = plan(loaded_per_s=4.0)
    assert starved.starves
    assert starved.epoch_s.middle == pytest.approx(100 * 2.0 + 60)
    assert "steps will wait; raise --workers" in dict(describe_plan(starved))["examples of a device"]
    assert not plan().starves


def test_batches_are_tried_until_one_does_not_fit(monkeypatch: pytest.MonkeyPatch):
    real = Learner.backward

    def limited(self: Learner, batch: Any, *, last: bool) -> torch.Tensor:
        keeps = 1 if next(iter(self.plain_model.repeated_parts())).recompute else 2
        if keeps * len(batch.mixture) > 4:
            raise torch.OutOfMemoryError
        return real(self, batch, last=last)

    monkeypatch.setattr(Learner, "backward", limited)
    run, execution = config(global_batch=8), Execution("cpu")
    fits = find_fits(run, BatchPlan(2, 4, 1), execution, make_fabric(run.training, execution))
    tried = [(fit.batch_size, fit.checkpointing, fit.examples_per_s is not None) for fit in fits]
    assert tried == [
        (1, False, True), (2, False, True), (4, False, False),
        (1, True, True), (2, True, True), (4, True, True), (8, True, False),
    ]  # fmt: skip
    assert fits[2] == Fit(4, False, None, None)
