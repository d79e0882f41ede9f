"""``bandsplit evaluate`` as a user meets it: folders of other tools, resumption, several processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bandsplit.evaluation.results import METRICS
from command_line import run_command
from songs import STEMS, write_dataset
from tiny_models import RATE_HZ, write_tiny_model

N = len(METRICS)
"""Rows of a target of a song."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_dataset(tmp_path / "songs", train=1, test=3, samples=RATE_HZ)


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Run evaluate in this process on the songs; return exit code and all output, line by line."""
    ended = run_command(capsys, "evaluate", "--data", "songs", "-o", "rows.jsonl", *arguments)
    return ended.code, ended.out + ended.err


def write_estimates(folder: Path, gain: float = 0.9, stems: tuple[str, ...] = STEMS) -> Path:
    for song in Path("songs/test").iterdir():
        (folder / song.name).mkdir(parents=True)
        for stem in stems:
            signal, _ = soundfile.read(song / f"{stem}.wav", dtype="float32")
            soundfile.write(folder / song.name / f"{stem}.wav", gain * signal, RATE_HZ, subtype="FLOAT")
    return folder


def read_rows(path: str = "rows.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def untimed(path: str = "rows.jsonl") -> list[dict[str, Any]]:
    return [{**row, "wall_s": None} for row in read_rows(path)]


def test_models_and_other_tools_stand_in_one_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "small.safetensors", card={"recipe": "base", "seed": 2})
    tool = write_estimates(tmp_path / "tool")
    code, text = run(capsys, model, "--estimates", tool, "--estimates", f"Louder={tool}", "-d", "cpu", "--yardsticks")
    assert code == 0, text
    table = text[text.index("uSDR, dB, mean over 3 songs") :].splitlines()
    cells = {cells[1].strip(): cells[2:] for line in table if len(cells := line.split("│")) > 3}
    assert [cell.strip() for cell in cells["tool"][:4]] == ["20.00"] * 4 == [c.strip() for c in cells["Louder"][:4]]
    assert [cell.strip() for cell in cells["small"][2:4]] == ["-", "-"]
    assert "SI-SDR" not in text and "L1-freq" not in text
    by_model = [row for row in read_rows() if row["system"] == "small"]
    assert {(row["recipe"], row["seed"], row["audio_s"]) for row in by_model} == {("base", 2, 1.0)}
    assert all(row["wall_s"] > 0 for row in by_model)
    assert {row["metric"] for row in by_model} == set(METRICS)
    assert all(row["convention"] and row["fingerprint"] for row in by_model)
    code, text = run(capsys, "--estimates", tool, "--all-metrics")
    assert code == 0 and "by convention" not in text
    for caption in ("SI-SDR, dB", "SI-SAR, dB", "L1-freq, 0 to 100", "bleedless, 0 to 100", "fullness, 0 to 100",
                    "log-spectral distance, dB, lower is better"):  # fmt: skip
        assert f"{caption}, mean over 3 songs" in text
    assert text.count("over 3 songs") == 8


def test_what_is_scored_already_is_not_scored_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, tool = write_tiny_model(tmp_path / "small.safetensors"), write_estimates(tmp_path / "tool")
    code, first = run(capsys, model, "--estimates", tool, "-d", "cpu")
    assert code == 0, first
    whole = Path("rows.jsonl").read_bytes()
    assert len(whole.splitlines()) == 3 * (2 + 4) * N
    code, text = run(capsys, model, "--estimates", tool, "-d", "cpu")
    assert code == 0 and "6 of 6 scored already" in text and "0 rows added" in text
    assert first[first.index("uSDR") : first.index("216 rows")] in text
    assert Path("rows.jsonl").read_bytes() == whole
    # Killed inside the last line of the second song's estimates: that one is scored again, and the third song.
    lines = whole.splitlines(keepends=True)
    last = 2 * (2 + 4) * N - 1
    Path("rows.jsonl").write_bytes(b"".join(lines[:last]) + lines[last][:100])
    code, text = run(capsys, model, "--estimates", tool, "-d", "cpu")
    assert code == 0, text
    assert "note: rows.jsonl: left out a line that is cut or damaged: 144" in text
    assert "3 of 6 scored already" in text and "1 of 6 scored again: rows.jsonl lacks some of their rows" in text
    assert f"{(4 + 2 + 4) * N} rows added" in text
    Path("rows.jsonl").write_bytes(Path("rows.jsonl").read_bytes().replace(lines[last][:100] + b"\n", b""))
    assert {json.dumps(row) for row in untimed()} == {json.dumps({**json.loads(x), "wall_s": None}) for x in lines}
    assert first[first.index("uSDR") : first.index("216 rows")] in text
    code, text = run(capsys, model, "--estimates", tool, "-d", "cpu", "--force")
    assert code == 0 and "scored already" not in text and "216 rows added" in text


def test_a_file_without_the_newer_metrics_is_completed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tool = write_estimates(tmp_path / "tool")
    run(capsys, "--estimates", tool)
    rows = untimed()
    old = [row for row in rows if row["metric"] in ("usdr_db", "csdr_db", "si_sdr_db", "l1_freq")]
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in old))
    code, text = run(capsys, "--estimates", tool)
    assert code == 0 and "scored already" not in text
    assert "3 of 3 scored again: rows.jsonl lacks some of their rows, because a metric is new or the writer" in text
    assert untimed() == old + rows
    code, text = run(capsys, "--estimates", tool)
    assert "3 of 3 scored already" in text and "scored again" not in text and "0 rows added" in text


def test_conventions_stand_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tool = write_estimates(tmp_path / "tool")
    code, text = run(capsys, "--estimates", tool, "--estimates", f"Louder={tool}", "--conventions")
    assert code == 0, text
    assert "tool: SDR in dB by convention (songs, test)" in text and "Louder: SDR in dB by convention" in text
    table = text[text.index("tool: SDR") : text.index("Louder: SDR")].splitlines()
    cells = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for line in table
             if len(cells := line.split("│")) > 3}  # fmt: skip
    assert len(cells) == 12
    assert cells["uSDR"] == ["MDX, SDX, Demucs, the paper", *["20.00"] * 5, "3 songs"]
    assert cells["cSDR-rest, pooled"] == ["DTTNet", *["20.00"] * 5, "3 windows"]


def test_other_weights_files_or_settings_are_scored_anew(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, tool = write_tiny_model(tmp_path / "small.safetensors"), write_estimates(tmp_path / "tool")
    run(capsys, model, "--estimates", tool, "-d", "cpu")
    write_tiny_model(model, seed=1)
    code, text = run(capsys, model, "--estimates", tool, "-d", "cpu")
    assert code == 0 and "3 of 6 scored already" in text and "72 rows added" in text
    path = tool / "Song 2" / "bass.wav"
    soundfile.write(path, 0.5 * soundfile.read(path)[0], RATE_HZ, subtype="FLOAT")
    code, text = run(capsys, model, "--estimates", tool, "-d", "cpu")
    assert code == 0 and "3 of 6 scored already" in text and "144 rows added" in text
    code, text = run(capsys, model, "--estimates", tool, "-d", "cpu", "--chunk", "0.5", "--overlap", "0.25")
    assert code == 0 and "3 of 6 scored already" in text and "72 rows added" in text
    code, text = run(capsys, "--estimates", tool, "--mixture", "sum")
    assert code == 0 and "scored already" not in text and "144 rows added" in text


def test_several_processes_give_the_same_rows_in_the_same_order(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, tool = write_tiny_model(tmp_path / "small.safetensors"), write_estimates(tmp_path / "tool")
    arguments = (model, "--estimates", tool, "-d", "cpu", "--yardsticks")
    assert run(capsys, *arguments)[0] == 0
    code, text = run(capsys, *arguments, "-o", "shared.jsonl", "--jobs", "2")
    assert code == 0, text
    assert untimed("shared.jsonl") == untimed()


def test_an_error_in_another_process_reads_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tool = write_estimates(tmp_path / "tool")
    signal = np.full((RATE_HZ, 2), np.nan, np.float32)
    soundfile.write(tool / "Song 2" / "drums.wav", signal, RATE_HZ, subtype="FLOAT")
    code, text = run(capsys, "--estimates", tool, "--jobs", "2")
    assert code == 1 and "Traceback" not in text
    assert "tool, song 'Song 2'" in text and "drums.wav: sample 0 (0.000 s) of channel 0 is nan" in text
    assert {row["track"] for row in read_rows()} == {"Song 1"}  # what came before it is kept


def test_one_target_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tool = write_estimates(tmp_path / "tool", stems=("vocals",))
    code, text = run(capsys, "--estimates", tool)
    assert code == 1 and "no estimate of bass" in text and "--targets vocals" in text
    code, text = run(capsys, "--estimates", tool, "--targets", "vocals", "--yardsticks")
    assert code == 0, text
    assert {(row["target"], *row["scored_with"]) for row in read_rows()} == {("vocals", "vocals")}
    code, text = run(capsys, "--estimates", tool, "--targets", "vocal")
    assert code == 2 and "--targets vocal: vocal is not a stem of the data set; legal: vocals, bass, drums" in text


def test_without_training_songs_there_is_no_static_gain(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "songs" / "train")
    code, text = run(capsys, "--yardsticks")
    assert code == 0 and "no songs in train/ to fit the static gain on" in text
    assert "mixture" in {row["system"] for row in read_rows()}
    assert not any("static" in row["system"] for row in read_rows())


def test_nothing_to_score_and_one_name_for_two(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = run(capsys)
    assert code == 2 and "nothing to score: give model files, --estimates DIR or --yardsticks" in text
    first, second = write_estimates(tmp_path / "a" / "tool"), write_estimates(tmp_path / "b" / "tool")
    code, text = run(capsys, "--estimates", first, "--estimates", second)
    assert code == 1 and "tool: is the name of two systems; name estimates with --estimates NAME=DIR" in text


def test_a_killed_evaluation_goes_on(tmp_path: Path) -> None:
    arguments = [
        "evaluate",
        "--data",
        "songs",
        "-o",
        "rows.jsonl",
        "--estimates",
        str(write_estimates(tmp_path / "tool")),
    ]
    code = f"""
import os, sys
from bandsplit.cli import main as cli
from bandsplit.evaluation import results
append = results.append_scores
results.append_scores = lambda path, rows: (append(path, rows), os._exit(9))
sys.argv = ["bandsplit", *{arguments!r}]
cli.main()
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    assert len(read_rows()) == 4 * N
    command = [sys.executable, "-m", "bandsplit", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 of 3 scored already" in done.stderr and len(read_rows()) == 3 * 4 * N


def plans_of(path: str) -> dict[str, dict[str, Any] | None]:
    return {row["system"]: row["plan"] for row in read_rows(path)}


def test_each_model_is_scored_under_its_published_plan_or_all_under_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, tool = write_tiny_model(tmp_path / "small.safetensors"), write_estimates(tmp_path / "tool")
    even = {"kind": "crossfade", "chunk_s": 10.0, "overlap": 0.1, "geometry": "even"}
    for number, (options, plan) in enumerate([
        ((), even | {"geometry": "authors"}),
        (("--plan", "published"), even | {"geometry": "authors"}),
        (("--plan", "published", "--chunk", "5"), even | {"geometry": "authors", "chunk_s": 5.0}),
        (("--plan", "same"), even),
        (("--plan", "same", "--chunk", "5"), even | {"chunk_s": 5.0}),
        (("--plan", "same", "--method", "trimmed", "--trim", "0.5"),
         {"kind": "trimmed", "chunk_s": 10.0, "trim_s": 0.5}),
        (("--plan", "same", "--method", "faded", "--overlaps", "4"),
         {"kind": "faded", "chunk_s": 8.0, "overlaps": 4, "exact_batch": None}),
    ]):  # fmt: skip
        code, text = run(capsys, model, "--estimates", tool, "-d", "cpu", *options, "-o", f"{number}.jsonl")
        assert code == 0, text
        assert plans_of(f"{number}.jsonl") == {"small": plan, "tool": None}


def test_several_plans_are_scored_in_one_go_and_share_a_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, tool = write_tiny_model(tmp_path / "small.safetensors"), write_estimates(tmp_path / "tool")
    arguments = (model, "--estimates", tool, "-d", "cpu", "--plans", "published,same,overlap-add", "--chunk", "0.5")
    code, text = run(capsys, *arguments, "--jobs", "2")
    assert code == 0, text
    rows = read_rows()
    plans = dict.fromkeys((row["system"], (row["plan"] or {}).get("kind"), (row["plan"] or {}).get("geometry"))
                          for row in rows)  # fmt: skip
    assert list(plans) == [
        ("small", "crossfade", "authors"), ("small", "crossfade", "even"), ("small", "overlap-add", None),
        ("tool", None, None),
    ]  # fmt: skip
    assert len(rows) == 3 * (3 * 2 + 4) * N
    table = text[text.index("uSDR, dB, mean over 3 songs") : text.index("cSDR, dB")].splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:3]] for line in table if line.count("│") > 3]
    assert [name for name, _ in cells] == ["small", "", "", "tool"]
    assert [inference.split(" ")[0] for _, inference in cells] == [
        "crossfade", "crossfade", "overlap-add", "files"
    ]  # fmt: skip
    alone = run(capsys, model, "-d", "cpu", "--plan", "same", "--chunk", "0.5")[1]
    assert "3 of 3 scored already" in alone
    code, text = run(capsys, *arguments)
    assert "12 of 12 scored already" in text and text[text.index("uSDR, dB") :].splitlines()[: len(table)] == table


def test_plans_that_are_one_are_scored_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "small.safetensors")
    code, text = run(capsys, model, "-d", "cpu", "--plans", "published,crossfade,same")
    assert code == 0 and "small, crossfade: the same plan as small, published; scored once" in text
    assert len(read_rows()) == 3 * 2 * 2 * N


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--plans published,best",
            "best is not published, same or a method (--method best: is not a",
        ),
        ("--plans ,", "--plans: is empty; choose published, same, or methods"),
        ("--plans same,faded --method folded", "--plans same,faded: faded is a method; leave out --method folded"),
        ("--plans same,faded --overlap 0.2", "--overlap: has no meaning with --method faded; leave it out"),
        ("--method trimmed", "--trim: is needed with --method trimmed"),
        ("--method folded --hop 1", "--hop: has no meaning with --method folded; leave it out"),
        ("--method hamming --overlap 0.2", "--overlap: has no meaning with --method hamming; leave it out"),
        ("--method joined --overlaps 3", "--overlaps: has no meaning with --method joined; leave it out"),
        ("--method folded --exact-batch 3", "--exact-batch: has no meaning with --method folded; leave it out"),
        ("--trim 1 --sixteen-bits", "--trim, --sixteen-bits: has no meaning with --method crossfade; leave it out"),
        ("--plan same --hop 1", "--hop: has no meaning with --method crossfade; leave it out"),
        ("--method trimmed --chunk 1 --trim 0.5", "config: trim_s 0.5 leaves nothing of chunks of chunk_s 1"),
    ],
)
def test_settings_without_meaning_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: str, message: str
) -> None:
    model = write_tiny_model(tmp_path / "small.safetensors")
    code, text = run(capsys, model, "-d", "cpu", *options.split())
    assert code == 2 and message in text
