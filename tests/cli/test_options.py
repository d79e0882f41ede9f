"""Groups of options: Typer sees each option, the command gets objects, and objects become command lines again."""

from dataclasses import dataclass, replace
from typing import Annotated, get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from bandsplit.cli.main import app as bandsplit
from bandsplit.cli.options import ChunkOptions, DatasetOptions, as_arguments, with_options
from bandsplit.cli.training_options import AttemptOptions, EnergyOptions, ExecutionOptions
from bandsplit.models.chunk_config import (
    BoundedConfig,
    ChunkConfig,
    CrossfadeConfig,
    FadedConfig,
    FoldedConfig,
    HammingConfig,
    JoinedConfig,
    OverlapAddConfig,
    TriangleConfig,
    TrimmedConfig,
)
from bandsplit.separation.chunk_choice import SAME_PLAN, change_chunks
from bandsplit.studies.runner.scoring import chunk_arguments

PLANS: list[ChunkConfig] = [
    CrossfadeConfig(chunk_s=7, overlap=0.2),
    OverlapAddConfig(hop_s=1.5),
    FadedConfig(overlaps=4),
    FadedConfig(chunk_s=2.5, exact_batch=3),
    FoldedConfig(chunk_s=6, overlaps=2),
    HammingConfig(hop_s=3),
    TrimmedConfig(chunk_s=261_120 / 44_100, trim_s=3072 / 44_100),
    BoundedConfig(chunk_s=13, trim_s=1.5),
    JoinedConfig(chunk_s=6),
    JoinedConfig(chunk_s=6, sixteen_bits=True),
    TriangleConfig(chunk_s=343_980 / 44_100, multiple_samples=0, shifts=3, normalise="mono"),
    CrossfadeConfig(normalise="joint", tta=("polarity", "channels")),
    TriangleConfig(chunk_s=44, overlap=0.5, power=2, multiple_samples=2048, less_samples=1366),
]


@dataclass(frozen=True)
class Place:
    """A group with an option that is needed, one with a default, a list and a flag."""

    city: Annotated[str, typer.Option("--city", "-c", help="A city.")]
    house_number: Annotated[int, typer.Option("--house-number", min=1)] = 7
    near: Annotated[list[str] | None, typer.Option("--near", rich_help_panel="Around")] = None
    old: Annotated[bool, typer.Option("--old")] = False


@dataclass(frozen=True)
class Bigger(Place):
    """A group that has more options than another."""

    floors: Annotated[int, typer.Option("--floors")] = 1


def ask(*arguments: str, group: type[Place] = Place) -> list[object]:
    """Give a command of one group these arguments; return what it was called with."""
    app, calls = typer.Typer(), []

    def visit(name: str, *, place: Place, times: int = 1) -> None:
        """Visit a place."""
        calls.append((name, place, times))

    visit.__annotations__ |= {"place": group}
    app.command()(with_options(visit))
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return [*calls, result.output]


def test_a_command_gets_one_object_for_each_group():
    call, _ = ask("Ada", "-c", "London", "--near", "Paris", "--near", "Rome", "--old", "--times", "3")
    assert call == ("Ada", Place("London", 7, ["Paris", "Rome"], True), 3)
    call, _ = ask("Ada", "--city", "London")
    assert call == ("Ada", Place("London"), 1)


def test_a_group_may_extend_another():
    call, _ = ask("Ada", "--city", "London", "--floors", "4", group=Bigger)
    assert call == ("Ada", Bigger("London", floors=4), 1)


def test_typer_sees_each_option_of_a_group():
    (text,) = ask("--help")
    assert isinstance(text, str)
    (city,) = [line for line in text.splitlines() if "--city" in line]
    assert "-c" in city and "A city." in city and "required" in text
    assert "[default: 7]" in text and "Around" in text
    (text,) = ask("Ada")
    assert "--city" in str(text)
    (text,) = ask("Ada", "-c", "London", "--house-number", "0")
    assert "--house-number" in str(text)


def test_two_groups_cannot_have_the_same_option():
    def both(first: Place, second: Place) -> None: ...

    with pytest.raises(ValueError, match="city"):
        with_options(both)


def test_the_methods_of_the_command_line_are_those_of_chunk_plans():
    method = get_type_hints(ChunkOptions, include_extras=False)["method"]
    assert set(get_args(get_args(method)[0])) == {plan.kind for plan in PLANS}


@pytest.mark.parametrize("plan", PLANS, ids=repr)
def test_a_study_names_every_plan_by_options_that_mean_it(plan: ChunkConfig):
    app, calls = typer.Typer(), []

    def cut(chunks: ChunkOptions) -> None:
        calls.append(change_chunks(chunks.settings(), SAME_PLAN))

    cut.__annotations__["chunks"] = ChunkOptions
    app.command()(with_options(cut))
    result = CliRunner().invoke(app, list(chunk_arguments(plan)))
    assert calls == [plan], result.output


def test_options_become_the_command_line_they_came_from():
    assert as_arguments(DatasetOptions()) == []
    assert as_arguments(DatasetOptions("a,b", "pad", "sum", True)) == [
        "--stems", "a,b", "--lengths", "pad", "--mixture", "sum", "--allow",
    ]  # fmt: skip
    place = Place("London", 9, ["Paris", "Rome"], True)
    assert as_arguments(place, AttemptOptions(save_every=1.5)) == [
        "--city", "London", "--house-number", "9", "--near", "Paris", "--near", "Rome", "--old", "--save-every", "1.5",
    ]  # fmt: skip
    call, _ = ask("Ada", *as_arguments(place))
    assert call == ("Ada", place, 1)


def test_all_options_that_submit_passes_on_are_those_of_train():
    words = as_arguments(
        DatasetOptions("a,b", "pad", "sum", True),
        ExecutionOptions(1, 2, 3, True, True),
        replace(AttemptOptions(1.0, 2.0), tensorboard=True),
        EnergyOptions(True, 2.0, 3.0, "FRA", 4.0),
    )
    result = CliRunner().invoke(bandsplit, ["train", "no-such-recipe", "--data", "songs", *words])
    assert "no recipe is named 'no-such-recipe'" in str(result.exception), result.output
