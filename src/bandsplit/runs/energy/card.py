"""The energy of a run as stored: one file for each attempt (and node), and the card that sums them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError

from bandsplit.core.files import write_atomically
from bandsplit.core.machine import memory_gb
from bandsplit.runs.energy.facts import (
    ANY_CORE_W,
    CORE_POWER,
    GPU_TDP,
    GREEN_ALGORITHMS,
    find_watts,
    green_algorithms_kwh,
)

Phase = Literal["preparation", "training", "validation"]
Part = Literal["cpu", "gpu", "memory"]
State = Literal["measured", "estimated", "absent"]
PHASES: tuple[Phase, ...] = ("preparation", "training", "validation")
PARTS: tuple[Part, ...] = ("cpu", "gpu", "memory")
JOULES_PER_KWH = 3.6e6


class EnergyRecord(BaseModel):
    """Base of what is stored and reported about energy."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Component(EnergyRecord):
    """Source of the joules of one part."""

    state: State
    how: str
    """The sensor, the model of the estimate, or the reason why both are missing."""
    watts: float | None = None
    """Power that an estimate is based on: the TDP of a CPU, the constant of memory."""
    needed: bool = True
    """False for the GPU of a run that uses none: it is then absent, but not missing."""


class Spent(EnergyRecord):
    """Time and energy of one phase of an attempt."""

    wall_s: NonNegativeFloat = 0.0
    joules: dict[Part, NonNegativeFloat] = {}
    """Raw: without PUE."""


class Hardware(EnergyRecord):
    """Facts that the Green Algorithms estimate needs."""

    cpu: str
    cores: NonNegativeInt
    """Physical cores available."""
    memory_gb: NonNegativeFloat
    gpus: tuple[str, ...] = ()
    """Names of the GPUs in use on this node."""
    gpu_tdp_w: float | None = None
    """Watts of each GPU, if a user gave them."""


class Intensity(EnergyRecord):
    """Emissions of the electricity."""

    g_per_kwh: NonNegativeFloat
    source: str


class Attempt(EnergyRecord):
    """Energy of one attempt at a run, on one node."""

    format: Literal[1] = 1
    attempt: NonNegativeInt
    node: NonNegativeInt = 0
    stopped: str | None = None
    """Why it stopped; None while it runs, and forever if it was killed."""
    started_unix_s: float
    updated_unix_s: float
    phases: dict[Phase, Spent]
    components: dict[Part, Component]
    tool: str
    """Name and version."""
    period_s: float
    """Seconds between two samples."""
    scope: str
    idle_w: dict[Part, float] = {}
    """Watts before anything ran, of the measured parts; empty without a sensor, and after the first attempt."""
    hardware: Hardware
    pue: float
    intensity: Intensity | None = None
    notes: tuple[str, ...] = ()

    @property
    def joules(self) -> float:
        """Raw energy of all parts."""
        return sum(sum(spent.joules.values()) for spent in self.phases.values())

    @property
    def wall_s(self) -> float:
        """Seconds of all phases."""
        return sum(spent.wall_s for spent in self.phases.values())


class EnergySum(EnergyRecord):
    """Time and energy of several attempts."""

    kwh: float
    joules: float
    wall_s: float
    """Nodes share the clock: the time of the first one."""


class PartSum(Component):
    """Energy of one part, and the weakest of its sources."""

    joules: float | None
    """None: there is no figure."""


class Emissions(Intensity):
    """CO2e of a run."""

    kg: float
    """With PUE."""
    pue: float


class AttemptSum(EnergyRecord):
    """One attempt, on one node."""

    attempt: int
    node: int
    stopped: str | None
    kwh: float
    wall_s: float
    updated_unix_s: float
    period_s: float


class GreenAlgorithms(EnergyRecord):
    """An estimate from hardware and time alone, next to the metered energy."""

    kwh: float | None
    """None: the power of a GPU is unknown."""
    usage: float
    inputs: dict[str, str]
    source: str


class EnergyCard(EnergyRecord):
    """The energy of a run: its attempts, summed. PUE is multiplied in where the name says so."""

    format: Literal[1] = 1
    total: EnergySum
    missing: tuple[str, ...]
    """Parts that were used but not accounted for."""
    pue: float
    """PUE of the last attempt; the intensity is that of the last attempt, too."""
    kwh_with_pue: float
    co2e: Emissions | None
    components: dict[Part, PartSum]
    phases: dict[Phase, EnergySum]
    attempts: tuple[AttemptSum, ...]
    idle_w: dict[Part, float] | None
    green_algorithms: GreenAlgorithms
    tool: str
    period_s: float
    scope: str
    hardware: Hardware
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    """Files that cannot be read."""

    @classmethod
    def of(cls, attempts: Sequence[Attempt], problems: Sequence[str] = ()) -> EnergyCard:
        """Sum attempts.

        Raises:
            ValueError: there is no attempt.
        """
        if not attempts:
            raise ValueError("a card needs at least one attempt")
        last = attempts[-1]
        total = _sum([(one.node, one.wall_s, one.joules) for one in attempts])
        with_pue = total.kwh * last.pue
        intensity = last.intensity
        return cls(
            total=total,
            missing=_missing(attempts),
            pue=last.pue,
            kwh_with_pue=with_pue,
            co2e=None
            if intensity is None
            else Emissions(kg=with_pue * intensity.g_per_kwh / 1000, pue=last.pue, **intensity.model_dump()),
            components={part: _sum_part(attempts, part) for part in PARTS},
            phases={phase: _sum_phase(attempts, phase) for phase in PHASES},
            attempts=tuple(
                AttemptSum(
                    attempt=one.attempt, node=one.node, stopped=one.stopped, kwh=one.joules / JOULES_PER_KWH,
                    wall_s=one.wall_s, updated_unix_s=one.updated_unix_s, period_s=one.period_s,
                )
                for one in attempts
            ),
            idle_w=next((one.idle_w for one in attempts if one.idle_w), None),
            green_algorithms=_green_algorithms(attempts),
            tool=last.tool,
            period_s=last.period_s,
            scope=last.scope,
            hardware=last.hardware,
            notes=tuple(dict.fromkeys(note for one in attempts for note in one.notes)),
            problems=tuple(problems),
        )  # fmt: skip

    @classmethod
    def read(cls, folder: Path) -> tuple[EnergyCard | None, list[str]]:
        """Return the card of a run, or None, and which files cannot be read.

        The card is summed from the attempts, so that a killed one counts; if only the card was kept, it is read.
        """
        attempts, problems = read_attempts(folder)
        if attempts:
            return cls.of(attempts, problems), problems
        file = folder / "energy.json"
        return (_read(file, cls, folder, problems) if file.exists() else None), problems


_R = TypeVar("_R", Attempt, EnergyCard)


def plain_hardware() -> Hardware:
    """Describe this machine as far as Python itself can."""
    return Hardware(cpu=platform.processor() or "unknown", cores=os.cpu_count() or 0, memory_gb=memory_gb())


def attempt_file(folder: Path, attempt: int, node: int = 0) -> Path:
    """Return where an attempt's energy is stored in the folder of a run."""
    return folder / "energy" / (f"attempt-{attempt}.json" if node == 0 else f"attempt-{attempt}.node-{node}.json")


def write_record(path: Path, record: Attempt | EnergyCard) -> None:
    """Write a file atomically: at any moment it is the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record.model_dump(mode="json"), indent=1).encode() + b"\n")


def read_attempts(folder: Path) -> tuple[list[Attempt], list[str]]:
    """Read all attempts of a run, in their order, and report which files cannot be read."""
    problems: list[str] = []
    found = [_read(path, Attempt, folder, problems) for path in folder.glob("energy/attempt-*.json")]
    return sorted((one for one in found if one), key=lambda one: (one.attempt, one.node)), sorted(problems)


def _read(path: Path, kind: type[_R], folder: Path, problems: list[str]) -> _R | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        problems.append(f"{path.relative_to(folder).as_posix()}: damaged ({reason}); its energy is not counted")
        return None


def _sum(spent: Sequence[tuple[int, float, float]]) -> EnergySum:
    """Sum the node, the seconds and the joules of each."""
    joules = sum(energy for *_, energy in spent)
    return EnergySum(kwh=joules / JOULES_PER_KWH, joules=joules, wall_s=sum(s for node, s, _ in spent if node == 0))


def _sum_phase(attempts: Sequence[Attempt], phase: Phase) -> EnergySum:
    spent = [(one.node, one.phases[phase]) for one in attempts if phase in one.phases]
    return _sum([(node, some.wall_s, sum(some.joules.values())) for node, some in spent])


def _sum_part(attempts: Sequence[Attempt], part: Part) -> PartSum:
    total = sum(sum(spent.joules.get(part, 0.0) for spent in one.phases.values()) for one in attempts)
    sources = [one.components[part] for one in attempts]
    # The weakest of the states that have a figure: measured and estimated together are an estimate.
    found = [source for source in sources if source.state != "absent"] or sources
    weakest = max(found, key=lambda source: ("measured", "estimated", "absent").index(source.state))
    return PartSum(joules=None if weakest.state == "absent" and not total else total, **weakest.model_dump())


def _missing(attempts: Sequence[Attempt]) -> tuple[str, ...]:
    return tuple(
        f"attempt {one.attempt}: {part}: {source.how}"
        for one in attempts
        for part, source in one.components.items()
        if source.state == "absent" and source.needed
    )


def _green_algorithms(attempts: Sequence[Attempt]) -> GreenAlgorithms:
    kwh: float | None = 0.0
    inputs: dict[str, str] = {}  # those of the last attempt stay
    for one in attempts:
        hardware = one.hardware
        core = find_watts(CORE_POWER, hardware.cpu)
        core_w = core.watts if core else ANY_CORE_W
        inputs["cpu"] = f"{hardware.cores} x {core_w:.4g} W per core: " + (
            f"{core.name}, {core.source}" if core else f"{hardware.cpu} is not in the table, so the value for any CPU"
        )
        inputs["memory"] = f"{hardware.memory_gb:.1f} GB"
        gpus_w = 0.0
        for name in hardware.gpus:
            found = find_watts(GPU_TDP, name)
            watts = hardware.gpu_tdp_w or (found.watts if found else None)
            if watts is None:
                # Without one GPU the sum would be too small: better no figure than a wrong one.
                kwh, inputs["gpu"] = None, f"{name} is not in the table; name its TDP in watts"
                break
            gpus_w += watts
            inputs["gpu"] = f"{len(hardware.gpus)} x {watts:g} W: " + (
                "TDP given by hand" if hardware.gpu_tdp_w or not found else f"{found.name}, {found.source}"
            )
        if kwh is not None:
            hours = one.wall_s / 3600
            kwh += green_algorithms_kwh(
                hours, cores=hardware.cores, core_w=core_w, gpus_w=gpus_w, memory_gb=hardware.memory_gb
            )
    return GreenAlgorithms(kwh=kwh, usage=1.0, inputs=inputs, source=GREEN_ALGORITHMS)
