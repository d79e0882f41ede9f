"""Import of public checkpoints: what follows from tensors, what must be in the configuration file, what is refused."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.bs_roformer.tensor_names import _find_origin
from bandsplit.models.bs_roformer.weights import read_checkpoint
from bandsplit.models.chunk_config import FadedConfig
from bandsplit.models.contract import Checkpoint, Imported, Shape
from bandsplit.models.tensors import shapes_in, tensor_shapes

BINS = BsRoformerConfig.parse(
    {
        "targets": ["drums", "bass"], "stft": {"n_fft": 64, "hop_samples": 16},
        "bands": {"kind": "bins", "widths": [2, 2, 2, 3, 3, 21]}, "n_features": 8, "n_blocks": 2, "heads": 2,
        "head_features": 6, "mask": {"hidden_factor": 2}, "plan": {"kind": "faded", "chunk_s": 2.0, "overlaps": 4},
    }
)  # fmt: skip
MEL = BsRoformerConfig.parse(
    {
        **BINS.model_dump(), "stft": {"n_fft": 256, "hop_samples": 64}, "bands": {"kind": "mel", "n_bands": 6},
        "norm": "each", "attention_dropout": 0.1, "feed_forward_dropout": 0.1,
        "mask": {"hidden_factor": 2, "hidden_layers": 2},
    }
)  # fmt: skip
LINEAR = BINS.model_copy(update={"linear_layers": 1, "time_layers": 2, "channels": 1, "skip_connections": True})
DOCUMENT: dict[str, Any] = {
    "audio": {"chunk_size": 88200, "sample_rate": 44100, "num_channels": 2, "hop_length": 1024, "dim_t": 256},
    "model": {
        "dim": 8, "depth": 2, "stereo": True, "num_stems": 2, "time_transformer_depth": 1, "heads": 2, "dim_head": 6,
        "freq_transformer_depth": 1, "freqs_per_bands": [2, 2, 2, 3, 3, 21], "stft_n_fft": 64, "stft_hop_length": 16,
        "stft_win_length": 64, "stft_normalized": False, "mask_estimator_depth": 2, "mlp_expansion_factor": 2,
        "flash_attn": True, "dim_freqs_in": 33, "multi_stft_resolution_loss_weight": 1.0,
    },
    "training": {"instruments": ["drums", "bass"], "target_instrument": None, "lr": 5e-5, "batch_size": 4},
    "inference": {"batch_size": 1, "dim_t": 256, "num_overlap": 4},
}  # fmt: skip
LEAST = {
    "audio": {"sample_rate": 44100},
    "model": {"stft_hop_length": 16},
    "training": {"instruments": ["drums", "bass"]},
}


def checkpoint(
    config: BsRoformerConfig,
    document: Mapping[str, Any] | None,
    places: dict[str, int] | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Checkpoint, dict[str, Tensor]]:
    """A checkpoint in their layout with random numbers for a network of ``config``."""
    generator = torch.Generator().manual_seed(5)
    axes = ["linear", "time", "band"] if config.linear_layers else ["time", "band"]
    places = places or {axis: number for number, axis in enumerate(axes)}
    tensors = {}
    for name, shape in tensor_shapes(config):
        origin = _find_origin(config, places, name, shape)
        tensors |= {part: torch.randn(origin.shape, generator=generator).to(dtype) for part in origin.names}
    shapes: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return Checkpoint(shapes, tensors.__getitem__, document=document), tensors


def read(config: BsRoformerConfig, document: Mapping[str, Any] | None, **options: Any) -> Imported:
    found = read_checkpoint(checkpoint(config, document, **options)[0])
    assert found is not None
    return found


def changed(section: str, **options: Any) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    document.setdefault(section, {}).update(options)
    return document


def test_a_configuration_file_and_tensors_give_the_configuration():
    found = read(BINS, DOCUMENT)
    assert found.config == BINS
    expected = dict(tensor_shapes(BINS))
    assert (
        {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
        == expected
        == shapes_in(BINS, expected.values())
    )


def test_tensors_of_bands_are_stacked():
    source, theirs = checkpoint(BINS, DOCUMENT)
    found = read_checkpoint(source)
    assert found is not None
    weight = found.tensors["split.projections.1.weight"]  # of the two bands of three bins
    assert torch.equal(weight[1], theirs["band_split.to_features.4.1.weight"].mT)
    hidden = found.tensors["estimators.bass.hidden.0.weight"]
    assert torch.equal(hidden[3], theirs["mask_estimators.1.to_freqs.3.0.0.weight"].mT)


@pytest.mark.parametrize(("config", "n_fft"), [(BINS, None), (MEL, 256), (LINEAR, None)])
def test_sizes_follow_from_the_tensors_if_the_file_has_only_the_rest(config: BsRoformerConfig, n_fft: int | None):
    document = copy.deepcopy(LEAST)
    document["model"] = {"stft_hop_length": config.stft.hop_samples, "skip_connection": config.skip_connections}
    document["model"] |= {"stft_n_fft": n_fft} if n_fft else {}
    assert read(config, document).config == config.model_copy(update={"plan": FadedConfig()})


def test_transformers_may_be_numbered_from_one_without_linear_attention():
    document = changed("model", stft_n_fft=256, stft_hop_length=64, stft_win_length=256)
    del document["model"]["freqs_per_bands"]
    assert read(MEL, document, places={"time": 1, "band": 2}).config == MEL


def test_the_depth_of_masks_counts_hidden_layers_in_one_class_and_linear_layers_in_the_other():
    assert read(BINS, changed("model", mask_estimator_depth=2)).config.mask.hidden_layers == 1  # type: ignore[attr-defined]
    with pytest.raises(ModelFileError, match=r"mask_estimator_depth is 1, not 2"):
        read(BINS, changed("model", mask_estimator_depth=1))


def test_one_stem_is_named_by_the_target():
    one = BINS.model_copy(update={"targets": ("bass",)})
    document = changed("training", target_instrument="bass")
    document["model"]["num_stems"] = 1
    assert read(one, document).config.targets == ("bass",)


def test_half_precision_is_kept():
    types = {tensor.dtype for tensor in read(BINS, DOCUMENT, dtype=torch.float16).tensors.values()}
    assert types == {torch.float16}


def test_the_chunk_of_inference_comes_first():
    plan = read(BINS, changed("inference", chunk_size=44100)).config.geometry.published
    assert plan == FadedConfig(chunk_s=1.0, overlaps=4)


def test_without_a_configuration_file_the_missing_facts_are_named():
    message = (
        r"^is a Mel-Band RoFormer \(6 bands, 8 features, 2 blocks, 2 heads of 6, 2 channel\(s\), 2 stem\(s\)\), "
        r"but its tensors do not say: audio\.sample_rate, training\.instruments, model\.stft_hop_length, "
        r"model\.stft_n_fft; name the configuration file that came with it, or one with these options, with --config$"
    )
    with pytest.raises(ModelFileError, match=message):
        read(MEL, None)


@pytest.mark.parametrize(
    ("section", "options", "message"),
    [
        ("model", {"dim": 16}, r"by the tensors, this is a BS-RoFormer .*; by its options, dim is 16, not 8"),
        ("model", {"mlp_expansion_factor": 4}, r"mlp_expansion_factor is 4, not 2"),
        ("model", {"stereo": False}, r"they must cover the 33 bins"),
        ("model", {"zero_cd": True}, r"model: unknown option\(s\): zero_cd = True \(did you mean zero_dc\?\); known: "),
        ("model", {"num_residual_streams": 4}, r"model: num_residual_streams = 4 is not supported; legal: 1, None"),
        ("model", {"use_pope": True}, r"use_pope = True is not supported"),
        ("model", {"freq_range": [0, 100]}, r"freq_range = \[0, 100\] is not supported"),
        ("model", {"stft_win_length": 32}, r"stft_win_length = 32 is not supported; legal: 64"),
        ("model", {"num_bands": 6}, r"has both num_bands \(Mel-Band RoFormer\) and freqs_per_bands \(BS-RoFormer\)"),
        ("audio", {"num_channels": 1}, r"audio: num_channels = 1 is not supported; legal: 2"),
        ("inference", {"normalize": True}, r"inference: normalize = True is not supported; legal: False, None"),
        ("inference", {"num_overlaps": 2}, r"unknown option\(s\): num_overlaps = 2 \(did you mean num_overlap\?\)"),
        ("evaluation", {"metrics": []}, r"configuration: unknown option\(s\): evaluation"),
        ("training", {"instruments": [*"abc"]}, r"missing: mask_estimators\.2\.to_freqs\.0\.0\.0\.weight "),
        ("training", {"target_instrument": "bass"}, r"unexpected: mask_estimators\.1\.to_freqs\.0\.0\.0\.weight "),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_the_tensors_or_cannot_be_followed_is_refused(
    section: str, options: dict[str, Any], message: str
):
    with pytest.raises((ModelFileError, ConfigError), match=message):
        read(BINS, changed(section, **options))


def test_tensors_that_do_not_fit_are_named_by_group():
    source, _ = checkpoint(BINS, DOCUMENT)
    shapes = {name: shape for name, shape in source.shapes.items() if not name.endswith("to_out.0.weight")}
    shapes |= {f"band_split.to_features.{band}.1.bias": (9,) for band in range(6)} | {"freqs": (3,)}
    message = (
        r"^11 tensor\(s\) do not fit the configuration: missing: layers\.0\.0\.layers\.0\.0\.to_out\.0\.weight \(and 3 "
        r"more layers\.\*\.\*\.layers\.\*\.\*\.to_out\.\*\.weight\); unexpected: freqs; misshapen: "
        r"band_split\.to_features\.0\.1\.bias is \(9,\), expected \(8,\) \(and 5 more "
    )
    with pytest.raises(ModelFileError, match=message):
        read_checkpoint(source._replace(shapes=shapes))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["layers.0.0.layers.0.0.to_qkv.lora_A", "final_norm.gamma"], r"^holds low-rank changes \(LoRA\) .*lora_A\)$"),
        (["layers.0.0.layers.0.0.branch.to_qkv.weight"], r"^holds weights of a later lucidrains version, with hyper-"),
        (["layers.0.0.layers.0.0.to_value_residual_mix.0.weight"], r"later lucidrains version"),
        (["band_split.to_features.0.0.gamma"], r"lacks all of its blocks, masks or bands; is it complete\?"),
    ],
)
def test_other_versions_are_refused_by_name(names: list[str], message: str):
    with pytest.raises(ModelFileError, match=message):
        read_checkpoint(Checkpoint(dict.fromkeys(names, (1,)), lambda name: None))


def test_tensors_of_other_families_are_not_read():
    names = ["encoder.projections.0.weight", "first_conv.weight"]
    assert read_checkpoint(Checkpoint(dict.fromkeys(names, (1,)), lambda name: None)) is None
