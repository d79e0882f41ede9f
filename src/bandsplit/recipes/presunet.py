"""Recipes of CWS-PResUNet: one model per target, one for three targets, and a small counterpart for two cores.

Source: docs/presunet.md#training; CWS-PResUNet paper; 2021-ISMIR-MSS-Challenge-CWS-PResUNet.
"""

from __future__ import annotations

from typing import Any

from bandsplit.data.examples.mixing import UMX_LIKE
from bandsplit.recipes.recipe import TWO_CORES, Recipe

_EXCERPT_S = 3.0
_DEVICES = 8
_MIXING: dict[str, Any] = {
    "activity": None,
    "pairing": "free",
    "gain": {"kind": "linear", "low": 1.0, "high": 1.0},
    "drop": "none",
    "peak_normalise": False,
}
_UNKNOWN = {
    "training.max_epochs": "about two days on 8 GPUs; 50, as the published weights of vocals are of epoch 49",
    "training.patience": "no early stopping is stated; none here",
    "training.chunks": "the validation during training is not stated; as songs are separated",
    "training.mixing.activity": "no selection of excerpts is stated; none here",
}


def presunet_recipes() -> list[Recipe]:
    """Make the published recipes and a small counterpart."""
    single = Recipe(
        "presunet", "CWS-PResUNet: one model per target (Liu, Kong, Liu 2021)",
        by_target={
            "other": {"training.learning_rate": 5e-4},
            "bass": {"training.learning_rate": 3e-4},
            "drums": {"training.learning_rate": 3e-4},
        },
        unknown={
            **_UNKNOWN,
            "model.n_blocks": "8 for vocals; not stated for other models of one target, which were not published",
            "training.mixing.pairing": "examples of vocals are a mixture of two: vocals and, at random, bass, drums, "
            "other or all of them; ours mix all stems, for which silence is more often the better answer",
            "training.loss": "the signal alone for vocals; not stated for other models of one target",
        },
        settings={
            "model": {"family": "presunet"},
            "training": {
                "loss": {"kind": "l1-waveform"},
                "optimizer": {"kind": "adam", "amsgrad": True},
                "learning_rate": 1e-3,
                "learning_rate_rule": "none",
                "clip_norm": None,
                "excerpt_s": _EXCERPT_S,
                "mixing": _MIXING,
                "max_epochs": 50,
                "patience": 50,
                "chunks": {"kind": "bounded", "chunk_s": 13.0, "trim_s": 1.5},
                **_by_audio(8),
            },
        },
    )  # fmt: skip
    joint = single.vary(
        "presunet-joint", "CWS-PResUNet: one model of bass, drums and other (Liu, Kong, Liu 2021)",
        {
            "model.targets": ["bass", "drums", "other"],
            "model.n_blocks": 4,
            "training.loss": {"kind": "l1-magnitude", "with_sum": True},
            "training.learning_rate": 6e-4,
            **{f"training.{field}": value for field, value in _by_audio(16).items()},
        },
        parameters_m=105.20, shared=True, by_target={},
        unknown={
            **_UNKNOWN,
            "training.loss.with_sum": "the published loss has the term of the sum after 10,000 updates; ours always",
        },
    )  # fmt: skip
    return [single, joint, _mini(single)]


def _by_audio(batch_size: int) -> dict[str, Any]:
    """Return the settings that the publication gives in hours of audio, for a batch per GPU."""
    batch = batch_size * _DEVICES
    update_h = batch * _EXCERPT_S / 3600
    return {
        "batch_size": batch_size,
        "global_batch": batch,
        "examples_per_epoch": round(100 * 3600 / _EXCERPT_S),
        "warm_up_updates": round(26.6 / update_h),
        "decay": {"kind": "step-updates", "factor": 0.9, "every_updates": round(400 / update_h)},
    }


def _mini(published: Recipe) -> Recipe:
    """Make the counterpart for two cores and songs at 16 kHz.

    It minimises the squared error. For a mixture of four stems, silence minimises the absolute error of the published
    recipe among all constant gains, and the ReLU that limits magnitudes has no gradient there
    (docs/presunet.md#training).
    """
    return published.vary(
        "mini-presunet", "mini: CWS-PResUNet at 16 kHz with four levels of one block",
        {
            **TWO_CORES,
            "model.stft": {"n_fft": 256, "hop_samples": 55},
            "model.widths": [16, 24, 32, 32],
            "model.n_blocks": 1,
            "model.plan": {"kind": "bounded", "chunk_s": 5.0, "trim_s": 0.5},
            "training.loss": {"kind": "mse-waveform"},
            "training.learning_rate": 1e-3,
            "training.warm_up_updates": 100,
            "training.excerpt_s": 1.0,
            "training.examples_per_epoch": 200,
            **{f"training.mixing.{field}": value for field, value in UMX_LIKE.items()},
            "training.mixing.gain.low": 0.5,
            "training.max_epochs": 12,
            "training.patience": 12,
            "training.chunks": {"kind": "bounded", "chunk_s": 5.0, "trim_s": 0.5},
        },
        by_target={}, unknown={}, counterpart="presunet",
    )  # fmt: skip
