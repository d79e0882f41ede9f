"""The files in the folder of a run as models: `RunFolder` writes them, `read_run` reads them.

Some older versions did not write the fields with a default. Settings of another version are not an error here.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

BEST_FILE = "best.safetensors"
"""The model of the best validation score."""
ERROR = "error: "
"""Prefix of the reason of a `LoggedStop` if an error ended the attempt."""

Settings = TypeVar("Settings")


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class SongsDescription(_Stored):
    """The songs that a run is trained and validated on, in ``config.json``."""

    name: str = ""
    """Name of the data set."""
    fingerprints: dict[str, str] = {}
    """Fingerprints of the audio, by split."""
    benchmark: str | None = None
    """``MUSDB18-HQ`` if the songs are those of that set."""
    mixture: list[Literal["file", "sum"]] = []
    """Sources of the mixtures."""
    train: list[str] = []
    """Names of the songs."""
    valid: list[str] = []


class Description(_Stored, Generic[Settings]):
    """``config.json``."""

    run: Settings
    """The `RunConfig`: as stored, or the part that is read."""
    data: SongsDescription = SongsDescription()


# --- log.jsonl -------------------------------------------------------------------------------------------------------


class LoggedStart(_Stored):
    """The beginning of an attempt."""

    kind: Literal["start"] = "start"
    attempt: int
    """From 1."""
    update: int | None = None
    """Updates done before."""
    learning_rate: float | None = None
    global_batch: int | None = None
    """Examples of an update, over all devices."""
    batch_size: int | None = None
    accumulate: int | None = None
    devices: int | None = None
    workers: int | None = None
    checkpointing: bool | None = None
    compile: bool | None = None
    environment: dict[str, Any] = {}
    """Versions and machine."""


class SongValue(_Stored):
    """A validation song."""

    track: str
    usdr_db: dict[str, float]
    """By target."""
    loss: float | None = None


class WeightsValue(_Stored):
    """The scores of weights that were validated next to better ones."""

    weights: str
    """Their name: ``weights``, or one of their averages."""
    usdr_db: float
    """Mean uSDR over songs and targets."""
    loss: float
    """Mean loss over songs."""


class LoggedValidation(_Stored):
    """The validation after an epoch."""

    kind: Literal["validation"] = "validation"
    epoch: int
    """Epochs trained."""
    loss: float | None = None
    """Mean over the batches of the epoch."""
    validation_usdr_db: float
    """Mean uSDR over songs and targets."""
    validation_loss: float
    """Mean loss over songs."""
    learning_rate: float | None = None
    best: bool
    """Whether it is the best so far."""
    examples_per_s: float | None = None
    waiting: float | None = None
    """Share of the time that the epoch waited for examples."""
    wall_s: float | None = None
    """Time of all attempts so far."""
    energy_kwh: float | None = None
    """Energy of all attempts so far."""
    songs: tuple[SongValue, ...] = ()
    weights: str | None = None
    """Name of the weights that were validated, those with the best score if several were."""
    others: tuple[WeightsValue, ...] = ()
    """The others, the best first."""


class LoggedSkip(_Stored):
    """An example that was left out because a song is missing or broken."""

    kind: Literal["skipped"] = "skipped"
    epoch: int | None = None
    problem: str = ""


class LoggedNote(_Stored):
    """A note on the run, such as a damaged state."""

    kind: Literal["note"] = "note"
    text: str = ""


class LoggedStop(_Stored):
    """The end of an attempt that could still log it."""

    kind: Literal["stop"] = "stop"
    attempt: int | None = None
    reason: str
    """``finished`` (all epochs), ``patience``, a signal's name, ``time limit``, or `ERROR` and the error."""
    epoch: int | None = None
    """Epochs trained."""


LogRow = LoggedStart | LoggedValidation | LoggedSkip | LoggedNote | LoggedStop


def first_problem(error: ValidationError) -> str:
    """Describe the first fault of a file or a line, and its place."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]
