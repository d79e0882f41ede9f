"""Checkpoints of TFC-TDF UNets by other software: kuielab/sdx23, Music-Source-Separation-Training, UVR.

Source: docs/tfc-tdf.md#checkpoints.
"""

from __future__ import annotations

import re

from bandsplit.models.contract import Checkpoint, Imported
from bandsplit.models.tensors import check_shapes
from bandsplit.models.tfc_tdf.settings import find_facts, read_config

_PREFIXES = {
    r"first_conv\.": "enter.",
    r"encoder_blocks\.(\d+)\.tfc_tdf\.blocks\.": r"unet.encoder.\1.",
    r"encoder_blocks\.(\d+)\.downscale\.conv\.": r"unet.coarsen.\1.",
    r"bottleneck_block\.blocks\.": "unet.bottleneck.",
    r"decoder_blocks\.(\d+)\.upscale\.conv\.": r"unet.refine.\1.",
    r"decoder_blocks\.(\d+)\.tfc_tdf\.blocks\.": r"unet.decoder.\1.",
    r"final_conv\.": "leave.",
}
_PARTS = {
    r"tfc(\d)\.0": r"tfc\1.norm",
    r"tfc(\d)\.2": r"tfc\1.layer",
    r"tdf\.0": "tdf.0.norm",
    r"tdf\.2": "tdf.0.layer",
    r"tdf\.3": "tdf.1.norm",
    r"tdf\.5": "tdf.1.layer",
    r"(coarsen|refine)\.(\d+)\.0": r"\1.\2.norm",
    r"(coarsen|refine)\.(\d+)\.2": r"\1.\2.layer",
}
_COUNT = ".num_batches_tracked"
"""Changes no estimate: running statistics with a fixed momentum do not depend on the number of batches."""
_SIGN = "bottleneck_block.blocks.0.shortcut.weight"
"""A tensor that only this family has."""


def read_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Read a checkpoint and the configuration file that came with it; None if its tensors are not of this family.

    Raises:
        ModelFileError: the tensors do not fit each other or the configuration; an option is missing, unknown, or has no
            counterpart.
        ConfigError: sizes contradict each other.
    """
    if _SIGN not in checkpoint.shapes:
        return None
    document = checkpoint.document if checkpoint.document is not None else checkpoint.arguments
    config = read_config(find_facts(checkpoint.shapes), {} if document is None else document)
    names = {rename(name): name for name in checkpoint.shapes if not name.endswith(_COUNT)}
    check_shapes(config, {ours: checkpoint.shapes[theirs] for ours, theirs in names.items()})
    return Imported(
        config,
        {ours: checkpoint.read(theirs) for ours, theirs in names.items()},
        training_data="not stated in the file",
        licence="not stated in the file",
        format="a checkpoint of a TFC-TDF UNet v3 (kuielab/sdx23, Music-Source-Separation-Training, UVR)",
    )


def rename(name: str) -> str:
    """Return our name of a tensor; others stay as they are."""
    for theirs, ours in _PREFIXES.items():
        name = re.sub(f"^{theirs}", ours, name)
    for theirs, ours in _PARTS.items():
        name = re.sub(rf"(?<=\.){theirs}(?=\.\w+$)", ours, name)
    return name
