"""Linear layers of transformers, which the CPU kernels compute in separation where they serve."""

import numpy as np
from torch import Tensor, nn

from bandsplit.core.kernels import Dense, PackedStack
from bandsplit.models.layers.kernel_products import arrays_of, keep_packed, precision_of_products
from bandsplit.models.layers.kernel_stack import apply_to_rows, kernels_for

_LEAST_ROWS = 48  # fewer do not fill a chunk of the kernels


class Linear(nn.Linear):
    """`torch.nn.Linear`, whose products are in the precision of `products_in` where the kernels compute them."""

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(... n)`` to ``(... m)``."""
        if (y := self._by_kernels(input)) is not None:
            return y
        return super().forward(input)

    def _by_kernels(self, x: Tensor) -> Tensor | None:
        kernels = kernels_for(x, [self.in_features])
        if kernels is None or x.numel() < _LEAST_ROWS * self.in_features:
            return None

        def pack() -> list[PackedStack]:
            arrays = arrays_of(self)
            bias = arrays.get("bias", np.zeros(self.out_features, np.float32))
            return [PackedStack(kernels, [Dense(arrays["weight"][None], bias[None], precision_of_products())])]

        stacks = keep_packed(self, kernels, pack)
        return None if stacks is None else apply_to_rows(stacks[0], x)
