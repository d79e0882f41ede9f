"""Sources of a published model: the registered addresses, or those that a user names, and checks before a download."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bandsplit.core.archives import Archive
from bandsplit.core.errors import DownloadError
from bandsplit.core.fetching import Digest
from bandsplit.core.settings import is_offline, mirror_setting
from bandsplit.models.pretrained.entries import (
    BagOfFiles,
    Entry,
    ModelFile,
    ModelFiles,
    RemoteFile,
    SingleCheckpoint,
    ZipArchive,
)
from bandsplit.models.pretrained.registry import models_folder

_MOST_RATIO = 2  # an archive that unpacks to more does not contain weights


class Sources(NamedTuple):
    """Other sources of a model than those of the registry; None: the registered one."""

    mirror: str | None = None
    """Address of another folder that has the files (default: ``BANDSPLIT_MIRROR``, else the registered folders)."""
    md5: str | None = None
    """md5 of an archive or a checkpoint without a registered digest."""
    archive: Path | None = None
    """A local copy of the archive or checkpoint, or a folder with those of a bag; checked like a download and kept."""
    config: Path | None = None
    """A local copy of the configuration file of a checkpoint; it is checked, if a digest is registered, and kept."""

    def address(self, url: str, file: str) -> str:
        """Return the address of a file whose registered folder is ``url``."""
        return f"{(self.mirror or mirror_setting() or url).rstrip('/')}/{file}"

    def address_of(self, file: RemoteFile | ModelFile) -> str:
        """Return the address of a file."""
        if isinstance(file, RemoteFile):
            return self.address(file.url, file.file)
        return self.address("", file.mirrored) if self.mirror or mirror_setting() else file.address


REGISTERED = Sources()


def _expected_md5(entry: Entry, source: ZipArchive, given: str | None) -> str:
    if source.md5 and given and given.lower() != source.md5:
        raise DownloadError(f"--md5 {given}: the registered md5 of {source.file} is {source.md5}; leave --md5 out")
    if digest := source.md5 or given:
        return digest.lower()
    raise _lacks_md5(entry, source)


def _lacks_md5(entry: Entry, source: ZipArchive | SingleCheckpoint) -> DownloadError:
    return DownloadError(
        f"{entry.name}: no md5 of {source.file} is registered, so a download cannot be compared with what its authors "
        f"published; look it up at {source.page} and give it with --md5"
    )


def digest_of(file: RemoteFile | ModelFile, sources: Sources) -> Digest:
    """Return what is known of a file's digest."""
    if isinstance(file, ModelFile) and file.git is not None:
        return Digest("git", file.git)
    return Digest("md5", (sources.md5 or "").lower()) if file.sha256 is None else Digest("sha256", file.sha256)


def archive_of(entry: Entry, source: ZipArchive, sources: Sources) -> Archive:
    """Describe the archive of a model and where it comes from.

    Raises:
        DownloadError: no md5 is known, or an option has no meaning.
    """
    if sources.config is not None:
        raise DownloadError(
            f"--config {sources.config}: the checkpoints of {entry.name} hold their settings; leave it out"
        )
    return Archive(
        url=sources.address(source.url, source.file),
        path=sources.archive or models_folder() / source.file,
        md5=_expected_md5(entry, source, sources.md5),
        most_bytes=source.most_bytes,
        most_unpacked_bytes=int(source.bytes * _MOST_RATIO),
        other_ways=other_ways(source),
        if_wrong=if_wrong(entry),
    )


def check_options(entry: Entry, source: SingleCheckpoint | BagOfFiles | ModelFiles, sources: Sources) -> None:
    """Check that a checkpoint has one configuration, and each file one digest.

    Raises:
        DownloadError: one is missing, or given twice.
    """
    if entry.lack == "md5" and isinstance(source, SingleCheckpoint):
        if sources.md5 is None:
            raise _lacks_md5(entry, source)
    elif sources.md5 is not None:
        of = source.file if isinstance(source, SingleCheckpoint) else f"each file of {entry.name}"
        known = "registered" if entry.listed else "known"
        raise DownloadError(f"--md5 {sources.md5}: the sha256 of {of} is {known}; leave --md5 out")
    if isinstance(source, ModelFiles) and source.commit is not None and (sources.archive or sources.config):
        option = f"--archive {sources.archive}" if sources.archive else f"--config {sources.config}"
        raise DownloadError(
            f"{option}: {entry.name} has model files, which are used as they are; leave it out, or name a local copy: "
            f"-n FILE.safetensors"
        )
    if sources.config is None:
        if entry.lack == "config" and isinstance(source, SingleCheckpoint):
            raise DownloadError(
                f"{entry.name}: no configuration of {source.file} is registered; find the file that came with it "
                f"({source.page}) and give it with --config"
            )
        return
    registered = isinstance(source, SingleCheckpoint) and (source.document is not None or source.holds_settings)
    if isinstance(source, BagOfFiles) or registered:
        raise DownloadError(
            f"--config {sources.config}: the settings of {entry.name} are registered, or in its files; leave --config "
            f"out"
        )
    if not sources.config.is_file():
        raise DownloadError(f"{sources.config}: no such file; name a configuration file of {entry.name}")


def downloads_folder(entry: Entry) -> Path:
    """Return the folder of the downloads of several files, which exists until the model is complete."""
    return models_folder() / f"{entry.folder}.downloads"


def place_of(entry: Entry, file: RemoteFile | ModelFile, sources: Sources) -> Path:
    """Return the path of a downloaded file of a bag or a page, or of the user's copy."""
    if isinstance(file, ModelFile):  # a page may change between two attempts: what arrived goes by its content
        digest = digest_of(file, sources).value
        return sources.archive or downloads_folder(entry) / f"{digest[:16]}-{file.file}"
    return (sources.archive or downloads_folder(entry)) / file.file


def places(entry: Entry, sources: Sources) -> dict[Path, int]:
    """Return the files that are downloaded for a model, or are the user's copies, with their sizes."""
    if isinstance(entry.source, BagOfFiles | ModelFiles):
        return {place_of(entry, file, sources): file.bytes for file in entry.source.files}
    return {sources.archive or models_folder() / entry.source.file: entry.source.bytes}


def other_ways(source: ZipArchive | SingleCheckpoint | BagOfFiles | ModelFiles) -> str:
    """Write what to do if a download fails."""
    if isinstance(source, ModelFiles) and source.commit is not None:
        return f"name another source with --mirror, or see whether {source.page} still has it"
    return f"name another source with --mirror, or {_local_copy(source)} with --archive"


def _local_copy(source: ZipArchive | SingleCheckpoint | BagOfFiles | ModelFiles) -> str:
    if isinstance(source, BagOfFiles):
        return f"a folder with local copies of {_names_in(source)}"
    return f"a local copy of {_names_in(source)}"


def _names_in(source: ZipArchive | SingleCheckpoint | BagOfFiles | ModelFiles) -> str:
    if isinstance(source, BagOfFiles | ModelFiles):
        return ", ".join(file.file for file in source.files)
    return source.file


def if_wrong(entry: Entry) -> str:
    """Write what to do about a file with the wrong content."""
    return f"remove it (bandsplit models remove {entry.name}) and name another source with --mirror"


def check_archive(entry: Entry, sources: Sources) -> None:
    """Check that the local copies of the files exist, or that downloads are allowed.

    Raises:
        DownloadError: neither is so.
    """
    source, config = entry.source, getattr(entry.source, "config", None)
    if is_offline() and (sources.archive is None or (config is not None and sources.config is None)):
        if isinstance(source, BagOfFiles):
            files = f"{_names_in(source)} to a folder on this machine and give that"
        elif config is not None:
            files = f"{_names_in(source)} and {config.file} to this machine and give it"
        else:
            files = f"{_names_in(source)} to this machine and give it"
        options = "--archive" if config is None else "--archive and --config"
        raise DownloadError(
            f"{entry.name}: is not in the cache, and BANDSPLIT_OFFLINE forbids downloads; unset it, or copy {files} "
            f"with {options}"
        )
    if sources.archive is None:
        return
    for path in places(entry, sources):
        if not path.is_file():
            what = f"{path.name} of {source.page}"
            fix = f"a folder with {what}" if isinstance(source, BagOfFiles) else f"{_names_in(source)} of {source.page}"
            raise DownloadError(f"{path}: no such file; name {fix}")
