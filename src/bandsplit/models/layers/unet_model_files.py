"""Checkpoints of models that are a U-Net of TFC-TDF blocks: their settings, and their tensors under our names.

Source: DTTNet-Pytorch; kuielab/mdx-net.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from bandsplit.models.contract import Shape
from bandsplit.models.layers.tfc_tdf_v2_files import check_constants, take_integer, take_unet
from bandsplit.models.layers.unet_model_config import UnetModelConfig
from bandsplit.models.options import Options
from bandsplit.models.tensors import compare_shapes, shapes_in

_CONSTANTS = {"window", "freq_pad"}
_COUNT = ".num_batches_tracked"
"""Without effect: running statistics do not depend on the number of batches."""


def take_model(options: Options, found: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the options that all these models have, but their channels; absent ones are as ``found`` in tensors.

    Raises:
        ModelFileError: one is missing, or not supported.
    """
    # The authors' code has no option for it, and reads songs as they are in MUSDB18-HQ.
    rate_hz = take_integer(options, "sample_rate", 44100)
    hop = take_integer(options, "hop_length")
    frames, n_fft = (take_integer(options, name, *_known(found, name)) for name in ("dim_t", "n_fft"))
    trim = take_integer(options, "overlap", n_fft // 2)
    return {
        "targets": [options.take("target_name")],
        "sample_rate_hz": rate_hz,
        "stft": {"n_fft": n_fft, "hop_samples": hop},
        "bins": options.take("dim_f", *_known(found, "dim_f")),
        "unet": take_unet(options, found),
        "plan": {"kind": "trimmed", "chunk_s": hop * (frames - 1) / rate_hz, "trim_s": trim / rate_hz},
    }


def _known(found: Mapping[str, Any], name: str) -> list[Any]:
    return [found[name]] if name in found else []


def rename_tensors(
    config: UnetModelConfig,
    theirs: Mapping[str, Shape],
    read: Callable[[str], Tensor],
    their_name: Callable[[str], str],
) -> dict[str, Tensor]:
    """Rename the authors' tensors to the names of the state dict of ``config``; their types stay as they are.

    Args:
        config: the model.
        theirs: shapes of the tensors in the file.
        read: returns one.
        their_name: translates one of our names.

    Raises:
        ModelFileError: a tensor is missing, unexpected or misshapen, or a constant is another; the message names the
            authors' keys.
        ConfigError: ``config`` needs far more tensors or numbers than ``theirs``.
    """
    expected = shapes_in(config, theirs.values())
    names = {name: their_name(name) for name in expected}
    weights = {key: shape for key, shape in theirs.items() if key not in _CONSTANTS and not key.endswith(_COUNT)}
    compare_shapes({key: expected[name] for name, key in names.items()}, weights)
    check_constants({name: read(name) for name in _CONSTANTS & theirs.keys()}, config.loss_stft.n_fft)
    return {name: read(key) for name, key in names.items()}
