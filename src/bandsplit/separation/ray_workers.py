"""Workers on a Ray cluster: one actor each, with its own models. Paths travel to them, never audio."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bandsplit.core.errors import BandsplitError, ConfigError
from bandsplit.core.interrupt import SIGNALS
from bandsplit.core.stores import Store, local_path
from bandsplit.separation.batch import Batch, Outcome
from bandsplit.separation.outputs import OutputConfig
from bandsplit.separation.songs import Song
from bandsplit.separation.workers import Ended

if TYPE_CHECKING:
    from ray import ObjectRef

_WAIT_S = 0.5
_ANSWER_S = 30.0
_STARTS = 5
"""A worker that could not start this many times in a row ends the run."""


@dataclass(frozen=True)
class BatchRecipe:
    """All that an actor needs to make the batch of its driver, on any machine that has the model files."""

    models: Sequence[str]
    options: Mapping[str, Any]
    """Options of `Separator`."""
    out: str
    output: OutputConfig
    part: Mapping[str, float | None]

    @classmethod
    def of(
        cls, models: Sequence[Path], options: Mapping[str, Any], out: str, output: OutputConfig,
        part: Mapping[str, float | None],
    ) -> BatchRecipe:  # fmt: skip
        """Take what the driver has, with paths that any process understands."""
        local = local_path(out)
        where = out if local is None else str(local.absolute())
        return cls([str(model.absolute()) for model in models], options, where, output, part)

    def open(self) -> Batch:
        """Load the models.

        Raises:
            BandsplitError: they cannot be used here.
        """
        from bandsplit.separation.separator import Separator

        return Batch(Separator(list(self.models), **self.options), Store(self.out), self.output, **self.part)  # type: ignore[arg-type]


class Actor:
    """The process of a worker."""

    def __init__(self, recipe: BatchRecipe) -> None:
        """Take the recipe; the models are loaded by `load`, whose errors reach the driver."""
        self._recipe = recipe
        self._batch: Batch | None = None

    def load(self) -> BandsplitError | None:
        """Load the models; return why they cannot be used."""
        try:
            self._batch = self._recipe.open()
        except BandsplitError as error:
            return error
        return None

    def attempt(self, song: Song) -> Outcome:
        """Separate a song."""
        assert self._batch is not None
        return self._batch.attempt(song, force=True, limit=lambda: False)  # the driver knows what is done, and the time


class RayWorkers:
    """Actors of a Ray cluster. Those that end, or are stopped, are started again by Ray."""

    def __init__(self, recipe: BatchRecipe, count: int | None, address: str | None) -> None:
        """Connect to a cluster, or start one on this machine, and start the actors.

        Args:
            recipe: what each of them does.
            count: their number; None for one on each GPU of the cluster, or without any, one on each machine.
            address: of the cluster; None for that of RAY_ADDRESS, or one on this machine that ends with this process.

        Raises:
            ConfigError: no cluster answers at the address.
        """
        import ray

        self._ray = ray
        with _signals_kept():
            _connect(address)
        try:
            total = ray.cluster_resources()
            gpus, cpus = total.get("GPU", 0), total.get("CPU", 1)
            nodes = [node for node in ray.nodes() if node["Alive"]]
            self.count = count or int(gpus) or len(nodes)
            share = min([cpus / self.count, *(node["Resources"].get("CPU", 1) for node in nodes)])
            kind = ray.remote(
                max_restarts=-1,
                max_task_retries=0,  # the schedule counts the attempts at a song
                num_cpus=int(share) or share,
                num_gpus=min(1, gpus / self.count),
                scheduling_strategy="SPREAD",
            )(Actor)
            self._actors: list[Any] = [kind.remote(recipe) for _ in range(self.count)]
        except BaseException:
            ray.shutdown()
            raise
        self._calls: dict[ObjectRef[Any], int] = {}
        self._songs: dict[int, Song] = {}
        self._free: set[int] = set()
        self._failed_starts = [0] * self.count
        for worker in range(self.count):
            self._load(worker)

    def free(self) -> Sequence[int]:
        """Return the actors that have loaded their models and have no song."""
        return sorted(self._free)

    def start(self, worker: int, song: Song) -> None:
        """Send the name of a song to an actor."""
        self._free.discard(worker)
        self._songs[worker] = song
        self._calls[self._actors[worker].attempt.remote(song)] = worker

    def wait(self) -> Sequence[Ended]:
        """Return the songs that ended; an actor that died gives a failure, and loads its models again."""
        from ray.exceptions import RayError, RayTaskError

        done, _ = self._ray.wait(list(self._calls), timeout=_WAIT_S)
        ended = []
        for call in done:
            worker = self._calls.pop(call)
            song = self._songs.pop(worker, None)
            try:
                value = self._ray.get(call)
            except RayTaskError:
                raise  # a mistake of this program
            except RayError as error:
                if song is None:
                    self._count_failed_start(worker, error)
                else:
                    text = f"{song.name}: its worker ended while it separated it ({type(error).__name__})"
                    fix = "a song that is too long for the memory of a worker needs fewer of them, or a shorter --chunk"
                    ended.append((worker, Outcome("failed", {}, None, BandsplitError(f"{text}; {fix}"), "worker")))
                self._load(worker)
                continue
            if song is not None:
                ended.append((worker, value))
            elif value is not None:
                raise value
            self._failed_starts[worker] = 0
            self._free.add(worker)
        return ended

    def stop(self, worker: int) -> None:
        """Kill the process of an actor, which may hang; Ray starts another."""
        self._songs.pop(worker)
        self._calls = {call: other for call, other in self._calls.items() if other != worker}
        self._ray.kill(self._actors[worker], no_restart=False)
        self._load(worker)

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._ray.shutdown()

    def _load(self, worker: int) -> None:
        # Unlike a song, this waits until the actor has been started again, on another machine if need be.
        self._calls[self._actors[worker].load.options(max_task_retries=-1).remote()] = worker

    def _count_failed_start(self, worker: int, error: Exception) -> None:
        self._failed_starts[worker] += 1
        if self._failed_starts[worker] == _STARTS:
            raise BandsplitError(
                f"ray: a worker ended {_STARTS} times while it loaded the models ({type(error).__name__}); it may have "
                f"too little memory: use fewer workers (--jobs)"
            )


def _connect(address: str | None) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report each run to its makers
    where = address or os.environ.get("RAY_ADDRESS")
    try:
        _knock(where or "")
        ray.init(
            address=where or "local",  # without, Ray would take any cluster of this machine, if there is one
            include_dashboard=None if where else False, log_to_driver=False,
            logging_level=logging.CRITICAL, ignore_reinit_error=True,
        )  # fmt: skip
    except Exception as error:  # of several kinds, and for the time limit Exception itself
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if where:
            raise ConfigError(
                f"--ray-address {where}: no Ray cluster answers there ({reason}); start one with `ray start --head`, "
                f"or leave the option and RAY_ADDRESS out to start one on this machine"
            ) from None
        raise ConfigError(f"--runner ray: Ray cannot start on this machine ({reason}); use --runner local") from None


def _knock(address: str) -> None:
    """Connect to HOST:PORT, and hang up: Ray itself takes minutes to find that nobody is there."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put the handlers of signals back that Ray replaces."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
