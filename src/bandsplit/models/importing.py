"""Import of weights that other software wrote: the first family that knows the names of the tensors reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pooch import file_hash

from bandsplit.core.config import shorten
from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.card import ModelCard
from bandsplit.models.containers import open_checkpoint
from bandsplit.models.contract import Checkpoint, Imported
from bandsplit.models.documents import read_document
from bandsplit.models.families import FAMILIES, find_part
from bandsplit.models.files import model_from_tensors, save_model
from bandsplit.models.network import SeparationModel


class ImportedModel(NamedTuple):
    """A model from a file of other software."""

    model: SeparationModel
    card: ModelCard
    types: dict[str, torch.dtype]
    """Types that its weights have in the file; half precision is kept on the disk."""

    def save(self, path: Path | str) -> None:
        """Write it as a model file.

        Raises:
            ModelFileError: the file cannot be written.
        """
        save_model(path, self.model, self.card, self.types)


def import_checkpoint(path: Path | str, config: Path | str | None = None) -> tuple[SeparationModel, ModelCard]:
    """Turn a checkpoint of other software into a model and its card, see `read_model`."""
    return read_model(path, config)[:2]


def read_model(path: Path | str, config: Path | str | Mapping[str, Any] | None = None) -> ImportedModel:
    """Read a checkpoint of other software.

    Args:
        path: the file, of any container that `bandsplit.models.containers` knows.
        config: the configuration file that came with it, in YAML, or its content.

    Raises:
        ModelFileError: there is no such file, or no family can read it; the message says why not.
    """
    path = Path(path)
    document = read_document(Path(config)) if isinstance(config, Path | str) else config
    try:
        with open_checkpoint(path, document) as checkpoint:
            found = _read(checkpoint)
            tensors = {
                name: tensor.float() if tensor.dtype == torch.float64 else tensor
                for name, tensor in found.tensors.items()
            }
            model = model_from_tensors(found.config, tensors)
    except (ModelFileError, ConfigError) as error:
        files = f"{path} with {config}" if isinstance(config, Path | str) else path
        raise ModelFileError(f"{files}: {shorten(str(error))}") from None
    card = ModelCard(
        name=path.stem,
        training_data=found.training_data,
        licence=found.licence,
        source=f"imported from {path.name}, {found.format}",
        source_sha256=file_hash(str(path)),
    )
    return ImportedModel(model, card, {name: tensor.dtype for name, tensor in tensors.items()})


def _read(checkpoint: Checkpoint) -> Imported:
    able = [name for name, family in FAMILIES.items() if family.weights is not None]
    for name in able:
        if (found := find_part(name, "weights")(checkpoint)) is not None:
            return found
    shown = ", ".join(name[:80] for name in [*checkpoint.shapes][:3])
    raise ModelFileError(
        f"its tensors ({shown}, ...; {len(checkpoint.shapes)} in all) have names that no family knows; families that "
        f"can be imported: {', '.join(able)}"
    )
