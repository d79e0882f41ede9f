"""``bandsplit models`` as a user meets it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bandsplit.cli.model_choice import choose_models
from bandsplit.cli.terminal import make_console
from bandsplit.core.errors import ModelFileError
from bandsplit.models.pretrained import registry
from bandsplit.models.pretrained.registry import cached_files
from checkpoints import Store, checkpoint_of
from command_line import run_command
from places import CHECKPOINT
from webserver import serve

BASS = {"bass.ckpt": CHECKPOINT.read_bytes()}


class Answer:
    """A user at a terminal."""

    def __init__(self, text: str, tty: bool = True) -> None:
        self.text, self.isatty = text, lambda: tty

    def readline(self, *_: Any) -> str:
        return self.text + "\n" if self.text else ""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process; return exit code, what was printed, and what was told, unwrapped."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        ended = run_command(capsys, *arguments)
        return ended.code, ended.out, " ".join(ended.err.split())

    return run


def test_the_list_shows_sizes_scores_licence_data_and_source(run: Callable[..., tuple[int, str, str]], store: Store):
    code, out, _ = run("models", "list")
    assert code == 0
    text = " ".join(out.split())
    assert "bsrnn: simo-bsrnn-opt to fetch cSDR 10.66 9.73 10.98 7.78 9.79 = obsrnn-simo 1.2 > 0.4 GB" in text
    assert "bsrnn-large needs md5 cSDR" in text and "bs-roformer-sw needs config - " in text
    assert "bs_roformer: bs-roformer-musdb to fetch uSDR 11.08 8.48 11.61 7.44 9.65 0.5 > 0.5 GB" in text
    assert "licence of simo-bsrnn-opt, bsrnn-opt, bsrnn-large: not stated by its authors; MUSDB18-HQ is for non" in text
    assert "training data of mel-roformer-kim: about 1400 songs, not disclosed (perhaps with the MUSDB18" in text
    assert "scores of bs-roformer-1297, mel-roformer-kim: SDR on Multisong" in text and "instrumental 15.83" in text
    assert "https://doi.org/10.5281/zenodo.17516442" in text
    store.patch.setenv("COLUMNS", "80")
    narrow = run("models", "list")[1]
    assert "\u2026" not in narrow  # nothing is cut off on a small screen
    assert max(len(line) for line in narrow.partition("sizes:")[0].splitlines()) <= 80
    assert "as published; not measured here" in text and str(store.cache) in text


def test_the_list_as_json_has_everything_and_says_what_is_cached(
    run: Callable[..., tuple[int, str, str]], store: Store
):
    store.has(BASS)
    (before,) = json.loads(run("models", "list", "--json")[1])
    store.install()
    (after,) = json.loads(run("models", "list", "--json")[1])
    assert (before["cached"], before["files"]) == (False, [])
    assert (after["cached"], after["files"]) == (True, [str(path) for path in cached_files(store.entry)])
    (scores,) = after["published_scores"]
    assert scores["values_db"]["average"] == 9.07
    assert (scores["metric"], scores["comparable"]) == ("cSDR", True)
    assert scores["source"] == "authors' repository: readme"
    assert {"family", "targets", "licence", "training_data", "saw_test_songs", "needs"} <= after.keys()
    assert {"bytes", "md5"} <= after["source"].keys()


def test_architectures_are_listed_beside_the_papers_counts(run: Callable[..., tuple[int, str, str]]):
    _, out, _ = run("models", "list", "--architectures")
    assert "base model: N 64, R 8, one model and band split per target" in out  # not broken: no terminal reads it
    text = " ".join(out.split())
    assert "optimised-no-tac 149.9 149.9 4 of 1 target 20" in text
    assert "simo-optimised 108.73 108.73 1 of 4 targets - oBSRNN-SIMO" in text
    rows = {row["recipe"]: row for row in json.loads(run("models", "list", "--architectures", "--json")[1])}
    assert rows["base"]["row"] == "1" and rows["simo"]["shared"] is True


def test_fetch_shows_what_it_is_and_asks_first(run: Callable[..., tuple[int, str, str]], store: Store):
    store.has(BASS)
    store.patch.setattr(sys, "stdin", Answer("n"))
    code, _, told = run("models", "fetch", "tiny")
    assert code == 1 and "Aborted" in told and store.server.asked == []
    assert "licence: not stated" in told and "size: 1.1 MB to download" in told and "are needed temporarily" in told
    store.patch.setattr(sys, "stdin", Answer("y"))
    code, _, told = run("models", "fetch", "tiny")
    assert code == 0 and "tiny: 1 model file(s) in " in told and told.endswith("licence: not stated")
    code, _, told = run("models", "fetch", "otiny")
    assert code == 0 and "is in the cache already" in told


def test_a_fetched_model_is_shown_copied_and_removed(
    run: Callable[..., tuple[int, str, str]], store: Store, tmp_path: Path
):
    body = store.has({**BASS, "drums.ckpt": checkpoint_of("drums")}, targets=["bass", "drums"])
    store.does()
    store.server.pages["/other/tiny.zip"] = [serve(body)]
    assert "in cache: no; bandsplit models fetch tiny" in run("models", "show", "tiny")[1]
    assert run("models", "fetch", "tiny", "--yes", "--mirror", f"{store.server.url}/other")[0] == 0
    _, out, _ = run("models", "show", "tiny")
    assert "drums.ckpt in tiny.zip (md5 " in out and "published cSDR of drums in dB (MUSDB18-HQ test)" in out
    described = json.loads(run("models", "show", "tiny", "--json")[1])
    assert [model["config"]["targets"] for model in described] == [["bass"], ["drums"]]
    assert described[0]["card"]["licence"] == "not stated"
    code, out, _ = run("models", "export", "tiny", tmp_path / "out")
    assert code == 0 and out.split() == [
        str(tmp_path / "out" / f"tiny-{name}.safetensors") for name in ("bass", "drums")
    ]
    code, _, told = run("models", "export", "tiny", tmp_path / "out")
    assert code == 1 and "exists already" in told
    code, _, told = run("models", "remove", "tiny")
    assert code == 0 and "MB freed" in told and cached_files(store.entry) == []
    assert "was not in the cache" in run("models", "remove", "tiny")[2]


def test_a_model_file_is_shown_with_its_configuration(run: Callable[..., tuple[int, str, str]], tmp_path: Path):
    path = tmp_path / "bass.safetensors"
    assert run("models", "import", CHECKPOINT, "-o", path)[0] == 0
    _, out, _ = run("models", "show", path)
    assert "source_sha256" in out and '"n_blocks": 2' in out


def test_a_failure_is_one_message_and_exit_code_1(run: Callable[..., tuple[int, str, str]], store: Store):
    store.has(BASS)
    store.does()
    code, out, told = run("models", "fetch", "tiny", "--yes")
    assert code == 1 and out == "" and told.startswith("error: http://127.0.0.1") and "Traceback" not in told


# --- the choice that other commands make -----------------------------------------------------------------------------


def choose(store: Store, *names: str, answer: Answer | None = None) -> list[Path]:
    store.patch.setattr(sys, "stdin", answer or Answer("", tty=False))
    return choose_models(make_console(), names)


def test_without_a_name_the_best_is_offered_at_a_terminal(store: Store, capsys: pytest.CaptureFixture[str]):
    store.has(BASS)
    assert choose(store, answer=Answer("y")) == cached_files(store.entry) != []
    told = capsys.readouterr().err
    assert "Fetch tiny (1.1 MB)?" in told and "model: tiny, the best in the cache (9.07 dB" in told


@pytest.mark.parametrize("names", [(), ("tiny",)])
def test_nothing_is_asked_or_fetched_where_nobody_can_answer_or_says_no(
    store: Store, tmp_path: Path, names: tuple[str, ...]
):
    store.has(BASS)
    store.patch.chdir(tmp_path)
    for answer in (Answer("y", tty=False), Answer("n")):
        with pytest.raises(ModelFileError, match="bandsplit models fetch tiny"):
            choose(store, *names, answer=answer)
    store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    with pytest.raises(ModelFileError, match="bandsplit models fetch tiny"):
        choose(store, *names, answer=Answer("y"))
    assert store.server.asked == []


def test_yes_fetches_without_asking(store: Store):
    store.has(BASS)
    store.patch.setattr(sys, "stdin", Answer("", tty=False))
    assert choose_models(make_console(), (), yes=True) == cached_files(store.entry) != []


def test_several_names_are_all_their_files(store: Store, tmp_path: Path):
    store.has(BASS)
    store.install()
    (tmp_path / "drums.safetensors").touch()
    files = choose(store, "tiny", str(tmp_path / "drums.safetensors"))
    assert files == [*cached_files(store.entry), tmp_path / "drums.safetensors"]
    assert registry.find_models("tiny") == files[:1]
