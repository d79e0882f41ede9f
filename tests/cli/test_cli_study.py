"""The commands ``bandsplit study ...``."""

import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bandsplit.cli.main import app
from bandsplit.cli.study.run import PASSED, check_train_options
from bandsplit.core.errors import ConfigError
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.budgets import Budget
from bandsplit.studies.plans import STUDIES, PlannedRun
from bandsplit.studies.runner.folder import StudyFolder
from small_study import SMALL, STUDY, put
from songs import write_dataset


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for id, recipe in SMALL.items():
        monkeypatch.setitem(RECIPES, id, recipe)
    monkeypatch.setitem(STUDIES, STUDY.id, STUDY)
    monkeypatch.chdir(tmp_path)


def ask(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["study", *arguments], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["study", *arguments])
    assert isinstance(result.exception, ConfigError), result.output
    return str(result.exception)


def test_a_study_is_listed_with_what_was_published_and_what_each_recipe_changes():
    lines = [line.split() for line in ask("list", "paper").splitlines()]
    assert ["1", "base", "1", "2", "3", "7.1", "127", "-"] in [line[-8:] for line in lines]
    assert ["5", "loss-tf", "1", "7.2", "131", "base:", "domain", "tf"] in lines
    for part in STUDIES["paper"].parts:
        assert any(line[:1] == [part] for line in lines)
    assert all(f"{study.id}: {study.about}" in ask("list") for study in STUDIES.values())


def test_a_plan_tells_runs_and_energy_before_anything_starts(tmp_path: Path):
    folder = StudyFolder(tmp_path / "study" / "paper")
    shown = ask("plan", "paper", "--rows", "1,5", "--targets", "vocals")
    assert "4 runs: 0 finished, 0 begun, 4 not begun" in shown
    # Table II: 3 seeds of a quarter of 127 kWh, one of a quarter of 131 kWh
    assert "all 128 kWh; left 128 kWh" in shown and "hours on this machine: unknown" in shown
    # without the PUE of 1.5, at 250 W: 3 x 84.7 + 87.3
    assert "GPU-hours: all 341 h; left 341 h (an estimate" in shown
    put(folder, PlannedRun("base", ("vocals",), 1), [1.0])
    shown = ask("plan", "paper", "--rows", "1,5", "--targets", "vocals")
    assert "4 runs: 1 finished" in shown and "all 128 kWh; left 96.2 kWh" in shown
    assert "unknown (3 runs)" in ask("plan", "paper", "--rows", "base-patience-30", "--targets", "vocals")
    assert [file.name for file in folder.path.iterdir()] == ["runs"]  # a plan writes nothing


def test_a_plan_can_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from bandsplit.training import plan

    monkeypatch.setattr(plan, "TRIAL_S", 0.01)
    songs = write_dataset(tmp_path / "songs", train=3, test=1, samples=6000)
    options = ("--data", str(songs), "--device", "cpu", "--measure")
    shown = ask("plan", "small", "--rows", "small", "--seeds", "1", *options)
    (line,) = (line for line in shown.splitlines() if line.startswith("measured hours"))
    low, high = (float(word) for word in line.split()[3:6:2])
    assert 0 < low <= high < 1
    assert "measured energy, without PUE: all" in shown


def test_a_plan_with_a_budget_counts_the_updates_that_it_pays_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from bandsplit.training import plan

    monkeypatch.setattr(plan, "TRIAL_S", 0.01)
    flop = SMALL["small"].run_config(["vocals"]).update_flop(2)
    shown = ask("plan", "small", "--rows", "small", "--budget", f"{2 * 7.5 * flop}flop")
    assert ["-", "small", "4", "0", "0", "7"] in [line.split()[:6] for line in shown.splitlines()]
    shown = ask("plan", "small", "--rows", "small", "--budget", "20min")
    assert ["-", "small", "4", "0", "0", "unknown"] in [line.split()[:6] for line in shown.splitlines()]
    songs = write_dataset(tmp_path / "songs", train=3, test=1, samples=6000)
    options = ("--data", str(songs), "--device", "cpu", "--measure", "--seeds", "1", "--targets", "vocals")
    shown = ask("plan", "small", "--rows", "small", "--budget", "20min", *options)
    (line,) = (line for line in shown.splitlines() if line.split()[:2] == ["-", "small"])
    assert int(line.split()[5]) > 100


def test_runs_with_a_budget_have_a_folder_of_their_own(tmp_path: Path):
    put(StudyFolder(tmp_path / "study" / "small"), PlannedRun("small", ("vocals",), 1), [1.0])
    selection = ("--rows", "small", "--seeds", "1", "--targets", "vocals")
    assert "1 runs: 1 finished" in ask("status", "small", *selection)
    assert "1 runs: 1 not begun" in ask("status", "small", *selection, "--budget", "20min")
    budget = Budget(kind="time", amount=1200, models=2)
    put(StudyFolder(tmp_path / "study" / "small-20min"), PlannedRun("small", ("vocals",), 1, budget), [1.0])
    assert "1 runs: 1 finished" in ask("status", "small", *selection, "--budget", "20min")
    assert "Best validation uSDR, dB, on musdb" in ask("tables", "small", "--budget", "20min", "--format", "md")
    tables = (tmp_path / "study" / "small-20min" / "tables").glob("*.md")
    assert all(table.read_text().splitlines()[0].endswith("; each system trained for 20min") for table in tables)


def test_status_tells_states_what_is_left_and_why_runs_failed(tmp_path: Path):
    folder = StudyFolder(tmp_path / "study" / "small")
    put(folder, PlannedRun("small", ("vocals",), 1), [1.0, 2.0])
    put(folder, PlannedRun("small", ("bass",), 1), [1.0], stop="error: loss is nan")
    shown = ask("status", "small", "--parts", "good", "--seeds", "1", "--rows", "small")
    assert "2 runs: 1 finished, 1 failed" in shown and "left: 1 runs, about 0.5 h" in shown
    assert "FAILED: small bass seed 1: loss is nan" in shown
    assert "2 runs without an energy card are not counted" in shown


def test_the_launcher_submits_a_job_for_each_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, line in {"srun": "true", "sbatch": f"cp $1 {tmp_path / 'batch'}; echo Submitted batch job 12"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    songs = write_dataset(tmp_path / "songs", train=3, test=1, samples=6000)
    command = ["run", "paper", "--rows", "1", "--seeds", "1", "--data", str(songs), "--launcher", "slurm"]
    ask(*command, "--hours", "24", "--slurm", "partition=gpu", "--", "--workers", "4")
    assert "--partition=gpu" in (tmp_path / "batch").read_text()
    events = StudyFolder(tmp_path / "study" / "paper").events()
    assert [(event["run"], event["job"]) for event in events] == [
        (f"base {target} seed 1", f"12_{number}") for number, target in enumerate(("vocals", "bass", "drums", "other"))
    ]
    assert events[0]["command"] == [
        "train", "base", "--target", "vocals", "--seed", "1", "--runs", "study/paper/runs", "--resume",
        "--data", str(songs), "--device", "auto", "--workers", "4",
    ]  # fmt: skip
    assert "submitted (12_3)" in ask("status", "paper", "--rows", "1", "--seeds", "1")
    (tmp_path / "batch").unlink()
    ask(*command)
    assert not (tmp_path / "batch").exists()
    ask(*command, "--again")
    assert (tmp_path / "batch").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "training.max_epochs=1"], "a run with settings changed by hand is not part of a study"),
        (["--wrokers", "4"], "--wrokers: cannot be passed on to the runs; legal after the --: --workers"),
        (["--seed=3"], "--seed=3: cannot be passed on"),
        (["--workers"], "--workers: needs a value"),
        (["--compile=yes"], "--compile takes no value"),
        (["vocals"], "vocals: cannot be passed on"),
    ],
)
def test_only_options_that_change_no_result_are_passed_on(options: list[str], message: str, tmp_path: Path):
    assert message in refusal("run", "small", "--data", str(tmp_path), "--", *options)


def test_what_can_be_passed_on_are_options_of_train():
    train: Any = typer.main.get_command(app)
    options = {name: one for one in train.commands["train"].params for name in one.opts}
    assert {name: not options[name].is_flag for name in PASSED} == PASSED
    assert {"--workers", "--batch", "--max-hours", "--tensorboard", "--gpu-tdp"} <= set(PASSED)
    assert not {"--device", "--seed", "--runs", "--resume", "--target", "--data", "--valid"} & set(PASSED)
    check_train_options(["--workers", "4", "--save-every=1", "--compile", "--max-hours", "2"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "papre"], "did you mean 'paper'"),
        (["plan", "small", "--seeds", "one"], "--seeds one: 'one' is not a seed"),
        (["plan", "small", "--measure"], "--measure: needs songs"),
        (["plan", "small", "--budget", "5"], "--budget 5: is not a budget"),
        (["run", "small", "--data", "songs", "--budget", "2flop"],
         "budget 2flop: does not pay for an update of small, small-too, small-broken, small-long; the smallest"),
        (["status", "small", "--parts", "broken", "--rows", "small-broken", "--seeds", "2"], "seed '2' is not in"),
    ],
)  # fmt: skip
def test_mistakes_are_told(arguments: list[str], message: str):
    assert message in refusal(*arguments)
