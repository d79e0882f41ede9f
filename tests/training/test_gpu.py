"""What only a GPU can show: the same numbers as on a CPU, lower precisions, and what fits."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bandsplit.core.errors import RunStopped
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset
from bandsplit.runs.config import RunConfig
from bandsplit.training.execution import Execution
from bandsplit.training.loop import TrainingResult, train
from bandsplit.training.plan import plan_run
from bandsplit.training.reporters.events import Event, Step, report_to
from songs import write_dataset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return index_dataset(write_dataset(tmp_path / "data", train=3, test=1, samples=12000))


def config(**training: Any) -> RunConfig:
    model = {
        "targets": ["vocals"], "bands": [[500, 4]], "sample_rate_hz": 8000, "n_features": 16, "n_blocks": 2,
        "stft": {"n_fft": 128, "hop_samples": 32}, "stereo": {"kind": "tac"}, "attention": {"heads": 2},
    }  # fmt: skip
    settings = {"examples_per_epoch": 16, "excerpt_s": 0.5, "max_epochs": 2, "global_batch": 4} | training
    settings["mixing"] = {"activity": None}
    return RunConfig.parse({"recipe": "test", "model": model, "training": settings})


def run(settings: RunConfig, dataset: Dataset, root: Path, device: str, **how: Any) -> TrainingResult:
    torch.manual_seed(settings.seed)
    return train(settings, dataset, root, how.pop("report", report_to()), execution=Execution(device), **how)


def test_a_run_scores_as_on_a_cpu(dataset: Dataset, tmp_path: Path):
    results = {device: run(config(), dataset, tmp_path / device, device) for device in ("cpu", "cuda")}
    assert results["cuda"].best_score == pytest.approx(results["cpu"].best_score, abs=1e-2)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_lower_precisions_score_nearly_the_same(dataset: Dataset, tmp_path: Path, precision: str):
    exact = run(config(), dataset, tmp_path / "exact", "cuda")
    lower = run(config(precision=precision), dataset, tmp_path / "lower", "cuda")
    assert lower.best_score == pytest.approx(exact.best_score, abs=0.5)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_stopped_run_goes_on(dataset: Dataset, tmp_path: Path, precision: str):
    def stop(event: Event) -> None:
        if isinstance(event, Step) and event.update == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = run(config(precision=precision), dataset, tmp_path / "whole", "cuda")
    with pytest.raises(RunStopped):
        run(config(precision=precision), dataset, tmp_path / "parts", "cuda", report=stop)
    parts = run(config(precision=precision), dataset, tmp_path / "parts", "cuda", resume=True)
    first, second = (load_file(result.best) for result in (whole, parts))
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=1e-4)
    states = [torch.load(max(result.best.parent.glob("state-*.pt")), weights_only=True) for result in (whole, parts)]
    scalers = [state.get("scaler") for state in states]
    assert scalers[0] == scalers[1] and (scalers[0] is not None) == (precision == "fp16")


def test_a_plan_tries_batches_with_and_without_checkpointing(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bandsplit.training.plan.TRIAL_S", 0.5)
    plan = plan_run(config(), dataset, Execution("cuda"))
    assert [(fit.batch_size, fit.checkpointing) for fit in plan.fits] == [
        (1, False), (2, False), (4, False), (1, True), (2, True), (4, True),
    ]  # fmt: skip
    assert all(fit.examples_per_s and fit.memory_gb for fit in plan.fits)
    assert plan.memory_gb > 0
