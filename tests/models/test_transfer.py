"""Transfer of weights between networks of other targets, in every family: what is loaded, and what is a head."""

import pytest

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import ModelConfig
from bandsplit.models.families import tensor_shapes
from bandsplit.models.tensors import cover, find_tensors
from bandsplit.models.transfer import Transfer, differing_settings, plan_transfer
from bandsplit.recipes.catalogue import find_recipe
from tiny_models import tiny_config

FOUR = ("vocals", "bass", "drums", "other")


def config(recipe: str, *targets: str, **changes: object) -> ModelConfig:
    """Return the network of a recipe for any targets."""
    first = find_recipe(recipe).all_run_configs()[0].model
    return type(first).parse(first.model_dump() | {"targets": targets or first.targets} | changes)


def names(config: ModelConfig) -> list[str]:
    return [name for name, _ in tensor_shapes(config)]


def heads(transfer: Transfer, source: ModelConfig, ours: ModelConfig) -> tuple[list[str], list[str]]:
    """Return the parts that are fresh, and the unused parts of the source, after a look at the sums."""
    assert sorted([*transfer.loaded, *transfer.fresh]) == sorted(names(ours))
    assert set(transfer.loaded) <= {*names(source)} and not set(transfer.loaded) & set(transfer.unused)
    both = [*names(ours), *names(source)]
    return cover(transfer.fresh, both), cover(transfer.unused, both)


@pytest.mark.parametrize(
    ("recipe", "fresh", "unused"),
    [
        ("base", [], ["decoders.bass", "decoders.drums", "decoders.other"]),
        ("simo-residual", [], ["decoders.bass", "decoders.drums"]),  # the residual has no decoder
        ("bs-roformer", [], ["estimators.bass", "estimators.drums", "estimators.other"]),
        ("htdemucs", ["decoder.3.conv_tr", "tdecoder.3.conv_tr"], ["decoder.3.conv_tr", "tdecoder.3.conv_tr"]),
        ("hdemucs", ["decoder.5.conv_tr", "tdecoder.4.conv_tr"], ["decoder.5.conv_tr", "tdecoder.4.conv_tr"]),
        ("kuielab-a", ["leave.2"], ["leave.2"]),
        ("presunet", ["heads.0"], ["heads"]),
    ],
)
def test_a_model_of_four_targets_starts_one_of_one_target_without_the_heads_of_others(
    recipe: str, fresh: list[str], unused: list[str]
):
    source = config(recipe, *FOUR)
    ours = config(recipe, "vocals", **({"residual": None} if recipe == "simo-residual" else {}))
    assert heads(plan_transfer(source, ours), source, ours) == (fresh, unused)


@pytest.mark.parametrize("recipe", ["base", "bs-roformer", "htdemucs", "kuielab-a", "presunet", "dttnet", "mdx-net"])
def test_a_model_of_the_same_targets_is_loaded_completely(recipe: str):
    source = config(recipe)
    assert plan_transfer(source, source) == Transfer(tuple(names(source)), (), ())


@pytest.mark.parametrize("recipe", ["kuielab-c3", "presunet", "dttnet", "mdx-net"])
def test_a_single_head_without_a_name_is_loaded_for_another_target(recipe: str):
    source, ours = config(recipe, "vocals"), config(recipe, "drums")
    assert plan_transfer(source, ours) == Transfer(tuple(names(ours)), (), ())


@pytest.mark.parametrize(("recipe", "fresh"), [("base", ["decoders.drums"]), ("bs-roformer", ["estimators.drums"])])
def test_a_single_head_with_a_name_is_not(recipe: str, fresh: list[str]):
    source, ours = config(recipe, "vocals"), config(recipe, "drums")
    unused = [part.replace("drums", "vocals") for part in fresh]
    assert heads(plan_transfer(source, ours), source, ours) == (fresh, unused)


@pytest.mark.parametrize(
    ("recipe", "fresh"),
    [("base", []), ("bs-roformer", []), ("htdemucs", ["decoder.3.conv_tr", "tdecoder.3.conv_tr"]),
     ("kuielab-a", ["leave.2"]), ("presunet-joint", ["heads"])],
)  # fmt: skip
def test_heads_without_names_are_not_loaded_in_another_order(recipe: str, fresh: list[str]):
    source = config(recipe, *FOUR)
    ours = config(recipe, *reversed(FOUR))
    assert heads(plan_transfer(source, ours), source, ours)[0] == fresh


def test_other_differences_than_targets_are_errors_with_the_names():
    source = tiny_config("vocals", "bass")
    with pytest.raises(ModelFileError) as caught:
        plan_transfer(source, tiny_config("vocals", n_features=8))
    assert "misshapen: encoder.projections.0.weight is (4, " in str(caught.value)
    with pytest.raises(ModelFileError, match=r"missing: blocks\.1\.time\.layer\.norm\.weight"):
        plan_transfer(source, tiny_config("vocals", n_blocks=2))
    with pytest.raises(ModelFileError, match=r"unexpected: blocks\.0\.band\.layer\.norm\.weight"):
        plan_transfer(source, tiny_config("vocals", band=None))
    with pytest.raises(ModelFileError, match=r"misshapen: decoders\.<target-1>\.enter"):
        plan_transfer(source, tiny_config("drums", mask={"hidden_factor": 2}))
    with pytest.raises(ModelFileError, match="is of the family 'bsrnn', but this run trains one of 'presunet'"):
        plan_transfer(source, config("presunet"))


def test_differing_settings_are_listed_as_the_source_has_them():
    ours = tiny_config("vocals", mask={"hidden_factor": 2}, time={"kind": "conv"}).model_dump(mode="json")
    found = differing_settings(tiny_config("vocals", n_features=8).model_dump(mode="json"), ours)
    assert found == [
        "model.n_features=8", 'model.time={"kind": "lstm", "hidden_factor": 2}', "model.mask.hidden_factor=1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("encoder", ["encoder"]),
        ("blocks.0.time", ["blocks.0.time"]),
        ("blocks.*.band", ["blocks.0.band", "blocks.1.band"]),
        ("*.norm", ["blocks.0.time.layer.norm", "blocks.0.band.layer.norm", "blocks.1.time.layer.norm",
                    "blocks.1.band.layer.norm"]),
        ("decoders.vocals.enter.bias", ["decoders.vocals.enter.bias"]),
        ("*", ["encoder", "blocks", "decoders"]),
    ],
)  # fmt: skip
def test_parts_are_named_by_their_beginnings_or_by_patterns(pattern: str, parts: list[str]):
    model = tiny_config("vocals", "bass", n_blocks=2)
    found = find_tensors(model, [pattern])
    assert cover([name for name in names(model) if name in found], names(model)) == parts
