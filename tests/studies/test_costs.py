"""Costs of systems: counted against published numbers, measured for real, stored, tabulated, and drawn."""

from pathlib import Path

import pytest
import torch

from bandsplit.core.errors import BandsplitError, ConfigError, ModelFileError
from bandsplit.models.bags import Bag, write_bag
from bandsplit.models.families import count_flop
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.energy.facts import GPU_PEAKS, GPU_TDP, find_peak
from bandsplit.separation.chunks import describe_chunks
from bandsplit.studies.costs.counts import count_costs, song_flop, training_flop
from bandsplit.studies.costs.measuring import measure_separation_cost
from bandsplit.studies.costs.rows import append_costs, read_costs
from bandsplit.studies.costs.systems import (
    NOT_CACHED,
    CostedSystem,
    file_system,
    find_system,
    recipe_system,
    systems_of,
)
from bandsplit.studies.costs.tables import CostLine, cost_tables
from bandsplit.studies.costs.training import Assumption, estimate_training, training_of_steps
from bandsplit.studies.plans import STUDIES
from bandsplit.studies.runner.costs import CostSpan, Span
from small_study import SMALL
from stored_costs import separation, training
from tiny_models import tiny_config, write_tiny_model

CPU = torch.device("cpu")
HALVES = {"kind": "overlap-add", "chunk_s": 0.5, "hop_s": 0.25}


def found(name: str) -> CostedSystem:
    system = find_system(name)
    assert isinstance(system, CostedSystem), system
    return system


# --- counted ---------------------------------------------------------------------------------------------------------


def test_a_system_of_a_model_per_target_has_the_sum_of_the_published_operations():
    # 485.80, 485.80, 485.80 and 217.64 GFLOP of a chunk of 261,120 samples (tests/models/dttnet/test_dttnet.py)
    counted = count_costs(recipe_system(RECIPES["dttnet"]))
    assert counted.gflop_chunk == pytest.approx((3 * 485.80 + 217.64) / (261_120 / 441_000), rel=1e-4)
    assert counted.parameters / 1e6 == pytest.approx(19.06, abs=0.01)
    assert counted.gflop_example is not None
    assert counted.gflop_example == pytest.approx(3 * (3 * 485.80 + 217.64), rel=0.01)  # its excerpts are chunks


@pytest.mark.parametrize("recipe", ["base", "bs-roformer", "mdx-net", "dttnet"])
def test_parameters_are_the_published_ones_and_weights_take_four_bytes(recipe: str):
    counted = count_costs(recipe_system(RECIPES[recipe]))
    assert counted.parameters / 1e6 == pytest.approx(RECIPES[recipe].parameters_m, rel=0.01)
    assert 1 <= counted.bytes / (4 * counted.parameters) < 1.01  # and statistics and constants


def test_an_example_of_base_takes_half_of_the_measured_step_of_two():
    # benchmarks/README.md: 896 GFLOP for the vocals and a batch of 2, within 2 % of torch's own counter
    counted = count_costs(recipe_system(RECIPES["base"], ["vocals"]))
    assert counted.gflop_example == pytest.approx(896 / 2, rel=0.002)


def test_overlap_and_averages_cost_what_they_repeat(tmp_path: Path):
    path = write_tiny_model(tmp_path / "a.safetensors", "vocals")
    for changes, times in (({}, 2), ({"tta": ["polarity"]}, 4), ({"hop_s": 0.125}, 4)):
        write_bag(tmp_path / "bag.yaml", Bag.parse({"members": [{"model": str(path)}], "chunks": HALVES | changes}))
        counted = count_costs(found(str(tmp_path / "bag.yaml")))
        # The grid of an overlap-add begins before the song, and four minutes are long.
        assert counted.gflop_song / counted.gflop_chunk == pytest.approx(times, rel=0.005)
        flop = count_flop(tiny_config("vocals"), 4000).forward
        assert counted.gflop_chunk == pytest.approx(flop * 20 / 1e9)


def test_a_bag_is_the_sum_of_the_members_that_it_needs(tmp_path: Path):
    both = write_tiny_model(tmp_path / "both.safetensors", "vocals", "bass")
    one = write_tiny_model(tmp_path / "one.safetensors", "vocals")
    members = [{"model": str(both), "weights": {"bass": 1}}, {"model": str(one)}]
    write_bag(tmp_path / "bag.yaml", Bag.parse({"members": members}))
    counted, parts = count_costs(found(str(tmp_path / "bag.yaml"))), [count_costs(found(str(p))) for p in (both, one)]
    assert counted.parameters == sum(part.parameters for part in parts)
    assert counted.bytes == both.stat().st_size + one.stat().st_size
    assert counted.gflop_chunk == pytest.approx(2 * parts[1].gflop_chunk)  # the decoder of the vocals is left out
    assert counted.gflop_example is None


def test_the_plan_of_a_study_holds_for_its_recipes_and_not_for_those_as_published():
    study = STUDIES["table1"]
    systems = systems_of(study, ["dttnet"])
    assert list(systems) == ["dttnet as published", "table1-dttnet"]
    assert list(systems_of(study, ["htdemucs"])) == ["htdemucs"]  # public weights
    published, ours = systems.values()
    assert isinstance(published, CostedSystem) and isinstance(ours, CostedSystem)
    assert {network.chunks.kind for network in published.networks} == {"trimmed"}
    assert all(network.chunks == study.plan for network in ours.networks)
    assert published.source != ours.source and published.trainings != ours.trainings


# --- training --------------------------------------------------------------------------------------------------------


def test_hours_and_energy_are_those_of_the_arithmetic():
    system = recipe_system(RECIPES["base"], ["vocals"])
    cost = estimate_training(system, Assumption(find_peak("rtx 2080 ti"), 0.5))
    # 448 GFLOP, 20,000 examples, 200 epochs, at half of 13.4 TFLOP/s; 250 W
    assert cost.hours[1] == pytest.approx(448e9 * 20_000 * 200 / (0.5 * 13.4e12) / 3600, rel=0.002)
    assert cost.kwh is not None and cost.kwh[1] == pytest.approx(cost.hours[1] * 0.25)
    assert cost.machine == "RTX 2080 Ti at 50 % of its peak rate"


def test_a_training_runs_at_the_rate_of_its_precision():
    half = recipe_system(RECIPES["dttnet"])  # fp16
    slow, fast = (estimate_training(half, Assumption(find_peak(name), 1.0)) for name in ("RTX 2080 Ti", "A100"))
    assert slow.hours[1] / fast.hours[1] == pytest.approx(312 / 53.8)
    assert find_peak("RTX 2080 Ti").tflops("tf32") == 13.4  # it has no such products
    assert find_peak("A100").tflops("tf32") == 156 and find_peak("A100").tflops("fp32") == 19.5


def test_every_gpu_has_a_power_and_an_unknown_one_is_refused():
    assert all(peak.driver_name in [row.name for row in GPU_TDP] and peak.watts > 0 for peak in GPU_PEAKS)
    with pytest.raises(ConfigError, match=r"GPU 'K80': .* choose one of RTX 2080 Ti, RTX 4090, L40S, A100, H100, H200"):
        find_peak("K80")


@pytest.mark.parametrize("utilisation", [0.0, -0.1, 1.01, float("nan")])
def test_a_utilisation_is_a_share(utilisation: float):
    with pytest.raises(ConfigError, match="must be above 0 and at most 1"):
        Assumption(find_peak("L40S"), utilisation)


def test_steps_of_the_first_model_stand_for_all():
    system = recipe_system(SMALL["small"], ["vocals", "bass"])
    cost = training_of_steps(system, CostSpan(Span(1, 2), Span(0.1, 0.3)), "here")
    assert (cost.hours, cost.kwh, cost.how) == ((2, 4), (0.2, 0.6), "steps")


# --- measured --------------------------------------------------------------------------------------------------------


def test_a_recipe_is_measured_with_random_weights():
    system = recipe_system(SMALL["small"], ["vocals", "bass"])
    cost = measure_separation_cost(system, CPU, noise_s=3.0, least_s=0.2)
    assert (cost.system, cost.source, cost.noise_s) == ("small", system.source, 3.0)
    assert 0 < cost.busy_cores < torch.get_num_threads() + 1
    assert cost.realtime > 0 and cost.peak_mb > 100 and cost.passes >= 1
    assert cost.inference == describe_chunks(tiny_config("vocals").geometry.published)
    assert "threads, torch" in cost.machine
    pytest.importorskip("codecarbon")
    assert cost.joules_per_min is not None and cost.joules_per_min > 0
    assert cost.parts["memory"].state == "estimated" and cost.estimated


def test_of_equal_models_one_is_measured_without_overlap_and_the_others_are_counted():
    system = recipe_system(SMALL["small"], ["vocals", "bass", "drums"])
    sample = system.sample()
    assert len(system.networks) == 3 and sample.networks[0].config == system.networks[0].config
    assert len(sample.networks) == 1 and song_flop(sample, 20) == pytest.approx(2 * song_flop(sample, 10), rel=0.01)
    unequal = recipe_system(RECIPES["dttnet"])  # the network of the bass is a smaller one
    assert [one.config for one in unequal.sample().networks] == [unequal.networks[0].config, unequal.networks[1].config]
    cost = measure_separation_cost(system, CPU, least_s=0.0)
    assert cost.noise_s == torch.get_num_threads() * sample.networks[0].chunks.chunk_s  # a chunk for each thread


def test_time_is_that_of_a_song_whatever_the_length_of_the_noise(tmp_path: Path):
    path = write_tiny_model(tmp_path / "a.safetensors", "vocals")
    write_bag(tmp_path / "bag.yaml", Bag.parse({"members": [{"model": str(path)}], "chunks": {"chunk_s": 20.0}}))
    system = file_system("long", [tmp_path / "bag.yaml"])
    # 24 s of noise are a chunk of 22 s and one of 4 s; a song has chunks of 24 s for each 22 s.
    assert song_flop(system, 24) / 24 == pytest.approx(song_flop(system, 240) / 240, rel=0.02)
    cost = measure_separation_cost(system, CPU, noise_s=1.0, least_s=0.0)
    assert cost.passes == 1 and cost.realtime > 0


@pytest.mark.parametrize("noise_s", [0.0, -1.0, float("inf"), float("nan")])
def test_noise_without_a_length_is_refused(noise_s: float):
    with pytest.raises(ConfigError, match="is not a length of noise"):
        measure_separation_cost(recipe_system(SMALL["small"], ["vocals"]), CPU, noise_s=noise_s)


def test_a_system_that_is_damaged_gives_the_reason(tmp_path: Path):
    path = write_tiny_model(tmp_path / "a.safetensors", "vocals")
    system = found(str(path))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="damaged"):
        measure_separation_cost(system, CPU, noise_s=1.0, least_s=0.0)
    path.write_bytes(b"none")
    assert "is not a model file or is damaged" in str(find_system(str(path)))


def test_a_name_of_nothing_is_refused_with_the_nearest():
    with pytest.raises(ModelFileError, match=r"dttnt: is not a recipe.*did you mean 'dttnet'\?"):
        find_system("dttnt")
    with pytest.raises(ModelFileError, match=r"did you mean 'htdemucs_ft'\?"):
        find_system("htdemucs_f")


def test_a_model_that_is_not_in_the_cache_has_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BANDSPLIT_CACHE", str(tmp_path))
    assert find_system("htdemucs_6s") == NOT_CACHED
    study = STUDIES["table1"]
    systems = systems_of(study)
    assert {name for name, system in systems.items() if isinstance(system, str)} == set(study.public)
    recipes = [recipe for system in study.systems for recipe in system.recipes]
    assert len(systems) == len(study.public) + 2 * len(recipes)


# --- stored and tabulated --------------------------------------------------------------------------------------------


def test_rows_come_back_and_the_last_of_a_key_counts(tmp_path: Path):
    path = tmp_path / "study" / "costs.jsonl"
    assert read_costs(path) == {}
    rows = [separation(), training(), separation(joules=None), separation(machine="n")]
    for row in rows:
        append_costs(path, [row])
    assert list(read_costs(path).values()) == [rows[2], rows[1], rows[3]]
    with path.open("a") as file:
        file.write('{"kind": "separation", "syst')
    notes: list[str] = []
    assert len(read_costs(path, notes.append)) == 3
    assert "left out a line" in notes[0] and "measure the systems in question again" in notes[0]
    with path.open("a") as file:
        file.write('\n{"kind": "separation", "system": "a"}\n')
    with pytest.raises(BandsplitError, match=r"line 6: not a cost \(separation\.source: .*\); delete the line"):
        read_costs(path, notes.append)


def test_costs_that_cannot_be_written_name_the_file(tmp_path: Path):
    (tmp_path / "costs.jsonl").mkdir()
    with pytest.raises(BandsplitError, match=r"costs\.jsonl: cannot be written"):
        append_costs(tmp_path / "costs.jsonl", [separation()])


def test_a_table_shows_counts_measurements_and_what_is_estimated():
    system = recipe_system(SMALL["small"], ["vocals", "bass"])
    lines = [CostLine("small", system), CostLine("gone", None, "why"), CostLine("lost", None, "why")]
    (counted,) = cost_tables(lines)
    assert counted.header[0] == "system" and "x real time" not in counted.header
    assert counted.rows[1] == ("gone", "-", "-", "-", "-", "-")
    assert counted.footnotes[-1] == "gone, lost: why"

    memory = {"memory": {"state": "estimated", "how": "a constant", "watts": 20}}
    rows = [
        separation(source=system.source),
        separation(source=system.source, machine="n", parts=memory),
        separation(source="another configuration", machine="o"),
        training(source=system.trainings),
        training(source=system.trainings, machine="here", how="steps", hours=(1, 2), kwh=None),
    ]
    again, first, second, third, fourth = cost_tables(lines, rows)
    assert again == counted and first.caption == "Separation, measured on m"
    assert first.rows == (("small", "2.5", "45.6", "512", "100"), *((name, *"----") for name in ("gone", "lost")))
    assert second.rows[0][-1] == "~100" and "J, memory: estimated, a constant" in second.footnotes
    assert third.caption == "Training, predicted for L40S at 35 % of its peak rate"
    assert len(third.rows) == 1 and third.rows[0][-2:] == ("~8", "~3")  # 2 kWh with a PUE of 1.5
    assert fourth.rows[0][-2:] == ("~1 to 2", "-")
    assert "PUE of 1.5" in third.footnotes[0] and third.footnotes[0].startswith("Estimated.")


def test_a_part_without_a_figure_makes_the_energy_a_lower_bound():
    system = recipe_system(SMALL["small"], ["vocals"])
    parts = {"cpu": {"state": "measured", "how": "RAPL"}, "gpu": {"state": "absent", "how": "no sensor"}}
    _, table = cost_tables([CostLine("small", system)], [separation(source=system.source, parts=parts)])
    assert table.rows[0][-1] == "> 100" and "J, gpu: absent, no sensor" in table.footnotes


def test_trainings_of_a_study_with_a_budget_are_counted_up_to_the_last_update_that_it_pays_for():
    for name, system in systems_of(STUDIES["table1-mini"], ["mini-htdemucs", "mini-tfc-tdf"]).items():
        assert not isinstance(system, str)
        (run,) = system.runs
        assert run.recipe == name and run.model.targets == ("vocals",)
        assert [network.config.targets for network in system.networks] == [("vocals",)]
        assert 4e12 - run.update_flop(4) < training_flop(run) <= 4e12
