"""``bandsplit doctor`` where packages are missing: without PyTorch, with and without what separates instead."""

import json
from pathlib import Path

import pytest

from cpu_kernels import installed_kernels
from environments import Environment

DOCTOR = "import sys; sys.argv = ['bandsplit', 'doctor', '--json']; from bandsplit.cli.main import main; main()"


def examine(environment: Environment) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Run the command; return the exit code, and the findings by their status."""
    done = environment.run("-c", DOCTOR)
    assert "Traceback" not in done.stderr, done.stderr
    rows = json.loads(done.stdout)["findings"]
    return done.returncode, {
        status: [row for row in rows if row["status"] == status] for status in ("ok", "note", "fail")
    }


def test_without_torch_onnx_models_are_what_works(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    environment = Environment(tmp_path / "onnx", extras=["onnx"], without=["torch"])
    code, found = examine(environment)
    assert code == 0 and found["fail"] == []
    torch = next(row for row in found["note"] if row["name"] == "torch")
    assert torch["value"] == "missing: only .onnx models can be used" and torch["fix"].startswith(
        "pip install 'torch>="
    )
    device = next(row for row in found["note"] if row["section"] == "device")
    assert device["value"].startswith("cpu, by onnxruntime ") and "PyTorch is not installed" in device["value"]
    tested = [row for row in found["note"] if row["section"] == "self-test"]
    assert [row["value"] for row in tested] == ["not made: it needs PyTorch or the CPU kernels"]


def test_without_torch_the_kernels_are_what_works_and_make_the_self_test(tmp_path: Path):
    installed_kernels()
    environment = Environment(tmp_path / "kernels", extras=["kernels"], without=["torch"])
    code, found = examine(environment)
    assert code == 0 and found["fail"] == []
    torch = next(row for row in found["note"] if row["name"] == "torch")
    assert torch["value"] == "missing: only models that the CPU kernels compute can be used"
    device = next(row for row in found["note"] if row["section"] == "device")
    assert device["value"] == "cpu, by the CPU kernels, because PyTorch is not installed"
    separated, streamed = (row for row in found["ok"] if row["section"] == "self-test")
    assert "2 s of noise -> vocals" in separated["value"] and "a file equals memory" in streamed["value"]


def test_without_torch_and_onnxruntime_nothing_separates(tmp_path: Path):
    code, found = examine(Environment(tmp_path / "bare", without=["torch"]))
    assert code == 1 and {row["section"] for row in found["fail"]} == {"versions", "device", "self-test"}
    assert all("pip install" in row["fix"] for row in found["fail"])
