"""Training runs: what they compute, when they stop, and how they go on."""

import json
import math
import multiprocessing
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from bandsplit.core.errors import AudioError, DataError, RunError, RunStopped
from bandsplit.data.examples.dataset import make_examples
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset
from bandsplit.models.card import read_card
from bandsplit.models.files import load_model
from bandsplit.models.network import build_model
from bandsplit.runs.config import RunConfig
from bandsplit.runs.folder import RunFolder
from bandsplit.training import learner, loop
from bandsplit.training.execution import Execution
from bandsplit.training.loop import TrainingResult, train
from bandsplit.training.losses import separation_loss
from bandsplit.training.reporters.events import Event, Note, Reporter, Skipped, Start, Step, Validated, report_to
from bandsplit.training.songs import training_examples
from bandsplit.training.validation import Validation, validate
from songs import write_dataset
from tiny_models import TINY

E = TypeVar("E")
SILENCE = report_to()
COMPETING = {"kind": "competing", "update_decays": [0.9], "epoch_decays": [0.5]}
STOPPED = "stopped by SIGTERM, state saved; the same command with --resume continues the run"


class Events(list[Event]):
    """A reporter that keeps the events, and can stop the run after some updates."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.stop_after = stop_after

    def __call__(self, event: Event) -> None:
        self.append(event)
        if isinstance(event, Step) and len(self.of(Step)) == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self if isinstance(event, kind)]

    @property
    def first(self) -> int:
        """Updates done before the run began or continued."""
        return self.of(Start)[0].done


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return index_dataset(write_dataset(tmp_path / "data", train=3, test=1, samples=6000))


def small(seed: int = 0, **training: Any) -> RunConfig:
    """A run that takes about a second."""
    return RunConfig.parse(
        {
            "recipe": "test",
            "seed": seed,
            "model": TINY | {"targets": ["vocals", "bass"]},
            "training": {"examples_per_epoch": 12, "excerpt_s": 0.1, "max_epochs": 3, "learning_rate": 0.05}
            | {"mixing": {"activity": None, "pairing": "free", "drop": "none"}}
            | training,
        }
    )  # fmt: skip


def run(
    config: RunConfig,
    dataset: Dataset,
    root: Path,
    report: Reporter = SILENCE,
    resume: bool = False,
    **how: Any,
) -> TrainingResult:
    torch.manual_seed(config.seed)
    execution = replace(Execution("cpu"), **how)
    return train(config, dataset, root, report, execution=execution, resume=resume)


def log(root: Path, kind: str = "validation") -> list[dict[str, Any]]:
    (file,) = root.rglob("log.jsonl")
    return [row for row in map(json.loads, file.read_text().splitlines()) if row["kind"] == kind]


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop what depends on the clock."""
    return [{key: value for key, value in row.items() if not key.endswith("_s") and key != "waiting"} for row in rows]


def newest_state(root: Path) -> Path:
    return max(root.rglob("state-*.pt"))


def test_the_loss_falls_and_the_best_model_is_kept(dataset: Dataset, tmp_path: Path):
    events = Events()
    result = run(small(max_epochs=6, examples_per_epoch=40), dataset, tmp_path / "runs", events)
    losses = [event.loss for event in events.of(Validated) if event.loss is not None]
    assert len(losses) == 6 and losses[-1] < losses[0]
    scores = [event.validation.usdr_db for event in events.of(Validated)]
    assert result.best_score == max(scores)
    assert result.best_epoch == 1 + scores.index(max(scores))
    config, card = read_card(result.best)
    assert config.targets == ("vocals", "bass")
    assert card.scores["validation_usdr_db"] == max(scores)
    assert [row["epoch"] for row in log(tmp_path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("stop_after", [1, 6, 8, 17])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    dataset: Dataset, tmp_path: Path, stop_after: int
):
    config = small()
    whole = run(config, dataset, tmp_path / "whole")
    with pytest.raises(RunStopped, match=STOPPED):
        run(config, dataset, tmp_path / "parts", Events(stop_after))
    torch.manual_seed(99)  # a new process does not start from the same random state
    second = Events()
    parts = train(config, dataset, tmp_path / "parts", second, execution=Execution("cpu"), resume=True)
    assert second.first == stop_after
    states = [torch.load(newest_state(result.best.parent), weights_only=True) for result in (whole, parts)]
    assert all(torch.equal(states[0]["model"][key], states[1]["model"][key]) for key in states[0]["model"])
    assert states[0]["progress"] == states[1]["progress"]
    best = [load_file(result.best) for result in (whole, parts)]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])
    rows = [log(tmp_path / name) for name in ("whole", "parts")]
    assert timeless(rows[0]) == timeless(rows[1])
    assert [row["reason"] for row in log(tmp_path / "parts", "stop")] == ["SIGTERM", "finished"]
    assert [row["update"] for row in log(tmp_path / "parts", "start")] == [0, stop_after]


def test_workers_do_not_change_the_result(dataset: Dataset, tmp_path: Path):
    results = [run(small(max_epochs=1), dataset, tmp_path / str(workers), workers=workers) for workers in (0, 2)]
    assert results[0].best_score == results[1].best_score


def test_accumulation_equals_a_larger_batch(dataset: Dataset, tmp_path: Path):
    together = run(small(batch_size=4, max_epochs=1), dataset, tmp_path / "together")
    apart = run(small(batch_size=1, accumulate=4, max_epochs=1), dataset, tmp_path / "apart")
    first, second = (load_file(result.best) for result in (together, apart))
    for key, tensor in first.items():
        torch.testing.assert_close(tensor, second[key], rtol=1e-3, atol=1e-5)


def test_seeds_give_different_runs_in_different_folders(dataset: Dataset, tmp_path: Path):
    results = [run(small(seed, max_epochs=1), dataset, tmp_path) for seed in (0, 1)]
    assert results[0].best.parent != results[1].best.parent
    assert results[0].best_score != results[1].best_score


def test_training_stops_when_patience_is_over(dataset: Dataset, tmp_path: Path):
    events = Events()
    # A learning rate this high destroys the model at once, so that the first epochs stay the best.
    result = run(small(max_epochs=30, patience=3, learning_rate=50.0), dataset, tmp_path, events)
    assert result.epochs == result.best_epoch + 3
    assert result.epochs < 30


@pytest.mark.parametrize("monitor", ["usdr", "loss"])
def test_a_plateau_lowers_the_learning_rate_after_epochs_that_are_no_better(
    dataset: Dataset, tmp_path: Path, monitor: Any
):
    decay = {"kind": "plateau", "patience": 1, "factor": 0.5}
    run(small(max_epochs=8, monitor=monitor, learning_rate=1.0, decay=decay), dataset, tmp_path)
    rows = log(tmp_path)
    assert {row["best"] for row in rows} == {True, False}
    rate = log(tmp_path, "start")[0]["learning_rate"]
    for row in rows:
        rate *= 1.0 if row["best"] else 0.5
        assert row["learning_rate"] == pytest.approx(rate)


def test_the_loss_can_be_monitored_instead(dataset: Dataset, tmp_path: Path):
    events = Events()
    result = run(small(monitor="loss", max_epochs=4), dataset, tmp_path, events)
    losses = [event.validation.loss for event in events.of(Validated)]
    assert result.best_score == -min(losses)


@pytest.mark.parametrize(("monitor", "sign"), [("usdr", 1), ("loss", -1)])
def test_the_best_of_the_weights_and_their_averages_is_kept_and_named(
    dataset: Dataset, tmp_path: Path, monitor: Any, sign: int
):
    # A learning rate this high throws the weights about, so that averages have other scores.
    config = small(average=COMPETING, monitor=monitor, learning_rate=2.0, max_epochs=4)
    result = run(config, dataset, tmp_path)
    rows = log(tmp_path)
    names = {"weights", "average over updates 0.9", "average over epochs 0.5"}
    value = "usdr_db" if monitor == "usdr" else "loss"
    for row in rows:
        assert {row["weights"], *(other["weights"] for other in row["others"])} == names
        scores = [sign * score for score in (row[f"validation_{value}"], *(other[value] for other in row["others"]))]
        assert scores == sorted(scores, reverse=True)
    (best,) = [row for row in rows if row["epoch"] == result.best_epoch]
    assert result.best_score == max(sign * row[f"validation_{value}"] for row in rows)
    named = "" if best["weights"] == "weights" else f", {best['weights']}"
    assert read_card(result.best)[1].source == f"trained with bandsplit, recipe test, seed 0{named}"
    fabric = Fabric(accelerator="cpu", devices=1)
    again = validate(load_model(result.best), dataset.songs("valid"), config.training, fabric)
    assert again.usdr_db == pytest.approx(best["validation_usdr_db"], rel=1e-6)


def test_a_run_without_averages_logs_no_others(dataset: Dataset, tmp_path: Path):
    run(small(max_epochs=1), dataset, tmp_path)
    assert [(row["weights"], row.get("others")) for row in log(tmp_path)] == [("weights", None)]


def test_validation_can_be_rarer_and_always_ends_the_run(dataset: Dataset, tmp_path: Path):
    events = Events()
    run(small(max_epochs=5, validate_every=2), dataset, tmp_path, events)
    assert [event.epoch for event in events.of(Validated)] == [2, 4, 5]


def test_an_existing_run_is_refused_unless_resumed(dataset: Dataset, tmp_path: Path):
    result = run(small(max_epochs=1), dataset, tmp_path)
    with pytest.raises(RunError, match=r"this run exists; add --resume to continue it, or choose another --seed"):
        run(small(max_epochs=1), dataset, tmp_path)
    assert run(small(max_epochs=1), dataset, tmp_path, resume=True) == result


def test_a_run_records_what_its_songs_are_and_goes_on_from_before_that_was_recorded(dataset: Dataset, tmp_path: Path):
    result = run(small(max_epochs=1), dataset, tmp_path)
    file = result.best.parent / "config.json"
    description = json.loads(file.read_text())
    assert (description["data"].pop("benchmark"), description["data"].pop("mixture")) == (None, ["file"])
    file.write_text(json.dumps(description))
    assert run(small(max_epochs=1), dataset, tmp_path, resume=True) == result


def test_a_run_does_not_go_on_with_other_songs(dataset: Dataset, tmp_path: Path):
    run(small(max_epochs=1), dataset, tmp_path / "runs")
    other = index_dataset(write_dataset(tmp_path / "more" / "data", train=4, test=1, samples=6000))
    with pytest.raises(RunError, match=r"trained on other data \(different: train, valid\)"):
        run(small(max_epochs=1), other, tmp_path / "runs", resume=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_stopped_during_its_validation_goes_on_with_it(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    config = small(average=COMPETING)
    whole = run(config, dataset, tmp_path / "whole")
    real = loop.validate_all
    asked = iter([False, True])

    def interrupted(*arguments: Any) -> list[Validation]:
        if next(asked, False):
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(loop, "validate_all", interrupted)
    with pytest.raises(RunStopped, match=STOPPED):
        run(config, dataset, tmp_path / "parts", workers=workers)
    events = Events()
    parts = run(config, dataset, tmp_path / "parts", events, resume=True, workers=workers)
    assert [event.epoch for event in events.of(Validated)] == [2, 3]
    assert events.first == 12
    first, second = (load_file(result.best) for result in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert timeless(log(tmp_path / "parts")) == timeless(log(tmp_path / "whole"))
    states = [torch.load(newest_state(result.best.parent), weights_only=True) for result in (whole, parts)]
    for name in ("average over updates 0.9", "average over epochs 0.5"):
        assert states[0][name]["n_averaged"] == states[1][name]["n_averaged"]
        assert all(torch.equal(states[0][name][key], states[1][name][key]) for key in states[0][name])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_loader_workers_survive_a_signal_to_all_processes(dataset: Dataset, tmp_path: Path, number: signal.Signals):
    def signal_all(event: Event) -> None:
        if isinstance(event, Step):
            workers = multiprocessing.active_children()
            assert workers
            for process in (*(worker.pid for worker in workers), os.getpid()):
                os.kill(process, number)  # type: ignore[arg-type]
            time.sleep(0.2)

    with pytest.raises(RunStopped, match=f"stopped by {number.name}, state saved"):
        run(small(), dataset, tmp_path, signal_all, workers=2)
    assert newest_state(tmp_path).name == "state-000000001.pt"


def test_a_second_sigterm_does_not_kill_the_update_under_way(dataset: Dataset, tmp_path: Path):
    def signal_twice(event: Event) -> None:
        for _ in range(2 if isinstance(event, Step) else 0):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped, match="stopped by SIGTERM, state saved"):
        run(small(), dataset, tmp_path, signal_twice)
    assert newest_state(tmp_path).name == "state-000000001.pt"


def test_a_truncated_state_falls_back_to_the_one_before_and_says_so(dataset: Dataset, tmp_path: Path):
    config = small(max_epochs=2)
    whole = run(config, dataset, tmp_path / "whole")
    with pytest.raises(RunStopped):
        run(config, dataset, tmp_path / "parts", Events(stop_after=8), save_every_s=0.0)
    newest, before = sorted((tmp_path / "parts").rglob("state-*.pt"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:1000])
    events = Events()
    parts = run(config, dataset, tmp_path / "parts", events, resume=True)
    (note,) = [event.text for event in events.of(Note)]
    assert note == log(tmp_path / "parts", "note")[0]["text"]
    assert re.fullmatch(rf".*{newest.name} is damaged \(.*\); continuing from {before.name}, .*", note)
    assert events.first == 7
    first, second = (load_file(result.best) for result in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_where_no_state_is_whole_the_run_does_not_start_over_silently(dataset: Dataset, tmp_path: Path):
    run(small(max_epochs=1), dataset, tmp_path)
    for state in tmp_path.rglob("state-*.pt"):
        state.write_bytes(b"broken")
    with pytest.raises(RunError, match=r"state-000000006.pt is damaged .* remove the folder to start the run again"):
        run(small(max_epochs=1), dataset, tmp_path, resume=True)


def test_a_folder_of_another_configuration_is_refused_with_the_keys(dataset: Dataset, tmp_path: Path):
    result = run(small(max_epochs=1), dataset, tmp_path)
    other = RunFolder(tmp_path, small(max_epochs=2, clip_norm=1.0)).path
    result.best.parent.rename(other)
    with pytest.raises(
        RunError, match=r"training.clip_norm: stored 5.0, now 1.0; training.max_epochs: stored 1, now 2"
    ):
        run(small(max_epochs=2, clip_norm=1.0), dataset, tmp_path, resume=True)


def test_two_processes_cannot_train_one_run(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bandsplit.runs.folder.LOCK_WAIT_S", 0.1)
    folder = RunFolder(tmp_path, small())
    folder.open(dataset, resume=False)
    with pytest.raises(RunError, match="another process is training this run"):
        run(small(), dataset, tmp_path)
    folder.close()
    run(small(), dataset, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_the_batch(dataset: Dataset, tmp_path: Path):
    # Adam's first update has the size of the learning rate, whatever the gradient: the second loss overflows.
    with pytest.raises(RunError, match=r"of epoch 1, examples 2 to 3, is not finite; not-finite.json lists them"):
        run(small(learning_rate=1e36), dataset, tmp_path)
    (file,) = tmp_path.rglob("not-finite.json")
    facts = json.loads(file.read_text())
    assert facts["examples"] == [2, 3]
    assert [set(songs) for songs in facts["songs"]] == [{"vocals", "bass", "drums", "other"}] * 2
    assert log(tmp_path, "stop")[0]["reason"].startswith("error: ")


def test_the_songs_of_a_batch_that_is_not_finite_are_those_of_its_epoch(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = iter(range(100))
    real = learner.compute_loss
    monkeypatch.setattr(learner, "compute_loss", lambda *a, **k: real(*a, **k) * (math.nan if next(calls) == 7 else 1))
    with pytest.raises(RunError, match="of epoch 2, examples 2 to 3, is not finite"):
        run(small(), dataset, tmp_path)
    (file,) = tmp_path.rglob("not-finite.json")
    epochs = [training_examples(small(), dataset).at_epoch(epoch) for epoch in (0, 1)]
    first, second = ([examples.songs(index) for index in (2, 3)] for examples in epochs)
    assert json.loads(file.read_text())["songs"] == second != first


def test_a_time_limit_stops_the_run_and_it_goes_on(dataset: Dataset, tmp_path: Path):
    with pytest.raises(RunStopped, match="stopped by time limit, state saved"):
        run(small(), dataset, tmp_path / "parts", max_s=0.0)
    parts = run(small(), dataset, tmp_path / "parts", resume=True)
    whole = run(small(), dataset, tmp_path / "whole")
    assert parts.best_score == whole.best_score
    assert [row["reason"] for row in log(tmp_path / "parts", "stop")] == ["time limit", "finished"]


def test_songs_at_another_rate_can_be_trained_on(dataset: Dataset, tmp_path: Path):
    config = small(max_epochs=1).model_dump()
    config["model"]["sample_rate_hz"] = 16000
    assert math.isfinite(run(RunConfig.parse(config), dataset, tmp_path).best_score)


def test_songs_with_another_number_of_channels_are_refused(dataset: Dataset, tmp_path: Path):
    config = small().model_dump()
    config["model"]["channels"] = 1
    with pytest.raises(DataError, match="channels is 2, the model needs 1"):
        run(RunConfig.parse(config), dataset, tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(dataset: Dataset, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        run(small(), dataset, tmp_path / "file")


def test_the_state_is_a_list_of_tensors_and_numbers_only(dataset: Dataset, tmp_path: Path):
    result = run(small(max_epochs=1), dataset, tmp_path)
    assert {path.name for path in result.best.parent.iterdir()} == {
        ".lock", "best.safetensors", "config.json", "environment.json", "log.jsonl", "state-000000006.pt",
    }  # fmt: skip
    torch.load(newest_state(tmp_path), weights_only=True)
    assert RunFolder(tmp_path, small(max_epochs=1)).best == result.best


@pytest.mark.parametrize("domain", ["t", "tf", "t+tf"])
def test_the_loss_of_the_first_update_is_that_of_the_loss_function(dataset: Dataset, tmp_path: Path, domain: Any):
    config = small(loss_domain=domain, max_epochs=1, examples_per_epoch=2)
    torch.manual_seed(config.seed)
    model = build_model(config.model)
    run(config, dataset, tmp_path / "runs")
    examples = make_examples(
        dataset.songs("train"), ["vocals", "bass"], config.training.mixing, excerpt_s=0.1, examples=2,
        sample_rate_hz=8000, channels=2, seed=0,
    )  # fmt: skip
    batch = next(iter(DataLoader(examples, batch_size=2)))
    signals, spec = model(batch.mixture)
    stft_config = config.model.loss_stft
    expected = separation_loss(signals, batch.targets, estimate_spec=spec, domain=domain, stft_config=stft_config)
    assert log(tmp_path / "runs")[0]["loss"] == pytest.approx(expected.item(), rel=1e-6)


def _lose_a_song(dataset: Dataset) -> Path:
    path = dataset.songs("train")[0].stems["drums"][0].path
    path.unlink()
    return path


def test_a_song_that_goes_missing_stops_the_run_and_is_named(dataset: Dataset, tmp_path: Path):
    path = _lose_a_song(dataset)
    with pytest.raises(AudioError, match=f"{path}: was removed after the data set was indexed; restore it"):
        run(small(), dataset, tmp_path / "runs")


@pytest.mark.parametrize("batch_size", [1, 2, 12])
def test_or_its_examples_are_left_out_and_logged(dataset: Dataset, tmp_path: Path, batch_size: int):
    path = _lose_a_song(dataset)
    events = Events()
    run(small(broken_song="skip", batch_size=batch_size), dataset, tmp_path / "runs", events)
    (event,) = events.of(Skipped)
    assert event.problem == f"{path}: was removed after the data set was indexed; restore it"
    skipped = log(tmp_path / "runs", "skipped")
    assert 6 < len(skipped) < 30  # half of 36 examples, as one of two songs is gone
    assert all(str(path) in line["problem"] for line in skipped)
    assert all(event.loss is not None and math.isfinite(event.loss) for event in events.of(Validated))


def test_training_from_active_segments_needs_some(dataset: Dataset, tmp_path: Path):
    with pytest.raises(DataError, match="bass, drums, other, vocals: no segment of any song is active"):
        run(small(mixing={}), dataset, tmp_path / "runs")  # songs of less than a second
    config = small(mixing={"activity": {"segment_s": 0.2}})
    run(config, dataset, tmp_path / "runs")
    assert list(tmp_path.glob("data/.bandsplit/activity-*.json"))
