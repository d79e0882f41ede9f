"""Bags: files that name several models, whose estimates are averaged with a weight for each model and target.

A bag is a small YAML file, ``bag.yaml`` by default. It holds no weights of networks, and nothing in it can run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, NonNegativeFloat, model_validator
from typing_extensions import Self

from bandsplit.core.config import Config
from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.core.files import replacing
from bandsplit.models.documents import read_document

BAG_FILE = "bag.yaml"
"""Name of the bag in a folder of models."""
BAG_SUFFIXES = (".yaml", ".yml")


class Mixer(Config):
    """A linear map, at every sample, from the weighted estimates and the mixture to the estimates of a bag.

    Source: docs/mdx-net.md#mixer-and-blend.
    """

    targets: tuple[str, ...] = Field(min_length=1, max_length=100)
    """Targets that it takes and returns, in the order of the matrix."""
    matrix: tuple[tuple[float, ...], ...]
    """A row for each channel of each target that it returns, in this order: left and right of the first target, ...; a
    column for each channel of each target that it takes, then left and right of the mixture."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        rows, columns = 2 * len(self.targets), 2 * len(self.targets) + 2
        if len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets: {', '.join(self.targets)} names one twice")
        if [len(row) for row in self.matrix] != [columns] * rows:
            raise ValueError(f"matrix: must have {rows} rows of {columns} numbers for {len(self.targets)} targets")
        return self


class BagMember(Config):
    """A model of a bag, or a bag."""

    model: str = Field(min_length=1)
    """Path of a model file, a folder of some or a bag, relative to the bag's folder; or a registered name."""
    weights: dict[str, NonNegativeFloat] | None = None
    """Weight of its estimate of each target; targets without one are not taken from it. Null: 1 for all it has."""
    minus: tuple[str, ...] = ()
    """Targets whose estimates, by members before it, are subtracted from what it sees, chunk by chunk."""
    chunks: dict[str, Any] = Field(default_factory=dict)
    """Changes to the chunk plan of its authors, such as ``normalise: joint``."""


class Bag(Config):
    """Several models that are used as one."""

    name: str | None = None
    """Name in tables; null: that of the file, or of its folder if the file is called bag.yaml."""
    members: Annotated[tuple[BagMember, ...], Field(min_length=1, max_length=100)]
    """The models; each estimate is divided by the sum of its weights."""
    chunks: dict[str, Any] = Field(default_factory=dict)
    """Changes to the chunk plans of all members."""
    mixer: Mixer | None = None
    """Applied to the weighted means; null for none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for number, member in enumerate(self.members, 1):
            if member.weights is not None and not any(member.weights.values()):
                raise ValueError(f"members: number {number} ({member.model}) has no weight above 0; leave it out")
        return self


def is_bag(path: object) -> bool:
    """Return whether this is the path of a bag, by its suffix."""
    return isinstance(path, str | Path) and Path(path).suffix.lower() in BAG_SUFFIXES


def describe_bag(bag: Bag) -> list[str]:
    """Write a line for each member: its weights and the changes to its plan; and one for what holds for all."""
    lines = []
    for member in bag.members:
        weights = "every target 1" if member.weights is None else _pairs(member.weights)
        minus = f"the song without {', '.join(member.minus)}" if member.minus else ""
        lines.append(f"{member.model}: {'; '.join(filter(None, [weights, _pairs(member.chunks), minus]))}")
    if common := "; ".join(filter(None, [_pairs(bag.chunks), "mixer" if bag.mixer else ""])):
        lines.append(f"all members: {common}")
    return lines


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def read_bag(path: Path | str) -> Bag:
    """Read a bag.

    Raises:
        ModelFileError: there is no such file, or it is not a bag; the message names what is wrong.
    """
    path = Path(path)
    document = read_document(path)
    try:
        bag = Bag.parse(document)
    except ConfigError as error:
        raise ModelFileError(
            f"{path}: is not a bag of models: {error}. A configuration of one model is for `bandsplit models import "
            f"CHECKPOINT --config {path.name}`"
        ) from None
    named = path.resolve().parent.name if path.name == BAG_FILE else path.stem
    return bag if bag.name else bag.model_copy(update={"name": named})


def write_bag(path: Path, bag: Bag) -> None:
    """Write a bag; fields at their defaults are left out.

    Raises:
        ModelFileError: the file cannot be written.
    """
    text = yaml.safe_dump(bag.model_dump(mode="json", exclude_defaults=True), sort_keys=False, default_flow_style=None)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be written ({error.strerror}); choose another file") from None
