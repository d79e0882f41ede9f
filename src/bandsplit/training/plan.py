"""Forecasts of the time, memory and energy of a run, from some steps, batches and a piece of a validation song."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from bandsplit.core.errors import ConfigError, RunError
from bandsplit.core.machine import peak_memory_mb
from bandsplit.core.unfinished import temporary_folder
from bandsplit.data.examples.dataset import Example, Examples
from bandsplit.data.examples.loading import AHEAD, load_batches
from bandsplit.data.songs.tracks import Dataset, Track
from bandsplit.runs.budgets import Budget
from bandsplit.runs.config import RunConfig
from bandsplit.runs.energy.card import JOULES_PER_KWH
from bandsplit.runs.energy.interface import MakeMeter, Place
from bandsplit.runs.losses import least_batch
from bandsplit.training.execution import BatchPlan, Execution, make_fabric, plan_batches
from bandsplit.training.initial import describe_initial, read_initial
from bandsplit.training.learner import Learner
from bandsplit.training.songs import pseudo_stems, songs_without_stems, training_examples, validation_songs
from bandsplit.training.validation import score_song

TRIAL_S = 20.0
"""Seconds of steps that are timed, at least `TRIAL_STEPS` of them."""
TRIAL_STEPS = 5


class Range(NamedTuple):
    """A prediction: the middle, and its bounds."""

    low: float
    middle: float
    high: float

    def times(self, factor: float) -> Range:
        """Scale all three."""
        return Range(*(value * factor for value in self))


class Fit(NamedTuple):
    """A batch that was tried."""

    batch_size: int
    checkpointing: bool
    examples_per_s: float | None
    """None: it does not fit."""
    memory_gb: float | None


@dataclass(frozen=True)
class RunForecast:
    """Prediction of the time, memory and energy of a run on this machine."""

    batches: BatchPlan
    update_s: Range
    """Time of an update: the 10, 50 and 90 % quantiles of the steps that were timed."""
    updates_per_epoch: int
    validation_s: float
    """Time of all validation songs, from the speed of a piece of one."""
    loaded_per_s: float
    """Examples per second that the loader delivers while nothing else runs."""
    needed_per_s: float
    """Examples per second that the steps of one device use up."""
    memory_gb: float
    """Peak memory of the GPU, or of this process on a CPU."""
    watts: float | None
    """Mean power while steps ran; None without a meter."""
    epochs: tuple[float, float]
    """Fewest (patience runs out at once) and most; under a budget, those that it pays for."""
    validate_every: int
    fits: tuple[Fit, ...] = ()
    start: tuple[tuple[str, str], ...] = ()
    """Loaded, fresh and frozen parts of a run that starts from another model, as rows of a name and a text."""
    budget: Budget | None = None

    @property
    def epoch_s(self) -> Range:
        """Seconds of an epoch, validation included."""
        # A loader that is slower than the steps sets the pace.
        slowest_s = max(self.update_s.middle, self.batches.batch_size * self.batches.accumulate / self.loaded_per_s)
        scale = slowest_s / self.update_s.middle
        validation_s = self.validation_s / self.validate_every
        return Range(*(value * scale * self.updates_per_epoch + validation_s for value in self.update_s))

    def hours(self, epochs: float) -> Range:
        """Hours of a number of epochs."""
        return self.epoch_s.times(epochs / 3600)

    def kwh(self, epochs: float) -> Range | None:
        """Energy of a number of epochs on all devices, without PUE."""
        return None if self.watts is None else self.hours(epochs).times(self.watts * self.batches.devices / 1000)

    @property
    def updates(self) -> float:
        """Updates at most."""
        return self.epochs[1] * self.updates_per_epoch

    def within(self, budget: Budget, paid_updates: int | None) -> RunForecast:
        """Return the forecast of a run with a budget, which pays for so many updates if it is one of operations.

        Raises:
            ConfigError: the budget is one of energy, which was not measured.
        """
        epoch_kwh = self.kwh(1)
        if paid_updates is not None:
            epochs = paid_updates / self.updates_per_epoch
        elif budget.kind == "time":
            epochs = budget.share / self.epoch_s.middle
        elif epoch_kwh is not None:
            epochs = budget.share / epoch_kwh.middle
        else:
            raise ConfigError(f"budget {budget}: energy is not measured; leave out --no-energy")
        return replace(self, epochs=(epochs, epochs), budget=budget)

    @property
    def starves(self) -> bool:
        """True if the steps will wait for examples."""
        return self.loaded_per_s < 1.1 * self.needed_per_s


def describe_plan(
    plan: RunForecast, *, price_kwh: float | None = None, price_hour: float | None = None
) -> list[tuple[str, str]]:
    """Describe a forecast in rows of a name and a prediction.

    Args:
        plan: the forecast.
        price_kwh: price of a kWh, in any currency.
        price_hour: price of an hour of all devices together.
    """
    fewest, most = plan.epochs
    loader = f"{plan.loaded_per_s:.1f} examples/s, steps need {plan.needed_per_s:.1f}"
    if plan.starves:
        loader += ": steps will wait; raise --workers, or pack the songs with `bandsplit data pack`"
    power = "not measured" if plan.watts is None else f"{plan.watts * plan.batches.devices:.0f} W while steps ran"
    rows = [
        *plan.start,
        ("batches", str(plan.batches)),
        ("update", _span(plan.update_s, "s")),
        ("examples of a device", loader),
        ("validation", f"{plan.validation_s:.0f} s every {plan.validate_every} epoch(s)"),
        ("epoch", _span(plan.epoch_s.times(1 / 60), "min")),
        ("peak memory", f"{plan.memory_gb:.1f} GB"),
        ("power", power),
    ]
    if plan.budget is not None:
        about = "" if plan.budget.kind == "flop" else "about "
        rows.append(("budget", f"{plan.budget}: {about}{plan.updates:.0f} updates, schedules stretched to them"))
    spans = {"at least": fewest, "at most": most} if fewest < most else {"run": most}
    for name, epochs in spans.items():
        hours, kwh = plan.hours(epochs), plan.kwh(epochs)
        text = f"{epochs:.4g} epochs: {_span(hours, 'h')}"
        text += "" if kwh is None else f"; {_span(kwh, 'kWh')}"
        cost = Range(0, 0, 0)
        for price, amount in ((price_kwh, kwh), (price_hour, hours)):
            if price is not None and amount is not None:
                cost = Range(*(a + b for a, b in zip(cost, amount.times(price), strict=True)))
        rows.append((name, text + (f"; cost {_span(cost, '')}" if cost.high else "")))
    return rows


def _span(value: Range, unit: str) -> str:
    middle = f"{value.middle:.3g} {unit}".strip()
    return f"{middle} ({value.low:.3g} to {value.high:.3g})"


def plan_run(
    config: RunConfig,
    dataset: Dataset,
    execution: Execution,
    make_meter: MakeMeter | None = None,
    init: Path | None = None,
) -> RunForecast:
    """Measure one device's share of the run, in this process; nothing is kept.

    Raises:
        ConfigError: the device or the batch is not possible, the data sets or ``init`` are not those of the run, or the
            budget is too small or cannot be measured.
        DataError: the songs do not fit the model.
        ModelFileError: ``init`` does not fit the model.
        RunError: a step does not fit into memory, nor does a smaller one.
    """
    devices = (execution.devices or 1) * (execution.nodes or 1)
    batches = plan_batches(config.training, devices, execution.batch_size)
    fabric = make_fabric(config.training, replace(execution, devices=1, nodes=1))
    initial = read_initial(init, config)
    songs, unlabelled = validation_songs(dataset, config.model), songs_without_stems(config, dataset)
    on_gpu = fabric.device.type == "cuda"
    fits = find_fits(config, batches, execution, fabric) if on_gpu else ()
    if fits and not any(fit.examples_per_s for fit in fits):
        raise RunError(f"one example does not fit into the memory of {fabric.device}, even with --checkpointing")
    learner = Learner(config, batches, execution, fabric, initial)
    examples = training_examples(config, dataset, pseudo_stems(config, unlabelled, learner.teacher, cache=None))
    loaded_per_s = _loader_rate(examples, batches, execution)
    if on_gpu:
        learner.check_fit()
        torch.cuda.reset_peak_memory_stats()
    endless = _endless(examples, batches, execution, fabric)
    steps_s, update_s, watts = _time_metered(learner, endless, make_meter)
    low, *_, high = statistics.quantiles(steps_s, n=10)
    middle = statistics.median(steps_s)
    # The GPU's caching allocator keeps more than its tensors take.
    memory_gb = torch.cuda.max_memory_reserved() / 1e9 if on_gpu else peak_memory_mb() / 1000
    forecast = RunForecast(
        batches=batches,
        update_s=Range(*(step_s * batches.accumulate + update_s for step_s in (low, middle, high))),
        updates_per_epoch=config.training.examples_per_epoch // batches.global_batch,
        validation_s=validation_s(learner, songs, devices),
        loaded_per_s=loaded_per_s,
        needed_per_s=batches.batch_size / middle,
        memory_gb=memory_gb,
        watts=watts,
        epochs=(min(config.training.patience + 1, config.training.max_epochs), config.training.max_epochs),
        validate_every=config.training.validate_every,
        fits=fits,
        start=tuple(describe_initial(initial, config)) if initial else (),
    )
    budget = config.training.budget
    return forecast if budget is None else forecast.within(budget, config.paid_updates(batches.global_batch))


def _time_metered(
    learner: Learner, batches: Iterable[Example], make_meter: MakeMeter | None
) -> tuple[list[float], float, float | None]:
    """Return the result of `_time_steps`, and the mean power in watts meanwhile; None without a meter."""
    if make_meter is None:
        return *_time_steps(learner, batches), None
    with temporary_folder() as folder:
        meter = make_meter(Path(folder), 1, Place.of(learner.fabric.device))
        meter.start()
        meter.phase("training")
        began = time.perf_counter()
        steps_s, update_s = _time_steps(learner, batches)
        meter.stop("planned")
        return steps_s, update_s, meter.kwh() * JOULES_PER_KWH / (time.perf_counter() - began)


def find_fits(config: RunConfig, batches: BatchPlan, execution: Execution, fabric: Fabric) -> tuple[Fit, ...]:
    """Try batches that the update can be made of, smaller to larger, with and without recomputed activations."""
    share = batches.batch_size * batches.accumulate
    least = least_batch(config.training.loss)
    sizes = [size for size in range(least, share + 1) if share % size == 0]
    fits = []
    for checkpointing in (False, True):
        for size in sizes:
            trial = replace(execution, checkpointing=checkpointing, batch_size=size)
            fit = _try(config, BatchPlan(size, share // size, batches.devices), trial, fabric)
            fits.append(fit)
            if fit.examples_per_s is None:
                break
    return tuple(fits)


def _try(config: RunConfig, batches: BatchPlan, execution: Execution, fabric: Fabric) -> Fit:
    on_gpu = fabric.device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    learner = Learner(config, batches, execution, fabric)
    try:
        learner.check_fit()
        began = time.perf_counter()
        for _ in range(3):
            learner.try_step()
        rate = 3 * batches.batch_size / (time.perf_counter() - began)
    except (RunError, torch.OutOfMemoryError):
        return Fit(batches.batch_size, execution.checkpointing, None, None)
    memory_gb = torch.cuda.max_memory_reserved() / 1e9 if on_gpu else None
    return Fit(batches.batch_size, execution.checkpointing, rate, memory_gb)


def _endless(examples: Examples, batches: BatchPlan, execution: Execution, fabric: Fabric) -> Iterable[Example]:
    loader = load_batches(
        examples, range(len(examples)), batches.batch_size, workers=execution.workers,
        pin_memory=fabric.device.type == "cuda",
    )  # fmt: skip
    while True:
        yield from fabric.setup_dataloaders(loader, use_distributed_sampler=False)  # type: ignore[misc]


def _time_steps(learner: Learner, batches: Iterable[Example]) -> tuple[list[float], float]:
    """Time steps without waiting for examples, and the update; the first ones warm up."""
    learner.train_mode()
    steps_s: list[float] = []
    updates_s: list[float] = []
    spent_s = 0.0
    for number, batch in enumerate(batches):
        began = time.perf_counter()
        learner.backward(batch, last=True).item()
        step_s = time.perf_counter() - began
        norm = learner.update(0.0)
        norm.item()
        update_s = time.perf_counter() - began - step_s
        if number >= 2:
            steps_s.append(step_s)
            updates_s.append(update_s)
            spent_s += step_s + update_s
        if len(steps_s) >= TRIAL_STEPS and spent_s > TRIAL_S:
            break
    return steps_s, statistics.median(updates_s)


def _loader_rate(examples: Examples, batches: BatchPlan, execution: Execution) -> float:
    size, ahead = batches.batch_size, AHEAD * max(1, execution.workers)
    count = min(len(examples), size * (20 + ahead))
    loader = iter(load_batches(examples, range(count), size, workers=execution.workers))
    next(loader)
    began = time.perf_counter()
    loaded = sum(len(batch.mixture) for batch in loader)
    # What the workers made ahead, before the clock started, does not count.
    early = ahead * size if execution.workers else 0
    return max(loaded - early, size) / (time.perf_counter() - began)


def validation_s(learner: Learner, songs: Sequence[Track], devices: int) -> float:
    """Estimate the seconds that a validation takes."""
    limit_s = learner.training.validate_max_s or float("inf")
    audio_s = sum(min(limit_s, song.samples / song.sample_rate_hz) for song in songs)
    return audio_s / _validation_rate(learner, songs[0]) / devices * len(learner.candidates)


def _validation_rate(learner: Learner, song: Track) -> float:
    """Measure the seconds of song separated per second, from two chunks in the middle of one."""
    piece_s = 2 * learner.training.chunks.chunk_s
    training = learner.training.model_copy(update={"validate_max_s": piece_s})
    began = time.perf_counter()
    score_song(learner.plain_model.eval(), song, training, learner.fabric.device)
    return min(piece_s, song.samples / song.sample_rate_hz) / (time.perf_counter() - began)
