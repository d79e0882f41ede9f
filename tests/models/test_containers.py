"""Containers of weights that other software wrote: all that hold the same weights give the same model."""

import argparse
import io
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import dummy_family
from bandsplit.core.errors import ModelFileError
from bandsplit.models.card import stored_types
from bandsplit.models.containers import open_checkpoint
from bandsplit.models.families import FAMILIES
from bandsplit.models.files import load_model, save_model
from bandsplit.models.importing import import_checkpoint, read_model
from checkpoints import checkpoint_of
from command_line import run_command
from dummy_family import DummyConfig
from places import CHECKPOINT

SETTINGS = {"targets": ["vocals"], "sample_rate_hz": 8000}
YAML = "targets: !!python/tuple [vocals]\nsample_rate_hz: 8000\n"


@pytest.fixture(autouse=True)
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "dummy", dummy_family.FAMILY)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "x.yaml").write_text(YAML)
    return tmp_path / "x.yaml"


def weights(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "filters.weight": torch.randn(2, 2, 1, generator=generator).to(dtype),
        "filters.bias": torch.randn(2, generator=generator).to(dtype),
    }


def training_state() -> dict[str, Any]:
    """What a training saves next to the weights."""
    return {
        "epoch": 3,
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
        "best_metric": np.float64(9.65),
        "all_metrics": {"sdr": np.arange(3.0)},
        "args": argparse.Namespace(model_type="bs_roformer", path=Path("x")),
    }


CONTAINERS: dict[str, Callable[[], Any]] = {
    "a bare state dict": weights,
    "an ordered state dict": lambda: OrderedDict(weights()),
    "parameters": lambda: {name: torch.nn.Parameter(tensor) for name, tensor in weights().items()},
    "state_dict": lambda: {"state_dict": weights()},
    "state": lambda: {"state": weights()},
    "model_state_dict": lambda: {"model_state_dict": weights(), **training_state()},
    "Lightning without settings": lambda: {"state_dict": weights(), "pytorch-lightning_version": "1.9", "loops": {}},
    "state of something else": lambda: {"state_dict": weights(), "state": {"step": 3}},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_weights_are_found_wherever_a_container_has_them(tmp_path: Path, config: Path, name: str):
    torch.save(CONTAINERS[name](), tmp_path / "x.ckpt")
    model, card = import_checkpoint(tmp_path / "x.ckpt", config)
    assert {key: tensor.tolist() for key, tensor in model.state_dict().items()} == {
        key: tensor.tolist() for key, tensor in weights().items()
    }
    assert card.source == "imported from x.ckpt, a file of filters"


def test_a_plain_safetensors_file_is_a_container_whatever_its_name(tmp_path: Path, config: Path):
    save_file(weights(), tmp_path / "x.bin")
    model, _ = import_checkpoint(tmp_path / "x.bin", config)
    assert torch.equal(model.get_parameter("filters.bias"), weights()["filters.bias"])


def test_settings_of_a_container_come_with_its_weights(tmp_path: Path):
    torch.save({"state_dict": weights(), "hyper_parameters": SETTINGS}, tmp_path / "x.ckpt")
    with open_checkpoint(tmp_path / "x.ckpt") as checkpoint:
        assert dict(checkpoint.arguments or {}) == SETTINGS and checkpoint.document is None
        assert checkpoint.shapes == {"filters.weight": (2, 2, 1), "filters.bias": (2,)}
    assert import_checkpoint(tmp_path / "x.ckpt")[0].config == DummyConfig.parse(SETTINGS)


def test_counters_of_norms_are_read_as_they_are(tmp_path: Path):
    torch.save({**weights(), "norm.num_batches_tracked": torch.tensor(7)}, tmp_path / "x.ckpt")
    with open_checkpoint(tmp_path / "x.ckpt") as checkpoint:
        counter = checkpoint.read("norm.num_batches_tracked")
    assert counter.dtype == torch.int64 and counter.item() == 7


LORA = "is a LoRA file .* it holds changes to the weights of another model, not a model; merge them with the software"
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "LoRA": (lambda: {"lora_state_dict": weights()}, LORA),
    "LoRA next to weights": (lambda: {"state_dict": weights(), "lora_state_dict": weights()}, LORA),
    "LoRA by names": (lambda: {"layers.0.to_qkv.lora_A": torch.zeros(1)}, LORA),
    "LoRA inside": (lambda: {"state_dict": {"a.lora_B.weight": torch.zeros(1)}}, LORA),
    "two": (lambda: {"state_dict": weights(), "state": weights()}, "has weights in state_dict and state, and which"),
    "a list": (lambda: [torch.zeros(1)], "holds no weights: it is list, not a mapping"),
    "nothing": (dict, "holds no weights: it needs names of tensors .* state_dict, model_state_dict, state; it has not"),
    "an empty one": (lambda: {"state_dict": {}}, "holds no weights: its state_dict has no tensors"),
    "text": (lambda: {"state_dict": "x"}, "its state_dict must map names to tensors"),
    "numbers": (lambda: {**weights(), "epoch": 3}, "it must map names to plain tensors, but epoch is int"),
    "integers": (
        lambda: {"a": torch.zeros(1, dtype=torch.int8)},
        "it has numbers that cannot be weights: a is of type Char",
    ),
    "settings": (lambda: {"state_dict": weights(), "hyper_parameters": 3}, "hyper_parameters must be a mapping"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_container_without_the_weights_of_a_model_is_refused(tmp_path: Path, config: Path, name: str):
    make, message = REFUSED[name]
    torch.save(make(), tmp_path / "x.ckpt")
    with pytest.raises(ModelFileError, match=f"x.ckpt with .*x.yaml: {message}"):
        import_checkpoint(tmp_path / "x.ckpt", config)


def test_the_format_before_pytorch_1_6_is_refused_with_the_way_to_convert_it(tmp_path: Path):
    torch.save(weights(), tmp_path / "x.th", _use_new_zipfile_serialization=False)
    with pytest.raises(ModelFileError, match=r"x\.th: is in the format of PyTorch before version 1\.6.* weights_only"):
        import_checkpoint(tmp_path / "x.th")


def test_safetensors_files_that_hold_something_else_are_refused(tmp_path: Path, config: Path):
    path = tmp_path / "x.safetensors"
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        ({"a": torch.zeros(1, dtype=torch.int8)}, "numbers that cannot be weights: a is of type I8; legal: BF16, F16"),
        ({"a.lora_A": torch.zeros(1)}, "is a LoRA file"),
        ({}, "holds no weights: it has no tensors"),
    ]
    for tensors, message in cases:
        save_file(tensors, path)
        with pytest.raises(ModelFileError, match=message):
            import_checkpoint(path, config)
    path.write_bytes((10**9).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelFileError, match="its header claims to have 1000000000 bytes; at most 10000000"):
        import_checkpoint(path, config)
    path.write_bytes((2).to_bytes(8, "little") + b"{]")
    with pytest.raises(ModelFileError, match=r"cannot be read as a \.safetensors file"):
        import_checkpoint(path, config)
    model, card = import_checkpoint(CHECKPOINT)
    save_model(path, model, card)
    with pytest.raises(ModelFileError, match="is a bandsplit model already: use it as it is"):
        import_checkpoint(path)


def test_settings_next_to_a_checkpoint_that_has_its_own_are_refused(config: Path):
    with pytest.raises(ModelFileError, match=r"with .*: holds its own settings: leave the configuration file out"):
        import_checkpoint(CHECKPOINT, config)


def test_the_authors_weights_without_their_settings_are_refused(tmp_path: Path):
    torch.save({"state_dict": {"BN.0.0.weight": torch.zeros(4)}}, tmp_path / "x.ckpt")
    with pytest.raises(ModelFileError, match="it needs their settings, hyper_parameters"):
        import_checkpoint(tmp_path / "x.ckpt")


# --- classes in a pickle ---------------------------------------------------------------------------------------------


class Spy:
    """Leaves a mark when it is built."""

    built: ClassVar[list[str]] = []

    def __setstate__(self, state: Any) -> None:
        Spy.built.append("built")

    def __getstate__(self) -> dict[str, int]:
        return {"lr": 3}


@pytest.mark.parametrize(
    "module", ["spies", "ml_collections.config_dict.config_dict", "pytorch_lightning.callbacks.model_checkpoint"]
)
def test_a_class_in_a_checkpoint_is_never_imported_or_built(
    tmp_path: Path, config: Path, module: str, monkeypatch: pytest.MonkeyPatch
):
    """Those of known libraries stay unread; any other makes the file suspect."""
    spies = types.ModuleType("spies")
    monkeypatch.setitem(sys.modules, "spies", spies)
    monkeypatch.setattr(Spy, "__module__", "spies")
    monkeypatch.setattr(spies, "Spy", Spy, raising=False)
    torch.save({"state_dict": weights(), "args": Spy()}, tmp_path / "spies.ckpt")
    torch.load(tmp_path / "spies.ckpt", weights_only=False)
    assert Spy.built == ["built"]  # the trap works
    Spy.built.clear()
    with (
        zipfile.ZipFile(tmp_path / "spies.ckpt") as old,
        zipfile.ZipFile(tmp_path / "x.ckpt", "w") as new,
    ):
        for part in old.infolist():
            new.writestr(part.filename, old.read(part).replace(b"cspies\n", f"c{module}\n".encode()))
    if module == "spies":
        with pytest.raises(ModelFileError, match=r"refused, nothing was run: besides tensors it asks for spies\.Spy"):
            import_checkpoint(tmp_path / "x.ckpt", config)
    else:
        import_checkpoint(tmp_path / "x.ckpt", config)
    assert Spy.built == []


# --- half precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "F16"), (torch.bfloat16, "BF16")])
@pytest.mark.parametrize("container", ["zip", "safetensors"])
def test_half_precision_is_kept_on_the_disk_and_single_in_memory(
    tmp_path: Path, config: Path, dtype: torch.dtype, name: str, container: str
):
    path, out = tmp_path / "x.ckpt", tmp_path / "m.safetensors"
    if container == "zip":
        torch.save({"state_dict": weights(dtype)}, path)
    else:
        save_file(weights(dtype), path)
    read_model(path, config).save(out)
    assert stored_types(out) == {name: 6}
    loaded = load_model(out).state_dict()
    assert {key: tensor.dtype for key, tensor in loaded.items()} == dict.fromkeys(loaded, torch.float32)
    assert all(torch.equal(loaded[key], tensor.float()) for key, tensor in weights(dtype).items())


def test_a_half_file_has_half_the_numbers_on_the_disk(tmp_path: Path):
    checkpoint = torch.load(io.BytesIO(checkpoint_of("bass")), weights_only=True)
    sizes = []
    for dtype in (torch.float32, torch.float16):
        state = {name: tensor.to(dtype) for name, tensor in checkpoint["state_dict"].items()}
        torch.save({**checkpoint, "state_dict": state}, tmp_path / "x.ckpt")
        read_model(tmp_path / "x.ckpt").save(tmp_path / "m.safetensors")
        sizes.append((tmp_path / "m.safetensors").stat().st_size)
        header = int.from_bytes((tmp_path / "m.safetensors").read_bytes()[:8], "little")
        sizes[-1] -= header + 8
    assert sizes[0] == 2 * sizes[1] > 50_000


def test_types_may_be_mixed_and_double_becomes_single(tmp_path: Path, config: Path):
    state = {"filters.weight": weights(torch.float16)["filters.weight"], "filters.bias": torch.ones(2).double() / 3}
    torch.save(state, tmp_path / "x.ckpt")
    read_model(tmp_path / "x.ckpt", config).save(tmp_path / "m.safetensors")
    assert stored_types(tmp_path / "m.safetensors") == {"F32": 2, "F16": 4}
    loaded = load_model(tmp_path / "m.safetensors")
    assert torch.equal(loaded.get_parameter("filters.bias"), (torch.ones(2).double() / 3).float())


def test_weights_that_do_not_fit_are_named_by_group(tmp_path: Path, config: Path):
    extra = {f"extra.{i}.{j}.weight": torch.zeros(1) for i in range(20) for j in range(3)}
    torch.save({**weights(), **extra, "filters.bias": torch.zeros(5)}, tmp_path / "x.ckpt")
    with pytest.raises(ModelFileError) as caught:
        import_checkpoint(tmp_path / "x.ckpt", config)
    assert str(caught.value) == (
        f"{tmp_path / 'x.ckpt'} with {config}: 61 tensor(s) do not fit the configuration: unexpected: "
        f"extra.0.0.weight (and 59 more extra.*.*.weight); misshapen: filters.bias is (5,), expected (2,)"
    )
    config.write_text(YAML + "tapz: 3\n")
    with pytest.raises(ModelFileError, match=r"unknown key 'tapz'; did you mean 'taps'\?"):
        import_checkpoint(tmp_path / "x.ckpt", config)


def test_the_command_imports_with_a_configuration_file_and_shows_the_types(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
):
    torch.save(weights(torch.float16), tmp_path / "x.ckpt")
    refused = run_command(capsys, "models", "import", tmp_path / "x.ckpt")
    assert refused.code == 1 and "does not name its targets; name its configuration with --config" in refused.err
    ended = run_command(capsys, "models", "import", tmp_path / "x.ckpt", "--config", config)
    assert ended.code == 0, ended.err
    assert "vocals, 0.00 M parameters, 8000 Hz" in ended.out and "licence: CC0" in ended.out
    shown = run_command(capsys, "models", "show", tmp_path / "x.safetensors")
    assert "weights            6 of F16" in shown.out
    save_file(weights(), tmp_path / "y.safetensors")
    ended = run_command(capsys, "models", "import", tmp_path / "y.safetensors", "--config", config)
    assert ended.code == 1 and "is the checkpoint itself; choose another name with -o" in ended.err
