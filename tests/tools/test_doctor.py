"""``bandsplit doctor``: what it says of a sound machine, and what it finds on a broken one."""

import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from bandsplit.core.extras import requirements
from bandsplit.tools import doctor, self_test
from bandsplit.tools.bench import matrix_rate
from bandsplit.tools.doctor import Finding, examine
from checkpoints import Store
from command_line import run_command
from places import CHECKPOINT

SECTIONS = ["versions", "device", "audio", "extras", "models", "self-test"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(matrix_rate.MATRIX_SIZE, "cpu", 64)
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "cache"))
    for name in ("BANDSPLIT_OFFLINE", "BANDSPLIT_MIRROR"):
        monkeypatch.delenv(name, raising=False)


def found(section: str) -> dict[str, Finding]:
    """Look at one section only."""
    return {finding.name: finding for finding in getattr(doctor, f"_{section.replace('-', '_')}")()}


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    monkeypatch.setenv("COLUMNS", "120")
    ended = run_command(capsys, "doctor", *arguments)
    return ended.code, ended.out


def test_a_sound_machine_passes_every_check():
    told: list[str] = []
    findings = examine(told.append)
    assert told == SECTIONS == list(dict.fromkeys(finding.section for finding in findings))
    assert [finding for finding in findings if finding.status == "fail"] == []
    values = {finding.name: finding.value for finding in findings}
    assert values["torch"] == metadata.version("torch") and torch.__version__ in values["torch build"]
    assert "wav" in values["formats"] and "flac" in values["formats"]
    assert "-> vocals" in values["separation"] and "GFLOP/s" in values["matrix products"]


def test_the_screen_has_a_line_for_each_finding_and_a_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    code, out = run(capsys, monkeypatch)
    assert code == 0 and "bandsplit works here: " in out and " 0 failed" in out
    for text in (*SECTIONS, "libsndfile", "free disk", "STFT and back", "-> to have one: bandsplit models fetch"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 120


def test_json_has_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    code, out = run(capsys, monkeypatch, "--json")
    report = json.loads(out)
    assert code == 0 and report["ok"] is True
    assert {row["section"] for row in report["findings"]} == set(SECTIONS)
    assert all(row.keys() == {"section", "name", "value", "status", "fix"} for row in report["findings"])


def test_wrong_numbers_fail_with_exit_code_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    right = self_test.istft
    monkeypatch.setattr(self_test, "istft", lambda *arguments: right(*arguments) + 1e-5)
    code, out = run(capsys, monkeypatch)
    assert code == 1 and "something is broken: " in out and " 1 failed" in out
    assert "the installed PyTorch computes wrong numbers: install another version" in out


def test_estimates_that_are_not_finite_fail(monkeypatch: pytest.MonkeyPatch):
    right = self_test.build_model

    def build(config: Any) -> Any:
        model = right(config)
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        return model

    monkeypatch.setattr(self_test, "build_model", build)
    (*_, last) = examine()
    assert (last.section, last.status) == ("self-test", "fail") and "is not finite" in last.value


def test_a_package_that_cannot_be_imported_does_not_hide_the_rest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    findings = examine()
    (broken,) = [finding for finding in findings if finding.section == "audio"]
    assert broken.status == "fail" and "soundfile" in broken.value
    assert [finding.section for finding in findings if finding.status == "fail"] == ["audio"]


def pretend(monkeypatch: pytest.MonkeyPatch, versions: Mapping[str, str | None]) -> None:
    """Let packages have other versions, or with None none."""
    right = metadata.version

    def version(name: str) -> str:
        if name not in versions:
            return right(name)
        if (found := versions[name]) is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)


def test_a_missing_and_an_old_package_fail_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, {"soxr": None, "numpy": "1.20.0"})
    versions = found("versions")
    assert versions["soxr"][2:] == ("missing", "fail", "pip install 'soxr>=0.5'")
    assert versions["numpy"][2:] == ("1.20.0, needs >=1.26", "fail", "pip install -U 'numpy>=1.26'")


def test_an_extra_that_is_not_there_is_a_note(monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, {"lightning-fabric": None})
    train = found("extras")["train"]
    assert (train.value, train.status) == ("without lightning-fabric", "note")
    assert train.fix == "if you need it: pip install 'bandsplit[train]'"


def test_the_kernels_that_are_not_there_come_from_their_folder(monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, {"bandsplit-kernels": None})
    if not [name for name, *_ in requirements("kernels")]:
        pytest.skip("there are none for this CPU")
    assert found("extras")["kernels"].fix == "if you need it: in the source folder, pip install ./kernels"


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it is used")
def test_an_nvidia_driver_that_is_not_used_is_noted_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC\n")
    monkeypatch.setattr(doctor, "NVIDIA_DRIVER", driver)
    monkeypatch.setattr(torch.version, "cuda", None)
    device = found("device")
    assert device["chosen"].status == "note" and "for CPUs only" in device["chosen"].value
    assert "the NVIDIA GPU is not used: install the PyTorch build" in device["chosen"].fix
    assert device["NVIDIA driver"].value == "535.104.05"
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    assert "CUDA cannot be used, driver 535.104.05, PyTorch built for CUDA 12.6" in found("device")["chosen"].value


@pytest.mark.parametrize(("format", "status"), [("MP3", "note"), ("FLAC", "fail")])
def test_a_format_that_libsndfile_cannot_write_is_named(monkeypatch: pytest.MonkeyPatch, format: str, status: str):
    right = soundfile.write

    def write(file: Any, data: Any, rate: int, subtype: str | None = None, **options: Any) -> None:
        if options["format"] == format:
            raise ValueError("unknown format")
        right(file, data, rate, subtype, **options)

    monkeypatch.setattr(soundfile, "write", write)
    formats = found("audio")["formats"]
    assert formats.status == status and formats.fix == f"{format.lower()} cannot be used: pip install -U soundfile"
    assert format.lower() not in formats.value.split(" writes ")[1].split(", ")


def test_the_cache_with_its_models_and_settings_is_told(store: Store):
    store.has({"bass.ckpt": CHECKPOINT.read_bytes()})
    assert found("models")["fetched"].status == "note"
    store.install()
    models = found("models")
    assert models["fetched"][2:] == ("tiny", "ok", "") and models["cache"].value.startswith(f"{store.cache}, 0.")
    assert models["downloads"].value == f"{store.server.url}/models"
    store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    assert found("models")["downloads"].value == "off (BANDSPLIT_OFFLINE)"


def test_a_cache_that_cannot_be_written_and_a_wrong_setting_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path / "file" / "cache"))
    assert found("models")["cache"].status == "fail"
    monkeypatch.setenv("BANDSPLIT_OFFLINE", "maybe")
    broken = [finding for finding in examine() if finding.status == "fail"]
    assert [finding.name for finding in broken] == ["cache", "check"]
    assert "BANDSPLIT_OFFLINE: 'maybe' is neither yes nor no" in broken[1].value
