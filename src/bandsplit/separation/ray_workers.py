"""Workers on a Ray cluster: one actor each, with its own models. Paths travel to them, never audio."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from bandsplit.core.errors import BandsplitError, ConfigError
from bandsplit.core.interrupt import SIGNALS
from bandsplit.core.stores import Store, local_path
from bandsplit.separation.batch import Batch, Outcome, unexpected
from bandsplit.separation.outputs import OutputConfig
from bandsplit.separation.songs import Song
from bandsplit.separation.workers import Ended

if TYPE_CHECKING:
    from ray import ObjectRef

T = TypeVar("T")

_WAIT_S = 0.5
_ANSWER_S = 30.0
"""A cluster that does not answer for so long is lost; Ray itself would end this process after twice the time."""
_WATCH_S = 2.0
_PENDING_S = 60.0
"""An actor without a place in the cluster after so long is worth a note."""
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
        self._process = uuid4().hex

    def load(self) -> tuple[str, BandsplitError | None]:
        """Load the models; return a name that no other process has, and why they cannot be used."""
        try:
            self._batch = self._recipe.open()
        except BandsplitError as error:
            return self._process, error
        return self._process, None

    def attempt(self, song: Song) -> Outcome:
        """Separate a song."""
        assert self._batch is not None
        return self._batch.attempt(song, force=True, limit=lambda: False)  # the driver knows what is done, and the time


class RayWorkers:
    """Actors of a Ray cluster. Those that end, or are stopped, are started again by Ray."""

    def __init__(self, recipe: BatchRecipe, count: int | None, note: Callable[[str], object]) -> None:
        """Start the actors on the cluster of `connected`.

        Args:
            recipe: what each of them does.
            count: their number; None for one on each GPU of the cluster, or without any, one on each machine.
            note: called with a note for the user.
        """
        import ray

        self._ray, self._note = ray, note
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.count = count or usual_count(nodes)
        cpus, gpus = share_of(nodes, self.count)
        kind = ray.remote(
            max_restarts=-1,
            max_task_retries=0,  # the schedule counts the attempts at a song
            num_cpus=cpus,
            num_gpus=gpus,
            scheduling_strategy="SPREAD",
        )(Actor)
        self._actors: list[Any] = [kind.remote(recipe) for _ in range(self.count)]
        self._ready: list[ObjectRef[Any]] | None = [actor.__ray_ready__.remote() for actor in self._actors]
        self._address = ray.get_runtime_context().gcs_address
        self._began_s = self._watched_s = time.monotonic()
        self._silent_since_s: float | None = None
        self._calls: dict[ObjectRef[Any], int] = {}
        self._songs: dict[int, Song] = {}
        self._free: set[int] = set()
        self._failed_starts = [0] * self.count
        self._processes: list[str | None] = [None] * self.count
        self._killed: list[str | None] = [None] * self.count
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
        """Return the songs that ended; an actor that died gives a failure, and loads its models again.

        Raises:
            BandsplitError: the models cannot be used, workers cannot start, or the cluster has ended.
        """
        from ray.exceptions import RayError, RayTaskError

        self._watch()
        done, _ = self._ray.wait(list(self._calls), timeout=_WAIT_S)
        ended = []
        for call in done:
            worker = self._calls.pop(call)
            song = self._songs.pop(worker, None)
            value: Any
            try:
                value = self._ray.get(call)
            except RayTaskError as error:
                if song is None:
                    raise  # a mistake of this program
                value = unexpected(song, error.cause, str(error))
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
                if "trace" in value.record:  # it may have left anything behind, such as a GPU that computes no more
                    self._restart(worker)
                    continue
            else:
                process, problem = value
                if problem is not None:
                    raise problem
                if process == self._killed[worker]:  # it answered before it ended
                    self._load(worker)
                    continue
                self._processes[worker] = process
            self._failed_starts[worker] = 0
            self._free.add(worker)
        return ended

    def stop(self, worker: int) -> None:
        """Kill the process of an actor, which may hang; Ray starts another."""
        self._songs.pop(worker)
        self._calls = {call: other for call, other in self._calls.items() if other != worker}
        self._restart(worker)

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _watch(self) -> None:
        """See whether the cluster still answers, and once, whether it had a place for each actor."""
        now_s = time.monotonic()
        if now_s - self._watched_s < _WATCH_S:
            return
        self._watched_s = now_s
        try:
            _knock(self._address, _WAIT_S)
            self._silent_since_s = None
        except OSError:
            self._silent_since_s = self._silent_since_s or now_s
            if now_s - self._silent_since_s > _ANSWER_S:
                raise BandsplitError(
                    f"ray: the cluster at {self._address} has ended, or has not answered for {_ANSWER_S:.0f} s; songs "
                    f"that are done are kept; run the same command again to continue"
                ) from None
        if self._ready is not None and now_s - self._began_s > _PENDING_S:
            _, waiting = self._ray.wait(self._ready, num_returns=self.count, timeout=0)
            self._ready = None
            if waiting:
                self._note(
                    f"{len(waiting)} of {self.count} workers still wait for a place in the cluster, which may be used "
                    f"by others or have too few CPUs or GPUs; fewer workers: --jobs"
                )

    def _restart(self, worker: int) -> None:
        self._killed[worker] = self._processes[worker]
        self._ray.kill(self._actors[worker], no_restart=False)
        self._load(worker)

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


def usual_count(nodes: Sequence[Mapping[str, float]]) -> int:
    """Return the number of workers: one on each GPU of the machines, or without any, one on each with CPUs."""
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    return gpus or max(1, sum(node.get("CPU", 0) >= 1 for node in nodes))


def share_of(nodes: Sequence[Mapping[str, float]], count: int) -> tuple[float, float]:
    """Return the CPUs and GPUs of a worker, so that ``count`` of them find a place on the machines."""
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus:
        on_each = math.ceil(count / gpus)
        cpus = min(node.get("CPU", 0) / (int(node["GPU"]) * on_each) for node in nodes if node.get("GPU", 0) >= 1)
        return _even(cpus), _even(1 / on_each)
    sizes = [cpus for node in nodes if (cpus := node.get("CPU", 0)) >= 1] or [1.0]
    for cpus in range(int(min(sizes)), 0, -1):
        if sum(size // cpus for size in sizes) >= count:
            return cpus, 0
    return _even(1 / math.ceil(count / sum(map(int, sizes)))), 0


def _even(share: float) -> float:
    """Round down to what Ray counts with: complete units, and of one unit ten thousandths."""
    return math.floor(share) if share >= 1 else math.floor(share * 10_000) / 10_000


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine that ends with the context.

    Args:
        address: of the cluster; None for that of RAY_ADDRESS, or one on this machine.

    Raises:
        ConfigError: no cluster answers at the address, or none can start here.
    """
    import ray

    with _signals_kept():
        _connect(address or os.environ.get("RAY_ADDRESS"))
    try:
        yield
    finally:
        ray.shutdown()


def persist(start: Callable[[], T], attempts: int) -> T:
    """Start a cluster, again if it fails: Ray waits 30 s for itself, which a busy machine may exceed.

    Raises:
        Exception: that of the last attempt.
    """
    for _ in range(attempts - 1):
        with suppress(Exception):
            return start()
    return start()


def _connect(where: str | None) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report each run to its makers

    def start() -> object:
        return ray.init(
            address=where or "local",  # without, Ray would take any cluster of this machine, if there is one
            include_dashboard=None if where else False, log_to_driver=False,
            logging_level=logging.CRITICAL, ignore_reinit_error=True,
        )  # fmt: skip

    try:
        _knock(where or "", _ANSWER_S)
        persist(start, 1 if where else _STARTS)
    except Exception as error:  # of several kinds, and for the time limit Exception itself
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if where:
            has_token = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
            token = "" if has_token else "if it is there and asks for a token, set RAY_AUTH_MODE=token; "
            raise ConfigError(
                f"--ray-address {where}: no Ray cluster answers there ({reason}); {token}start one with `ray start "
                f"--head`, or leave the option and RAY_ADDRESS out to start one on this machine"
            ) from None
        raise ConfigError(f"--runner ray: Ray cannot start on this machine ({reason}); use --runner local") from None


def _knock(address: str, timeout_s: float) -> None:
    """Connect to HOST:PORT, and hang up: Ray itself takes minutes to find that nobody is there.

    Raises:
        OSError: nobody is there.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put the handlers of signals back that Ray replaces."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
