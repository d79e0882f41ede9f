"""The contract of a family, for separation, training and evaluation: its configuration and its lengths of chunks.

Nothing here needs PyTorch; `bandsplit.models.network` is the other half, and `bandsplit.models.families` lists the
families.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from bandsplit.audio.stft_config import StftConfig
from bandsplit.core.config import Config, Size
from bandsplit.core.errors import ConfigError
from bandsplit.core.sizes import at_least, missing_to_multiple
from bandsplit.models.chunk_config import ChunkConfig

if TYPE_CHECKING:
    from bandsplit.core.kernels import KernelPrecision, Kernels
    from bandsplit.models.onnx.metadata import Graph, OnnxFile

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]
"""Name and shape of each tensor in a network's state dict, in its order, computed one by one."""


@dataclass(frozen=True)
class Geometry:
    """The lengths of signals that a network takes, in samples at its own rate, and how its authors cut songs."""

    published: ChunkConfig
    """The plan that its authors separated with; it is the default."""
    best_s: float | None = None
    """Chunk length that suits the network best, for plans without one; None: the plan's default."""
    least_samples: int = 1
    """Shortest signal."""
    multiple_samples: int = 1
    """Every length plus ``less_samples`` is a multiple of it."""
    less_samples: int = 0
    """Samples by which every length falls short of a multiple: the hop, where the count of frames must be even, since a
    centred transform has one frame more than hops."""
    fixed_samples: int | None = None
    """The only length; None if there is more than one."""

    def fitting(self, samples: int) -> int:
        """Return the shortest length the network takes that holds ``samples``.

        Raises:
            ConfigError: no length is large enough.
        """
        if self.fixed_samples is not None:
            if samples > self.fixed_samples:
                raise ConfigError(f"{samples} samples are more than the {self.fixed_samples} that the model takes")
            return self.fixed_samples
        samples = at_least(samples, self.least_samples)
        return samples + missing_to_multiple(samples + self.less_samples, self.multiple_samples)


class ModelConfig(Config):
    """The part of a configuration that every family has; a family's own class adds the fields of its network."""

    family: str
    """Kind of network; see `bandsplit.models.families`."""
    targets: tuple[str, ...] = Field(max_length=100)
    """Names of the estimated targets, in the order of the target axis."""
    sample_rate_hz: Size = 44100
    """Sample rate of the audio that the model takes and returns."""
    channels: Size = 2
    """Channels of the training audio; the only number that the model takes, unless `any_channels`."""

    @model_validator(mode="after")
    def _check_targets(self) -> Self:
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets: {self.targets} must name at least one target, each once")
        illegal = [name for name in self.targets if not name or set(name) & set('/\\.:*?"<>|') or name == "mixture"]
        if illegal:
            raise ValueError(f"targets: {illegal} cannot be file names of stems; use letters, digits, _ and -")
        return self

    @property
    def any_channels(self) -> bool:
        """Whether channels are independent of each other, so that the model takes any number of them."""
        return False

    @property
    def geometry(self) -> Geometry:
        """The lengths of signals that the model takes, and how its authors cut songs."""
        raise ConfigError(f"family {self.family!r} lacks its part 'geometry': the lengths of signals that it takes")

    def narrowed(self, targets: Sequence[str]) -> Self:
        """Return the configuration without targets that the wanted ones do not need."""
        return self

    @property
    def loss_stft(self) -> StftConfig | None:
        """Transform of the spectrograms that the model returns; None: it returns none, and the loss has its own."""
        return None


class Flop(NamedTuple):
    """Floating-point operations of the matrix products that a network needs for one signal with all its channels."""

    forward: int
    """Operations of its estimates."""
    step: int
    """Operations of a training step: forward and backward."""


class Checkpoint(NamedTuple):
    """A file of weights that other software wrote, and the configuration file that came with it, read as data."""

    shapes: Mapping[str, Shape]
    """Shapes of the tensors of its state dict by their names, in its order."""
    read: Callable[[str], Any]
    """Returns the numbers of a tensor by its name, as a tensor of PyTorch of the type in the file; raises
    ModelFileError if they are damaged."""
    arguments: Mapping[str, Any] | None = None
    """Settings that the checkpoint itself holds, plain data; None if it has no settings."""
    document: Mapping[str, Any] | None = None
    """Content of the configuration file that the user named; None without one."""
    graph: Graph | None = None
    """The operations of an ONNX file, whose weights may have no telling names; None for other files."""


class Imported(NamedTuple):
    """A model from a file of other software, under the names of our tensors."""

    config: ModelConfig
    tensors: Mapping[str, Any]
    """Tensors of PyTorch."""
    training_data: str
    """For the card: what it was trained on, as far as the file says."""
    licence: str
    """For the card: licence of the weights."""
    format: str
    """For the card: what kind of file it is."""


class OnnxCore(Protocol):
    """ONNX export of a family, and the computation around its graph when onnxruntime runs it.

    The graph has one input, ``mixture``, and one output, ``estimates``, both float32.
    """

    def build(self, model: Any, metadata: Mapping[str, str], int8: bool) -> bytes:
        """Write the graph of a network; the only part that needs PyTorch and onnx.

        Args:
            model: the network.
            metadata: entries for the metadata of the file.
            int8: whether its largest products are computed with 8-bit integers.
        """
        ...

    def int8_problem(self, config: Any) -> str | None:
        """Return why 8-bit integers would change nothing; None if they would."""
        ...

    def shapes(self, config: Any) -> tuple[list[int | None], list[int | None]]:
        """Return the shapes of input and output; None: any size."""
        ...

    def before(self, config: Any, batch: np.ndarray) -> np.ndarray:
        """Turn signals ``b c samples``, of any length that a chunk may have, into the graph's input."""
        ...

    def after(self, config: Any, estimates: np.ndarray, samples: int) -> np.ndarray:
        """Turn the graph's output into signals ``b s c samples``, as long as those before."""
        ...

    def check(self, file: OnnxFile, config: Any) -> None:
        """Make sure that a file's graph takes no more time and memory than a model of its configuration can need.

        Raises:
            ValueError: it takes more.
        """
        ...


class NativeCore(Protocol):
    """Networks of a family in the CPU kernels and NumPy, without PyTorch; equal to PyTorch's up to rounding."""

    def problem(self, config: Any) -> str | None:
        """Return why the kernels do not suit a configuration; None if they do."""
        ...

    def pack(
        self, config: Any, arrays: Mapping[str, np.ndarray], kernels: Kernels, precision: KernelPrecision
    ) -> Callable[[np.ndarray, int], np.ndarray]:
        """Pack the weights of a model.

        Args:
            config: its configuration, perhaps with fewer targets.
            arrays: its weights in single precision, by the names of its state dict.
            kernels: the kernels.
            precision: of the largest products.

        Returns:
            The network: maps signals ``b c samples``, of any length that a chunk may have, and a number of threads to
            signals ``b s c samples``. Threads may call it in parallel.

        Raises:
            UnfitWeightsError: a weight is too large, or the kernels lack a size or the precision.
        """
        ...
