"""The files in the folder of a run as models: `RunFolder` writes them, `read_run` reads them.

Some older versions did not write the fields with a default. Settings of another version are not an error here.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from bandsplit.core.config import Grown

BEST_FILE = "best.safetensors"
"""The model of the best validation score."""
ERROR = "error: "
"""Prefix of the reason of a `LoggedStop` if an error ended the attempt."""

Settings = TypeVar("Settings")


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class OtherSongs(_Stored):
    """The songs of a further data set that a run is trained on."""

    name: str
    """Name of the data set."""
    fingerprint: str | None = None
    """Fingerprint of the audio."""
    mixture: list[Literal["file", "sum"]] = []
    """Sources of the mixtures."""
    train: list[str] = []
    """Names of the songs."""


class UnlabelledSongs(_Stored):
    """The songs without stems that a run learns from."""

    name: str
    """Name of their folder."""
    fingerprint: str | None = None
    """Fingerprint of the audio."""
    songs: list[str] = []
    """Their names."""


class SongsDescription(_Stored, Grown):
    """The songs that a run is trained and validated on, in ``config.json``."""

    ADDED: ClassVar = ("errata", "others", "unlabelled")

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
    errata: Literal["exclude", "relabel"] | None = None
    """Treatment of songs with known faults; None: they are kept as they are."""
    others: tuple[OtherSongs, ...] = ()
    """Further data sets for training."""
    unlabelled: UnlabelledSongs | None = None
    """Songs without stems."""

    @property
    def names(self) -> str:
        """Names of all data sets, joined by a plus."""
        return " + ".join([self.name, *(other.name for other in self.others)])

    @property
    def all_fingerprints(self) -> dict[str, str]:
        """Fingerprints by split; those of several training sets are joined by a plus."""
        train = [self.fingerprints.get("train"), *(other.fingerprint for other in self.others)]
        joined = {"train": "+".join(value or "unknown" for value in train)} if self.others else {}
        return self.fingerprints | joined


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


class LoggedValidation(_Stored, Grown):
    """The validation after an epoch."""

    ADDED: ClassVar = ("weights", "others", "teacher")

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
    teacher: str | None = None
    """Hash of the teacher of the epochs before; it is replaced after a validation that is the best so far."""


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
    """``finished`` (all epochs, or the budget is spent), ``patience``, a signal's name, ``time limit``, or `ERROR` and
    the error."""
    epoch: int | None = None
    """Epochs trained."""


LogRow = LoggedStart | LoggedValidation | LoggedSkip | LoggedNote | LoggedStop
