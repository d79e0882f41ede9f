"""Configuration files of Music-Source-Separation-Training for RoFormers, next to what the tensors say.

Source: docs/bs-roformer.md#checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bandsplit.core.errors import ModelFileError
from bandsplit.models.bs_roformer.config import BsRoformerConfig
from bandsplit.models.bs_roformer.facts import Facts
from bandsplit.models.options import Options, open_sections, require_facts


def read_config(facts: Facts, document: Mapping[str, Any]) -> BsRoformerConfig:
    """Join what the tensors and the configuration file say; without a file, ``document`` is empty.

    Raises:
        ModelFileError: they contradict each other, or neither says something; an option is unknown or has no
            counterpart.
        ConfigError: sizes contradict each other.
    """
    audio, model, training, inference = open_sections(document, "augmentations", "lora")
    is_mel = _is_mel(facts, model)
    channels = {True: 2, False: 1}.get(model.take("stereo", None), facts.channels)
    needed = {
        "audio.sample_rate": audio.take("sample_rate", model.take("sample_rate", None) if is_mel else None),
        "training.instruments": _targets(training),
        "model.stft_hop_length": model.take("stft_hop_length", None),
        "model.stft_n_fft": model.take("stft_n_fft", None if is_mel else 2 * (sum(facts.widths(channels)) - 1)),
    }
    require_facts(needed, facts.describe())
    rate, targets, hop, n_fft = needed.values()
    _compare(facts, is_mel, model)
    config = BsRoformerConfig.parse(
        {
            "targets": targets,
            "sample_rate_hz": rate,
            "channels": channels,
            "bands": {"kind": "mel", "n_bands": len(facts.band_features)}
            if is_mel
            else {"kind": "bins", "widths": facts.widths(channels)},
            "stft": {"n_fft": n_fft, "hop_samples": hop},
            "n_features": facts.n_features,
            "n_blocks": facts.n_blocks,
            "heads": facts.heads,
            "head_features": facts.head_features,
            **{f"{axis}_layers": depth for axis, depth in facts.layers.items()},
            "norm": facts.norm,
            "skip_connections": model.take("skip_connection", False),
            "attention_dropout": model.take("attn_dropout", 0.1 if is_mel else 0.0),
            "feed_forward_dropout": model.take("ff_dropout", 0.1 if is_mel else 0.0),
            "mask": _mask(facts),
            "zero_dc": model.take("zero_dc", True),
            "plan": _plan(audio, inference, rate),
        }
    )
    _refuse_others(config, audio, model, inference)
    return config


def _is_mel(facts: Facts, model: Options) -> bool:
    """Decide between the layouts: by the option that only one of them has, else by the place of the norms."""
    mel, bins = model.take("num_bands", None), model.take("freqs_per_bands", None)
    if mel is not None and bins is not None:
        raise ModelFileError(
            "model: has both num_bands (Mel-Band RoFormer) and freqs_per_bands (BS-RoFormer); keep one"
        )
    return facts.norm == "each" if mel is None and bins is None else mel is not None


def _targets(training: Options) -> Any:
    """Return the names of the outputs in the order of the file; None if it has none."""
    instruments, target = training.take("instruments", None), training.take("target_instrument", None)
    return instruments if target is None else [target]


def _mask(facts: Facts) -> dict[str, int]:
    if facts.mask_hidden is None:
        return {"hidden_layers": 0}
    return {"hidden_factor": facts.mask_hidden // facts.n_features, "hidden_layers": facts.mask_layers - 1}


def _compare(facts: Facts, is_mel: bool, model: Options) -> None:
    """Compare options with what the tensors say.

    Raises:
        ModelFileError: some differ; the message names them all.
    """
    found: dict[str, Any] = {
        "dim": facts.n_features,
        "depth": facts.n_blocks,
        "heads": facts.heads,
        "dim_head": facts.head_features,
        "num_stems": facts.stems,
        "linear_transformer_depth": facts.layers.get("linear", 0),
        "time_transformer_depth": facts.layers["time"],
        "freq_transformer_depth": facts.layers["band"],
        # The same word counts hidden layers in one class, and linear layers in the other.
        "mask_estimator_depth": facts.mask_layers - is_mel,
    }
    if facts.mask_hidden is not None:
        found["mlp_expansion_factor"] = facts.mask_hidden / facts.n_features
    if is_mel:
        found["num_bands"] = len(facts.band_features)
    given = {name: model.take(name, value) for name, value in found.items()}
    different = [f"{name} is {given[name]}, not {value}" for name, value in found.items() if given[name] != value]
    if different:
        raise ModelFileError(
            f"model: by the tensors, this is {facts.describe()}; by its options, {'; '.join(different)}"
        )


def _plan(audio: Options, inference: Options, rate: Any) -> dict[str, Any]:
    """Return the plan, as far as the file has one: the chunks' length in samples, and chunks over each sample."""
    samples = inference.take("chunk_size", audio.take("chunk_size", None))
    plan = {"kind": "faded", "overlaps": inference.take("num_overlap", 2)}
    if samples is None:
        return plan
    for name, value in (("chunk_size", samples), ("audio: sample_rate", rate)):
        if not isinstance(value, int) or value < 1:
            raise ModelFileError(f"{name} = {value!r} must be a number of samples")
    return plan | {"chunk_s": samples / rate}


def _refuse_others(config: BsRoformerConfig, audio: Options, model: Options, inference: Options) -> None:
    """Account for the options that are neither in the configuration nor in the tensors.

    Raises:
        ModelFileError: one changes the estimates, or is unknown.
    """
    audio.require("num_channels", config.channels)
    audio.skip("dim_f", "dim_t", "hop_length", "n_fft", "min_mean_abs")
    model.require("stft_win_length", config.stft.n_fft)
    model.require("stft_normalized", False)
    model.require("use_pope", False, None)
    model.require("num_residual_streams", 1, None)
    model.require("use_value_residual_learning", False, None)
    model.require("freq_range", None)
    model.skip("dim_freqs_in", "flash_attn", "sage_attention", "use_torch_checkpoint", "match_input_audio_length")
    model.skip(
        "multi_stft_resolution_loss_weight", "multi_stft_resolutions_window_sizes", "multi_stft_hop_size",
        "multi_stft_normalized",
    )  # fmt: skip
    inference.require("normalize", False, None)
    inference.skip("batch_size", "dim_t")
    for section in (audio, model, inference):
        section.close()
