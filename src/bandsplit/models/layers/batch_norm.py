"""Batch normalisation without a count of batches, which only averages of another kind would need."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of ``b n t f``: by the batch in training, by its running mean and variance otherwise.

    It is torch's, except that all its tensors are real numbers, as in every model file.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n_features: int) -> None:
        """Start as the identity after normalisation."""
        super().__init__(n_features)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)  # torch's own adds a count where there is none


@contextmanager
def unchanged_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of all batch normalisations as they are, while a forward pass is repeated."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d) and part.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
