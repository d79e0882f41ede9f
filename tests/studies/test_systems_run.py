"""A study of systems is run: public weights are fetched and scored, recipes are trained; what fails does so alone."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandsplit.cli.main import app
from bandsplit.data.songs.check import check_dataset
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.evaluation.results import read_scores
from bandsplit.models.pretrained import registry
from bandsplit.studies.outcome import draw_figures, gather, write_page, write_tables
from bandsplit.studies.plans import planned_runs
from bandsplit.studies.runner import run as study_run
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.runner.public import look_public
from bandsplit.studies.runner.run import StudyResult, run_study
from bandsplit.studies.runner.scoring import Songs
from checkpoints import Store, checkpoint_of, entry_of
from downloads import zip_of
from small_systems import COMMAND, STUDY, register
from songs import write_dataset
from webserver import serve

PUBLIC = ("tiny", "tiny-lost")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


@pytest.fixture
def songs(tmp_path: Path) -> Songs:
    root = write_dataset(tmp_path / "songs", train=3, test=2, samples=9000)
    return Songs(check_dataset(index_dataset(root)).dataset, ("--data", str(root)))


@pytest.fixture(autouse=True)
def _known(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two archives: one on the mirror is the registered one, the other has another digest."""
    good = zip_of({"shared.ckpt": checkpoint_of("vocals")})
    lost = zip_of({"shared.ckpt": b"another file"})
    facts = {"aliases": [], "targets": ["vocals"], "extra_data": True}
    entries = (
        entry_of(good, **facts),
        entry_of(good, name="tiny-lost", file="lost.zip", bytes=len(lost), **facts),
    )
    store.server.pages |= {"/models/tiny.zip": [serve(good)], "/models/lost.zip": [serve(lost)]}
    register(monkeypatch, entries, tmp_path / "entries.json")


def go(folder: StudyFolder, songs: Songs, parts: list[str], allowed: tuple[str, ...]) -> tuple[StudyResult, list[str]]:
    reported: list[str] = []
    public = PUBLIC if "public" in parts else ()
    result = run_study(
        STUDY, planned_runs(STUDY, parts), folder, [songs], reported.append, device="cpu", command=COMMAND,
        public=public, allowed=allowed,
    )  # fmt: skip
    return result, reported


@pytest.mark.slow
def test_a_study_of_systems_scores_public_weights_and_trains_and_one_refused_download_stops_nothing(
    folder: StudyFolder, songs: Songs, store: Store
):
    result, reported = go(folder, songs, ["public", "trained"], PUBLIC)
    assert result.exit_code == 1 and list(result.fetched.failed) == ["tiny-lost"]
    assert not result.scored.failed and len(result.trained.finished) == 1
    assert any(line.startswith("tiny-lost: FAILED: error: ") and "md5" in line for line in reported)
    tiny, lost = look_public(folder, PUBLIC)
    assert (tiny.text, tiny.scored, tiny.cached) == ("scored", 2, True)
    assert (lost.text, lost.scored) == ("failed", 0) and lost.failure is not None and "md5" in lost.failure

    rows = read_scores(folder.scores)
    plans = {row.inference for row in rows if row.system == "tiny"}
    ours = {row.inference for row in rows if row.recipe == "small"}
    assert len(plans) == 2 and ours < plans  # that of its authors, and that of all systems

    for file in registry.cached_files(registry.find_entry("tiny")):
        file.unlink()  # what is scored is not fetched again
    before, asked = folder.scores.read_bytes(), len(store.server.asked)
    result, reported = go(folder, songs, ["public", "trained"], ())
    assert list(result.fetched.failed) == ["tiny-lost"] and len(result.scored.finished) == 4
    assert [line for line in reported if "tiny-lost" not in line] == []
    assert folder.scores.read_bytes() == before and len(store.server.asked) == asked

    found = gather(STUDY, folder)
    tables = write_tables(found).parts
    assert [row[:3] for row in tables["table1"].rows] == [
        ("HT Demucs", "published", "-"), ("", "published", "-"), ("", "public", "tiny"), ("", "public", "tiny-lost"),
        ("", "trained", "small, excerpts of 0.1 s"),
    ]  # fmt: skip
    assert {cell for row in tables["table1"].rows[2:4] for cell in row[5:7]} == {"not run"}  # on MUSDB18-HQ
    here = tables["table1-2"]
    assert "which is not MUSDB18-HQ" in here.caption
    assert [(row[1], row[3], row[4]) for row in here.rows] == [
        ("public", "authors'", "yes"), ("public", "protocol", "yes"), ("trained", "protocol", "no"),
    ]  # fmt: skip
    assert all(re.fullmatch(r"-?\d+\.\d\d", cell) for row in here.rows for cell in row[5:7])
    assert {figure.path.name for figure in draw_figures(found)} >= {"systems.svg"}
    assert "tiny" in write_page(found).read_text()


def test_nothing_is_downloaded_without_consent(
    songs: Songs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store
):
    monkeypatch.setattr(study_run, "COMMAND", COMMAND)
    where = ("--folder", str(tmp_path / "study"), "--parts", "public")
    result = CliRunner().invoke(app, ["study", "run", STUDY.id, *songs.options, *where, "--device", "cpu"])
    assert result.exit_code == 1 and store.server.asked == []
    assert "tiny: FAILED: is not in the cache; give --yes, or: bandsplit models fetch tiny" in result.output
    assert "0 of 0 runs finished, 0 failed; 2 public models not fetched" in result.output
    shown = CliRunner().invoke(app, ["study", "status", STUDY.id, *where]).stdout
    assert "FAILED: tiny-lost: is not in the cache" in shown
    shown = CliRunner().invoke(app, ["study", "plan", STUDY.id, *where], env={"COLUMNS": "140"}).stdout
    assert "public weights, scored only: 2, of which 0 are scored; to download" in shown
