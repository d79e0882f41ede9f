"""The U-Net of TFC-TDF blocks in published checkpoints: names of its tensors, and the options that they determine.

Source: DTTNet-Pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Shape
from bandsplit.models.layers.tfc_tdf_v2_config import UnetConfig
from bandsplit.models.options import Options

BLOCK_TYPES = {"TFC_TDF": "plain", "TFC_TDF_Res1": "res1", "TFC_TDF_Res2": "res2"}
"""Their names of blocks -> ours."""
_PLACES = {"enter": "first_conv", "encoder": "encoding_blocks", "down": "ds", "up": "us", "decoder": "decoding_blocks"}


def their_name(name: str, config: UnetConfig, bottleneck: str) -> str:
    """Return the name that a tensor of the U-Net has in a checkpoint.

    Args:
        name: our name, such as ``encoder.0.block.tfc.1.norm.weight``.
        config: the U-Net.
        bottleneck: their name of its coarsest block.
    """
    place, *rest = name.split(".")
    if place == "leave":
        return f"final_conv.0.{rest[0]}"
    *path, part, parameter = rest  # part: "layer", which is their 0, or "norm", their 1
    at = int(part == "norm")
    if place in ("enter", "down", "up"):
        return ".".join([_PLACES[place], *path, str(at), parameter])
    start = [bottleneck] if place == "bottleneck" else [_PLACES[place], path.pop(0)]
    _, layers, *number = path
    match layers:
        case "tdf":
            end = ["tdf", str(3 * int(number[0]) + at)]
        case "shortcut":
            end = ["res", "H", "0", str(at)]
        case _:
            own = "tfc1" if layers == "tfc" and config.block == "res2" else layers
            end = [own, "H", number[0], str(at)]
    return ".".join([*start, *end, parameter])


def find_options(shapes: Mapping[str, Shape], bottleneck: str) -> dict[str, Any]:
    """Return the options of a U-Net, under their names, that the tensors of a checkpoint determine.

    Raises:
        ModelFileError: a tensor is missing that they depend on.
    """
    parts = {name.removeprefix(f"{bottleneck}.").split(".")[0] for name in shapes if name.startswith(f"{bottleneck}.")}
    kind = "TFC_TDF_Res2" if "tfc1" in parts else "TFC_TDF_Res1" if "res" in parts else "TFC_TDF"
    convs = f"{bottleneck}.tfc1.H" if kind == "TFC_TDF_Res2" else f"{bottleneck}.tfc.H"
    first = _shape(shapes, "first_conv.0.weight", 4)
    found = {
        "audio_ch": first[1] // 2, "block_type": kind, "num_blocks": 2 * _count(shapes, "encoding_blocks") + 1,
        "l": _count(shapes, convs), "g": first[0], "k": _shape(shapes, f"{convs}.0.0.weight", 4)[2],
        "bn": _factor(shapes, bottleneck), "bias": f"{bottleneck}.tdf.0.bias" in shapes,
    }  # fmt: skip
    if {"window", "freq_pad"} <= shapes.keys():
        n_fft = _shape(shapes, "window", 1)[0]
        found |= {"n_fft": n_fft, "dim_f": n_fft // 2 + 1 - _shape(shapes, "freq_pad", 4)[2]}
    return found


def _factor(shapes: Mapping[str, Shape], bottleneck: str) -> int | None:
    """Return the factor of the linear layers: the largest that gives the widths of all, which are rounded down."""
    first = [name for name in shapes if name.endswith(".tdf.0.weight")]
    if not first:
        return None
    if f"{bottleneck}.tdf.3.weight" not in shapes:
        return 0
    return min(n_in // max(n_out, 1) for n_out, n_in in (_shape(shapes, name, 2) for name in first))


def take_unet(options: Options, found: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the options of a U-Net; those that are absent are as ``found`` in the tensors.

    Raises:
        ModelFileError: one is not supported.
    """
    options.require("block_type", found["block_type"], *BLOCK_TYPES)
    factor, bias = take_integer(options, "bn", found["bn"], or_none=True), options.take("bias", found["bias"])
    tdf = None if factor is None else {"kind": "square", "bias": bias}
    if factor:
        tdf = {"kind": "bottleneck", "factor": factor, "bias": bias}
    return {
        "block": BLOCK_TYPES[options.take("block_type", found["block_type"])],
        "convs": options.take("l", found["l"]),
        "kernel": options.take("k", found["k"]),
        "n_features": options.take("g", found["g"]),
        "levels": take_integer(options, "num_blocks", found["num_blocks"]) // 2,
        "tdf": tdf,
    }


def take_integer(options: Options, name: str, *default: Any, or_none: bool = False) -> Any:
    """Take an option that must be an integer.

    Raises:
        ModelFileError: it is not, or it is needed and missing.
    """
    value = options.take(name, *default)
    if (value is None and or_none) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ModelFileError(f"{options.where}: {name} = {value!r} must be an integer{' or null' if or_none else ''}")


def check_constants(constants: Mapping[str, Any], n_fft: int) -> None:
    """Make sure that the constants stored among the weights, which may be absent, are those that we compute.

    Raises:
        ModelFileError: the window is not a periodic Hann window of ``n_fft``, or there is something in bins left out.
    """
    window = constants.get("window")
    if window is not None and not _is_hann(window, n_fft):
        raise ModelFileError(f"window: is not the periodic Hann window of {n_fft} samples, and no other is supported")
    if "freq_pad" in constants and constants["freq_pad"].any():
        raise ModelFileError("freq_pad: must be zero, the value of bins that the network leaves out")


def _is_hann(window: Any, n_fft: int) -> bool:
    expected = torch.hann_window(n_fft, periodic=True).to(window.dtype)
    return window.shape == expected.shape and torch.allclose(window.float(), expected.float(), rtol=0, atol=1e-6)


def _shape(shapes: Mapping[str, Shape], name: str, axes: int) -> Shape:
    if name not in shapes or len(shapes[name]) != axes:
        found = f"has shape {shapes[name]}" if name in shapes else "is missing"
        raise ModelFileError(f"{name}: {found}, and must have {axes} axes")
    return shapes[name]


def _count(shapes: Mapping[str, Shape], place: str) -> int:
    return len({name[len(place) + 1 :].split(".")[0] for name in shapes if name.startswith(f"{place}.")})
