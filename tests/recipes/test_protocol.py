"""The systems of Table I under one protocol: what is common is equal, what belongs to a system is its own."""

import pytest
import torch

from bandsplit.models.network import build_model
from bandsplit.models.pretrained.registry import find_entry
from bandsplit.models.tensors import count_parameters
from bandsplit.published.paper import table1
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.recipes.protocol import EXCERPT_S, PLAN
from bandsplit.recipes.table1 import table1_systems
from bandsplit.separation.chunk_choice import choose_chunks
from bandsplit.separation.chunks import describe_chunks
from bandsplit.studies.plans import STUDIES, planned_public, planned_runs
from places import ROOT

UNDER_PROTOCOL = [recipe for system in table1_systems() for recipe in system.recipes]
OWN = ("loss", "optimizer", "learning_rate", "learning_rate_rule", "warm_up_updates", "decay", "batch_size",
       "global_batch", "clip_norm", "precision", "average")  # fmt: skip


def test_examples_budget_validation_and_plan_are_the_same_for_all():
    trainings = [config.training for id in UNDER_PROTOCOL for config in RECIPES[id].all_run_configs()]
    common = [one.model_dump(exclude={*OWN, "excerpt_s"}) for one in trainings]
    assert len(trainings) == 28 and all(one == common[0] for one in common)
    assert (common[0]["examples_per_epoch"], common[0]["max_epochs"], common[0]["patience"]) == (7680, 200, 200)
    # As many hours of audio as the paper's 200 epochs of 20,000 examples of 3 s, to a thousandth.
    audio_s = 7680 * 200 * EXCERPT_S
    assert audio_s == pytest.approx(20_000 * 200 * 3, rel=2e-3)
    assert trainings[0].mixing == RECIPES["no-activity-detection"].run_config(["vocals"]).training.mixing
    assert {config.model.sample_rate_hz for id in UNDER_PROTOCOL for config in RECIPES[id].all_run_configs()} == {44100}


@pytest.mark.parametrize("id", UNDER_PROTOCOL)
def test_network_loss_and_optimiser_are_those_of_the_published_recipe(id: str):
    recipe = RECIPES[id]
    assert recipe.parent is not None and id == f"table1-{recipe.parent}" and not recipe.architecture
    parent = RECIPES[recipe.parent]
    for mine, theirs in zip(recipe.all_run_configs(), parent.all_run_configs(), strict=True):
        assert mine.model == theirs.model
        assert all(getattr(mine.training, name) == getattr(theirs.training, name) for name in OWN)
        with torch.device("meta"):
            built = build_model(mine.model)
        assert sum(one.numel() for one in built.parameters()) == count_parameters(mine.model)
        assert describe_chunks(choose_chunks(PLAN, mine.model, id)) == describe_chunks(PLAN)
    if recipe.parameters_m is not None:
        counts = sum(count_parameters(config.model) for config in recipe.all_run_configs())
        assert counts / 1e6 == pytest.approx(recipe.parameters_m, abs=0.05)


def test_examples_are_as_long_as_the_network_takes_at_least():
    lengths = {id: RECIPES[id].all_run_configs()[0].training.excerpt_s for id in UNDER_PROTOCOL}
    assert {id: round(value, 2) for id, value in lengths.items() if value != EXCERPT_S} == {
        "table1-dttnet": 7.87, "table1-mdx-net": 8.15, "table1-kuielab-c1": 8.87,
    }  # fmt: skip


def test_the_systems_are_those_of_the_table_and_their_weights_are_registered():
    systems = table1_systems()
    assert [row for system in systems for row in system.published] == sorted(
        table1(), key=lambda row: [system.name for system in systems].index(row.system)
    )
    names = [name for system in systems for name in system.public]
    assert len(names) == len(set(names)) and [find_entry(name).name for name in names] == names
    page = (ROOT / "docs" / "table1.md").read_text()
    for system in systems:
        line = next(line for line in page.splitlines() if line.startswith(f"| {system.name} (`{system.id}`)"))
        assert all(f"`{name}`" in line for name in (*system.public, *system.recipes))


def test_systems_are_chosen_by_name_and_public_weights_alone():
    study = STUDIES["table1"]
    assert planned_public(study, rows=["ht-demucs", "mdx"]) == ("mdx", "htdemucs", "htdemucs_ft", "htdemucs_6s")
    assert planned_public(study, ["trained"]) == () and planned_public(study) == study.public
    assert [run.recipe for run in planned_runs(study, recipes=["ht-demucs", "mdx"])] == ["table1-htdemucs"]
    assert planned_runs(study, ["public"], ["bsrnn"]) == []
