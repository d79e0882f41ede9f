"""Weights of layers, by the names of their state dicts, packed for the CPU kernels; nothing here needs PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bandsplit.core.kernels import Activation, Dense, KernelPrecision, Kernels, PackedRecurrent, PackedStack

Arrays = Mapping[str, np.ndarray]
"""Arrays in single precision by their names in a layer."""


def part(arrays: Arrays, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a part of a layer, by their names in that part."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def pack_recurrent(
    kernels: Kernels, arrays: Arrays, *, groups: int, eps: float, precision: KernelPrecision
) -> PackedRecurrent:
    """Pack a `RecurrentLayer` with a bidirectional LSTM or GRU.

    Raises:
        UnfitWeightsError: a weight is not finite, or the kernels lack its size or the precision.
    """
    bias = arrays["project.bias"]
    project = arrays["project.weight"].reshape(len(bias), 2, -1).swapaxes(0, 1)
    gru = len(arrays["rnn.weight_hh_l0"]) == 3 * project.shape[-1]
    gates = _gru_gates if gru else _lstm_gates
    weight = np.stack([gates(*_with_norm(arrays, suffix)) for suffix in ("", "_reverse")])
    return PackedRecurrent(kernels, weight, project, bias, gru=gru, groups=groups, eps=eps, precision=precision)


def _with_norm(arrays: Arrays, suffix: str) -> tuple[np.ndarray, ...]:
    """Return weights of input and of last output and both biases of a direction, with gain and bias of the norm in."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    from_input, from_output, bias_ih, bias_hh = (arrays[f"rnn.{name}_l0{suffix}"] for name in names)
    bias_ih = bias_ih + from_input @ arrays["norm.bias"]
    return from_input * arrays["norm.weight"], from_output, bias_ih[:, None], bias_hh[:, None]


def _lstm_gates(
    from_input: np.ndarray, from_output: np.ndarray, bias_ih: np.ndarray, bias_hh: np.ndarray
) -> np.ndarray:
    joined = np.concatenate([from_input, from_output, bias_ih + bias_hh], axis=1)
    into, forget, candidate, outof = np.split(joined, 4)
    return np.concatenate([into, forget, outof, candidate])


def _gru_gates(from_input: np.ndarray, from_output: np.ndarray, bias_ih: np.ndarray, bias_hh: np.ndarray) -> np.ndarray:
    inputs = np.concatenate([from_input, np.zeros_like(from_output), bias_ih], axis=1)
    outputs = np.concatenate([np.zeros_like(from_input), from_output, bias_hh], axis=1)
    both = 2 * len(from_output) // 3  # reset and update gate
    return np.concatenate([inputs[:both] + outputs[:both], inputs[both:], outputs[both:]])


def pack_mixing(kernels: Kernels, arrays: Arrays, precision: KernelPrecision) -> PackedStack:
    """Pack a transform-average-concatenate block without its normalisation.

    Its layers share a PReLU of one slope, ``activation.weight``; without one they have tanh.

    Raises:
        UnfitWeightsError: a weight is not finite, or the kernels lack its size or the precision.
    """
    slope = arrays.get("activation.weight")
    kind: Activation = "tanh" if slope is None else "prelu"
    from_each, from_mean = np.split(arrays["concatenate.weight"], 2, axis=1)

    def layer(weight: np.ndarray, bias: np.ndarray, kind: Activation = kind) -> Dense:
        slopes = np.full(len(weight), slope) if slope is not None and kind == "prelu" else None
        return Dense(weight[None], bias[None], precision, kind, slopes)

    layers = [
        *(layer(arrays[f"{name}.weight"], arrays[f"{name}.bias"]) for name in ("transform", "average")),
        layer(from_mean, arrays["concatenate.bias"], "none"),
        layer(from_each, np.zeros(len(from_each), np.float32)),
    ]
    return PackedStack(kernels, layers, mixes=True)


def pack_head_projections(kernels: Kernels, *projections: Arrays) -> PackedStack:
    """Pack linear layers as one, each with a slope for each head; in single precision, since rounding shows most here.

    Raises:
        UnfitWeightsError: a weight is not finite, or the kernels lack its size.
    """
    weight, bias = (np.concatenate([one[f"linear.{kind}"] for one in projections]) for kind in ("weight", "bias"))
    slopes = [np.repeat(one["slope"], len(one["linear.bias"]) // len(one["slope"])) for one in projections]
    return PackedStack(kernels, [Dense(weight[None], bias[None], "fp32", "prelu", np.concatenate(slopes))])


def fold_norm(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return weight ``(k in out)`` and bias ``(k 1 out)`` of a `BandNormLinear` with its normalisation folded in."""
    weight = arrays["norm_weight"] * arrays["weight"]
    return weight, arrays["bias"] + arrays["norm_bias"] @ arrays["weight"]


Layers = Iterable[Sequence[tuple[np.ndarray, np.ndarray]]]
"""Weights ``(k in out)`` and biases ``(k 1 out)`` of the layers of each run of k bands."""


def pack_perceptrons(kernels: Kernels, runs: Layers, precision: KernelPrecision) -> list[PackedStack]:
    """Pack perceptrons with tanh between their layers; the first and the last one are always in single precision.

    Raises:
        UnfitWeightsError: a weight is not finite, or the kernels lack a size or the precision.
    """
    stacks = []
    for layers in runs:
        packed = [Dense(weight.swapaxes(1, 2), bias[:, 0], precision, "tanh") for weight, bias in layers]
        packed[0] = packed[0]._replace(precision="fp32")
        packed[-1] = packed[-1]._replace(precision="fp32", activation="none")
        stacks.append(PackedStack(kernels, packed))
    return stacks
