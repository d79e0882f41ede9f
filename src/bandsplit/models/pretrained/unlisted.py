"""Models that a user named by their page or address: files that are kept as they are, and the facts of their cards."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from bandsplit.core.config import shorten
from bandsplit.core.errors import ModelFileError
from bandsplit.core.fetching import size_of
from bandsplit.core.targets import TARGETS
from bandsplit.core.version import __version__
from bandsplit.models.bags import BAG_FILE, is_bag, read_bag
from bandsplit.models.card import FORMAT, ModelCard, read_card
from bandsplit.models.contract import ModelConfig
from bandsplit.models.files import load_model
from bandsplit.models.importing import read_model
from bandsplit.models.pretrained.entries import Entry, ModelFile, ModelFiles
from bandsplit.models.pretrained.making import Making, clear
from bandsplit.models.pretrained.sources import downloads_folder, place_of

_LONGEST_FACT = 500


class _Kept(NamedTuple):
    """A model file in the folder that becomes the model."""

    path: Path
    config: ModelConfig
    card: ModelCard


def make_from_models(source: ModelFiles, making: Making) -> None:
    """Fetch model files and keep them as they are; a single checkpoint of other software is imported."""
    entry, sources, progress, _ = making
    making.fetch_all(source)

    def make(hidden: Path) -> tuple[Path, dict[str, Any]]:
        hidden.mkdir(parents=True)
        kept: list[_Kept] = []
        for number, file in enumerate(source.files):
            progress("import", number, len(source.files))
            path = place_of(entry, file, sources)
            try:
                if is_bag(file.file):
                    shutil.copyfile(path, hidden / BAG_FILE)
                else:
                    kept.append(_keep(file, path, source, sources.config, hidden))
            except ModelFileError as error:
                raise _refused(file, path, hidden, source, error) from None
        progress("import", len(source.files), len(source.files))
        kept.sort(key=_order)
        files = [{"file": model.path.name, "targets": [*model.config.targets], "bytes": size_of(model.path)}
                 for model in kept]  # fmt: skip
        facts: dict[str, Any] = {"name": entry.name, "page": source.page, "bandsplit_version": __version__}
        if (hidden / BAG_FILE).exists():
            _check_bag(hidden / BAG_FILE, [model.path.name for model in kept])
            files.append({"file": BAG_FILE, "bytes": size_of(hidden / BAG_FILE)})
            facts["bag"] = BAG_FILE
        clear(entry)
        return hidden, {**facts, "entry": _described(entry, source, kept).model_dump(mode="json"), "files": files}

    try:
        making.make_folder(make)
    except ModelFileError:
        shutil.rmtree(downloads_folder(entry), ignore_errors=True)  # the right files, but not of a model
        raise
    shutil.rmtree(downloads_folder(entry), ignore_errors=True)


def _keep(file: ModelFile, path: Path, source: ModelFiles, config: Path | None, folder: Path) -> _Kept:
    """Copy a model file, or import a checkpoint, into a folder.

    Raises:
        ModelFileError: it is not a model file, or cannot be imported.
    """
    copy = folder / f"{Path(file.file).stem}.safetensors"
    if source.commit is None and not _is_model(path):
        imported = read_model(path, config)
        origin = f"{file.file} (sha256 {file.sha256}) of {source.page}"
        imported = imported._replace(card=imported.card.model_copy(update={"source": origin}))
        imported.save(copy)
        return _Kept(copy, imported.model.config, imported.card)
    if config is not None:
        raise ModelFileError(f"{path}: is a model file, which holds its settings; leave --config out")
    shutil.copyfile(path, copy)
    load_model(copy)
    return _Kept(copy, *read_card(copy))


def _is_model(path: Path) -> bool:
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError, UnicodeDecodeError):
        return False


def _order(model: _Kept) -> tuple[int, str]:
    order = {name: number for number, name in enumerate(TARGETS)}
    return order.get(model.path.stem, len(order)), model.path.name


def _check_bag(bag: Path, names: Sequence[str]) -> None:
    """Check that all members of a bag are model files of its page.

    Raises:
        ModelFileError: one is not, or the bag cannot be read.
    """
    for number, member in enumerate(read_bag(bag).members, 1):
        if member.model not in names:
            raise ModelFileError(
                f"{bag.name}: members: number {number} ({member.model}) is not a model file of its page, which has "
                f"{', '.join(names) or 'none'}; nothing was kept"
            )


def _refused(file: ModelFile, path: Path, hidden: Path, source: ModelFiles, error: ModelFileError) -> ModelFileError:
    problem = str(error)
    for place in (path, hidden / file.file):
        problem = problem.removeprefix(f"{place}: ").replace(str(place), file.file)
    return ModelFileError(
        f"{file.file}: {problem}; nothing was kept. It is what its page has ({source.page}): ask its publisher"
    )


def _described(entry: Entry, source: ModelFiles, kept: Sequence[_Kept]) -> Entry:
    """Fill in the facts that only the files have."""

    def together(facts: Sequence[str]) -> str:
        return shorten("; ".join(dict.fromkeys(facts)), _LONGEST_FACT)

    seen = [model.card.saw_test_songs for model in kept]
    address = {} if source.commit is not None else {"address": source.page}  # without a query, which may be a secret
    files = tuple(file.model_copy(update=address) for file in source.files)
    return entry.model_copy(
        update={
            "family": together([model.config.family for model in kept]),
            "targets": tuple(dict.fromkeys(target for model in kept for target in model.config.targets)),
            "source": source.model_copy(update={"files": files}),
            "kept_bytes": sum(size_of(model.path) for model in kept),
            "training_data": together([model.card.training_data for model in kept]),
            "licence": together([model.card.licence for model in kept]),
            "saw_test_songs": True if True in seen else None if None in seen else False,
        }
    )
