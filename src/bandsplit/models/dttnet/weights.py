"""Import of the weights of DTTNet's authors.

Their Lightning checkpoints hold no settings. What names and shapes of the tensors do not say is asked for.

Source: docs/dttnet.md#files; DTTNet-Pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Checkpoint, Imported, Shape
from bandsplit.models.dttnet.config import DttnetConfig
from bandsplit.models.layers.tfc_tdf_v2_files import find_options, their_name
from bandsplit.models.layers.unet_model_files import rename_tensors, take_model
from bandsplit.models.options import Options

_BOTTLENECK, _PATH = "bottleneck_block1", "bottleneck_block2.bsrnn"
_FIRST = f"{_PATH}.0.0"
_SIGNS = ("window", "freq_pad", "first_conv.0.weight", f"{_FIRST}.groupnorm.weight", f"{_FIRST}.rnn.weight_ih_l0")
"""Tensors that together only this family has."""
_WITHOUT_EFFECT = ("_target_", "lr", "optimizer")
_PARTS = {"norm": "groupnorm", "rnn": "rnn", "project": "fc"}


def read_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Translate a checkpoint of the authors; None if its tensors are not those of this family.

    Raises:
        ModelFileError: an option is missing, unknown or not supported, a tensor does not fit, or a stored constant is
            not the one that is computed here.
        ConfigError: the options contradict each other.
    """
    if not all(name in checkpoint.shapes for name in _SIGNS):
        return None
    document = checkpoint.document if checkpoint.document is not None else checkpoint.arguments
    if document is None:
        raise ModelFileError(
            "is a model of DTTNet's authors, whose files hold no settings: name their configuration file with "
            "--config, or a yaml file with target_name, hop_length and dim_t (the frames of a chunk)"
        )
    config = config_from_authors(document, checkpoint.shapes)
    return Imported(
        config,
        rename_tensors(config, checkpoint.shapes, checkpoint.read, partial(_their_name, config=config)),
        training_data="not stated in the file; its authors': MUSDB18-HQ, 86 training songs in altered copies",
        licence="not stated in the file; the code of its authors is under Apache-2.0",
        format="a checkpoint in the format of DTTNet's authors (junyuchen-cjy/DTTNet-Pytorch)",
    )


def config_from_authors(document: Mapping[str, Any], shapes: Mapping[str, Shape]) -> DttnetConfig:
    """Translate the constructor arguments of the authors' network, at the top or under ``model``.

    Those that names and shapes of the tensors determine may be absent.

    Raises:
        ModelFileError: an option is missing, unknown or not supported.
        ConfigError: they contradict each other.
    """
    where = "the configuration file"
    if "model" in document:
        outer = Options(document, where)
        document, where = outer.take("model"), f"{where}: model"
        outer.skip("_target_")
        outer.close()
    options, found = Options(document, where), find_options(shapes, _BOTTLENECK)
    options.skip(*_WITHOUT_EFFECT)
    options.require("bn_norm", "BN")
    settings = take_model(options, found)
    settings["channels"] = options.take("audio_ch", found["audio_ch"])
    path = Options(options.take("bandsequence", {}), f"{where}: bandsequence")
    settings["dual_path"] = _take_path(path, settings["unet"], shapes)
    options.close()
    return DttnetConfig.parse(settings)


def _take_path(options: Options, unet: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, Any]:
    options.skip("_target_")
    (n,), rows = shapes[f"{_FIRST}.groupnorm.weight"], shapes[f"{_FIRST}.rnn.weight_ih_l0"][0]
    features = unet["n_features"] * (unet["levels"] + 1)
    is_gru = rows == 3 * 2 * n
    options.require("rnn_type", "GRU" if is_gru else "LSTM", "LSTM", "GRU")
    settings = {
        "rnn": options.take("rnn_type", "GRU" if is_gru else "LSTM").lower(),
        "bidirectional": options.take("bidirectional", f"{_FIRST}.rnn.weight_ih_l0_reverse" in shapes),
        "layers": options.take("num_layers", len({n.split(".")[2] for n in shapes if n.startswith(f"{_PATH}.")})),
        "heads": options.take("n_heads", features // n),
    }
    options.close()
    return settings


def _their_name(name: str, config: DttnetConfig) -> str:
    place = name.removeprefix("unet.")
    if not place.startswith("middle."):
        return their_name(place, config.unet, _BOTTLENECK)
    _, number, axis, _, part, parameter = place.split(".")
    return f"{_PATH}.{number}.{int(axis == 'band')}.{_PARTS[part]}.{parameter}"
