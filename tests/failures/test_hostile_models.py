"""Models and checkpoints whose description lies: each is read or refused with one message, in little memory."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from places import ROOT

SCRIPT = ROOT / "benchmarks" / "fuzz_models.py"
FILES = 20
"""`benchmarks/fuzz_models.py` reads thousands."""


def load() -> ModuleType:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("fuzz_models", SCRIPT)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(SCRIPT.parent))


fuzz = load()
hostile = sys.modules["hostile_files"]
pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
    pytest.mark.filterwarnings("ignore"),  # of torch, on tensors of strange kinds that the hostile files are made from
]
MESSAGES = {
    "bands_count.safetensors": "Tuple should have at most 1000 items",
    "bands_count_100.safetensors": "past the Nyquist frequency of 22050 Hz (2300000000 of 1025 bins)",
    "n_features_1e6.safetensors": "its configuration needs 1.8e+08 numbers or more in 1 tensors or more",
    "blocks_1e6.safetensors": "its header claims to have 13289124 bytes; at most 10000000",
    "blocks_of_nothing.safetensors": "less than or equal to 1000",
    "many_targets.safetensors": "config: has 488956 characters; at most 200000",
    "laughs.ckpt": "hyper_parameters: more than 20 levels deep, or more than 100000 values",
    "deep.ckpt": "hyper_parameters: more than 20 levels deep",
    "selfref.ckpt": "hyper_parameters: more than 20 levels deep",
    "hp_key_int.ckpt": "hyper_parameters: names must be text, found int",
    "sd_mixed.ckpt": "its state_dict must map names to tensors",
    "hp_feature_dim.ckpt": "n_features: Input should be less than or equal to 1000000 (got 1000000000000000000)",
    "hp_num_repeat.ckpt": "n_blocks: Input should be less than or equal to 1000 (got 10000000)",
    "hp_fac_mask.ckpt": "mask.hidden_factor: Input should be less than or equal to 1000000",
    "hp_n_fft.ckpt": "stft.n_fft: Input should be less than or equal to 1000000",
    "expand.ckpt": "the largest is BN.0.1.weight (3000000000,)",
    "complex64.ckpt": "numbers that cannot be weights: BN.0.1.weight is of type ComplexFloat; legal: Float, Double",
    "int8.ckpt": "numbers that cannot be weights: BN.0.1.weight is of type Char; legal: Float, Double",
    "sparse.ckpt": "plain tensors, but BN.0.1.weight is torch._utils._rebuild_sparse_tensor",
    "quantised.ckpt": "plain tensors, but BN.0.1.weight is torch._utils._rebuild_qtensor",
    "tuple_key.ckpt": "its pickle has a tuple as the key of a dict",
    "bytearrays.ckpt": "hyper_parameters: builtins.bytearray is not a setting",
    "tensors_by_size.ckpt": "hyper_parameters: torch.Tensor is not a setting",
    "ordered_dicts.ckpt": "hyper_parameters: collections.OrderedDict is not a setting",
    "lists.ckpt": "more than 100000 values",
    "codecs.ckpt": "hyper_parameters: _codecs.encode is not a setting",
    "deflated_zeros.ckpt": "its parts are compressed, which torch.save never does",
}


@pytest.mark.parametrize("name", fuzz.BOMBS)
def test_a_bomb_is_refused_with_one_message_before_anything_large_is_built(tmp_path: Path, name: str):
    path = tmp_path / name
    fuzz.BOMBS[name](path)
    outcome = fuzz.in_child(path)
    assert outcome.verdict == "refused"
    assert outcome.message.startswith(f"{path}: ") and MESSAGES[name] in outcome.message
    assert outcome.megabytes < fuzz.MEGABYTES


def test_hostile_files_are_read_or_refused_with_one_message(tmp_path: Path):
    outcomes = [fuzz.in_child(fuzz.hostile_file(number, 0, tmp_path)) for number in range(FILES)]
    assert {outcome.verdict for outcome in outcomes} <= {"read", "refused"}
    assert sum(outcome.verdict == "refused" for outcome in outcomes) > FILES // 2
    assert max(outcome.megabytes for outcome in outcomes) < fuzz.MEGABYTES


def test_what_hostile_files_are_made_from_is_read(tmp_path: Path):
    for variant in hostile.VARIANTS:
        config = hostile.FACTS | variant
        fuzz.read_model(hostile.write_model(tmp_path / "m.safetensors", config, hostile.shapes_of(config)))
    fuzz.read_model(hostile.saved(tmp_path / "m.ckpt", hostile.ARGUMENTS, hostile.state_of()))
