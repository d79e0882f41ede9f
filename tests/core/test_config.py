"""Configurations: strict, immutable, and clear about what is wrong."""

from typing import Any

import pytest
from pydantic import ValidationError

from bandsplit.core.config import Config
from bandsplit.core.errors import ConfigError
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.chunk_config import CrossfadeConfig, OverlapAddConfig
from bandsplit.runs.config import TrainingConfig

PLAIN: dict[str, Any] = {"targets": ["vocals", "bass"], "bands": "joint"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_feature": 3}, "unknown key 'n_feature'; did you mean 'n_features'?"),
        ({"zzz": 3}, "unknown key 'zzz'; legal: family, targets"),
        ({"mask": {"hidden_facto": 3}}, "mask: unknown key 'hidden_facto'; did you mean 'hidden_factor'?"),
        (
            {"bands": "vocal"},
            "bands: no band scheme is named 'vocal'; legal: vocals, other, bass, drums, joint, or a list",
        ),
        ({"bands": [[20000, 2]]}, "past the Nyquist frequency of 22050 Hz"),
        ({"bands": [[10, 2]]}, "a band of 10 Hz is narrower than one bin (21.5 Hz"),
        ({"bands": []}, "bands: must be a list of (width in Hz > 0, count >= 1) pairs"),
        ({"targets": []}, "must name at least one target, each once"),
        ({"targets": ["a", "a"]}, "must name at least one target, each once"),
        ({"targets": ["a/b"]}, "['a/b'] cannot be file names of stems"),
        ({"heads": 3}, "heads: 3 does not divide n_features 64; legal: 1, 2, 4, 8, 16, 32, 64"),
        ({"norm_groups": 5}, "norm_groups: 5 does not divide n_features / heads = 64"),
        ({"attention": {"heads": 5}}, "attention.heads: 5 does not divide n_features 64; legal: 1, 2, 4"),
        ({"residual": "drums"}, "residual: 'drums' is not a target; legal: vocals, bass, or null"),
        ({"targets": ["bass"], "residual": "bass"}, "residual: needs at least 2 targets"),
        ({"targets": ["bass"], "mixture_consistency": True}, "mixture_consistency: needs at least 2 targets"),
        (
            {"residual": "bass", "mixture_consistency": True},
            "with residual 'bass' targets sum to the mixture already",
        ),
        ({"channels": 1, "stereo": {"kind": "tac"}}, "stereo: kind 'tac' needs at least 2 channels, and channels is 1"),
        ({"channels": 1, "stereo": {"kind": "merged"}}, "legal: 'independent'"),
        ({"stereo": {"kind": "mono"}}, "'independent', 'merged', 'tac'"),
        (
            {"stereo": {"kind": "tac", "activation": "relu"}},
            "stereo.tac.activation: Input should be 'tanh' or 'prelu' (got 'relu')",
        ),
        ({"time": {"kind": "conv", "kernel": 4}}, "time.conv.kernel: must be odd; 3 and 5 are legal (got 4)"),
        ({"time": {"kind": "transformer"}}, "'lstm', 'gru', 'conv', 'dilated'"),
        ({"stft": {"hop_samples": 1500}}, "n_fft 2048 and hop_samples 1500"),
        ({"n_features": 10**12}, "n_features: Input should be less than or equal to 1000000 (got 1000000000000)"),
        ({"n_blocks": 0}, "n_blocks: Input should be greater than or equal to 1 (got 0)"),
        ({"mask": {"context": -1}}, "mask.context: Input should be greater than or equal to 0 (got -1)"),
    ],
)
def test_a_mistake_is_refused_with_its_field_and_the_legal_values(change: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as caught:
        BsrnnConfig.parse(PLAIN | change)
    assert message in str(caught.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        BsrnnConfig.parse(PLAIN | {"n_blocks": 0, "n_features": "many"})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixing": {"gain": {"kind": "linear", "low": 2, "high": 1}}}, "gain: low 2 is above high 1"),
        ({"examples_per_epoch": 1}, "is less than one update of batch_size 2 x accumulate 1"),
        ({"mixing": {"swap_probability": 1.5}}, "swap_probability: Input should be less than or equal to 1 (got 1.5)"),
        ({"learning_rate": float("nan")}, "learning_rate: Input should be a finite number"),
    ],
)
def test_training_settings_are_checked_too(change: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as caught:
        TrainingConfig.parse(change)
    assert message in str(caught.value)


def test_chunk_settings_are_checked_too():
    with pytest.raises(ConfigError, match="hop_s 4 leaves gaps between chunks of chunk_s 3"):
        OverlapAddConfig.parse({"hop_s": 4})
    with pytest.raises(ConfigError, match=r"overlap: Input should be less than 0\.5"):
        CrossfadeConfig.parse({"overlap": 0.5})


def test_a_named_scheme_is_stored_in_hz():
    bands = BsrnnConfig.parse(PLAIN).bands
    assert isinstance(bands, tuple) and bands[0] == (50, 20)


def test_a_config_survives_json_and_keeps_its_hash():
    config = BsrnnConfig.parse(PLAIN | {"stereo": {"kind": "tac"}, "time": {"kind": "dilated"}, "band": None})
    again = BsrnnConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.hash8() == config.hash8()
    assert BsrnnConfig.parse(PLAIN).hash8() != config.hash8()


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        BsrnnConfig.parse(PLAIN).n_blocks = 3  # type: ignore[misc]


def test_every_field_is_documented():
    def undocumented(model: type) -> list[str]:
        return [
            f"{model.__name__}.{name}"
            for name, field in model.model_fields.items()
            if name != "kind" and not field.description
        ]

    from bandsplit.data.examples import mixing
    from bandsplit.models.bsrnn import config as network
    from bandsplit.runs import config, losses, optimisers

    configs = {
        found
        for module in (network, mixing, config, losses, optimisers)
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Config)
    }
    assert len(configs) > 25
    assert [name for config in configs for name in undocumented(config)] == []
