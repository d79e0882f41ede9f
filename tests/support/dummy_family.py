"""A family of networks that is no network of the field: short filters, to see what a family must have."""

from typing import Literal

import torch
from torch import Tensor, nn

from bandsplit.core.config import Size
from bandsplit.core.errors import ModelFileError
from bandsplit.models.chunk_config import OverlapAddConfig
from bandsplit.models.contract import Checkpoint, Flop, Geometry, Imported, ModelConfig, Shapes
from bandsplit.models.families import Family
from bandsplit.models.network import Separation, SeparationModel
from bandsplit.recipes.recipe import Recipe


class DummyConfig(ModelConfig):
    """One filter of all channels for each estimated channel."""

    family: Literal["dummy"] = "dummy"
    taps: Size = 1
    """Length of the filters; odd."""
    multiple: Size = 1
    """Its signals are multiples of so many samples."""
    fixed: Size | None = None
    """Or they all have this length."""

    @property
    def geometry(self) -> Geometry:
        plan = OverlapAddConfig(chunk_s=0.25, hop_s=0.125)
        return Geometry(plan, multiple_samples=self.multiple, fixed_samples=self.fixed)


class DummyNetwork(SeparationModel):
    def __init__(self, config: DummyConfig) -> None:
        super().__init__()
        self.config = config
        self.filters = nn.Conv1d(config.channels, len(config.targets) * config.channels, config.taps, padding="same")

    def forward(self, mixture: Tensor) -> Separation:
        samples = mixture.shape[-1]
        assert samples == self.config.geometry.fitting(samples), "a length that the network does not take"
        estimates = self.filters(mixture).unflatten(1, (-1, mixture.shape[1]))
        return Separation(estimates, None)


def shapes(config: DummyConfig) -> Shapes:
    estimated = len(config.targets) * config.channels
    yield "filters.weight", (estimated, config.channels, config.taps)
    yield "filters.bias", (estimated,)


def flop(config: DummyConfig, samples: int) -> Flop:
    forward = 2 * samples * len(config.targets) * config.channels**2 * config.taps
    return Flop(forward, 3 * forward)


def read_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Read a file with the names of the network's own tensors, whose settings are those of its configuration."""
    if "filters.weight" not in checkpoint.shapes:
        return None
    if (settings := checkpoint.document or checkpoint.arguments) is None:
        raise ModelFileError("does not name its targets; name its configuration with --config")
    tensors = {name: checkpoint.read(name) for name in checkpoint.shapes}
    return Imported(DummyConfig.parse({**settings}), tensors, "noise", "CC0", "a file of filters")


FAMILY = Family(
    "dummy_family:DummyConfig", "dummy_family:shapes", "dummy_family:DummyNetwork", "dummy_family:flop",
    "dummy_family:read_checkpoint",
)  # fmt: skip
RECIPE = Recipe(
    "dummy", "filters", settings={
        "model": {"family": "dummy", "sample_rate_hz": 8000, "multiple": 100},
        "training": {
            "excerpt_s": 0.1, "examples_per_epoch": 16, "global_batch": 2, "learning_rate": 0.05, "max_epochs": 3,
            "chunks": {"kind": "overlap-add", "chunk_s": 0.2, "hop_s": 0.1}, "mixing": {"activity": None},
        },
    },
)  # fmt: skip


def halving(config: DummyConfig) -> DummyNetwork:
    """A network whose every target is half the mixture."""
    network = DummyNetwork(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for row in range(len(network.filters.weight)):
            network.filters.weight[row, row % config.channels, config.taps // 2] = 0.5
    return network.eval()
