"""Every command that writes, on disks that take no more: one message, old files as they were, nothing in part."""

import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file

from bandsplit.core.errors import BandsplitError, RunError
from bandsplit.data.songs.download import download_dataset
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.runs.folder import RunFolder
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.training.execution import Execution
from bandsplit.training.loop import train as train_run
from bandsplit.training.reporters.events import Event, Reporter, Validated, report_to
from checkpoints import Store
from command_line import Ended, run_command
from disks import REASONS, Disk, assert_complete, largest_file
from downloads import CALM, set_in, zip_of
from places import CHECKPOINT
from songs import noise_stems, write_dataset
from study_runs import write_study_run
from tiny_models import RATE_HZ, TINY_CHANGES, write_tiny_model
from webserver import serve

SMALL = [
    *TINY_CHANGES, "model.mask.hidden_factor=1", "training.examples_per_epoch=8", "training.excerpt_s=0.2",
    "training.max_epochs=1", "training.mixing.activity=null",
]  # fmt: skip


@dataclass
class Place:
    """Where a command reads and where it writes."""

    given: Path
    """Songs, a model: on a disk that is in order."""
    out: Path
    """On the disk that takes no more."""
    again: bool
    """There is something to be replaced."""
    run: Callable[..., Ended]
    store: Store

    @property
    def model(self) -> Path:
        """A model of two targets at 8 kHz."""
        path = self.given / "small.safetensors"
        if not path.exists():
            write_tiny_model(path)
        return path

    @property
    def songs(self) -> Path:
        """A data set."""
        path = self.given / "songs"
        return path if path.exists() else write_dataset(path, train=2, test=1, samples=RATE_HZ)

    @property
    def song(self) -> Path:
        """A song of a second."""
        path = self.given / "song.wav"
        if not path.exists():
            soundfile.write(path, noise_stems(0, RATE_HZ)["vocals"].T, RATE_HZ, subtype="PCM_16")
        return path


def separate(*options: str) -> Callable[[Place], Ended]:
    return lambda at: at.run("separate", at.song, "-n", at.model, "-o", at.out, "-d", "cpu", "--force", *options)


def train(at: Place) -> Ended:
    changes = [part for change in SMALL for part in ("--set", change)]
    options = ["--runs", at.out, "--device", "cpu", "--seed", str(int(at.again))]
    return at.run("train", "base", "-t", "vocals", "--data", at.songs, *options, *changes)


def fetch(at: Place) -> Ended:
    os.environ["BANDSPLIT_CACHE"] = str(at.out)
    at.store.has({"bass.ckpt": CHECKPOINT.read_bytes()})
    return at.run("models", "fetch", "tiny", "--yes")


def copy_out(at: Place) -> Ended:
    at.store.has({"bass.ckpt": CHECKPOINT.read_bytes()})
    at.store.install()
    return at.run("models", "export", "tiny", at.out, "--force")


def download(at: Place) -> Ended:
    body = zip_of({f"{file.relative_to(at.songs)}": file.read_bytes() for file in at.songs.rglob("*.wav")})
    at.store.server.pages["/sets/tiny.zip"] = [serve(body)]
    archive = set_in(body)
    try:
        download_dataset(archive.known, at.out, mirror=f"{at.store.server.url}/sets", md5=archive.md5, patience=CALM)
    except BandsplitError as error:
        return Ended(1, "", f"error: {error}")
    return Ended(0, "", "")


def plot_runs(at: Place) -> Ended:
    runs = at.given / "runs"
    if not runs.exists():
        write_study_run(runs, "base", 1, 5.0)
    return at.run("runs", runs, "--plot", at.out / "curves.svg")


WRITERS: dict[str, Callable[[Place], Ended]] = {
    "models import": lambda at: at.run("models", "import", CHECKPOINT, "-o", at.out / "bass.safetensors", "--force"),
    "models fetch": fetch,
    "models export": copy_out,
    "export": lambda at: at.run("export", at.model, at.out / "small.onnx", "--force"),
    "separate wav": separate(),
    "separate flac": separate("--flac"),
    "separate mp3": separate("--mp3", "--jobs", "2"),
    "evaluate": lambda at: at.run(
        "evaluate", at.model, "--data", at.songs, "-o", at.out / "rows.jsonl", "-d", "cpu", "--force"
    ),
    "train": train,
    "runs": plot_runs,
    "study tables": lambda at: at.run("study", "tables", "paper", "--folder", at.out),
    "study figures": lambda at: at.run("study", "figures", "paper", "--folder", at.out),
    "study report": lambda at: at.run("study", "report", "paper", "--folder", at.out),
    "data synth": lambda at: at.run(
        "data", "synth", at.out, "--songs", "1", "--test", "0", "--minutes", "0.02", "--workers", "1"
    ),
    "data pack": lambda at: at.run("data", "pack", at.songs, at.out),
    "data download": download,
}
FRESH_ONLY = ("models fetch", "data synth", "data pack", "data download")
"""What is there is not made again."""
KEPT = {"train": "", "data synth": "synthesis.json.part", "models fetch": ".zip.part", "data download": ".zip.part"}
"""Unfinished files that stay, since the same command goes on with them."""


@pytest.fixture(params=["full", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("half", "read-only"))])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk", request.param)
    yield disk
    disk.close()


@pytest.fixture
def at(
    disk: Disk, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Place:
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "given").mkdir()
    (disk.folder / "out").mkdir()
    return Place(tmp_path / "given", disk.folder / "out", False, lambda *given: run_command(capsys, *given), store)


def assert_refused(ended: Ended) -> None:
    """Exit code 1, and one message that says why."""
    assert ended.code == 1, ended
    messages = [line for line in ended.err.splitlines() if any(why in line for why in REASONS)]
    assert len(messages) == 1, ended.err
    assert messages[0].startswith(("error: ", "failed: "))


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in FRESH_ONLY])
def test_a_writer_that_the_disk_refuses_says_so_and_leaves_old_files_as_they_were(name: str, at: Place, disk: Disk):
    first = WRITERS[name](at)
    assert first.code == 0, first.err
    before = disk.content()
    at.again = True
    with disk.broken(max(map(len, before.values()))):
        ended = WRITERS[name](at)
    assert_refused(ended)
    after = disk.content()
    for file, content in before.items():
        if file.endswith(".jsonl"):  # a line about the failure may follow
            assert after[file].startswith(content)
        else:
            assert after[file] == content, file
    for file in after.keys() - before.keys():
        assert name == "train", file
        assert_complete(file, after[file], disk.folder)


@pytest.fixture(scope="module")
def largest_bytes() -> dict[str, int]:
    """Size of the largest file of each writer that has run on a disk in order."""
    return {}


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_that_the_disk_refuses_leaves_nothing_in_part(
    name: str, at: Place, disk: Disk, tmp_path: Path, largest_bytes: dict[str, int]
):
    if name not in largest_bytes:
        whole = Place(at.given, tmp_path / "whole", False, at.run, at.store)
        whole.out.mkdir()
        first = WRITERS[name](whole)
        assert first.code == 0, first.err
        largest_bytes[name] = max(path.stat().st_size for path in whole.out.rglob("*") if path.is_file())
    with disk.broken(largest_bytes[name]):
        ended = WRITERS[name](at)
    assert_refused(ended)
    for file, content in disk.content().items():
        if not file.endswith(KEPT.get(name) or "-"):
            assert_complete(file, content, disk.folder)
    if disk.kind != "half":
        assert not any(disk.content().values())


def test_facts_about_songs_that_find_no_room_are_one_message(at: Place):
    songs = at.songs
    with largest_file(0):
        assert_refused(at.run("data", "check", songs))
    assert [path.name for path in (songs / ".bandsplit").iterdir()] == []


def test_a_manifest_that_finds_no_room_is_one_message_and_keeps_the_stems(at: Place):
    assert separate()(at).code == 0
    manifest = at.out / "manifest.jsonl"
    long = manifest.read_text() * 1000
    manifest.write_text(long)
    with largest_file(len(long) + 10):
        ended = separate()(at)
    assert_refused(ended)
    assert f"{manifest}: cannot be written" in ended.err and "the stems are complete" in ended.err
    assert manifest.read_text() == long
    assert_complete("vocals.wav", b"", at.out / "song")


def test_the_journal_of_a_study_that_finds_no_room_is_one_message(tmp_path: Path):
    folder = StudyFolder(tmp_path / "study")
    folder.append("started", run="a")
    before = folder.journal.read_bytes()
    with (
        largest_file(len(before) + 5),
        pytest.raises(RunError, match=r"study\.jsonl: cannot be written .File too large"),
    ):
        folder.append("started", run="b")
    assert folder.journal.read_bytes() == before


def fill_disk(event: Event) -> None:
    """Leaves no room for a state after the first validation."""
    if isinstance(event, Validated):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_run_whose_disk_is_full_keeps_its_states_and_goes_on_where_it_was(at: Place, tmp_path: Path):
    changes = dict(change.split("=") for change in SMALL) | {"training.max_epochs": "3", "training.validate_every": "1"}
    values = {name: yaml.safe_load(value) for name, value in changes.items()}
    config = find_recipe("base").run_config(("vocals",), changes=values)
    dataset, execution = index_dataset(at.songs), Execution("cpu")

    def run(root: str, report: Reporter, resume: bool) -> RunFolder:
        torch.manual_seed(config.seed)
        train_run(config, dataset, tmp_path / root, report, execution=execution, resume=resume)
        return RunFolder(tmp_path / root, config)

    whole = run("whole", report_to(), resume=False)
    with largest_file(1 << 30), pytest.raises(RunError, match=r"state-\d+\.pt: cannot be written .File too large"):
        run("filled", fill_disk, resume=False)
    filled = RunFolder(tmp_path / "filled", config)
    assert len(filled.states) == 1 and not list(filled.path.rglob("*.part"))
    run("filled", report_to(), resume=True)
    assert [row["attempt"] for row in filled.rows("start")] == [1, 2]
    ours, theirs = (load_file(folder.best) for folder in (whole, filled))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
