"""Linear layers by the CPU kernels of ``bandsplit-kernels``: with their activations, in one pass over the rows."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bandsplit.core.kernels import Dense, KernelPrecision, Kernels, PackedStack, search_kernels
from bandsplit.models.layers.cpu_work import is_plain_cpu_work
from bandsplit.models.layers.kernel_products import keep_packed, precision_of_products


def kernels_for(x: Tensor, sizes: Sequence[int]) -> Kernels | None:
    """Return the kernels if they serve linear layers on ``x``, with inputs of these sizes; else torch computes.

    They do so without gradients, in single precision on a CPU. AVX2 has no faster products of single precision than torch.
    """
    if torch.is_grad_enabled() or not is_plain_cpu_work(x) or x.numel() == 0 or any(size % 16 for size in sizes):
        return None
    kernels = search_kernels().kernels
    if kernels is None or (precision_of_products() == "fp32" and not kernels.name.startswith("avx512")):
        return None
    return kernels


def mixed_channels(
    tac: nn.Module, x: Tensor, transform: nn.Linear, average: nn.Linear, concatenate: nn.Linear, activation: nn.Module
) -> Tensor | None:
    """Compute a transform-average-concatenate block with its residual on ``(b c k t n)``; None if the kernels do not suit."""
    kernels = kernels_for(x, [transform.in_features, average.in_features])
    if kernels is None:
        return None
    b, c, k, t, n = x.shape

    def pack() -> list[PackedStack]:
        return [pack_tac(kernels, transform, average, concatenate, activation, precision_of_products())]

    try:
        (packed,) = keep_packed(tac, kernels, pack)
    except ValueError:  # weights that are not finite: torch shows what they lead to
        return None
    rows = x.contiguous().numpy().reshape(b, c, k * t, n)
    return torch.from_numpy(packed.apply(rows, torch.get_num_threads())).view(x.shape)


@torch.no_grad()
def pack_tac(
    kernels: Kernels,
    transform: nn.Linear,
    average: nn.Linear,
    concatenate: nn.Linear,
    activation: nn.Module,
    precision: KernelPrecision = "fp32",
) -> PackedStack:
    """Pack a transform-average-concatenate block, whose layers share one activation: `nn.Tanh`, or `nn.PReLU` of one slope.

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
