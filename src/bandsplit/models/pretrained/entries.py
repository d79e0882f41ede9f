"""Published models: the facts about each, its published scores, and where it is fetched from.

They are in `registry.json` of this folder. A model is registered if a digest of its file is known: sha256 for a
checkpoint.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bandsplit.core.config import Config
from bandsplit.core.fetching import in_gb
from bandsplit.published.paper import AVERAGE, repository

CSDR, MUSDB_TEST = "cSDR", "MUSDB18-HQ test"
"""The metric and the songs of the scores that models are ranked by."""

_SEEN = {
    True: " (with the MUSDB18-HQ test songs: its scores on them mean nothing)",
    False: "",
    None: " (perhaps with the MUSDB18-HQ test songs)",
}


class ZipArchive(Config):
    """A zip archive of a record, of one or several checkpoints that hold their settings."""

    kind: Literal["zip"] = "zip"
    doi: str
    """DOI of the record."""
    url: str
    """Folder of the archive; a mirror takes its place."""
    file: str
    bytes: int
    """Size of the archive, to three digits."""
    md5: str | None
    """md5 of the archive; None if no trustworthy one is known."""

    @property
    def page(self) -> str:
        """Address of a page about it."""
        return f"https://doi.org/{self.doi}"


class ConfigFile(Config):
    """A configuration file that comes with a checkpoint."""

    url: str
    """Folder of the file; a mirror takes its place."""
    file: str
    sha256: str


class SingleCheckpoint(Config):
    """A checkpoint that is fetched as it is, and its configuration, unless the user must name that."""

    kind: Literal["checkpoint"] = "checkpoint"
    page: str
    """Address of a page about it."""
    url: str
    """Folder of the checkpoint; a mirror takes its place."""
    file: str
    bytes: int
    """Its exact size."""
    sha256: str
    config: ConfigFile | None = None
    """Its configuration file, if a digest of it is known."""
    document: dict[str, Any] | None = None
    """Its settings in the form of such a file, if they are known from its description."""


class Scores(Config):
    """Scores that the publisher states; this project has not measured them."""

    metric: str
    data: str
    """The songs."""
    values_db: dict[str, float]
    """By target, and "average"."""
    source: str

    @property
    def comparable(self) -> bool:
        """Whether models can be ranked by them: the metric and the songs of the paper's tables."""
        return (self.metric, self.data) == (CSDR, MUSDB_TEST) and AVERAGE in self.values_db

    def summary(self) -> str:
        """Write the average, or the scores by target, with metric and songs."""
        if AVERAGE in self.values_db:
            values = f"{self.values_db[AVERAGE]} dB {self.metric} on average"
        else:
            values = f"{self.metric} {', '.join(f'{target} {value} dB' for target, value in self.values_db.items())}"
        return f"{values} on {self.data}, as published"


class Entry(Config):
    """A published model."""

    name: str
    aliases: tuple[str, ...]
    """Other names that users may type."""
    family: str
    about: str
    recipe: str | None = None
    """The recipe of this project that it was trained with: its architecture and its published numbers."""
    targets: tuple[str, ...]
    """All targets of its checkpoints; empty if only its configuration file names them."""
    source: Annotated[ZipArchive | SingleCheckpoint, Field(discriminator="kind")]
    kept_bytes: int
    """Approximate size on the disk: the weights without the state of their training."""
    training_data: str
    saw_test_songs: bool | None
    """Whether it was trained on the test songs of MUSDB18-HQ; None: not known. Scores on them mean nothing then."""
    licence: str
    """Licence of the weights as stated by their publisher."""
    published: Scores | None = None
    """Published scores; None for a recipe, whose scores are in `bandsplit.published`."""

    @property
    def scores(self) -> Scores | None:
        """The published scores."""
        if self.recipe is None:
            return self.published
        for row in repository():
            if row.quantity == "test_csdr_db" and row.recipe == self.recipe:
                values = {target: value for target, value in row.values_db.items() if value is not None}
                return Scores(metric=CSDR, data=MUSDB_TEST, values_db=values, source=row.source)
        return None

    @property
    def average_db(self) -> float | None:
        """The published cSDR on the test set of MUSDB18-HQ, averaged over targets; None for any other score."""
        return self.scores.values_db[AVERAGE] if self.scores and self.scores.comparable else None

    @property
    def lack(self) -> str | None:
        """What the user must add to fetch it: "md5" or "config"."""
        match self.source:
            case ZipArchive(md5=None):
                return "md5"
            case SingleCheckpoint(config=None, document=None):
                return "config"
            case _:
                return None

    @property
    def data_note(self) -> str:
        """The training data, with a warning if they include the test songs, or may do so."""
        return f"{self.training_data}{_SEEN[self.saw_test_songs]}"

    def notice(self) -> str:
        """Describe the model, its size, score and licence, for users to read before it is fetched."""
        quality = f"{self.scores.summary()} ({self.scores.source})" if self.scores else "not published"
        return (
            f"{self.name}: {self.about}\n"
            f"family:   {self.family}\n"
            f"size:     {in_gb(self.source.bytes)} to download, about {in_gb(self.kept_bytes)} kept\n"
            f"stems:    {', '.join(self.targets) or 'named by its configuration file'}\n"
            f"quality:  {quality}\n"
            f"training: {self.data_note}\n"
            f"licence:  {self.licence}\n"
            f"source:   {self.source.file} of {self.source.page}"
        )
