"""Linear layers by the CPU kernels of ``bandsplit-kernels``: with their activations, in one pass over the rows."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.core.kernels import Kernels, PackedStack, search_kernels
from bandsplit.models.layers.cpu_work import is_plain_cpu_work
from bandsplit.models.layers.kernel_packing import pack_mixing, pack_perceptrons
from bandsplit.models.layers.kernel_products import arrays_of, keep_packed, precision_of_products


def kernels_for(x: Tensor, sizes: Sequence[int]) -> Kernels | None:
    """Return the kernels if they serve linear layers on ``x``, with inputs of these sizes; else torch computes.

    They do so without gradients, in single precision on a CPU with AVX-512; AVX2 gains too little, by measurement.
    """
    if torch.is_grad_enabled() or not is_plain_cpu_work(x) or x.numel() == 0 or any(size % 16 for size in sizes):
        return None
    kernels = search_kernels().kernels
    return kernels if kernels is not None and kernels.is_quick else None


def apply_to_rows(stack: PackedStack, x: Tensor) -> Tensor:
    """Map ``(... n)`` to ``(... m)``; the stack has one set of weights."""
    found = stack.apply(x.contiguous().numpy().reshape(1, 1, -1, stack.n_in), torch.get_num_threads())
    return torch.from_numpy(found).view(*x.shape[:-1], stack.n_out)


def mixed_channels(tac: nn.Module, x: Tensor, hidden: int) -> Tensor | None:
    """Compute a transform-average-concatenate block of ``hidden`` features, with its residual, on ``(b c k t n)``.

    The block has no normalisation. None if the kernels do not suit.
    """
    b, c, k, t, n = x.shape
    kernels = kernels_for(x, [n, hidden])
    if kernels is None:
        return None
    precision = kernels.beside(precision_of_products())
    stacks = keep_packed(tac, kernels, lambda: [pack_mixing(kernels, arrays_of(tac), precision)])
    if stacks is None:
        return None
    rows = x.contiguous().numpy().reshape(b, c, k * t, n)
    return torch.from_numpy(stacks[0].apply(rows, torch.get_num_threads())).view(x.shape)


Layers = Iterable[Sequence[tuple[Tensor, Tensor]]]
"""Weights ``(k in out)`` and biases ``(k 1 out)`` of the layers of each run of k bands."""


def tanh_perceptrons(owner: nn.Module, x: Tensor, eps: float, layers: Callable[[], Layers]) -> list[Tensor] | None:
    """Standardise ``(k b t n)`` over (frames, features) and apply perceptrons: ``(k b*t out)`` of each run of bands.

    They have tanh between their layers. None if the kernels do not suit.
    """
    kernels = kernels_for(x, [x.shape[-1]])
    if kernels is None:
        return None

    def pack() -> list[PackedStack]:
        arrays = ([(weight.numpy(), bias.numpy()) for weight, bias in run] for run in layers())
        return pack_perceptrons(kernels, arrays, kernels.beside(precision_of_products()))

    if (stacks := keep_packed(owner, kernels, pack)) is None:
        return None
    rows = F.layer_norm(x, x.shape[-2:], eps=eps).flatten(1, 2).unsqueeze(1).contiguous().numpy()
    threads, start, found = torch.get_num_threads(), 0, []
    for stack in stacks:
        found.append(torch.from_numpy(stack.apply(rows[start : start + stack.sets], threads)).squeeze(1))
        start += stack.sets
    return found
