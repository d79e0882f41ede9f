"""Import of the weights of CWS-PResUNet's authors.

Their Lightning checkpoints hold no settings of the network. What names and shapes of the tensors do not say is
asked for.

Source: docs/presunet.md#files; 2021-ISMIR-MSS-Challenge-CWS-PResUNet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Checkpoint, Imported, Shape
from bandsplit.models.options import Options
from bandsplit.models.presunet.config import SUBBANDS, PresunetConfig
from bandsplit.models.tensors import compare_shapes, shapes_in

_BANK = {
    "bank.analysis": "f_helper.qmf.ana_conv_filter.weight",
    "bank.synthesis": "f_helper.qmf.syn_conv_filter.weight",
}
_FIRST, _SINGLE = "encoder_block1.conv_block1", "after_conv_block1."
_SIGNS = (*_BANK.values(), "bn0.weight", f"{_FIRST}.bn1.weight", f"{_FIRST}.conv1.weight")
"""Tensors that together only this family has."""
_COUNT = ".num_batches_tracked"
"""Without effect: running statistics do not depend on the number of batches."""
_CONSTANTS = ("f_helper.stft.", "f_helper.istft.", "wav_spec_loss.")
"""Beginnings of the names of transforms that we compute; those of the loss change no estimate."""


def read_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Translate a checkpoint of the authors; None if its tensors are not those of this family.

    Raises:
        ModelFileError: an option is missing, unknown or not supported, or a tensor does not fit.
        ConfigError: the options contradict each other.
    """
    if not all(name in checkpoint.shapes for name in _SIGNS):
        return None
    config = config_from_authors(checkpoint.document, checkpoint.shapes)
    return Imported(
        config,
        tensors_from_authors(config, checkpoint.shapes, checkpoint.read),
        training_data="not stated in the file; its authors': MUSDB18-HQ",
        licence="not stated; the code of its authors is under MIT",
        format="a checkpoint in the format of CWS-PResUNet's authors (haoheliu/2021-ISMIR-MSS-Challenge-CWS-PResUNet)",
    )


def config_from_authors(document: Mapping[str, Any] | None, shapes: Mapping[str, Shape]) -> PresunetConfig:
    """Infer the configuration from names and shapes of the tensors, and take the rest from a configuration file.

    Raises:
        ModelFileError: an option is missing or unknown, or a tensor is missing that the configuration depends on.
        ConfigError: the options contradict each other.
    """
    heads = sorted(name.partition("_blocks.")[0] for name in shapes if re.fullmatch(r"[a-z]+_blocks\.1\.weight", name))
    if not heads and document is None:
        raise ModelFileError(
            "is a CWS-PResUNet of one target, whose files do not say which: name a yaml file with --config that says "
            "target, such as target: vocals"
        )
    options = Options({} if document is None else document, "the configuration file")
    targets = heads or [options.take("target")]
    # The authors' code has no options for these two; theirs is the hop of the full rate, rounded down in subbands.
    rate_hz, hop = options.take("sample_rate", 44100), options.take("hop_length", 441)
    options.close()
    if not isinstance(hop, int) or isinstance(hop, bool):
        raise ModelFileError(f"the configuration file: hop_length = {hop!r} must be an integer, in samples")
    levels = _count(shapes, r"encoder_block(\d+)\.")
    return PresunetConfig.parse(
        {
            "targets": targets,
            "sample_rate_hz": rate_hz,
            "channels": _size(shapes, f"{_FIRST}.bn1.weight") // SUBBANDS,
            "stft": {"n_fft": 2 * (_size(shapes, "bn0.weight") - 1), "hop_samples": hop // SUBBANDS},
            "widths": [_size(shapes, f"encoder_block{level + 1}.conv_block1.conv1.weight") for level in range(levels)],
            "n_blocks": _count(shapes, r"encoder_block1\.conv_block(\d+)\."),
        }
    )


def tensors_from_authors(
    config: PresunetConfig, theirs: Mapping[str, Shape], read: Callable[[str], Tensor]
) -> dict[str, Tensor]:
    """Rename the authors' tensors to the names of the state dict of ``config``; their types stay as they are.

    Raises:
        ModelFileError: a tensor is missing, unexpected or misshapen; the message names the authors' keys.
        ConfigError: ``config`` needs far more tensors or numbers than ``theirs``.
    """
    expected = shapes_in(config, theirs.values())
    single = any(key.startswith(_SINGLE) for key in theirs)
    names = {name: their_name(name, config, single) for name in expected}
    weights = {
        key: shape for key, shape in theirs.items() if not key.endswith(_COUNT) and not key.startswith(_CONSTANTS)
    }
    compare_shapes({key: expected[name] for name, key in names.items()}, weights)
    return {name: read(key) for name, key in names.items()}


def their_name(name: str, config: PresunetConfig, single: bool) -> str:
    """Return the name that one of our tensors has in a checkpoint, ``single`` if it has one head without a name."""
    if name in _BANK:
        return _BANK[name]
    match name.split("."):
        case ["norm", parameter]:
            return f"bn0.{parameter}"
        case ["unet", "encoder", level, *rest]:
            return f"encoder_block{int(level) + 1}.{_block(rest)}"
        case ["unet", "bottleneck", number, *rest]:
            return f"conv_block{len(config.widths) + 1 + int(number)}.{_block(rest)}"
        case ["unet", "decoder", level, "blocks", *rest]:
            return f"decoder_block{int(level) + 1}.{_block(rest, first=2)}"
        case ["unet", "decoder", level, part, parameter]:
            return f"decoder_block{int(level) + 1}.{'bn1' if part == 'norm' else 'conv1'}.{parameter}"
        case ["heads", head, part, *rest]:
            start = "after_conv" if single else f"{config.targets[int(head)]}_blocks."
            if part == "leave":
                return f"{start}{'2' if single else '1'}.{rest[0]}"
            return f"{start}{'_block1' if single else '0'}.{_block(rest)}"
    raise ValueError(name)


def _block(rest: list[str], first: int = 1) -> str:
    number, layer, parameter = rest
    return f"conv_block{int(number) + first}.{layer.replace('norm', 'bn')}.{parameter}"


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    return len({found[1] for name in shapes if (found := re.match(pattern, name))})


def _size(shapes: Mapping[str, Shape], name: str) -> int:
    if not shapes.get(name):
        raise ModelFileError(f"{name}: {'must have axes' if name in shapes else 'is missing'}, and the sizes follow it")
    return shapes[name][0]
