"""The precision of the CPU kernels' products, and the packed weights of layers that they compute."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from bandsplit.core.kernels import KernelPrecision, Kernels, PackedRecurrent, PackedStack, UnfitWeightsError

Packed = TypeVar("Packed", PackedRecurrent, list[PackedStack])
_precision: ContextVar[KernelPrecision] = ContextVar("precision of the kernels' products", default="fp32")
_kept: WeakKeyDictionary[nn.Module, tuple[object, object]] = WeakKeyDictionary()


@contextmanager
def products_in(precision: KernelPrecision) -> Iterator[None]:
    """Let the kernels compute in a precision, in this thread, as `torch.autocast` does for torch's products."""
    token = _precision.set(precision)
    try:
        yield
    finally:
        _precision.reset(token)


def precision_of_products() -> KernelPrecision:
    """Return the precision of `products_in`, in this thread."""
    return _precision.get()


def arrays_of(layer: nn.Module) -> dict[str, np.ndarray]:
    """Return the arrays of a layer on the CPU by the names of its state dict."""
    return {name: tensor.detach().numpy() for name, tensor in layer.state_dict().items()}


def has_plain_weights(layer: nn.Module) -> bool:
    """Return whether weights are what their names say: none is pruned, normalised or parametrised before each call."""
    return not any(module._forward_pre_hooks or is_parametrized(module) for module in layer.modules())


def keep_packed(layer: nn.Module, kernels: Kernels, pack: Callable[[], Packed]) -> Packed | None:
    """Pack a layer, or take the packed weights of the last call, if nothing has changed since.

    Weights that an optimiser may change are packed at each call: a fused one does not count its changes. Of others,
    a change that they do not count, through ``.data`` or NumPy, is not noticed: change them under `torch.no_grad`. To
    compare all numbers would take as long as some products. None if `has_plain_weights` is false or the weights are
    not finite, which torch then shows, or of a size that the kernels lack.
    """
    try:
        return _keep_packed(layer, kernels, pack) if has_plain_weights(layer) else None
    except UnfitWeightsError:
        return None


def _keep_packed(layer: nn.Module, kernels: Kernels, pack: Callable[[], Packed]) -> Packed:
    weights = list(layer.parameters())
    if any(weight.requires_grad or weight.is_inference() for weight in weights):
        return pack()
    state = kernels.number, _precision.get(), [(weight.data_ptr(), weight._version) for weight in weights]
    kept = _kept.get(layer)
    if kept is None or kept[0] != state:
        kept = _kept[layer] = state, pack()
    return kept[1]  # type: ignore[return-value]
