"""Batch normalisation without a count of batches, which only averages of another kind would need."""

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as AnyBatchNorm


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of ``b n t f``: by the batch in training, by its running mean and variance otherwise.

    It is torch's, except that all its tensors are real numbers, as in every model file.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n_features: int, momentum: float = 0.1) -> None:
        """Start as the identity after normalisation; ``momentum`` is the share of a batch in the running statistics."""
        super().__init__(n_features, momentum=momentum)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)  # torch's own adds the missing count


class UnchangedStatistics(AbstractContextManager[None]):
    """A context in which all batch normalisations of a module keep their running statistics as they are."""

    def __init__(self, module: nn.Module) -> None:
        """Take the module; the context may be entered again."""
        self.norms = [part for part in module.modules() if isinstance(part, AnyBatchNorm)]
        self.before = [(norm.momentum, norm.num_batches_tracked) for norm in self.norms]

    def __enter__(self) -> None:
        for norm in self.norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *_: object) -> None:
        for norm, (momentum, batches) in zip(self.norms, self.before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
