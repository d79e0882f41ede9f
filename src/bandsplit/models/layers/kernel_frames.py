"""Attention over frames by the CPU kernels: its linear layers, and the scores of many frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.core.kernel_attention import LEAST_QUERIES, attend
from bandsplit.core.kernels import Dense, Kernels, PackedStack
from bandsplit.models.layers.kernel_products import keep_packed
from bandsplit.models.layers.kernel_stack import kernels_for

_ENTERING = "query", "key", "value"


def attended_frames(owner: nn.Module, x: Tensor, eps: float) -> Tensor | None:
    """Attend over the frames of ``(b c k t n)``, with the residual.

    The owner has `query`, `key`, `value` and `project`, each a linear layer to all heads, PReLU and a normalisation.
    All is in single precision, since rounding shows most here. None if the kernels do not suit.
    """
    b, c, k, t, n = x.shape
    kernels = kernels_for(x, [n])
    if kernels is None:
        return None
    weights = {name: tensor.detach() for name, tensor in owner.state_dict().items()}
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    stacks = keep_packed(owner, kernels, lambda: pack_frames(kernels, arrays))
    if stacks is None:
        return None
    enter, leave = stacks
    features = _apply(enter, x.contiguous())
    sizes = [len(arrays[f"{name}.linear.bias"]) for name in _ENTERING]
    # Rows are in the order (b c k t); the copies that the normalisation makes anyhow bring the bands of a frame together.
    parts = rearrange(features, "b c k t n -> (b c) t k n").split(sizes, dim=-1)
    normed = [
        [F.layer_norm(one, one.shape[-2:], *gain_and_bias, eps).flatten(-2) for one, *gain_and_bias in heads]
        for heads in (
            zip(part.chunk(len(weights[f"{name}.slope"]), dim=-1), weights[f"{name}.weight"], weights[f"{name}.bias"])
            for name, part in zip(_ENTERING, parts, strict=True)
        )
    ]
    attended = _attend(kernels, *normed)
    joined = rearrange(attended, "h b t (k n) -> b t k (h n)", k=k).contiguous()
    left = _apply(leave, joined)
    left = F.layer_norm(left, left.shape[-2:], weights["project.weight"][0], weights["project.bias"][0], eps)
    return x + rearrange(left, "(b c) t k n -> b c k t n", b=b)


def pack_frames(kernels: Kernels, arrays: Mapping[str, np.ndarray]) -> list[PackedStack]:
    """Pack the layers of queries, keys and values as one, and that of the outputs.

    Raises:
        ValueError: a weight is not finite, or the kernels lack its size.
    """
    return [_pack(kernels, arrays, _ENTERING), _pack(kernels, arrays, ["project"])]


def _pack(kernels: Kernels, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> PackedStack:
    weights, biases = ([arrays[f"{name}.linear.{kind}"] for name in names] for kind in ("weight", "bias"))
    slopes = [
        np.repeat(one, len(bias) // len(one))
        for one, bias in zip((arrays[f"{name}.slope"] for name in names), biases, strict=True)
    ]
    weight, bias, slope = (np.concatenate(one) for one in (weights, biases, slopes))
    return PackedStack(kernels, [Dense(weight[None], bias[None], "fp32", "prelu", slope)])


def _apply(stack: PackedStack, x: Tensor) -> Tensor:
    """Map contiguous ``(... n)`` to ``(... m)``."""
    found = stack.apply(x.numpy().reshape(1, 1, -1, stack.n_in), torch.get_num_threads())
    return torch.from_numpy(found).view(*x.shape[:-1], stack.n_out)


def _attend(kernels: Kernels, query: list[Tensor], key: list[Tensor], value: list[Tensor]) -> Tensor:
    """Attend over frames: for each head ``(b t d)``, ``(b t d)``, ``(b t v)`` to ``(h b t v)``."""
    if query[0].shape[1] < LEAST_QUERIES:
        return torch.stack([F.scaled_dot_product_attention(*one) for one in zip(query, key, value, strict=True)])
    groups = ([array for head in part for array in head.numpy()] for part in (query, key, value))
    found = torch.from_numpy(attend(kernels, *groups, torch.get_num_threads()))
    return found.view(len(query), *value[0].shape)
