"""``bandsplit models costs`` and ``bandsplit study costs`` as a user meets them."""

from pathlib import Path

import pytest

from bandsplit.recipes.catalogue import RECIPES
from bandsplit.studies.costs.rows import SeparationCost, TrainingCost, read_costs
from bandsplit.studies.plans import STUDIES
from bandsplit.training import plan
from command_line import Ended, run_command
from small_study import SMALL, STUDY
from songs import write_dataset
from tiny_models import write_tiny_model

MEASURE = ("--measure", "--seconds", "1", "--device", "cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for id, recipe in SMALL.items():
        monkeypatch.setitem(RECIPES, id, recipe)
    monkeypatch.setitem(STUDIES, STUDY.id, STUDY)
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)


def ask(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Ended:
    return run_command(capsys, *arguments)


def row(ended: Ended, name: str) -> list[str]:
    lines = (line for line in ended.out.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for line in lines for cell in line.strip("| ").split("|")]  # of all tables


def test_architectures_are_counted_without_a_run(capsys: pytest.CaptureFixture[str]):
    ended = ask(capsys, "models", "costs", "--format", "md")
    assert ended.code == 0
    for id, recipe in RECIPES.items():
        assert (f"| {id} |" in ended.out) == recipe.architecture
    assert row(ended, "dttnet")[1:4] == ["19.06", "76.3", "2829"]
    assert not list(Path().iterdir())


def test_files_and_bad_files_share_a_table(capsys: pytest.CaptureFixture[str]):
    write_tiny_model("a.safetensors", "vocals")
    Path("b.safetensors").write_bytes(b"none")
    out = ("--out", "costs.jsonl", "--format", "md")
    ended = ask(capsys, "models", "costs", "b.safetensors", "htdemucs_6s", "a.safetensors", *MEASURE, *out)
    assert ended.code == 0
    for name in ("b.safetensors", "htdemucs_6s"):
        assert row(ended, name) == [name, *"-----", name, *"----"]
    realtime, cpu_s, peak_mb, _ = row(ended, "a.safetensors")[-4:]
    assert float(realtime) > 0 and float(cpu_s) > 0 and float(peak_mb) > 100
    assert "b.safetensors: is not a model file" in ended.out
    assert "htdemucs_6s: not in the cache; `bandsplit models fetch NAME` brings it" in ended.out
    assert [cost.system for cost in read_costs(Path("costs.jsonl")).values()] == ["a.safetensors"]


def test_costs_of_a_study_are_kept_continued_and_drawn(capsys: pytest.CaptureFixture[str]):
    command = ("study", "costs", "small", "--rows", "small,small-too", "--gpu", "l40s", "--format", "md")
    first = ask(capsys, *command)
    path = Path("study/small/costs.jsonl")
    assert first.code == 0 and [type(cost) for cost in read_costs(path).values()] == [TrainingCost] * 2
    second = ask(capsys, *command, *MEASURE)
    measured = [cost for cost in read_costs(path).values() if isinstance(cost, SeparationCost)]
    assert [cost.system for cost in measured] == ["small", "small-too"]
    assert measured[0].realtime == measured[1].realtime  # one architecture is measured once
    lines = path.read_text()
    third = ask(capsys, *command, *MEASURE)
    assert path.read_text() == lines and third.out == second.out  # nothing is measured again
    assert "Training, predicted for L40S at 35 % of its peak rate" in third.out
    assert ask(capsys, "study", "figures", "small", "--format", "png").code == 0


def test_training_is_predicted_from_steps(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "TRIAL_S", 0.01)
    write_dataset(Path("songs"), train=3, test=1, samples=6000)
    ended = ask(capsys, "study", "costs", "small", "--rows", "small", "--data", "songs", "--device", "cpu")
    assert ended.code == 0 and "Some steps of the first model" in ended.out
    (cost,) = read_costs(Path("study/small/costs.jsonl")).values()
    assert isinstance(cost, TrainingCost) and cost.how == "steps" and 0 < cost.hours[0] <= cost.hours[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("models", "costs", "dttnt"), "did you mean 'dttnet'?"),
        (("models", "costs", "small", "--gpu", "K80"), "choose one of RTX 2080 Ti, RTX 4090, L40S, A100, H100, H200"),
        (("models", "costs", "small", "--gpu", "L40S", "--utilisation", "0"), "utilisation: 0 must be above 0"),
        (("models", "costs", "small", "--gpu", "L40S", "--utilisation", "1.5"), "utilisation: 1.5 must be above 0"),
        (("models", "costs", "small", "--measure", "--device", "tpu"), "device: 'tpu' cannot be used here"),
        (("models", "costs", "small", "--seconds", "2"), "seconds: is the length of the noise; give --measure, too"),
        (("models", "costs", "small", "--utilisation", "0.2"), "utilisation: is that of a GPU; name it with --gpu"),
        (("models", "costs", "small", "--measure", "--out", "/dev/null/a"), "/dev/null/a: cannot be written"),
        (("study", "costs", "smal"), "did you mean 'small'?"),
        (("study", "costs", "small", "--rows", "smal"), "did you mean 'small'?"),
        (("study", "costs", "table1", "--rows", "DTTNt"), "is not in this study"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]):
    ended = ask(capsys, *arguments)
    assert ended.code != 0 and ended.out == ""
    assert text in " ".join(ended.err.split())
