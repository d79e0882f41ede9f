"""Bidirectional LSTM layers by the CPU kernels of ``bandsplit-kernels``: on a latent in place of a folded copy of it."""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from bandsplit.core.kernels import KernelPrecision, Kernels, PackedLstm, fits, search_kernels
from bandsplit.models.layers.cpu_work import is_plain_cpu_work
from bandsplit.models.layers.sequence import RecurrentLayer


def residual_along(layer: nn.Module, x: Tensor, axis: Literal["time", "band"], heads: int) -> Tensor | None:
    """Compute ``x + layer(x)`` for ``(b c k t (h n))``, sequences along an axis; None if the kernels do not suit.

    They suit a bidirectional LSTM in single precision that is not trained now, of sizes that they have, with finite
    weights, on a CPU that has them.
    """
    if not isinstance(layer, RecurrentLayer) or not layer.fast or torch.is_grad_enabled() or not is_plain_cpu_work(x):
        return None
    if not isinstance(layer.rnn, nn.LSTM) or not layer.rnn.bidirectional:
        return None
    kernels = search_kernels().kernels
    if kernels is None or not fits(layer.rnn.input_size, layer.rnn.hidden_size, layer.norm.groups):
        return None
    try:
        packed = pack_lstm(kernels, layer)
    except ValueError:  # weights that are not finite: torch shows what they lead to
        return None
    x = x.contiguous()
    y = torch.empty_like(x)
    packed.along(x.numpy(), y.numpy(), axis, heads, torch.get_num_threads())
    return y


def pack_lstm(kernels: Kernels, layer: RecurrentLayer, precision: KernelPrecision = "fp32") -> PackedLstm:
    """Pack the weights of a bidirectional LSTM layer.

    Raises:
        ValueError: one is not finite, or the kernels lack its size or the precision.
    """
    with torch.no_grad():
        project = rearrange(layer.project.weight, "n (d m) -> d n m", d=2)
        weights = (tensor.detach().numpy() for tensor in (layer.gate_weights(), project, layer.project.bias))
        return PackedLstm(kernels, *weights, groups=layer.norm.groups, eps=layer.norm.eps, precision=precision)
