"""Names of the tensors in models of the paper's authors, and the stacking of these tensors into ours."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bandsplit.core.errors import ModelFileError
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.contract import Shape
from bandsplit.models.tensors import describe_problems, shapes_in

IGNORED_TENSORS = ("stft.transf.window", "istft.transf.window")
"""Windows: computed here, not learnt."""

_BAND_PARTS = {  # our name -> (index of norm or product in theirs, parameter, their shape -> ours)
    "weight": (1, "weight", lambda w: w.flatten(1).mT),
    "bias": (1, "bias", lambda b: b[None]),
    "norm_weight": (0, "weight", lambda g: g[:, None]),
    "norm_bias": (0, "bias", lambda g: g[None]),
}
_SEQUENCE_PARTS = {
    "rnn": "main_layer", "conv": "main_layer.0", "project": "proj", "enter": "in_layer", "dilated": "dil_layers",
    "fuse": "concat_layers", "leave": "out_layer",
}  # fmt: skip
_ATTENTION_PARTS = {"query": "attn_conv_Q_{}", "key": "attn_conv_K_{}", "value": "attn_conv_V_{}"}

TensorOrigin = tuple[list[str], Callable[[list[Tensor]], Tensor]]
"""Their names, and the function that turns the tensors of these names into one of ours."""


def tensors_from_authors(
    config: BsrnnConfig, theirs: Mapping[str, Shape], read: Callable[[str], Tensor]
) -> dict[str, Tensor]:
    """Rename and stack the authors' tensors to names and shapes of the state dict of ``config``.

    Args:
        config: configuration of the network.
        theirs: name and shape of each tensor.
        read: returns the tensor of a name.

    Raises:
        ModelFileError: a tensor is missing, unexpected or cannot be stacked; the message names the authors' keys.
        ConfigError: ``config`` needs far more tensors or numbers than ``theirs``.
    """
    expected = shapes_in(config, theirs.values())
    sources = {name: _source(config, name) for name in expected}
    wanted = {key for keys, _ in sources.values() for key in keys}
    problems = [f"missing: {key}" for key in sorted(wanted - theirs.keys())]
    problems += [f"unexpected: {key}" for key in sorted(theirs.keys() - wanted - set(IGNORED_TENSORS))]
    if problems:
        raise ModelFileError(describe_problems(problems))
    ours: dict[str, Tensor] = {}
    for name, (keys, combine) in sources.items():
        try:
            ours[name] = combine([read(key) for key in keys])
        except (RuntimeError, IndexError):
            ours[name] = torch.empty(0)
        if ours[name].shape != expected[name]:
            shapes = ", ".join(f"{key} {theirs[key]}" for key in keys[:3])
            problems.append(f"misshapen: {shapes}{' ...' if len(keys) > 3 else ''}")
    if problems:
        raise ModelFileError(describe_problems(problems))
    return ours


def _source(config: BsrnnConfig, name: str) -> TensorOrigin:
    module, _, rest = name.partition(".")
    if module == "encoder":
        _, run, part = rest.split(".")
        return _bands("BN.{}", config, int(run), part, 0)
    if module == "decoders":
        target, layer, rest = rest.split(".", 2)
        prefix = f"maskers.{config.targets.index(target)}.mask.{{}}"
        if layer == "enter":
            return _bands(prefix, config, None, rest, 0)
        index, part = rest.split(".")
        if layer == "hidden":
            return _bands(prefix, config, None, part, 2 + 2 * int(index))
        return _bands(prefix, config, int(index), part, 2 * config.mask.hidden_layers)
    block, part, rest = rest.split(".", 2)
    prefix = f"separator.{block}"
    if part == "tac":
        return _tac(f"{prefix}.tac_module", rest)
    if part == "attention":
        return _attention(f"{prefix}.attn_block", config, rest)
    return _same([f"{prefix}.{part}_net.{_sequence_name(rest.removeprefix('layer.'))}"])


def _same(keys: list[str]) -> TensorOrigin:
    return keys, lambda tensors: tensors[0]


def _sequence_name(name: str) -> str:
    ours, dot, rest = name.partition(".")
    return _SEQUENCE_PARTS.get(ours, ours) + dot + rest


def _bands(prefix: str, config: BsrnnConfig, run: int | None, part: str, offset: int) -> TensorOrigin:
    """Stack one parameter over the bands of a run, or of all bands; ``offset`` is the layer's index in theirs."""
    runs = config.band_runs()
    first = sum(r.count for r in runs[:run]) if run is not None else 0
    count = runs[run].count if run is not None else config.n_bands
    index, parameter, reshape = _BAND_PARTS[part]
    keys = [f"{prefix.format(band)}.{index + offset}.{parameter}" for band in range(first, first + count)]
    return keys, lambda tensors: torch.stack([reshape(tensor) for tensor in tensors])


def _tac(prefix: str, name: str) -> TensorOrigin:
    if name != "activation.weight":
        layer, parameter = name.split(".")
        return _same([f"{prefix}.{layer.replace('concatenate', 'concat')}.0.{parameter}"])

    def shared_slope(slopes: list[Tensor]) -> Tensor:
        if not all(torch.equal(slope, slopes[0]) for slope in slopes):
            raise ModelFileError(f"{prefix}: its three PReLU slopes differ, but the authors' model shares one")
        return slopes[0]

    return [f"{prefix}.{layer}.1.weight" for layer in ("transform", "average", "concat")], shared_slope


def _attention(prefix: str, config: BsrnnConfig, name: str) -> TensorOrigin:
    assert config.attention is not None
    projection, part = name.split(".", 1)
    if projection == "project":
        parts = [f"{prefix}.attn_concat_proj"]
    else:
        parts = [f"{prefix}.{_ATTENTION_PARTS[projection].format(head)}" for head in range(config.attention.heads)]
    match part:
        case "linear.weight":
            return [f"{p}.0.weight" for p in parts], lambda tensors: torch.cat([w.flatten(1) for w in tensors])
        case "linear.bias":
            return [f"{p}.0.bias" for p in parts], torch.cat
        case "slope":
            return [f"{p}.1.weight" for p in parts], torch.cat
        case _:  # gain and bias per (feature, band), theirs (1 n 1 k), ours (h k n)
            theirs = {"weight": "gamma", "bias": "beta"}[part]
            return [f"{p}.2.{theirs}" for p in parts], lambda tensors: torch.cat([g[:, :, 0].mT for g in tensors])
