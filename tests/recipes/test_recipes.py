"""Every recipe parses, builds on the meta device and has the published number of parameters."""

import pytest

from bandsplit.core.errors import ConfigError
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES, find_recipe
from bandsplit.recipes.recipe import Recipe, apply_changes
from bandsplit.runs.config import RunConfig

PAPER = {  # Table II's rows with an architecture of their own, and the authors' numbers for shared encoders
    "base": "32.3", "stft-4096": "37.1", "mask-factor-2": "20.6", "large": "146.7", "naive-stereo": "37.1",
    "naive-stereo-mask-8": "81.1", "tac-tanh": "34.7", "tac-prelu": "34.7", "bscnn": "29.7", "attention-1x8": "33.0",
    "attention-2x16": "33.2", "multi-head-2": "22.0", "optimised-no-tac": "149.9", "optimised": "164.1",
    "simo-residual": "20.86", "simo": "26.62", "simo-optimised": "108.73",
}  # fmt: skip


HASHES = {  # of the vocals, or of the shared model, as the folders of runs are named
    "base": "a1224cd2", "accumulate-gradients": "2799d879", "monitor-loss": "cf7fd9ee", "loss-time": "a0360a9b",
    "loss-tf": "860e6541", "stft-4096": "8e8f63db", "mask-factor-2": "4c5f4f8f", "large": "014fe62e",
    "large-patience-30": "efd1d840", "naive-stereo": "73e10269", "naive-stereo-mask-8": "2f15f150",
    "tac-tanh": "1661f0dc", "tac-prelu": "35e91860", "bscnn": "00c1b9cf", "attention-1x8": "13a4ca47",
    "attention-2x16": "041a1db3", "multi-head-2": "38bef52f", "silent-target": "33492ac8",
    "pairing-epoch": "7cabc61c", "ladder-1-drop": "996127d6", "ladder-2-pairing": "4465d8ed",
    "ladder-3-peak-normalise": "b3edfde9", "ladder-4-activity": "1f3800ad", "ladder-5-gain": "943a1d7a",
    "no-activity-detection": "919968b9", "optimised-no-tac": "22111ce7", "optimised": "bf1c9404",
    "base-patience-30": "9027fcd1", "layers-lstm-gru": "02f6a990", "layers-lstm-conv": "0f9eaf8c",
    "layers-gru-lstm": "72a26b9a", "layers-gru-gru": "5409ab73", "layers-gru-conv": "7d75771c",
    "layers-conv-lstm": "5c5138e6", "layers-conv-gru": "4b1842d1", "layers-conv-conv": "deda7e4f",
    "joint-bands": "6d9e257a", "simo-residual": "6bfce6f2", "simo": "bde2cd08", "simo-optimised": "db161a57",
    "demo": "8f9515dc", "mini-base": "2e3f32bc", "mini-large": "f7f5918b", "mini-naive-stereo": "e6ae9da4",
    "mini-tac-prelu": "1748547f", "mini-bscnn": "2c3a4334", "mini-attention-2x16": "147973a2",
    "mini-multi-head-2": "d7db8002", "mini-layers-gru-gru": "e89436b4", "mini-layers-conv-conv": "80db534f",
}  # fmt: skip


@pytest.mark.parametrize("id", PAPER)
def test_parameters_match_the_paper_to_the_printed_digit(id: str):
    count = sum(count_parameters(config.model) for config in RECIPES[id].all_run_configs())
    digits = len(PAPER[id].partition(".")[2])
    assert f"{count / 1e6:.{digits}f}" == PAPER[id]
    assert RECIPES[id].parameters_m == float(PAPER[id])


def of_the_paper(recipe: Recipe) -> bool:
    return "family" not in recipe.settings["model"]


def test_every_architecture_of_the_paper_is_a_recipe():
    layers = {f"layers-{time}-{band}" for time in ("lstm", "gru", "conv") for band in ("lstm", "gru", "conv")}
    others = {"demo", "joint-bands", *layers} - {"layers-lstm-lstm"}  # which is the base model
    found = {id for id, recipe in RECIPES.items() if recipe.architecture and of_the_paper(recipe)}
    assert found == {*PAPER, *others}


def test_small_counterparts_change_their_base_as_the_paper_does():
    small = [recipe for recipe in RECIPES.values() if recipe.counterpart and of_the_paper(recipe)]
    assert len(small) == 10
    for recipe in small:
        assert recipe.counterpart is not None and recipe.id == f"mini-{recipe.counterpart}"
        if recipe.counterpart not in ("base", "large", "semi-supervised"):
            assert recipe.parent == "mini-base" and recipe.changes == RECIPES[recipe.counterpart].changes
    assert RECIPES["mini-large"].changes.keys() < RECIPES["large"].changes.keys()
    lengths = {"training.max_epochs", "training.validate_every"}
    assert RECIPES["mini-semi-supervised"].changes.keys() - lengths == RECIPES["semi-supervised"].changes.keys()


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


def test_folders_of_runs_keep_their_names():
    configs = {id: RECIPES[id].run_config(() if RECIPES[id].shared else ["vocals"]) for id in HASHES}
    assert {id: config.hash8() for id, config in configs.items()} == HASHES


def test_settings_that_differ_between_targets_go_to_the_models_of_those():
    base = find_recipe("base")
    narrow = base.vary("narrow", "a narrow bass", {}, by_target={"bass": {"model.n_features": 32}})
    for recipe in (narrow, narrow.vary("narrower", "a change of it", {"training.patience": 3})):
        widths = {target: recipe.run_config([target]).model.model_dump()["n_features"] for target in ("bass", "drums")}
        assert widths == {"bass": 32, "drums": 64}
    by_hand = narrow.run_config(["bass"], changes={"model.n_features": 16})
    assert by_hand.model.model_dump()["n_features"] == 16


def test_what_a_publication_leaves_open_is_a_setting_of_its_recipe():
    for recipe in RECIPES.values():
        config = recipe.all_run_configs()[0].model_dump()
        for path in recipe.unknown:
            level = config
            for key in path.split("."):
                assert key in level, f"{recipe.id}: unknown: {path}"
                level = level[key]
