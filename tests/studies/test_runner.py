"""Studies: runs as processes of their own, what they cost, what is left of them, and their scores."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from bandsplit.cli.main import app
from bandsplit.core.errors import DataError
from bandsplit.data.songs.check import check_dataset
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.evaluation.results import read_scores
from bandsplit.models.chunk_config import CrossfadeConfig
from bandsplit.published.paper import table2
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.budgets import Budget
from bandsplit.runs.records import Stage
from bandsplit.studies.outcome import gather, write_tables
from bandsplit.studies.plans import STUDIES, PlannedRun, planned_runs
from bandsplit.studies.runner.costs import (
    CostSpan,
    Span,
    cost_study,
    estimated_gpu_hours,
    sum_hours,
    sum_kwh,
    sum_published,
)
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.runner.processes import Job, Processes
from bandsplit.studies.runner.run import StudyResult, run_study
from bandsplit.studies.runner.scoring import Scoring, Songs, chunks_of, find_systems, join_scores, score
from bandsplit.studies.runner.status import account_energy, estimate_left
from bandsplit.studies.runner.training import check_data
from small_study import COMMAND, SMALL, STUDY, put
from songs import write_dataset
from waiting import wait_until

PAPER = STUDIES["paper"]


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch):
    for id, recipe in SMALL.items():
        monkeypatch.setitem(RECIPES, id, recipe)
    monkeypatch.setitem(STUDIES, STUDY.id, STUDY)
    # The processes import what this one does, with one thread each.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


@pytest.fixture
def songs(tmp_path: Path) -> Songs:
    root = write_dataset(tmp_path / "songs", train=3, test=1, samples=6000)
    return Songs(check_dataset(index_dataset(root)).dataset, ("--data", str(root)))


def go(folder: StudyFolder, songs: Songs, planned: list[PlannedRun], **how) -> tuple[StudyResult, list[str]]:
    told: list[str] = []
    result = run_study(STUDY, planned, folder, [songs], told.append, device="cpu", command=COMMAND, **how)
    return result, told


def started(folder: StudyFolder) -> list[str]:
    return [event["run"] for event in folder.events() if event["event"] == "started"]


# --- real runs -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_fails_leaves_the_others_going_and_stays_in_the_energy_account(folder: StudyFolder, songs: Songs):
    planned = planned_runs(STUDY, ["good", "broken"], ["small", "small-broken"], [1], ["vocals"])
    result, told = go(folder, songs, planned, jobs=2, evaluate=False)
    good, broken = folder.look(planned)
    assert (result.exit_code, result.trained.finished, list(result.trained.failed)) == (1, [good.name], [broken.name])
    assert good.finished and (good.folder / "best.safetensors").exists()
    assert broken.failure is not None and "is not finite" in broken.failure
    assert any(line.startswith(f"{broken.name}: FAILED (exit code 1): error: ") for line in told)
    account = account_energy(folder)
    assert account is not None and account.attempts == 2 and account.unfinished_kwh > 0
    assert account.kwh == pytest.approx(account.finished_kwh + account.unfinished_kwh)

    result, _ = go(folder, songs, planned, jobs=2, evaluate=False)
    assert result.exit_code == 1 and started(folder).count(good.name) == 1 and started(folder).count(broken.name) == 2
    account = account_energy(folder)
    assert account is not None and account.attempts == 3


@pytest.mark.slow
def test_runs_and_scores_of_equal_budgets_stay_apart_from_those_without(folder: StudyFolder, songs: Songs):
    flop = max(SMALL[name].run_config(["vocals"]).update_flop(2) for name in ("small", "small-too"))
    priced = STUDY.within(Budget(kind="flop", amount=2 * 9.5 * flop))
    selection = (["good"], ["small", "small-too"], [1], ["vocals"])
    for study in (STUDY, priced):
        planned = planned_runs(study, *selection)
        told: list[str] = []
        result = run_study(study, planned, folder, [songs], told.append, device="cpu", command=COMMAND)
        assert result.exit_code == 0, told
    assert [run.record and run.record.budget for run in folder.look(planned)] == [f"{priced.budget}/2"] * 2
    without, within = gather(STUDY, folder), gather(priced, folder)
    assert len(without.runs) == len(within.runs) == 2
    assert {row.budget for row in without.scores if row.recipe} == {None}
    assert {row.budget for row in within.scores if row.recipe} == {str(priced.budget)}
    assert {row.system for row in within.scores if not row.recipe} == {
        row.system for row in without.scores if not row.recipe
    }, "yardsticks have no price"
    tables = write_tables(within).parts
    assert all(table.caption.endswith(f"; each system trained for {priced.budget}") for table in tables.values())
    assert [row[0] for row in tables["test"].rows][:2] == ["small", "small-too"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes of a study in /proc")
def test_a_study_killed_at_once_goes_on_without_training_a_run_twice_and_ctrl_c_saves_states(
    folder: StudyFolder, songs: Songs
):
    (long,) = planned_runs(STUDY, ["long"], [], [], ["vocals"])
    arguments = ["study", "run", "small", *songs.options, "--rows", "small-long", "--targets", "vocals"]
    command = [*COMMAND, *arguments, "--folder", str(folder.path), "--device", "cpu", "--no-evaluate"]

    def epochs() -> int:
        (run,) = folder.look([long])
        return run.record.epochs if run.record else 0

    def wait_for(epoch: int, process: subprocess.Popen) -> None:
        def reached() -> bool:
            assert process.poll() is None, process.communicate()
            return epochs() >= epoch

        wait_until(reached, f"epoch {epoch}")

    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(2, first)
    (child,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    first.kill()
    first.communicate()
    second = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    told = []
    for line in second.stderr:
        told.append(line)
        if "another process is training it; waiting" in line:
            break
    else:
        pytest.fail("".join(told))
    os.kill(int(child), signal.SIGTERM)  # what trains without its study stops, and the second study takes the run over
    for line in second.stderr:
        if "continues" in line:
            break
    done = epochs()
    wait_for(done + 1, second)
    second.send_signal(signal.SIGINT)
    assert second.wait() == 3
    second.stderr.close()
    (run,) = folder.look([long])
    assert run.record is not None and (str(run.state), run.record.attempts) == ("stopped (SIGTERM)", 2)
    assert run.record.epochs >= done + 1 and list(run.folder.glob("state-*.pt"))
    assert [event["event"] for event in folder.events()] == ["started", "started", "stopped"]


@pytest.mark.slow
def test_models_are_scored_once_as_one_system_for_each_seed(folder: StudyFolder, songs: Songs):
    planned = planned_runs(STUDY, ["good"], ["small"], [1])
    result, _ = go(folder, songs, planned, jobs=2)
    assert result.exit_code == 0, result
    rows = read_scores(folder.scores)
    models = [row for row in rows if row.recipe == "small"]
    assert {(row.seed, row.scored_with, row.data, row.track) for row in models} == {
        (1, ("vocals", "bass"), "songs", "Song 3")
    }
    assert {row.target for row in models} == {"vocals", "bass"}
    yardsticks = {row.system: row.scored_with for row in rows if row.recipe is None}
    assert yardsticks["mixture"] == ("vocals", "bass")  # the windows that count are those of the models

    before, time_ns = folder.scores.read_bytes(), [file.stat().st_mtime_ns for file in folder.path.glob("scores/*")]
    result, told = go(folder, songs, planned, jobs=2)
    assert (result.exit_code, told, len(result.scored.finished)) == (0, [], 2)
    assert folder.scores.read_bytes() == before
    assert [file.stat().st_mtime_ns for file in folder.path.glob("scores/*")] == time_ns


@pytest.mark.slow
def test_a_run_of_a_study_is_the_run_that_train_makes(folder: StudyFolder, songs: Songs, tmp_path: Path):
    (one,) = planned_runs(STUDY, ["good"], ["small-too"], [1], ["bass"])
    go(folder, songs, [one], evaluate=False)
    alone = ["train", "small-too", "-t", "bass", "--seed", "1", "--runs", str(tmp_path / "runs"), "--device", "cpu"]
    assert CliRunner().invoke(app, [*alone, *songs.options]).exit_code == 0
    (run,) = folder.look([one])
    name = run.folder.relative_to(folder.runs)
    ours, theirs = load_file(run.folder / "best.safetensors"), load_file(tmp_path / "runs" / name / "best.safetensors")
    assert ours.keys() == theirs.keys() and all((ours[key] == theirs[key]).all() for key in ours)


# --- processes -------------------------------------------------------------------------------------------------------


def python(code: str, tmp_path: Path, name: str = "job") -> Job:
    return Job(name, (code,), tmp_path / f"{name}.log")


def wait(processes: Processes) -> dict[str, int]:
    codes: dict[str, int] = {}

    def all_ended() -> bool:
        codes.update({ended.job.name: ended.code for ended in processes.ended(0.01)})
        return not processes.running

    wait_until(all_ended, "the end of the processes")
    return codes


def test_a_process_holds_its_lock_while_it_lives_and_its_output_is_kept(tmp_path: Path):
    processes, lock = Processes((sys.executable, "-c"), 2), tmp_path / "locks" / "one"
    code = f"import pathlib, sys\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): pass\nsys.exit('done')"
    assert processes.start_alone(python(code, tmp_path), lock)
    another = Processes((sys.executable, "-c"), 2)
    assert not another.start_alone(python("pass", tmp_path, "two"), lock)
    (tmp_path / "go").touch()
    assert wait(processes) == {"job": 1} and (tmp_path / "job.log").read_text().endswith("done\n")
    assert another.start_alone(python("pass", tmp_path, "two"), lock)
    assert wait(another) == {"two": 0}


def test_each_process_gets_its_share_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert Processes((), 1).environment["OMP_NUM_THREADS"] == str(cores)
    assert Processes((), 2 * cores).environment["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Processes((), 1).environment["OMP_NUM_THREADS"] == "7"


def said_by(processes: Processes, tmp_path: Path, word: str) -> bool:
    processes.ended(0.01)
    return word in (tmp_path / "job.log").read_text().splitlines()


def test_the_first_signal_asks_processes_to_end_and_a_second_ctrl_c_makes_them(tmp_path: Path):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
    stubborn += "print('ready', flush=True)\nwhile True: time.sleep(0.01)"
    processes = Processes((sys.executable, "-c"), 1)
    with processes.watching():
        processes.start_alone(python(stubborn, tmp_path), tmp_path / "lock")
        said = {"ready": signal.SIGTERM, "asked": signal.SIGINT}
        for word, number in said.items():
            wait_until(lambda word=word: said_by(processes, tmp_path, word), word)
            assert processes.stopping is (word == "asked")
            os.kill(os.getpid(), number)
        assert wait(processes) == {"job": -signal.SIGKILL}
    assert not processes.free


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_is_heard_where_a_shell_ignores_it_and_nohup_stays_nohup(ignored: signal.Signals, tmp_path: Path):
    processes, before = Processes((sys.executable, "-c"), 1), signal.signal(ignored, signal.SIG_IGN)
    try:
        with processes.watching():
            os.kill(os.getpid(), ignored)
            processes.ended(0.0)
            assert processes.stopping is (ignored == signal.SIGINT)
        assert signal.getsignal(ignored) is signal.SIG_IGN
    finally:
        signal.signal(ignored, before)


def test_an_error_of_the_study_stops_its_processes(tmp_path: Path):
    processes = Processes((sys.executable, "-c"), 1)

    def fail() -> None:
        with processes.watching():
            processes.start_alone(python("import time; time.sleep(1000)", tmp_path), tmp_path / "lock")
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert processes.running == 0


# --- costs -----------------------------------------------------------------------------------------------------------


def test_published_energy_is_shared_between_the_targets_and_what_nobody_published_is_unknown():
    planned = planned_runs(PAPER, ["table2"], ["1", "5"], targets=["vocals", "bass"])
    # Table II: 127 kWh for four targets of row 1 (here two of them, three seeds), 131 of row 5 (one seed)
    total = sum_published(planned)
    assert (total.runs, total.unknown) == (8, 0)
    assert total.low == total.high == pytest.approx(3 * 127 / 2 + 131 / 2)
    convergence = sum_published(planned_runs(PAPER, ["convergence"]))
    assert (convergence.runs, convergence.unknown) == (24, 12)
    assert convergence.low == pytest.approx(3 * 127)
    everything = sum_published(planned_runs(PAPER, ["table2"]))
    assert everything.low == pytest.approx(sum(row.energy_kwh for row in table2().values()) + 2 * 127)


def test_gpu_hours_are_published_energy_at_the_rated_power_of_the_gpus():
    assert estimated_gpu_hours(PlannedRun("base", ("vocals",), 1)) == pytest.approx(127 / 4 / 1.5 / 0.25)
    assert estimated_gpu_hours(PlannedRun("optimised", ("bass",), 1)) == pytest.approx(508 / 4 / 1.5 / 0.35)
    assert estimated_gpu_hours(PlannedRun("simo", ("vocals", "bass", "drums", "other"), 1)) is None


def test_measured_costs_are_summed_over_runs_and_over_what_is_left(folder: StudyFolder):
    planned = planned_runs(PAPER, recipes=["1", "5", "6"], seeds=[1, 2], targets=["vocals", "bass"])
    put(folder, planned[0], [1.0])
    put(folder, planned[1], [1.0], stop=None)  # it is not finished: it counts in full
    measured = {"base": CostSpan(Span(1.0, 10.0), Span(0.5, 4.0)), "loss-tf": CostSpan(Span(2.0, 20.0), None)}
    costs = cost_study(folder.look(planned), {**measured, "stft-4096": "does not fit"})
    assert [(cost.recipe, len(cost.runs), len(cost.left)) for cost in costs] == [
        ("base", 4, 3), ("loss-tf", 2, 2), ("stft-4096", 2, 2),
    ]  # fmt: skip
    hours, kwh = sum_hours(costs, left=False), sum_kwh(costs, left=True)
    assert hours == (8, 4 * 1.0 + 2 * 2.0, 4 * 10.0 + 2 * 20.0, 2)
    assert kwh == (7, 3 * 0.5, 3 * 4.0, 4)


# --- what is there ---------------------------------------------------------------------------------------------------


def test_states_come_from_the_runs_folders_and_the_journal(folder: StudyFolder):
    planned = planned_runs(STUDY, ["good"])
    put(folder, planned[0], [1.0, 2.0])
    put(folder, planned[1], [1.0], stop="error: song is broken")
    put(folder, planned[2], [1.0], stop="SIGTERM")
    folder.append("submitted", run="small bass seed 2", job="7_1")
    folder.append("failed", run="small-too vocals seed 1", reason="error: no disk", log="x")
    folder.journal.write_bytes(folder.journal.read_bytes() + b'{"event": "fin')  # a kill cut it short
    runs = folder.look(planned)
    assert [str(run.state) for run in runs] == [
        "finished (patience)", "failed", "stopped (SIGTERM)", "submitted (7_1)", "failed", "not begun",
    ]  # fmt: skip
    assert [run.state.stage for run in runs] == [
        Stage.FINISHED, Stage.FAILED, Stage.STOPPED, Stage.SUBMITTED, Stage.FAILED, Stage.NOT_BEGUN,
    ]  # fmt: skip
    assert [run.failure for run in runs[:5]] == [None, "song is broken", None, None, "error: no disk"]


def test_what_is_left_follows_from_runs_that_are_finished(folder: StudyFolder):
    planned = planned_runs(STUDY, ["good"])
    assert estimate_left(folder.look(planned)) == (6, 0.0, 0, 6)
    put(folder, planned[0], [1.0] * 4)  # 0.5 h for each epoch
    put(folder, planned[1], [1.0] * 8)
    put(folder, planned[2], [1.0] * 2, stop="SIGTERM")
    # Runs of `small` took 2 and 4 h: 3 h for the two others, less 1 h that is done; 3 h for the two of `small-too`
    assert estimate_left(folder.look(planned)) == (4, 4 * 3.0 - 1.0, 2, 0)


def test_runs_on_other_songs_are_refused(folder: StudyFolder, songs: Songs):
    (one,) = planned_runs(STUDY, ["good"], ["small"], [1], ["vocals"])
    put(folder, one, [1.0])
    (there,) = folder.look([one])
    file = there.folder / "config.json"
    description = json.loads(file.read_text())
    description["data"] = {"name": "other-songs", "fingerprints": {"train": "0" * 12}}
    file.write_text(json.dumps(description))
    with pytest.raises(DataError, match=re.escape(f"{there.folder}: was trained on other-songs (train: 000000000000)")):
        check_data(folder.look([one]), songs.dataset)


def test_a_system_is_scored_when_its_chosen_runs_are_finished_with_all_targets_that_are(folder: StudyFolder):
    every = planned_runs(STUDY, ["good"], ["small"])
    put(folder, every[0], [1.0])
    put(folder, every[2], [1.0])
    put(folder, every[3], [1.0])
    systems, lacking = find_systems(folder, STUDY, every)
    assert [(one.recipe, one.seed, one.targets) for one in systems] == [("small", 2, ("vocals", "bass"))]
    assert lacking == {"small seed 1": ["small bass seed 1"]}
    systems, lacking = find_systems(folder, STUDY, [every[0], every[2]])
    assert [(one.seed, one.targets) for one in systems] == [(1, ("vocals",)), (2, ("vocals", "bass"))]
    assert lacking == {}


def test_scores_are_joined_from_the_parts_that_know_most_targets(folder: StudyFolder):
    parts = folder.path / "scores"
    parts.mkdir(parents=True)
    for name, text in {
        "a-overlap-add-hop-1.5.vocals": "1\n", "a-overlap-add-hop-1.5.vocals+bass": "2\n3\n",
        "a-crossfade.vocals": "4\ncut sh", "yardsticks.all": "5\n",
    }.items():  # fmt: skip
        (parts / f"{name}.jsonl").write_text(text)
    join_scores(folder)
    assert sorted(folder.scores.read_text().splitlines()) == ["2", "3", "4", "5"]


def test_a_model_that_changed_is_scored_again_and_a_scoring_that_fails_leaves_the_others(
    folder: StudyFolder, tmp_path: Path
):
    # What stands in for `bandsplit evaluate` adds the model's content as a row, and refuses one that is empty.
    evaluate = (
        "import sys; model, out = sys.argv[2], sys.argv[4]; text = open(model).read()\n"
        "if not text: sys.exit('empty')\n"
        "open(out, 'a').write(text + '\\n')"
    )
    parts = folder.path / "scores"
    parts.mkdir(parents=True)
    models = [tmp_path / name for name in ("a", "b", "empty")]
    for model in models:
        model.write_text({"a": "1", "b": "2", "empty": ""}[model.name])
    plan = [Scoring(model.name, parts / f"{model.name}.vocals.jsonl", (model,), ()) for model in models]

    def score_all() -> tuple[list[str], list[str], list[str]]:
        told: list[str] = []
        processes = Processes((sys.executable, "-c", evaluate), 2)
        outcome = score(folder, plan, "cpu", processes, told.append)
        return sorted(outcome.finished), list(outcome.failed), sorted(told)

    failed = "empty: FAILED (exit code 1): empty"
    assert score_all() == (["a", "b"], ["empty"], ["a: scored", "b: scored", failed])
    assert score_all() == (["a", "b"], ["empty"], [failed])
    models[0].write_text("10")
    assert score_all() == (["a", "b"], ["empty"], ["a: scored", failed])
    assert folder.scores.read_text().split() == ["10", "2"]


def test_each_model_is_scored_as_the_lines_of_table_3_say():
    from bandsplit.studies.plans import TEST_LINES

    assert chunks_of("base", TEST_LINES) == [CrossfadeConfig()]
    hops = [chunks.model_dump().get("hop_s") for chunks in chunks_of("large-patience-30", TEST_LINES)]
    assert hops == [None, 1.5, 0.5]
