"""Files with weights, inputs and outputs of published networks, which other software wrote."""

import json
from collections.abc import Mapping, Sequence
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


class Steps(NamedTuple):
    """Largest relative differences of steps of training from the authors', and of tensors behind the last step.

    They are twice the largest differences of 32 to 40 repetitions whose first weights were changed by 1e-7, in single
    and in double precision, from the authors' or from the unchanged one, and at least 1e-6.
    """

    losses: Sequence[float]
    gradient_norms: Sequence[float]
    """Of the first steps; the last may differ by too much to be compared."""
    after: Mapping[str, float]
    """By name, as shares of the tensor's way from its start."""

    def check(self, golden: Golden, losses: Sequence[float], gradient_norms: Sequence[float]) -> None:
        """Compare each step."""
        pairs = {"losses": (losses, self.losses), "gradient_norms": (gradient_norms, self.gradient_norms)}
        for kind, (ours, limits) in pairs.items():
            theirs = golden.tensors[kind].tolist()
            assert len(ours) == len(theirs) >= len(limits)
            for step, most in enumerate(limits):
                assert abs(ours[step] / theirs[step] - 1) <= most, f"{kind}, step {step + 1}"

    def check_after(self, golden: Golden, ours: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
        """Compare tensors by the authors' names with those that the golden file has behind the last step."""
        after = {key.removeprefix("after/"): value for key, value in golden.tensors.items() if key[:6] == "after/"}
        assert after.keys() == self.after.keys()
        for name, theirs in after.items():
            assert (ours[name] - theirs).norm() <= self.after[name] * (theirs - start[name]).norm(), name


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference as a fraction of the peak."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
