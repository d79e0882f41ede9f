"""Import of weights that other software wrote: every family tries to read the file."""

from pathlib import Path

from pooch import file_hash

from bandsplit.core.config import shorten
from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.card import ModelCard
from bandsplit.models.contract import Imported
from bandsplit.models.families import FAMILIES, find_part
from bandsplit.models.files import model_from_tensors
from bandsplit.models.network import SeparationModel


def import_checkpoint(path: Path | str) -> tuple[SeparationModel, ModelCard]:
    """Turn a checkpoint of other software into a model and its card.

    Raises:
        ModelFileError: there is no such file, or no family can read it; the message says why not.
    """
    path = Path(path)
    try:
        found = _read(path)
        model = model_from_tensors(found.config, found.tensors)
    except (ModelFileError, ConfigError) as error:
        raise ModelFileError(f"{path}: {shorten(str(error))}") from None
    card = ModelCard(
        name=path.stem,
        training_data=found.training_data,
        licence=found.licence,
        source=f"imported from {path.name}, {found.format}",
        source_sha256=file_hash(str(path)),
    )
    return model, card


def _read(path: Path) -> Imported:
    problems = {}
    for name, family in FAMILIES.items():
        if family.weights is not None:
            try:
                return find_part(name, "weights")(path)
            except (ModelFileError, ConfigError) as error:
                problems[name] = str(error)
    if len(problems) == 1:
        raise ModelFileError(*problems.values())
    raise ModelFileError("; ".join(f"as {name}: {problem}" for name, problem in problems.items()))
