"""Folders of stems that other tools wrote are scored like models."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset
from bandsplit.evaluation.estimates import EstimateFiles, name_and_folder
from bandsplit.evaluation.evaluate import evaluate
from bandsplit.evaluation.results import Score
from songs import STEMS, noise_stems, write_dataset

RATE_HZ = 8000


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return index_dataset(write_dataset(tmp_path / "songs", train=0, test=2, samples=2 * RATE_HZ))


def write_estimates(root: Path, gain: float = 0.5, split: str = "test", suffix: str = ".wav", surplus: int = 0) -> Path:
    """Write the true stems times ``gain``, longer or shorter by ``surplus`` samples."""
    for number in range(2):
        folder = root / split / f"Song {number}"
        folder.mkdir(parents=True)
        for stem, signal in noise_stems(number, 2 * RATE_HZ).items():
            scaled = np.pad(gain * signal, ((0, 0), (0, max(0, surplus))))[:, : 2 * RATE_HZ + surplus]
            subtype = "FLOAT" if suffix == ".wav" else "PCM_24"
            soundfile.write(folder / f"{stem}{suffix}", scaled.T, RATE_HZ, subtype=subtype)
    return root


def score(folder: Path, dataset: Dataset, targets: tuple[str, ...] = STEMS) -> list[Score]:
    files = EstimateFiles(folder, dataset.songs("test"), targets)
    return [row for rows in evaluate({"tool": files}, dataset, "test") for row in rows]


@pytest.mark.parametrize(("split", "suffix"), [("test", ".wav"), (".", ".flac")])
def test_half_of_every_stem_scores_6_db_with_and_without_a_folder_for_the_split(
    dataset: Dataset, tmp_path: Path, split: str, suffix: str
) -> None:
    rows = score(write_estimates(tmp_path / "tool", 0.5, split, suffix), dataset)
    assert {(row.track, row.target) for row in rows} == {(f"Song {n}", stem) for n in range(2) for stem in STEMS}
    for row in rows:
        if row.metric in ("usdr_db", "csdr_db"):
            assert row.value == pytest.approx(20 * np.log10(2), abs=1e-4)
    (row,) = (row for row in rows if (row.track, row.target, row.metric) == ("Song 1", "bass", "csdr_db"))
    assert row.windows == pytest.approx([20 * np.log10(2)] * 2, abs=1e-4)
    assert (row.system, row.inference, row.recipe, row.seed, row.wall_s) == ("tool", "files", None, None, None)
    assert row.audio_s == 2.0 and row.scored_with == STEMS


def test_folders_that_a_tool_named_after_the_mixture_are_found(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_estimates(tmp_path / "tool")
    for song in (folder / "test").iterdir():
        (song / "mixture").mkdir()
        for path in song.glob("*.wav"):
            path.rename(song / "mixture" / path.name)
    assert {row.track for row in score(folder, dataset)} == {"Song 0", "Song 1"}


def test_a_tool_of_one_target_is_scored_on_that(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_estimates(tmp_path / "tool")
    for path in folder.rglob("*.wav"):
        if path.stem != "vocals":
            path.unlink()
    rows = score(folder, dataset, ("vocals",))
    assert {(row.target, row.scored_with) for row in rows} == {("vocals", ("vocals",))}


@pytest.mark.parametrize("surplus", [700, -700])
def test_another_length_is_cut_or_filled_with_zeros_and_noted(dataset: Dataset, tmp_path: Path, surplus: int) -> None:
    folder = write_estimates(tmp_path / "tool", 1.0, surplus=surplus)
    whole = dataset.songs("test")[0].load()
    files = EstimateFiles(folder, dataset.songs("test"), STEMS)
    place = folder / "test" / "Song 0"
    what = "longer than the song: cut" if surplus > 0 else "shorter than the song: filled with zeros"
    names = "vocals.wav, bass.wav, drums.wav, other.wav"
    assert files.notes[0] == f"{place}: {names}: 700 samples {what} at the end, as museval does"
    for stem, estimate in files(whole).items():
        expected = whole.stems[stem].copy()
        expected[:, 2 * RATE_HZ + min(0, surplus) :] = 0
        np.testing.assert_array_equal(estimate, expected)


def test_the_hash_follows_the_content_not_the_name(dataset: Dataset, tmp_path: Path) -> None:
    folders = [write_estimates(tmp_path / "a", 0.5), tmp_path / "b", write_estimates(tmp_path / "c", 0.6)]
    shutil.copytree(folders[0], folders[1])  # written anew, wav files would hold another time
    song = dataset.songs("test")[0]
    first, same, other = (EstimateFiles(f, dataset.songs("test"), STEMS).about(song).source for f in folders)
    assert first == same != other


def test_a_system_has_the_name_of_its_folder_or_the_given_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("umx", "a=b"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    assert name_and_folder("umx/") == ("umx", Path("umx"))
    assert name_and_folder("Open-Unmix=umx") == ("Open-Unmix", Path("umx"))
    assert name_and_folder("a=b") == ("a=b", Path("a=b"))
    monkeypatch.chdir(tmp_path / "umx")
    assert name_and_folder(".") == ("umx", Path("."))
