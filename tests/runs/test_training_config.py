"""Losses, optimisers and schedules as settings: earlier names, mistakes, names of folders."""

from pathlib import Path
from typing import Any

import pytest

from bandsplit.core.errors import ConfigError
from bandsplit.models.families import tensor_shapes
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.runs.config import RunConfig, TrainingConfig
from bandsplit.runs.losses import DomainLoss, MaskedMseLoss


def base(**changes: Any) -> RunConfig:
    dotted = {f"training.{path.replace('__', '.')}": value for path, value in changes.items()}
    return find_recipe("base").run_config(["vocals"], changes=dotted)


def test_the_loss_can_be_given_by_its_earlier_names():
    expected = DomainLoss(domain="tf", time_weight=2.0, spectrogram_weight=3.0)
    earlier = {"loss_domain": "tf", "time_weight": 2.0, "spectrogram_weight": 3.0}
    assert TrainingConfig.parse(earlier).loss == expected
    assert (
        TrainingConfig.parse({"loss_domain": "tf", "loss": {"time_weight": 2, "spectrogram_weight": 3}}).loss
        == expected
    )
    assert base(loss_domain="tf").training == base(loss__domain="tf").training
    assert find_recipe("loss-tf").run_config(["vocals"], changes={"training.time_weight": 2.0}).training.loss == (
        DomainLoss(domain="tf", time_weight=2.0)
    )


def test_a_run_is_stored_by_the_current_names_and_read_as_it_was():
    config = base(loss_domain="t")
    stored = config.model_dump(mode="json")
    assert stored["training"]["loss"] == {
        "kind": "l1-domains", "domain": "t", "time_weight": 1.0, "spectrogram_weight": 1.0
    }  # fmt: skip
    assert RunConfig.parse(stored) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_domain": "q"}, "domain: Input should be 't', 'tf' or 't+tf' (got 'q')"),
        ({"loss_domain": "tf", "loss": {"domain": "t"}}, "loss_domain: is the earlier name of loss.domain, which is"),
        ({"time_weight": 2, "loss": {"kind": "mse-waveform"}},
         "time_weight: belongs to the loss 'l1-domains', but loss.kind is 'mse-waveform'; drop it"),
        ({"loss_domain": "t", "loss": 3}, "loss_domain: belongs to the loss 'l1-domains', but loss.kind is 3"),
        ({"loss": {"kind": "l2"}}, "loss: Input tag 'l2' found using 'kind' does not match any of the expected tags: "
         "'l1-domains', 'l1-waveform', 'mse-waveform', 'multi-resolution-stft', 'masked-mse'"),
        ({"loss": {"kind": "l1-waveform", "domain": "t"}}, "unknown key 'domain'; legal: kind, weights"),
        ({"loss": {"kind": "l1-waveform", "weights": {"bass": -1}}}, "weights.bass: Input should be greater than or"),
        ({"loss": {"kind": "masked-mse", "quantile": 1}}, "quantile: Input should be less than 1"),
        ({"loss": {"kind": "multi-resolution-stft", "windows": []}}, "windows: "),
        ({"loss": {"kind": "masked-mse", "coarse": True}, "batch_size": 1},
         "a step of 1 with loss.coarse teaches nothing, since one example is never below the quantile of itself; use "
         "steps of at least 2, or set loss.coarse to false"),
        ({"optimizer": {"kind": "sgd"}}, "expected tags: 'adam', 'adamw', 'rmsprop'"),
        ({"optimizer": {"kind": "rmsprop", "amsgrad": True}}, "unknown key 'amsgrad'; legal: kind"),
        ({"decay": {"kind": "step-updates"}}, "every_updates: Field required"),
        ({"precision": "fp8"}, "precision: Input should be 'fp32', 'tf32', 'bf16' or 'fp16'"),
        ({"warm_up_updates": -1}, "warm_up_updates: Input should be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_is_legal(settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as caught:
        TrainingConfig.parse(settings)
    assert message in str(caught.value)


def test_settings_that_did_not_exist_change_the_folder_only_when_they_are_used(tmp_path: Path):
    plain = base()
    assert plain.folder_in(tmp_path).name == "seed-0-a1224cd2"
    by_hand = base(loss_domain="tf", time_weight=2.0, optimizer__kind="adamw", average={"decay": 0.9})
    assert by_hand.hash8() == "530ac0f7"
    assert base(average={"kind": "single", "decay": 0.9}).training == base(average={"decay": 0.9}).training
    training = plain.training.model_dump() | {"warm_up_updates": 0, "optimizer": {"kind": "adam", "amsgrad": False}}
    assert plain.model_copy(update={"training": TrainingConfig.parse(training)}).hash8() == plain.hash8()
    used = [
        {"loss": MaskedMseLoss()}, {"loss": MaskedMseLoss(coarse=True)}, {"warm_up_updates": 1}, {"clip_norm": None},
        {"optimizer": {"kind": "adam", "amsgrad": True}}, {"optimizer": {"kind": "rmsprop"}},
        {"decay": {"kind": "constant"}}, {"loss": {"kind": "l1-domains", "domain": "t"}},
        {"average": {"decay": 0.999}}, {"average": {"kind": "competing", "update_decays": [0.999]}},
        {"optimizer": {"kind": "adamw"}}, {"optimizer": {"kind": "adamw", "decayed": ["decoders"]}},
        {"loss": {"kind": "l1-waveform"}}, {"loss": {"kind": "l1-waveform", "weights": {"vocals": 2.0}}},
        {"mixing": {"augment": {"retune_probability": 0.2}}},
    ]  # fmt: skip
    hashes = [plain.model_copy(update={"training": TrainingConfig.parse(training | change)}).hash8() for change in used]
    assert len({plain.hash8(), *hashes}) == len(used) + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"kind": "l1-waveform", "weights": {"vocal": 1}}},
         "training.loss.weights: vocal is not a target of the model; legal: vocals"),
        ({"loss": {"kind": "l1-waveform", "weights": {"vocals": 0}}},
         "training.loss.weights: the weights of vocals are all 0; give one of them more"),
        ({"optimizer": {"kind": "adamw", "decayed": ["decoder"]}},
         "training.optimizer.decayed: 'decoder' matches no tensor of the model; did you mean 'decoders'?"),
    ],
)  # fmt: skip
def test_names_must_be_those_of_the_model(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as caught:
        base(**changes)
    assert message in str(caught.value)


def test_parts_that_decay_are_named_by_their_beginnings_or_by_patterns():
    def decayed(*names: str) -> frozenset[str]:
        return base(optimizer={"kind": "adamw", "decayed": names}).decayed_tensors

    everything = {name for name, _ in tensor_shapes(base().model)}
    assert decayed() == base().decayed_tensors == frozenset()
    assert decayed("blocks") == {name for name in everything if name.startswith("blocks.")}
    assert decayed("blocks.0", "*.bias") == {n for n in everything if n.startswith("blocks.0.") or n.endswith(".bias")}
