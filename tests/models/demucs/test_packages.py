"""Packages as the reference writes them: read as data, nothing run, no argument dropped."""

import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bandsplit.core.errors import ModelFileError
from bandsplit.models.demucs.config import HtDemucsConfig, HybridDemucsConfig
from bandsplit.models.demucs.time_config import DemucsConfig, DemucsV2Config
from bandsplit.models.demucs.weights import _CLASSES, _Arguments
from bandsplit.models.families import tensor_shapes
from bandsplit.models.importing import read_model

HT = {
    "sources": ["drums", "vocals"], "channels": 8, "depth": 2, "nfft": 256, "t_heads": 2, "t_layers": 1,
    "segment": Fraction(1, 100),
}  # fmt: skip
CLASSES = {
    "demucs.htdemucs.HTDemucs": (HT, HtDemucsConfig),
    "demucs.hdemucs.HDemucs": (
        {"channels": 16, "depth": 3, "nfft": 256, "cac": False, "hybrid_old": True, "sources": ["bass"]},
        HybridDemucsConfig,
    ),
    "demucs.demucs.Demucs": (
        {"channels": 16, "depth": 2, "rewrite": False, "normalize": True, "sources": ["bass"]},
        DemucsConfig,
    ),
}  # fmt: skip


def config_of(klass: str, kwargs: Mapping[str, Any]) -> Any:
    plain = {name: str(value) if isinstance(value, Fraction) else value for name, value in kwargs.items()}
    return _CLASSES[klass](_Arguments({"args": [], "kwargs": plain}))


def weights(config: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.rand(shape).half() for name, shape in tensor_shapes(config)}


def package(klass: str, kwargs: Mapping[str, Any], args: tuple[Any, ...] = (), state: Any = None, **more: Any) -> bytes:
    """A package; its class is one of that name while it is written, so that pickle stores the name."""
    module, _, name = klass.rpartition(".")
    room, inside = ModuleType(module.split(".")[0]), ModuleType(module)
    marker = type(name, (), {"__module__": module})
    setattr(inside, name, marker)
    state = {"a tensor": torch.rand(1)} if state is None else state
    buffer = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, room.__name__, room)
        patch.setitem(sys.modules, module, inside)
        torch.save({"klass": marker, "args": args, "kwargs": dict(kwargs), "state": state, **more}, buffer)
    return buffer.getvalue()


def sound_package(klass: str, **more: Any) -> bytes:
    kwargs, _ = CLASSES[klass]
    return package(klass, kwargs, state=weights(config_of(klass, kwargs)), **more)


@pytest.mark.parametrize("klass", CLASSES)
def test_a_package_becomes_a_model_of_its_family(klass: str, tmp_path: Path):
    _, family = CLASSES[klass]
    path = tmp_path / "model.th"
    path.write_bytes(sound_package(klass, metrics=({"loss": 0.1}, None)))
    found = read_model(path)
    assert isinstance(found.model.config, family)
    assert {*found.types.values()} == {torch.float16}
    assert found.card.source.endswith(f"a package of {klass}")


def test_sources_may_come_without_their_name_and_keep_their_order(tmp_path: Path):
    kwargs = {name: value for name, value in HT.items() if name != "sources"}
    path = tmp_path / "model.th"
    state = weights(config_of("demucs.htdemucs.HTDemucs", HT))
    path.write_bytes(package("demucs.htdemucs.HTDemucs", kwargs, (["drums", "vocals"],), state))
    config = read_model(path).model.config
    assert config.targets == ("drums", "vocals")
    assert config.geometry.fixed_samples == 441


def test_metadata_of_a_safetensors_file_are_a_package_too(tmp_path: Path):
    fraction = {"_type": "fraction", "numerator": 1, "denominator": 100}
    metadata = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps({**HT, "segment": fraction})}
    state = weights(config_of("demucs.htdemucs.HTDemucs", HT))
    save_file(state, tmp_path / "x.safetensors", metadata)
    assert read_model(tmp_path / "x.safetensors").model.config.geometry.fixed_samples == 441
    save_file(state, tmp_path / "x.safetensors", metadata | {"kwargs": "{"})
    with pytest.raises(ModelFileError, match="its metadata are damaged: kwargs is not JSON; fetch it again"):
        read_model(tmp_path / "x.safetensors")
    save_file(state, tmp_path / "x.safetensors", metadata | {"structure": "{}"})
    with pytest.raises(ModelFileError, match="its weights are quantised by DiffQ, which is not read; import the model"):
        read_model(tmp_path / "x.safetensors")


def test_the_digits_in_a_name_are_those_of_the_file(tmp_path: Path):
    data = sound_package("demucs.htdemucs.HTDemucs")
    digits = hashlib.sha256(data).hexdigest()[:8]
    right, wrong = tmp_path / f"12345678-{digits}.th", tmp_path / "12345678-00000000.th"
    for path in (right, wrong):
        path.write_bytes(data)
    assert read_model(right).model.config.targets == ("drums", "vocals")
    with pytest.raises(ModelFileError, match=f"its sha256 begins with {digits}, but its name promises 00000000"):
        read_model(wrong)
    torch.save({"encoder.0.2.weight": torch.rand(2)}, wrong)  # a state dict, as of v2
    with pytest.raises(ModelFileError, match="but its name promises 00000000: it is damaged or another file"):
        read_model(wrong)


def test_a_description_of_a_bag_sets_the_length_of_the_chunks_and_nothing_else(tmp_path: Path):
    path = tmp_path / "x.th"
    path.write_bytes(sound_package("demucs.hdemucs.HDemucs"))
    assert read_model(path, {"segment": 12}).model.config.geometry.published.chunk_s == 12
    with pytest.raises(ModelFileError, match=r"the configuration: unknown option\(s\): channels = 3; known: segment$"):
        read_model(path, {"segment": 12, "channels": 3})
    path.write_bytes(sound_package("demucs.htdemucs.HTDemucs"))
    with pytest.raises(ModelFileError, match="segment has no meaning for a network that sees one length"):
        read_model(path, {"segment": 12})


def test_quantised_packages_and_other_classes_are_refused(tmp_path: Path):
    path = tmp_path / "x.th"
    path.write_bytes(package("demucs.other.Model", HT))
    with pytest.raises(
        ModelFileError, match=r"refused, nothing was run: besides tensors it asks for demucs\.other\.Model"
    ):
        read_model(path)
    path.write_bytes(package("demucs.htdemucs.HTDemucs", HT, state={"__quantized": True, "quantized": []}))
    with pytest.raises(ModelFileError, match=r"its weights are quantised by DiffQ, .* \(its name has no _q\)$"):
        read_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda kwargs: kwargs | {"odd": 1}, "kwargs: unknown option(s): odd = 1; known: "),
        (lambda kwargs: kwargs | {"growth": 3}, "kwargs: growth = 3 is not supported; legal: 2"),
        (lambda kwargs: kwargs | {"cac": False}, "kwargs: cac = False is not supported; legal: True"),
        (lambda kwargs: kwargs | {"rescale": 0.2}, "kwargs: rescale = 0.2 is not supported; legal: 0.1"),
        (lambda kwargs: kwargs | {"dconv_init": 1}, "kwargs: dconv_init = 1 is not supported; legal: 0.001, 0.0001"),
        (lambda kwargs: kwargs | {"multi_freqs": [0.5]}, "kwargs: multi_freqs = [0.5] is not supported; legal: None"),
        (lambda kwargs: kwargs | {"dconv_mode": 4}, "kwargs: dconv_mode = 4; legal: 0, 1, 2, 3"),
        (
            lambda kwargs: kwargs | {"segment": "1/0"},
            "segment = '1/0' must be a number of seconds or a fraction",
        ),
        (lambda kwargs: kwargs | {"segment": -1}, "segment = -1 must be between 0 and 10000 s"),
        (
            lambda kwargs: {name: value for name, value in kwargs.items() if name != "segment"},
            "kwargs: needs the option 'segment'",
        ),
    ],
)
def test_arguments_without_a_counterpart_are_errors(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
):
    path = tmp_path / "x.th"
    path.write_bytes(package("demucs.htdemucs.HTDemucs", change(HT)))
    with pytest.raises(ModelFileError, match=re.escape(message)):
        read_model(path)


COMMON = {"kernel_size": 8, "stride": 4, "growth": 2, "context": 1, "rescale": 0.1, "dconv_init": 1e-4}
TWO_BRANCHES = {
    "rewrite": True, "time_stride": 2, "context_enc": 0, "freq_emb": 0.2, "emb_scale": 10, "wiener_residual": False,
    "end_iters": 0, "multi_freqs": None, "multi_freqs_depth": 3,
}  # fmt: skip
NEUTRAL: dict[str, dict[str, Any]] = {
    "demucs.htdemucs.HTDemucs": COMMON | TWO_BRANCHES | {"cac": True, "t_cross_first": False, "wiener_iters": 3},
    "demucs.hdemucs.HDemucs": COMMON | TWO_BRANCHES | {"hybrid": True, "wiener_iters": -1},
    "demucs.demucs.Demucs": COMMON | {"lstm_layers": 0},
}


@pytest.mark.parametrize("klass", NEUTRAL)
def test_arguments_at_values_that_change_no_estimate_are_accepted(klass: str):
    kwargs, _ = CLASSES[klass]
    assert config_of(klass, {**kwargs, **NEUTRAL[klass]}) == config_of(klass, kwargs)


@pytest.mark.parametrize("iterations", [1, True, 0.5])
def test_wiener_filters_with_iterations_are_refused_where_estimates_are_magnitudes(iterations: object):
    klass = "demucs.hdemucs.HDemucs"
    kwargs, _ = CLASSES[klass]
    message = re.escape(f"kwargs: wiener_iters = {iterations} is not supported; legal: 0 or less")
    with pytest.raises(ModelFileError, match=message):
        config_of(klass, {**kwargs, "wiener_iters": iterations})
    assert config_of(klass, {**kwargs, "cac": True, "wiener_iters": iterations}).spectrum == "complex"


def test_two_unnamed_arguments_are_refused(tmp_path: Path):
    path = tmp_path / "x.th"
    path.write_bytes(package("demucs.htdemucs.HTDemucs", HT, (["bass"],)))
    with pytest.raises(ModelFileError, match=r"args: has 1 value\(s\); legal: one, the sources, if kwargs does not"):
        read_model(path)


def test_a_state_dict_of_v2_needs_its_sources(tmp_path: Path):
    config = DemucsV2Config.parse({"targets": ["drums", "bass"], "n_features": 4, "depth": 2})
    torch.save(weights(config), tmp_path / "x.th")
    with pytest.raises(
        ModelFileError, match=r"is a state dict of Demucs v2, .* name a configuration file with sources"
    ):
        read_model(tmp_path / "x.th")
    (tmp_path / "x.yaml").write_text("sources: [drums, bass]\nsegment_length: 44100\n", encoding="utf-8")
    found = read_model(tmp_path / "x.th", tmp_path / "x.yaml").model.config
    assert found == config.model_copy(update={"chunk_s": 1.0})
    (tmp_path / "x.yaml").write_text("sources: [drums]\n", encoding="utf-8")
    with pytest.raises(ModelFileError, match="decoder"):
        read_model(tmp_path / "x.th", tmp_path / "x.yaml")
