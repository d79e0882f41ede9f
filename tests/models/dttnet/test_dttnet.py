"""DTTNet against the numbers of its authors' code, their counts, and its contract."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from authors_networks import Golden, read_golden, relative_difference
from bandsplit.core.errors import ConfigError
from bandsplit.models.contract import Imported
from bandsplit.models.dttnet.config import DttnetConfig
from bandsplit.models.dttnet.network import DttnetNetwork
from bandsplit.models.dttnet.weights import read_checkpoint
from bandsplit.models.families import count_flop, tensor_shapes
from bandsplit.models.files import model_from_tensors
from bandsplit.models.layers.complex_channels import to_channels
from bandsplit.models.network import build_model
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from plain_dttnet import OWN, make_weights, separate

PUBLISHED = {"vocals": 4_958_468, "drums": 4_958_468, "bass": 4_184_388, "other": 4_958_468}
GFLOP_OF_A_CHUNK = {"vocals": 485.80, "drums": 485.80, "bass": 217.64, "other": 485.80}
SMALL: dict[str, Any] = {
    "targets": ["vocals"], "sample_rate_hz": 8000, "stft": {"n_fft": 128, "hop_samples": 32}, "bins": 48,
    "unet": {"n_features": 16, "levels": 1, "convs": 1}, "dual_path": {"layers": 1},
}  # fmt: skip


def config(**changes: Any) -> DttnetConfig:
    return DttnetConfig.parse(SMALL | changes)


def trained(made: DttnetConfig) -> DttnetNetwork:
    """A network whose running statistics are not those of the start."""
    torch.manual_seed(0)
    network = DttnetNetwork(made)
    with torch.no_grad():
        network(torch.randn(2, made.channels, made.geometry.fitting(1000)))
    return network.eval()


def read_shared(shared: Path, name: str) -> Golden:
    return read_golden(shared / "golden" / "systems" / f"{name}.safetensors")


def network_of(found: Golden) -> DttnetNetwork:
    imported = read_checkpoint(found.checkpoint())
    assert isinstance(imported, Imported)
    model = model_from_tensors(imported.config, imported.tensors)
    assert isinstance(model, DttnetNetwork)
    return model


@pytest.mark.parametrize("name", ["vocals-five-blocks", "bass-two-paths"])
def test_the_authors_weights_give_the_authors_output(shared: Path, name: str):
    found = read_shared(shared, f"dttnet/{name}")
    model = network_of(found)
    assert count_parameters(model.config) == int(found.metadata["parameters"])
    with torch.inference_mode():
        separation = model(found.tensors["input"].unsqueeze(0))
    assert separation.spec is not None
    assert relative_difference(separation.signal[0, 0], found.tensors["output"]) <= 3e-6
    spec = to_channels(separation.spec[0], model.config.bins)[0]
    assert relative_difference(spec[..., :8], found.tensors["output_stft_first_8_frames"]) <= 3e-6


@pytest.mark.parametrize("name", ["vocals-five-blocks", "bass-two-paths"])
def test_the_plain_function_gives_the_authors_output(shared: Path, name: str):
    found = read_shared(shared, f"dttnet/{name}")
    with torch.no_grad():
        plain = separate(found.weights, found.arguments, found.tensors["input"])
    assert relative_difference(plain, found.tensors["output"]) <= 3e-6


def test_the_network_gives_the_output_of_the_plain_function():
    found = read_golden(OWN)
    with torch.inference_mode():
        ours = network_of(found._replace(weights=make_weights(found.arguments)))(found.tensors["input"].unsqueeze(0))
    assert relative_difference(ours.signal[0, 0], found.tensors["output"]) <= 1e-5


def test_every_golden_file_is_tested(shared: Path):
    names = {path.stem for path in (shared / "golden" / "systems" / "dttnet").iterdir()}
    assert names == {"vocals-five-blocks", "bass-two-paths"}


def test_training_follows_the_authors(shared: Path):
    found = read_shared(shared, "training/dttnet")
    network = network_of(found)
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=1e-3)
    losses, norms = [], []
    for mixture, target in zip(found.tensors["inputs"], found.tensors["targets"], strict=True):
        optimizer.zero_grad()
        loss = (network(mixture).signal - target).abs().mean()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(network.parameters(), 1e9))
        optimizer.step()
        losses.append(loss.detach())
    torch.testing.assert_close(torch.stack(losses), found.tensors["losses"], rtol=1e-5, atol=0)
    torch.testing.assert_close(torch.stack(norms), found.tensors["gradient_norms"], rtol=1e-4, atol=0)
    final = {name.removeprefix("final/"): value for name, value in found.tensors.items() if name.startswith("final/")}
    renamed = read_checkpoint(found.checkpoint()._replace(read=lambda name: final.get(name, found.weights[name])))
    assert renamed is not None
    ours = network.state_dict()
    compared = {name: value for name, value in renamed.tensors.items() if value.dim() == 1}
    assert sum("running" in name for name in compared) == 36 and len(compared) == len(final) - 1  # but the window
    # A bias in front of a normalisation has no gradient but rounding, which Adam scales to full steps.
    drifting = {"layer.bias": 1e-2, "running_mean": 4e-3}
    for name, value in compared.items():
        tolerance = next((most for end, most in drifting.items() if name.endswith(end)), 2e-4)
        assert (ours[name] - value).abs().max() <= tolerance, name


@pytest.mark.parametrize("target", PUBLISHED)
def test_published_models_have_the_published_parameters_and_operations(target: str):
    made = RECIPES["dttnet"].run_config([target]).model
    with torch.device("meta"):
        network = build_model(made)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert count_parameters(made) == parameters == PUBLISHED[target]
    assert count_flop(made, 261_120).forward / 1e9 == pytest.approx(GFLOP_OF_A_CHUNK[target], rel=1e-4)
    assert made.geometry.fitting(261_120) == 261_120


def test_counts_are_those_of_the_reference(shared: Path):
    path = shared / "systems" / "counts-roformer-tfctdf-dttnet.json"
    counts = json.loads(path.read_text(encoding="utf-8"))
    assert {target: counts[f"dttnet/{target}"]["parameters"] for target in PUBLISHED} == PUBLISHED
    for target in PUBLISHED:
        made = RECIPES["dttnet"].run_config([target]).model
        assert count_flop(made, 261_120).forward == counts[f"dttnet/{target}"]["flop_one_chunk"]


VARIANTS = [
    {"unet": SMALL["unet"] | {"block": block, "tdf": tdf, "convs": convs, "kernel": kernel}, "dual_path": path}
    for (block, convs, kernel), tdf, path in itertools.product(
        (("plain", 2, 3), ("res1", 1, 1), ("res2", 2, 3)),
        (None, {"kind": "square", "bias": True}, {"kind": "bottleneck", "factor": 5}),
        ({"rnn": "gru", "layers": 1, "heads": 1}, {"rnn": "lstm", "bidirectional": False, "layers": 2, "heads": 2}),
    )
]  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS)
def test_shapes_and_lengths_hold_for_every_option(changes: dict[str, Any]):
    made = config(channels=1, **changes)
    network = trained(made)
    assert list(tensor_shapes(made)) == [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    samples = made.geometry.fitting(1)
    mixture = torch.randn(1, 1, samples)
    separation = network(mixture)
    assert separation.signal.shape == (1, 1, 1, samples) and separation.spec.shape[3] == 65
    assert not separation.spec[..., 48:, :].any()
    with torch.inference_mode():  # with normalisations inside convolutions
        assert relative_difference(network(mixture).signal, separation.signal.detach()) <= 1e-5


def test_recomputed_activations_change_neither_gradients_nor_statistics():
    torch.manual_seed(0)
    networks = [DttnetNetwork(config())]
    networks.append(copy.deepcopy(networks[0]))
    for part in networks[1].repeated_parts():
        part.recompute = True
    mixture = torch.randn(2, 2, networks[0].config.geometry.fitting(1000))
    for network in networks:
        network(mixture).signal.square().mean().backward()
    plain, recomputed = networks
    assert all(torch.equal(value, recomputed.state_dict()[name]) for name, value in plain.state_dict().items())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(recomputed.get_parameter(name).grad, parameter.grad)
    assert len(list(plain.repeated_parts())) == 4  # two levels down, one up, one layer of the dual path


def test_the_published_plan_and_lengths():
    geometry = RECIPES["dttnet"].run_config(["vocals"]).model.geometry
    assert geometry.published.kind == "trimmed"
    assert [round(seconds * 44100) for seconds in (geometry.published.chunk_s, geometry.published.trim_s)] == [
        261_120, 3072
    ]  # fmt: skip
    assert [geometry.fitting(samples) for samples in (1, 3072, 7168, 7169)] == [7168, 7168, 7168, 11_264]


def test_silence_is_answered_with_sound():
    network = trained(config())
    assert network(torch.zeros(1, 2, network.config.geometry.fitting(1000))).signal.abs().max() > 1e-4


def test_signals_that_do_not_fit_are_refused():
    network = trained(config())
    with pytest.raises(ValueError, match=r"^mixture: has 1 channel\(s\), but this model needs exactly 2; duplicate or"):
        network(torch.randn(1, 1, 1056))
    with pytest.raises(ValueError, match=r"does not take 1000 samples; the next legal length is 1056"):
        network(torch.randn(1, 2, 1000))
    with pytest.raises(ValueError, match=r"must be \(batch, channels, samples\), got \(2, 1056\)"):
        network(torch.randn(2, 1056))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["vocals", "bass"]}, r"targets: vocals, bass are 2, and a model estimates 1; name one"),
        ({"bins": 66}, r"bins: 66 are more than the 65 of n_fft 128; legal: 1 to 65"),
        ({"bins": 47}, r"bins: 47 cannot be halved 1 times; use a multiple of 2, such as 46 and 48"),
        ({"unet": {"kernel": 2}}, r"^unet\.kernel: must be odd; 1 and 3 are legal"),
        ({"unet": SMALL["unet"] | {"tdf": {"kind": "bottleneck", "factor": 25}}}, r"factor: 25 .* legal: 1 to 24"),
        ({"dual_path": {"heads": 3}}, r"dual_path\.heads: 3 does not divide the 32 features; legal: 1, 2, 4, 8, 16"),
        ({"dual_path": {"heads": 4}}, r"4 of 8 features .* at least 16, .* change heads or unet\.n_features"),
        ({"dual_path": {"rnn": "rnn"}}, r"^dual_path\.rnn: Input should be 'lstm' or 'gru'"),
        ({"levels": 2}, r"unknown key 'levels'"),
    ],
)
def test_options_that_contradict_each_other_are_named(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        config(**changes)
