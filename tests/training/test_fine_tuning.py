"""Runs that start from another model: what they start with, what stays as it was, and what they record."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pooch import file_hash
from safetensors import safe_open
from safetensors.torch import load_file

from bandsplit.core.errors import BandsplitError, ConfigError, ModelFileError, RunError
from bandsplit.data.examples.dataset import Example
from bandsplit.data.songs.layouts import index_dataset
from bandsplit.data.songs.tracks import Dataset
from bandsplit.models.card import ModelCard, read_card
from bandsplit.models.files import load_model, save_model
from bandsplit.models.network import build_model
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.runs.config import RunConfig
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.initial import describe_initial, read_initial
from bandsplit.training.learner import Learner
from bandsplit.training.loop import train
from bandsplit.training.reporters.events import report_to
from songs import write_dataset
from tiny_models import TINY, write_tiny_model

FOUR = ("vocals", "bass", "drums", "other")
NORMALISED: dict[str, Any] = {
    "family": "tfc_tdf", "sample_rate_hz": 8000, "stft": {"n_fft": 256, "hop_samples": 64}, "n_bins": 128,
    "n_features": 4, "growth": 4, "n_scales": 1, "n_blocks": 1, "n_subbands": 1, "bottleneck_factor": 2,
    "norm": {"kind": "batch"},
}  # fmt: skip
"""A network with batch normalisations."""


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return index_dataset(write_dataset(tmp_path / "data", train=2, test=0, samples=3000))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model of four targets."""
    return write_tiny_model(tmp_path / "source.safetensors", *FOUR, card={"training_data": "songs", "licence": "CC0"})


def config(source: Path | None, *targets: str, model: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    settings = {"examples_per_epoch": 6, "excerpt_s": 0.1, "max_epochs": 1, "learning_rate": 0.05}
    settings["mixing"] = {"activity": None, "pairing": "free", "drop": "none"}
    init = {} if source is None else {"init": file_hash(str(source))}
    model = (TINY if model is None else model) | {"targets": targets or ["vocals"]}
    return RunConfig.parse({"recipe": "test", "model": model, "training": settings | training, **init})


def learner(config: RunConfig, source: Path | None = None) -> Learner:
    execution = Execution("cpu")
    torch.manual_seed(0)
    return Learner(
        config, BatchPlan(2, 1, 1), execution, make_fabric(config.training, execution), read_initial(source, config)
    )


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.plain_model.state_dict().items()}


def update(learner: Learner, samples: int = 800) -> None:
    targets = len(learner.config.model.targets)
    signals = torch.randn(2, targets, 2, samples, generator=torch.Generator().manual_seed(1)) / 10
    learner.backward(Example(signals.sum(dim=1), signals, ["", ""]), last=True)
    learner.update(0.01)


# --- the start -------------------------------------------------------------------------------------------------------


def test_a_run_starts_with_the_weights_of_the_source(source: Path):
    expected = load_file(source)
    for name, tensor in weights(learner(config(source, "drums"), source)).items():
        assert torch.equal(tensor, expected[name])


def test_heads_that_the_source_lacks_start_as_in_a_run_from_random_weights(tmp_path: Path):
    source = write_tiny_model(tmp_path / "source.safetensors", "vocals", seed=5)
    fresh, started = weights(learner(config(None, "drums"))), weights(learner(config(source, "drums"), source))
    for name, tensor in started.items():
        expected = fresh if name.startswith("decoders.drums.") else load_file(source)
        assert torch.equal(tensor, expected[name]), name


def test_a_head_that_shares_a_tensor_with_others_is_cut_out_of_it(tmp_path: Path):
    four = config(None, *FOUR, model=NORMALISED, excerpt_s=0.248).model
    save_model(tmp_path / "four.safetensors", build_model(four), ModelCard(name="f", training_data="", licence=""))
    run = config(tmp_path / "four.safetensors", "drums", model=NORMALISED, excerpt_s=0.248)
    started = weights(learner(run, tmp_path / "four.safetensors"))["leave.2.weight"]
    all_heads = load_file(tmp_path / "four.safetensors")["leave.2.weight"]
    assert torch.equal(started, all_heads.unflatten(0, (4, -1))[FOUR.index("drums")])


def test_a_resumed_run_does_not_start_again(dataset: Dataset, source: Path, tmp_path: Path):
    run = config(source, max_epochs=1)
    result = train(run, dataset, tmp_path, report_to(), init=source)
    assert train(run, dataset, tmp_path, report_to(), init=source, resume=True) == result


# --- frozen parts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", [{"kind": "adamw", "weight_decay": 0.5}, {"kind": "rmsprop"}], ids=lambda one: one["kind"]
)
def test_frozen_parts_end_as_they_began_and_have_no_state(
    dataset: Dataset, source: Path, tmp_path: Path, optimizer: dict[str, Any]
):
    run = config(source, freeze=["encoder", "blocks.*.band"], optimizer=optimizer, average={"decay": 0.5})
    result = train(run, dataset, tmp_path, report_to(), init=source)
    state = torch.load(max(result.best.parent.glob("state-*.pt")), weights_only=True)
    average = {name.removeprefix("module."): tensor for name, tensor in state["average"].items()}
    for name, before in load_file(source).items():
        if name in state["model"]:
            is_frozen = name.startswith(("encoder.", "blocks.0.band."))
            assert torch.equal(state["model"][name], before) == is_frozen, name
            assert torch.equal(average[name], before) == is_frozen, name
    trained = [name for name in state["model"] if not name.startswith(("encoder.", "blocks.0.band."))]
    assert len(state["optimizer"]["state"]) == len(trained)


def test_frozen_parts_get_no_gradients(source: Path):
    learns = learner(config(source, "vocals", freeze=["encoder"]), source)
    signals = torch.randn(2, 1, 2, 800)
    learns.backward(Example(signals[:, 0], signals, ["", ""]), last=True)
    without = {name for name, parameter in learns.plain_model.named_parameters() if parameter.grad is None}
    assert without == {name for name in learns.plain_model.state_dict() if name.startswith("encoder.")}


@pytest.mark.parametrize(
    ("frozen", "moves"),
    [
        (["unet.encoder"], lambda name: not name.startswith("unet.encoder.")),
        (["unet.encoder.*.weight"], lambda name: True),  # weights alone: the statistics go on
    ],
)
def test_statistics_of_frozen_batch_normalisations_do_not_move(
    tmp_path: Path, frozen: list[str], moves: Callable[[str], bool]
):
    plain = config(None, model=NORMALISED, excerpt_s=0.248)
    save_model(tmp_path / "m.safetensors", build_model(plain.model), ModelCard(name="m", training_data="", licence=""))
    run = config(tmp_path / "m.safetensors", model=NORMALISED, excerpt_s=0.248, freeze=frozen)
    learns = learner(run, tmp_path / "m.safetensors")
    before = weights(learns)
    learns.train_mode()
    update(learns, round(0.248 * 8000))
    statistics = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert any(name.startswith("unet.encoder.") for name in statistics)
    for name in statistics:
        assert torch.equal(weights(learns)[name], before[name]) != moves(name), name


# --- identity and records --------------------------------------------------------------------------------------------


def test_the_source_and_the_frozen_parts_belong_to_the_identity_of_a_run(source: Path, tmp_path: Path):
    other = write_tiny_model(tmp_path / "other.safetensors", *FOUR, seed=1)
    runs = [config(None), config(source), config(other), config(source, freeze=["encoder"])]
    assert len({run.hash8() for run in runs}) == len(runs)
    source.rename(tmp_path / "renamed.safetensors")
    assert config(tmp_path / "renamed.safetensors") == runs[1]


def test_a_card_says_what_a_model_started_from(dataset: Dataset, source: Path, tmp_path: Path):
    changes = {"init": file_hash(str(source)), "training.freeze": ["encoder"]}
    run = config(source, freeze=["encoder"]).model_copy(update={"changes": changes})
    _, card = read_card(train(run, dataset, tmp_path, report_to(), init=source).best)
    model = build_model(run.model)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert card.fine_tuning is not None
    assert card.fine_tuning.model_dump() == {
        "source": "small", "source_sha256": file_hash(str(source)), "learning_rate": 0.05 * 2 / 16,
        "frozen": ("encoder",), "loaded_parameters": sum(sizes.values()), "fresh_parameters": 0,
        "frozen_parameters": sum(size for name, size in sizes.items() if name.startswith("encoder.")),
    }  # fmt: skip
    assert card.recipe is None and card.name == "test*"
    assert card.training_data.startswith("first songs; then data: 1 songs, 1 for validation")
    assert card.licence.endswith("and that of small: CC0")


@pytest.mark.parametrize(("saw", "expected"), [(True, True), (False, None), (None, None)])
def test_a_model_that_saw_the_test_songs_hands_this_on(
    dataset: Dataset, tmp_path: Path, saw: bool | None, expected: bool | None
):
    source = write_tiny_model(tmp_path / "s.safetensors", "vocals", card={"saw_test_songs": saw})
    result = train(config(source), dataset, tmp_path, report_to(), init=source)
    assert read_card(result.best)[1].saw_test_songs is expected


def test_a_card_without_a_source_is_read_by_versions_that_know_none(dataset: Dataset, tmp_path: Path):
    result = train(config(None), dataset, tmp_path, report_to())
    with safe_open(result.best, framework="np") as file:
        assert "fine_tuning" not in json.loads(file.metadata()["card"])


def test_what_is_loaded_fresh_unused_and_frozen_is_described(tmp_path: Path):
    source = write_tiny_model(tmp_path / "source.safetensors", "vocals", "bass")
    run = config(source, "vocals", "drums", freeze=["blocks"], model=TINY | {"mixture_consistency": True})
    initial = read_initial(source, run)
    assert initial is not None
    rows = dict(describe_initial(initial, run))
    sizes = {name: parameter.numel() for name, parameter in build_model(run.model).named_parameters()}

    def counted(part: str) -> str:
        own = [size for name, size in sizes.items() if name.startswith(f"{part}.")]
        return f"{sum(own):,} parameters in {len(own)} tensors: {part}"

    assert rows["start"] == f"small, {source}: heads of vocals, not of bass"
    assert rows["loaded"].endswith(": encoder, blocks, decoders.vocals")
    assert rows["fresh"] == counted("decoders.drums")
    assert rows["unused"] == "nothing"
    assert rows["frozen"] == counted("blocks")
    assert rows["other settings"] == "the source has model.mixture_consistency=false"


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ["encodr"]}, "training.freeze: 'encodr' matches no tensor of the model; did you mean 'encoder'?"),
        ({"freeze": ["blocks.1"]}, "training.freeze: 'blocks.1' matches no tensor of the model; did you mean 'blocks"),
        ({"freeze": ["zzz"]}, "'zzz' matches no tensor of the model; its parts: encoder, blocks, decoders"),
        ({"freeze": ["encoder", "*"]}, "training.freeze: encoder, * leaves nothing to train; freeze less"),
    ],
)
def test_frozen_parts_that_do_not_exist_are_named_with_the_nearest(source: Path, settings: Any, message: str):
    with pytest.raises(ConfigError) as caught:
        config(source, **settings)
    assert message in str(caught.value)


def test_random_weights_are_not_frozen():
    with pytest.raises(ConfigError, match="random weights would never be trained; name a model to start from, --init"):
        config(None, freeze=["encoder"])


def test_a_source_that_does_not_fit_is_refused_with_the_settings_that_would(source: Path):
    run = config(source, model=TINY | {"n_features": 8, "mask": {"hidden_factor": 2}})
    with pytest.raises(ModelFileError) as caught:
        read_initial(source, run)
    text = str(caught.value)
    assert text.startswith(f"{source}: cannot be the start of this run: ")
    assert "misshapen: encoder.projections.0.weight" in text
    assert text.endswith("; give the run its settings: --set model.n_features=4 --set model.mask.hidden_factor=1")


def test_a_source_of_another_family_is_refused(source: Path):
    with pytest.raises(ModelFileError, match="is of the family 'bsrnn', but this run trains one of 'tfc_tdf'; choose"):
        read_initial(source, config(source, model=NORMALISED, excerpt_s=0.248))


def test_a_source_is_the_one_that_the_run_was_made_with(dataset: Dataset, source: Path, tmp_path: Path):
    other = write_tiny_model(tmp_path / "other.safetensors", *FOUR, seed=1)
    wrong: list[tuple[Path | None, RunConfig, str]] = [
        (other, config(source), f"init: {other} has the SHA-256 {file_hash(str(other))}, the run starts from "),
        (None, config(source), "init: the run starts from the model with SHA-256 "),
        (source, config(None), f"init: {source} is named, but the run's init is null"),
    ]
    for init, run, message in wrong:
        with pytest.raises(BandsplitError) as caught:
            train(run, dataset, tmp_path / "runs", report_to(), init=init)
        assert str(caught.value).startswith(message)
    assert not (tmp_path / "runs").exists()


def test_an_existing_run_from_a_model_is_refused_unless_resumed(dataset: Dataset, source: Path, tmp_path: Path):
    train(config(source), dataset, tmp_path, report_to(), init=source)
    with pytest.raises(RunError, match="this run exists; add --resume"):
        train(config(source), dataset, tmp_path, report_to(), init=source)


def test_runs_of_recipes_can_be_changed_by_a_source(source: Path):
    changed = find_recipe("base").run_config(["vocals"], changes={"init": file_hash(str(source))})
    assert changed.init == file_hash(str(source)) and changed.changes
    assert load_model(source).config.targets == FOUR
