"""Import of the weights of KUIELab-MDX-Net.

Their Lightning checkpoints hold the constructor's arguments. What is neither there nor in a configuration file follows
from names and shapes of the tensors, or is asked for.

Source: docs/mdx-net.md#files; kuielab/mdx-net.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Checkpoint, Imported, Shape
from bandsplit.models.layers.tfc_tdf_v2_files import find_options, their_name
from bandsplit.models.layers.unet_model_files import rename_tensors, take_model
from bandsplit.models.mdx_net.config import MdxNetConfig
from bandsplit.models.mdx_net.onnx_weights import as_state
from bandsplit.models.mixers import MIXER_TENSORS
from bandsplit.models.options import Options

_BOTTLENECK = "bottleneck_block"
_SIGNS = ("first_conv.0.weight", "us.0.0.weight", f"{_BOTTLENECK}.tfc.H.0.0.weight")
"""Tensors that together only this family has."""
_WITHOUT_EFFECT = ("_target_", "lr", "optimizer", "ckpt")


def read_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Translate a checkpoint of the authors; None if its tensors are not those of this family.

    Raises:
        ModelFileError: an option is missing, unknown or not supported, a tensor does not fit, or a stored constant is
            not the one that is computed here.
        ConfigError: the options contradict each other.
    """
    if len(checkpoint.shapes) == 1 and checkpoint.shapes.keys() <= {*MIXER_TENSORS}:
        raise ModelFileError(
            "is the mixer of KUIELab-MDX-Net, a matrix for the estimates of four models, and no model: import those; "
            "the mixer belongs in a bag of them (docs/bags.md)"
        )
    sizes: dict[str, Any] = {}
    if checkpoint.graph is not None:
        if (found := as_state(checkpoint, checkpoint.graph)) is None:
            return None
        checkpoint, sizes = found
    if not all(name in checkpoint.shapes for name in _SIGNS):
        return None
    config = config_from_authors(checkpoint, sizes)
    tensors = rename_tensors(config, checkpoint.shapes, checkpoint.read, lambda name: _their_name(name, config))
    return Imported(
        config,
        tensors,
        training_data="not stated in the file; its authors': 86 training songs of MUSDB18-HQ in altered copies",
        licence="not stated in the file; the code of its authors is under MIT",
        format="a file in the format of KUIELab-MDX-Net (kuielab/mdx-net)",
    )


def config_from_authors(checkpoint: Checkpoint, sizes: dict[str, Any]) -> MdxNetConfig:
    """Translate the constructor arguments of the authors' network, in the checkpoint or a configuration file.

    Those that names and shapes of the tensors determine may be absent, and so may ``sizes``, which the file has.

    Raises:
        ModelFileError: an option is missing, unknown or not supported.
        ConfigError: they contradict each other.
    """
    document, where = checkpoint.document, "the configuration file"
    if document is None:
        document, where = checkpoint.arguments, "hyper_parameters"
    if document is None:
        raise ModelFileError(
            "is a model of KUIELab-MDX-Net without settings: name a yaml file with target_name, n_fft, hop_length and "
            "dim_t (the frames of a chunk) with --config"
        )
    options, found = Options(document, where), find_options(checkpoint.shapes, _BOTTLENECK)
    options.skip(*_WITHOUT_EFFECT)
    settings = take_model(options, _with_bins(found, checkpoint.shapes) | sizes)
    settings["channels"] = options.take("dim_c", 2 * found["audio_ch"]) // 2
    options.close()
    return MdxNetConfig.parse(settings)


def _with_bins(found: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Add the number of bins where no constant of the transform has it, but the linear layers do."""
    first = "encoding_blocks.0.tdf.0.weight"
    return {"dim_f": shapes[first][-1], **found} if first in shapes else dict(found)


def _their_name(name: str, config: MdxNetConfig) -> str:
    return their_name(name.removeprefix("unet."), config.unet, _BOTTLENECK)
