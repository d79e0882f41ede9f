"""Checkpoints of TFC-TDF UNets by other software: kuielab/sdx23, Music-Source-Separation-Training, UVR.

Source: docs/tfc-tdf.md#checkpoints.
"""

from __future__ import annotations

import re

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
_UNUSED = ".num_batches_tracked"
"""Counts batches of the training; batch normalisation with a fixed momentum never reads it."""


def rename(name: str) -> str:
    """Return our name of a tensor; names that the family does not have stay as they are."""
    for theirs, ours in _PREFIXES.items():
        name = re.sub(f"^{theirs}", ours, name)
    for theirs, ours in _PARTS.items():
        name = re.sub(rf"(?<=\.){theirs}(?=\.\w+$)", ours, name)
    return name
