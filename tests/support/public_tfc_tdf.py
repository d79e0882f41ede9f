"""A small TFC-TDF UNet as public software stores it: names of tensors, and a configuration file."""

import re
from typing import Any

import torch
from torch import Tensor

from bandsplit.models.network import build_model
from bandsplit.models.tfc_tdf.config import TfcTdfConfig

SETTINGS: dict[str, Any] = {
    "targets": ["vocals", "other"], "sample_rate_hz": 8000, "stft": {"n_fft": 128, "hop_samples": 32}, "n_bins": 48,
    "n_subbands": 3, "n_features": 4, "growth": 2, "n_scales": 2, "n_blocks": 2, "bottleneck_factor": 3,
    "plan": {"kind": "folded", "chunk_s": 15 * 32 / 8000, "overlaps": 4},
}  # fmt: skip
DOCUMENT: dict[str, Any] = {
    "audio": {"chunk_size": 480, "dim_f": 48, "dim_t": 16, "hop_length": 32, "n_fft": 128, "num_channels": 2,
              "sample_rate": 8000, "min_mean_abs": 0.001},
    "model": {"act": "gelu", "bottleneck_factor": 3, "growth": 2, "norm": "InstanceNorm", "num_blocks_per_scale": 2,
              "num_channels": 4, "num_scales": 2, "num_subbands": 3, "scale": [2, 2]},
    "training": {"instruments": ["vocals", "other"], "target_instrument": None, "lr": 1e-4, "q": 0.4},
    "inference": {"batch_size": 1, "dim_t": 16, "num_overlap": 4},
}  # fmt: skip


def their_name(name: str) -> str:
    """The public name of one of our tensors, by rules of its own."""
    name = re.sub(r"^unet\.(encoder|decoder)\.(\d+)\.", r"\1_blocks.\2.tfc_tdf.blocks.", name)
    name = re.sub(r"^unet\.bottleneck\.", "bottleneck_block.blocks.", name)
    name = re.sub(r"^unet\.coarsen\.(\d+)\.", r"encoder_blocks.\1.downscale.conv.", name)
    name = re.sub(r"^unet\.refine\.(\d+)\.", r"decoder_blocks.\1.upscale.conv.", name)
    name = name.replace("enter.", "first_conv.").replace("leave.", "final_conv.")
    for ours, theirs in {
        "tdf.1.norm": "tdf.3",
        "tdf.1.layer": "tdf.5",
        "tdf.0.norm": "tdf.0",
        "tdf.0.layer": "tdf.2",
    }.items():
        name = name.replace(ours, theirs)
    return name.replace(".norm.", ".0.").replace(".layer.", ".2.")


def weights(**changes: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = build_model(TfcTdfConfig.parse(SETTINGS | changes)).state_dict()
    return {their_name(name): tensor for name, tensor in state.items()}
