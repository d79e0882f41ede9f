"""Linear layers of bands as batched products, and tables of numbers that are built rather than stored."""

from typing import Any

import torch
from torch import Tensor, nn


class BandLinear(nn.Module):
    """One linear layer per band, as a batched product."""

    def __init__(self, n_bands: int, n_in: int, n_out: int) -> None:
        """Initialise each band as `torch.nn.Linear` does."""
        super().__init__()
        bound = n_in**-0.5
        self.weight = nn.Parameter(torch.empty(n_bands, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_bands, 1, n_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(k l n_in)`` to ``(k l n_out)``."""
        return torch.baddbmm(self.bias, x, self.weight)


def constant_table(values: list[Any] | None) -> Tensor | None:
    """Make a tensor of numbers from the configuration, on the CPU even if the network is built without weights."""
    return None if values is None else torch.tensor(values, device="cpu")
