"""Run folders read back: what the table says of whole, running, killed and damaged ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from pydantic import TypeAdapter
from typer.testing import CliRunner

from bandsplit.cli.main import app
from bandsplit.core.errors import RunError
from bandsplit.core.files import Journal
from bandsplit.runs.records import RunState, Stage, read_run, read_runs
from bandsplit.runs.schema import Description, LogRow
from places import ROOT
from run_folders import curve_db, stop_early, write_run

INTERRUPTED = RunState(Stage.INTERRUPTED)


def add(folder: Path, text: str) -> None:
    with (folder / "log.jsonl").open("a") as file:
        file.write(text)


def test_a_finished_run_is_told_with_its_best_epoch_and_its_cost(tmp_path: Path):
    run = read_run(write_run(tmp_path, [1.0, 3.0, 2.5, 2.75], seed=7))
    assert (run.recipe, run.targets, run.seed, str(run.state)) == ("base", ("vocals",), 7, "finished (patience)")
    assert run.best and (run.best.epoch, run.best.validation_usdr_db) == (2, 3.0)
    assert (run.epochs, run.hours, run.kwh, run.attempts, run.problems) == (4, 2.0, 1.0, 1, ())


def test_the_songs_that_a_run_saw_and_the_code_that_trained_it_are_told(tmp_path: Path):
    folder = write_run(tmp_path, [1.0])
    description = json.loads((folder / "config.json").read_text())
    description["data"] = {"name": "musdb18hq", "fingerprints": {"train": "aa", "valid": "bb"}, "train": ["Song 1"]}
    (folder / "config.json").write_text(json.dumps(description))
    (folder / "environment.json").write_text(json.dumps({"bandsplit": "1.2", "python": "3.12"}))
    songs = [{"track": "Song 2", "usdr_db": {"vocals": 4.5}, "loss": 0.1}]
    row = {"kind": "validation", "epoch": 2, "validation_usdr_db": 4.5, "validation_loss": 0.1, "best": True}
    add(folder, json.dumps({**row, "songs": songs}) + "\n")
    run = read_run(folder)
    assert (run.data, run.fingerprints, run.version) == ("musdb18hq", {"train": "aa", "valid": "bb"}, "1.2")
    assert run.best and [(song.track, song.usdr_db) for song in run.best.songs] == [("Song 2", {"vocals": 4.5})]
    other = read_run(write_run(tmp_path, [1.0], seed=2))
    assert (other.data, other.fingerprints, other.version) == ("musdb", {}, None)


@pytest.mark.parametrize(
    ("reason", "state", "text"),
    [
        ("finished", RunState(Stage.FINISHED), "finished"),
        ("patience", RunState(Stage.FINISHED, "patience"), "finished (patience)"),
        ("SIGTERM", RunState(Stage.STOPPED, "SIGTERM"), "stopped (SIGTERM)"),
        ("time limit", RunState(Stage.STOPPED, "time limit"), "stopped (time limit)"),
        ("error: loss is nan", RunState(Stage.FAILED, "loss is nan"), "stopped (error: loss is nan)"),
        (None, RunState(Stage.INTERRUPTED), "interrupted"),
    ],
)
def test_the_state_says_how_the_last_attempt_ended(reason: str | None, state: RunState, text: str, tmp_path: Path):
    run = read_run(write_run(tmp_path, [1.0], stop=reason))
    assert (run.state, str(run.state), run.as_json()["state"]) == (state, text, text)
    assert run.finished is (reason in ("finished", "patience"))


def test_a_run_whose_lock_is_held_is_running(tmp_path: Path):
    folder = write_run(tmp_path, [1.0], stop=None)
    with FileLock(folder / ".lock"):
        assert read_run(folder).state == RunState(Stage.RUNNING)
    assert read_run(folder).state == INTERRUPTED


def test_a_second_attempt_counts_and_replaces_the_epochs_it_repeats(tmp_path: Path):
    folder = write_run(tmp_path, [1.0, 2.0], stop=None)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    add(folder, json.dumps({"kind": "start", "attempt": 2, "update": 10}) + "\n")
    assert read_run(folder).state == INTERRUPTED
    add(folder, json.dumps({**rows[2], "wall_s": 7200.0, "energy_kwh": 3.0}) + "\n")
    run = read_run(folder)
    assert (run.attempts, run.epochs, run.hours, run.kwh) == (2, 2, 2.0, 3.0)
    assert [row.epoch for row in run.validations] == [1, 2]


def test_the_energy_card_knows_what_came_after_the_last_validation(tmp_path: Path):
    folder = write_run(tmp_path, [1.0])
    (folder / "energy.json").write_text('{"total": {"kwh": 0.5, "joules": 1.8e6, "wall_s": 5400}, "country": "DE"}')
    run = read_run(folder)
    assert (run.kwh, run.hours, run.problems) == (0.5, 1.5, ())


def test_the_models_of_the_files_hold_all_that_a_run_writes():
    written = sorted((ROOT / "tests" / "golden" / "previous").rglob("log.jsonl"))
    rows = [line.value for file in written for line in Journal(file).read().lines]
    assert {row["kind"] for row in rows} == {"start", "validation", "stop"}
    for row in rows:
        begins = {key: row[key] for key in ("kind", "unix_time_s")}
        again = begins | TypeAdapter(LogRow).validate_python(row).model_dump()
        assert json.dumps(again) == json.dumps(row)
    for file in written:
        content = json.loads(file.with_name("config.json").read_text())
        again = Description[dict[str, Any]].model_validate(content).model_dump()
        assert json.dumps(again) == json.dumps(content)


@pytest.mark.parametrize("cut", ['{"kind": "valid', '{"kind": "validation", "epoch": 3, "validation_usdr_db": 2.', "{"])
def test_a_row_that_a_kill_cut_short_is_nothing_to_talk_about(cut: str, tmp_path: Path):
    folder = write_run(tmp_path, [1.0, 2.0], stop=None)
    add(folder, cut)
    run = read_run(folder)
    assert (run.state, run.epochs, run.problems) == (INTERRUPTED, 2, ())
    journal = Journal(folder / "log.jsonl")
    journal.append('{"kind": "start", "attempt": 2}', '{"kind": "stop", "reason": "finished", "epoch": 3}')
    run = read_run(folder)
    assert (run.state, run.epochs, run.attempts, run.problems) == (RunState(Stage.FINISHED), 3, 2, ())


def test_damage_is_named_and_the_rest_is_read(tmp_path: Path):
    folder = write_run(tmp_path, [1.0, 2.0])
    lines = (folder / "log.jsonl").read_text().splitlines()
    lines[1] = '{"kind": "validation", "epoch": "one"}'
    lines.insert(2, "garbage")
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "config.json").write_bytes(b'{"run": {')
    (folder / "energy.json").write_bytes(b"\xff\x00")
    run = read_run(folder)
    assert (run.recipe, run.targets, run.seed, run.epochs) == ("base", ("vocals",), 0, 2)
    named = [
        "config.json: Invalid JSON",
        "log.jsonl, line 2: validation.epoch",
        "line 3: not JSON",
        "energy.json: ",
    ]
    assert len(run.problems) == 4
    for name in named:
        assert any(name in problem for problem in run.problems), run.problems


def test_runs_are_sorted_by_recipe_target_and_seed_and_empty_folders_are_listed(tmp_path: Path):
    for recipe, target, seed in [("large", "vocals", 0), ("base", "bass", 1), ("base", "vocals", 1)]:
        write_run(tmp_path, [1.0], recipe, target, seed)
    write_run(tmp_path, [1.0], "base", "vocals", 0, changes={"model.n_blocks": 2})
    (tmp_path / "base" / "bass" / "seed-0-89abcdef").mkdir()
    runs = read_runs(tmp_path)
    assert [(run.label, *run.targets, run.seed) for run in runs] == [
        ("base", "vocals", 1), ("base", "bass", 0), ("base", "bass", 1), ("base*", "vocals", 0), ("large", "vocals", 0),
    ]  # fmt: skip
    assert runs[1].problems == (
        "config.json: missing: not the folder of a run?", "log.jsonl: missing, nothing was trained",
    )  # fmt: skip


def test_links_that_lead_in_circles_are_followed_once(tmp_path: Path):
    run = write_run(tmp_path / "here" / "runs", curve_db(0, 3))
    for name in ("one", "two", "three"):
        (run.parent / name).symlink_to(run.parent, target_is_directory=True)
    (tmp_path / "linked").symlink_to(tmp_path / "here" / "runs", target_is_directory=True)
    for root in (tmp_path / "here", tmp_path / "linked", tmp_path / "here" / "runs" / ".."):
        assert [found.folder.name for found in read_runs(root)] == [run.name]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(RunError, match="no such folder; name the one that `bandsplit train` got as --runs"):
        read_runs(tmp_path / "none")


def test_the_table_fits_80_columns(tmp_path: Path):
    for seed in range(3):
        write_run(tmp_path, stop_early(curve_db(seed, 120), patience=10), "optimised-no-tac", seed=seed)
    result = CliRunner().invoke(app, ["runs", str(tmp_path)], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for words in ("recipe targets seed state best dB epochs hours kWh tries", "optimised-no-tac vocals 2 finished"):
        assert any(words in " ".join(line.split()) for line in lines), result.stdout
    assert sum("@" in line and line.rstrip().endswith(" 1") for line in lines) == 3


def test_damage_does_not_stop_the_table_but_is_the_exit_code(tmp_path: Path):
    write_run(tmp_path, [1.0, 2.0], monitor="loss")
    (write_run(tmp_path, [5.0], seed=1) / "config.json").unlink()
    result = CliRunner().invoke(app, ["runs", str(tmp_path)], env={"COLUMNS": "160"})
    assert result.exit_code == 1
    assert "0.8000 loss @2" in result.stdout and "5.00 dB @1" in result.stdout
    assert "seed-1-0123abcd: config.json: missing" in result.stdout


def test_json_holds_everything(tmp_path: Path):
    write_run(tmp_path, [1.0, 2.0], changes={"training.max_epochs": 2})
    (row,) = json.loads(CliRunner().invoke(app, ["runs", str(tmp_path), "--json"]).stdout)
    assert (row["recipe"], row["changes"], row["best_epoch"]) == ("base", {"training.max_epochs": 2}, 2)
    assert row["validations"] == [[1, 1.0, 0.9], [2, 2.0, 0.8]]


def test_the_curves_are_drawn_with_a_panel_for_each_target(tmp_path: Path):
    for target in ("vocals", "bass"):
        write_run(tmp_path, [1.0, 2.0], target=target)
    result = CliRunner().invoke(app, ["runs", str(tmp_path), "--plot", str(tmp_path / "curves.svg")])
    assert result.exit_code == 0
    assert (tmp_path / "curves.svg").read_text().count('id="axes_') == 2
    result = CliRunner().invoke(app, ["runs", str(tmp_path), "--plot", str(tmp_path / "curves.doc")])
    assert "name a .png, .svg or .pdf" in str(result.exception)
