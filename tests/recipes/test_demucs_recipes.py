"""The recipes of HT Demucs and Hybrid Demucs: what was published is set, and they train."""

from typing import Any

import pytest
import torch

from bandsplit.core.targets import TARGETS
from bandsplit.data.examples.dataset import Example
from bandsplit.models.families import tensor_shapes
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.losses import WaveformL1Loss
from bandsplit.runs.optimisers import AdamWConfig, CompetingAverages
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner

PARAMETERS = {"htdemucs": 41_984_456, "hdemucs": 83_637_832}
SHORT = {
    "htdemucs": {
        "model.segment_samples": 9000, "training.excerpt_s": 9000 / 44100, "training.chunks.chunk_s": 9000 / 44100
    },
    "mini-htdemucs": {},
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_recipe_has_the_published_size_targets_and_optimiser(name: str):
    config = RECIPES[name].run_config()
    assert count_parameters(config.model) == PARAMETERS[name]
    assert RECIPES[name].parameters_m == pytest.approx(PARAMETERS[name] / 1e6, abs=5e-3)
    assert config.model.targets == ("drums", "bass", "other", "vocals")
    assert (config.training.learning_rate, config.training.loss.kind) == (3e-4, "l1-waveform")
    assert (config.training.clip_norm, config.training.decay.kind) == (None, "constant")


def test_two_levels_of_averages_compete_as_published():
    for name in (*PARAMETERS, "htdemucs-ft"):
        average = RECIPES[name].all_run_configs()[0].training.average
        assert average == CompetingAverages(update_decays=(0.9995, 0.9999), epoch_decays=(0.9, 0.95))


def test_stems_are_exchanged_in_groups_and_retuned_together():
    mixing = RECIPES["htdemucs"].run_config().training.mixing
    assert (mixing.pairing, mixing.augment.retune_probability, mixing.same_song_probability) == ("groups", 0.2, 0)
    assert (mixing.augment.pitch_probability, mixing.augment.tempo_probability) == (0, 0)


def test_fine_tuning_makes_a_model_for_each_target_with_its_loss_alone():
    configs = {target: RECIPES["htdemucs-ft"].run_config([target]) for target in TARGETS}
    assert sum(count_parameters(config.model) for config in configs.values()) == 4 * PARAMETERS["htdemucs"]
    for target, config in configs.items():
        training, loss = config.training, config.training.loss
        assert config.model == RECIPES["htdemucs"].run_config().model
        assert isinstance(loss, WaveformL1Loss)
        assert loss.weigh(config.model.targets) == [float(name == target) for name in config.model.targets]
        optimizer = training.optimizer
        assert isinstance(optimizer, AdamWConfig) and optimizer.weight_decay == 0.05
        assert config.decayed_tensors == {
            name for name, _ in tensor_shapes(config.model) if name.startswith("crosstransformer.")
        }
        assert (training.learning_rate, training.clip_norm, training.global_batch) == (1e-4, 5, 8)
        assert (training.max_epochs, training.mixing.same_song_probability) == (50, 1)
        assert (training.mixing.gain.low, training.mixing.gain.high) == (1, 1)
    assert len({config.hash8() for config in configs.values()}) == 4


def test_a_step_of_fine_tuning_decays_the_transformer_and_learns_the_wanted_target():
    changes = {path: value for path, value in RECIPES["mini-htdemucs"].changes.items() if path.startswith("model.")}
    samples = changes["model.segment_samples"]
    changes |= {"training.excerpt_s": samples / 16000, "training.chunks.chunk_s": samples / 16000}
    changes |= {"model.dropout": 0.0, "training.mixing.augment.retune_probability": 0}
    config = RECIPES["htdemucs-ft"].run_config(["bass"], changes=changes)
    torch.manual_seed(0)
    learner = Learner(config, BatchPlan(1, 1, 1), Execution("cpu"), make_fabric(config.training, Execution("cpu")))
    assert [group["weight_decay"] for group in learner.optimizer.param_groups] == [0.05, 0.0]
    stems = 0.1 * torch.randn(1, 4, 2, samples)
    learner.backward(Example(stems.sum(1), stems, [""]), last=True)
    # The last layers hold the outputs of the targets one after the other: drums, bass, other, vocals.
    gradient = learner.plain_model.get_parameter("tdecoder.2.conv_tr.bias").grad
    assert gradient is not None
    assert [bool(part.any()) for part in gradient.split(2)] == [False, True, False, False]


def test_examples_of_ht_demucs_have_the_length_that_it_separates_at():
    for name in ("htdemucs", "mini-htdemucs"):
        config = RECIPES[name].run_config()
        samples = round(config.training.excerpt_s * config.model.sample_rate_hz)
        assert config.model.geometry.fixed_samples == samples
    assert RECIPES["htdemucs"].run_config().model.geometry.fixed_samples == 343_980


@pytest.mark.parametrize("name", [pytest.param("htdemucs", marks=pytest.mark.slow), "mini-htdemucs"])
def test_it_trains_at_full_width(name: str):
    changes: dict[str, Any] = SHORT[name]
    config = RECIPES[name].run_config(changes=changes)
    learner = Learner(config, BatchPlan(2, 1, 1), Execution("cpu"), make_fabric(config.training, Execution("cpu")))
    torch.manual_seed(0)
    stems = 0.1 * torch.randn(2, 4, 2, round(config.training.excerpt_s * config.model.sample_rate_hz))
    losses = []
    for _ in range(3):
        losses.append(learner.backward(Example(stems.sum(1), stems, ["", ""]), last=True).item())
        assert learner.update(config.training.learning_rate).isfinite()
    assert losses[2] < losses[0]
