"""Stored costs: a line for each measurement or prediction, in ``costs.jsonl``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias, Union

from pydantic import Field, NonNegativeFloat, PositiveFloat, TypeAdapter

from bandsplit.core.config import Config
from bandsplit.core.errors import BandsplitError
from bandsplit.core.files import Journal
from bandsplit.core.rows import read_rows
from bandsplit.core.version import __version__
from bandsplit.runs.energy.card import Component, Part


class Key(NamedTuple):
    """A cost that need not be found again."""

    kind: str
    system: str
    source: str
    machine: str


class _Row(Config):
    """Facts that every row has."""

    kind: str
    system: str
    source: str
    """Hash of the system's configurations or files."""
    machine: str
    version: str = __version__
    """Version of this package."""

    @property
    def key(self) -> Key:
        """The kind of the cost, the system, its files and the machine."""
        return Key(self.kind, self.system, self.source, self.machine)


class SeparationCost(_Row):
    """Cost of separating music, measured on noise and scaled to a song by counted operations."""

    kind: Literal["separation"] = "separation"
    machine: str
    """Processor or GPU, threads, version of PyTorch."""
    inference: str
    """Chunk plan, as `Score` names it."""
    noise_s: PositiveFloat
    """Length of the noise."""
    passes: int
    """Times that it was separated while the energy was measured."""
    realtime: PositiveFloat
    """Seconds of music per second."""
    busy_cores: NonNegativeFloat
    """CPU seconds of the process per second; fewer than its threads if it waited, such as for others on the cores."""
    peak_mb: PositiveFloat
    """CUDA: most memory allocated. CPU: the peak of the process."""
    joules_per_min: NonNegativeFloat | None
    """Energy of a minute of music, without PUE; None without a meter."""
    parts: Mapping[Part, Component]
    """Sources of the joules."""

    @property
    def cpu_s_per_min(self) -> float:
        """CPU seconds of the process for a minute of music."""
        return 60 * self.busy_cores / self.realtime

    @property
    def estimated(self) -> bool:
        """Whether no sensor measured some of the joules."""
        return any(part.state == "estimated" for part in self.parts.values())

    @property
    def missing(self) -> bool:
        """Whether a part that was used has no figure."""
        return any(part.state == "absent" and part.needed for part in self.parts.values())


class TrainingCost(_Row):
    """Predicted cost of all trainings of a system."""

    kind: Literal["training"] = "training"
    how: Literal["counted", "steps"]
    """From counted operations and a utilisation; or from some steps, measured as `bandsplit plan` does."""
    machine: str
    """GPU and utilisation, or the machine of the steps."""
    hours: tuple[NonNegativeFloat, NonNegativeFloat]
    """From the fewest epochs (patience runs out at once) to all epochs; of counted operations always all epochs."""
    kwh: tuple[NonNegativeFloat, NonNegativeFloat] | None
    """Without PUE; None without a meter."""


Cost: TypeAlias = Union[SeparationCost, TrainingCost]  # noqa: UP007
_ROW: TypeAdapter[Cost] = TypeAdapter(Annotated[Cost, Field(discriminator="kind")])


def append_costs(path: Path, rows: Iterable[Cost]) -> None:
    """Append rows to a file; its folder is made.

    Raises:
        BandsplitError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Journal(path).append(*(row.model_dump_json() for row in rows))
    except OSError as error:
        raise BandsplitError(f"{path}: cannot be written ({error.strerror}); choose another file") from None


def read_costs(path: Path, note: Callable[[str], None] = warnings.warn) -> dict[Key, Cost]:
    """Read a file of costs by key, of which the last row counts; a file that does not exist has none.

    Args:
        path: the file.
        note: called with one line of text if incomplete lines, whose writer was stopped, were left out.

    Raises:
        BandsplitError: it cannot be read, or a line is not a cost.
    """
    if not path.exists():
        return {}
    try:
        rows, damage = read_rows(path, _ROW.validate_json, "cost", "measure again")
    except OSError as error:
        raise BandsplitError(f"{path}: cannot be read as costs ({error.strerror})") from None
    if damage:
        note(f"{damage}; measure the systems in question again")
    return {row.key: row for row in rows}
