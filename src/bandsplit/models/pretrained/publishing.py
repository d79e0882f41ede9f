"""Publication of models on the Hub: their files as they are, and a page with the facts of their cards.

All goes into one commit, which is the last request: a page has the new models or the old ones, never a part. Needs the
extra ``hub``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from bandsplit.core.config import shorten
from bandsplit.core.errors import DownloadError, ModelFileError
from bandsplit.core.fetching import size_of
from bandsplit.core.settings import is_offline
from bandsplit.core.text import counted
from bandsplit.models.bags import BAG_FILE, is_bag, read_bag
from bandsplit.models.card import ModelCard, read_card
from bandsplit.models.contract import ModelConfig
from bandsplit.models.files import load_model
from bandsplit.models.pretrained.access import endpoint, token
from bandsplit.models.pretrained.hub import FILE, HubName, explained, is_of_model

PAGE = "README.md"

_LICENCES = {
    "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0", "lgpl-3.0", "mit", "openrail", "unlicense",
}  # fmt: skip
"""Licences that the Hub knows by these names; any other is given in words."""
_LONGEST_FACT = 1000


class Published(NamedTuple):
    """A model as it is published."""

    file: str
    """Its name on the page."""
    path: Path
    config: ModelConfig
    card: ModelCard


class Publication(NamedTuple):
    """All that becomes a page."""

    name: HubName
    models: tuple[Published, ...]
    bag: Path | None
    page: str
    """Text of the page."""

    @property
    def bytes(self) -> int:
        """Size of all models."""
        return sum(size_of(model.path) for model in self.models)

    def notice(self, public: bool) -> list[str]:
        """Write what will be published, for users to read before."""
        facts = [
            f"{model.file}: {', '.join(model.config.targets)}; {size_of(model.path) / 1e6:.1f} MB; trained on: "
            f"{model.card.training_data}; licence: {model.card.licence}"
            for model in self.models
        ]
        seen = "everybody" if public else "you alone, if the page is new (--public shows it to everybody)"
        return [f"{self.name.page}: {counted(len(facts), 'model file')}, to be seen by {seen}", *facts]


def prepare(paths: Sequence[Path], name: HubName) -> Publication:
    """Check models and write their page.

    Args:
        paths: model files, or one bag whose members are model files next to it.
        name: where they are published.

    Raises:
        ModelFileError: one is not a model file, or two would have the same name.
        DownloadError: the name has a revision.
    """
    if name.revision is not None:
        raise DownloadError(f"{name}: a commit is made on the main branch; leave @{name.revision} out")
    bag = next(iter(paths)) if len(paths) == 1 and is_bag(paths[0]) else None
    models = tuple(_check(path, bag is None) for path in (paths if bag is None else _members(bag)))
    names = [model.file.lower() for model in models]
    if double := next((file for file in names if names.count(file) > 1), None):
        raise ModelFileError(f"{double}: two of the models would have this name; rename one, or publish them apart")
    return Publication(name, models, bag, write_page(name, models, bag))


def _check(path: Path, rename: bool) -> Published:
    if path.suffix != ".safetensors":
        raise ModelFileError(
            f"{path}: only .safetensors models are published, in which nothing can run; name one (a bag alone, not "
            f"with others)"
        )
    load_model(path)
    config, card = read_card(path)
    file = f"{config.targets[0]}.safetensors" if rename and len(config.targets) == 1 else path.name
    if not FILE.fullmatch(file):
        raise ModelFileError(f"{path}: its name must have letters, digits and ._+- only; rename it")
    return Published(file, path, config, card)


def _members(bag: Path) -> list[Path]:
    paths = []
    for number, member in enumerate(read_bag(bag).members, 1):
        path = bag.parent / member.model
        if Path(member.model).name != member.model or not path.is_file() or is_bag(path):
            raise ModelFileError(
                f"{bag}: members: number {number} ({member.model}) is not a model file in the folder of the bag; copy "
                f"all there (bandsplit models export), and name them so"
            )
        paths.append(path)
    return list(dict.fromkeys(paths))


# --- the page --------------------------------------------------------------------------------------------------------


def write_page(name: HubName, models: Sequence[Published], bag: Path | None) -> str:
    """Write the text of a page: facts that the Hub reads, how to use the models, and their cards."""
    families = list(dict.fromkeys(model.config.family for model in models))
    targets = list(dict.fromkeys(target for model in models for target in model.config.targets))
    facts = {
        **_licence_of([model.card.licence for model in models]),
        "library_name": "bandsplit",
        "pipeline_tag": "audio-to-audio",
        "tags": ["music-source-separation", "bandsplit", *(family.replace("_", "-") for family in families)],
    }
    what = f"A bag of {counted(len(models), 'model')}" if bag else counted(len(models), "model")
    lines = [
        "---", yaml.safe_dump(facts, sort_keys=False, allow_unicode=True).strip(), "---", "", f"# {name.name}", "",
        f"{what} of `bandsplit` for music separation: {', '.join(targets)}.", "",
        "```sh", f"bandsplit models fetch {name}", f"bandsplit separate SONG.wav -n {name}", "```",
    ]  # fmt: skip
    for model in models:
        lines += ["", f"## {model.file}", "", "| | |", "|---|---|"]
        lines += [f"| {what} | {_cell(value)} |" for what, value in _rows(model).items()]
    return "\n".join(lines) + "\n"


def _rows(model: Published) -> dict[str, object]:
    card = model.card
    seen = {True: "yes: its scores on them mean nothing", False: "no", None: "not known"}
    rows = {
        "name": card.name,
        "family": model.config.family,
        "targets": ", ".join(model.config.targets),
        "sample rate": f"{model.config.sample_rate_hz} Hz",
        "training data": card.training_data,
        "saw the test songs of MUSDB18-HQ": seen[card.saw_test_songs],
        "licence": card.licence,
        "source": card.source,
        "recipe": card.recipe,
        "seed": card.seed,
        "started from": card.fine_tuning and f"{card.fine_tuning.source} (sha256 {card.fine_tuning.source_sha256})",
        "bandsplit": card.bandsplit_version,
    }
    return {what: value for what, value in {**rows, **card.scores}.items() if value is not None}


def _cell(value: object) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else shorten(" ".join(str(value).split()), _LONGEST_FACT)
    return re.sub(r"([\\|<>`\[\]])", r"\\\1", text)


def _licence_of(stated: Sequence[str]) -> dict[str, str]:
    """Name the licence as the Hub does, if all models have the same, and it knows that."""
    if len(set(stated)) == 1:
        name = re.sub(r"[^a-z0-9.]+", "-", stated[0].lower()).strip("-")
        name = {"cc0": "cc0-1.0", "apache-2": "apache-2.0", "mit-license": "mit"}.get(name, name)
        if name in _LICENCES:
            return {"license": name}
    return {"license": "other", "license_name": "see-the-models-below"}


# --- the commit ------------------------------------------------------------------------------------------------------


def publish(publication: Publication, public: bool = False) -> str:
    """Make a commit of the models and their page, and the page itself if it does not exist; models of before go.

    Args:
        publication: what `prepare` returned.
        public: show a new page to everybody; an existing one stays as it is.

    Returns:
        The commit.

    Raises:
        DownloadError: there is no token, or the Hub refuses or cannot be reached.
        ModuleNotFoundError: the extra ``hub`` is not installed.
    """
    name = publication.name
    if is_offline():
        raise DownloadError(f"{name}: BANDSPLIT_OFFLINE forbids to use the network; unset it")
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    if token() is None:
        raise DownloadError(f"{name}: publishing needs a token that may write; set HF_TOKEN, or run: hf auth login")
    api = HfApi(endpoint=endpoint())
    files: dict[str, Path | bytes] = {model.file: model.path for model in publication.models}
    files[PAGE] = publication.page.encode()
    if publication.bag is not None:
        files[BAG_FILE] = publication.bag.read_bytes()
    with explained(name):
        api.create_repo(name.repository, private=not public, exist_ok=True)
        there = [sibling.rfilename for sibling in api.model_info(name.repository).siblings or ()]
        gone = [path for path in there if path not in files and is_of_model(path)]
        operations = [
            *(CommitOperationAdd(path_in_repo=file, path_or_fileobj=content) for file, content in files.items()),
            *(CommitOperationDelete(path_in_repo=path) for path in gone),
        ]
        message = f"{counted(len(publication.models), 'model')} of bandsplit"
        return str(api.create_commit(name.repository, operations, commit_message=message).oid)
