"""Published numbers, as data with their sources. This project did not measure them.

Sources: the paper's Tables I to III, and the authors' public repository (its analysis document and readme) for numbers
that are not in the paper. In Table I two cells that contradict the sources they cite are corrected; their rows say so.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Literal, NamedTuple

from bandsplit.core.targets import TARGETS

AVERAGE = "average"
COLUMNS = (*TARGETS, AVERAGE)
Values = Mapping[str, float | None]
PaperMetric = Literal["usdr_db", "csdr_db"]


class SystemRow(NamedTuple):
    """A row of Table I: a published system on the test set of MUSDB18-HQ."""

    system: str
    csdr_db: Values
    """By target and "average"."""
    extra_data: bool
    """Whether it was trained on more than MUSDB18-HQ."""
    corrected: str
    """The target whose number here is the source's, because the printed one contradicts it; empty for most rows."""
    note: str
    """Note for readers of the row; may be empty."""


class ValidationRow(NamedTuple):
    """A row of Table II: the best validation uSDR of a recipe on MUSDB18-HQ."""

    row: str
    recipe: str
    usdr_db: Values
    """By target and "average"."""
    parameters_m: float
    """Parameters of all four targets, in millions."""
    energy_kwh: float
    """Energy of training all four targets, with a PUE of 1.5."""


class EvaluationRow(NamedTuple):
    """A line of Table III: a model and a way of inference on the test set of MUSDB18-HQ."""

    recipe: str | None
    """None for the numbers of the original BSRNN paper."""
    label: str
    chunks: str
    """Method of separating complete songs."""
    values_db: Mapping[tuple[str, PaperMetric], float | None]
    """By (target or "average", metric); None where the paper prints no number."""


class RepositoryRow(NamedTuple):
    """Numbers that the authors published only in their repository."""

    recipe: str
    quantity: Literal["validation_usdr_db", "test_csdr_db"]
    seed: int | None
    """The authors' number of the run; None if they give none, and for a mean."""
    values_db: Values
    source: str


@functools.cache
def table1() -> tuple[SystemRow, ...]:
    """Return Table I in the paper's order."""
    return tuple(
        SystemRow(row["system"], _values(row), row["extra_data"] == "yes", row["corrected"], row["note"])
        for row in _read("table1.csv")
    )


@functools.cache
def table2() -> dict[str, ValidationRow]:
    """Return Table II by recipe, in the paper's order."""
    return {
        row["id"]: ValidationRow(
            row["row"], row["id"], _values(row), float(row["parameters_m"]), float(row["energy_kwh"])
        )
        for row in _read("table2.csv")
    }


@functools.cache
def table3() -> tuple[EvaluationRow, ...]:
    """Return Table III in the paper's order."""
    metrics: tuple[PaperMetric, ...] = ("usdr_db", "csdr_db")
    return tuple(
        EvaluationRow(
            row["recipe"] or None,
            row["label"],
            row["chunks"],
            {
                (column, metric): _number(row[f"{column}_{metric.removesuffix('_db')}"])
                for column in COLUMNS
                for metric in metrics
            },
        )
        for row in _read("table3.csv")
    )


@functools.cache
def repository() -> tuple[RepositoryRow, ...]:
    """Return the numbers that are only in the authors' repository."""
    return tuple(
        RepositoryRow(
            row["recipe"],
            "validation_usdr_db" if row["quantity"] == "validation_usdr_db" else "test_csdr_db",
            int(row["seed"]) if row["seed"] else None,
            _values(row),
            row["source"],
        )
        for row in _read("repository.csv")
    )


def validation_usdr_db(recipe: str) -> Values | None:
    """Return the published validation uSDR of a recipe by target and "average": Table II first, else the repository."""
    if recipe in table2():
        return table2()[recipe].usdr_db
    rows = (row for row in repository() if row.quantity == "validation_usdr_db" and row.seed is None)
    return next((row.values_db for row in rows if row.recipe == recipe), None)


@functools.cache
def convention_users() -> dict[str, str]:
    """Return who uses a way to make one SDR of a data set, by its name in `bandsplit.evaluation.results`."""
    return {row["convention"]: row["used_by"] for row in _read("conventions.csv")}


def _read(name: str) -> Iterable[dict[str, str]]:
    text = (resources.files("bandsplit.published") / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _values(row: Mapping[str, str]) -> Values:
    return {column: _number(row[column]) for column in COLUMNS}


def _number(text: str) -> float | None:
    return float(text) if text else None
