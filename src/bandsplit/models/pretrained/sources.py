"""Sources of a published model: the registered addresses, or those that a user names, and checks before a download."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bandsplit.core.archives import Archive
from bandsplit.core.errors import DownloadError
from bandsplit.core.settings import is_offline, mirror_setting
from bandsplit.models.pretrained.entries import Entry, SingleCheckpoint, ZipArchive
from bandsplit.models.pretrained.registry import models_folder

_SIZE_TOLERANCE = 1.05  # sizes of archives are registered to three digits
_MOST_RATIO = 2  # an archive that unpacks to more does not contain weights


class Sources(NamedTuple):
    """Other sources of a model than those of the registry; None: the registered one."""

    mirror: str | None = None
    """Address of another folder that has the files (default: ``BANDSPLIT_MIRROR``, else the registered folders)."""
    md5: str | None = None
    """md5 of an archive that has none registered."""
    archive: Path | None = None
    """A local copy of the archive or checkpoint; it is checked like a download and kept."""
    config: Path | None = None
    """A local copy of the configuration file of a checkpoint; it is checked, if a digest is registered, and kept."""

    def address(self, url: str, file: str) -> str:
        """Return the address of a file whose registered folder is ``url``."""
        return f"{(self.mirror or mirror_setting() or url).rstrip('/')}/{file}"


REGISTERED = Sources()


def _expected_md5(entry: Entry, source: ZipArchive, given: str | None) -> str:
    if source.md5 and given and given.lower() != source.md5:
        raise DownloadError(f"--md5 {given}: the registered md5 of {source.file} is {source.md5}; leave --md5 out")
    if digest := source.md5 or given:
        return digest.lower()
    raise DownloadError(
        f"{entry.name}: no md5 of {source.file} is registered, so a download cannot be compared with what its authors "
        f"published; look it up at {source.page} and give it with --md5"
    )


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
        most_bytes=int(source.bytes * _SIZE_TOLERANCE),
        most_unpacked_bytes=int(source.bytes * _MOST_RATIO),
        other_ways=other_ways(source),
        if_wrong=if_wrong(entry),
    )


def check_config(entry: Entry, source: SingleCheckpoint, sources: Sources) -> None:
    """Check that there is one configuration, and one digest.

    Raises:
        DownloadError: one is missing, or given twice.
    """
    if sources.md5 is not None:
        raise DownloadError(f"--md5 {sources.md5}: the sha256 of {source.file} is registered; leave --md5 out")
    if source.document is not None and sources.config is not None:
        raise DownloadError(
            f"--config {sources.config}: the settings of {entry.name} are registered; leave --config out"
        )
    if entry.lack is not None and sources.config is None:
        raise DownloadError(
            f"{entry.name}: no configuration of {source.file} is registered; find the file that came with it "
            f"({source.page}) and give it with --config"
        )
    if sources.config is not None and not sources.config.is_file():
        raise DownloadError(f"{sources.config}: no such file; name a configuration file of {entry.name}")


def other_ways(source: ZipArchive | SingleCheckpoint) -> str:
    """Write what to do if a download fails."""
    return f"name another source with --mirror, or a local copy of {source.file} with --archive"


def if_wrong(entry: Entry) -> str:
    """Write what to do about a file with the wrong content."""
    return f"remove it (bandsplit models remove {entry.name}) and name another source with --mirror"


def check_archive(entry: Entry, sources: Sources) -> None:
    """Check that the local copy of the file exists, or that downloads are allowed.

    Raises:
        DownloadError: neither is so.
    """
    file, config, options = entry.source.file, getattr(entry.source, "config", None), "--archive"
    if config is not None:
        file, options = f"{file} and {config.file}", "--archive and --config"
    if is_offline() and (sources.archive is None or (config is not None and sources.config is None)):
        raise DownloadError(
            f"{entry.name}: is not in the cache, and BANDSPLIT_OFFLINE forbids downloads; unset it, or copy "
            f"{file} to this machine and give it with {options}"
        )
    if sources.archive is not None and not sources.archive.is_file():
        raise DownloadError(f"{sources.archive}: no such file; name {entry.source.file} of {entry.source.page}")
