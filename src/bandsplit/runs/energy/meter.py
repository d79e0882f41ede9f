"""Meters of energy while a run lasts: one per node, which never stops the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bandsplit.runs.energy.card import (
    JOULES_PER_KWH,
    PARTS,
    Attempt,
    Component,
    EnergyCard,
    Intensity,
    Part,
    Phase,
    Spent,
    attempt_file,
    plain_hardware,
    read_attempts,
    write_record,
)

if TYPE_CHECKING:
    import torch

    from bandsplit.runs.energy.interface import MakeMeter, Place
    from bandsplit.runs.energy.sensors import Sensors

PERIOD_S = 5.0
"""Seconds between two samples. Each is written, so a killed run loses at most this much."""
IDLE_S = 3.0
"""Seconds of rest at the start of the first attempt, where a sensor can measure idle power."""


class EnergyMeter:
    """Energy of one attempt at a run, on one node, and the card of the run.

    It never raises: a failure makes its parts absent, with the reason, in the files it writes. From `start` to the
    first `phase` the phase is preparation.

    Args:
        folder: folder of the run; files go to its ``energy/`` and to ``energy.json``.
        attempt: number of the attempt, from 1; if its file exists, the next free number is taken.
        device: device of the run; its GPU is measured, unless ``gpus`` lists all of them.
        gpus: numbers of all GPUs the run uses on this node, as torch counts them.
        node: number of the node; only node 0 writes the card.
        pue: power usage effectiveness of the place; stored next to the energy, never multiplied in.
        intensity: emissions of the electricity.
        gpu_tdp_w: watts of each GPU for the Green Algorithms estimate, if its table lacks the GPU.
        period_s: seconds between two samples.
        idle_s: seconds over which idle power is measured.
        clock: seconds since some moment, by which phases are timed.
    """

    def __init__(
        self,
        folder: Path,
        attempt: int,
        *,
        device: torch.device | str = "cpu",
        gpus: Sequence[int] | None = None,
        node: int = 0,
        pue: float = 1.0,
        intensity: Intensity | None = None,
        gpu_tdp_w: float | None = None,
        period_s: float = PERIOD_S,
        idle_s: float = IDLE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.node, self.pue, self.intensity = folder, node, pue, intensity
        self.period_s, self.idle_s, self.gpu_tdp_w = period_s, idle_s, gpu_tdp_w
        kind, _, index = str(device).partition(":")
        self.gpus = list(gpus) if gpus is not None else [int(index or 0)] if kind == "cuda" else []
        while attempt_file(folder, attempt, node).exists():
            attempt += 1
        self.attempt = attempt
        earlier, problems = read_attempts(folder)
        self._earlier_joules = sum(one.joules for one in earlier)
        self._earlier_wall_s = sum(one.wall_s for one in earlier if one.node == 0)
        self._continues = bool(earlier)
        self._notes: list[str] = problems
        self._sensors: Sensors | None = None
        self._components = _all_absent("the meter has not been started", bool(self.gpus))
        self._hardware = plain_hardware()
        self._tool, self._scope = "none", "nothing"
        self._idle_w: dict[Part, float] = {}
        self._phase: Phase = "preparation"
        self._spent: dict[Phase, Spent] = {}
        self._joules = 0.0
        self._last: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        self._clock = clock
        self._started = self._sampled = clock()
        self._started_unix_s = time.time()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopped: str | None = None

    def start(self) -> None:
        """Find the sensors, measure idle power if they can, and sample from now on."""
        self._started = self._sampled = self._clock()
        self._started_unix_s = time.time()
        with self._lock:
            self._try(self._open)
            self._sample()
            self._write()
        self._thread = threading.Thread(target=self._run, name="energy", daemon=True)
        self._thread.start()

    def phase(self, name: Phase) -> None:
        """Attribute energy to a phase from now on; takes about a millisecond."""
        with self._lock:
            if name != self._phase:
                self._sample()
                self._phase = name

    def kwh(self) -> float:
        """Return the raw energy of all attempts up to the last sample, without PUE."""
        return (self._earlier_joules + self._joules) / JOULES_PER_KWH

    def problem(self) -> str | None:
        """Return why no part is measured or estimated; None if one is."""
        parts = list(self._components.values())
        return None if any(part.state != "absent" for part in parts) else parts[0].how

    def wall_s(self) -> float:
        """Return the time of all attempts."""
        now = self._sampled if self._over.is_set() else self._clock()
        return self._earlier_wall_s + now - self._started

    def stop(self, reason: str) -> None:
        """Take the last sample and write the attempt and the card; a second call does nothing."""
        if self._over.is_set():
            return
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        with self._lock:
            self._stopped = reason
            self._sample()
            if self._sensors is not None:
                self._try(self._sensors.stop)
            self._write()
            if self.node == 0:
                with self._quietly("the card is not written"):
                    attempts, problems = read_attempts(self.folder)
                    card = EnergyCard.of(attempts or [self._record()], problems)
                    write_record(self.folder / "energy.json", card)

    # --- inside the lock ---------------------------------------------------------------------------------------------

    def _open(self) -> None:
        from bandsplit.runs.energy.sensors import Sensors

        self._sensors = sensors = Sensors(self.gpus)
        self._components, self._tool, self._scope = sensors.components, sensors.tool, sensors.scope
        self._hardware = sensors.hardware(self._gpu_names(), self.gpu_tdp_w)
        measured: list[Part] = [part for part, component in self._components.items() if component.state == "measured"]
        if measured and self.idle_s > 0 and not self._continues:
            before, start = sensors.read(), time.monotonic()
            time.sleep(self.idle_s)
            after, seconds = sensors.read(), time.monotonic() - start
            self._idle_w = {part: round((after[part] - before[part]) / seconds, 3) for part in measured}

    def _gpu_names(self) -> list[str]:
        if not self.gpus:
            return []
        import torch

        return [torch.cuda.get_device_name(gpu) for gpu in self.gpus]

    def _sample(self) -> None:
        """Add time and energy since the last sample to the phase under way."""
        joules = self._last
        if self._sensors is not None:
            joules = self._try(self._sensors.read) or self._last
        now = self._clock()
        before = self._spent.get(self._phase, Spent())
        gained: dict[Part, float] = {part: max(joules[part] - self._last[part], 0.0) for part in PARTS}
        self._spent[self._phase] = Spent(
            wall_s=before.wall_s + now - self._sampled,
            joules={part: before.joules.get(part, 0.0) + value for part, value in gained.items()},
        )
        self._joules += sum(gained.values())
        self._last, self._sampled = joules, now

    def _try(self, what: Callable[[], dict[Part, float] | None]) -> dict[Part, float] | None:
        """Call the sensors; if that fails, stop using them."""
        try:
            return what()
        except Exception as error:
            after = self._clock() - self._started
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if isinstance(error, ImportError):
                why += "; pip install 'bandsplit[train]' brings codecarbon"
            when = "" if after < 1 or self._tool == "none" else f" (from {after:.0f} s on)"
            self._sensors, self._components = None, _all_absent(f"the meter failed{when}: {why}", bool(self.gpus))
            return None

    @contextmanager
    def _quietly(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            note = f"{what}: {type(error).__name__}: {error}"
            if note not in self._notes:
                self._notes.append(note)

    def _write(self) -> None:
        with self._quietly("samples were not written"):
            write_record(attempt_file(self.folder, self.attempt, self.node), self._record())

    def _record(self) -> Attempt:
        sensors = self._sensors
        return Attempt(
            attempt=self.attempt,
            node=self.node,
            stopped=self._stopped,
            started_unix_s=self._started_unix_s,
            updated_unix_s=time.time(),
            phases=self._spent,
            components=self._components,
            tool=self._tool,
            period_s=self.period_s,
            scope=self._scope,
            idle_w=self._idle_w,
            hardware=self._hardware,
            pue=self.pue,
            intensity=self.intensity,
            notes=tuple(self._notes + (sensors.notes if sensors else [])),
        )

    def _run(self) -> None:
        while not self._over.wait(self.period_s):
            with self._lock:
                self._sample()
                self._write()


def meters(pue: float = 1.5, intensity: Intensity | None = None, gpu_tdp_w: float | None = None) -> MakeMeter:
    """Return a function that makes each attempt's meter, from arguments of `EnergyMeter`. PUE 1.5 is the paper's."""

    def make(folder: Path, attempt: int, place: Place) -> EnergyMeter:
        return EnergyMeter(
            folder, attempt, device=place.device, gpus=place.gpus, node=place.node,
            pue=pue, intensity=intensity, gpu_tdp_w=gpu_tdp_w,
        )  # fmt: skip

    return make


def _all_absent(why: str, uses_gpu: bool) -> dict[Part, Component]:
    absent = Component(state="absent", how=why)
    no_gpu = Component(state="absent", how="the run uses no GPU", needed=False)
    return {"cpu": absent, "gpu": absent if uses_gpu else no_gpu, "memory": absent}
