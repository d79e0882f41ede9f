"""Model files that lie: about where tensors are, what they hold, how many parts there are. Always one message."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bandsplit.core.errors import ModelFileError
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.card import ModelCard
from bandsplit.models.files import load_model, save_model
from bandsplit.models.network import build_model

CONFIG = BsrnnConfig.parse({"targets": ["vocals"], "bands": [[500, 4]], "n_features": 8, "n_blocks": 1})
ENTER = "decoders.vocals.enter.weight"
NORM = "encoder.norm_weight"


class Parts:
    """A model file taken apart: its header, and the bytes of its tensors."""

    def __init__(self, path: Path) -> None:
        whole = path.read_bytes()
        (length,) = struct.unpack("<Q", whole[:8])
        self.path, self.header, self.body = path, json.loads(whole[8 : 8 + length]), whole[8 + length :]

    def write(self, length: int | None = None) -> Path:
        text = json.dumps(self.header).encode()
        self.path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + self.body)
        return self.path

    def describe(self, part: str, change: Callable[[Any], None]) -> None:
        """Change the configuration or the card in the metadata."""
        described = json.loads(self.header["__metadata__"][part])
        change(described)
        self.header["__metadata__"][part] = json.dumps(described)

    def error(self, length: int | None = None) -> str:
        with pytest.raises(ModelFileError) as caught:
            load_model(self.write(length))
        message = str(caught.value)
        assert message.startswith(f"{self.path}: ")
        return message


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, build_model(CONFIG), ModelCard(name="small", training_data="none", licence="CC0"))
    return path.read_bytes()


@pytest.fixture
def parts(whole: bytes, tmp_path: Path) -> Parts:
    path = tmp_path / "small.safetensors"
    path.write_bytes(whole)
    return Parts(path)


def first(parts: Parts) -> dict[str, Any]:
    """The header's entry of the tensor that lies first."""
    tensors = [entry for name, entry in parts.header.items() if name != "__metadata__"]
    return min(tensors, key=lambda entry: entry["data_offsets"][0])


def test_the_parts_put_together_are_the_model(parts: Parts):
    assert load_model(parts.write()).config == CONFIG


@pytest.mark.parametrize("tenth", range(10))
def test_a_file_cut_at_a_tenth_of_its_length_is_refused(parts: Parts, whole: bytes, tenth: int):
    parts.path.write_bytes(whole[: len(whole) * tenth // 10])
    with pytest.raises(ModelFileError, match=r"small.safetensors: is not a model file or is damaged"):
        load_model(parts.path)


@pytest.mark.parametrize("length", [0, 1, 10**8, 2**31, 2**63, 2**64 - 1])
def test_a_header_length_that_lies_is_refused(parts: Parts, length: int):
    assert "is damaged" in parts.error(length)


@pytest.mark.parametrize(
    "offsets", [[0, 10**9], [10**9, 2 * 10**9], [8, 4], [-4, 4], [0, 2**64], [2**63, 2**64 - 1], [0], "0,4", None]
)
def test_offsets_that_lie_are_refused(parts: Parts, offsets: Any):
    first(parts)["data_offsets"] = offsets
    assert "is damaged" in parts.error()


def test_overlapping_tensors_are_refused(parts: Parts):
    entries = sorted(
        (entry for name, entry in parts.header.items() if name != "__metadata__"),
        key=lambda entry: entry["data_offsets"][0],
    )
    size = entries[1]["data_offsets"][1] - entries[1]["data_offsets"][0]
    entries[1]["data_offsets"] = [0, size]
    assert "is damaged" in parts.error()


@pytest.mark.parametrize("shape", [[10**6], [2**40, 2**40], [-1], [1.5], ["8"], 8])
def test_shapes_that_lie_are_refused(parts: Parts, shape: Any):
    first(parts)["shape"] = shape
    parts.error()


@pytest.mark.parametrize("dtype", ["I32", "U32", "F128", "", 5])
def test_another_type_of_the_same_size_is_refused(parts: Parts, dtype: Any):
    first(parts)["dtype"] = dtype
    message = parts.error()
    if dtype in ("I32", "U32"):
        assert "of another type: " in message and "expected torch.float32" in message


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("F64", "float64"), ("I64", "int64"), ("F8_E4M3", "float8_e4m3fn")])
def test_another_type_of_another_size_is_refused(parts: Parts, dtype: str, torch_dtype: str):
    """The body is cut or stretched so that every offset is right: only the type is not what the network needs."""
    size = {"F64": 8, "I64": 8, "F8_E4M3": 1}[dtype]
    start = 0
    for name, entry in sorted(parts.header.items(), key=lambda item: item[1].get("data_offsets", [-1])[0]):
        if name != "__metadata__":
            count = (entry["data_offsets"][1] - entry["data_offsets"][0]) // 4
            entry |= {"dtype": dtype, "data_offsets": [start, start + count * size]}
            start += count * size
    parts.body = bytes(start)
    assert f"is torch.{torch_dtype}, expected torch.float32" in parts.error()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(parts: Parts, value: float):
    parts.body = parts.body[:-4] + struct.pack("<f", value)
    assert "not finite: " in parts.error()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_blocks", 10**9), ("n_features", 10**12), ("bands", [[500, 10**9]]), ("sample_rate_hz", 2**63),
        ("n_blocks", 10**400), ("mask", {"hidden_layers": 10**6}), ("targets", [f"t{n}" for n in range(10**4)]),
        ("stft", {"n_fft": 2**40, "hop_samples": 2**38}), ("time", {"kind": "dilated", "depth": 10**6}),
        ("targets", ["../../etc"]), ("targets", [[[]]]), ("n_blocks", None), ("bands", 7),
    ],
)  # fmt: skip
def test_a_configuration_that_no_such_file_can_have_is_refused_at_once(parts: Parts, field: str, value: Any):
    parts.describe("config", lambda config: config.update({field: value}))
    assert "its metadata does not describe a model: " in parts.error()


@pytest.mark.parametrize("text", ["", "[", "[1]", "null", "7", "NaN", "[" * 10**5, '{"n_blocks": 1e400}'])
@pytest.mark.parametrize("part", ["config", "card"])
def test_metadata_that_is_no_description_is_refused(parts: Parts, part: str, text: str):
    parts.header["__metadata__"][part] = text
    assert "its metadata does not describe a model: " in parts.error()


def test_a_card_with_more_than_is_known_is_refused(parts: Parts):
    parts.describe("card", lambda card: card.update({"on_load": "print(1)"}))
    assert "unknown key 'on_load'" in parts.error()


def test_random_damage_of_the_header_is_refused_or_harmless(parts: Parts, whole: bytes):
    draw = random.Random(0)
    (length,) = struct.unpack("<Q", whole[:8])
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            damaged[draw.randrange(8 + length)] = draw.randrange(256)
        parts.path.write_bytes(damaged)
        try:
            assert load_model(parts.path).config.targets  # a letter of the card
        except ModelFileError:
            refused += 1
    assert refused > 250
