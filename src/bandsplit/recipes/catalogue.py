"""Every named experiment: what it changes with respect to its parent, and the numbers published for it.

Source: paper, Table II (row numbers and parameter counts of four targets); the authors' repository for the models with
a shared encoder ("SIMO").
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from bandsplit.core.errors import ConfigError
from bandsplit.data.examples.mixing import UMX_LIKE
from bandsplit.models.bsrnn.bands import SCHEMES
from bandsplit.models.bsrnn.config import TARGETS
from bandsplit.published.paper import Values, validation_usdr_db
from bandsplit.recipes.mini import mini_recipes
from bandsplit.runs.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A named experiment; `run_config` makes it concrete for targets and a seed."""

    id: str
    about: str
    """What it is in the paper, in a few words."""
    row: str | None = None
    """Row of the paper's Table II."""
    parameters_m: float | None = None
    """Published parameters of all four targets, in millions."""
    shared: bool = False
    """One model estimates all targets from one band split; otherwise each target has a model and a split of its own."""
    counterpart: str | None = None
    """Recipe of the paper that this one imitates at a small size."""
    parent: str | None = None
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Dotted path -> value, the only differences from the parent."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"model": {}, "training": {}})
    """The resolved settings, without targets and bands of models per target."""

    def vary(self, id: str, about: str, change: Mapping[str, Any], **facts: Any) -> Recipe:
        """Derive an experiment that differs only in ``change``, a mapping of dotted paths to values."""
        settings = apply_changes(self.settings, change)
        facts = {"shared": self.shared} | facts
        return Recipe(id, about, parent=self.id, changes=change, settings=settings, **facts)

    def run_config(
        self, targets: Sequence[str] = (), *, seed: int = 0, changes: Mapping[str, Any] | None = None
    ) -> RunConfig:
        """Make a run's configuration.

        Args:
            targets: what to estimate; needed unless the recipe shares one model between targets.
            seed: seed of weights and examples.
            changes: settings changed by hand, as dotted paths.

        Raises:
            ConfigError: a target has no band scheme, or a setting is unknown or illegal.
        """
        if not targets and not self.shared:
            raise ConfigError(
                f"recipe {self.id!r} trains one model per target: name one of {', '.join(TARGETS)} with --target"
            )
        if len(targets) > 1 and not self.shared:
            raise ConfigError(
                f"recipe {self.id!r} trains one model per target, got {', '.join(targets)}; run it for each"
            )
        settings = copy.deepcopy(dict(self.settings))
        if targets:
            settings["model"]["targets"] = list(targets)
        if not self.shared and "bands" not in settings["model"] and "model.bands" not in (changes or {}):
            if targets[0] not in SCHEMES:
                raise ConfigError(
                    f"target {targets[0]!r} has no band scheme of its own; legal: {', '.join(TARGETS)}, or choose a "
                    f"scheme with --set model.bands=joint"
                )
            settings["model"]["bands"] = targets[0]
        settings = apply_changes(settings, changes or {})
        return RunConfig.parse({"recipe": self.id, "changes": dict(changes or {}), "seed": seed, **settings})

    @property
    def published_usdr_db(self) -> Values | None:
        """The validation uSDR that others published for it, by target and "average"; none where nobody did."""
        return validation_usdr_db(self.id)

    @property
    def architecture(self) -> bool:
        """Whether its network is another than its parent's, counterparts aside."""
        changed = any(path.startswith("model.") for path in self.changes)
        return self.parent is None or (changed and self.counterpart is None)

    def all_run_configs(self) -> list[RunConfig]:
        """Return the configurations that estimate all four targets: one if shared, else one per target."""
        return [self.run_config()] if self.shared else [self.run_config([target]) for target in TARGETS]


def apply_changes(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` with the values at dotted paths replaced, and missing levels added.

    Raises:
        ConfigError: a path leads through a value that has no fields.
    """
    result = copy.deepcopy(dict(settings))
    for path, value in changes.items():
        *parents, last = path.split(".")
        level = result
        for key in parents:
            level = level.setdefault(key, {})
            if not isinstance(level, dict):
                raise ConfigError(f"{path}: {key!r} is {level!r} and has no field {last!r}")
        level[last] = copy.deepcopy(value)
    return result


def find_recipe(id: str) -> Recipe:
    """Look a recipe up.

    Raises:
        ConfigError: there is none of that name; the nearest is named.
    """
    if id not in RECIPES:
        near = difflib.get_close_matches(id, RECIPES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"no recipe is named {id!r}; {hint}legal: {', '.join(RECIPES)}")
    return RECIPES[id]


def _make_recipes() -> list[Recipe]:
    # The authors trained small models on 4 GPUs and large ones on 2, 2 examples on each (section IV-D2); stating the
    # global batch makes a row mean the same on other hardware.
    start = Recipe("base", "base model: N 64, R 8, one model and band split per target", "1", 32.3)
    base = dataclasses.replace(start, settings=apply_changes(start.settings, {"training.global_batch": 8}))
    naive = base.vary(
        "naive-stereo", "channels of a band merged", {"model.stereo.kind": "merged"}, row="10", parameters_m=37.1
    )
    large = base.vary(
        "large",
        "the original size",
        {"model.n_features": 128, "model.n_blocks": 12, "training.global_batch": 4},
        row="8",
        parameters_m=146.7,
    )
    umx_like = {f"training.mixing.{field}": value for field, value in UMX_LIKE.items()}
    attention = {"model.attention.heads": 2, "model.attention.encoding_dim": 16}
    tac = {"model.stereo.kind": "tac", "model.stereo.activation": "prelu"}
    dilated = {"kind": "dilated", "depth": 3, "kernel": 3, "hidden_factor": 1}
    optimised_no_tac = large.vary(
        "optimised-no-tac", "large, attention 2x16, patience 30, data as row 19",
        {**attention, "training.patience": 30, **umx_like},
        row="20", parameters_m=149.9,
    )  # fmt: skip
    simo = base.vary(
        "simo", "shared encoder, joint bands, four decoders",
        {"model.targets": list(TARGETS), "model.bands": "joint", **umx_like}, shared=True, parameters_m=26.62,
    )  # fmt: skip
    return [
        base,
        base.vary("accumulate-gradients", "global batch 16", {"training.global_batch": 16}, row="2", parameters_m=32.3),
        base.vary("monitor-loss", "best epoch by the loss", {"training.monitor": "loss"}, row="3", parameters_m=32.3),
        base.vary("loss-time", "loss of the signal alone", {"training.loss_domain": "t"}, row="4", parameters_m=32.3),
        base.vary("loss-tf", "loss of the spectrogram", {"training.loss_domain": "tf"}, row="5", parameters_m=32.3),
        base.vary(
            "stft-4096", "STFT window 4096, hop 1024",
            {"model.stft.n_fft": 4096, "model.stft.hop_samples": 1024}, row="6", parameters_m=37.1,
        ),
        base.vary("mask-factor-2", "mask factor mu 2", {"model.mask.hidden_factor": 2}, row="7", parameters_m=20.6),
        large,
        large.vary("large-patience-30", "large, patience 30", {"training.patience": 30}, row="9", parameters_m=146.7),
        naive,
        naive.vary(
            "naive-stereo-mask-8", "channels merged, mask factor mu 8", {"model.mask.hidden_factor": 8},
            row="11", parameters_m=81.1,
        ),
        base.vary(
            "tac-tanh", "TAC stereo, tanh", tac | {"model.stereo.activation": "tanh"}, row="12", parameters_m=34.7
        ),
        base.vary("tac-prelu", "TAC stereo, PReLU", tac, row="13", parameters_m=34.7),
        base.vary(
            "bscnn", "BSCNN: dilated convolutions for LSTMs", {"model.time": dilated, "model.band": dilated},
            row="14", parameters_m=29.7,
        ),
        base.vary(
            "attention-1x8", "attention over frames, 1 head of 8",
            {"model.attention.heads": 1, "model.attention.encoding_dim": 8}, row="15", parameters_m=33.0,
        ),
        base.vary("attention-2x16", "attention over frames, 2 heads of 16", attention, row="16", parameters_m=33.2),
        base.vary("multi-head-2", "features in 2 heads", {"model.heads": 2}, row="17", parameters_m=22.0),
        *_data_recipes(base),
        optimised_no_tac,
        optimised_no_tac.vary("optimised", "oBSRNN: with TAC stereo, PReLU", tac, row="20b", parameters_m=164.1),
        base.vary("base-patience-30", "base model, patience 30", {"training.patience": 30}, parameters_m=32.3),
        *_layer_recipes(base),
        base.vary(
            "joint-bands", "one band split for all targets, a model for each", {"model.bands": "joint", **umx_like}
        ),
        simo.vary("simo-residual", "shared encoder, other = residual", {"model.residual": "other"}, parameters_m=20.86),
        simo,
        simo.vary(
            "simo-optimised", "oBSRNN-SIMO: large, attention 2x16, TAC, patience 30",
            {
                "model.n_features": 128, "model.n_blocks": 12, **attention, **tac,
                "training.patience": 30, "training.global_batch": 4,
            },
            parameters_m=108.73,
        ),
        _demo(simo),
    ]  # fmt: skip


def _layer_recipes(base: Recipe) -> list[Recipe]:
    """LSTM, GRU and convolution along each axis; LSTM along both is the base model.

    Source: paper, section III-B2, which leaves the numbers to the authors' repository.
    """
    layers: dict[str, dict[str, Any]] = {"lstm": {}, "gru": {"kind": "gru"}, "conv": {"kind": "conv"}}
    recipes = []
    for time, band in itertools.product(layers, repeat=2):
        change = {f"model.{axis}": layers[kind] for axis, kind in (("time", time), ("band", band)) if layers[kind]}
        if change:
            recipes.append(base.vary(f"layers-{time}-{band}", f"{time} over frames, {band} over bands", change))
    return recipes


def _data_recipes(base: Recipe) -> list[Recipe]:
    """Rows 18 and 19, and the ladder from row 1 to row 19 that the paper leaves out: one change at each rung.

    Row 18 changes only what may be dropped; row 19 is the top of the ladder. Shuffling anew every epoch stands beside
    it: the paper saw no difference in preliminary experiments (section IV-A).
    """
    steps = [(field, {f"training.mixing.{field}": value}) for field, value in UMX_LIKE.items()]
    recipes = [
        base.vary(
            "silent-target", "data: only the target is dropped", {"training.mixing.drop": "target"},
            row="18", parameters_m=32.3,
        ),
        base.vary("pairing-epoch", "data: shuffled anew every epoch", {"training.mixing.pairing": "epoch"}),
    ]  # fmt: skip
    rung = base
    for number, (field, change) in enumerate(steps[:-1], start=1):
        rung = rung.vary(f"ladder-{number}-{field.replace('_', '-')}", f"data: rung {number} of row 1 to 19", change)
        recipes.append(rung)
    top = dict(pair for _, change in steps for pair in change.items())
    recipes.append(
        base.vary(
            "no-activity-detection", "data: as Open-Unmix, without activity detection", top, row="19", parameters_m=32.3
        )
    )
    return recipes


def _demo(simo: Recipe) -> Recipe:
    """A network of a size that learns something in minutes on two cores; not in the paper.

    Dilated stacks replace the LSTMs: the network hears real and imaginary parts, and rectified convolutions find their
    magnitude at once, where LSTMs spend hundreds of updates on a filter that does not listen. Merged channels halve
    the work, and so does hearing up to 11 kHz only. Some examples keep the stems of one song together: in real songs
    notes begin and chords agree across stems; random mixes, the others, are learnt from faster. Estimates that must sum
    to the mixture, twice the learning rate, and more examples of one song cost 0.7, 0.3 and 0.2 dB in short trials.
    """
    return simo.vary(
        "demo", "small and fast, for the demo; not in the paper",
        {
            "model.sample_rate_hz": 22050,
            "model.bands": [[100, 8], [200, 6], [500, 6], [1000, 3]],
            "model.stft.n_fft": 1024,
            "model.stft.hop_samples": 512,
            "model.n_features": 24,
            "model.n_blocks": 2,
            "model.time": {"kind": "dilated", "depth": 3},
            "model.band": {"kind": "dilated", "depth": 2},
            "model.stereo.kind": "merged",
            "model.mask.hidden_factor": 2,
            "training.excerpt_s": 1.0,
            "training.batch_size": 4,
            "training.global_batch": 4,
            "training.learning_rate": 0.015,
            "training.mixing.gain.low": 0.5,
            "training.mixing.same_song_probability": 0.3,
            "training.decay": {"kind": "cosine"},
            "training.examples_per_epoch": 560,
            "training.max_epochs": 12,
            "training.validate_every": 4,
        },
        parameters_m=None,
    )  # fmt: skip


RECIPES: dict[str, Recipe] = {recipe.id: recipe for recipe in _make_recipes()}
RECIPES |= {recipe.id: recipe for recipe in mini_recipes(RECIPES)}
"""All recipes by id, parents before children where the paper's order allows."""
