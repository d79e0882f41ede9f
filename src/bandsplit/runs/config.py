"""The configuration of a training run: everything that its result depends on, except the hardware."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from bandsplit.core.config import Config, hash8
from bandsplit.core.errors import ConfigError
from bandsplit.data.examples.mixing import MixingConfig, UnlabelledConfig
from bandsplit.models.chunk_config import ChunkConfig, CrossfadeConfig
from bandsplit.models.families import UNNAMED, AnyModelConfig, count_flop, tensor_shapes
from bandsplit.models.tensors import find_tensors, is_parameter
from bandsplit.runs.budgets import Budget
from bandsplit.runs.losses import (
    DEFAULT_LOSS,
    LossConfig,
    WaveformL1Loss,
    check_batch,
    in_current_form,
    in_earlier_form,
)
from bandsplit.runs.optimisers import AdamConfig, AdamWConfig, AnyAverage, DecayConfig, OptimizerConfig, StepDecay
from bandsplit.separation.chunk_choice import check_chunks

TrainingPrecision: TypeAlias = Literal["fp32", "tf32", "bf16", "fp16"]
"""Arithmetic of a training."""
_ADDED: dict[str, Any] = {
    "init": None,
    "training.budget": None,
    "training.freeze": [],
    "training.data_weights": [],
    "training.unlabelled": None,
    "training.warm_up_updates": 0,
    "training.optimizer.amsgrad": False,
    "training.optimizer.decayed": [],
    "training.average.kind": "single",
    "training.loss.weights": {},
    "training.mixing.augment.retune_probability": 0.0,
}
"""Settings that runs of earlier versions lack, and the values that continue what those did."""


class TrainingConfig(Config):
    """Training of a model (paper, section IV-D)."""

    loss: LossConfig = DEFAULT_LOSS
    """Loss."""
    optimizer: OptimizerConfig = AdamConfig()
    """Optimiser."""
    learning_rate: PositiveFloat = 1e-3
    """Learning rate at a global batch of 16."""
    learning_rate_rule: Literal["linear", "sqrt", "none"] = "linear"
    """Scaling of the learning rate with the global batch: times batch / 16, times its square root, or none."""
    warm_up_updates: NonNegativeInt = 0
    """Updates over which the learning rate rises linearly to its schedule; 0 for none."""
    decay: DecayConfig = StepDecay()
    """Schedule of the learning rate."""
    batch_size: PositiveInt = 2
    """Examples per step and device."""
    accumulate: PositiveInt = 1
    """Steps whose gradients are averaged before an update; they count towards the global batch."""
    global_batch: PositiveInt | None = None
    """Examples per update over all devices, whatever the hardware: the steps to accumulate are worked out from it.
    Null: batch_size x accumulate x devices, so that the result depends on the number of devices."""
    clip_norm: PositiveFloat | None = 5.0
    """Largest gradient norm; null for any."""
    precision: TrainingPrecision = "fp32"
    """Arithmetic: float32; float32 with products in TF32 on GPUs that have it; bfloat16 or float16 where PyTorch deems
    it safe, float16 on GPUs only and with scaled gradients."""
    average: AnyAverage | None = None
    """Averaging of the weights; null for none, as in the paper."""
    examples_per_epoch: PositiveInt = 20_000
    """Examples per epoch, over all devices."""
    excerpt_s: PositiveFloat = 3.0
    """Length of an example in seconds."""
    mixing: MixingConfig = MixingConfig()
    """Mixing of stems into examples."""
    data_weights: tuple[PositiveFloat, ...] = ()
    """Weights of several data sets, in their order: an example comes from one of them with a probability in proportion
    to its weight. Empty for one data set."""
    unlabelled: UnlabelledConfig | None = None
    """Semi-supervised fine-tuning: use of songs without stems, which a teacher separates; null for none."""
    freeze: tuple[str, ...] = ()
    """Parts of the model that are not trained: beginnings of names of tensors up to a dot, or patterns with * and ?."""
    broken_song: Literal["stop", "skip"] = "stop"
    """What to do when a song goes missing or breaks while training: stop, or report and leave its examples out."""
    max_epochs: PositiveInt = 200
    """Epochs at most."""
    patience: PositiveInt = 10
    """Epochs without a new best score before training stops."""
    budget: Budget | None = None
    """Price at which training stops, instead of after ``max_epochs`` or by ``patience``; the schedule of the learning
    rate, which would take ``max_epochs``, is stretched to it."""
    monitor: Literal["usdr", "loss"] = "usdr"
    """Validation quantity that selects the best epoch: mean uSDR over songs (largest) or mean loss (smallest)."""
    monitor_over: Literal["songs", "chunks"] = "songs"
    """uSDR of a song: of all its samples, or the median over pieces of ``chunks.chunk_s``, as in the authors' code."""
    validate_every: PositiveInt = 1
    """Epochs between validations. Patience still counts epochs."""
    validate_max_s: PositiveFloat | None = None
    """Seconds from the middle of each validation song that are separated; null for complete songs."""
    chunks: ChunkConfig = CrossfadeConfig()
    """Chunk plan of the validation."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_keys(cls, data: Any) -> Any:
        return in_current_form(data)

    @model_validator(mode="after")
    def _check(self) -> Self:
        activity = self.mixing.activity
        if activity and activity.segment_s < self.excerpt_s:
            raise ValueError(
                f"mixing.activity.segment_s: {activity.segment_s:g} is shorter than excerpt_s {self.excerpt_s:g}; "
                f"excerpts are drawn inside segments"
            )
        if self.unlabelled and self.unlabelled.segment_s < self.excerpt_s:
            raise ValueError(
                f"unlabelled.segment_s: {self.unlabelled.segment_s:g} is shorter than excerpt_s {self.excerpt_s:g}; "
                f"excerpts are drawn inside segments"
            )
        if self.chunks.tta or self.chunks.normalise is not None:
            raise ValueError("chunks: tta and normalise have no meaning in a validation; leave them out")
        if self.global_batch is not None and self.accumulate > 1:
            raise ValueError(
                f"accumulate: {self.accumulate} cannot be given with global_batch {self.global_batch}; leave "
                f"accumulate at 1, it is worked out"
            )
        check_batch(self.loss, self.batch_size)
        if self.examples_per_epoch < self.update_examples:
            parts = f"batch_size {self.batch_size} x accumulate {self.accumulate}"
            what = f"global_batch {self.global_batch}" if self.global_batch else parts
            raise ValueError(f"examples_per_epoch: {self.examples_per_epoch} is less than one update of {what}")
        return self

    @property
    def update_examples(self) -> int:
        """Examples of an update; without a global batch, those on one device."""
        return self.global_batch or self.batch_size * self.accumulate


class RunConfig(Config):
    """One training run: everything its result depends on, except the hardware."""

    recipe: str
    """Id of the recipe the run was made from."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Settings changed by hand; a run with any is not a row of a table."""
    seed: NonNegativeInt = 0
    """Seed of the initial weights and of every example."""
    init: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the model file that the weights start from; null for random weights."""
    model: AnyModelConfig
    """The model that is trained."""
    training: TrainingConfig
    """Settings of the training."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        model, training = self.model, self.training
        samples = round(training.excerpt_s * model.sample_rate_hz)
        try:
            fitting = model.geometry.fitting(samples)
            check_chunks(training.chunks, model.geometry, model.sample_rate_hz, "the model")
        except ConfigError as error:
            raise ValueError(f"training.excerpt_s, training.chunks: {error}") from None
        if samples != fitting:
            raise ValueError(
                f"training.excerpt_s: {training.excerpt_s:g} s are {samples} samples, which the model does not "
                f"take; use {fitting / model.sample_rate_hz!r}, {fitting} samples"
            )
        self._check_frozen()
        if training.unlabelled and len(model.targets) > 1:
            raise ValueError(
                f"training.unlabelled: pseudo-stems are of one target, the model estimates {', '.join(model.targets)}; "
                f"train a model for each"
            )
        if isinstance(training.loss, WaveformL1Loss):
            training.loss.weigh(model.targets)
        _ = self.decayed_tensors
        return self

    def _check_frozen(self) -> None:
        if not self.training.freeze:
            return
        if self.init is None:
            raise ValueError(
                "training.freeze: random weights would never be trained; name a model to start from, --init"
            )
        frozen = self.frozen_tensors
        if not any(is_parameter(name) and name not in frozen for name, _ in tensor_shapes(self.model)):
            raise ValueError(f"training.freeze: {', '.join(self.training.freeze)} leaves nothing to train; freeze less")

    @property
    def frozen_tensors(self) -> frozenset[str]:
        """Names of the model's tensors that are not trained."""
        return self._find_tensors("training.freeze", self.training.freeze)

    @property
    def decayed_tensors(self) -> frozenset[str]:
        """Names of the tensors that decay, if the optimiser lets some of them decay."""
        optimizer = self.training.optimizer
        some = optimizer.decayed if isinstance(optimizer, AdamWConfig) else ()
        return self._find_tensors("training.optimizer.decayed", some)

    def _find_tensors(self, field: str, patterns: Iterable[str]) -> frozenset[str]:
        try:
            return find_tensors(self.model, patterns)
        except ConfigError as error:
            raise ValueError(f"{field}: {error}") from None

    def update_flop(self, global_batch: int) -> int:
        """Return the counted operations of an update: forward and backward pass of its examples."""
        samples = round(self.training.excerpt_s * self.model.sample_rate_hz)
        return global_batch * count_flop(self.model, samples).step

    def paid_updates(self, global_batch: int) -> int | None:
        """Return the updates that a budget in counted operations pays for; None without such a budget.

        Raises:
            ConfigError: not even one.
        """
        budget = self.training.budget
        if budget is None or budget.kind != "flop":
            return None
        flop = self.update_flop(global_batch)
        if budget.share < flop:
            raise budget.too_small(f"an update of {self.recipe}", flop)
        return int(budget.share // flop)

    def hash8(self) -> str:
        """Return the eight digits of the configuration, for which a setting counts once it leaves its earlier meaning.

        So folders of runs keep their names: a model of the once unnamed family, the once only loss and settings that
        were added since are those that earlier versions stored.
        """
        data = self.model_dump(mode="json")
        if data["model"]["family"] == UNNAMED:
            del data["model"]["family"]
        data["training"] = in_earlier_form(data["training"])
        for path, value in _ADDED.items():
            *parents, last = path.split(".")
            level = reduce(lambda level, key: level.get(key) or {}, parents, data)
            if last in level and level[last] == value:
                del level[last]
        return hash8(data)

    def folder_in(self, root: Path) -> Path:
        """Return the run's folder: ``root/<recipe>/<targets>/seed-<k>-<hash8>``."""
        return root / self.recipe / "+".join(self.model.targets) / f"seed-{self.seed}-{self.hash8()}"
