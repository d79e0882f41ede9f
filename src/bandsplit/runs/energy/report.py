"""Energy of a project: all runs, the share of the best model, and everyday equivalents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bandsplit.core.errors import RunError
from bandsplit.runs.energy.card import PHASES, EnergyCard, EnergyRecord, Intensity, Part, Phase, State
from bandsplit.runs.energy.facts import EQUIVALENTS
from bandsplit.runs.records import RunRecord, read_run

BEST_MODEL = (
    "of each recipe and target, the run with the highest validation uSDR in its log; of the recipes with the most "
    "targets, the one with the highest mean of these"
)
"""Definition of the best model; several runs where each target has a model of its own, as in the paper's rows."""


class ReportLine(EnergyRecord):
    """One run with a card."""

    folder: str
    recipe: str
    """With a star if settings were changed by hand."""
    targets: tuple[str, ...]
    seed: int | None
    state: str
    best: bool
    """Whether it belongs to the best model."""
    best_usdr_db: float | None
    attempts: int
    hours: float
    phases_kwh: dict[Phase, float | None]
    """Without PUE, as ``kwh``."""
    kwh: float
    pue: float
    kwh_with_pue: float
    co2e_kg: float | None
    """With PUE."""
    intensity: Intensity | None
    green_algorithms_kwh_with_pue: float | None
    components: dict[Part, State]
    missing: tuple[str, ...]
    """Parts that were used but not accounted for."""
    problems: tuple[str, ...]
    """Files that cannot be read."""


class RunWithoutCard(EnergyRecord):
    """A run that is not counted."""

    folder: str
    problems: tuple[str, ...]


class ReportTotal(EnergyRecord):
    """Sums over the lines, each with the number of runs that it sums, since some lack a figure."""

    runs: int
    hours: float
    hours_runs: int
    kwh: float
    kwh_runs: int
    kwh_with_pue: float
    kwh_with_pue_runs: int
    co2e_kg: float | None
    co2e_kg_runs: int
    green_algorithms_kwh_with_pue: float | None
    green_algorithms_kwh_with_pue_runs: int

    @classmethod
    def of(cls, lines: Sequence[ReportLine]) -> ReportTotal:
        """Sum the lines."""

        def known(values: Iterable[float | None]) -> list[float]:
            return [value for value in values if value is not None]

        co2e_kg = known(line.co2e_kg for line in lines)
        green_kwh = known(line.green_algorithms_kwh_with_pue for line in lines)
        return cls(
            runs=len(lines),
            hours=sum(line.hours for line in lines),
            hours_runs=len(lines),
            kwh=sum(line.kwh for line in lines),
            kwh_runs=len(lines),
            kwh_with_pue=sum(line.kwh_with_pue for line in lines),
            kwh_with_pue_runs=len(lines),
            co2e_kg=sum(co2e_kg) if co2e_kg else None,
            co2e_kg_runs=len(co2e_kg),
            green_algorithms_kwh_with_pue=sum(green_kwh) if green_kwh else None,
            green_algorithms_kwh_with_pue_runs=len(green_kwh),
        )


class BestModel(EnergyRecord):
    """Energy of the best model, and the ratio of all runs to it."""

    meaning: str
    runs: tuple[str, ...]
    kwh_with_pue: float | None
    """None: there is no best model, or one of its runs has no card."""
    total_to_best: float | None


class EquivalentCount(EnergyRecord):
    """A number of everyday things that take as much energy as all runs, with PUE."""

    number: float
    what: str
    kwh_of_one: float
    source: str

    def __str__(self) -> str:
        """Return number and things; a number below 0.01 is written as ``less than 0.01``."""
        number = self.number
        about = f"{number:.0f}" if number >= 100 else f"{number:.3g}"
        return f"{about if number >= 0.01 or number == 0 else 'less than 0.01'} {self.what}"


class EnergyReport(EnergyRecord):
    """The energy of a project."""

    runs: tuple[ReportLine, ...]
    without_card: tuple[RunWithoutCard, ...]
    total: ReportTotal
    best: BestModel
    equivalents: tuple[EquivalentCount, ...]


@dataclass(frozen=True)
class RunEnergy:
    """Record and energy card of one run."""

    record: RunRecord
    card: EnergyCard | None
    problems: tuple[str, ...] = ()
    """Energy files that cannot be read."""

    @property
    def best_usdr_db(self) -> float | None:
        """Highest validation uSDR; None before the first validation."""
        return max((row.validation_usdr_db for row in self.record.validations), default=None)


def find_runs(paths: Iterable[Path]) -> list[RunEnergy]:
    """Find the runs in folders, each of one run or of many.

    Raises:
        RunError: a folder does not exist, or holds no run.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise RunError(f"{path}: is not a folder; give the folder of a run or of many, as `train --runs` makes it")
        marks = [*path.rglob("config.json"), *path.rglob("energy.json"), *path.rglob("energy/attempt-*.json")]
        found = {mark.parent.parent if mark.parent.name == "energy" else mark.parent for mark in marks}
        if not found:
            raise RunError(f"{path}: holds no run (no config.json, no energy.json); give a folder that `train` wrote")
        folders |= {folder.resolve(): folder for folder in sorted(found)}
    return [read_energy(folder) for folder in folders.values()]


def read_energy(folder: Path) -> RunEnergy:
    """Read the record and the energy card of a run; files that cannot be read become problems."""
    card, problems = EnergyCard.read(folder)
    return RunEnergy(read_run(folder), card, tuple(problems))


def best_runs(found: Iterable[RunEnergy]) -> list[RunEnergy]:
    """Return the runs of the best model, see `BEST_MODEL`; empty if no run was validated."""
    best: dict[str, dict[tuple[str, ...], tuple[float, RunEnergy]]] = {}
    for run in found:
        score, record = run.best_usdr_db, run.record
        if score is None or record.changes:
            continue
        winners = best.setdefault(record.label, {})
        if record.targets not in winners or score > winners[record.targets][0]:
            winners[record.targets] = score, run

    def rank(recipe: str) -> tuple[int, float]:
        scores = [(score, target) for targets, (score, _) in best[recipe].items() for target in targets]
        return len({target for _, target in scores}), sum(score for score, _ in scores) / len(scores)

    return [run for _, run in best[max(best, key=rank)].values()] if best else []


def make_report(
    found: Sequence[RunEnergy], *, pue: float | None = None, intensity: Intensity | None = None
) -> EnergyReport:
    """Sum a project.

    Args:
        found: all its runs.
        pue: replaces the PUE of each card.
        intensity: replaces the intensity of each card.
    """
    best = tuple(str(run.record.folder) for run in best_runs(found))
    lines = [_line(run, run.card, best, pue, intensity) for run in found if run.card is not None]
    total = ReportTotal.of(lines)
    kwh = {line.folder: line.kwh_with_pue for line in lines if line.best}
    best_kwh = sum(kwh[folder] for folder in best) if best and len(kwh) == len(best) else None
    return EnergyReport(
        runs=tuple(lines),
        without_card=tuple(
            RunWithoutCard(folder=str(run.record.folder), problems=run.problems) for run in found if run.card is None
        ),
        total=total,
        best=BestModel(
            meaning=BEST_MODEL,
            runs=best,
            kwh_with_pue=best_kwh,
            total_to_best=total.kwh_with_pue / best_kwh if best_kwh else None,
        ),
        equivalents=tuple(
            EquivalentCount(number=total.kwh_with_pue / one.kwh, what=one.what, kwh_of_one=one.kwh, source=one.source)
            for one in EQUIVALENTS
        ),
    )


def _line(
    run: RunEnergy, card: EnergyCard, best: Sequence[str], pue: float | None, intensity: Intensity | None
) -> ReportLine:
    record, kwh, folder = run.record, card.total.kwh, str(run.record.folder)
    pue = card.pue if pue is None else pue
    if intensity is None and card.co2e is not None:
        intensity = Intensity(g_per_kwh=card.co2e.g_per_kwh, source=card.co2e.source)
    green_kwh = card.green_algorithms.kwh
    return ReportLine(
        folder=folder,
        recipe=record.label,
        targets=record.targets,
        seed=record.seed,
        state=str(record.state),
        best=folder in best,
        best_usdr_db=run.best_usdr_db,
        attempts=len({one.attempt for one in card.attempts}),
        hours=card.total.wall_s / 3600,
        phases_kwh={phase: card.phases[phase].kwh if phase in card.phases else None for phase in PHASES},
        kwh=kwh,
        pue=pue,
        kwh_with_pue=kwh * pue,
        co2e_kg=None if intensity is None else kwh * pue * intensity.g_per_kwh / 1000,
        intensity=intensity,
        green_algorithms_kwh_with_pue=None if green_kwh is None else green_kwh * pue,
        components={part: one.state for part, one in card.components.items()},
        missing=card.missing,
        problems=run.problems,
    )
