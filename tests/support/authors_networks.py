"""Files with weights, inputs and outputs of published networks, which other software wrote."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open
from torch import Tensor

from bandsplit.models.contract import Checkpoint


class Golden(NamedTuple):
    """One file."""

    tensors: dict[str, Tensor]
    """All that are not weights."""
    weights: dict[str, Tensor]
    metadata: dict[str, str]

    @property
    def arguments(self) -> dict[str, Any]:
        """Constructor arguments of the network."""
        return json.loads(self.metadata["config"])

    def checkpoint(self, **document: Any) -> Checkpoint:
        """The weights as a file that came with a configuration; by default that of the network."""
        return checkpoint(self.weights, document or self.arguments)


def read_golden(path: Path) -> Golden:
    """Read a file whose weights are named ``weights/...``."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    weights = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    return Golden({key: value for key, value in tensors.items() if key[:8] != "weights/"}, weights, metadata)


def checkpoint(weights: dict[str, Tensor], document: dict[str, Any] | None) -> Checkpoint:
    """Offer tensors as a file that came with a configuration."""
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    return Checkpoint(shapes, weights.__getitem__, None, document)


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference as a fraction of the peak."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
