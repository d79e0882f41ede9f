"""Installation of published models in the cache, copies out of it, and removal.

Installation is atomic, a model is complete or absent: the archive gets its name only with the right md5, it is unpacked
and imported in a hidden folder, and one rename turns that folder into the model. No code in a checkpoint is run.
Concurrent processes wait for each other.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from bandsplit.core.archives import Archive, install
from bandsplit.core.errors import DownloadError, ModelFileError
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
from bandsplit.core.settings import is_offline, mirror_setting
from bandsplit.core.version import __version__
from bandsplit.models.files import save_model
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.pretrained.registry import MARKER, Entry, cached_files, folder_of, models_folder

_UNPACKED_RATIO = 1.1  # weights and the state of their training hardly compress
_MOST_RATIO = 2  # an archive that unpacks to more does not contain weights
_SIZE_TOLERANCE = 1.05  # sizes are registered to three digits


def needed_bytes(entry: Entry) -> int:
    """Return the approximate disk space of fetching: the archive, its content, and the imported weights."""
    return int(entry.archive_bytes * (1 + _UNPACKED_RATIO)) + entry.kept_bytes


def install_model(
    entry: Entry,
    *,
    mirror: str | None = None,
    md5: str | None = None,
    archive: Path | None = None,
    progress: ByteProgress = lambda stage, done_bytes, total_bytes: None,
    patience: Patience = PATIENCE,
) -> list[Path]:
    """Install a model in the cache, unless it is there; the archive and its checkpoints are removed afterwards.

    Args:
        entry: the model, from `bandsplit.models.pretrained.registry.find_entry`.
        mirror: address of another folder that has the archive (default: ``BANDSPLIT_MIRROR``, else the record).
        md5: md5 of the archive, if none is registered.
        archive: a local copy of the archive; it is checked like a download and kept.
        progress: called often as ``progress(stage, done_bytes, total_bytes)``; stages: wait (for another process),
            download, check, unpack, import.
        patience: time limit and retries of the download.

    Returns:
        The model files.

    Raises:
        DownloadError: downloads are forbidden, no md5 is known, the disk is too small, or the archive cannot be fetched
            or is not the expected one.
        ModelFileError: a checkpoint in it cannot be imported, or the cache cannot be written.
    """
    check_source(mirror or mirror_setting(), md5)
    if files := cached_files(entry):
        return files
    source, folder = _archive_of(entry, mirror, _expected_md5(entry, md5), archive), models_folder()
    try:
        with _locked(entry, progress):
            if files := cached_files(entry):  # the other process installed it
                return files
            _check_archive(entry, archive)
            missing = missing_bytes(source.path, entry.archive_bytes)
            needed = needed_bytes(entry) - entry.archive_bytes + missing
            what = f"fetching {entry.name} needs {in_gb(needed)} for a while ({in_gb(entry.kept_bytes)} stay)"
            require_space(folder, needed, what, "name a folder on another disk with BANDSPLIT_CACHE")
            install(
                source, _hidden(entry), folder_of(entry), MARKER,
                partial(_import_all, entry, source, progress),
                wanted=_is_checkpoint, keep=archive is not None, progress=progress, patience=patience,
            )  # fmt: skip
    except OSError as error:
        raise _cannot_write(error, folder) from error
    return cached_files(entry)


def remove_model(entry: Entry) -> int:
    """Remove a model and its unfinished downloads; return the bytes that became free.

    Raises:
        ModelFileError: it cannot be removed.
    """
    hidden = _hidden(entry)
    archive = models_folder() / entry.file
    if not any(path.exists() for path in (folder_of(entry), hidden, archive, part_of(archive))):
        return 0
    try:
        with _locked(entry, lambda *_: None):
            freed = sum(map(size_of, (archive, part_of(archive))))
            for path in (archive, part_of(archive)):
                path.unlink(missing_ok=True)
            for folder in (hidden, folder_of(entry)):
                freed += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                with held():
                    if folder.exists() and folder != hidden:
                        folder = folder.rename(hidden)  # so that a half-removed folder never looks like a model
                    shutil.rmtree(hidden, ignore_errors=True)
    except OSError as error:
        raise _cannot_write(error, models_folder()) from error
    return freed


def copy_model(entry: Entry, to: Path, force: bool = False) -> list[Path]:
    """Copy the files of a cached model to a folder, as ``<name>.safetensors`` or ``<name>-<target>.safetensors``.

    Raises:
        ModelFileError: it is not cached, a file exists, or the folder cannot be written.
    """
    files = cached_files(entry)
    if not files:
        raise ModelFileError(f"{entry.name}: is not in the cache; fetch it first: bandsplit models fetch {entry.name}")
    names = [entry.name if len(files) == 1 else f"{entry.name}-{path.stem}" for path in files]
    copies = [to / f"{name}.safetensors" for name in names]
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
    lock = FileLock(models_folder() / f".{entry.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("wait", 0, 0)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _expected_md5(entry: Entry, given: str | None) -> str:
    if entry.md5 and given and given.lower() != entry.md5:
        raise DownloadError(f"--md5 {given}: the registered md5 of {entry.file} is {entry.md5}; leave --md5 out")
    if digest := entry.md5 or given:
        return digest.lower()
    raise DownloadError(
        f"{entry.name}: no md5 of {entry.file} is registered, so a download cannot be compared with what its authors "
        f"published; look it up at https://doi.org/{entry.doi} and give it with --md5"
    )


def _archive_of(entry: Entry, mirror: str | None, md5: str, path: Path | None) -> Archive:
    return Archive(
        url=f"{(mirror or mirror_setting() or entry.url).rstrip('/')}/{entry.file}",
        path=path or models_folder() / entry.file,
        md5=md5,
        most_bytes=int(entry.archive_bytes * _SIZE_TOLERANCE),
        most_unpacked_bytes=int(entry.archive_bytes * _MOST_RATIO),
        other_ways=f"name another source with --mirror, or a local copy of {entry.file} with --archive",
        if_wrong=f"remove it (bandsplit models remove {entry.name}) and name another source with --mirror",
    )


def _check_archive(entry: Entry, path: Path | None) -> None:
    """Check that the local copy of the archive exists, or that downloads are allowed."""
    if path is None and is_offline():
        raise DownloadError(
            f"{entry.name}: is not in the cache, and BANDSPLIT_OFFLINE forbids downloads; unset it, or copy "
            f"{entry.file} to this machine and give it with --archive"
        )
    if path is not None and not path.is_file():
        raise DownloadError(f"{path}: no such file; name {entry.file} of https://doi.org/{entry.doi}")


def _import_all(entry: Entry, archive: Archive, progress: ByteProgress, unpacked: Path) -> tuple[Path, dict[str, Any]]:
    """Import the checkpoints of an archive; return the folder of the models, and the content of its marker."""
    checkpoints = sorted(path for path in unpacked.rglob("*") if path.is_file())
    made = unpacked / ".models"
    made.mkdir(parents=True)
    files = []
    for number, checkpoint in enumerate(checkpoints):
        progress("import", number, len(checkpoints))
        files.append(_import_one(entry, archive, checkpoint, made))
    progress("import", len(checkpoints), len(checkpoints))
    files.sort(key=lambda file: entry.targets.index(file["targets"][0]))
    if sorted(target for file in files for target in file["targets"]) != sorted(entry.targets):
        found = ", ".join(f"{file['file']} ({'+'.join(file['targets'])})" for file in files) or "no checkpoint"
        needed = ", ".join(entry.targets)
        raise ModelFileError(
            f"{entry.file}: is not {entry.name}: it needs {needed}, and has {found}; {archive.if_wrong}"
        )
    if folder_of(entry).exists():  # damaged, otherwise it would have been used
        shutil.rmtree(folder_of(entry))
    facts = {"name": entry.name, "doi": entry.doi, "archive": entry.file, "bandsplit_version": __version__}
    return made, {**facts, "files": files}


def _import_one(entry: Entry, archive: Archive, checkpoint: Path, made: Path) -> dict[str, Any]:
    """Import one checkpoint, remove it, and return the marker's entry of the model file."""
    member = checkpoint.relative_to(made.parent).as_posix()
    try:
        model, card = import_checkpoint(checkpoint)
    except ModelFileError as error:
        problem = str(error).removeprefix(f"{checkpoint}: ")
        raise ModelFileError(f"{entry.file}: its member {member}: {problem}; {archive.if_wrong}") from None
    checkpoint.unlink()
    targets = list(model.config.targets)
    if unexpected := set(targets) - set(entry.targets):
        what = f"is a model of {', '.join(sorted(unexpected))}, which {entry.name} does not have"
        raise ModelFileError(f"{entry.file}: its member {member} {what}; {archive.if_wrong}")
    file = f"{targets[0] if len(targets) == 1 else checkpoint.stem}.safetensors"
    published = entry.scores.values_db if entry.scores else {}
    scores = {f"published test cSDR of {target} in dB": published.get(target) for target in targets}
    card = card.model_copy(
        update={
            "name": entry.name,
            "training_data": entry.training_data,
            "licence": entry.licence,
            "source": f"{member} in {entry.file} (md5 {archive.md5}) of https://doi.org/{entry.doi}",
            "scores": {name: value for name, value in scores.items() if value is not None},
        }
    )
    save_model(made / file, model, card)
    return {"file": file, "targets": targets, "bytes": size_of(made / file)}


def _is_checkpoint(member: str) -> bool:
    path = PurePosixPath(member)
    return path.suffix == ".ckpt" and not path.name.startswith(".")  # macOS adds files called ._name


def _hidden(entry: Entry) -> Path:
    return models_folder() / f".{entry.name}.unfinished"


def _cannot_write(error: OSError, folder: Path) -> ModelFileError:
    reason = f"cannot be written or read ({error.strerror or error})"
    return ModelFileError(
        f"{error.filename or folder}: {reason}; fix that, or name another folder with BANDSPLIT_CACHE"
    )
