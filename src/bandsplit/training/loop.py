"""The training loop: an explicit loop, since accumulation, rate scaling and early stopping are what the paper studies.

Source: docs/numerics.md#training; paper, section IV-D.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from bandsplit.core.errors import BandsplitError, RunError, RunStopped
from bandsplit.core.interrupt import stop_reason
from bandsplit.core.machine import environment
from bandsplit.data.examples.dataset import Example, shard_indices
from bandsplit.data.examples.loading import load_batches
from bandsplit.data.songs.tracks import Dataset
from bandsplit.models.files import save_model
from bandsplit.runs.config import RunConfig
from bandsplit.runs.energy.card import Phase
from bandsplit.runs.energy.interface import MakeMeter, Meter, Place
from bandsplit.runs.folder import RunFolder, TrainingPosition
from bandsplit.runs.optimisers import PlateauDecay
from bandsplit.runs.schema import (
    ERROR,
    LoggedNote,
    LoggedSkip,
    LoggedStart,
    LoggedStop,
    LoggedValidation,
    LogRow,
    SongValue,
    WeightsValue,
)
from bandsplit.training.card import describe_model
from bandsplit.training.clock import Clock
from bandsplit.training.execution import Execution, make_fabric, plan_batches
from bandsplit.training.initial import InitialModel, read_initial
from bandsplit.training.interrupt import Interruptions
from bandsplit.training.learner import Learner, Update
from bandsplit.training.pace import Pace, check_measured_budget
from bandsplit.training.reporters.events import Note, Reporter, Skipped, Start, Step, Validated, report_to
from bandsplit.training.songs import pseudo_stems, songs_without_stems, training_examples, validation_songs
from bandsplit.training.validation import validate_all


class TrainingResult(NamedTuple):
    """The end of a run."""

    best: Path
    best_epoch: int
    best_score: float
    epochs: int


def train(
    config: RunConfig,
    dataset: Dataset,
    root: Path,
    report: Reporter,
    *,
    execution: Execution | None = None,
    init: Path | None = None,
    resume: bool = False,
    make_meter: MakeMeter | None = None,
) -> TrainingResult:
    """Train one run to its end, or continue it.

    The caller seeds torch before, so that the initial weights are those of ``config.seed``.

    Args:
        config: the run.
        dataset: songs with the splits ``train`` and ``valid``, and further data sets for training.
        root: folder of all runs.
        report: called with each event, in the first process.
        execution: devices and processes; one device by default. The result does not depend on it, up to rounding.
        init: file of the model that the weights start from, if the run has an ``init``.
        resume: continue the run if it exists; otherwise an existing run is refused.
        make_meter: makes the meter of energy, once on each machine.

    Raises:
        RunError: the run exists, cannot continue, does not fit the device, or its loss is not finite.
        RunStopped: a signal or the time limit stopped it; its state is saved.
        ConfigError: the device or the batch is not possible, the data sets or ``init`` are not those of the run, or its
            budget does not pay for an update and a validation.
        DataError: the songs do not fit the model.
        ModelFileError: ``init`` does not fit the model.
    """
    execution = execution or Execution()
    fabric = make_fabric(config.training, execution)
    fabric.launch()
    initial = read_initial(init, config)
    run = _Run(config, dataset, root, report if fabric.is_global_zero else report_to(), execution, fabric, initial)
    run.open(resume, make_meter)
    try:
        run.begin(make_meter)
        with run.interruptions.watching():
            run.validate_teacher()
            while not run.progress.finished:
                run.train_epoch()
                run.end_epoch()
    except BaseException as error:
        with suppress(RunError):  # on a full disk, the log's last line cannot be written either
            run.close(_why_ended(error))
        raise
    run.close(run.progress.finished)
    progress = run.progress
    assert progress.best_score is not None
    return TrainingResult(run.folder.best, progress.best_epoch, progress.best_score, progress.epoch)


def _why_ended(error: BaseException) -> str:
    """Return the reason, as the log has it, why an attempt ended before the run did."""
    if isinstance(error, RunStopped):
        return error.reason
    if isinstance(error, KeyboardInterrupt):
        return stop_reason()
    return f"{ERROR}{str(error) or type(error).__name__}"


class _Run:
    """The parts of a run in progress."""

    def __init__(
        self, config: RunConfig, dataset: Dataset, root: Path, report: Reporter, execution: Execution, fabric: Fabric,
        initial: InitialModel | None,
    ) -> None:  # fmt: skip
        self.config, self.training, self.report, self.execution = config, config.training, report, execution
        self.dataset, self.folder, self.fabric = dataset, RunFolder(root, config), fabric
        self.valid, self.initial = validation_songs(dataset, config.model), initial
        self.unlabelled = songs_without_stems(config, dataset)
        self.batches = plan_batches(self.training, fabric.world_size, execution.batch_size)
        self.pace = Pace(config, self.batches, fabric)
        self.progress = TrainingPosition()
        self.interruptions = Interruptions(fabric, self.folder.path, execution.save_every_s, execution.max_s)
        self.meter: Meter | None = None
        self.attempt, self.wall_before_s, self.began = 1, 0.0, time.monotonic()
        self.reported: set[str] = set()
        self.unread: Update | None = None
        self.clock = Clock()

    # --- beginning and ending ----------------------------------------------------------------------------------------

    def open(self, resume: bool, make_meter: MakeMeter | None) -> None:
        """Build the model, check that a step fits and that the budget is enough, and lock the folder."""
        self.learner = Learner(self.config, self.batches, self.execution, self.fabric, self.initial)
        if self.initial is not None:
            self.initial = replace(self.initial, tensors={})  # the network has copied them
        if self.fabric.device.type == "cuda":
            self.learner.check_fit()
        problem: BandsplitError | None = None
        if self.fabric.is_global_zero:
            try:
                if self.pace.measured is not None and not self.folder.states:
                    check_measured_budget(self.learner, self.valid, make_meter)
                self.folder.open(self.dataset, resume=resume)
            except BandsplitError as error:
                problem = error
        problem = self.fabric.broadcast(problem)
        if problem is not None:
            raise problem

    def begin(self, make_meter: MakeMeter | None) -> None:
        """Restore the state, if there is one, and prepare the examples."""
        starts = self.folder.rows("start")
        self.wall_before_s = self.folder.wall_s()
        self.attempt = self.fabric.broadcast(len(starts) + 1)
        if make_meter is not None and self.fabric.local_rank == 0:
            device = self.fabric.device
            local = self.batches.devices // (self.execution.nodes or 1)
            gpus = () if device.type != "cuda" else tuple(range(local)) if local > 1 else (device.index or 0,)
            self.meter = make_meter(self.folder.path, self.attempt, Place(device, gpus, self.fabric.node_rank))
            self.meter.start()
        self._phase("preparation")
        found = self.folder.load(self._note)
        if found is not None:
            if starts and starts[-1]["global_batch"] != self.batches.global_batch:
                raise RunError(
                    f"{self.folder.path}: began with global batch {starts[-1]['global_batch']}, not with "
                    f"{self.batches}; continue with as many devices and the same --batch"
                )
            state, self.progress = found
            self.learner.load(state)
        self.pace.begin(self.progress, self.wall_before_s, self.meter)
        self.fabric.barrier()  # all have read the log: the first process may write to it
        options = {key: getattr(self.execution, key) for key in ("workers", "checkpointing", "compile")}
        self._log(LoggedStart(
            attempt=self.attempt, update=self.pace.updates_done(self.progress), learning_rate=self.pace.first_rate,
            global_batch=self.batches.global_batch, batch_size=self.batches.batch_size,
            accumulate=self.batches.accumulate, devices=self.batches.devices, **options, environment=environment(),
        ))  # fmt: skip
        cache, teacher = self.execution.cache_of(self.folder.path), self.learner.teacher
        pseudo = pseudo_stems(self.config, self.unlabelled, teacher, cache)
        self.examples = training_examples(self.config, self.dataset, pseudo)
        updates, done, share = self.pace.updates, self.pace.updates_done(self.progress), self.pace.share(self.progress)
        rate, initial = self.pace.first_rate, self.initial
        self.report(Start(self.folder.path, self.config, self.batches, rate, updates, done, initial, share))

    def close(self, reason: str) -> None:
        """Log why the attempt ended, write the energy card and unlock the folder."""
        if self.meter is not None:
            self.meter.stop(reason)
        try:
            self._log(LoggedStop(attempt=self.attempt, reason=reason, epoch=self.progress.epoch))
        finally:
            if self.fabric.is_global_zero:
                self.execution.remove_cache(self.folder.path, finished=bool(self.progress.finished))
                self.folder.close()

    def save(self) -> None:
        """Save the state."""
        self._share_losses()
        if self.fabric.is_global_zero:
            self.folder.save(self.learner.state(), self.progress, self.pace.updates_done(self.progress))
        self.interruptions.just_saved()

    # --- an epoch ----------------------------------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """Do the remaining updates of this epoch, or those that the budget still pays for."""
        if self.pace.is_over(self.progress):
            return
        self.learner.train_mode()
        self._phase("training")
        self.clock = Clock()
        update = Update(self.progress.examples)
        for example in self.clock.waits_for(self._loader()):
            self._report_problems(example)
            last = len(update.losses) + 1 == self.batches.accumulate
            update.losses.append(self.learner.backward(example, last=last))
            update.missing.append(all(example.problem))
            self.progress.examples += self.batches.batch_size * self.batches.devices
            self.clock.examples += self.batches.batch_size * self.batches.devices
            if last:
                self._step(update)
                update = Update(self.progress.examples)
                self._stop_or_save()
                if self.pace.is_over(self.progress):
                    return

    def validate_teacher(self) -> None:
        """Validate the network that a run with a teacher starts from, which is the first teacher."""
        if self.learner.teacher is not None and self.progress.best_score is None:
            self.save()
            self._phase("validation")
            self._validate(None)
            self.save()

    def end_epoch(self) -> None:
        """Validate if it is time, keep the best model, and check whether the run is over."""
        self._share_losses()
        progress, training = self.progress, self.training
        loss = progress.mean_loss
        if not progress.batches:
            raise RunError(f"{self.folder.path}: no example of epoch {progress.epoch + 1} could be made; see its log")
        last = self.pace.is_over(self.progress)
        validates = last or (progress.epoch + 1) % training.validate_every == 0
        if validates:
            self.save()  # a run that stops during the validation continues with it
        progress.epoch, progress.examples, progress.loss_sum, progress.batches = progress.epoch + 1, 0, 0.0, 0
        self.learner.end_epoch()
        if validates:
            self._phase("validation")
            self._validate(loss)
            self.pace.spend(self.progress, now=True)
        if last or self.pace.is_over(self.progress):
            progress.finished = "finished"
        elif training.budget is None and progress.epoch - progress.best_epoch >= training.patience:
            progress.finished = "patience"
        self.save()

    def _loader(self) -> Iterator[Example]:
        fabric, used = self.fabric, self.progress.examples
        total = self.pace.updates_per_epoch * self.batches.global_batch
        indices = shard_indices(total, used, fabric.global_rank, fabric.world_size)
        loader = load_batches(
            self.examples.at_epoch(self.progress.epoch),
            indices,
            self.batches.batch_size,
            workers=self.execution.workers,
            pin_memory=fabric.device.type == "cuda",
        )
        yield from cast(Iterator[Example], fabric.setup_dataloaders(loader, use_distributed_sampler=False))

    def _step(self, update: Update) -> None:
        """Update the weights, and read the losses of the update before, without waiting for the GPU."""
        rate = self.pace.rate(self.progress, before=1)  # the examples of this update are counted already
        update.norm = self.learner.update(rate)
        self.pace.spend(self.progress)
        self._read_update()
        self.unread = update
        done, loss = self.pace.updates_done(self.progress), self.progress.mean_loss
        kwh = self.meter.kwh() if self.meter else None
        speed, share = (self.clock.examples_per_s, self.clock.waiting), self.pace.share(self.progress)
        self.report(Step(self.progress.epoch + 1, done, loss, rate, *speed, kwh, share))

    def _read_update(self) -> None:
        """Add the losses of the last update, or stop if they are not finite.

        Scaled gradients that overflow are left out by the update, which tries a smaller scale.
        """
        update, self.unread = self.unread, None
        if update is None:
            return
        losses, norm = [loss.item() for loss in update.losses], float(cast(Tensor, update.norm))
        if not all(map(math.isfinite, losses)) or not (math.isfinite(norm) or self.learner.recovers):
            self._stop_not_finite(update, losses, norm)
        for loss, missing in zip(losses, update.missing, strict=True):
            if not missing:
                self.progress.loss_sum += loss
                self.progress.batches += 1

    def _stop_not_finite(self, update: Update, losses: list[float], norm: float) -> None:
        indices = list(range(update.first, update.first + self.batches.global_batch))
        songs = [self.examples.at_epoch(self.progress.epoch).songs(index) for index in indices]
        facts = {"epoch": self.progress.epoch + 1, "examples": indices, "losses": losses, "gradient_norm": norm}
        file = self.folder.write("not-finite.json", facts | {"songs": songs})
        raise RunError(
            f"{self.folder.path}: loss {losses} or gradient norm {norm} of epoch {self.progress.epoch + 1}, examples "
            f"{indices[0]} to {indices[-1]}, is not finite; {file.name} lists them and their songs. Lower "
            f"training.learning_rate, or check the songs; --resume continues from the last state"
        )

    def _share_losses(self) -> None:
        """Read the last losses, and take the mean over all processes."""
        self._read_update()
        progress = self.progress
        if self.fabric.world_size > 1:
            sums = torch.tensor([progress.loss_sum, progress.batches], dtype=torch.float64, device=self.fabric.device)
            mean = cast(Tensor, self.fabric.all_reduce(sums, reduce_op="mean")).tolist()
            progress.loss_sum, progress.batches = mean[0], math.ceil(mean[1])

    def _validate(self, loss: float | None) -> None:
        progress, training, place = self.progress, self.training, self.pace.epochs(self.progress)
        teacher, models, rate = self.learner.teacher, self.learner.candidates, self.pace.first_rate
        taught_by = teacher and teacher.hash
        validation, *others = validate_all(models, self.valid, training, self.fabric, self.interruptions.stop_alone)
        score, *lower = (one.score(training) for one in (validation, *others))
        for each in (score, *lower):
            if not math.isfinite(each):
                raise RunError(f"{self.folder.path}: the validation score after epoch {progress.epoch} is {each}")
        best = progress.best_score is None or score > progress.best_score
        if best:
            progress.best_score, progress.best_epoch, progress.best_at = score, progress.epoch, place
            if self.fabric.is_global_zero:
                card = describe_model(self.config, self.dataset, validation, self.initial, rate, teacher)
                save_model(self.folder.best, models[validation.weights], card)
            if teacher is not None:
                teacher.replace(models[validation.weights])
        elif isinstance(decay := training.decay, PlateauDecay) and progress.plateau(place) >= decay.patience:
            progress.decays, progress.decayed_epoch = progress.decays + 1, place
        self._log(LoggedValidation(
            epoch=progress.epoch, loss=loss, validation_usdr_db=validation.usdr_db, validation_loss=validation.loss,
            learning_rate=self.pace.rate(progress), best=best, waiting=self.clock.waiting,
            examples_per_s=self.clock.examples_per_s,
            wall_s=round(self.wall_before_s + time.monotonic() - self.began, 1),
            energy_kwh=self.meter.kwh() if self.meter else None,
            songs=tuple(SongValue(**song._asdict()) for song in validation.songs), weights=validation.weights,
            others=tuple(WeightsValue(weights=o.weights, usdr_db=o.usdr_db, loss=o.loss) for o in others),
            teacher=taught_by,
        ))  # fmt: skip
        self.report(Validated(progress.epoch, loss, validation, best, len(others)))

    def _stop_or_save(self) -> None:
        decision = self.interruptions.decide()
        if decision.stop or decision.save:
            self.save()
        if decision.stop:
            raise self.interruptions.stopped(decision.stop)

    def _report_problems(self, batch: Example) -> None:
        """Log why examples were left out, and other notes; each is reported once."""
        for note in {*filter(None, batch.note)} - self.reported:
            self.reported.add(note)
            self._note(note)
        for problem in filter(None, batch.problem):
            self._log(LoggedSkip(epoch=self.progress.epoch + 1, problem=problem))
            if problem not in self.reported:
                self.reported.add(problem)
                self.report(Skipped(problem))

    def _note(self, text: str) -> None:
        self._log(LoggedNote(text=text))
        self.report(Note(text))

    def _log(self, row: LogRow) -> None:
        if self.fabric.is_global_zero:
            self.folder.log(row)

    def _phase(self, name: Phase) -> None:
        if self.meter is not None:
            self.meter.phase(name)
