"""What keeps `bandsplit serve` from starting, and what it says then; a folder that is not in order."""

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from bandsplit.core.errors import ConfigError
from bandsplit.serve.job import Wish
from bandsplit.serve.jobs import Jobs, UnknownJobError
from bandsplit.serve.offers import Offers, find_offers
from bandsplit.serve.results import NoResultError, zip_blocks
from checkpoints import Store
from command_line import run_command
from places import CHECKPOINT
from tiny_models import write_tiny_model

SCORES = {"validation_usdr_db": 5.2512, "validation_loss": 0.3, "mean opinion": 4.5}


def fails(capsys: pytest.CaptureFixture[str], *options: str | Path) -> tuple[int, str]:
    ended = run_command(capsys, "serve", *options)
    assert ended.code
    return ended.code, " ".join(ended.err.split())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BANDSPLIT_TOKEN", raising=False)
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "cache"))


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert fails(capsys, "-n", model, "--port", port) == (
            2, f"error: --port {port}: is in use by another program; choose another, or 0 for any that is free",
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "music.invalid"])
def test_an_address_that_others_can_reach_needs_a_token(capsys: pytest.CaptureFixture[str], model: Path, host: str):
    code, text = fails(capsys, "-n", model, "--host", host, "--port", "0")
    assert code == 2 and f"--host {host}: other machines can reach this address, so it needs a token: --token " in text


def test_a_token_must_be_long_and_plain(
    capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = (2, "error: --token: is not a token; legal: 16 to 200 letters, digits and . _ ~ -")
    assert fails(capsys, "-n", model, "--port", "0", "--token", "secret") == expected
    monkeypatch.setenv("BANDSPLIT_TOKEN", "sixteen letters and spaces")
    assert fails(capsys, "-n", model, "--port", "0") == expected


def test_an_address_of_another_machine_is_named(capsys: pytest.CaptureFixture[str], model: Path):
    code, text = fails(capsys, "-n", model, "--host", "192.0.2.1", "--token", "0123456789abcdef", "--port", "0")
    assert code == 2 and text.startswith("error: --host 192.0.2.1: is not an address of this machine (")


def test_models_must_be_there(capsys: pytest.CaptureFixture[str]):
    assert "nothing.safetensors: no such model file" in fails(capsys, "-n", "nothing.safetensors", "--port", "0")[1]
    assert "no model was named, none is in the cache" in fails(capsys, "--port", "0")[1]


def test_a_folder_is_used_by_one_server(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path):
    jobs = Jobs(tmp_path / "served")
    assert fails(capsys, "-n", model, "--port", "0") == (
        2, "error: --folder served: another bandsplit serve uses it; stop that one, or name another folder",
    )  # fmt: skip
    jobs.close()
    (tmp_path / "file").touch()
    assert "--folder file: cannot be written (" in fails(capsys, "-n", model, "--port", "0", "--folder", "file")[1]


def test_jobs_that_cannot_be_read_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    jobs = Jobs(tmp_path)
    with jobs.scratch() as folder:
        (folder / "song.wav").write_bytes(b"abc")
        job = jobs.add(folder / "song.wav", "song.wav", Wish(model="small"), None)
    jobs.update(job.id, state="running")
    jobs.close()
    for name, text in (("0" * 32, "{"), ("1" * 32, json.dumps({"id": "x"})), ("thesis", "")):
        (tmp_path / "jobs" / name).mkdir()
        (tmp_path / "jobs" / name / "job.json").write_text(text)
    jobs = Jobs(tmp_path)
    assert [(found.id, found.state) for found in jobs.all()] == [(job.id, "queued")]
    assert caplog.text.count("is not a job, and is left alone") == 3
    assert len(list((tmp_path / "jobs").iterdir())) == 4
    jobs.close()


def test_a_deleted_job_is_unknown_and_a_cancelled_one_has_no_stems(tmp_path: Path):
    jobs = Jobs(tmp_path)
    ids = []
    for _ in range(2):
        with jobs.scratch() as folder:
            (folder / "song").write_bytes(b"abc")
            ids.append(jobs.add(folder / "song", "song", Wish(model="small"), None).id)
    jobs.remove(ids[0])
    with pytest.raises(UnknownJobError, match="does not exist, or was deleted"):
        jobs.cancel(ids[0])
    jobs.cancel(ids[1])
    with pytest.raises(NoResultError, match="the job is cancelled; it has stems once it is done"):
        zip_blocks(jobs, jobs.get(ids[1]))
    jobs.close()


def test_a_job_is_deleted_where_the_disk_has_no_room_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    jobs = Jobs(tmp_path)
    with jobs.scratch() as folder:
        (folder / "song").write_bytes(b"abc")
        job = jobs.add(folder / "song", "song", Wish(model="small"), None)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match="No space left"), jobs.scratch():
        pass
    jobs.remove(job.id)
    assert jobs.all() == []
    assert [list((tmp_path / name).iterdir()) for name in ("jobs", "work")] == [[], []]
    jobs.close()


def test_bags_and_fetched_models_are_offered_with_their_facts(store: Store, tmp_path: Path):
    store.has({"bass.ckpt": CHECKPOINT.read_bytes()})
    store.install()
    write_tiny_model("a.safetensors", "vocals", card={"licence": "A", "training_data": "songs"})
    write_tiny_model("b.safetensors", "vocals", seed=1, card={"licence": "B", "training_data": "songs"})
    Path("bag.yaml").write_text("name: both\nmembers:\n- {model: a.safetensors}\n- {model: b.safetensors}\n")
    write_tiny_model("scored.safetensors", "bass", card={"scores": SCORES})
    offers = find_offers(["bag.yaml", "scored.safetensors"], "cpu")
    bag, scored, fetched = (offer.view for offer in offers)
    assert (bag.id, bag.about, bag.targets) == ("both", "2 models, trained with bandsplit", ("vocals",))
    assert (bag.licence, bag.training_data) == ("A; B", "songs")
    assert bag.bytes == sum(Path(name).stat().st_size for name in ("bag.yaml", "a.safetensors", "b.safetensors"))
    assert (scored.id, scored.scores) == (
        "scored", ("uSDR 5.25 dB on its validation songs", "mean opinion 4.5"),
    )  # fmt: skip
    assert fetched.id == "tiny" and fetched.targets == ("bass",)
    with pytest.raises(ConfigError, match="model: 'x' is not offered here; legal: both, scored, tiny"):
        Offers(offers, tmp_path / "prices.json").check("x", None)
    twins = find_offers(["a.safetensors", "a.safetensors"], "cpu")
    assert [offer.id for offer in twins] == ["a", "a-2", "tiny"]
