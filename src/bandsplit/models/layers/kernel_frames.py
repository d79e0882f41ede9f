"""Attention over frames by the CPU kernels: its linear layers, and the scores of many frames."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.core.kernel_attention import LEAST_QUERIES, attend
from bandsplit.core.kernels import Kernels, PackedStack
from bandsplit.models.layers.kernel_packing import pack_head_projections, part
from bandsplit.models.layers.kernel_products import arrays_of, keep_packed, precision_of_products
from bandsplit.models.layers.kernel_stack import apply_to_rows, kernels_for

_ENTERING = "query", "key", "value"


def attended_frames(owner: nn.Module, x: Tensor, eps: float) -> Tensor | None:
    """Attend over the frames of ``(b c k t n)``, with the residual.

    The owner has `query`, `key`, `value` and `project`: each a linear layer to all heads, PReLU and a normalisation.
    All is in single precision, since rounding shows most here, but for the products with values beside LSTMs in
    integers. None if the kernels do not suit.
    """
    kernels = kernels_for(x, x.shape[-1:])
    if kernels is None:
        return None

    def pack() -> list[PackedStack]:
        arrays = arrays_of(owner)
        entering = (part(arrays, name) for name in _ENTERING)
        return [pack_head_projections(kernels, *entering), pack_head_projections(kernels, part(arrays, "project"))]

    if (stacks := keep_packed(owner, kernels, pack)) is None:
        return None
    weights = {name: tensor.detach() for name, tensor in owner.state_dict().items()}
    features = rearrange(apply_to_rows(stacks[0], x), "b c k t n -> (b c) t k n")
    sizes = [len(weights[f"{name}.linear.bias"]) for name in _ENTERING]
    parts = features.split(sizes, dim=-1)
    query, key, value = (_normalised_heads(*one, weights, eps) for one in zip(_ENTERING, parts, strict=True))
    attended = _attend(kernels, query, key, value)
    joined = rearrange(attended, "h b t (k n) -> b t k (h n)", k=x.shape[2])
    (left,) = _normalised_heads("project", apply_to_rows(stacks[1], joined), weights, eps)
    return x + rearrange(left, "(b c) t (k n) -> b c k t n", b=x.shape[0], k=x.shape[2])


def _normalised_heads(name: str, x: Tensor, weights: dict[str, Tensor], eps: float) -> list[Tensor]:
    """Normalise ``(b t k (h n))`` over (bands, features): ``(b t (k n))`` of each head.

    A normalisation copies what is not contiguous: so heads come apart, and the bands of a frame together, at no cost.
    """
    gains, biases = weights[f"{name}.weight"], weights[f"{name}.bias"]
    heads = zip(x.chunk(len(gains), dim=-1), gains, biases, strict=True)
    return [F.layer_norm(one, one.shape[-2:], gain, bias, eps).flatten(-2) for one, gain, bias in heads]


def _attend(kernels: Kernels, query: list[Tensor], key: list[Tensor], value: list[Tensor]) -> Tensor:
    """Attend over frames: for each head ``(b t d)``, ``(b t d)``, ``(b t v)`` to ``(h b t v)``."""
    if query[0].shape[1] < LEAST_QUERIES:
        return torch.stack([F.scaled_dot_product_attention(*one) for one in zip(query, key, value, strict=True)])
    queries, keys, values = ([array for head in heads for array in head.numpy()] for heads in (query, key, value))
    precision = kernels.beside(precision_of_products())
    found = torch.from_numpy(attend(kernels, queries, keys, values, torch.get_num_threads(), precision))
    return found.view(len(query), *value[0].shape)
