"""Known faults of MUSDB18: the list that ships, and what becomes of the songs."""

import json
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bandsplit.data.songs.check import check_dataset
from bandsplit.data.songs.errata import all_errata, apply_errata, errata_of
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset, Track
from bandsplit.models.card import read_card
from command_line import run_command
from songs import STEMS, noise_stems, write_song
from tiny_models import TINY_CHANGES, write_tiny_model

LISTED = {
    "Al James - Schoolboy Facination": "other",
    "BKS - Bulldozer": "other",
    "Chris Durban - Celebrate": "vocals",
    "Detsky Sad - Walkie Talkie": "drums",
    "Enda Reilly - Cur An Long Ag Seol": "other",
    "Hop Along - Sister Cities": "vocals",
    "Leaf - Wicked": "drums",
    "PR - Oh No": "mixture",
}
"""The errata on the page of the data set, copied by hand."""
SUM, BLEEDING, REPORTED, PLAIN = "PR - Oh No", "Chris Durban - Celebrate", "Zeno - Signs", "Song"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Songs with and without errata, in both splits; the left channel of one mixture is wrong."""
    for number, (split, name) in enumerate(
        [("train", "A"), ("train", BLEEDING), ("train", PLAIN), ("test", SUM), ("test", REPORTED), ("test", PLAIN)]
    ):
        write_song(tmp_path / "songs" / split / f"{name}{split if name == PLAIN else ''}", noise_stems(number))
    mixture = tmp_path / "songs" / "test" / SUM / "mixture.wav"
    signal, rate_hz = soundfile.read(mixture)
    signal[:, 0] += np.random.default_rng(9).uniform(-0.05, 0.05, len(signal))
    soundfile.write(mixture, signal, rate_hz, subtype="FLOAT")
    return tmp_path / "songs"


@pytest.fixture
def dataset(root: Path) -> Dataset:
    return index_dataset(root)


def names(dataset: Dataset) -> set[str]:
    return {track.name for track in dataset.tracks}


def test_the_list_holds_what_the_page_of_the_data_set_lists():
    assert {each.song: each.part for each in all_errata() if each.confidence == "listed"} == LISTED


def test_every_erratum_names_a_part_a_kind_and_a_source_and_stands_once():
    for erratum in all_errata():
        assert erratum.part in (*STEMS, "mixture")
        assert (erratum.kind == "sum") == (erratum.part == "mixture")
        assert erratum.sources and all(source.startswith("https://") for source in erratum.sources)
        assert erratum.text and list(erratum.from_s) == sorted(erratum.from_s)
        assert erratum.song == unicodedata.normalize("NFC", erratum.song)
    counts = Counter((each.song, each.part, each.kind) for each in all_errata())
    assert set(counts.values()) == {1}


def test_errata_are_those_of_songs_with_the_part_in_question(dataset: Dataset):
    track = next(track for track in dataset.tracks if track.name == BLEEDING)
    (erratum,) = errata_of(track)
    assert str(erratum).startswith("other instruments bleed into vocals (listed: https://github.com/sigsep/website/")
    loose = Track(BLEEDING, "train", {"drums": track.stems["drums"]}, None, 4000, 2, 8000)
    assert errata_of(loose) == ()
    assert [each.from_s for each in all_errata() if each.song == "Leaf - Wicked"] == [(140.0, 182.0)]
    assert "(from 2:20, 3:02)" in next(str(each) for each in all_errata() if each.song == "Leaf - Wicked")


def test_songs_are_kept_as_they_are_by_default(dataset: Dataset):
    assert apply_errata(dataset, "keep") is dataset
    assert dataset.errata is None


def test_songs_with_listed_errata_can_be_left_out(dataset: Dataset):
    fewer = apply_errata(dataset, "exclude")
    assert names(dataset) - names(fewer) == {SUM, BLEEDING}
    assert fewer.errata == "exclude"
    assert [note for note in fewer.choices if note.startswith("errata: ")] == [
        f"errata: train/{BLEEDING} is left out: vocals: other instruments bleed into vocals",
        f"errata: test/{SUM} is left out: mixture: the left channel of the mixture is not the sum of the stems",
    ]


def test_a_mixture_that_is_not_the_sum_can_be_replaced_by_the_sum(dataset: Dataset):
    repaired = apply_errata(dataset, "relabel")
    assert names(repaired) == names(dataset)
    before, after = (next(t for t in each.tracks if t.name == SUM) for each in (dataset, repaired))
    stems = [soundfile.read(files[0].path)[0].T for files in before.stems.values()]
    np.testing.assert_allclose(after.load().mixture, np.sum(stems, axis=0), atol=1e-6)
    assert np.abs(before.load().mixture - after.load().mixture)[0].max() > 0.01
    assert after.mixture_from == "sum"
    assert all(track.mixture_from == "file" for track in repaired.tracks if track.name != SUM)
    assert any(note.startswith(f"errata: train/{BLEEDING} is kept, no other label") for note in repaired.choices)


def test_a_treatment_that_changes_no_song_is_not_recorded(dataset: Dataset):
    train = replace(dataset, tracks=dataset.songs("train"))
    kept = apply_errata(train, "relabel")
    assert (kept.tracks, kept.errata) == (train.tracks, None)
    plain = replace(dataset, tracks=tuple(track for track in dataset.tracks if track.name in (REPORTED, "A")))
    assert apply_errata(plain, "exclude") == plain


def test_treated_songs_have_another_fingerprint(dataset: Dataset):
    prints = {choice: check_dataset(apply_errata(dataset, choice)).dataset for choice in ("keep", "exclude", "relabel")}
    assert len({each.fingerprints["test"] for each in prints.values()}) == 3
    assert prints["relabel"].fingerprints["train"] == prints["keep"].fingerprints["train"]


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")


def test_the_check_prints_the_errata_of_the_songs_that_are_there(capsys: pytest.CaptureFixture[str], root: Path):
    ended = run_command(capsys, "data", "check", root)
    found = [line for line in ended.out.splitlines() if line.startswith("erratum: ")]
    assert [line.split(": ")[1] for line in found] == [
        f"train/{BLEEDING}, vocals", f"test/{SUM}, mixture", f"test/{REPORTED}, vocals"
    ]  # fmt: skip
    assert "(reported: https://github.com/sigsep/website/issues/48)" in found[-1]


def rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_scores_say_how_errata_were_treated_unless_they_were_kept(capsys: pytest.CaptureFixture[str], root: Path):
    write_tiny_model("m.safetensors", *STEMS)
    for choice in ("keep", "exclude", "relabel"):
        ended = run_command(
            capsys, "evaluate", "m.safetensors", "--data", root, "-o", "rows.jsonl", "-d", "cpu", "--errata", choice
        )
        assert ended.code == 0, ended.err
    found = rows("rows.jsonl")
    songs = {choice: {row["track"] for row in found if row.get("errata") == choice} for choice in (None, "exclude")}
    assert songs[None] == {SUM, REPORTED, f"{PLAIN}test"}
    assert songs["exclude"] == {REPORTED, f"{PLAIN}test"}
    relabelled = {row["track"]: row["mixture"] for row in found if row.get("errata") == "relabel"}
    assert relabelled == {SUM: "sum", REPORTED: "file", f"{PLAIN}test": "file"}
    assert all("errata" not in row for row in found[: len(found) // 8])


def test_a_run_and_its_model_say_how_errata_were_treated(capsys: pytest.CaptureFixture[str], root: Path):
    small = [*TINY_CHANGES, "training.examples_per_epoch=4", "training.excerpt_s=0.2", "training.max_epochs=1",
             "training.mixing.activity=null", "training.global_batch=2"]  # fmt: skip
    train = ("train", "base", "-t", "vocals", "--data", root, "-d", "cpu", "--no-energy",
             *(word for change in small for word in ("--set", change)))  # fmt: skip
    ended = run_command(capsys, *train, "--errata", "exclude")
    assert ended.code == 0, ended.err
    assert f"errata: train/{BLEEDING} is left out" in ended.err
    (file,) = Path("runs").rglob("config.json")
    data = json.loads(file.read_text())["data"]
    assert (data["errata"], data["train"]) == ("exclude", ["A"])
    assert ", errata: exclude" in read_card(file.parent / "best.safetensors")[1].training_data
    ended = run_command(capsys, *train, "--resume")
    assert ended.code == 1
    assert "was trained on other data (different: fingerprints, train, errata)" in ended.err
    ended = run_command(capsys, *train, "--runs", "others")
    (file,) = Path("others").rglob("config.json")
    assert "errata" not in json.loads(file.read_text())["data"]
    assert "errata" not in read_card(file.parent / "best.safetensors")[1].training_data
