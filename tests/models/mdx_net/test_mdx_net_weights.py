"""Import of KUIELab-MDX-Net: Lightning checkpoints and ONNX files, what must be said, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from authors_networks import checkpoint, relative_difference
from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Imported
from bandsplit.models.files import load_model, model_from_tensors
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.mdx_net import onnx_weights
from bandsplit.models.mdx_net.config import MdxNetConfig
from bandsplit.models.mdx_net.network import MdxNetwork
from bandsplit.models.mdx_net.weights import _their_name, read_checkpoint
from command_line import run_command
from plain_mdx_net import ARGUMENTS, make_weights, write_onnx

onnx = pytest.importorskip("onnx")

LEAST = {"target_name": "other", "hop_length": 24, "dim_t": 16}


def imported(weights: dict[str, Tensor], document: dict[str, Any] | None) -> Imported:
    found = read_checkpoint(checkpoint(weights, document))
    assert found is not None
    return found


def test_a_lightning_checkpoint_needs_no_configuration_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    weights = make_weights(ARGUMENTS) | {"first_conv.1.num_batches_tracked": torch.tensor(3)}
    torch.save({"state_dict": weights, "hyper_parameters": ARGUMENTS, "epoch": 3}, tmp_path / "other.ckpt")
    ended = run_command(capsys, "models", "import", tmp_path / "other.ckpt", "-o", tmp_path / "m.safetensors")
    assert ended.code == 0, ended.err
    model = load_model(tmp_path / "m.safetensors")
    assert isinstance(model, MdxNetwork) and model.config == imported(weights, LEAST).config
    assert torch.equal(model.state_dict()["unet.enter.layer.bias"], weights["first_conv.0.bias"])
    assert model.config.targets == ("other",) and model.config.unet.levels == 2


@pytest.mark.parametrize(
    "unet",
    [{"tdf": None, "levels": 1, "kernel": 5}, {"tdf": {"kind": "square", "bias": True}, "levels": 3, "convs": 1}],
)
def test_every_option_is_read_from_names_and_shapes(unet: dict[str, Any]):
    config = MdxNetConfig.parse(
        {"targets": ["bass"], "stft": {"n_fft": 128, "hop_samples": 32}, "bins": 48, "channels": 1}
        | {"unet": unet | {"block": "plain", "n_features": 8}}
        | {"plan": {"kind": "trimmed", "chunk_s": 32 * 15 / 44100, "trim_s": 64 / 44100}}
    )
    weights = {_their_name(name, config): value for name, value in MdxNetwork(config).state_dict().items()}
    weights |= {"window": torch.hann_window(128), "freq_pad": torch.zeros(1, 2, 17, 16)}
    assert imported(weights, {"target_name": "bass", "hop_length": 32, "dim_t": 16}).config == config


def test_without_constants_of_the_transform_its_length_must_be_said():
    weights = {name: value for name, value in make_weights(ARGUMENTS).items() if name not in ("window", "freq_pad")}
    with pytest.raises(ModelFileError, match=r"^the configuration file: needs the option 'n_fft'$"):
        imported(weights, LEAST)
    assert imported(weights, LEAST | {"n_fft": 96}).config == imported(make_weights(ARGUMENTS), LEAST).config


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, r"without settings: name a yaml file with target_name, n_fft, hop_length and dim_t .* with --config$"),
        ({"target_name": "other", "dim_t": 16}, r"^the configuration file: needs the option 'hop_length'$"),
        (LEAST | {"gg": 3}, r"^the configuration file: unknown option\(s\): gg = 3 \(did you mean g\?\)"),
        (LEAST | {"dim_c": 2}, r"misshapen: first_conv\.0\.weight is \(6, 4, 1, 1\), expected \(6, 2, 1, 1\)"),
        (LEAST | {"n_fft": 128}, r"^window: is not the periodic Hann window of 128 samples"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(document: dict[str, Any] | None, message: str):
    with pytest.raises(ModelFileError, match=message):
        read_checkpoint(checkpoint(make_weights(ARGUMENTS), document))


def test_a_mixer_is_no_model_and_other_files_are_left_to_other_families():
    with pytest.raises(
        ModelFileError, match=r"^is the mixer of KUIELab-MDX-Net, .* in a bag of them \(docs/bags\.md\)$"
    ):
        read_checkpoint(checkpoint({"linear.weight": torch.zeros(8, 10)}, None))
    weights = {name.replace("bottleneck_block", "bottleneck_block1"): t for name, t in make_weights(ARGUMENTS).items()}
    assert read_checkpoint(checkpoint(weights, LEAST)) is None


# --- ONNX


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"target_name": "other", "hop_length": 24, "n_fft": 96}))
    return tmp_path / "m.yaml"


@pytest.mark.parametrize("bias", [False, True])
def test_an_onnx_file_gives_what_the_checkpoint_gives(tmp_path: Path, settings: Path, bias: bool):
    arguments, path = ARGUMENTS | {"bias": bias}, tmp_path / "m.onnx"
    weights = make_weights(arguments)
    write_onnx(path, weights, arguments)
    model, card = import_checkpoint(path, settings)
    expected = imported(weights, arguments)
    assert model.config == expected.config and "KUIELab" in card.source
    same = model_from_tensors(expected.config, expected.tensors)
    assert isinstance(model, MdxNetwork) and isinstance(same, MdxNetwork)
    image = torch.randn(2, 4, 40, 16)
    with torch.inference_mode():
        assert relative_difference(model.eval().estimate(image), same.eval().estimate(image)) <= 1e-5


def _first(model: Any, operator: str) -> Any:
    return next(node for node in model.graph.node if node.op_type == operator)


def _set(model: Any, operator: str, name: str, value: Any) -> None:
    (attribute,) = (one for one in _first(model, operator).attribute if one.name == name)
    attribute.CopyFrom(onnx.helper.make_attribute(name, value))


def _norm_of(result: str) -> Any:
    return onnx.helper.make_node("BatchNormalization", [result, *["onnx::1"] * 4], ["late"])


DAMAGE: list[tuple[Callable[[Any], object], str]] = [
    (lambda model: _set(model, "Conv", "group", 2), r"m\.yaml: /Conv_0: is a Conv with .*group 2.* does not have$"),
    (lambda model: _set(model, "Conv", "pads", [1, 1, 1, 1]), r"/Conv_0: is a Conv with .*pads \(1, 1, 1, 1\)"),
    (lambda model: _set(model, "ConvTranspose", "strides", [1, 1]), r"is a ConvTranspose with .*strides \(1, 1\)"),
    (lambda model: _set(model, "BatchNormalization", "epsilon", 1e-3), r"BatchNormalization_\d+: has epsilon 0\.001"),
    (lambda model: _first(model, "MatMul").input.pop(), r"/MatMul_\d+: its MatMul lacks weights in the file"),
    (lambda model: _first(model, "Conv").input.pop(), r"/Conv_0: its Conv lacks weights in the file"),
    (
        lambda model: model.graph.initializer[0].dims.append(2),
        r"cannot be read as an ONNX file: its weights 'onnx::0' are",
    ),
    (lambda model: setattr(_first(model, "Mul"), "op_type", "Add"), r"names that no family knows"),
    (lambda model: _first(model, "MatMul").input.__setitem__(1, "onnx::1"), r"onnx::1: is \(6,\), and cannot be wei"),
    (lambda model: model.graph.node.append(_norm_of("/Conv_0")), r"names that no family knows"),
    (lambda model: model.metadata_props.add(key="format", value="bandsplit-onnx-1"), r"is a bandsplit model already"),
    (lambda model: setattr(model.graph.initializer[0], "data_location", 1), r"weights from another file"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_onnx_files_of_other_networks_are_refused(
    tmp_path: Path, settings: Path, damage: Callable[[Any], object], message: str
):
    path = tmp_path / "m.onnx"
    model = write_onnx(path, make_weights(ARGUMENTS), ARGUMENTS)
    damage(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=message):
        import_checkpoint(path, settings)


def test_an_onnx_file_cannot_fill_the_memory_with_the_same_numbers(
    tmp_path: Path, settings: Path, monkeypatch: pytest.MonkeyPatch
):
    weights, path = make_weights(ARGUMENTS), tmp_path / "m.onnx"
    write_onnx(path, weights, ARGUMENTS)
    monkeypatch.setattr(onnx_weights, "_SLACK", -sum(tensor.numel() for tensor in weights.values()) * 3 // 2)
    with pytest.raises(
        ModelFileError, match=r"its operations repeat the numbers of the file: they need more than \d+$"
    ):
        import_checkpoint(path, settings)
