"""Names and shapes of tensors from a configuration, held to the networks that are built from it."""

import pytest
import torch

from bandsplit.core.errors import ConfigError
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.contract import ModelConfig
from bandsplit.models.families import tensor_shapes
from bandsplit.models.network import build_model
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES

SMALL = {"targets": ["vocals", "bass"], "bands": [[500, 4], [900, 2]], "n_features": 8, "n_blocks": 2}
VARIANTS = {
    "residual, heads": {"residual": "bass", "heads": 2},
    "attention, TAC with a norm": {"attention": {"heads": 2}, "stereo": {"kind": "tac", "norm": True}},
    "TAC with tanh": {"stereo": {"kind": "tac", "activation": "tanh", "hidden_factor": 2}},
    "merged, gru": {"stereo": {"kind": "merged"}, "time": {"kind": "gru", "hidden_factor": 3}, "band": None},
    "dilated": {"time": None, "band": {"kind": "dilated", "depth": 4, "kernel": 5, "hidden_factor": 2}},
    "dilated once": {"band": {"kind": "dilated", "depth": 1}, "heads": 4},
    "conv": {"time": {"kind": "conv", "kernel": 5}, "mask": {"hidden_layers": 3, "context": 2, "hidden_factor": 1}},
    "one hidden layer": {"mask": {"hidden_layers": 1}},
}


def built(config: ModelConfig) -> list[tuple[str, tuple[int, ...]]]:
    with torch.device("meta"):
        return [(name, tuple(tensor.shape)) for name, tensor in build_model(config).state_dict().items()]


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_are_those_of_the_built_network(variant: str):
    config = BsrnnConfig.parse(SMALL | VARIANTS[variant])
    assert list(tensor_shapes(config)) == built(config)


@pytest.mark.slow
def test_shapes_of_every_recipe_are_those_of_the_built_network():
    for recipe in RECIPES.values():
        for config in recipe.all_run_configs():
            assert list(tensor_shapes(config.model)) == built(config.model), recipe.id


def test_counting_builds_nothing():
    config = BsrnnConfig.parse({"targets": ["vocals"], "bands": "vocals", "n_features": 4096, "n_blocks": 64})
    assert count_parameters(config) > 10**11


@pytest.mark.parametrize(
    "change", [{"n_features": 10**6}, {"n_blocks": 1000, "n_features": 256}, {"mask": {"hidden_factor": 10**6}}]
)
def test_a_network_that_no_machine_can_hold_is_refused_before_it_is_built(change: dict[str, object]):
    config = BsrnnConfig.parse({"targets": ["vocals"], "bands": "vocals"} | change)
    message = r"model: has more than 2,147,483,648 parameters or 100,000 tensors with n_features .*; make it smaller"
    with pytest.raises(ConfigError, match=message):
        build_model(config)


def test_a_network_of_too_many_tensors_is_refused_before_it_is_built():
    targets = [f"t{number}" for number in range(100)]
    bands = [[hz, 1] for hz in (*[40, 20] * 300,)]
    config = BsrnnConfig.parse({"targets": targets, "bands": bands, "n_features": 1, "stft": {"n_fft": 8192}})
    with pytest.raises(ConfigError, match=r"or 100,000 tensors with n_features .*, 100 target\(s\)"):
        build_model(config)
