"""The configuration of a training run: everything that its result depends on, except the hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from bandsplit.core.config import Config, hash8
from bandsplit.core.errors import ConfigError
from bandsplit.data.examples.mixing import MixingConfig
from bandsplit.models.chunk_config import ChunkConfig, CrossfadeConfig
from bandsplit.models.families import UNNAMED, AnyModelConfig
from bandsplit.separation.chunk_choice import check_chunks


class AdamConfig(Config):
    """Adam (paper, section IV-D2)."""

    kind: Literal["adam"] = "adam"


class AdamWConfig(Config):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 0.01
    """Share of the weights that decays per update, times the learning rate."""


class StepDecay(Config):
    """Multiply the learning rate by ``factor`` every ``every_epochs`` epochs (paper, section IV-D2)."""

    kind: Literal["step"] = "step"
    factor: PositiveFloat = 0.98
    """Factor of one decay."""
    every_epochs: PositiveInt = 2
    """Epochs between decays."""


class CosineDecay(Config):
    """Follow half a cosine from the initial learning rate to zero over ``max_epochs``, step by step."""

    kind: Literal["cosine"] = "cosine"


class PlateauDecay(Config):
    """Multiply the learning rate by ``factor`` when the monitored score has not been beaten for ``patience`` epochs."""

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(default=0.5, gt=0, lt=1)
    """Factor of one decay."""
    patience: PositiveInt = 3
    """Epochs without a new best score before a decay; the count restarts after it."""


class AverageConfig(Config):
    """Exponential moving average of the weights; the averaged model is validated and kept."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """Share of the old average that each update keeps."""


class TrainingConfig(Config):
    """Training of a model (paper, section IV-D)."""

    loss_domain: Literal["t", "tf", "t+tf"] = "t+tf"
    """Terms of the loss: time signal, complex spectrogram, or both."""
    time_weight: PositiveFloat = 1.0
    """Factor of the signal term. At 1, the paper's balance, the spectrogram terms weigh about 39 times as much."""
    spectrogram_weight: PositiveFloat = 1.0
    """Factor of the two spectrogram terms."""
    optimizer: Annotated[AdamConfig | AdamWConfig, Field(discriminator="kind")] = AdamConfig()
    """Optimiser."""
    learning_rate: PositiveFloat = 1e-3
    """Learning rate at a global batch of 16."""
    learning_rate_rule: Literal["linear", "sqrt", "none"] = "linear"
    """Scaling of the learning rate with the global batch: times batch / 16, times its square root, or none."""
    decay: Annotated[StepDecay | CosineDecay | PlateauDecay, Field(discriminator="kind")] = StepDecay()
    """Schedule of the learning rate."""
    batch_size: PositiveInt = 2
    """Examples per step and device."""
    accumulate: PositiveInt = 1
    """Steps whose gradients are averaged before an update; they count towards the global batch."""
    global_batch: PositiveInt | None = None
    """Examples per update over all devices, whatever the hardware: the steps to accumulate are worked out from it.
    Null: batch_size x accumulate x devices, so that the result depends on the number of devices."""
    clip_norm: PositiveFloat = 5.0
    """Largest gradient norm."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Arithmetic: float32; float32 with products in TF32 on GPUs that have it; bfloat16 where PyTorch deems it safe."""
    average: AverageConfig | None = None
    """Averaging of the weights; null for none, as in the paper."""
    examples_per_epoch: PositiveInt = 20_000
    """Examples per epoch, over all devices."""
    excerpt_s: PositiveFloat = 3.0
    """Length of an example in seconds."""
    mixing: MixingConfig = MixingConfig()
    """Mixing of stems into examples."""
    broken_song: Literal["stop", "skip"] = "stop"
    """What to do when a song goes missing or breaks while training: stop, or report and leave its examples out."""
    max_epochs: PositiveInt = 200
    """Epochs at most."""
    patience: PositiveInt = 10
    """Epochs without a new best score before training stops."""
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        activity = self.mixing.activity
        if activity and activity.segment_s < self.excerpt_s:
            raise ValueError(
                f"mixing.activity.segment_s: {activity.segment_s:g} is shorter than excerpt_s {self.excerpt_s:g}; "
                f"excerpts are drawn inside segments"
            )
        if self.global_batch is not None and self.accumulate > 1:
            raise ValueError(
                f"accumulate: {self.accumulate} cannot be given with global_batch {self.global_batch}; leave "
                f"accumulate at 1, it is worked out"
            )
        update = self.global_batch or self.batch_size * self.accumulate
        if self.examples_per_epoch < update:
            parts = f"batch_size {self.batch_size} x accumulate {self.accumulate}"
            what = f"global_batch {self.global_batch}" if self.global_batch else parts
            raise ValueError(f"examples_per_epoch: {self.examples_per_epoch} is less than one update of {what}")
        return self


class RunConfig(Config):
    """One training run: everything its result depends on, except the hardware."""

    recipe: str
    """Id of the recipe the run was made from."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Settings changed by hand; a run with any is not a row of a table."""
    seed: NonNegativeInt = 0
    """Seed of the initial weights and of every example."""
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
        return self

    def hash8(self) -> str:
        """Return the eight digits of the configuration; a model of the once unnamed family keeps its earlier ones."""
        data = self.model_dump(mode="json")
        if data["model"]["family"] == UNNAMED:
            del data["model"]["family"]
        return hash8(data)

    def folder_in(self, root: Path) -> Path:
        """Return the run's folder: ``root/<recipe>/<targets>/seed-<k>-<hash8>``."""
        return root / self.recipe / "+".join(self.model.targets) / f"seed-{self.seed}-{self.hash8()}"
