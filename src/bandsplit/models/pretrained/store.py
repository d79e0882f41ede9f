"""Installation of published models in the cache, copies out of it, and removal.

Installation is atomic, a model is complete or absent: a download gets its name only with the right digest, it is
unpacked and imported in a hidden folder, and one rename turns that folder into the model. No code in a checkpoint is
run. Concurrent processes wait for each other.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from bandsplit.core.errors import ModelFileError
from bandsplit.core.fetching import (
    PATIENCE,
    ByteProgress,
    Patience,
    check_source,
    in_gb,
    missing_bytes,
    part_of,
    require_space,
    size_of,
)
from bandsplit.core.files import replacing
from bandsplit.core.interrupt import held
from bandsplit.core.settings import mirror_setting
from bandsplit.models.families import find_part
from bandsplit.models.pretrained.entries import BagOfFiles, Entry, ModelFiles, SingleCheckpoint, ZipArchive
from bandsplit.models.pretrained.making import (
    Making,
    hidden_folder,
    make_from_archive,
    make_from_checkpoint,
    make_from_files,
)
from bandsplit.models.pretrained.registry import all_files, cached_files, find_entry, folder_of, models_folder
from bandsplit.models.pretrained.sources import (
    REGISTERED,
    Sources,
    archive_of,
    check_archive,
    check_options,
    downloads_folder,
    places,
)
from bandsplit.models.pretrained.unlisted import make_from_models

_UNPACKED_RATIO = 1.1  # weights and the state of their training hardly compress


def needed_bytes(entry: Entry) -> int:
    """Return the approximate disk space of fetching: the download, its content, and the imported weights."""
    unpacked = _UNPACKED_RATIO if isinstance(entry.source, ZipArchive) else 0
    return int(entry.source.bytes * (1 + unpacked)) + entry.kept_bytes


def install_model(
    entry: Entry,
    sources: Sources = REGISTERED,
    *,
    progress: ByteProgress = lambda stage, done_bytes, total_bytes: None,
    patience: Patience = PATIENCE,
) -> list[Path]:
    """Install a model in the cache, unless it is there; what was downloaded is removed afterwards.

    Args:
        entry: the model, from `bandsplit.models.pretrained.registry.find_entry`.
        sources: where to get it from.
        progress: called often as ``progress(stage, done_bytes, total_bytes)``; stages: wait (for another process),
            download, check, unpack, import.
        patience: time limit and retries of the download.

    Returns:
        The model files.

    Raises:
        DownloadError: downloads are forbidden, no digest or no configuration is known, the disk is too small, or a file
            cannot be fetched or is not the expected one.
        ModelFileError: a checkpoint cannot be imported, or the cache cannot be written.
        ConfigError: its family cannot be imported.
    """
    check_source(sources.mirror or mirror_setting(), sources.md5)
    if files := cached_files(entry):
        return files
    if entry.listed:
        find_part(entry.family, "weights")
    match entry.source:
        case ZipArchive() as source:
            archive_of(entry, source, sources)  # before anything is asked
            make = partial(make_from_archive, source)
        case SingleCheckpoint() as source:
            check_options(entry, source, sources)
            make = partial(make_from_checkpoint, source)
        case BagOfFiles() as source:
            check_options(entry, source, sources)
            make = partial(make_from_files, source)
        case ModelFiles() as source:
            check_options(entry, source, sources)
            make = partial(make_from_models, source)
    folder = models_folder()
    try:
        with _locked(entry, progress):
            if files := cached_files(entry):  # the other process installed it
                return files
            check_archive(entry, sources)
            missing = sum(missing_bytes(path, size_bytes) for path, size_bytes in places(entry, sources).items())
            needed = needed_bytes(entry) - entry.source.bytes + missing
            what = f"fetching {entry.name} needs {in_gb(needed)} for a while ({in_gb(entry.kept_bytes)} stay)"
            require_space(folder, needed, what, "name a folder on another disk with BANDSPLIT_CACHE")
            make(Making(entry, sources, progress, patience))
    except OSError as error:
        raise _cannot_write(error, folder) from error
    return cached_files(entry)


def remove_model(entry: Entry) -> int:
    """Remove a model and its unfinished downloads; return the bytes that became free.

    Raises:
        ModelFileError: it cannot be removed.
    """
    hidden = hidden_folder(entry)
    complete = [*places(entry, REGISTERED)]
    if isinstance(entry.source, SingleCheckpoint) and entry.source.config is not None:
        complete.append(models_folder() / entry.source.config.file)
    downloads = [path for one in complete for path in (one, part_of(one))]
    folders = (hidden, downloads_folder(entry), folder_of(entry))
    if not any(path.exists() for path in (*folders, *downloads)):
        return 0
    try:
        with _locked(entry, lambda *_: None):
            freed = sum(map(size_of, downloads))
            for path in downloads:
                path.unlink(missing_ok=True)
            for folder in folders:
                freed += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                with held():
                    if folder.exists() and folder != hidden:
                        folder = folder.rename(hidden)  # so that a half-removed folder never looks like a model
                    shutil.rmtree(hidden, ignore_errors=True)
    except OSError as error:
        raise _cannot_write(error, models_folder()) from error
    return freed


def entry_to_remove(name: str) -> Entry:
    """Look up a model in the cache or the registry, also one of which only an unfinished download is there.

    Raises:
        ModelFileError: no model has this name.
    """
    try:
        return find_entry(name)
    except ModelFileError:
        rest = Entry(
            name=name, aliases=(), family="", about="", targets=(), source=ModelFiles(page="", files=()), kept_bytes=0,
            training_data="", saw_test_songs=None, licence="",
        )  # fmt: skip
        if downloads_folder(rest).parent == models_folder() and downloads_folder(rest).is_dir():
            return rest
        raise


def copy_model(entry: Entry, to: Path, force: bool = False) -> list[Path]:
    """Copy the files of a cached model to a folder, as ``<name>.safetensors`` or ``<name>-<target>.safetensors``.

    A bag and its members keep their names, in a folder ``<name>`` of that folder.

    Returns:
        The copies.

    Raises:
        ModelFileError: it is not cached, a file exists, or the folder cannot be written.
    """
    files = all_files(entry)
    if not files:
        raise ModelFileError(f"{entry.name}: is not in the cache; fetch it first: bandsplit models fetch {entry.name}")
    if cached_files(entry) == files:
        names = [entry.folder if len(files) == 1 else f"{entry.folder}-{path.stem}" for path in files]
        copies = [to / f"{name}.safetensors" for name in names]
    else:
        to = to / entry.folder
        copies = [to / path.name for path in files]
    if not force and (existing := [path for path in copies if path.exists()]):
        raise ModelFileError(f"{existing[0]}: exists already; choose another folder, or replace it with --force")
    try:
        to.mkdir(parents=True, exist_ok=True)
        for path, copy in zip(files, copies, strict=True):
            with replacing(copy) as temporary:
                shutil.copyfile(path, temporary)
    except OSError as error:
        reason = f"cannot be written ({error.strerror or error})"
        raise ModelFileError(f"{error.filename or to}: {reason}; choose another folder") from error
    return copies


@contextmanager
def _locked(entry: Entry, progress: ByteProgress) -> Iterator[None]:
    models_folder().mkdir(parents=True, exist_ok=True)
    lock = FileLock(models_folder() / f".{entry.folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("wait", 0, 0)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _cannot_write(error: OSError, folder: Path) -> ModelFileError:
    reason = f"cannot be written or read ({error.strerror or error})"
    return ModelFileError(
        f"{error.filename or folder}: {reason}; fix that, or name another folder with BANDSPLIT_CACHE"
    )
