"""The folder of a published model, made from each kind of source: complete or absent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from bandsplit.core.archives import Archive, install, make_folder
from bandsplit.core.errors import ModelFileError
from bandsplit.core.fetching import ByteProgress, Digest, Patience, fetch, size_of
from bandsplit.core.version import __version__
from bandsplit.models.bags import BAG_FILE, is_bag, write_bag
from bandsplit.models.card import ModelCard
from bandsplit.models.documents import MOST_BYTES
from bandsplit.models.files import save_model
from bandsplit.models.importing import read_model
from bandsplit.models.mixers import read_mixer
from bandsplit.models.pretrained.access import authorization
from bandsplit.models.pretrained.entries import (
    BagOfFiles,
    Entry,
    ModelFile,
    ModelFiles,
    RemoteFile,
    SingleCheckpoint,
    ZipArchive,
)
from bandsplit.models.pretrained.registry import MARKER, folder_of, models_folder
from bandsplit.models.pretrained.sources import (
    Sources,
    archive_of,
    digest_of,
    downloads_folder,
    if_wrong,
    other_ways,
    place_of,
)


class Making(NamedTuple):
    """A model to be made, and all that a download needs to know."""

    entry: Entry
    sources: Sources
    progress: ByteProgress
    patience: Patience

    def fetch(self, file: RemoteFile | ModelFile, path: Path, fix: str, progress: ByteProgress | None = None) -> None:
        """Download a file, unless it is there."""
        url, digest = self.sources.address_of(file), digest_of(file, self.sources)
        fetch(
            url, path, digest, fix, progress or self.progress, self.patience,
            most_bytes=file.most_bytes, headers=authorization(url) if isinstance(file, ModelFile) else {},
        )  # fmt: skip

    def fetch_all(self, source: BagOfFiles | ModelFiles) -> None:
        """Download several files, unless they are there; the progress is that of all."""
        before = 0
        if self.sources.archive is None:
            downloads_folder(self.entry).mkdir(exist_ok=True)
        for file in source.files:
            so_far = _as_part(self.progress, before, source.bytes)
            self.fetch(file, place_of(self.entry, file, self.sources), other_ways(source), so_far)
            before += file.bytes

    def make_folder(self, make: Any) -> None:
        """Make the folder of the model, see `bandsplit.core.archives.make_folder`."""
        make_folder(hidden_folder(self.entry), folder_of(self.entry), MARKER, make)


def hidden_folder(entry: Entry) -> Path:
    """Return the folder in which a model is made."""
    return models_folder() / f".{entry.folder}.unfinished"


# --- archives --------------------------------------------------------------------------------------------------------


def make_from_archive(source: ZipArchive, making: Making) -> None:
    """Fetch an archive and import its checkpoints."""
    entry, sources = making.entry, making.sources
    archive = archive_of(entry, source, sources)
    install(
        archive, hidden_folder(entry), folder_of(entry), MARKER,
        partial(_import_all, entry, source, archive, making.progress),
        wanted=_is_checkpoint, keep=sources.archive is not None, progress=making.progress, patience=making.patience,
    )  # fmt: skip


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
            files.append(_import_one(entry, checkpoint, None, lambda _, text=described: text, made))
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
    clear(entry)
    facts = {"name": entry.name, "doi": source.doi, "archive": source.file, "bandsplit_version": __version__}
    return made, {**facts, "files": files}


def _is_checkpoint(member: str) -> bool:
    path = PurePosixPath(member)
    return path.suffix == ".ckpt" and not path.name.startswith(".")  # macOS adds files called ._name


# --- a checkpoint ----------------------------------------------------------------------------------------------------


def make_from_checkpoint(source: SingleCheckpoint, making: Making) -> None:
    """Fetch a checkpoint and its configuration, and import it."""
    entry, sources, progress, patience = making
    settings: Path | dict[str, Any] | None = sources.config or source.document
    if source.config is not None:
        settings = sources.config or models_folder() / source.config.file
        fetch(
            sources.address(source.config.url, source.config.file), settings, Digest("sha256", source.config.sha256),
            f"name a local copy of {source.config.file} with --config", progress, patience, most_bytes=MOST_BYTES,
        )  # fmt: skip
    path = sources.archive or models_folder() / source.file
    making.fetch(source, path, other_ways(source))

    def make(hidden: Path) -> tuple[Path, dict[str, Any]]:
        hidden.mkdir(parents=True)
        progress("import", 0, 1)
        with _blamed_on(source, entry, path):
            file = _import_one(entry, path, settings, partial(_describe, source, source), hidden)
        progress("import", 1, 1)
        if entry.targets:
            _check_targets(entry, [file], source.file)
        clear(entry)
        facts = {"name": entry.name, "page": source.page, "checkpoint": source.file}
        return hidden, {**facts, "bandsplit_version": __version__, "files": [file]}

    making.make_folder(make)
    for copy, download in ((sources.archive, path), (sources.config, settings)):
        if copy is None and isinstance(download, Path):
            download.unlink()


# --- several checkpoints ---------------------------------------------------------------------------------------------


def make_from_files(source: BagOfFiles, making: Making) -> None:
    """Fetch the files of a bag, import them, and write the bag next to the models."""
    entry, sources, progress, _ = making
    making.fetch_all(source)

    def make(hidden: Path) -> tuple[Path, dict[str, Any]]:
        hidden.mkdir(parents=True)
        files, mixers = [], {}
        for number, file in enumerate(source.files):
            progress("import", number, len(source.files))
            path = place_of(entry, file, sources)
            with _blamed_on(file, entry, path):
                if is_bag(file.into):
                    mixers[file.into] = read_mixer(path)
                else:
                    describe = partial(_describe, file, source)
                    files.append(_import_one(entry, path, file.document, describe, hidden, file.into))
        progress("import", len(source.files), len(source.files))
        _check_targets(entry, files, entry.name)
        for name, bag in source.bags.items():
            named = entry.name if name == BAG_FILE else bag.name
            write_bag(hidden / name, bag.model_copy(update={"name": named, "mixer": mixers.get(name, bag.mixer)}))
            files.append({"file": name, "bytes": size_of(hidden / name)})
        clear(entry)
        facts = {"name": entry.name, "page": source.page, "bag": BAG_FILE, "bandsplit_version": __version__}
        return hidden, {**facts, "files": files}

    making.make_folder(make)
    if sources.archive is None:
        shutil.rmtree(downloads_folder(entry))


def _as_part(progress: ByteProgress, before_bytes: int, all_bytes: int) -> ByteProgress:
    """Return the progress of a download that is a part of a larger one."""

    def report(stage: str, done_bytes: int, total_bytes: int) -> None:
        if stage == "download":
            done_bytes += before_bytes
            total_bytes = max(all_bytes, done_bytes)
        progress(stage, done_bytes, total_bytes)

    return report


# --- one file --------------------------------------------------------------------------------------------------------


def _describe(file: RemoteFile, source: SingleCheckpoint | BagOfFiles, card: ModelCard) -> str:
    return f"{file.file} (sha256 {card.source_sha256}) of {source.page}"


def _import_one(
    entry: Entry,
    checkpoint: Path,
    config: Path | dict[str, Any] | None,
    describe: Callable[[ModelCard], str],
    made: Path,
    member: str | None = None,
) -> dict[str, Any]:
    """Import one checkpoint.

    Args:
        entry: the model, or the bag that it is in.
        checkpoint: the file.
        config: its settings, unless it holds them.
        describe: returns the origin of a model with this card.
        made: folder of the model file.
        member: name of the model file, if it is a member of a bag; by default it is that of its one target, or of the
            checkpoint.

    Returns:
        The marker's entry of the model file.

    Raises:
        ModelFileError: it cannot be imported, or is a model of other targets.
    """
    model, card, types = read_model(checkpoint, config)
    targets = list(model.config.targets)
    if entry.targets and (unexpected := set(targets) - set(entry.targets)):
        names = ", ".join(sorted(unexpected))
        raise ModelFileError(f"{checkpoint}: is a model of {names}, which {entry.name} does not have")
    file = member or f"{targets[0] if len(targets) == 1 else checkpoint.stem}.safetensors"
    published = {
        f"published {scores.metric} of {target} in dB ({scores.data})": value
        for scores in (() if member else entry.scores)
        for target, value in scores.values_db.items()
        if target in targets
    }
    changes = {
        "name": f"{entry.name}-{Path(member).stem}" if member else entry.name,
        "training_data": entry.data_note,
        "licence": entry.licence,
        "saw_test_songs": entry.saw_test_songs,
        "source": describe(card),
        "scores": published,
    }
    save_model(made / file, model, card.model_copy(update=changes), types)
    return {"file": file, "targets": targets, "bytes": size_of(made / file), "source_sha256": card.source_sha256}


@contextmanager
def _blamed_on(file: RemoteFile, entry: Entry, path: Path) -> Iterator[None]:
    """Name the file, and the way to get another, in errors about its content."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{file.file}: {str(error).removeprefix(f'{path}: ')}; {if_wrong(entry)}") from None


def _check_targets(entry: Entry, files: Sequence[dict[str, Any]], what: str) -> None:
    """Check that models have all targets that they should have together.

    Raises:
        ModelFileError: one is missing.
    """
    targets = dict.fromkeys(target for file in files for target in file["targets"])
    if targets.keys() != set(entry.targets):
        raise ModelFileError(
            f"{what}: is not {entry.name}: it needs {', '.join(entry.targets)}, and has {', '.join(targets)}; "
            f"{if_wrong(entry)}"
        )


def clear(entry: Entry) -> None:
    """Remove the folder of a model that is damaged, otherwise it would have been used."""
    if folder_of(entry).exists():
        shutil.rmtree(folder_of(entry))
