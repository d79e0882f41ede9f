"""CWS-PResUNet against the numbers of its authors' code, their counts, and its contract."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from authors_networks import Golden, Steps, checkpoint, read_golden, relative_difference
from bandsplit.core.errors import ConfigError
from bandsplit.models.chunk_config import BoundedConfig
from bandsplit.models.families import count_flop, tensor_shapes
from bandsplit.models.files import model_from_tensors
from bandsplit.models.network import build_model
from bandsplit.models.presunet.config import PresunetConfig
from bandsplit.models.presunet.filter_bank import FilterBank
from bandsplit.models.presunet.network import PresunetModel, build_network
from bandsplit.models.presunet.weights import read_checkpoint, their_name
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.losses import LossConfig, MagnitudeLoss, WaveformL1Loss
from bandsplit.separation.chunks import plan_chunks
from bandsplit.separation.separator import Separator
from bandsplit.separation.streaming import stream_plan
from bandsplit.training.losses import compute_loss
from plain_presunet import OWN, OWN_CASES, make_mixture, own_output, own_weights, separate

PUBLISHED = {"presunet": (202_581_426, 804.5), "presunet-joint": (105_199_090, 514.1)}
"""Parameters, and GFLOP of 10 s without transforms, of a model of one target and of that of three."""
SMALL: dict[str, Any] = {
    "targets": ["bass", "drums", "other"], "sample_rate_hz": 8000, "stft": {"n_fft": 64, "hop_samples": 14},
    "widths": [3, 5], "n_blocks": 2,
}  # fmt: skip


def config(**changes: Any) -> PresunetConfig:
    return PresunetConfig.parse(SMALL | changes)


def trained(made: PresunetConfig) -> PresunetModel:
    """A network whose running statistics are not those of the start."""
    torch.manual_seed(0)
    network = build_network(made)
    with torch.no_grad():
        network(torch.randn(2, made.channels, made.geometry.fitting(1000)))
    return network.eval()


def read_shared(shared: Path, name: str) -> Golden:
    return read_golden(shared / "golden" / "systems" / "demucs_mdx_presunet" / f"{name}.safetensors")


def network_of(weights: dict[str, Tensor], hop_samples: int = 110) -> PresunetModel:
    """The network of the authors' weights; where they do not say the target, it is vocals."""
    named = any(name.endswith("_blocks.1.weight") for name in weights)
    document = {"hop_length": 4 * hop_samples} | ({} if named else {"target": "vocals"})
    imported = read_checkpoint(checkpoint(weights, document))
    assert imported is not None
    model = model_from_tensors(imported.config, imported.tensors)
    assert isinstance(model, PresunetModel)
    return model


@pytest.mark.parametrize("name", ["vocals", "joint"])
def test_the_authors_weights_give_the_authors_output(shared: Path, name: str):
    found = read_shared(shared, f"presunet-{name}")
    model = network_of(found.weights)
    assert count_parameters(model.config) == int(found.metadata["parameters"])
    mixture = found.tensors["input"]
    with torch.inference_mode():
        signal, spec = model(mixture)
        bands = model.bank.split(mixture)
    assert spec is None
    assert list(model.config.targets) == {"vocals": ["vocals"], "joint": ["bass", "drums", "other"]}[name]
    assert torch.equal(bands.flatten(1, 2), found.tensors["probe/subbands"])
    assert relative_difference(model.bank.join(bands), found.tensors["probe/resynthesis"]) <= 1e-6
    # Their transform is a convolution with more rounding: a plain function in double precision differs as much.
    assert relative_difference(signal.flatten(1, 2), found.tensors["output"]) <= 1e-5


@pytest.mark.parametrize(("name", "heads"), [("vocals", []), ("joint", ["bass", "drums", "other"])])
def test_the_plain_function_gives_the_authors_output(shared: Path, name: str, heads: list[str]):
    found = read_shared(shared, f"presunet-{name}")
    with torch.no_grad():
        plain = separate(found.weights, 110, heads, found.tensors["input"])
    assert relative_difference(plain.flatten(1, 2), found.tensors["output"]) <= 1e-5


@pytest.mark.parametrize("name", OWN_CASES)
def test_the_network_gives_the_output_of_the_plain_function(name: str):
    stored = load_file(OWN)[name]
    case = OWN_CASES[name]
    model = network_of(own_weights(name), case["stft"]["hop_samples"])
    with torch.inference_mode():
        signal = model(make_mixture(case.get("channels", 2))).signal
    assert relative_difference(signal, stored) <= 1e-5
    assert relative_difference(own_output(name).float(), stored) <= 1e-6


def loss_of(shared: Path, name: str) -> tuple[Golden, list[tuple[Tensor, Tensor]], LossConfig]:
    """Return the golden training, its pairs of mixture and targets, and its loss."""
    found = read_shared(shared, f"train-presunet-{name}")
    names = {"vocals": ["front"], "joint": ["bass", "drums", "other"]}[name]
    rest = {"vocals": "background", "joint": "vocals"}[name]
    pairs = []
    for step in range(4):
        targets = torch.stack([found.tensors[f"{one}/{step}"] for one in names], dim=1)
        pairs.append((targets.sum(1) + found.tensors[f"{rest}/{step}"], targets))
    return found, pairs, WaveformL1Loss() if name == "vocals" else MagnitudeLoss(with_sum=True)


# Leaky ReLUs that switch make gradients jump: repetitions of the fourth norm of vocals differ by up to 45 %.
STEPS = {
    "vocals": Steps(
        losses=(2e-6, 2e-6, 5e-5, 2e-3),
        gradient_norms=(6e-3, 8e-4, 0.26),
        after={
            "after_conv2.bias": 0.1, "bn0.running_mean": 1e-6, "bn0.weight": 0.6,
            "decoder_block1.bn1.running_var": 0.32, "encoder_block1.conv_block1.conv1.weight": 0.6,
        },
    ),
    "joint": Steps(
        losses=(2e-6, 2e-6, 1.2e-5, 2.6e-3),
        gradient_norms=(1.5e-4, 1.5e-4, 0.05, 0.32),
        after={
            "other_blocks.1.bias": 0.013, "bn0.running_mean": 1e-6, "bn0.weight": 0.42,
            "decoder_block1.bn1.running_var": 0.14, "encoder_block1.conv_block1.conv1.weight": 0.28,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param("vocals", marks=pytest.mark.slow), "joint"])
def test_training_follows_the_authors(shared: Path, name: str):
    found, pairs, loss = loss_of(shared, name)
    start = read_shared(shared, found.metadata["initial"]).weights
    network = network_of(start).train()
    optimizer = torch.optim.Adam(network.parameters(), amsgrad=True)
    losses, norms = [], []
    for (mixture, targets), rate in zip(pairs, found.tensors["learning_rates"].tolist(), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        value = compute_loss(loss, network(mixture).signal, targets)
        value.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(network.parameters(), 1e9).item())
        optimizer.step()
        losses.append(value.item())
    STEPS[name].check(found, losses, norms)
    ours = {their_name(key, network.config, name == "vocals"): value for key, value in network.state_dict().items()}
    STEPS[name].check_after(found, ours, start)


@pytest.mark.parametrize("samples", [5000, 5437])
def test_songs_are_cut_as_by_the_authors(shared: Path, samples: int):
    found = read_shared(shared, "presunet-overlap")
    settings, song = found.arguments, found.tensors[f"input/{samples}"][0].numpy()
    trim_s = settings["in_margin"] / 44100
    plan = BoundedConfig(chunk_s=settings["window_size"] / 44100 + 2 * trim_s, trim_s=trim_s)

    def toy(gain: float, chunks: np.ndarray) -> np.ndarray:
        return gain * chunks / np.sqrt(0.1 + np.sqrt(np.mean(chunks**2, axis=(1, 2), keepdims=True)))

    def system(chunks: np.ndarray) -> np.ndarray:
        vocals = toy(settings["g_vocals"], chunks)
        return np.stack([vocals, toy(settings["g_other"], chunks - vocals)], axis=1)

    blocks = stream_plan(plan_chunks(samples, plan, 44100), lambda at, count: song[:, at : at + count], system)
    joined = torch.from_numpy(np.concatenate([block for _, block in blocks], axis=-1))
    expected = [found.tensors[f"output/{samples}/{name}"][0] for name in ("vocals", "other-after-vocals")]
    assert relative_difference(joined, torch.stack(expected)) <= 1e-6


def test_every_golden_file_is_tested(shared: Path):
    folder = shared / "golden" / "systems" / "demucs_mdx_presunet"
    names = {path.stem for path in folder.glob("*presunet*")}
    assert names == {f"{kind}presunet-{name}" for kind in ("", "train-") for name in ("vocals", "joint")} | {
        "presunet-overlap"
    }


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_published_models_have_the_published_parameters_and_operations(recipe: str):
    made = RECIPES[recipe].all_run_configs()[0].model
    with torch.device("meta"):
        network = build_model(made)
    parameters, gflop = PUBLISHED[recipe]
    assert count_parameters(made) == sum(p.numel() for p in network.parameters()) == parameters
    assert count_flop(made, 441_000).forward / 1e9 == pytest.approx(gflop, rel=1e-4)
    assert list(tensor_shapes(made)) == [(name, tuple(value.shape)) for name, value in network.state_dict().items()]


def test_counts_and_tensors_are_those_of_the_reference(shared: Path):
    counts = json.loads((shared / "systems" / "counts-demucs-mdxnet-presunet.json").read_text(encoding="utf-8"))
    facts = [counts[name] for name in counts if name.startswith("cws-presunet")]
    for recipe, stated, constants in zip(PUBLISHED, facts, (12, 5), strict=True):
        made = RECIPES[recipe].all_run_configs()[0].model
        assert (stated["parameters"], stated["gflop_per_10s"]) == PUBLISHED[recipe]
        names = [name for name, _ in tensor_shapes(made)]
        batches = sum(name.endswith("running_mean") for name in names)  # theirs count batches
        assert len(names) + batches + constants == stated["state_tensors"]


@pytest.mark.parametrize("recipe", ["vocals", "joint"])
def test_names_of_tensors_are_those_of_the_authors(shared: Path, recipe: str):
    made = RECIPES["presunet" if recipe == "vocals" else "presunet-joint"].all_run_configs()[0].model
    assert isinstance(made, PresunetConfig)
    theirs = {
        name for name in read_shared(shared, f"presunet-{recipe}").weights if not name.endswith("batches_tracked")
    }
    assert {their_name(name, made, recipe == "vocals") for name, _ in tensor_shapes(made)} == theirs


VARIANTS = [{"channels": 1}, {"widths": [4]}, {"widths": [4, 4, 4], "n_blocks": 1, "targets": ["x"]}]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_shapes_and_lengths_hold_for_every_option(changes: dict[str, Any]):
    made = config(**changes)
    network = trained(made)
    assert list(tensor_shapes(made)) == [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    for samples in (132, 133, 1001, 1002):
        signal = network(torch.randn(1, made.channels, samples)).signal
        assert signal.shape == (1, len(made.targets), made.channels, samples) and signal.isfinite().all()


def test_subbands_are_joined_to_the_signal_they_were_split_from_but_for_the_last_60_samples():
    bank, signal = FilterBank(), torch.randn(2, 2, 4096, generator=torch.Generator().manual_seed(1))
    bands = bank.split(signal)
    assert bands.shape == (2, 2, 4, 1024)
    error = bank.join(bands) - signal
    assert error[..., :-60].square().mean() / signal.square().mean() < 10 ** (-100 / 10)
    assert error[..., -60:].square().mean() / signal.square().mean() > 1e-3


def test_wanted_targets_alone_are_what_they_are_among_all():
    network, mixture = trained(config()), torch.randn(2, 2, 1000)
    narrow = network.narrowed(["other", "bass"])
    assert narrow.config.targets == ("bass", "other") and not narrow.training and len(narrow.heads) == 2
    with torch.inference_mode():
        torch.testing.assert_close(narrow(mixture).signal, network(mixture).signal[:, [0, 2]])


def test_silence_gives_silence_and_has_finite_gradients():
    network = trained(config()).train()
    signal = network(torch.zeros(2, 2, 1000)).signal
    assert not signal.any()
    signal.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_recomputed_activations_change_neither_gradients_nor_statistics():
    torch.manual_seed(0)
    networks = [build_network(config())]
    networks.append(copy.deepcopy(networks[0]))
    for part in networks[1].repeated_parts():
        part.recompute = True
    mixture = torch.randn(2, 2, 1000)
    for network in networks:
        network(mixture).signal.square().mean().backward()
    plain, recomputed = networks
    assert all(torch.equal(value, recomputed.state_dict()[name]) for name, value in plain.state_dict().items())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(recomputed.get_parameter(name).grad, parameter.grad)
    assert len(list(plain.repeated_parts())) == 2 + 4 + 2 + 3


@pytest.mark.parametrize("samples", [1, 131, 4001])
def test_songs_of_any_length_are_separated(samples: int):
    network = trained(config(plan={"kind": "bounded", "chunk_s": 0.2, "trim_s": 0.02}))
    song = 0.1 * np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32)
    estimates = Separator(network, device="cpu").separate(song, 8000)
    assert {name: value.shape for name, value in estimates.items()} == dict.fromkeys(SMALL["targets"], (2, samples))


def test_the_published_plan_and_lengths():
    geometry = RECIPES["presunet"].run_config(["vocals"]).model.geometry
    assert geometry.published == BoundedConfig(chunk_s=13.0, trim_s=1.5)
    assert [geometry.fitting(samples) for samples in (1, 1028, 1029)] == [1028, 1028, 1029]


def test_signals_that_do_not_fit_are_refused():
    network = trained(config())
    with pytest.raises(ValueError, match=r"must be \(batch, 2 channels, samples\), got \(1, 1, 1056\); duplicate or"):
        network(torch.randn(1, 1, 1056))
    with pytest.raises(ValueError, match=r"has 131 samples, but the network needs at least 132; pad with zeros"):
        network(torch.randn(1, 2, 131))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": []}, r"^widths: .*at least 1"),
        ({"widths": [4] * 6}, r"widths: 6 levels need half of stft\.n_fft to be a multiple of 64, is 32; use fewer"),
        ({"n_blocks": 0}, r"^n_blocks: .*greater than or equal to 1"),
        ({"blocks": 2}, r"unknown key 'blocks'; did you mean 'n_blocks'\?"),
    ],
)
def test_options_that_do_not_fit_are_named(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        config(**changes)
