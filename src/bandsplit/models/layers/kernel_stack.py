"""Linear layers by the CPU kernels of ``bandsplit-kernels``: with their activations, in one pass over the rows."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.core.kernels import Dense, KernelPrecision, Kernels, PackedStack, search_kernels
from bandsplit.models.layers.cpu_work import is_plain_cpu_work
from bandsplit.models.layers.kernel_products import keep_packed, precision_of_linear_layers


def kernels_for(x: Tensor, sizes: Sequence[int]) -> Kernels | None:
    """Return the kernels if they serve linear layers on ``x``, with inputs of these sizes; else torch computes.

    They do so without gradients, in single precision on a CPU with AVX-512; AVX2 gains too little, by measurement.
    """
    if torch.is_grad_enabled() or not is_plain_cpu_work(x) or x.numel() == 0 or any(size % 16 for size in sizes):
        return None
    kernels = search_kernels().kernels
    return kernels if kernels is not None and kernels.name.startswith("avx512") else None


def mixed_channels(
    tac: nn.Module, x: Tensor, transform: nn.Linear, average: nn.Linear, concatenate: nn.Linear, activation: nn.Module
) -> Tensor | None:
    """Compute a transform-average-concatenate block, with its residual, on ``(b c k t n)``.

    The layers are parts of ``tac``. None if the kernels do not suit.
    """
    kernels = kernels_for(x, [transform.in_features, average.in_features])
    if kernels is None:
        return None
    b, c, k, t, n = x.shape

    def pack() -> list[PackedStack]:
        precision = precision_of_linear_layers(kernels)
        return [pack_tac(kernels, transform, average, concatenate, activation, precision)]

    if (stacks := keep_packed(tac, kernels, pack)) is None:
        return None
    rows = x.contiguous().numpy().reshape(b, c, k * t, n)
    return torch.from_numpy(stacks[0].apply(rows, torch.get_num_threads())).view(x.shape)


@torch.no_grad()
def pack_tac(
    kernels: Kernels,
    transform: nn.Linear,
    average: nn.Linear,
    concatenate: nn.Linear,
    activation: nn.Module,
    precision: KernelPrecision = "fp32",
) -> PackedStack:
    """Pack a transform-average-concatenate block, whose layers share `nn.Tanh`, or `nn.PReLU` of one slope.

    Raises:
        ValueError: a weight is not finite, or the kernels lack its size or the precision.
    """
    slope = float(activation.weight) if isinstance(activation, nn.PReLU) else None
    from_each, from_mean = concatenate.weight.detach().chunk(2, dim=1)

    def layer(weight: Tensor, bias: Tensor | None, activated: bool = True) -> Dense:
        stacked = weight.detach().numpy()[None]
        biases = np.zeros((1, len(weight))) if bias is None else bias.detach().numpy()[None]
        if not activated:
            return Dense(stacked, biases, precision)
        if slope is None:
            return Dense(stacked, biases, precision, "tanh")
        return Dense(stacked, biases, precision, "prelu", np.full(len(weight), slope))

    layers = [
        layer(transform.weight, transform.bias),
        layer(average.weight, average.bias),
        layer(from_mean, concatenate.bias, activated=False),
        layer(from_each, None),
    ]
    return PackedStack(kernels, layers, mixes=True)


def prelu_linear(owner: nn.Module, x: Tensor, linear: nn.Linear, slope: Tensor) -> Tensor | None:
    """Apply a linear layer and PReLU to ``(b t k n)``: ``(b t k (h m))`` with ``h`` slopes.

    Both are parts of ``owner``. Products are in single precision: rounding shows most in those of attention. None if
    the kernels do not suit.
    """
    kernels = kernels_for(x, [linear.in_features])
    if kernels is None:
        return None

    def pack() -> list[PackedStack]:
        slopes = slope.detach().repeat_interleave(linear.out_features // len(slope)).numpy()
        weight, bias = linear.weight.detach().numpy()[None], linear.bias.detach().numpy()[None]
        return [PackedStack(kernels, [Dense(weight, bias, "fp32", "prelu", slopes)])]

    if (stacks := keep_packed(owner, kernels, pack)) is None:
        return None
    swapped = x.transpose(1, 2).is_contiguous()  # rows are independent: no copy is needed
    rows = x.transpose(1, 2) if swapped else x.contiguous()
    found = stacks[0].apply(rows.reshape(1, 1, -1, linear.in_features).numpy(), torch.get_num_threads())
    y = torch.from_numpy(found).view(*rows.shape[:-1], linear.out_features)
    return y.transpose(1, 2) if swapped else y


Layers = Iterable[Sequence[tuple[Tensor, Tensor]]]
"""Weights ``(k in out)`` and biases ``(k 1 out)`` of the layers of each run of k bands."""


def tanh_perceptrons(owner: nn.Module, x: Tensor, eps: float, layers: Callable[[], Layers]) -> list[Tensor] | None:
    """Standardise ``(k b t n)`` over (frames, features) and apply perceptrons: ``(k b*t out)`` of each run of bands.

    They have tanh between their layers. None if the kernels do not suit.
    """
    kernels = kernels_for(x, [x.shape[-1]])
    if kernels is None:
        return None
    stacks = keep_packed(
        owner, kernels, lambda: pack_perceptrons(kernels, layers(), precision_of_linear_layers(kernels))
    )
    if stacks is None:
        return None
    rows = F.layer_norm(x, x.shape[-2:], eps=eps).flatten(1, 2).unsqueeze(1).contiguous().numpy()
    threads, start, found = torch.get_num_threads(), 0, []
    for stack in stacks:
        found.append(torch.from_numpy(stack.apply(rows[start : start + stack.sets], threads)).squeeze(1))
        start += stack.sets
    return found


@torch.no_grad()
def pack_perceptrons(kernels: Kernels, runs: Layers, precision: KernelPrecision) -> list[PackedStack]:
    """Pack perceptrons with tanh between their layers; the first and the last one are always in single precision.

    Raises:
        ValueError: a weight is not finite, or the kernels lack a size or the precision.
    """
    stacks = []
    for layers in runs:
        packed = [
            Dense(weight.detach().mT.numpy(), bias.detach().squeeze(1).numpy(), precision, "tanh")
            for weight, bias in layers
        ]
        packed[0] = packed[0]._replace(precision="fp32")
        packed[-1] = packed[-1]._replace(precision="fp32", activation="none")
        stacks.append(PackedStack(kernels, packed))
    return stacks
