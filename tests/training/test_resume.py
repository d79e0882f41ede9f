"""Any loss, optimiser and schedule: a run that is stopped after every update equals one that is not."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from pooch import file_hash

from bandsplit.core.errors import RunError, RunStopped
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset
from bandsplit.runs.config import RunConfig
from bandsplit.training import loop
from bandsplit.training.execution import Execution
from bandsplit.training.loop import train
from bandsplit.training.reporters.events import Event, Step
from songs import write_dataset
from tiny_models import TINY, write_tiny_model

COMPETING = {"kind": "competing", "update_decays": [0.9, 0.99], "epoch_decays": [0.5]}
AVERAGES: dict[str | None, dict[str, int]] = {
    None: {},
    "single": {"average": 6},
    "competing": {"average over updates 0.9": 6, "average over updates 0.99": 6, "average over epochs 0.5": 2},
}
"""Kind -> average -> weights in it after two epochs of three updates."""
GROUPS = {"activity": None, "pairing": "groups", "drop": "none"}
CONVOLUTIONS = {"time": {"kind": "conv"}, "band": {"kind": "conv"}}
"""Layers that CPUs compute in float16, as they do not LSTMs."""
FIRST_SCALE = 2.0**22
"""A scale at which gradients overflow float16 until it was halved some times."""


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return index_dataset(write_dataset(tmp_path / "data", train=2, test=1, samples=3000))


def small(layers: dict[str, Any] | None = None, init: str | None = None, **training: Any) -> RunConfig:
    settings = {"examples_per_epoch": 6, "excerpt_s": 0.1, "max_epochs": 2, "learning_rate": 0.05}
    settings["mixing"] = {"activity": None, "pairing": "free", "drop": "none"}
    model = TINY | {"targets": ["vocals", "bass"]} | (layers or {})
    return RunConfig.parse({"recipe": "test", "init": init, "model": model, "training": settings | training})


def final_state(
    config: RunConfig, dataset: Dataset, root: Path, *, stops: bool, init: Path | None = None
) -> dict[str, Any]:
    """Train to the end, in attempts of one update if it stops, and return the last state."""

    def stop(event: Event) -> None:
        if stops and isinstance(event, Step):
            os.kill(os.getpid(), signal.SIGTERM)

    for attempt in range(7):
        torch.manual_seed(attempt)  # a process that continues does not start from the same random state
        try:
            train(config, dataset, root, stop, execution=Execution("cpu"), init=init, resume=attempt > 0)
        except RunStopped:
            continue
        assert attempt == 6 if stops else attempt == 0
        state = torch.load(max(root.rglob("state-*.pt")), weights_only=True)
        del state["random"]  # of the process; examples do not depend on it
        return state
    raise AssertionError("the run does not end")


def assert_equal(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert_equal(value, second[key])
    elif isinstance(first, list):
        for pair in zip(first, second, strict=True):
            assert_equal(*pair)
    else:
        assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": {"kind": "l1-waveform"}, "optimizer": {"kind": "adamw"}, "decay": {"kind": "constant"},
         "average": {"kind": "single", "decay": 0.9}},
        {"loss": {"kind": "l1-waveform", "weights": {"bass": 0.5}}, "average": COMPETING,
         "optimizer": {"kind": "adamw", "decayed": ["blocks"]}, "mixing": GROUPS, "validate_every": 2},
        {"loss": {"kind": "mse-waveform"}, "optimizer": {"kind": "rmsprop"}, "warm_up_updates": 10, "clip_norm": None},
        {"loss": {"kind": "multi-resolution-stft", "windows": [256, 128], "n_fft": 128, "hop_samples": 32},
         "optimizer": {"kind": "adam", "amsgrad": True}, "decay": {"kind": "step-updates", "every_updates": 4}},
        {"loss": {"kind": "masked-mse", "quantile": 0.9}, "decay": {"kind": "plateau", "patience": 1}},
        {"loss": {"kind": "masked-mse", "quantile": 0.5, "coarse": True}, "decay": {"kind": "cosine"}},
        # Six updates, the last two in the middle of an epoch, of a schedule of eight.
        {"budget": {"kind": "flop", "amount": 6.5 * small().update_flop(2)}, "decay": {"kind": "cosine"},
         "examples_per_epoch": 8, "average": COMPETING, "warm_up_updates": 3},
        {"budget": {"kind": "flop", "amount": 6.5 * small().update_flop(2)}, "examples_per_epoch": 8,
         "decay": {"kind": "plateau", "patience": 1}},
    ],
    ids=[
        "l1-adamw-average", "weights-decayed-averages-groups", "mse-rmsprop-warm-up", "windows-amsgrad", "fine-plateau",
        "coarse-cosine", "budget-cosine-averages", "budget-plateau",
    ],
)  # fmt: skip
def test_a_run_stopped_after_every_update_equals_an_uninterrupted_one_bit_for_bit(
    dataset: Dataset, tmp_path: Path, settings: dict[str, Any]
):
    whole = final_state(small(**settings), dataset, tmp_path / "whole", stops=False)
    parts = final_state(small(**settings), dataset, tmp_path / "parts", stops=True)
    averages = AVERAGES[settings.get("average", {}).get("kind")]
    assert whole.keys() == {"model", "optimizer", "progress", *averages}
    assert {name: int(whole[name]["n_averaged"]) for name in averages} == averages
    assert_equal(whole, parts)


def test_so_does_one_that_starts_from_a_model_with_frozen_parts_and_trains_on_two_data_sets(
    dataset: Dataset, tmp_path: Path
):
    other = index_dataset(write_dataset(tmp_path / "more", train=3, test=0, samples=3000), splits=["train"])
    init = write_tiny_model(tmp_path / "source.safetensors", "vocals", "drums", seed=3)
    training = {"freeze": ["encoder"], "data_weights": [1.0, 1.0], "average": {"decay": 0.9}}
    config = small(init=file_hash(str(init)), optimizer={"kind": "adamw"}, **training)
    both = replace(dataset, others=(other,))
    whole = final_state(config, both, tmp_path / "whole", stops=False, init=init)
    parts = final_state(config, both, tmp_path / "parts", stops=True, init=init)
    assert_equal(whole, parts)


@pytest.fixture
def float16_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let runs compute as on a GPU, in float16 with scaled gradients; the list holds the first scale."""
    scale = [FIRST_SCALE]

    def make_fabric(*_: Any) -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=scale[0])
        return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))

    monkeypatch.setattr(loop, "make_fabric", make_fabric)
    return scale


def test_so_does_one_whose_scaled_gradients_overflow_at_first(
    dataset: Dataset, tmp_path: Path, float16_on_a_cpu: list[float]
):
    config = small(CONVOLUTIONS, precision="fp16", optimizer={"kind": "adamw"}, average={"decay": 0.9})
    whole = final_state(config, dataset, tmp_path / "whole", stops=False)
    assert 1 < whole["scaler"]["scale"] < FIRST_SCALE, "the scale was halved"
    assert 0 < whole["optimizer"]["state"][0]["step"] < 6, "some updates were left out, others not"
    parts = final_state(config, dataset, tmp_path / "parts", stops=True)
    assert_equal(whole, parts)


def test_gradients_that_overflow_at_any_scale_stop_the_run(
    dataset: Dataset, tmp_path: Path, float16_on_a_cpu: list[float], monkeypatch: pytest.MonkeyPatch
):
    float16_on_a_cpu[0] = 4.0
    monkeypatch.setattr("bandsplit.training.learner.compute_loss", lambda _, signal, *__, **___: signal.sum() * 1e30)
    with pytest.raises(RunError, match=r"gradient norm .* of epoch 1, examples 2 to 3, is not finite"):
        final_state(small(CONVOLUTIONS, precision="fp16"), dataset, tmp_path / "runs", stops=False)
