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
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from bandsplit.core.archives import Archive, install, make_folder
from bandsplit.core.errors import ModelFileError
from bandsplit.core.fetching import (
    PATIENCE,
    ByteProgress,
    Digest,
    Patience,
    check_source,
    fetch,
    in_gb,
    missing_bytes,
    part_of,
    require_space,
    size_of,
)
from bandsplit.core.files import replacing
from bandsplit.core.interrupt import held
from bandsplit.core.settings import mirror_setting
from bandsplit.core.version import __version__
from bandsplit.models.documents import MOST_BYTES
from bandsplit.models.families import find_part
from bandsplit.models.files import save_model
from bandsplit.models.importing import read_model
from bandsplit.models.pretrained.entries import Entry, SingleCheckpoint, ZipArchive
from bandsplit.models.pretrained.registry import MARKER, cached_files, folder_of, models_folder
from bandsplit.models.pretrained.sources import (
    REGISTERED,
    Sources,
    archive_of,
    check_archive,
    check_config,
    if_wrong,
    other_ways,
)

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
    find_part(entry.family, "weights")
    match entry.source:
        case ZipArchive() as source:
            make = partial(_install_archive, entry, source, archive_of(entry, source, sources), sources)
        case SingleCheckpoint() as source:
            check_config(entry, source, sources)
            make = partial(_install_checkpoint, entry, source, sources)
    folder = models_folder()
    try:
        with _locked(entry, progress):
            if files := cached_files(entry):  # the other process installed it
                return files
            check_archive(entry, sources)
            missing = missing_bytes(sources.archive or folder / entry.source.file, entry.source.bytes)
            needed = needed_bytes(entry) - entry.source.bytes + missing
            what = f"fetching {entry.name} needs {in_gb(needed)} for a while ({in_gb(entry.kept_bytes)} stay)"
            require_space(folder, needed, what, "name a folder on another disk with BANDSPLIT_CACHE")
            make(progress, patience)
    except OSError as error:
        raise _cannot_write(error, folder) from error
    return cached_files(entry)


def _install_archive(
    entry: Entry, source: ZipArchive, archive: Archive, sources: Sources, progress: ByteProgress, patience: Patience
) -> None:
    install(
        archive, _hidden(entry), folder_of(entry), MARKER, partial(_import_all, entry, source, archive, progress),
        wanted=_is_checkpoint, keep=sources.archive is not None, progress=progress, patience=patience,
    )  # fmt: skip


def _install_checkpoint(
    entry: Entry, source: SingleCheckpoint, sources: Sources, progress: ByteProgress, patience: Patience
) -> None:
    settings: Path | dict[str, Any] | None = sources.config or source.document
    if source.config is not None:
        settings = sources.config or models_folder() / source.config.file
        fetch(
            sources.address(source.config.url, source.config.file), settings, Digest("sha256", source.config.sha256),
            f"name a local copy of {source.config.file} with --config", progress, patience, most_bytes=MOST_BYTES,
        )  # fmt: skip
    path = sources.archive or models_folder() / source.file
    fetch(
        sources.address(source.url, source.file), path, Digest("sha256", source.sha256), other_ways(source), progress,
        patience, most_bytes=source.bytes,
    )  # fmt: skip

    def make(hidden: Path) -> tuple[Path, dict[str, Any]]:
        hidden.mkdir(parents=True)
        progress("import", 0, 1)
        try:
            file = _import_one(
                entry, path, settings, f"{source.file} (sha256 {source.sha256}) of {source.page}", hidden
            )
        except ModelFileError as error:
            problem = str(error).removeprefix(f"{path}: ")
            raise ModelFileError(f"{source.file}: {problem}; {if_wrong(entry)}") from None
        progress("import", 1, 1)
        if entry.targets and set(file["targets"]) != set(entry.targets):
            raise ModelFileError(
                f"{source.file}: is not {entry.name}: it needs {', '.join(entry.targets)}, and has "
                f"{', '.join(file['targets'])}; {if_wrong(entry)}"
            )
        _clear(entry)
        facts = {"name": entry.name, "page": source.page, "checkpoint": source.file, "sha256": source.sha256}
        return hidden, {**facts, "bandsplit_version": __version__, "files": [file]}

    make_folder(_hidden(entry), folder_of(entry), MARKER, make)
    for copy, download in ((sources.archive, path), (sources.config, settings)):
        if copy is None and isinstance(download, Path):
            download.unlink()


def remove_model(entry: Entry) -> int:
    """Remove a model and its unfinished downloads; return the bytes that became free.

    Raises:
        ModelFileError: it cannot be removed.
    """
    hidden = _hidden(entry)
    names = [entry.source.file]
    if isinstance(entry.source, SingleCheckpoint) and entry.source.config is not None:
        names.append(entry.source.config.file)
    downloads = [path for name in names for path in (models_folder() / name, part_of(models_folder() / name))]
    if not any(path.exists() for path in (folder_of(entry), hidden, *downloads)):
        return 0
    try:
        with _locked(entry, lambda *_: None):
            freed = sum(map(size_of, downloads))
            for path in downloads:
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


def _import_all(
    entry: Entry, source: ZipArchive, archive: Archive, progress: ByteProgress, unpacked: Path
) -> tuple[Path, dict[str, Any]]:
    """Import the checkpoints of an archive; return the folder of the models, and the content of its marker."""
    checkpoints = sorted(path for path in unpacked.rglob("*") if path.is_file())
    made = unpacked / ".models"
    made.mkdir(parents=True)
    files = []
    for number, checkpoint in enumerate(checkpoints):
        progress("import", number, len(checkpoints))
        member = checkpoint.relative_to(unpacked).as_posix()
        described = f"{member} in {source.file} (md5 {archive.md5}) of {source.page}"
        try:
            files.append(_import_one(entry, checkpoint, None, described, made))
        except ModelFileError as error:
            problem = str(error).removeprefix(f"{checkpoint}: ")
            raise ModelFileError(f"{source.file}: its member {member}: {problem}; {archive.if_wrong}") from None
        checkpoint.unlink()
    progress("import", len(checkpoints), len(checkpoints))
    files.sort(key=lambda file: entry.targets.index(file["targets"][0]))
    if sorted(target for file in files for target in file["targets"]) != sorted(entry.targets):
        found = ", ".join(f"{file['file']} ({'+'.join(file['targets'])})" for file in files) or "no checkpoint"
        needed = ", ".join(entry.targets)
        raise ModelFileError(
            f"{source.file}: is not {entry.name}: it needs {needed}, and has {found}; {archive.if_wrong}"
        )
    _clear(entry)
    facts = {"name": entry.name, "doi": source.doi, "archive": source.file, "bandsplit_version": __version__}
    return made, {**facts, "files": files}


def _import_one(
    entry: Entry, checkpoint: Path, config: Path | dict[str, Any] | None, described: str, made: Path
) -> dict[str, Any]:
    """Import one checkpoint, and return the marker's entry of the model file.

    Raises:
        ModelFileError: it cannot be imported, or is a model of other targets.
    """
    model, card, types = read_model(checkpoint, config)
    targets = list(model.config.targets)
    if entry.targets and (unexpected := set(targets) - set(entry.targets)):
        names = ", ".join(sorted(unexpected))
        raise ModelFileError(f"{checkpoint}: is a model of {names}, which {entry.name} does not have")
    file = f"{targets[0] if len(targets) == 1 else checkpoint.stem}.safetensors"
    published = {}
    if scores := entry.scores:
        name = f"published {scores.metric} of {{}} in dB ({scores.data})"
        published = {name.format(target): value for target, value in scores.values_db.items() if target in targets}
    changes = {"name": entry.name, "training_data": entry.data_note, "licence": entry.licence, "source": described}
    save_model(made / file, model, card.model_copy(update={**changes, "scores": published}), types)
    return {"file": file, "targets": targets, "bytes": size_of(made / file)}


def _clear(entry: Entry) -> None:
    """Remove the folder of a model that is damaged, otherwise it would have been used."""
    if folder_of(entry).exists():
        shutil.rmtree(folder_of(entry))


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
