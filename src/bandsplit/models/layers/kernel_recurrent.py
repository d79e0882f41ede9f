"""Bidirectional recurrent layers by the CPU kernels of ``bandsplit-kernels``: on a latent, without a folded copy."""

from typing import Literal

import torch
from torch import Tensor, nn

from bandsplit.core.kernels import KernelPrecision, Kernels, PackedRecurrent, describe_problem, fits, search_kernels
from bandsplit.models.layers.cpu_work import is_plain_cpu_work
from bandsplit.models.layers.kernel_packing import pack_recurrent
from bandsplit.models.layers.kernel_products import arrays_of, has_plain_weights, keep_packed, precision_of_products
from bandsplit.models.layers.linear import Linear
from bandsplit.models.layers.sequence import RecurrentLayer


def kernel_problem(model: nn.Module, precision: KernelPrecision) -> str | None:
    """Return why the kernels compute no layer of a model in a precision; None if they do."""
    if (problem := describe_problem(precision)) is not None:
        return problem
    if any(isinstance(module, RecurrentLayer) and _suits(module) for module in model.modules()):
        return None
    # Networks without such layers have other products, which autocast has in bfloat16, too.
    linear = (module for module in model.modules() if isinstance(module, Linear))
    if precision != "bf16" and any(has_plain_weights(module) for module in linear):
        return None
    return (
        "is for bidirectional recurrent layers of 16, 32, 48 ... features and for transformers; this model has neither"
    )


def _suits(layer: RecurrentLayer) -> bool:
    rnn = layer.rnn
    return rnn.bidirectional and fits(rnn.input_size, rnn.hidden_size, layer.norm.groups) and has_plain_weights(layer)


def _sequences(x: Tensor, axis: Literal["time", "band"], heads: int) -> int:
    b, c, k, t, _ = x.shape
    return b * c * heads * (k if axis == "time" else t)


def _is_quicker(layer: RecurrentLayer, sequences: int) -> bool:
    """Return whether the kernels are faster than torch's, by measurement; in lower precisions they always serve.

    They read all weights at every step, for up to 24 sequences at once, and torch those of the input only once.
    """
    rnn = layer.rnn
    in_cache = 16 * rnn.hidden_size * (rnn.input_size + rnn.hidden_size) <= 1_000_000  # bytes of a direction
    return precision_of_products() != "fp32" or sequences >= (4 if in_cache else 18)


def residual_along(layer: nn.Module, x: Tensor, axis: Literal["time", "band"], heads: int) -> Tensor | None:
    """Compute ``x + layer(x)`` for ``(b c k t (h n))``, sequences along an axis; None if the kernels do not suit.

    They suit a bidirectional layer in single precision that is not trained now, of sizes that they have, with finite
    weights, on a CPU that has them, unless torch is quicker. Their products are in the precision of `products_in`.
    """
    if not isinstance(layer, RecurrentLayer) or not layer.fast or torch.is_grad_enabled() or not is_plain_cpu_work(x):
        return None
    kernels = search_kernels().kernels
    if kernels is None or not _suits(layer) or not _is_quicker(layer, _sequences(x, axis, heads)):
        return None
    packed = keep_packed(layer, kernels, lambda: pack_layer(kernels, layer, precision_of_products()))
    if packed is None:
        return None
    x = x.contiguous()
    y = torch.empty_like(x)
    packed.along(x.numpy(), y.numpy(), axis, heads, torch.get_num_threads())
    return y


def pack_layer(kernels: Kernels, layer: RecurrentLayer, precision: KernelPrecision = "fp32") -> PackedRecurrent:
    """Pack the weights of a bidirectional layer.

    Raises:
        UnfitWeightsError: one is not finite, or the kernels lack its size or the precision.
    """
    norm = layer.norm
    return pack_recurrent(kernels, arrays_of(layer), groups=norm.groups, eps=norm.eps, precision=precision)
