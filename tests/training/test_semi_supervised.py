"""Runs that learn from unlabelled songs: their teacher, what it separates, its cache, and exact resume."""

import itertools
import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from pooch import file_hash
from safetensors.torch import load_file

from bandsplit.core.errors import BandsplitError, RunError, RunStopped
from bandsplit.data.examples.dataset import Example, Examples
from bandsplit.data.examples.loading import load_batches
from bandsplit.data.songs.check import check_dataset
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import MIXTURE, Dataset
from bandsplit.data.songs.unlabelled import index_unlabelled
from bandsplit.models.card import read_card
from bandsplit.models.files import load_model
from bandsplit.runs.config import RunConfig
from bandsplit.runs.folder import RunFolder
from bandsplit.training.execution import Execution
from bandsplit.training.loop import TrainingResult, train
from bandsplit.training.reporters.events import Event, Note, Reporter, Step, Validated, report_to
from bandsplit.training.songs import pseudo_stems, songs_without_stems, training_examples
from bandsplit.training.teacher import SeparatedSongs, Teacher
from disks import largest_file
from songs import noise_stems, write_dataset
from tiny_models import TINY, tiny_model, write_tiny_model

SILENCE = report_to()
RATE_HZ = 8000


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Labelled songs, and three unlabelled ones of 1 s."""
    labelled = index_dataset(write_dataset(tmp_path / "data", train=2, test=0, samples=3000))
    (tmp_path / "songs").mkdir()
    for number in range(3):
        mixture = sum(noise_stems(50 + number, 8000).values())
        soundfile.write(tmp_path / "songs" / f"{number}.wav", np.asarray(mixture).T, RATE_HZ, subtype="FLOAT")
    unlabelled = check_dataset(index_unlabelled(tmp_path / "songs")).dataset
    return replace(labelled, unlabelled=unlabelled)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The first teacher."""
    return write_tiny_model(tmp_path / "source.safetensors", "vocals", "bass", seed=3)


def small(source: Path | None, unlabelled: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    settings: dict[str, Any] = {"examples_per_epoch": 6, "excerpt_s": 0.1, "max_epochs": 3, "learning_rate": 0.05}
    settings["mixing"] = {"activity": None, "pairing": "free", "drop": "target", "drop_probability": 0.2}
    settings["unlabelled"] = {"share": 0.6, "segment_s": 0.2, "context_s": 0.05} | (unlabelled or {})
    init = None if source is None else file_hash(str(source))
    model = TINY | {"targets": ["vocals"]}
    return RunConfig.parse({"recipe": "test", "init": init, "model": model, "training": settings | training})


def run(
    config: RunConfig, dataset: Dataset, root: Path, source: Path, report: Reporter = SILENCE, resume: bool = False,
    **how: Any,
) -> TrainingResult:  # fmt: skip
    torch.manual_seed(config.seed)
    return train(config, dataset, root, report, execution=Execution("cpu", **how), init=source, resume=resume)


def rows(root: Path, kind: str = "validation") -> list[dict[str, Any]]:
    """Read the rows of the log, without what depends on the clock; of an epoch the last."""
    (file,) = root.rglob("log.jsonl")
    found = [row for row in map(json.loads, file.read_text().splitlines()) if row["kind"] == kind]
    plain = [{key: row[key] for key in row if not key.endswith("_s") and key != "waiting"} for row in found]
    return [*{row.get("epoch", number): row for number, row in enumerate(plain)}.values()]


def newest_state(root: Path) -> dict[str, Any]:
    state = torch.load(max(root.rglob("state-*.pt")), weights_only=True)
    del state["random"]  # of the process; examples do not depend on it
    return state


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_equal(value, other[key])
    elif isinstance(one, list):
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


# --- what a teacher separates ----------------------------------------------------------------------------------------


@pytest.fixture
def teacher() -> Teacher:
    return Teacher(tiny_model("vocals", seed=1))


def make(dataset: Dataset, source: Path, teacher: Teacher, cache: Path | None, cache_gb: float = 1.0) -> Examples:
    config = small(source, examples_per_epoch=24)
    folder = None if cache is None else Execution(cache=cache, cache_gb=cache_gb).cache_of(cache)
    songs = songs_without_stems(config, dataset)
    return training_examples(config, dataset, pseudo_stems(config, songs, teacher, folder))


def all_of(examples: Examples, workers: int = 0) -> list[Example]:
    batches = load_batches(examples, range(len(examples)), 4, workers=workers)
    return [Example(batch.mixture.clone(), batch.targets.clone(), batch.problem, batch.note) for batch in batches]


def same(one: Sequence[Example], other: Sequence[Example]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(torch.equal(a.mixture, b.mixture) and torch.equal(a.targets, b.targets) for a, b in pairs)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.cached")}


def test_an_estimate_is_what_the_network_makes_of_the_segment_and_its_context(dataset: Dataset, source: Path):
    teacher = Teacher(load_model(source).narrowed(["vocals"]))
    config = small(source)
    (song, *_) = songs_without_stems(config, dataset)
    separate = SeparatedSongs(teacher, config, {song.track.stems[MIXTURE][0].path: song.digest}, None)
    mixture, _ = soundfile.read(song.track.stems[MIXTURE][0].path, dtype="float32")
    for first, start, stop in ((0, 0, 2000), (1600, 1200, 3600), (6400, 6000, 8000)):
        found = separate(song.track, first)
        with torch.no_grad():
            estimates = load_model(source).separate(torch.from_numpy(mixture.T[None, :, start:stop]))[0, 0].numpy()
        np.testing.assert_array_equal(found.mixture, mixture.T[:, first : first + 1600])
        np.testing.assert_allclose(
            found.target, estimates[:, first - start : first - start + 1600], atol=1e-5 * np.abs(estimates).max()
        )


def test_songs_at_another_rate_are_separated_at_that_of_the_model(dataset: Dataset, source: Path, tmp_path: Path):
    (tmp_path / "fast").mkdir()
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(24000) / 24000)
    soundfile.write(tmp_path / "fast" / "tone.wav", np.stack([tone, tone]).T, 24000, subtype="FLOAT")
    fast = replace(dataset, unlabelled=index_unlabelled(tmp_path / "fast"))
    config = small(source)
    (song,) = songs_without_stems(config, fast)
    teacher = Teacher(tiny_model("vocals"))
    separate = SeparatedSongs(teacher, config, {song.track.stems[MIXTURE][0].path: song.digest}, None)
    found = separate(song.track, 4800)
    assert found.mixture.shape == found.target.shape == (2, 1600)
    expected = 0.3 * np.sin(2 * np.pi * 440 * (1600 + np.arange(1600)) / RATE_HZ)
    np.testing.assert_allclose(found.mixture[0, 50:-50], expected[50:-50], atol=1e-3)


def test_examples_are_the_same_without_cache_from_the_cache_and_after_it_was_removed(
    dataset: Dataset, source: Path, teacher: Teacher, tmp_path: Path
):
    plain = all_of(make(dataset, source, teacher, None))
    cache = tmp_path / "cache"
    for _ in range(2):
        assert same(plain, all_of(make(dataset, source, teacher, cache)))
    assert len(files(cache)) > 5
    content = {path: path.stat().st_mtime_ns for path in cache.glob("*.cached")}
    shutil.rmtree(cache)
    assert same(plain, all_of(make(dataset, source, teacher, cache)))
    assert files(cache) == {path.name for path in content}


def test_what_is_in_the_cache_is_used(dataset: Dataset, source: Path, teacher: Teacher, tmp_path: Path):
    plain = all_of(make(dataset, source, teacher, tmp_path))
    for path in tmp_path.glob("*.cached"):
        estimate = np.load(path)
        with path.open("wb") as file:
            np.save(file, np.zeros_like(estimate))
    assert not same(plain, all_of(make(dataset, source, teacher, tmp_path)))


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", None])
def test_a_damaged_file_of_the_cache_is_made_again(
    dataset: Dataset, source: Path, teacher: Teacher, tmp_path: Path, damage: bytes | None
):
    plain = all_of(make(dataset, source, teacher, tmp_path))
    contents = {path: path.read_bytes() for path in tmp_path.glob("*.cached")}
    for path, content in contents.items():
        path.write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert same(plain, all_of(make(dataset, source, teacher, tmp_path)))
    assert {path: path.read_bytes() for path in tmp_path.glob("*.cached")} == contents


@pytest.mark.parametrize("threads", [1, 2])
def test_workers_make_the_same_examples_and_share_the_cache(
    dataset: Dataset, source: Path, teacher: Teacher, tmp_path: Path, threads: int
):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        teacher.network.train(False)
        (torch.randn(200, 200) @ torch.randn(200, 200)).sum()  # threads of this process exist before the fork
        plain = all_of(make(dataset, source, teacher, None))
        for _ in range(2):
            assert same(plain, all_of(make(dataset, source, teacher, tmp_path), workers=2))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_another_teacher_makes_other_examples_in_files_of_its_own(dataset: Dataset, source: Path, tmp_path: Path):
    teacher = Teacher(tiny_model("vocals", seed=1))
    examples = make(dataset, source, teacher, tmp_path)
    first, of_first = all_of(examples), files(tmp_path)
    teacher.replace(tiny_model("vocals", seed=2))
    second = all_of(examples)
    assert not same(first, second) and teacher.replacements == 1
    assert not {name.partition("-")[0] for name in of_first} & {
        name.partition("-")[0] for name in files(tmp_path) - of_first
    }
    teacher.replace(tiny_model("vocals", seed=1))
    assert same(first, all_of(examples))


def test_the_cache_stays_below_its_bound(dataset: Dataset, source: Path, teacher: Teacher, tmp_path: Path):
    plain = all_of(make(dataset, source, teacher, None))
    bound = 40_000
    for workers in (0, 2):
        assert same(plain, all_of(make(dataset, source, teacher, tmp_path, bound / 1e9), workers))
        sizes = [path.stat().st_size for path in tmp_path.glob("*.cached")]
        assert len(sizes) >= 2 and sum(sizes) <= bound


def test_on_a_full_disk_examples_are_the_same_with_a_note_and_no_part_of_a_file(
    dataset: Dataset, source: Path, teacher: Teacher, tmp_path: Path
):
    plain = all_of(make(dataset, source, teacher, None))
    cache = tmp_path / "cache"
    with largest_file(1000):
        found = all_of(make(dataset, source, teacher, cache))
    assert same(plain, found) and files(cache) == set() and not [*cache.glob(".bandsplit-*")]
    notes = {note for batch in found for note in batch.note if note}
    assert notes == {
        f"{cache}: pseudo-stems cannot be stored (File too large), so training continues and separates songs again "
        f"when it needs them; make room, or choose another --cache"
    }
    again = all_of(make(dataset, source, teacher, cache))
    assert same(plain, again) and files(cache) and not any(note for batch in again for note in batch.note)


# --- runs ------------------------------------------------------------------------------------------------------------


def stopped_after_every_update(config: RunConfig, dataset: Dataset, root: Path, source: Path, **how: Any) -> int:
    """Train in attempts of one update each; return the number of attempts."""

    def stop(event: Event) -> None:
        if isinstance(event, Step):
            os.kill(os.getpid(), signal.SIGTERM)

    for attempt in range(100):
        torch.manual_seed(attempt)  # a process that continues does not start from the same random state
        try:
            train(config, dataset, root, stop, execution=Execution("cpu", **how), init=source, resume=attempt > 0)
        except RunStopped:
            continue
        return attempt + 1
    raise AssertionError("the run does not end")


@pytest.mark.parametrize("average", [None, {"kind": "competing", "update_decays": [0.5], "epoch_decays": [0.5]}])
def test_a_run_stopped_after_every_update_equals_an_uninterrupted_one_through_replacements(
    dataset: Dataset, tmp_path: Path, source: Path, average: Any
):
    config = small(source, average=average)
    whole = run(config, dataset, tmp_path / "whole", source)
    assert stopped_after_every_update(config, dataset, tmp_path / "parts", source) == 10
    states = [newest_state(tmp_path / name) for name in ("whole", "parts")]
    assert states[0]["teacher"]["replacements"] >= 2, "otherwise this test shows nothing"
    assert_equal(*states)
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    parts = RunFolder(tmp_path / "parts", config)
    assert_equal(load_file(whole.best), load_file(parts.best))


def test_it_falls_back_to_the_state_and_the_teacher_before_a_damaged_state(
    dataset: Dataset, tmp_path: Path, source: Path
):
    config = small(source)
    run(config, dataset, tmp_path / "whole", source)

    def stop(event: Event) -> None:
        if isinstance(event, Step) and event.update == 4:  # in the second epoch
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped):
        run(config, dataset, tmp_path / "parts", source, stop)
    newest = max((tmp_path / "parts").rglob("state-*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    run(config, dataset, tmp_path / "parts", source, resume=True)
    assert_equal(newest_state(tmp_path / "whole"), newest_state(tmp_path / "parts"))
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


def test_workers_and_the_cache_do_not_change_a_run(dataset: Dataset, tmp_path: Path, source: Path):
    config = small(source)
    kept: dict[str, Any] = {"cache": tmp_path / "cache"}
    ways: list[dict[str, Any]] = [{}, {"workers": 2}, {"cache_gb": 0.0}, kept, kept]
    found = []
    for number, how in enumerate(ways):
        run(config, dataset, tmp_path / str(number), source, **how)
        found.append((newest_state(tmp_path / str(number)), rows(tmp_path / str(number))))
    for state, log in found[1:]:
        assert_equal(found[0][0], state)
        assert found[0][1] == log
    assert files(tmp_path / "cache"), "a folder of one's own is kept"
    assert not [*tmp_path.rglob("pseudo-stems")], "that of a finished run is removed"


def test_the_teacher_is_replaced_if_and_only_if_the_student_is_better(dataset: Dataset, tmp_path: Path, source: Path):
    config = small(source, max_epochs=8, learning_rate=2.0)  # high, so that some epochs are worse
    events: list[Event] = []
    run(config, dataset, tmp_path, source, events.append)
    log = rows(tmp_path)
    assert [row["epoch"] for row in log] == [*range(9)]
    assert log[0]["loss"] is None and log[0]["best"]
    assert {row["best"] for row in log[1:]} == {True, False}, "otherwise this test shows nothing"
    best = -np.inf
    for before, after in itertools.pairwise(log):
        assert before["best"] == (before["validation_usdr_db"] > best)
        best = max(best, before["validation_usdr_db"])
        if before is not log[0]:
            assert (before["teacher"] != after["teacher"]) == before["best"]
    assert log[0]["teacher"] == log[1]["teacher"], "the first teacher is the start"
    state = newest_state(tmp_path)
    assert state["teacher"]["replacements"] == sum(row["best"] for row in log[1:])
    validated = [event for event in events if isinstance(event, Validated)]
    assert validated[0].epoch == 0 and validated[0].loss is None
    best_file = next(tmp_path.rglob("best.safetensors"))
    assert_equal(load_file(best_file), dict(state["teacher"]["weights"]))


def test_a_student_that_is_never_better_leaves_the_first_teacher_as_the_best_model(
    dataset: Dataset, tmp_path: Path, source: Path
):
    config = small(source, learning_rate=500.0, patience=2, max_epochs=9)
    result = run(config, dataset, tmp_path, source)
    assert (result.best_epoch, result.epochs) == (0, 2)
    given = load_file(source)
    for name, tensor in load_file(result.best).items():
        assert torch.equal(tensor, given[name])
    assert len({row["teacher"] for row in rows(tmp_path)}) == 1
    (card,) = [read_card(result.best)[1]]
    assert card.semi_supervision is not None and card.semi_supervision.replacements == 0


def test_the_card_and_the_run_record_teacher_and_songs(dataset: Dataset, tmp_path: Path, source: Path):
    config = small(source)
    result = run(config, dataset, tmp_path, source)
    assert result.best_epoch > 0 and dataset.unlabelled is not None
    _, card = read_card(result.best)
    (row,) = [row for row in rows(tmp_path) if row["epoch"] == result.best_epoch]
    assert card.semi_supervision is not None
    assert card.semi_supervision.model_dump() == {
        "teacher": row["teacher"],
        "replacements": sum(row["best"] for row in rows(tmp_path)[1 : result.best_epoch]),
        "share": 0.6,
        "songs": 3,
        "fingerprint": dataset.unlabelled.fingerprints["train"],
    }
    assert card.fine_tuning is not None and card.fine_tuning.source == "small"
    assert card.training_data.endswith("; songs: 3 songs without stems")
    described = json.loads((result.best.parent / "config.json").read_text())["data"]["unlabelled"]
    assert described["songs"] == ["0", "1", "2"] and described["fingerprint"] == card.semi_supervision.fingerprint


def test_a_run_does_not_continue_on_other_unlabelled_songs(dataset: Dataset, tmp_path: Path, source: Path):
    config = small(source)
    run(config, dataset, tmp_path / "runs", source)
    (tmp_path / "songs" / "2.wav").unlink()
    fewer = replace(dataset, unlabelled=check_dataset(index_unlabelled(tmp_path / "songs")).dataset)
    with pytest.raises(RunError, match=r"trained on other data \(different: unlabelled\)"):
        run(config, fewer, tmp_path / "runs", source, resume=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_that_cannot_be_written_is_noted_once_and_changes_nothing(
    dataset: Dataset, tmp_path: Path, source: Path, workers: int
):
    config = small(source)
    run(config, dataset, tmp_path / "whole", source)
    (tmp_path / "file").write_text("")
    events: list[Event] = []
    run(config, dataset, tmp_path / "parts", source, events.append, workers=workers, cache=tmp_path / "file" / "cache")
    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert note.startswith(f"{tmp_path}/file/cache: pseudo-stems cannot be stored (Not a directory), so training")
    assert rows(tmp_path / "parts", "note")[0]["text"] == note
    assert_equal(newest_state(tmp_path / "whole"), newest_state(tmp_path / "parts"))


def test_a_loss_that_is_not_finite_names_the_unlabelled_songs(dataset: Dataset, tmp_path: Path, source: Path):
    with pytest.raises(RunError, match="is not finite"):
        run(small(source, learning_rate=1e30, clip_norm=None, max_epochs=9), dataset, tmp_path, source)
    songs = json.loads(next(tmp_path.rglob("not-finite.json")).read_text())["songs"]
    assert any(part.startswith("unlabelled ") for example in songs for part in example)


# --- refusals --------------------------------------------------------------------------------------------------------


def refusal(config: RunConfig, dataset: Dataset, root: Path, source: Path | None) -> str:
    with pytest.raises(BandsplitError) as caught:
        train(config, dataset, root, SILENCE, execution=Execution("cpu"), init=source)
    assert not root.exists(), "before anything starts"
    return str(caught.value)


def test_unlabelled_songs_need_a_teacher_and_a_teacher_needs_them(dataset: Dataset, tmp_path: Path, source: Path):
    root = tmp_path / "runs"
    assert "name the model that is the first one and the start of the run, --init" in refusal(
        small(None), dataset, root, None
    )
    assert refusal(small(source), replace(dataset, unlabelled=None), root, source) == (
        "training.unlabelled: the run learns from songs without stems; name a folder, --unlabelled"
    )
    plain = small(source, None).model_dump() | {"training": small(source).training.model_dump() | {"unlabelled": None}}
    assert refusal(RunConfig.parse(plain), dataset, root, source).startswith(
        f"training.unlabelled: is null, but there are unlabelled songs, {tmp_path / 'songs'}"
    )


def test_a_teacher_estimates_the_target_with_the_network_of_the_run(dataset: Dataset, tmp_path: Path):
    root = tmp_path / "runs"
    bass = write_tiny_model(tmp_path / "bass.safetensors", "bass")
    assert refusal(small(bass), dataset, root, bass) == (
        f"{bass}: cannot be the teacher: it does not estimate vocals, only bass; choose another --init"
    )
    fast = write_tiny_model(tmp_path / "fast.safetensors", "vocals", sample_rate_hz=16000, bands=[[1000, 4]])
    assert refusal(small(fast), dataset, root, fast).endswith(
        "give the run its settings: --set model.sample_rate_hz=16000 --set 'model.bands=[[1000.0, 4]]'"
    )
    mono = write_tiny_model(tmp_path / "mono.safetensors", "vocals", channels=1)
    assert "cannot be the teacher: it has other settings than the model of the run" in (
        text := refusal(small(mono), dataset, root, mono)
    )
    assert text.endswith("give the run its settings: --set model.channels=1")
    wide = write_tiny_model(tmp_path / "wide.safetensors", "vocals", n_features=8)
    text = refusal(small(wide), dataset, root, wide)
    assert "misshapen: encoder.projections.0.weight" in text and text.endswith("--set model.n_features=8")
    other = RunConfig.parse(small(wide).model_dump() | {"model": {"family": "bs_roformer", "targets": ["vocals"]}})
    assert refusal(other, dataset, root, wide) == (
        f"{wide}: cannot be the start of this run: is of the family 'bsrnn', but this run trains one of 'bs_roformer'; "
        f"choose another recipe"
    )


def test_held_out_songs_among_the_unlabelled_ones_are_refused(dataset: Dataset, tmp_path: Path, source: Path):
    shutil.copy(tmp_path / "data" / "train" / "Song 1" / "mixture.wav", tmp_path / "songs" / "4.wav")
    with_it = replace(dataset, unlabelled=index_unlabelled(tmp_path / "songs"))
    text = refusal(small(source), with_it, tmp_path / "runs", source)
    assert "4: is valid/Song 1, on which models are scored; remove it" in text
