"""Every recipe parses, builds on the meta device and has the published number of parameters."""

import pytest

from bandsplit.core.errors import ConfigError
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES, find_recipe
from bandsplit.recipes.recipe import apply_changes
from bandsplit.runs.config import RunConfig

PAPER = {  # Table II's rows with an architecture of their own, and the authors' numbers for shared encoders
    "base": "32.3", "stft-4096": "37.1", "mask-factor-2": "20.6", "large": "146.7", "naive-stereo": "37.1",
    "naive-stereo-mask-8": "81.1", "tac-tanh": "34.7", "tac-prelu": "34.7", "bscnn": "29.7", "attention-1x8": "33.0",
    "attention-2x16": "33.2", "multi-head-2": "22.0", "optimised-no-tac": "149.9", "optimised": "164.1",
    "simo-residual": "20.86", "simo": "26.62", "simo-optimised": "108.73",
}  # fmt: skip


@pytest.mark.parametrize("id", PAPER)
def test_parameters_match_the_paper_to_the_printed_digit(id: str):
    count = sum(count_parameters(config.model) for config in RECIPES[id].all_run_configs())
    digits = len(PAPER[id].partition(".")[2])
    assert f"{count / 1e6:.{digits}f}" == PAPER[id]
    assert RECIPES[id].parameters_m == float(PAPER[id])


def test_every_architecture_of_the_paper_is_a_recipe():
    layers = {f"layers-{time}-{band}" for time in ("lstm", "gru", "conv") for band in ("lstm", "gru", "conv")}
    others = {"demo", "joint-bands", *layers} - {"layers-lstm-lstm"}  # which is the base model
    found = {id for id, recipe in RECIPES.items() if recipe.architecture}
    assert found == {*PAPER, *others}


def test_small_counterparts_change_their_base_as_the_paper_does():
    small = [recipe for recipe in RECIPES.values() if recipe.counterpart]
    assert len(small) == 9
    for recipe in small:
        assert recipe.counterpart is not None and recipe.id == f"mini-{recipe.counterpart}"
        if recipe.counterpart not in ("base", "large"):
            assert recipe.parent == "mini-base" and recipe.changes == RECIPES[recipe.counterpart].changes
    assert RECIPES["mini-large"].changes.keys() < RECIPES["large"].changes.keys()


def test_layers_of_the_layer_table_are_as_wide_as_those_of_the_base_model():
    settings = {
        id: find_recipe(id).run_config(["vocals"]).model.model_dump()
        for id in ("base", "layers-gru-gru", "layers-conv-conv")
    }
    layers = {
        id: [(model[axis]["kind"], model[axis]["hidden_factor"]) for axis in ("time", "band")]
        for id, model in settings.items()
    }
    # A convolution is as wide as both directions of the LSTM.
    assert layers == {
        "base": [("lstm", 2)] * 2,
        "layers-gru-gru": [("gru", 2)] * 2,
        "layers-conv-conv": [("conv", 4)] * 2,
    }
    assert find_recipe("layers-conv-gru").changes == {"model.time": {"kind": "conv"}, "model.band": {"kind": "gru"}}


def n_bands(config: RunConfig) -> int:
    assert isinstance(config.model, BsrnnConfig)
    return config.model.n_bands


def test_the_ladder_of_shared_encoders_changes_one_thing_at_each_rung():
    joint, residual, simo, optimised = (
        RECIPES[id] for id in ("joint-bands", "simo-residual", "simo", "simo-optimised")
    )
    assert n_bands(joint.run_config(["bass"])) == n_bands(joint.run_config(["drums"])) == 57
    assert joint.run_config(["bass"]).training == simo.run_config().training == residual.run_config().training
    assert residual.parent == optimised.parent == "simo"
    assert residual.changes == {"model.residual": "other"}


def test_rows_carry_the_numbers_of_the_table():
    rows = {recipe.row: recipe.id for recipe in RECIPES.values() if recipe.row}
    assert rows == {
        "1": "base", "2": "accumulate-gradients", "3": "monitor-loss", "4": "loss-time", "5": "loss-tf",
        "6": "stft-4096", "7": "mask-factor-2", "8": "large", "9": "large-patience-30", "10": "naive-stereo",
        "11": "naive-stereo-mask-8", "12": "tac-tanh", "13": "tac-prelu", "14": "bscnn", "15": "attention-1x8",
        "16": "attention-2x16", "17": "multi-head-2", "18": "silent-target",
        "19": "no-activity-detection", "20": "optimised-no-tac", "20b": "optimised",
    }  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.id)
def test_a_recipe_differs_from_its_parent_only_in_what_it_lists(recipe):
    if recipe.parent:
        assert recipe.settings == apply_changes(RECIPES[recipe.parent].settings, recipe.changes)


def test_an_unknown_recipe_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="no recipe is named 'optimized'; did you mean 'optimised'"):
        find_recipe("optimized")


def test_a_model_per_target_needs_a_target():
    with pytest.raises(ConfigError, match="trains one model per target: name one of vocals, bass, drums, other"):
        find_recipe("base").run_config()
    with pytest.raises(ConfigError, match="one model per target, got vocals, bass; run it for each"):
        find_recipe("base").run_config(["vocals", "bass"])


def test_a_target_without_a_band_scheme_is_refused_unless_one_is_chosen():
    with pytest.raises(ConfigError, match="target 'piano' has no band scheme of its own"):
        find_recipe("base").run_config(["piano"])
    config = find_recipe("base").run_config(["piano"], changes={"model.bands": "joint"})
    assert n_bands(config) == 57
    assert config.changes == {"model.bands": "joint"}


def test_a_changed_setting_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'n_blocks'"):
        find_recipe("base").run_config(["vocals"], changes={"model.n_block": 3})
    with pytest.raises(ConfigError, match="'n_fft' is 4096 and has no field 'x'"):
        find_recipe("stft-4096").run_config(["vocals"], changes={"model.stft.n_fft.x": 3})


def test_the_hash_tells_runs_apart():
    base = find_recipe("base")
    configs = [base.run_config(["vocals"]), base.run_config(["bass"]), base.run_config(["vocals"], seed=1)]
    assert len({config.hash8() for config in configs}) == 3
