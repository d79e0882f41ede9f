"""``bandsplit models fetch`` and ``push`` with the Hub and with addresses, as a user meets them."""

import hashlib
import json
from pathlib import Path

import pytest

from checkpoints import Store
from command_line import run_command
from hub_server import TOKEN, Hub
from songs import noise
from tiny_models import write_tiny_model
from webserver import serve

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # inside the Hub's library


def test_a_model_goes_to_the_hub_and_comes_back_to_separate_a_song(
    hub: Hub, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from bandsplit.audio import files as audio

    store.patch.setenv("HF_TOKEN", TOKEN)
    store.patch.setenv("COLUMNS", "300")
    store.patch.chdir(tmp_path)
    write_tiny_model("m.safetensors", "bass")
    audio.write("song.wav", noise(1, 8000), 8000)
    pushed = run_command(capsys, "models", "push", "m.safetensors", "hf:ada/tiny", "--yes")
    assert pushed.code == 0 and "1 model file, to be seen by you alone" in pushed.err, pushed.err
    (commit,) = hub.pages["ada/tiny"].commits
    assert f"others fetch it: bandsplit models fetch hf:ada/tiny@{commit[:12]}" in pushed.err
    fetched = run_command(capsys, "models", "fetch", "hf:ada/tiny", "--yes")
    assert fetched.code == 0 and "use: -n hf:ada/tiny" in fetched.err and "licence: CC0" in fetched.err
    assert "is in the cache already" in run_command(capsys, "models", "fetch", "hf:ada/tiny").err
    assert "hf:ada/tiny" in run_command(capsys, "models", "list").out
    shown = json.loads(run_command(capsys, "models", "show", "hf:ada/tiny", "--json").out)
    assert shown[0]["card"]["name"] == "small"
    ended = run_command(capsys, "separate", "song.wav", "-n", "hf:ada/tiny", "-d", "cpu")
    assert ended.code == 0, ended.err
    assert audio.info("separated/song/bass.wav").samples == 8000
    assert run_command(capsys, "models", "remove", "hf:ada/tiny").code == 0


def test_yes_fetches_a_page_that_a_command_names(
    hub: Hub, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from bandsplit.audio import files as audio

    store.patch.chdir(tmp_path)
    hub.has("ada/tiny", {"bass.safetensors": write_tiny_model("m.safetensors", "bass").read_bytes()})
    audio.write("song.wav", noise(1, 8000), 8000)
    refused = run_command(capsys, "separate", "song.wav", "-n", "hf:ada/tiny")
    assert refused.code == 1 and "fetch it first: bandsplit models fetch hf:ada/tiny" in " ".join(refused.err.split())
    assert run_command(capsys, "separate", "song.wav", "-n", "hf:ada/tiny", "--yes", "-d", "cpu").code == 0


def test_a_model_at_an_address_is_fetched_with_its_digest(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store.patch.delenv("BANDSPLIT_MIRROR")
    body = write_tiny_model(tmp_path / "m.safetensors", "bass").read_bytes()
    store.server.pages["/m.safetensors"] = [serve(body)]
    url, digest = f"{store.server.url}/m.safetensors", hashlib.sha256(body).hexdigest()
    ended = run_command(capsys, "models", "fetch", url, "--sha256", digest, "--name", "mine", "--yes")
    assert ended.code == 0 and "use: -n mine" in ended.err, ended.err
    assert run_command(capsys, "models", "fetch", url, "--yes").code == 1
    for option in (("--sha256", digest), ("--name", "x")):
        ended = run_command(capsys, "models", "fetch", "htdemucs", *option)
        assert ended.code != 0 and f"{option[0]} {option[1]}: is for a model at an address" in " ".join(
            ended.err.split()
        )
