"""Recipes of the paper's tables."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from bandsplit.core.targets import TARGETS
from bandsplit.data.examples.mixing import UMX_LIKE, UnlabelledConfig
from bandsplit.recipes.recipe import Recipe, apply_changes

_UMX_LIKE = {f"training.mixing.{field}": value for field, value in UMX_LIKE.items()}
_ATTENTION = {"model.attention.heads": 2, "model.attention.encoding_dim": 16}
_TAC = {"model.stereo.kind": "tac", "model.stereo.activation": "prelu"}
_DILATED = {"kind": "dilated", "depth": 3, "kernel": 3, "hidden_factor": 1}
_LARGE = {"model.n_features": 128, "model.n_blocks": 12}


def paper_recipes() -> list[Recipe]:
    """Make the recipes of the paper and of its authors' repository, parents before children."""
    # The authors trained small models on 4 GPUs and large ones on 2, 2 examples on each (section IV-D2); stating the
    # global batch makes a row mean the same on other hardware.
    start = Recipe("base", "base model: N 64, R 8, one model and band split per target", "1", 32.3)
    base = dataclasses.replace(start, settings=apply_changes(start.settings, {"training.global_batch": 8}))
    large = base.vary("large", "the original size", _LARGE | {"training.global_batch": 4}, row="8", parameters_m=146.7)
    return [
        base,
        *_training_recipes(base),
        large,
        large.vary("large-patience-30", "large, patience 30", {"training.patience": 30}, row="9", parameters_m=146.7),
        *_network_recipes(base),
        *_data_recipes(base),
        *_optimised_recipes(large),
        base.vary("base-patience-30", "base model, patience 30", {"training.patience": 30}, parameters_m=32.3),
        *_layer_recipes(base),
        *_shared_recipes(base),
        _semi_supervised_recipe(base),
    ]


def _training_recipes(base: Recipe) -> list[Recipe]:
    """Make rows 2 to 7: batch, loss, early stopping, transform and width of the masks."""
    return [
        base.vary("accumulate-gradients", "global batch 16", {"training.global_batch": 16}, row="2", parameters_m=32.3),
        base.vary("monitor-loss", "best epoch by the loss", {"training.monitor": "loss"}, row="3", parameters_m=32.3),
        base.vary("loss-time", "loss of the signal alone", {"training.loss.domain": "t"}, row="4", parameters_m=32.3),
        base.vary("loss-tf", "loss of the spectrogram", {"training.loss.domain": "tf"}, row="5", parameters_m=32.3),
        base.vary(
            "stft-4096", "STFT window 4096, hop 1024",
            {"model.stft.n_fft": 4096, "model.stft.hop_samples": 1024}, row="6", parameters_m=37.1,
        ),
        base.vary("mask-factor-2", "mask factor mu 2", {"model.mask.hidden_factor": 2}, row="7", parameters_m=20.6),
    ]  # fmt: skip


def _network_recipes(base: Recipe) -> list[Recipe]:
    """Make rows 10 to 17: stereo, convolutions, attention, heads."""
    naive = base.vary(
        "naive-stereo", "channels of a band merged", {"model.stereo.kind": "merged"}, row="10", parameters_m=37.1
    )
    return [
        naive,
        naive.vary(
            "naive-stereo-mask-8", "channels merged, mask factor mu 8", {"model.mask.hidden_factor": 8},
            row="11", parameters_m=81.1,
        ),
        base.vary(
            "tac-tanh", "TAC stereo, tanh", _TAC | {"model.stereo.activation": "tanh"}, row="12", parameters_m=34.7
        ),
        base.vary("tac-prelu", "TAC stereo, PReLU", _TAC, row="13", parameters_m=34.7),
        base.vary(
            "bscnn", "BSCNN: dilated convolutions for LSTMs", {"model.time": _DILATED, "model.band": _DILATED},
            row="14", parameters_m=29.7,
        ),
        base.vary(
            "attention-1x8", "attention over frames, 1 head of 8",
            {"model.attention.heads": 1, "model.attention.encoding_dim": 8}, row="15", parameters_m=33.0,
        ),
        base.vary("attention-2x16", "attention over frames, 2 heads of 16", _ATTENTION, row="16", parameters_m=33.2),
        base.vary("multi-head-2", "features in 2 heads", {"model.heads": 2}, row="17", parameters_m=22.0),
    ]  # fmt: skip


def _optimised_recipes(large: Recipe) -> list[Recipe]:
    """Make row 20, and oBSRNN, which adds TAC stereo to it."""
    no_tac = large.vary(
        "optimised-no-tac", "large, attention 2x16, patience 30, data as row 19",
        {**_ATTENTION, "training.patience": 30, **_UMX_LIKE},
        row="20", parameters_m=149.9,
    )  # fmt: skip
    return [no_tac, no_tac.vary("optimised", "oBSRNN: with TAC stereo, PReLU", _TAC, row="20b", parameters_m=164.1)]


def _semi_supervised_recipe(base: Recipe) -> Recipe:
    """Make the fine-tuning with unlabelled songs, which starts from a trained base model (``--init``).

    Source: BSRNN paper, Table I.
    """
    why = "not stated; our choice, docs/semi-supervised.md"
    names = ("share", "quietest_db", "segment_s", "context_s", "same_segment_probability", "gain", "drop")
    unlabelled = {name: field.default for name, field in UnlabelledConfig.model_fields.items()}
    return base.vary(
        "semi-supervised", "base, fine-tuned with unlabelled songs that a teacher separates",
        {"training.learning_rate": 1e-4, "training.unlabelled": unlabelled},
        unknown={f"training.unlabelled.{name}": why for name in names}, parameters_m=32.3,
    )  # fmt: skip


def _shared_recipes(base: Recipe) -> list[Recipe]:
    """Make recipes with one band split for all targets: a model per target, or one with a decoder per target (SIMO)."""
    joint = {"model.bands": "joint", **_UMX_LIKE}
    simo = base.vary(
        "simo", "shared encoder, joint bands, four decoders",
        {"model.targets": list(TARGETS), **joint}, shared=True, parameters_m=26.62,
    )  # fmt: skip
    return [
        base.vary("joint-bands", "one band split for all targets, a model for each", joint),
        simo.vary("simo-residual", "shared encoder, other = residual", {"model.residual": "other"}, parameters_m=20.86),
        simo,
        simo.vary(
            "simo-optimised", "oBSRNN-SIMO: large, attention 2x16, TAC, patience 30",
            {**_LARGE, **_ATTENTION, **_TAC, "training.patience": 30, "training.global_batch": 4}, parameters_m=108.73,
        ),
    ]  # fmt: skip


def _layer_recipes(base: Recipe) -> list[Recipe]:
    """Make recipes with LSTM, GRU and convolution along each axis; LSTM along both is the base model.

    Source: paper, section III-B2; authors' code. The numbers are only in the code.
    """
    layers: dict[str, dict[str, Any]] = {"lstm": {}, "gru": {"kind": "gru"}, "conv": {"kind": "conv"}}
    recipes = []
    for time, band in itertools.product(layers, repeat=2):
        change = {f"model.{axis}": layers[kind] for axis, kind in (("time", time), ("band", band)) if layers[kind]}
        if change:
            recipes.append(base.vary(f"layers-{time}-{band}", f"{time} over frames, {band} over bands", change))
    return recipes


def _data_recipes(base: Recipe) -> list[Recipe]:
    """Make rows 18 and 19, and a ladder from row 1 to row 19 that is not in the paper: one change at each rung.

    Row 18 changes only the stems that may be dropped; row 19 is the top of the ladder. Shuffling again every epoch is a
    separate recipe: the paper saw no difference in preliminary experiments (section IV-A).
    """
    recipes = [
        base.vary(
            "silent-target", "data: only the target is dropped", {"training.mixing.drop": "target"},
            row="18", parameters_m=32.3,
        ),
        base.vary("pairing-epoch", "data: shuffled anew every epoch", {"training.mixing.pairing": "epoch"}),
    ]  # fmt: skip
    rung = base
    for number, (field, value) in enumerate(list(UMX_LIKE.items())[:-1], start=1):
        id = f"ladder-{number}-{field.replace('_', '-')}"
        rung = rung.vary(id, f"data: rung {number} of row 1 to 19", {f"training.mixing.{field}": value})
        recipes.append(rung)
    recipes.append(
        base.vary(
            "no-activity-detection", "data: as Open-Unmix, without activity detection", _UMX_LIKE,
            row="19", parameters_m=32.3,
        )
    )  # fmt: skip
    return recipes
