"""Score the models of a study: one process for each system, way of inference and data set.

Each process writes its own file into ``scores/``, so that several can work at once and each continues where it stopped;
``scores.jsonl`` joins these files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bandsplit.core.config import hash8
from bandsplit.core.errors import RunError
from bandsplit.core.files import Journal, write_atomically
from bandsplit.data.songs.tracks import Dataset
from bandsplit.evaluation.groups import group
from bandsplit.models.chunk_config import ChunkConfig
from bandsplit.models.pretrained.entries import Entry
from bandsplit.models.pretrained.registry import find_entry
from bandsplit.recipes.catalogue import find_recipe
from bandsplit.runs.schema import BEST_FILE
from bandsplit.separation.chunk_choice import CHUNK_OPTIONS
from bandsplit.studies.plans import TEST_LINES, EvaluationLine, PlannedRun, Study, planned_runs
from bandsplit.studies.runner.folder import StudyFolder
from bandsplit.studies.runner.jobs import reason_of, run_jobs
from bandsplit.studies.runner.processes import Job, Processes
from bandsplit.studies.runner.training import Outcome, Report

SPLIT = "test"


class Trained(NamedTuple):
    """Models of one recipe and seed that together are a system."""

    recipe: str
    seed: int
    targets: tuple[str, ...]
    models: tuple[Path, ...]


class Songs(NamedTuple):
    """A data set, and the options that name it on the command line."""

    dataset: Dataset
    options: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name for files, with the fingerprint: two sets may have the same name."""
        return f"{self.dataset.name}-{self.dataset.fingerprints.get(SPLIT, '')}"


class Scoring(NamedTuple):
    """One process to start."""

    name: str
    part: Path
    """Its rows; the stem names what is scored, the suffix before ``.jsonl`` lists the targets."""
    models: tuple[Path, ...]
    """None: the yardsticks, or public weights."""
    options: tuple[str, ...]
    public: Entry | None = None

    @property
    def made_of(self) -> list[list[object]]:
        """Names, sizes and times of the models, or what is registered of public weights, to detect later changes."""
        if self.public is not None:
            return [[self.public.name, hash8(self.public.source.model_dump(mode="json"))]]
        facts = [(path.parts[-4:], path.stat()) for path in self.models]  # recipe, targets, run, file
        return [["/".join(parts), stat.st_size, stat.st_mtime_ns] for parts, stat in facts]

    @property
    def arguments(self) -> tuple[str, ...]:
        """Command line without ``bandsplit`` and the device."""
        names = (self.public.name,) if self.public is not None else tuple(map(str, self.models))
        return ("evaluate", *names, "--out", str(self.part), *self.options)

    def log_in(self, folder: StudyFolder) -> Path:
        """Return the file of its output."""
        return folder.logs / f"score-{self.part.stem}.log"


def find_systems(
    folder: StudyFolder, study: Study, chosen: Sequence[PlannedRun]
) -> tuple[list[Trained], dict[str, list[str]]]:
    """Find what can be scored: systems whose chosen runs are finished, with all their targets that are.

    Returns:
        The systems; and those that cannot be scored yet, with the runs that they wait for.
    """
    wanted = {(run.recipe, run.seed) for run in chosen}
    planned = (run for run in planned_runs(study) if (run.recipe, run.seed) in wanted)
    systems, incomplete = [], {}
    for (recipe, seed), members in group(planned, lambda run: (run.recipe, run.seed)).items():
        there = folder.look(members)
        lacking = [run.name for run in there if not run.finished and run.planned in chosen]
        if lacking:
            incomplete[f"{recipe} seed {seed}"] = lacking
            continue
        done = [run for run in there if run.finished]
        targets = tuple(target for run in done for target in run.planned.targets)
        systems.append(Trained(recipe, seed, targets, tuple(run.folder / BEST_FILE for run in done)))
    return systems, incomplete


def plan_yardsticks(folder: StudyFolder, study: Study, sets: Sequence[Songs]) -> list[Scoring]:
    """List the scorings of the yardsticks, one for each data set."""
    plan = []
    for songs in sets:
        targets = ",".join(target for target in study.targets if target in songs.dataset.stems)
        options = (*songs.options, "--split", SPLIT, "--yardsticks", "--targets", targets)
        part = folder.parts / f"yardsticks-{songs.key}.all.jsonl"
        plan.append(Scoring(f"yardsticks on {songs.dataset.name}", part, (), options))
    return plan


def plan_public(folder: StudyFolder, study: Study, names: Sequence[str], sets: Sequence[Songs]) -> list[Scoring]:
    """List the scorings of public weights: with the plan of their authors, and with that of the study."""
    plan = []
    for songs in sets:
        for entry in map(find_entry, names):
            targets = [
                target
                for target in study.targets
                if target in songs.dataset.stems and (target in entry.targets or not entry.targets)
            ]
            options = (*songs.options, "--split", SPLIT, "--targets", ",".join(targets))
            for chunks in [None] if study.plan is None else [None, study.plan]:
                slug, more = ("published", ()) if chunks is None else (_slug(chunks), chunk_arguments(chunks))
                part = folder.parts / f"{entry.name}-{songs.key}-{slug}.{'+'.join(targets)}.jsonl"
                name = f"{entry.name} on {songs.dataset.name}, {slug}"
                plan.append(Scoring(name, part, (), (*options, *more), entry))
    return plan


def plan_scoring(
    folder: StudyFolder,
    study: Study,
    systems: Sequence[Trained],
    sets: Sequence[Songs],
    lines: Sequence[EvaluationLine] = TEST_LINES,
) -> list[Scoring]:
    """List the scorings of trained systems, each with its plans: the study's, or as published and in Table III."""
    plan = []
    for songs in sets:
        for system in systems:
            for chunks in [study.plan] if study.plan is not None else chunks_of(system.recipe, lines):
                price = f" {study.budget.price}" if study.budget else ""
                key = f"{system.recipe}-seed-{system.seed}{price.replace(' ', '-')}-{songs.key}-{_slug(chunks)}"
                name = f"{system.recipe} seed {system.seed}{price} on {songs.dataset.name}, {_slug(chunks)}"
                part = folder.parts / f"{key}.{'+'.join(system.targets)}.jsonl"
                options = (*songs.options, "--split", SPLIT, *chunk_arguments(chunks))
                plan.append(Scoring(name, part, system.models, options))
    return plan


def score(folder: StudyFolder, plan: Sequence[Scoring], device: str, processes: Processes, report: Report) -> Outcome:
    """Score what is not scored yet, and bring ``scores.jsonl`` up to date.

    Args:
        folder: the study's.
        plan: see `plan_yardsticks`, `plan_public` and `plan_scoring`.
        device: as ``--device``.
        processes: where the work runs; its signals must be watched.
        report: called with what happens, line by line.
    """
    outcome, scored = Outcome(), made_of_scores(folder)
    waiting = [one for one in plan if not is_scored(one, scored)]
    outcome.finished += [one.name for one in plan if one not in waiting]
    for one in waiting:
        if scored.get(one.part.name, one.made_of) != one.made_of:
            one.part.unlink(missing_ok=True)  # scores of models that no longer exist
    jobs = {Job(one.name, (*one.arguments, "--device", device), one.log_in(folder)): one for one in waiting}
    for ended in run_jobs([*jobs], folder.locks, processes, outcome, report):
        one = jobs[ended.job]
        facts = {"part": one.part.name, "code": ended.code, "seconds": round(ended.seconds, 3)}
        facts |= {} if one.public is None else {"public": one.public.name}
        if ended.code == 0:
            folder.append("scored", **facts, models=one.made_of)
            outcome.finished.append(one.name)
            report(f"{one.name}: scored")
        elif processes.stopping:
            folder.append("scoring stopped", **facts)
            outcome.stopped.append(one.name)
        else:
            reason = reason_of(ended)
            folder.append("scoring failed", **facts, reason=reason, log=str(ended.job.log))
            outcome.failed[one.name] = ended.job.log
            report(f"{one.name}: FAILED (exit code {ended.code}): {reason}")
    join_scores(folder)
    return outcome


def made_of_scores(folder: StudyFolder) -> dict[str, object]:
    """Return what each part was scored with, by the name of its file, see `Scoring.made_of`."""
    return {event["part"]: event["models"] for event in folder.events() if event["event"] == "scored"}


def is_scored(one: Scoring, scored: Mapping[str, object]) -> bool:
    """Return whether a part is complete and of these models; ``scored`` is that of `made_of_scores`."""
    return one.part.exists() and scored.get(one.part.name) == one.made_of


def join_scores(folder: StudyFolder) -> None:
    """Join the parts to ``scores.jsonl``; of several parts of a system, take the one with the most targets.

    Raises:
        RunError: a part cannot be read, or the file cannot be written.
    """
    best: dict[str, Path] = {}
    for part in sorted(folder.parts.glob("*.jsonl")):
        what, targets = part.stem.rsplit(".", 1)
        if what not in best or targets.count("+") > best[what].stem.rsplit(".", 1)[1].count("+"):
            best[what] = part
    try:
        rows = [line.text for part in best.values() for line in Journal(part).read().lines]
        write_atomically(folder.scores, "".join(f"{row}\n" for row in rows).encode())
    except OSError as error:
        raise RunError(
            f"{error.filename}: cannot be read or written ({error.strerror}); fix that, or choose another --folder"
        ) from None


def chunks_of(recipe: str, lines: Iterable[EvaluationLine]) -> list[ChunkConfig]:
    """Return the ways of inference that a recipe is scored with, the published plan of its family first."""
    chunks = [find_recipe(recipe).all_run_configs()[0].model.geometry.published]
    return chunks + [line.chunks for line in lines if line.recipe == recipe and line.chunks not in chunks]


def _chunk_settings(chunks: ChunkConfig) -> Mapping[str, object]:
    values = chunks.model_dump(exclude_none=True)
    values = {name: ",".join(value) if isinstance(value, tuple | list) else value for name, value in values.items()}
    return {option: values[name] for name, option in CHUNK_OPTIONS.items() if name in values}


def chunk_arguments(chunks: ChunkConfig) -> tuple[str, ...]:
    """Return the words of a command line that give a plan, complete."""
    words = ["--method", chunks.kind]
    for option, value in _chunk_settings(chunks).items():
        words += [option] if value is True else [option, str(value)] if value is not False else []
    return tuple(words)


def _slug(chunks: ChunkConfig) -> str:
    """Name a way of inference for a file's name, with the settings that are not the defaults."""
    usual = {CHUNK_OPTIONS.get(name): field.default for name, field in type(chunks).model_fields.items()}
    own = {option: value for option, value in _chunk_settings(chunks).items() if value != usual[option]}
    return chunks.kind + "".join(f"-{option.strip('-')}-{value}" for option, value in own.items())
