"""Model files and checkpoints whose bytes are right and whose description lies: sizes, types, containers."""

from __future__ import annotations

import functools
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bandsplit.models.bsrnn.checkpoint import config_from_authors
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.bsrnn.shapes import tensor_shapes
from bandsplit.models.bsrnn.tensor_names import _source

Generator = np.random.Generator

FACTS: dict[str, Any] = {"targets": ["vocals"], "bands": [[500, 4]], "n_features": 8, "n_blocks": 1}
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"targets": ["vocals", "bass"], "residual": "bass", "heads": 2},
    {"attention": {"heads": 2}, "stereo": {"kind": "tac"}, "norm_groups": 2},
    {"time": {"kind": "dilated"}, "band": {"kind": "gru"}, "stereo": {"kind": "merged"}},
    {"time": {"kind": "conv"}, "band": None, "mask": {"hidden_layers": 3, "context": 1}},
)
ARGUMENTS: dict[str, Any] = {"targets": "bass", "feature_dim": 8, "num_repeat": 1, "fac_mask": 1}
SETTINGS = (
    *("feature_dim", "num_repeat", "fac_mask", "fac_sep", "n_fft", "n_hop", "sample_rate", "group_num", "n_heads"),
    *("n_att_head", "attn_enc_dim", "nb_channels", "targets", "time_layer", "stereo", "fac_tac", "act_tac", "eps"),
    *("joint_bandsplit", "subtract_last_trgt", "mask_ctxt", "bidirectional"),
)
UNSTACKED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "weight": lambda w: w[0].mT[..., None],
    "bias": lambda b: b[0, 0],
    "norm_weight": lambda g: g[0, :, 0],
    "norm_bias": lambda g: g[0, 0],
}
LIES: tuple[Any, ...] = (
    *(0, -1, 3, 63, 1000, 10**4, 10**6, 10**6 + 1, 10**7, 2**31, 2**31 - 1, 2**53, 2**62, 2**63, 10**18, 10**300),
    *(0.5, 1e-300, 1e300, True, None, "lstm", "", "x" * 50_000, [], {}, [[]], [1, 2], {"kind": "lstm"}),
    *({"kind": "dilated", "depth": 60}, {"kind": "dilated", "depth": 10**6}, {"kind": "lstm", "hidden_factor": 10**6}),
    *({"kind": "conv", "kernel": 999_999}, {"n_fft": 2**40, "hop_samples": 2}, {"n_fft": 10**6, "hop_samples": 1}),
    *({"n_fft": 2**62, "hop_samples": 2**61}, {"heads": 10**6}, {"heads": 8, "encoding_dim": 10**6}),
    *({"hidden_factor": 10**6}, {"hidden_layers": 10**6}, {"context": 10**6}, {"kind": "tac", "hidden_factor": 10**6}),
)
BAND_LIES: tuple[Any, ...] = (
    *([[500, 10**6]] * 300, [[500, 1]] * 5000, [[1, 10**9]], [[22050, 1]] * 2, [[1e-300, 1]], [[1e300, 10**6]]),
    *([[22, 900]], [[500, 2**63]], [[0.5, 1]], [[500, 4, 4]], "bass", "nothing"),
)

# --- model files -----------------------------------------------------------------------------------------------------


def write_model(path: Path, config: dict[str, Any], shapes: dict[str, list[int]], dtype: str = "F32") -> Path:
    """Write a model file of zeros."""
    item_bytes = {"F32": 4, "F16": 2, "I64": 8, "I8": 1}[dtype]
    card = {"name": "m", "training_data": "none", "licence": "CC0"}
    described = {"format": "bandsplit-model-1", "config": json.dumps(config), "card": json.dumps(card)}
    header: dict[str, Any] = {"__metadata__": described}
    at = 0
    for name, shape in shapes.items():
        size = item_bytes * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    return path


def shapes_of(config: dict[str, Any]) -> dict[str, list[int]]:
    """Return names and shapes of the tensors of a small configuration."""
    return {name: list(shape) for name, shape in tensor_shapes(BsrnnConfig.parse(config))}


def hostile_model(path: Path, generator: Generator) -> Path:
    """Write a model whose configuration lies in one to three places, or that has other tensors."""
    config = FACTS | VARIANTS[generator.integers(len(VARIANTS))]
    shapes, dtype = shapes_of(config), "F32"
    fields = [*BsrnnConfig.model_fields, "n_features", "n_blocks", "targets", "bands", "stft"]
    for _ in range(generator.integers(0, 4)):
        field = fields[generator.integers(len(fields))]
        if field == "bands":
            config[field] = BAND_LIES[generator.integers(len(BAND_LIES))]
        elif field == "targets":
            config[field] = [f"t{n}" for n in range(generator.choice([0, 1, 2, 100, 5000, 50_000]))]
        else:
            config[field] = LIES[generator.integers(len(LIES))]
    match generator.integers(6):
        case 0:
            shapes |= {f"t{n}": [0] for n in range(generator.choice([1, 1000, 50_000]))}
        case 1:
            shapes = {name: shape[::-1] for name, shape in shapes.items()}
        case 2:
            dtype = str(generator.choice(["F16", "I64", "I8"]))
        case 3:
            shapes = dict(list(shapes.items())[: generator.integers(len(shapes))])
        case _:
            pass
    return write_model(path, config, shapes, dtype)


# --- checkpoints -----------------------------------------------------------------------------------------------------


def archive(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None, deflated: bool = False) -> Path:
    """Write a checkpoint around a pickle as torch.save does."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as file:
        parts = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}
        for name, data in {**parts, **{f"data/{key}": data for key, data in (storages or {}).items()}}.items():
            file.writestr(f"archive/{name}", data)
    return path


def saved(path: Path, arguments: Any, state: Any = None) -> Path:
    """Write a checkpoint by torch.save."""
    state = {"BN.0.0.weight": torch.zeros(4)} if state is None else state
    torch.save({"state_dict": state, "hyper_parameters": arguments}, path)
    return path


def text(value: str) -> bytes:
    """Spell a text as a pickle does."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def pickle_of(state: bytes, arguments: bytes) -> bytes:
    """Put the spelling of a state_dict and of hyper_parameters into that of a checkpoint."""
    return b"\x80\x02}(" + text("state_dict") + state + text("hyper_parameters") + arguments + b"u."


def zeros(name: str, count: int) -> bytes:
    """Spell a state_dict of one tensor."""
    size = b"J" + struct.pack("<I", count)
    storage = b"((" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + size + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + storage + b"K\0" + size + b"\x85K\1\x85\x89}tR"
    return b"}" + text(name) + tensor + b"s"


def nested(value: bytes, times: int, twice: bool) -> bytes:
    """Spell lists in lists, each holding the one before, or twice the one before."""
    for level in range(times):
        keep = b"r" + struct.pack("<I", level)
        value = b"](" + value + (keep + b"j" + keep[1:] if twice else b"") + b"e"
    return value


def calls(function: bytes, first: bytes, times: int) -> bytes:
    """Spell a list of the results of calling a function over and over with the same argument."""
    argument = b"(" + first + b"tr\1\0\0\0"
    return b"](" + argument + (b"c" + function + b"j\1\0\0\0R") * times + b"e"


def hex_chain(times: int) -> bytes:
    """Spell bytes that double with every call of a codec."""
    value = b"c_codecs\nencode\n(" + text("x" * 100) + text("latin1") + b"tR"
    for _ in range(times):
        value = b"c_codecs\nencode\n(" + value + text("hex") + b"tR"
    return value


def expanded(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Make a tensor of many numbers that has one in its storage."""
    return torch.zeros(1, dtype=dtype).expand(count)


@functools.cache
def state_of() -> dict[str, torch.Tensor]:
    """Make the tensors of ARGUMENTS under the authors' names."""
    config = config_from_authors(ARGUMENTS)
    state: dict[str, torch.Tensor] = {}
    for name, shape in tensor_shapes(config):
        keys, _ = _source(config, name)
        turn = UNSTACKED.get(name.rpartition(".")[2], lambda tensor: tensor[0])
        one = torch.zeros(shape) if name.startswith("blocks") else turn(torch.zeros(1, *shape[1:]))
        state |= {key: one.clone() for key in keys}
    return state


STRANGE_TENSORS: tuple[Callable[[], Any], ...] = (
    lambda: expanded(3 * 10**9, torch.float16),
    lambda: expanded(10**12),
    lambda: torch.zeros(4, dtype=torch.complex64),
    lambda: torch.zeros(4, dtype=torch.int8),
    lambda: torch.zeros(4, dtype=torch.float64),
    lambda: torch.eye(4).to_sparse(),
    lambda: torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8),
    lambda: torch.zeros(10**6, device="meta"),
    lambda: torch.zeros(4, dtype=torch.float8_e4m3fn),
    lambda: torch.nn.Parameter(torch.zeros(4)),
    lambda: [torch.zeros(4)],
    lambda: "text",
)
STRANGE_PICKLES: tuple[Callable[[], bytes], ...] = (
    lambda: nested(b"N", 28, twice=True),
    lambda: nested(b"N", 5000, twice=False),
    lambda: b"]r\0\0\0\0j\0\0\0\0a",  # a list that holds itself
    lambda: b"}r\0\0\0\0" + text("time_layer") + b"j\0\0\0\0s",
    lambda: b"}" + b"K\1K\1s" + text("targets") + b"K\1s",  # keys of two types
    lambda: b"}" + b"N" + b"\x85" * 100_000 + b"K\1s",  # a key of tuples in tuples
    lambda: calls(b"builtins\nbytearray\n", b"\x8a\5\0\0\0\0\1", 3),
    lambda: calls(b"torch\nTensor\n", b"\x8a\5\0\0\0\0\4", 3),
    lambda: calls(b"collections\nOrderedDict\n", b"](" + b"NN\x86" * 10_000 + b"e", 10_000),
    lambda: calls(b"builtins\nlist\n", b"](" + b"N" * 100_000 + b"e", 10_000),
    lambda: hex_chain(30),
    lambda: b"](" + b"N" * 300_000 + b"e",
)


def hostile_checkpoint(path: Path, generator: Generator) -> Path:
    """Write a checkpoint with settings, tensors or containers that lie."""
    arguments, state = dict(ARGUMENTS), dict(state_of())
    for _ in range(generator.integers(1, 4)):
        arguments[SETTINGS[generator.integers(len(SETTINGS))]] = LIES[generator.integers(len(LIES))]
    match generator.integers(6):
        case 0:
            strange = STRANGE_TENSORS[generator.integers(len(STRANGE_TENSORS))]()
            state["BN.0.1.weight"] = state["extra"] = strange
        case 1:
            spelled = STRANGE_PICKLES[generator.integers(len(STRANGE_PICKLES))]()
            return archive(path, pickle_of(spelled, b"}") if generator.integers(3) == 0 else pickle_of(b"}", spelled))
        case 2:
            arguments[SETTINGS[generator.integers(len(SETTINGS))]] = torch.zeros(3)
        case 3:
            state |= {f"t{n}": state["BN.0.1.weight"] for n in range(generator.choice([1, 1000, 20_000]))}
        case _:
            pass
    return saved(path, arguments, state)


# --- bombs that were found -------------------------------------------------------------------------------------------


def _model(changes: dict[str, Any], shapes: dict[str, list[int]] | None = None) -> Callable[[Path], Any]:
    return lambda path: write_model(path, FACTS | changes, {"x": [1]} if shapes is None else shapes)


def _settings(**changes: Any) -> Callable[[Path], Any]:
    return lambda path: saved(path, ARGUMENTS | changes, state_of())


def _containers(spelled: Callable[[], bytes]) -> Callable[[Path], Any]:
    settings = b"}" + text("targets"), b"s"
    return lambda path: archive(path, pickle_of(zeros("BN.0.0.weight", 1), spelled().join(settings)), {"0": bytes(4)})


def _tensor(make: Callable[[], Any]) -> Callable[[Path], Any]:
    return lambda path: saved(path, ARGUMENTS, state_of() | {"BN.0.1.weight": make()})


def _mixed(path: Path) -> Path:
    return saved(path, ARGUMENTS, {1: torch.zeros(1), "a": torch.zeros(1)})


def _zeros(path: Path) -> Path:
    return archive(path, pickle_of(zeros("BN.0.1.weight", 1 << 26), b"}"), {"0": bytes(4 << 26)}, deflated=True)


TARGETS = [f"t{n}" for n in range(50_000)]
BOMBS: dict[str, Callable[[Path], Any]] = {
    "bands_count.safetensors": _model({"bands": [[500, 10**6]] * 3000}),
    "bands_count_100.safetensors": _model({"bands": [[500, 10**6]] * 100}),
    "n_features_1e6.safetensors": _model({"n_features": 10**6, "mask": {"hidden_factor": 10**6}}),
    "blocks_1e6.safetensors": _model({"n_blocks": 200_000}, {f"t{n}": [0] for n in range(200_000)}),
    "blocks_of_nothing.safetensors": _model(
        {"n_blocks": 50_000, "time": None, "band": None}, {f"t{n}": [0] for n in range(50_000)}
    ),
    "many_targets.safetensors": _model({"targets": TARGETS}, {f"t{n}": [0] for n in range(50_000)}),
    "laughs.ckpt": _containers(lambda: nested(b"N", 28, twice=True)),
    "deep.ckpt": _containers(lambda: nested(b"N", 5000, twice=False)),
    "selfref.ckpt": _containers(STRANGE_PICKLES[2]),
    "hp_key_int.ckpt": lambda path: saved(path, {1: 2, "nothing": "bass"}),
    "sd_mixed.ckpt": _mixed,
    "hp_feature_dim.ckpt": _settings(feature_dim=10**18),
    "hp_num_repeat.ckpt": _settings(num_repeat=10**7),
    "hp_fac_mask.ckpt": _settings(fac_mask=10**12),
    "hp_n_fft.ckpt": _settings(n_fft=2**62, n_hop=2**61),
    "expand.ckpt": _tensor(STRANGE_TENSORS[0]),
    "complex64.ckpt": _tensor(STRANGE_TENSORS[2]),
    "int8.ckpt": _tensor(STRANGE_TENSORS[3]),
    "sparse.ckpt": _tensor(STRANGE_TENSORS[5]),
    "quantised.ckpt": _tensor(STRANGE_TENSORS[6]),
    "tuple_key.ckpt": _containers(STRANGE_PICKLES[5]),
    "bytearrays.ckpt": _containers(STRANGE_PICKLES[6]),
    "tensors_by_size.ckpt": _containers(STRANGE_PICKLES[7]),
    "ordered_dicts.ckpt": _containers(STRANGE_PICKLES[8]),
    "lists.ckpt": _containers(STRANGE_PICKLES[9]),
    "codecs.ckpt": _containers(STRANGE_PICKLES[10]),
    "deflated_zeros.ckpt": _zeros,
}
