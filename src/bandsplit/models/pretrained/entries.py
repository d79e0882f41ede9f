"""Published models: the facts about each, its published scores, and where it is fetched from.

They are in `registry.json` of this folder. A model is registered if a digest of its files is known, sha256 for
checkpoints or the first digits of it, or if the page of its source has an md5 that users can give.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field

from bandsplit.core.config import Config
from bandsplit.core.fetching import in_gb
from bandsplit.models.bags import BAG_FILE, Bag, describe_bag, is_bag
from bandsplit.published.paper import AVERAGE, repository

CSDR, MUSDB_TEST = "cSDR", "MUSDB18-HQ test"
"""The metric and the songs of the scores that models are ranked by."""

MOST_MODEL_BYTES = 20_000_000_000
"""Limit for a file that no registry vouches for."""

_SIZE_TOLERANCE = 1.05  # of sizes that are known to three digits
_ESTIMATE_TOLERANCE = 4  # of sizes that are estimated from weights: training stores up to three numbers more for each
_NEXT_LINE = f"\n{'':10}"

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
    def most_bytes(self) -> int:
        """The largest size that a download may have."""
        return int(self.bytes * _SIZE_TOLERANCE)

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


class RemoteFile(Config):
    """A file of other software that is fetched as it is."""

    url: str
    """Folder of the file; a mirror takes its place."""
    file: str
    bytes: int
    exact: bool = True
    """Whether this is the exact size, and not rounded to three digits."""
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{8}|[0-9a-f]{64})$")] | None
    """All digits, or the first eight, if no more are known; None: the user must give the md5 of its page, and the size
    is an estimate from the number of its weights."""

    @property
    def most_bytes(self) -> int:
        """The largest size that a download may have."""
        if self.sha256 is None:
            return self.bytes * _ESTIMATE_TOLERANCE
        return self.bytes if self.exact else int(self.bytes * _SIZE_TOLERANCE)

    @property
    def vague(self) -> bool:
        """Whether only the first digits of its digest are known."""
        return self.sha256 is not None and len(self.sha256) < 64


class SingleCheckpoint(RemoteFile):
    """A checkpoint that is fetched as it is, and its configuration, unless the user must name that."""

    kind: Literal["checkpoint"] = "checkpoint"
    page: str
    """Address of a page about it."""
    config: ConfigFile | None = None
    """Its configuration file, if a digest of it is known."""
    document: dict[str, Any] | None = None
    """Its settings in the form of such a file, if they are known from its description."""
    holds_settings: bool = False
    """Whether the checkpoint needs no configuration."""


class BagFile(RemoteFile):
    """One of several checkpoints that are a bag together, or the file of its mixer."""

    into: str
    """Name of the model file that it becomes, or of the bag that gets its mixer."""
    document: dict[str, Any] | None = None
    """Its settings in the form of a configuration file, unless it holds them."""


class BagOfFiles(Config):
    """Several checkpoints, and the bags that they form."""

    kind: Literal["bag"] = "bag"
    page: str
    """Address of a page about it."""
    files: tuple[BagFile, ...]
    bags: dict[str, Bag]
    """By file name: ``bag.yaml`` is the model, others are members of it."""

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def models(self) -> list[str]:
        """Names of all model files."""
        return [file.into for file in self.files if not is_bag(file.into)]

    def describe(self) -> list[str]:
        """Write a line for each member: its weights and the changes to its plan."""
        lines = []
        for name, bag in self.bags.items():
            where = "" if name == BAG_FILE else f"in {name}: "
            lines += [f"{where}{line}" for line in describe_bag(bag)]
            lines += [f"{where}mixer from {file.file}" for file in self.files if file.into == name]
        return lines


class ModelFile(Config):
    """A file of a model that a user named by its page or address."""

    file: str
    """Its name in the cache."""
    address: str
    mirrored: str
    """Its path in the folder of a mirror."""
    bytes: Annotated[int, Field(ge=1, le=MOST_MODEL_BYTES)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    git: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None
    """Its name in git, if its page has no sha256 of it: that of a bag."""

    @property
    def most_bytes(self) -> int:
        """The largest size that a download may have."""
        return self.bytes


class ModelFiles(Config):
    """Files of a model that a user named: those of a page, or one that may also be a checkpoint of other software."""

    kind: Literal["files"] = "files"
    page: str
    """Address of a page about it, or of the file."""
    commit: str | None = None
    """The state of the page; None for a file that has none."""
    files: tuple[ModelFile, ...]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


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
    source: Annotated[ZipArchive | SingleCheckpoint | BagOfFiles | ModelFiles, Field(discriminator="kind")]
    kept_bytes: int
    """Approximate size on the disk: the weights without the state of their training."""
    training_data: str
    saw_test_songs: bool | None
    """Whether it was trained on the test songs of MUSDB18-HQ; None: not known. Scores on them mean nothing then."""
    extra_data: bool | None = None
    """Whether it was trained on more songs than MUSDB18-HQ has; None: not known."""
    licence: str
    """Licence of the weights as stated by their publisher."""
    published: tuple[Scores, ...] = ()
    """Published scores, the comparable first; none for a recipe, whose scores are in `bandsplit.published`."""

    @property
    def listed(self) -> bool:
        """Whether it is in the registry; otherwise a user named its page or address, and its facts are its cards'."""
        return not isinstance(self.source, ModelFiles)

    @property
    def folder(self) -> str:
        """Name of its folder in the cache."""
        return re.sub("[:/]", "--", self.name)

    @property
    def scores(self) -> tuple[Scores, ...]:
        """The published scores."""
        if self.recipe is None:
            return self.published
        for row in repository():
            if row.quantity == "test_csdr_db" and row.recipe == self.recipe:
                values = {target: value for target, value in row.values_db.items() if value is not None}
                return (Scores(metric=CSDR, data=MUSDB_TEST, values_db=values, source=row.source),)
        return ()

    @property
    def average_db(self) -> float | None:
        """The published cSDR on the test set of MUSDB18-HQ, averaged over targets; None for any other score."""
        return next((scores.values_db[AVERAGE] for scores in self.scores if scores.comparable), None)

    @property
    def lack(self) -> str | None:
        """What the user must add to fetch it: "md5" or "config"."""
        match self.source:
            case ZipArchive(md5=None) | SingleCheckpoint(sha256=None):
                return "md5"
            case SingleCheckpoint(config=None, document=None, holds_settings=False):
                return "config"
            case _:
                return None

    @property
    def data_note(self) -> str:
        """The training data, with a warning if they include the test songs, or may do so."""
        return f"{self.training_data}{_SEEN[self.saw_test_songs]}"

    @property
    def digest_note(self) -> str | None:
        """A note about files of whose digest nothing or only the first digits are known; None without one."""
        match self.source:
            case SingleCheckpoint(sha256=None):
                return "none is known, and the size is an estimate: look its md5 up and give it with --md5"
            case SingleCheckpoint() as source:
                files, vague = 1, int(source.vague)
            case BagOfFiles() as source:
                files, vague = len(source.files), sum(file.vague for file in source.files)
            case _:
                return None
        of = "" if vague == files else f", of {vague} of {files} files"
        return f"first 8 digits of the sha256{of}" if vague else None

    def notice(self) -> str:
        """Describe the model, its size, score and licence, for users to read before it is fetched."""
        facts = {
            "family": [self.family] if self.family else [],
            "size": [f"{in_gb(self.source.bytes)} to download, about {in_gb(self.kept_bytes)} kept"],
            "stems": [", ".join(self.targets) or f"named by its {'configuration file' if self.listed else 'files'}"],
            "bag": self.source.describe() if isinstance(self.source, BagOfFiles) else [],
            "quality": [f"{scores.summary()} ({scores.source})" for scores in self.scores] or ["not published"],
            "training": [self.data_note],
            "licence": [self.licence],
            "source": _origin(self.source),
            "digest": [self.digest_note] if self.digest_note else [],
        }
        lines = [f"{what + ':':10}" + _NEXT_LINE.join(texts) for what, texts in facts.items() if texts]
        return "\n".join([f"{self.name}: {self.about}", *lines])


def _origin(source: ZipArchive | SingleCheckpoint | BagOfFiles | ModelFiles) -> list[str]:
    if isinstance(source, BagOfFiles | ModelFiles):
        return [source.page, *(f"{file.file} ({in_gb(file.bytes)})" for file in source.files)]
    return [f"{source.file} of {source.page}"]
