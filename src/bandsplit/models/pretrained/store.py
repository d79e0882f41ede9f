"""Bring published models to the cache, copy them out of it, remove them.

A model is there whole or not at all: the archive has its name only with the right md5, it is unpacked and imported in
a hidden folder, and one renaming makes the model of it. No code in a checkpoint is run. Two processes wait for each
other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from bandsplit.core.archives import member_sizes, unpack
from bandsplit.core.errors import DownloadError, ModelFileError
from bandsplit.core.fetching import (
    PATIENCE,
    ByteProgress,
    Patience,
    check_source,
    fetch,
    in_gb,
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
_MOST_RATIO = 2  # what unpacks to more is no archive of weights
_SIZE_TOLERANCE = 1.05  # sizes are registered to three digits


def needed_bytes(entry: Entry) -> int:
    """Return about how much disk fetching takes: the archive, what is in it, and the imported weights."""
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
    """Bring a model to the cache, unless it is there; the archive and its checkpoints are removed afterwards.

    Args:
        entry: which one, from `bandsplit.models.pretrained.registry.find_entry`.
        mirror: address of another folder that has the archive (default: ``BANDSPLIT_MIRROR``, else the record).
        md5: of the archive, where none is registered.
        archive: the archive, where it was brought here by other means; it is checked like a download and kept.
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
    digest, folder = _expected_md5(entry, md5), models_folder()
    try:
        with _locked(entry, progress):
            if files := cached_files(entry):  # the other process brought it
                return files
            if archive is None and is_offline():
                raise DownloadError(
                    f"{entry.name}: is not in the cache, and BANDSPLIT_OFFLINE forbids downloads; unset it, or bring "
                    f"{entry.file} here and give it with --archive"
                )
            missing = 0 if archive else max(entry.archive_bytes - size_of(part_of(folder / entry.file)), 0)
            needed = needed_bytes(entry) - entry.archive_bytes + missing
            what = f"fetching {entry.name} needs {in_gb(needed)} for a while ({in_gb(entry.kept_bytes)} stay)"
            require_space(folder, needed, what, "name a folder on another disk with BANDSPLIT_CACHE")
            source = f"{(mirror or mirror_setting() or entry.url).rstrip('/')}/{entry.file}"
            fix = f"name another source with --mirror, or bring {entry.file} here and give it with --archive"
            path = archive or folder / entry.file
            if archive is not None and not archive.is_file():
                raise DownloadError(f"{archive}: no such file; name {entry.file} of https://doi.org/{entry.doi}")
            most_bytes = int(entry.archive_bytes * _SIZE_TOLERANCE)
            fetch(source, path, digest, fix, progress, patience, most_bytes=most_bytes)
            _import_whole(entry, path, digest, progress)
            if archive is None:
                path.unlink()
    except OSError as error:
        raise _cannot_write(error, folder) from error
    return cached_files(entry)


def remove_model(entry: Entry) -> int:
    """Remove a model and what is left of unfinished downloads of it; return the bytes that became free.

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
                        folder = folder.rename(hidden)  # half removed, it never looks like a model
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
        f"{entry.name}: no md5 of {entry.file} is registered, so nothing could tell whether what arrives is what its "
        f"authors published; look it up at https://doi.org/{entry.doi} and give it with --md5"
    )


def _import_whole(entry: Entry, archive: Path, md5: str, progress: ByteProgress) -> None:
    """Unpack and import in a hidden folder, mark what is whole, then give it its name."""
    hidden = _hidden(entry)
    shutil.rmtree(hidden, ignore_errors=True)  # of a process that was killed
    fix = _other_source(entry)
    most_bytes = int(entry.archive_bytes * _MOST_RATIO)
    try:
        members = [name for name in member_sizes(archive, most_bytes, fix) if _is_checkpoint(name)]
        unpack(
            archive, hidden / "unpacked", most_bytes=most_bytes, fix=fix, only=members,
            progress=lambda done, total: progress("unpack", done, total),
        )  # fmt: skip
        files = []
        for number, member in enumerate(members):
            progress("import", number, len(members))
            files.append(_import_one(entry, hidden, member, md5))
        progress("import", len(members), len(members))
        shutil.rmtree(hidden / "unpacked", ignore_errors=True)
        files.sort(key=lambda file: entry.targets.index(file["targets"][0]))
        if sorted(target for file in files for target in file["targets"]) != sorted(entry.targets):
            found = ", ".join(f"{file['file']} ({'+'.join(file['targets'])})" for file in files) or "no checkpoint"
            needed = ", ".join(entry.targets)
            raise ModelFileError(
                f"{entry.file}: is not {entry.name}: it needs {needed}, and has {found}; {_other_source(entry)}"
            )
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        source = {"doi": entry.doi, "archive": entry.file, "md5": md5, "date": date, "bandsplit_version": __version__}
        marker = {"name": entry.name, **source, "files": files}
        (hidden / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        if folder_of(entry).exists():  # damaged, else it would have been used
            shutil.rmtree(folder_of(entry))
        hidden.rename(folder_of(entry))
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _import_one(entry: Entry, hidden: Path, member: str, md5: str) -> dict:
    """Import one checkpoint, remove it, and return what the marker says of the model file."""
    checkpoint = hidden / "unpacked" / member
    try:
        model, card = import_checkpoint(checkpoint)
    except ModelFileError as error:
        problem = str(error).removeprefix(f"{checkpoint}: ")
        raise ModelFileError(f"{entry.file}: its member {member}: {problem}; {_other_source(entry)}") from None
    checkpoint.unlink()
    targets = list(model.config.targets)
    if unexpected := set(targets) - set(entry.targets):
        what = f"is a model of {', '.join(sorted(unexpected))}, which {entry.name} has not"
        raise ModelFileError(f"{entry.file}: its member {member} {what}; {_other_source(entry)}")
    file = f"{targets[0] if len(targets) == 1 else PurePosixPath(member).stem}.safetensors"
    published = entry.scores.values_db if entry.scores else {}
    scores = {f"published test cSDR of {target} in dB": published.get(target) for target in targets}
    card = card.model_copy(
        update={
            "name": entry.name,
            "training_data": entry.training_data,
            "licence": entry.licence,
            "source": f"{member} in {entry.file} (md5 {md5}) of https://doi.org/{entry.doi}",
            "scores": {name: value for name, value in scores.items() if value is not None},
        }
    )
    save_model(hidden / file, model, card)
    return {"file": file, "targets": targets, "bytes": size_of(hidden / file)}


def _is_checkpoint(member: str) -> bool:
    path = PurePosixPath(member)
    return path.suffix == ".ckpt" and not path.name.startswith(".")  # macOS adds files called ._name


def _other_source(entry: Entry) -> str:
    return f"remove it (bandsplit models remove {entry.name}) and name another source with --mirror"


def _hidden(entry: Entry) -> Path:
    return models_folder() / f".{entry.name}.unfinished"


def _cannot_write(error: OSError, folder: Path) -> ModelFileError:
    reason = f"cannot be written or read ({error.strerror or error})"
    return ModelFileError(
        f"{error.filename or folder}: {reason}; mend that, or name another folder with BANDSPLIT_CACHE"
    )
