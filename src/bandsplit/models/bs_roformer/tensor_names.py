"""Names of the tensors in public checkpoints, and the stacking of these tensors into ours.

Source: docs/bs-roformer.md#checkpoints.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.contract import Checkpoint, Shape
from bandsplit.models.tensors import compare_shapes, shapes_in

_ROTARY = {
    "attention.norm.gain": "0.norm.gamma", "attention.rotary.frequencies": "0.rotary_embed.freqs",
    "attention.qkv.weight": "0.to_qkv.weight", "attention.gate.weight": "0.to_gates.weight",
    "attention.gate.bias": "0.to_gates.bias", "attention.out.weight": "0.to_out.0.weight",
}  # fmt: skip
_LINEAR = {
    "attention.norm.gain": "0.norm.gamma", "attention.temperature": "0.temperature",
    "attention.qkv.weight": "0.to_qkv.0.weight", "attention.out.weight": "0.to_out.1.weight",
}  # fmt: skip
_FEED_FORWARD = {
    "feed_forward.norm.gain": "1.net.0.gamma",
    "feed_forward.enter.weight": "1.net.1.weight", "feed_forward.enter.bias": "1.net.1.bias",
    "feed_forward.leave.weight": "1.net.4.weight", "feed_forward.leave.bias": "1.net.4.bias",
}  # fmt: skip
_BAND_PARTS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "weight": ("weight", lambda weight: weight.mT),
    "bias": ("bias", lambda bias: bias[None]),
    "gain": ("gamma", lambda gain: gain[None]),
}
"""Our name of a parameter of a band -> their name, and the function from their shape to ours."""


class _Origin(NamedTuple):
    """The tensors that one of ours is made of."""

    names: list[str]
    shape: Shape
    """Of each."""
    combine: Callable[[list[Tensor]], Tensor]


def tensors_from_authors(
    config: BsRoformerConfig, places: Mapping[str, int], checkpoint: Checkpoint
) -> dict[str, Tensor]:
    """Rename and stack their tensors to names and shapes of the state dict of ``config``, of the types in the file.

    Args:
        config: configuration of the network.
        places: number of the transformers of each axis within their blocks.
        checkpoint: their tensors.

    Raises:
        ModelFileError: a tensor is missing, unexpected or misshapen; the message names their tensors.
        ConfigError: ``config`` needs far more tensors or numbers than the file has.
    """
    theirs = checkpoint.shapes
    expected = shapes_in(config, theirs.values())
    origins = {name: _find_origin(config, places, name, shape) for name, shape in expected.items()}
    wanted = {name: origin.shape for origin in origins.values() for name in origin.names}
    compare_shapes(wanted, theirs)
    return {name: origin.combine([checkpoint.read(part) for part in origin.names]) for name, origin in origins.items()}


def _find_origin(config: BsRoformerConfig, places: Mapping[str, int], name: str, shape: Shape) -> _Origin:
    module, _, rest = name.partition(".")
    match module:
        case "split":
            _, run, part = rest.split(".")
            layer = "band_split.to_features.{}." + ("0" if part == "gain" else "1")
            return _stack_bands(layer, config, int(run), part, shape)
        case "linears" | "blocks":
            block, axis, _, rest = rest.split(".", 3)
            return _keep(f"layers.{block}.{places[axis]}.{_name_in_transformer(axis, rest)}", shape)
        case "norm":
            return _keep("final_norm.gamma", shape)
        case _:
            target, kind, number, part = rest.split(".")
            is_hidden = kind == "hidden"
            layer = 2 * (int(number) if is_hidden else config.mask.hidden_layers)  # a tanh follows each layer
            prefix = f"mask_estimators.{config.targets.index(target)}.to_freqs.{{}}.0.{layer}"
            return _stack_bands(prefix, config, None if is_hidden else int(number), part, shape)


def _name_in_transformer(axis: str, name: str) -> str:
    if name == "norm.gain":
        return "norm.gamma"
    _, number, part = name.split(".", 2)
    return f"layers.{number}.{(_FEED_FORWARD | (_LINEAR if axis == 'linear' else _ROTARY))[part]}"


def _keep(name: str, shape: Shape) -> _Origin:
    return _Origin([name], shape, lambda tensors: tensors[0])


def _stack_bands(prefix: str, config: BsRoformerConfig, run: int | None, part: str, shape: Shape) -> _Origin:
    """Stack one parameter over the bands of a run, or of all bands."""
    runs = config.band_runs()
    first = sum(r.count for r in runs[:run]) if run is not None else 0
    parameter, reshape = _BAND_PARTS[part]
    names = [f"{prefix.format(band)}.{parameter}" for band in range(first, first + shape[0])]
    each = (shape[2], shape[1]) if part == "weight" else shape[2:]
    return _Origin(names, each, lambda tensors: torch.stack([reshape(tensor) for tensor in tensors]))
