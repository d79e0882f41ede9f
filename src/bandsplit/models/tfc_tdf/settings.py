"""Configuration files of other software for TFC-TDF UNets, next to what the tensors say.

Source: docs/tfc-tdf.md#checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Shape
from bandsplit.models.options import Options, open_sections, require_facts
from bandsplit.models.tfc_tdf.config import TfcTdfConfig


class Facts(NamedTuple):
    """Properties of a network that follow from names and shapes of its tensors, in its authors' names."""

    n_features: int
    image_channels: int
    estimated_channels: int
    """Of all targets."""
    growth: int
    n_scales: int
    n_blocks: int
    scale: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]
    """Bins of a subband, and of the narrow space between linear layers, from the finest scale to the coarsest."""
    norm: str | None
    """Option of the normalisation; None if the tensors do not say which of two it is."""

    def describe(self) -> str:
        """Say what it is, for errors."""
        return (
            f"a TFC-TDF UNet with {self.n_features} + {self.growth} features, {self.n_scales} scales of "
            f"{self.n_blocks} block(s) and {self.widths[0][0]} bins x {self.image_channels} channels"
        )


def find_facts(shapes: Mapping[str, Shape]) -> Facts:
    """Read what names and shapes say.

    Raises:
        ModelFileError: a tensor that says it is missing or has another number of axes.
    """

    def find(name: str, axes: int) -> Shape:
        if len(shapes.get(name, ())) != axes or 0 in shapes[name]:
            raise ModelFileError(
                f"has {'an empty or misshapen' if name in shapes else 'no'} {name}, without which it is no TFC-TDF UNet"
            )
        return shapes[name]

    scales = len({name.split(".")[1] for name in shapes if name.startswith("encoder_blocks.")})
    blocks = [f"encoder_blocks.{at}.tfc_tdf.blocks.0" for at in range(scales)] + ["bottleneck_block.blocks.0"]
    n_features, image_channels = find("first_conv.weight", 4)[:2]
    coarser, _, *scale = find("encoder_blocks.0.downscale.conv.2.weight", 4)
    narrow_and_wide = [find(f"{block}.tdf.2.weight", 2) for block in blocks]
    norm = f"{blocks[0]}.tfc1.0"
    return Facts(
        n_features,
        image_channels,
        find("final_conv.2.weight", 4)[0],
        coarser - n_features,
        scales,
        len({name.split(".")[2] for name in shapes if name.startswith("bottleneck_block.blocks.")}),
        tuple(scale),
        tuple((wide, narrow) for narrow, wide in narrow_and_wide),
        "BatchNorm" if f"{norm}.running_mean" in shapes else None if f"{norm}.weight" in shapes else "none",
    )


def read_config(facts: Facts, document: Mapping[str, Any]) -> TfcTdfConfig:
    """Join what the tensors and the configuration file say; without a file, ``document`` is empty.

    Raises:
        ModelFileError: they contradict each other, or neither says something; an option is unknown or has no
            counterpart.
        ConfigError: sizes contradict each other.
    """
    audio, model, training, inference = open_sections(document, "augmentation", "augmentations")
    instruments, target = training.take("instruments", None), training.take("target_instrument", None)
    needed = {
        "audio.sample_rate": audio.take("sample_rate", None),
        "audio.n_fft": audio.take("n_fft", None),
        "audio.hop_length": audio.take("hop_length", None),
        "inference.dim_t": inference.take("dim_t", audio.take("dim_t", None)),
        "model.act": model.take("act", None),
        "model.norm": model.take("norm", facts.norm) or "none",
        "training.instruments": instruments if target is None else [target],
    }
    if facts.norm is None and model.take("norm", None) is None:
        needed["model.norm"] = None
    require_facts(needed, facts.describe())
    rate, n_fft, hop, frames, act, norm, targets = needed.values()
    channels = _number("audio.num_channels", audio.take("num_channels", 2))
    config = TfcTdfConfig.parse(
        {
            "targets": targets,
            "sample_rate_hz": rate,
            "channels": channels,
            "stft": {"n_fft": n_fft, "hop_samples": hop},
            "n_features": facts.n_features,
            "growth": facts.growth,
            "n_scales": facts.n_scales,
            "n_blocks": facts.n_blocks,
            "scale_frames": facts.scale[0],
            "scale_bins": facts.scale[1],
            "norm": _norm(norm),
            "activation": _activation(act),
            "plan": _plan(rate, hop, frames, inference),
            **_compare(facts, channels, audio, model),
        }
    )
    _check_targets(facts, config)
    audio.skip("chunk_size", "dim_t", "min_mean_abs")
    inference.require("normalize", False, None)
    inference.skip("batch_size")
    for section in (audio, model, inference):
        section.close()
    return config


def _check_targets(facts: Facts, config: TfcTdfConfig) -> None:
    if len(config.targets) * facts.image_channels != facts.estimated_channels:
        raise ModelFileError(
            f"training: instruments and target_instrument name {len(config.targets)} target(s), but the tensors have "
            f"{facts.estimated_channels / facts.image_channels:g}"
        )


def _compare(facts: Facts, channels: int, audio: Options, model: Options) -> dict[str, int]:
    """Compare options with what the tensors say, and return the fields that need both.

    Raises:
        ModelFileError: some differ; the message names them all.
    """
    subbands = facts.image_channels // (2 * channels)
    lowest = max(wide // (narrow + 1) + 1 for wide, narrow in facts.widths)
    highest = min(wide // narrow for wide, narrow in facts.widths)
    factor = model.take("bottleneck_factor", lowest)
    found = {
        "dim_f": (audio, subbands * facts.widths[0][0]),
        "num_subbands": (model, facts.image_channels / (2 * channels)),
        "num_channels": (model, facts.n_features),
        "growth": (model, facts.growth),
        "num_scales": (model, facts.n_scales),
        "num_blocks_per_scale": (model, facts.n_blocks),
        "scale": (model, list(facts.scale)),
    }
    given = {name: section.take(name, value) for name, (section, value) in found.items()}
    different = [f"{name} is {given[name]}, not {value}" for name, (_, value) in found.items() if given[name] != value]
    if factor not in range(lowest, highest + 1):
        different.append(f"bottleneck_factor is {factor}, not in {lowest} to {highest}")
    if different:
        raise ModelFileError(f"by the tensors, this is {facts.describe()}; by its options, {'; '.join(different)}")
    return {"n_subbands": subbands, "n_bins": found["dim_f"][1], "bottleneck_factor": factor}


def _plan(rate: Any, hop: Any, frames: Any, inference: Options) -> dict[str, Any]:
    samples = _number("audio.hop_length", hop) * (_number("dim_t", frames, least=2) - 1)
    chunk = _number("inference.chunk_size", inference.take("chunk_size", samples))
    overlaps = inference.take("num_overlap", 8)
    return {"kind": "folded", "chunk_s": chunk / _number("audio.sample_rate", rate), "overlaps": overlaps}


def _norm(text: Any) -> dict[str, Any] | None:
    match re.fullmatch(r"(Instance|Batch|Group)Norm(\d{0,6})", str(text)):
        case None if text == "none":
            return None
        case re.Match() as found if (found[1] == "Group") == bool(found[2]):
            groups = {"groups": int(found[2])} if found[2] else {}
            return {"kind": found[1].lower(), **groups}
    raise ModelFileError(
        f"model: norm = {text!r} is not supported; legal: InstanceNorm, BatchNorm, GroupNorm with the number of groups "
        f"(GroupNorm8), null"
    )


def _activation(text: Any) -> dict[str, Any]:
    if text in ("gelu", "relu"):
        return {"kind": text}
    if found := re.fullmatch(r"elu(\d{1,6}(?:\.\d{1,12})?)", str(text)):
        return {"kind": "elu", "alpha": float(found[1])}
    raise ModelFileError(f"model: act = {text!r} is not supported; legal: gelu, relu, elu with its alpha (elu1.0)")


def _number(name: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or not least <= value <= 1_000_000_000:
        raise ModelFileError(f"{name} = {value!r} must be an integer from {least} to a thousand million")
    return value
