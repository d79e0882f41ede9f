"""Checkpoints of RoFormers by other software: Music-Source-Separation-Training, UVR, early versions of lucidrains.

Source: docs/bs-roformer.md#checkpoints.
"""

from __future__ import annotations

import re

from bandsplit.core.errors import ModelFileError
from bandsplit.models.bs_roformer.facts import find_facts
from bandsplit.models.bs_roformer.settings import read_config
from bandsplit.models.bs_roformer.tensor_names import tensors_from_authors
from bandsplit.models.contract import Checkpoint, Imported

_OURS = re.compile(r"band_split\.to_features\.|mask_estimators\.\d+\.to_freqs\.|layers\.\d+\.\d+\.")
_REFUSED = {
    re.compile(
        r"(.*\.)?lora_\w+(\..*)?"
    ): "low-rank changes (LoRA) to the weights of another file, not weights of their "
    "own; merge both files with the software that wrote them",
    re.compile(r".*(\.branch\.|value_residual).*"): "weights of a later lucidrains version, with hyper-connections or "
    "value residuals; that is another network, which this family does not have",
}


def read_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Read a checkpoint and the configuration file that came with it; None if its tensors are not of this family.

    Raises:
        ModelFileError: the tensors are those of another version, or do not fit the configuration; an option is
            missing, unknown, or has no counterpart.
        ConfigError: sizes contradict each other.
    """
    if not any(map(_OURS.match, checkpoint.shapes)):
        return None
    for pattern, kind in _REFUSED.items():
        if found := next(filter(pattern.fullmatch, checkpoint.shapes), None):
            raise ModelFileError(f"holds {kind} (tensor {found})")
    facts = find_facts(checkpoint.shapes)
    document = checkpoint.document if checkpoint.document is not None else checkpoint.arguments
    config = read_config(facts, {} if document is None else document)
    return Imported(
        config,
        tensors_from_authors(config, facts.places, checkpoint),
        training_data="not stated in the file",
        licence="not stated in the file",
        format="a checkpoint in the format of Music-Source-Separation-Training",
    )
