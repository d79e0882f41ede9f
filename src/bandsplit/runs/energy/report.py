"""The energy of a project: all runs, what the best one took of it, and what the total compares to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bandsplit.core.errors import RunError
from bandsplit.runs import records as runs
from bandsplit.runs.energy.card import PHASES, Intensity, read_card
from bandsplit.runs.energy.facts import EQUIVALENTS

BEST = (
    "of each recipe and target, the run with the highest validation uSDR in its log; of the recipes with the most "
    "targets, the one with the highest mean of these"
)
"""What the best run is; several runs where each target has a model of its own, as in the paper's rows."""


@dataclass(frozen=True)
class RunEnergy:
    """One run, as the report sees it."""

    folder: Path
    recipe: str
    """With a star if settings were changed by hand."""
    targets: tuple[str, ...]
    seed: int | None
    state: str
    best_usdr_db: float | None
    card: dict[str, Any] | None
    problems: tuple[str, ...] = ()
    """Files of energy that cannot be read."""

    @property
    def kwh(self) -> float | None:
        """Raw energy, without PUE; none without a card."""
        return None if self.card is None else float(self.card["total"]["kwh"])


def find_runs(paths: Iterable[Path]) -> list[RunEnergy]:
    """Find the runs in folders of runs, or of many.

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
    return [read_run(folder) for folder in folders.values()]


def read_run(folder: Path) -> RunEnergy:
    """Read what the report needs of a run; what cannot be read is left open."""
    record = runs.read_run(folder)
    scores = [row.validation_usdr_db for row in record.validations]
    card, problems = read_card(folder)
    return RunEnergy(
        folder, record.label, record.targets, record.seed, str(record.state), max(scores, default=None), card,
        tuple(problems),
    )  # fmt: skip


def best_runs(found: Sequence[RunEnergy]) -> list[RunEnergy]:
    """Return the runs of the best model, see `BEST`; none if no run was validated."""
    best: dict[str, dict[tuple[str, ...], RunEnergy]] = {}
    for run in found:
        if run.best_usdr_db is None or run.recipe.endswith("*"):
            continue
        rival = best.setdefault(run.recipe, {}).get(run.targets)
        if rival is None or run.best_usdr_db > (rival.best_usdr_db or 0.0):
            best[run.recipe][run.targets] = run
    ranks = {}
    for recipe, winners in best.items():
        scores = [(run.best_usdr_db or 0.0, target) for targets, run in winners.items() for target in targets]
        ranks[recipe] = (len({target for _, target in scores}), sum(score for score, _ in scores) / len(scores))
    if not ranks:
        return []
    return list(best[max(ranks, key=lambda recipe: ranks[recipe])].values())


def make_report(
    found: Sequence[RunEnergy], *, pue: float | None = None, intensity: Intensity | None = None
) -> dict[str, Any]:
    """Sum a project.

    Args:
        found: all its runs.
        pue: takes the place of each card's own.
        intensity: takes the place of each card's own.
    """
    counted = [run for run in found if run.card is not None]
    best = best_runs(found)
    lines = {id(run): _line(run, run in best, pue, intensity) for run in counted}
    total = _add(lines.values())
    best_kwh = [lines[id(run)]["kwh_with_pue"] for run in best if id(run) in lines]
    best_total = sum(best_kwh) if best and len(best_kwh) == len(best) else None
    return {
        "runs": list(lines.values()),
        "without_card": [
            {"folder": str(run.folder), "problems": list(run.problems)} for run in found if run.card is None
        ],
        "total": total,
        "best": {
            "meaning": BEST,
            "runs": [str(run.folder) for run in best],
            "kwh_with_pue": best_total,
            "total_to_best": total["kwh_with_pue"] / best_total if best_total else None,
        },
        "equivalents": [
            {"number": total["kwh_with_pue"] / one.kwh, "what": one.what, "kwh_of_one": one.kwh, "source": one.source}
            for one in EQUIVALENTS
        ],
    }


def describe_equivalent(one: Mapping[str, Any]) -> str:
    """Write a number of everyday things as text; below a hundredth of one it is only said to be less."""
    number = one["number"]
    count = f"{number:.0f}" if number >= 100 else f"{number:.3g}" if number >= 0.01 or number == 0 else "less than 0.01"
    return f"{count} {one['what']}"


def _line(run: RunEnergy, best: bool, pue: float | None, intensity: Intensity | None) -> dict[str, Any]:
    card = run.card
    assert card is not None and run.kwh is not None
    factor = pue if pue is not None else float(card.get("pue", 1.0))
    stored = card.get("co2e")
    if intensity is None and stored:
        intensity = Intensity(g_per_kwh=stored["g_per_kwh"], source=stored["source"])
    green = (card.get("green_algorithms") or {}).get("kwh")
    phases = card.get("phases", {})
    return {
        "folder": str(run.folder),
        "recipe": run.recipe,
        "targets": list(run.targets),
        "seed": run.seed,
        "state": run.state,
        "best": best,
        "best_usdr_db": run.best_usdr_db,
        "attempts": len({one["attempt"] for one in card.get("attempts", [])}),
        "hours": card["total"]["wall_s"] / 3600,
        "phases_kwh": {phase: phases.get(phase, {}).get("kwh") for phase in PHASES},
        "kwh": run.kwh,
        "pue": factor,
        "kwh_with_pue": run.kwh * factor,
        "co2e_kg": None if intensity is None else run.kwh * factor * intensity.g_per_kwh / 1000,
        "intensity": None if intensity is None else intensity.model_dump(),
        "green_algorithms_kwh_with_pue": None if green is None else green * factor,
        "components": {part: one["state"] for part, one in card.get("components", {}).items()},
        "missing": card.get("missing", []),
        "problems": list(run.problems),
    }


def _add(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sum the lines; a column that lacks a figure for any run has the number of runs it sums beside it."""
    lines = list(lines)
    total: dict[str, Any] = {"runs": len(lines)}
    for key in ("hours", "kwh", "kwh_with_pue", "co2e_kg", "green_algorithms_kwh_with_pue"):
        known = [line[key] for line in lines if line[key] is not None]
        total[key] = sum(known) if known or key in ("hours", "kwh", "kwh_with_pue") else None
        total[f"{key}_runs"] = len(known)
    return total
