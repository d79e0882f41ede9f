"""The training loop: an explicit loop, since accumulation, rate scaling and early stopping are what the paper studies.

Source: paper, section IV-D; NUMERICS "Training".
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
from lightning_fabric import Fabric

from bandsplit.config import CosineDecay, RunConfig, StepDecay, TrainingConfig
from bandsplit.data.activity import index_activity
from bandsplit.data.dataset import Example, make_examples, shard_indices
from bandsplit.data.loading import load_batches
from bandsplit.data.tracks import Dataset, Track
from bandsplit.errors import RunError
from bandsplit.inference.separator import Separator, pick_device
from bandsplit.losses import separation_loss, spectrogram_loss
from bandsplit.metrics import usdr
from bandsplit.models.build import build_model
from bandsplit.models.files import ModelCard, save_model
from bandsplit.models.model import BandSplitModel
from bandsplit.training.checkpoint import Progress, RunFolder

SAVE_EVERY_S = 300.0
"""Seconds between states saved within an epoch; one is saved at each epoch's end and on SIGINT and SIGTERM too."""


class Validation(NamedTuple):
    """Means over the validation songs and the targets."""

    usdr_db: float
    loss: float


class Reporter(Protocol):
    """What a run tells while it goes on; `bandsplit.training.progress.TerminalProgress` shows it."""

    def start(self, folder: Path, config: RunConfig, learning_rate: float, updates: int, done: int) -> None:
        """The run begins or goes on, at update ``done`` of ``updates`` at most."""

    def step(self, epoch: int, loss: float) -> None:
        """An update is done; ``loss`` is the mean of the epoch so far."""

    def validated(self, epoch: int, loss: float, validation: Validation, best: bool) -> None:
        """The songs of the validation have been separated after ``epoch`` epochs."""

    def skipped(self, problem: str) -> None:
        """Examples are left out, since a song is missing or broken; told once for each reason."""


class Result(NamedTuple):
    """How a run ended."""

    best: Path
    best_epoch: int
    best_score: float
    epochs: int


def train(
    config: RunConfig,
    dataset: Dataset,
    root: Path,
    reporter: Reporter,
    *,
    device: str = "auto",
    workers: int = 0,
    resume: bool = False,
) -> Result:
    """Train one run to its end, or go on with it.

    The caller seeds torch before, so that the initial weights are those of ``config.seed``.

    Args:
        config: the run.
        dataset: songs with the splits ``train`` and ``valid``.
        root: folder of all runs.
        reporter: is told what happens.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: processes that prepare examples; 0 prepares them in this one. The result does not depend on it.
        resume: go on if the run exists; otherwise an existing run is refused.

    Raises:
        RunError: the run exists, cannot go on, was stopped by a signal, or its loss is not finite.
        DataError: the songs do not fit the model.
    """
    run = _Run(config, dataset, root, reporter, device, workers)
    run.open(resume)
    with _stop_on_signals() as stopped:
        while not run.progress.finished:
            run.train_epoch(stopped)
            run.end_epoch()
    progress = run.progress
    assert progress.best_score is not None
    return Result(run.folder.best, progress.best_epoch, progress.best_score, progress.epoch)


def learning_rate(config: TrainingConfig, global_batch: int, updates: int, updates_per_epoch: int) -> float:
    """Return the learning rate of the update after ``updates`` others: linear in the global batch, then decayed."""
    start = config.learning_rate * global_batch / 16
    match config.decay:
        case StepDecay(factor=factor, every_epochs=every):
            return start * factor ** (updates // updates_per_epoch // every)
        case CosineDecay():
            return start * 0.5 * (1 + math.cos(math.pi * updates / (updates_per_epoch * config.max_epochs)))


def validate(
    model: BandSplitModel, tracks: Sequence[Track], training: TrainingConfig, device: str | torch.device = "cpu"
) -> Validation:
    """Separate whole songs and compare with their stems."""
    separator = Separator(model, device=str(device), chunks=training.chunks)
    usdrs, losses = [], []
    for track in tracks:
        song = track.load()
        stems = separator.separate(song.mixture, track.sample_rate_hz)
        estimate = torch.stack([torch.as_tensor(stems[target]) for target in separator.targets])
        target = torch.stack([torch.as_tensor(song.stems[target]) for target in separator.targets])
        usdrs.append(float(usdr(target, estimate).mean()))
        losses.append(separation_loss(estimate[None], target[None], domain=training.loss_domain).item())
    return Validation(sum(usdrs) / len(usdrs), sum(losses) / len(losses))


class _Run:
    """The parts of a run in progress."""

    def __init__(
        self, config: RunConfig, dataset: Dataset, root: Path, reporter: Reporter, device: str, workers: int
    ) -> None:
        self.config, self.training, self.reporter, self.workers = config, config.training, reporter, workers
        self.dataset, self.folder = dataset, RunFolder(root, config)
        picked = pick_device(device)
        devices = [picked.index or 0] if picked.type == "cuda" else 1
        self.fabric = Fabric(accelerator=picked.type, devices=devices, precision="32-true")
        self.valid = dataset.whole_songs("valid")
        tracks, activity = dataset.songs("train"), self.training.mixing.activity
        self.examples = make_examples(
            tracks,
            config.model.targets,
            self.training.mixing,
            excerpt_s=self.training.excerpt_s,
            examples=self.training.examples_per_epoch,
            sample_rate_hz=config.model.sample_rate_hz,
            channels=config.model.channels,
            seed=config.seed,
            active=index_activity(dataset, tracks, activity) if activity else None,
            broken_song=self.training.broken_song,
        )
        self.global_batch = self.training.batch_size * self.training.accumulate * self.fabric.world_size
        self.updates_per_epoch = self.training.examples_per_epoch // self.global_batch
        self.progress = Progress()
        self.saved_at = time.monotonic()
        self.told: set[str] = set()

    def open(self, resume: bool) -> None:
        """Build the model, or restore it with everything else."""
        goes_on = self.folder.open(self.dataset, resume=resume)
        self.plain_model = build_model(self.config.model)
        # Fused: one kernel for all parameters instead of a dozen for each; the same update up to rounding.
        adam = torch.optim.Adam(self.plain_model.parameters(), lr=self._rate(), fused=True)
        self.model, self.optimizer = self.fabric.setup(self.plain_model, adam)
        self.model.mark_forward_method("spectrograms")
        if goes_on:
            state, self.progress = self.folder.load()
            self.plain_model.load_state_dict(state["model"], strict=True)
            self.optimizer.load_state_dict(state["optimizer"])
        updates = self.updates_per_epoch * self.training.max_epochs
        self.reporter.start(self.folder.path, self.config, self._rate(), updates, self._updates_done())

    def save(self) -> None:
        """Save the state."""
        state = {"model": self.plain_model.state_dict(), "optimizer": self.optimizer.state_dict()}
        self.folder.save(state, self.progress)
        self.saved_at = time.monotonic()

    def train_epoch(self, stopped: list[int]) -> None:
        """Do the updates that are left of this epoch."""
        self.model.train()
        waiting = self.training.accumulate
        for example in self._loader():
            waiting -= 1
            with self.fabric.no_backward_sync(self.model, enabled=waiting > 0):
                loss = self._loss(example)
                self.fabric.backward(loss / self.training.accumulate)
            self._count(loss.item(), all(example.problem))
            if waiting == 0:
                self._update()
                waiting = self.training.accumulate
                self._save_if_due(stopped)

    def _loss(self, example: Example) -> torch.Tensor:
        spectral = self.training.loss_domain == "tf"  # then nobody needs the signals
        outputs = [self.model.spectrograms(example.mixture)] if spectral else list(self.model(example.mixture))
        targets = example.targets
        missing = [problem for problem in example.problem if problem]
        if missing:
            self._report_missing(missing)
            kept = [number for number, problem in enumerate(example.problem) if not problem]
            if not kept:
                return 0.0 * outputs[0].abs().sum()  # other processes may have a batch: all must update together
            outputs, targets = [output[kept] for output in outputs], targets[kept]
        stft_config = self.config.model.stft
        if spectral:
            return spectrogram_loss(outputs[0], targets, stft_config)
        signals, spec = outputs
        domain = self.training.loss_domain
        return separation_loss(signals, targets, estimate_spec=spec, domain=domain, stft_config=stft_config)

    def _report_missing(self, problems: Sequence[str]) -> None:
        """Log why examples were left out; each reason is told once on the terminal."""
        for problem in problems:
            self.folder.log(epoch=self.progress.epoch + 1, skipped=problem)
            if problem not in self.told:
                self.told.add(problem)
                self.reporter.skipped(problem)

    def end_epoch(self) -> None:
        """Validate if it is time, keep the best model, and see whether the run is over."""
        progress, training = self.progress, self.training
        loss = progress.mean_loss
        if not progress.batches:
            raise RunError(f"{self.folder.path}: no example of epoch {progress.epoch + 1} could be made; see its log")
        progress.epoch, progress.examples, progress.loss_sum, progress.batches = progress.epoch + 1, 0, 0.0, 0
        last = progress.epoch >= training.max_epochs
        if last or progress.epoch % training.validate_every == 0:
            self._validate(loss)
        progress.finished = last or progress.epoch - progress.best_epoch >= training.patience
        self.save()

    def _validate(self, loss: float) -> None:
        progress = self.progress
        self.model.eval()
        validation = validate(self.plain_model, self.valid, self.training, self.fabric.device)
        score = validation.usdr_db if self.training.monitor == "usdr" else -validation.loss
        if not math.isfinite(score):
            raise RunError(f"{self.folder.path}: the validation score after epoch {progress.epoch} is {score}")
        best = progress.best_score is None or score > progress.best_score
        if best:
            progress.best_score, progress.best_epoch = score, progress.epoch
            save_model(self.folder.best, self.plain_model, self._card(validation))
        self.folder.log(
            epoch=progress.epoch, loss=loss, validation_usdr_db=validation.usdr_db, validation_loss=validation.loss,
            learning_rate=self._rate(), best=best, unix_time_s=round(time.time(), 3),
        )  # fmt: skip
        self.reporter.validated(progress.epoch, loss, validation, best)

    def _card(self, validation: Validation) -> ModelCard:
        changed = f", changed by hand: {self.config.changes}" if self.config.changes else ""
        return ModelCard(
            name=self.config.recipe + ("*" if changed else ""),
            training_data=f"{self.dataset.name}: {len(self.examples.tracks)} songs, {len(self.valid)} for validation"
            + "".join(f", {split} {print_}" for split, print_ in self.dataset.fingerprints.items() if split != "test"),
            licence="not stated by whoever trained it; the licence of the training data applies",
            source=f"trained with bandsplit, recipe {self.config.recipe}, seed {self.config.seed}{changed}",
            scores={"validation_usdr_db": validation.usdr_db, "validation_loss": validation.loss},
        )

    def _loader(self) -> Iterator[Example]:
        fabric, used = self.fabric, self.progress.examples
        total = self.updates_per_epoch * self.global_batch
        indices = shard_indices(total, used, fabric.global_rank, fabric.world_size)
        loader = load_batches(
            self.examples.at_epoch(self.progress.epoch),
            indices,
            self.training.batch_size,
            workers=self.workers,
            pin_memory=fabric.device.type == "cuda",
        )
        yield from cast(Iterator[Example], fabric.setup_dataloaders(loader, use_distributed_sampler=False))

    def _count(self, loss: float, missing: bool) -> None:
        progress = self.progress
        if not math.isfinite(loss):
            raise RunError(
                f"{self.folder.path}: the loss is {loss} in epoch {progress.epoch + 1}, in the batch that starts at "
                f"example {progress.examples} of it; lower training.learning_rate, or look at the songs"
            )
        if not missing:
            progress.loss_sum += loss
            progress.batches += 1
        progress.examples += self.training.batch_size * self.fabric.world_size

    def _update(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(before=1)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.training.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.reporter.step(self.progress.epoch + 1, self.progress.mean_loss)

    def _updates_done(self) -> int:
        return self.progress.epoch * self.updates_per_epoch + self.progress.examples // self.global_batch

    def _rate(self, before: int = 0) -> float:
        return learning_rate(self.training, self.global_batch, self._updates_done() - before, self.updates_per_epoch)

    def _save_if_due(self, stopped: list[int]) -> None:
        if stopped:
            self.save()
            name = signal.Signals(stopped[0]).name
            raise RunError(
                f"{self.folder.path}: stopped by {name}, state saved; the same command with --resume goes on"
            )
        if time.monotonic() - self.saved_at > SAVE_EVERY_S:
            self.save()


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying in the middle of an update; a second one acts as usual."""
    received: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may handle signals
        return

    def receive(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
