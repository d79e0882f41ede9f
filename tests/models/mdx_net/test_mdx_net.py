"""KUIELab-MDX-Net against the numbers of its authors' code, their counts, and its contract."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from authors_networks import Golden, Steps, checkpoint, read_golden, relative_difference
from bandsplit.core.errors import ConfigError
from bandsplit.models.bags import Bag, write_bag
from bandsplit.models.card import ModelCard
from bandsplit.models.contract import Checkpoint, Imported
from bandsplit.models.families import count_flop, tensor_shapes
from bandsplit.models.files import model_from_tensors, save_model
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.layers.complex_channels import to_channels
from bandsplit.models.mdx_net.config import MdxNetConfig
from bandsplit.models.mdx_net.network import MdxNetwork
from bandsplit.models.mdx_net.weights import _their_name, read_checkpoint
from bandsplit.models.network import build_model
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.separation.separator import Separator
from plain_mdx_net import OWN, make_weights, separate

TARGETS = ("vocals", "drums", "bass", "other")
SMALL: dict[str, Any] = {
    "targets": ["vocals"], "sample_rate_hz": 8000, "stft": {"n_fft": 128, "hop_samples": 32}, "bins": 48,
    "unet": {"block": "plain", "n_features": 4, "levels": 2, "convs": 1},
}  # fmt: skip


def config(**changes: Any) -> MdxNetConfig:
    return MdxNetConfig.parse(SMALL | changes)


def read_shared(shared: Path, name: str) -> Golden:
    return read_golden(shared / "golden" / "systems" / "demucs_mdx_presunet" / f"{name}.safetensors")


def network_of(file: Checkpoint) -> MdxNetwork:
    imported = read_checkpoint(file)
    assert isinstance(imported, Imported)
    model = model_from_tensors(imported.config, imported.tensors)
    assert isinstance(model, MdxNetwork)
    return model


def separated(model: MdxNetwork, song: Tensor) -> Tensor:
    """The target of ``c samples`` by the plan of the model."""
    with torch.inference_mode():
        (estimate,) = Separator(model, device="cpu").separate(song, model.config.sample_rate_hz).values()
    return estimate


@pytest.mark.parametrize("name", ["mdxnet-tfctdf2", "mdxnet-tfctdf2-bias-full-tdf"])
def test_the_authors_weights_give_the_authors_output(shared: Path, name: str):
    found = read_shared(shared, name)
    model = network_of(found.checkpoint())
    assert count_parameters(model.config) == int(found.metadata["parameters"])
    with torch.inference_mode():
        separation = model(found.tensors["input"])
    assert separation.spec is not None
    assert relative_difference(separation.signal[:, 0], found.tensors["output"]) <= 1e-5
    spec = to_channels(separation.spec[:, 0], model.config.bins)
    assert relative_difference(spec, found.tensors["spectrogram_out"]) <= 1e-5
    song = separated(model, found.tensors["song/input"][0])
    # Theirs and ours are both up to 7e-6 from the result in double precision.
    assert relative_difference(song, found.tensors["song/output"]) <= 2e-5


def test_a_bag_of_four_models_and_a_mixer_gives_what_the_submission_blends(shared: Path, tmp_path: Path):
    found = read_shared(shared, "mdxnet-submission")
    order, song = json.loads(found.metadata["order"]), found.tensors["input"][0]
    for target in order:
        weights = {name[len(target) + 1 :]: value for name, value in found.weights.items() if name.startswith(target)}
        model = network_of(checkpoint(weights, found.arguments[target]))
        save_model(tmp_path / f"{target}.safetensors", model, ModelCard(name="a", training_data="none", licence="MIT"))
    members = [{"model": f"{target}.safetensors"} for target in order]
    mixer = {"targets": order, "matrix": found.weights["mixer.linear.weight"].tolist()}
    for changes, output in (({}, "output/separate"), ({"mixer": mixer}, "output/mixed")):
        write_bag(tmp_path / "bag.yaml", Bag.parse({"members": members, **changes}))
        estimates = Separator(tmp_path / "bag.yaml", device="cpu").separate(song, 44100)
        stems = torch.stack([estimates[target] for target in order])
        assert relative_difference(stems, found.tensors[output]) <= 1e-5
    share = torch.tensor(json.loads(found.metadata["blend"]))[:, None, None]
    output = share * stems + (1 - share) * found.tensors["demucs"]
    assert relative_difference(output, found.tensors["output"]) <= 1e-5


# RMSprop starts with steps of one size, and ReLUs that switch make gradients jump.
STEPS = Steps(
    losses=(2e-6, 4e-6, 1.5e-4, 1e-3, 5e-3),
    gradient_norms=(6e-6, 1.1e-3, 0.013, 0.06, 0.17),
    after={
        "first_conv.0.weight": 0.42, "encoding_blocks.0.tdf.1.running_mean": 8e-3,
        "encoding_blocks.1.tfc.H.1.1.running_var": 2.6e-3, "bottleneck_block.tdf.3.weight": 0.42,
        "final_conv.0.bias": 2.8e-3,
    },
)  # fmt: skip


def test_training_follows_the_authors(shared: Path):
    found, start = read_shared(shared, "train-mdxnet"), read_shared(shared, "mdxnet-tfctdf2")
    network = network_of(start.checkpoint()).train()
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-3)
    losses, norms = [], []
    for step in range(5):
        optimizer.zero_grad()
        estimate = network(found.tensors[f"mix/{step}"]).signal[:, 0]
        loss = (estimate - found.tensors[f"target/{step}"]).square().mean()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(network.parameters(), 1e9).item())
        optimizer.step()
        losses.append(loss.item())
    STEPS.check(found, losses, norms)
    ours = {_their_name(name, network.config): value for name, value in network.state_dict().items()}
    STEPS.check_after(found, ours, start.weights)


@pytest.mark.parametrize("name", ["mdxnet-tfctdf2"])
def test_the_plain_function_gives_the_authors_output(shared: Path, name: str):
    found = read_shared(shared, name)
    with torch.no_grad():
        plain = [separate(found.weights, found.arguments, mixture) for mixture in found.tensors["input"]]
    assert relative_difference(torch.stack(plain), found.tensors["output"]) <= 1e-5


def test_the_network_gives_the_output_of_the_plain_function():
    found = read_golden(OWN)
    model = network_of(checkpoint(make_weights(found.arguments), found.arguments))
    with torch.inference_mode():
        ours = model(found.tensors["input"][None]).signal[0, 0]
    assert relative_difference(ours, found.tensors["output"]) <= 1e-5


def test_every_golden_file_is_tested(shared: Path):
    folder = shared / "golden" / "systems" / "demucs_mdx_presunet"
    assert {path.name for path in folder.iterdir() if "mdxnet" in path.name} == {
        "mdxnet-tfctdf2.safetensors", "mdxnet-tfctdf2-bias-full-tdf.safetensors", "mdxnet-submission.safetensors",
        "train-mdxnet.safetensors", "tiny-mdxnet.onnx", "tiny-mdxnet-onnx.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_published_models_have_the_published_parameters_and_operations(target: str):
    made = RECIPES["mdx-net"].run_config([target]).model
    with torch.device("meta"):
        network = build_model(made)
    assert count_parameters(made) == sum(parameter.numel() for parameter in network.parameters()) == 7_423_236
    # The reference counts the batches of each normalisation too, and stores two constants.
    norms = sum(name.endswith("running_mean") for name in network.state_dict())
    assert len(network.state_dict()) + norms + 2 == 444
    assert count_flop(made, 261_120).forward == 224_947_863_552
    assert made.geometry.fitting(261_120) == 261_120 and made.geometry.fitting(1024 * 511) == 1024 * 511


def test_counts_are_those_of_the_reference(shared: Path):
    counts = json.loads((shared / "systems" / "counts-demucs-mdxnet-presunet.json").read_text(encoding="utf-8"))
    windows = {"vocals": 6144, "drums": 4096, "bass": 16384, "other": 8192}
    for target, n_fft in windows.items():
        made = RECIPES["mdx-net"].run_config([target]).model
        known = counts[f"mdxnet tfc-tdf v2 {target} (n_fft {n_fft})"]
        assert (known["parameters"], known["state_tensors"]) == (7_423_236, 444)
        assert made.loss_stft is not None and made.loss_stft.n_fft == n_fft
        assert count_flop(made, 261_120).forward == known["flops_forward"]
    nine = MdxNetConfig.parse({"targets": ["drums"], "unet": {"block": "plain", "levels": 4}})
    known = counts["mdxnet tfc-tdf v2 nine blocks (leaderboard B drums)"]
    assert count_parameters(nine) == known["parameters"] == 5_480_196


@pytest.mark.parametrize("tdf", [None, {"kind": "square", "bias": True}, {"kind": "bottleneck", "factor": 5}])
def test_shapes_and_lengths_hold_for_every_option(tdf: dict[str, Any] | None):
    made = config(channels=1, unet=SMALL["unet"] | {"tdf": tdf})
    torch.manual_seed(0)
    network = MdxNetwork(made)
    assert list(tensor_shapes(made)) == [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    samples = made.geometry.fitting(1)
    separation = network(torch.randn(2, 1, samples))
    assert samples == 96 and separation.signal.shape == (2, 1, 1, samples)
    assert separation.spec is not None and separation.spec.shape == (2, 1, 1, 65, 4)
    assert not separation.spec[..., 48:, :].any()
    assert len(list(network.repeated_parts())) == 5


def test_the_published_plan_has_twice_the_frames_of_an_example():
    for target, n_fft in (("vocals", 6144), ("bass", 16384)):
        made = RECIPES["mdx-net"].run_config([target])
        plan = made.model.geometry.published
        assert plan.kind == "trimmed"
        assert [round(seconds * 44100) for seconds in (plan.chunk_s, plan.trim_s)] == [1024 * 511, n_fft // 2]
        assert round(made.training.excerpt_s * 44100) == 1024 * 255


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["vocals", "bass"]}, r"targets: vocals, bass are 2, and a model estimates 1; name one"),
        ({"bins": 68}, r"bins: 68 are more than the 65 of n_fft 128; legal: 1 to 65"),
        ({"bins": 50}, r"bins: 50 cannot be halved 2 times; use a multiple of 4, such as 48 and 52"),
        ({"dual_path": {}}, r"unknown key 'dual_path'"),
    ],
)
def test_options_that_contradict_each_other_are_named(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_signals_that_do_not_fit_are_refused():
    network = MdxNetwork(config())
    with pytest.raises(ValueError, match=r"^mixture: has 1 channel\(s\), but this model needs exactly 2; duplicate or"):
        network(torch.randn(1, 1, 480))
    with pytest.raises(ValueError, match=r"does not take 500 samples; the next legal length is 608"):
        network(torch.randn(1, 2, 500))


def test_short_and_silent_songs_are_separated():
    torch.manual_seed(0)
    network = MdxNetwork(config(plan={"kind": "trimmed", "chunk_s": 992 / 8000, "trim_s": 64 / 8000})).eval()
    assert separated(network, torch.randn(2, 10)).shape == (2, 10)
    assert not separated(network, torch.zeros(2, 3000)).any()


def test_an_onnx_file_with_normalisations_inside_convolutions_gives_the_output_of_its_network(
    shared: Path, tmp_path: Path
):
    found = read_shared(shared, "tiny-mdxnet-onnx")
    arguments = {name: found.arguments[name] for name in ("target_name", "n_fft", "hop_length")}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(arguments))
    path = shared / "golden" / "systems" / "demucs_mdx_presunet" / "tiny-mdxnet.onnx"
    model, card = import_checkpoint(path, tmp_path / "m.yaml")
    assert isinstance(model, MdxNetwork) and "tiny-mdxnet.onnx" in card.source
    assert model.config == network_of(found.checkpoint()).config
    with torch.inference_mode():
        estimate = model.estimate(found.tensors["input"])
    assert relative_difference(estimate, found.tensors["output"]) <= 1e-5
    assert relative_difference(estimate, found.tensors["output/onnxruntime"]) <= 1e-5
