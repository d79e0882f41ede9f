"""Import of the weights of DTTNet's authors.

Their Lightning checkpoints hold no settings. What names and shapes of the tensors do not say is asked for.

Source: docs/dttnet.md#files; DTTNet-Pytorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Checkpoint, Imported, Shape
from bandsplit.models.dttnet.config import DttnetConfig
from bandsplit.models.layers.tfc_tdf_v2_files import check_constants, find_options, take_integer, take_unet, their_name
from bandsplit.models.options import Options
from bandsplit.models.tensors import describe_problems, shapes_in

_BOTTLENECK, _PATH = "bottleneck_block1", "bottleneck_block2.bsrnn"
_FIRST = f"{_PATH}.0.0"
_SIGNS = ("window", "freq_pad", "first_conv.0.weight", f"{_FIRST}.groupnorm.weight", f"{_FIRST}.rnn.weight_ih_l0")
"""Tensors that together only this family has."""
_COUNT = ".num_batches_tracked"
"""Without effect: running statistics do not depend on the number of batches."""
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
        tensors_from_authors(config, checkpoint.shapes, checkpoint.read),
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
    # The authors' code has no option for it, and reads songs as they are in MUSDB18-HQ.
    rate_hz = take_integer(options, "sample_rate", 44100)
    hop, frames = take_integer(options, "hop_length"), take_integer(options, "dim_t")
    n_fft = take_integer(options, "n_fft", found["n_fft"])
    trim = take_integer(options, "overlap", n_fft // 2)
    unet = take_unet(options, found)
    settings = {
        "targets": [options.take("target_name")],
        "sample_rate_hz": rate_hz,
        "channels": options.take("audio_ch", found["audio_ch"]),
        "stft": {"n_fft": n_fft, "hop_samples": hop},
        "bins": options.take("dim_f", found["dim_f"]),
        "unet": unet,
        "dual_path": _take_path(Options(options.take("bandsequence", {}), f"{where}: bandsequence"), unet, shapes),
        "plan": {"kind": "trimmed", "chunk_s": hop * (frames - 1) / rate_hz, "trim_s": trim / rate_hz},
    }
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


def tensors_from_authors(
    config: DttnetConfig, theirs: Mapping[str, Shape], read: Callable[[str], Tensor]
) -> dict[str, Tensor]:
    """Rename the authors' tensors to the names of the state dict of ``config``; their types stay as they are.

    Raises:
        ModelFileError: a tensor is missing, unexpected or misshapen, or a constant is another; the message names the
            authors' keys.
        ConfigError: ``config`` needs far more tensors or numbers than ``theirs``.
    """
    expected = shapes_in(config, theirs.values())
    names = {name: _their_name(name, config) for name in expected}
    unexpected = [
        key for key in theirs.keys() - set(names.values()) - {"window", "freq_pad"} if not key.endswith(_COUNT)
    ]
    problems = [f"missing: {key}" for key in names.values() if key not in theirs]
    problems += [f"unexpected: {key}" for key in sorted(unexpected)]
    problems += [
        f"misshapen: {key} is {theirs[key]}, expected {expected[name]}"
        for name, key in names.items()
        if key in theirs and theirs[key] != expected[name]
    ]
    if problems:
        raise ModelFileError(describe_problems(problems))
    check_constants(read, config.stft.n_fft)
    return {name: read(key) for name, key in names.items()}


def _their_name(name: str, config: DttnetConfig) -> str:
    place = name.removeprefix("unet.")
    if not place.startswith("middle."):
        return their_name(place, config.unet, _BOTTLENECK)
    _, number, axis, _, part, parameter = place.split(".")
    return f"{_PATH}.{number}.{int(axis == 'band')}.{_PARTS[part]}.{parameter}"
