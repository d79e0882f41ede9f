"""Published models of the Demucs lineage: packages, files of Hugging Face, and state dicts of v2.

A package names its class and the arguments of its constructor; tensors keep their names.

Source: docs/demucs.md#files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Checkpoint, Imported, ModelConfig
from bandsplit.models.demucs.config import HtDemucsConfig, HybridDemucsConfig
from bandsplit.models.demucs.time_config import DemucsConfig, DemucsV2Config
from bandsplit.models.options import Options
from bandsplit.models.tensors import check_shapes

_V2_SIGNS = ("lstm.lstm.weight_ih_l0", "encoder.0.2.weight")
"""Tensors that a state dict of v2 has."""


def read_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Read a model of any of the families; None if it is of another.

    Raises:
        ModelFileError: an argument is missing, unknown, or has no counterpart, or tensors do not fit the arguments.
        ConfigError: arguments contradict each other.
    """
    package = checkpoint.arguments or {}
    if isinstance(name := package.get("klass"), str):
        reader = _CLASSES.get(name)
        if reader is None:
            return None
        config = reader(_Arguments(package, checkpoint.document))
        kind = f"a package of {name}"
    elif all(sign in checkpoint.shapes for sign in _V2_SIGNS):
        if checkpoint.document is None:
            raise ModelFileError(
                "is a state dict of Demucs v2, which does not say what it estimates; name a configuration file with "
                "sources, such as [drums, bass, other, vocals], with --config"
            )
        config = _read_v2(Options(checkpoint.document, "the configuration"), checkpoint.shapes)
        kind = "a state dict of Demucs v2"
    else:
        return None
    check_shapes(config, checkpoint.shapes)
    return Imported(
        config,
        {name: checkpoint.read(name) for name in checkpoint.shapes},
        training_data="not stated in the file",
        licence="not stated in the file",
        format=kind,
    )


class _Arguments(Options):
    """The arguments of a package; the first may come without its name."""

    def __init__(self, package: Mapping[str, Any], document: Mapping[str, Any] | None = None) -> None:
        """Take them, and the length of chunks from the authors' description of a bag, which replaces that of a package.

        Raises:
            ModelFileError: there are other unnamed ones, or one comes twice; or the description says anything else, or
                the network separates at one length.
        """
        positional, named = package.get("args", ()), package.get("kwargs", {})
        if not isinstance(positional, list | tuple) or not isinstance(named, Mapping):
            raise ModelFileError("args: must be a list, and kwargs must map names of arguments to values")
        if len(positional) > 1 or (positional and "sources" in named):
            raise ModelFileError(
                f"args: has {len(positional)} value(s); legal: one, the sources, if kwargs does not have them"
            )
        given = {**named, **({"sources": positional[0]} if positional else {})}
        if document is not None:
            settings = Options(document, "the configuration")
            given["segment"] = settings.take("segment")
            settings.close()
            if package.get("klass") == _FIXED:
                raise ModelFileError("the configuration: segment has no meaning for a network that sees one length")
        super().__init__(given, "kwargs")


def _read_htdemucs(options: Options) -> HtDemucsConfig:
    fields = _two_branches(options, depth=4, compression=8)
    options.require("cac", True)
    options.skip("wiener_iters", "end_iters")
    options.require("multi_freqs", None, [])
    options.skip("multi_freqs_depth")
    options.require("t_cross_first", False)
    fields["bottleneck"] = options.take("bottom_channels", 0) or None
    fields["layers"] = options.take("t_layers", 5)
    fields["heads"] = options.take("t_heads", 8)
    fields["hidden_factor"] = options.take("t_hidden_scale", 4)
    fields["dropout"] = options.take("t_dropout", 0.0)
    fields["fixed_length"] = options.take("use_train_segment", True)
    if (segment := options.take("segment", None)) is not None:
        fields["segment_samples"] = int(_fraction(segment) * _count(fields["sample_rate_hz"], "samplerate"))
    elif fields["fixed_length"]:
        options.take("segment")  # it is the length that the network separates at
    options.close()
    return HtDemucsConfig.parse(fields)


def _read_hdemucs(options: Options) -> HybridDemucsConfig:
    fields = _two_branches(options, depth=6, compression=4)
    fields["dconv"] |= _recurrent(options)
    fields["spectrum"] = "complex" if options.take("cac", True) else "magnitude"
    if fields["spectrum"] == "magnitude":
        _check_iterations(options)
    else:
        options.skip("wiener_iters", "end_iters")
    options.require("hybrid", True)
    fields["old_padding"] = options.take("hybrid_old", False)
    fields["regions"] = options.take("multi_freqs", None) or ()
    fields["region_depth"] = options.take("multi_freqs_depth") if fields["regions"] else 0
    options.skip("multi_freqs_depth")
    _take_chunk(options, fields)
    options.close()
    return HybridDemucsConfig.parse(fields)


def _read_demucs(options: Options) -> DemucsConfig:
    fields = _common(options, n_features=64, depth=6)
    options.require("lstm_layers", 0)
    options.require("context", 1)
    options.require("growth", 2)
    fields["norm_from"] = options.take("norm_starts", 4)
    fields["norm_groups"] = options.take("norm_groups", 4)
    fields["dconv"] = _dconv(options, 4) | _recurrent(options)
    fields["rewrite"] = options.take("rewrite", True)  # another value would not fit the tensors
    fields["normalize"] = options.take("normalize")
    fields["resample"] = options.take("resample", True)
    _take_chunk(options, fields)
    options.close()
    return DemucsConfig.parse(fields)


def _read_v2(options: Options, shapes: Mapping[str, tuple[int, ...]]) -> DemucsV2Config:
    depth = sum(f"encoder.{number}.0.weight" in shapes for number in range(len(shapes)))
    fields = _common(options, n_features=shapes["encoder.0.2.weight"][1], depth=depth)
    options.require("lstm_layers", 2)
    options.require("context", 3)
    options.require("growth", 2)
    options.require("normalize", False)
    fields["resample"] = options.take("resample", True)
    if (length := options.take("segment_length", None)) is not None:
        fields["chunk_s"] = _count(length, "segment_length") / _count(fields["sample_rate_hz"], "samplerate")
    options.close()
    return DemucsV2Config.parse(fields)


_FIXED = "demucs.htdemucs.HTDemucs"
_CLASSES: dict[str, Callable[[Options], ModelConfig]] = {
    _FIXED: _read_htdemucs,
    "demucs.hdemucs.HDemucs": _read_hdemucs,
    "demucs.demucs.Demucs": _read_demucs,
}


def _common(options: Options, n_features: int, depth: int) -> dict[str, Any]:
    options.require("kernel_size", 8)
    options.require("stride", 4)
    options.require("rescale", 0.1)
    return {
        "targets": options.take("sources"),
        "channels": options.take("audio_channels", 2),
        "sample_rate_hz": options.take("samplerate", 44100),
        "n_features": options.take("channels", n_features),
        "depth": options.take("depth", depth),
    }


def _two_branches(options: Options, depth: int, compression: int) -> dict[str, Any]:
    fields = _common(options, 48, depth)
    for name, value in (
        ("growth", 2), ("rewrite", True), ("time_stride", 2), ("context", 1), ("context_enc", 0), ("freq_emb", 0.2),
        ("emb_scale", 10), ("wiener_residual", False),
    ):  # fmt: skip
        options.require(name, value)
    return fields | {
        "n_fft": options.take("nfft", 4096),
        "norm_from": options.take("norm_starts", 4),
        "norm_groups": options.take("norm_groups", 4),
        "dconv": _dconv(options, compression),
    }


def _check_iterations(options: Options) -> None:
    """Make sure that estimates of magnitudes get the mixture's phase, which a negative number asks for too."""
    iterations = options.take("wiener_iters", 0)
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations > 0:
        raise ModelFileError(f"{options.where}: wiener_iters = {iterations!r} is not supported; legal: 0 or less")
    options.require("end_iters", 0)


def _dconv(options: Options, compression: int) -> dict[str, Any]:
    options.require("dconv_init", 1e-3, 1e-4)
    mode = options.take("dconv_mode", 1)
    if mode not in (0, 1, 2, 3):
        raise ModelFileError(f"{options.where}: dconv_mode = {mode!r}; legal: 0, 1, 2, 3")
    return {
        "encoder": bool(mode & 1),
        "decoder": bool(mode & 2),
        "depth": options.take("dconv_depth", 2),
        "compression": options.take("dconv_comp", compression),
    }


def _recurrent(options: Options) -> dict[str, Any]:
    return {"lstm_from": options.take("dconv_lstm", 4), "attention_from": options.take("dconv_attn", 4)}


def _take_chunk(options: Options, fields: dict[str, Any]) -> None:
    if (segment := options.take("segment", None)) is not None:
        fields["chunk_s"] = float(_fraction(segment))


def _fraction(value: Any) -> Fraction:
    """Read a number of seconds: a number, the text of a fraction, or one of the mappings of Hugging Face's files."""
    try:
        match value:
            case {"_type": "fraction", "numerator": int(over), "denominator": int(under)} if len(value) == 3:
                found = Fraction(over, under)
            case bool():
                raise TypeError
            case int() | float() | str():
                found = Fraction(value)
            case _:
                raise TypeError
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise ModelFileError(f"kwargs: segment = {value!r} must be a number of seconds or a fraction") from None
    if not 0 < found < 10_000:
        raise ModelFileError(f"kwargs: segment = {value!r} must be between 0 and 10000 s")
    return found


def _count(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelFileError(f"kwargs: {name} = {value!r} must be a count")
    return value
