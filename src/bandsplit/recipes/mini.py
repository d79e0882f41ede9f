"""Small counterparts of the paper's variants, for the study that two cores finish in less than an hour.

Their base is small enough for minutes of training; each of the others changes it as its namesake changes the paper's
base model.
"""

from __future__ import annotations

from collections.abc import Mapping

from bandsplit.data.examples.mixing import UMX_LIKE
from bandsplit.models.families import UNNAMED
from bandsplit.recipes.recipe import TWO_CORES, Recipe

VARIANTS = (
    "naive-stereo", "tac-prelu", "bscnn", "attention-2x16", "multi-head-2", "layers-gru-gru", "layers-conv-conv",
)  # fmt: skip
"""The large model has a counterpart too: twice the features and 1.5 times the blocks, as in the paper."""


def one_per_family(recipes: Mapping[str, Recipe]) -> tuple[str, ...]:
    """Name the first small counterpart of each family of networks."""
    first: dict[str, str] = {}
    for id, recipe in recipes.items():
        if recipe.counterpart is not None:
            first.setdefault(recipe.settings["model"].get("family", UNNAMED), id)
    return tuple(first.values())


def mini_recipes(recipes: Mapping[str, Recipe]) -> list[Recipe]:
    """Make the counterparts of some of ``recipes``, the paper's by name.

    With short excerpts, few features and songs at 16 kHz, LSTMs see some thousands of examples in two minutes; in
    trials of equal time, longer excerpts, more features and twice the learning rate were up to 2 dB worse on validation
    songs. The data are those of row 19, with some examples of one song, as in the demo.
    """
    base = recipes["base"].vary(
        "mini-base", "mini: base model",
        {
            **TWO_CORES,
            "model.bands": [[150, 6], [300, 4], [1000, 3]],
            "model.stft.n_fft": 1024,
            "model.stft.hop_samples": 512,
            "model.n_features": 16,
            "model.n_blocks": 2,
            "training.excerpt_s": 1.0,
            "training.learning_rate": 0.015,
            **{f"training.mixing.{field}": value for field, value in UMX_LIKE.items()},
            "training.mixing.gain.low": 0.5,
            "training.examples_per_epoch": 200,
            "training.max_epochs": 12,
            "training.patience": 12,
        },
        counterpart="base",
    )  # fmt: skip
    large = base.vary(
        "mini-large", "mini: twice the features, 3 blocks", {"model.n_features": 32, "model.n_blocks": 3},
        counterpart="large",
    )  # fmt: skip
    others = [
        base.vary(f"mini-{id}", f"mini: {recipes[id].about}", recipes[id].changes, counterpart=id) for id in VARIANTS
    ]
    semi_supervised = base.vary(
        "mini-semi-supervised", f"mini: {recipes['semi-supervised'].about}",
        {
            "training.learning_rate": 0.0015,  # a tenth of the base's, as in the large recipe
            "training.max_epochs": 8,
            "training.validate_every": 1,
            "training.unlabelled": {"segment_s": 2.0, "context_s": 0.5},
        },
        counterpart="semi-supervised",
    )  # fmt: skip
    return [base, large, *others, semi_supervised]
