"""Tables of ``bandsplit models list``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from bandsplit.models.pretrained.entries import Entry, Scores
    from bandsplit.separation.members import Part


def models_table(entries: Sequence[Entry]) -> Table:
    """Make the table of the registered models by family, in their order."""
    from bandsplit.core.fetching import in_gb
    from bandsplit.core.screen import lean_table
    from bandsplit.models.pretrained.entries import BagOfFiles
    from bandsplit.models.pretrained.registry import cached_files
    from bandsplit.published.paper import AVERAGE, COLUMNS

    table = lean_table()
    for heading in ("model", "state", "metric"):
        table.add_column(heading, no_wrap=True)
    for target in COLUMNS:
        table.add_column("mean" if target == AVERAGE else target, justify="right", no_wrap=True)
    for family, members in groupby(by_family(entries), key=lambda entry: entry.family):
        table.add_row(f"{family}:")
        for entry in members:
            state = "cached" if cached_files(entry) else f"needs {entry.lack}" if entry.lack else "to fetch"
            download, kept = in_gb(entry.source.bytes), in_gb(entry.kept_bytes)
            sizes = f"{download.removesuffix(kept[-3:])} > {kept}"  # the unit once, if it is the same
            bag = [f"bag of {len(entry.source.models)}"] if isinstance(entry.source, BagOfFiles) else []
            table.add_row(
                [entry.name, *bag, *(f"= {alias}" for alias in entry.aliases)],
                [state, sizes],
                [scores.metric for scores in entry.scores] or "-",
                *([_cell(scores, target) for scores in entry.scores] or "-" for target in COLUMNS),
            )
    return table


def _cell(scores: Scores, target: str) -> str:
    return f"{scores.values_db[target]:.2f}" if target in scores.values_db else "-"


def by_family(entries: Sequence[Entry]) -> list[Entry]:
    """Sort models by family: the family of the first model first, and so on."""
    families = list(dict.fromkeys(entry.family for entry in entries))
    return sorted(entries, key=lambda entry: families.index(entry.family))


def footnotes(entries: Sequence[Entry]) -> Iterator[str]:
    """Write scores, licences, training data and sources, each once with the models that have it."""
    yield "sizes: of the download > of the model"
    for what, read in _FACTS.items():
        facts = [(entry.name, value) for entry in entries for value in read(entry)]
        for value in dict.fromkeys(value for _, value in facts):
            names = [name for name, its in facts if its == value]
            of = "" if len(names) == len(entries) else f" of {', '.join(names)}"
            yield f"{what}{of}: {value}"
    yield "scores: in dB, as published; not measured here. Only equal metrics on the same songs can be compared"


def _metrics(entry: Entry) -> list[str]:
    from bandsplit.published.paper import COLUMNS

    found = []
    for scores in entry.scores:
        others = [f"; {target} {value:.2f}" for target, value in scores.values_db.items() if target not in COLUMNS]
        found.append(f"{scores.metric} on {scores.data} ({scores.source}){''.join(others)}")
    return found


_FACTS: dict[str, Callable[[Entry], list[str]]] = {
    "scores": _metrics,
    "licence": lambda entry: [entry.licence],
    "training data": lambda entry: [entry.data_note],
    "source": lambda entry: [entry.source.page],
    "digest": lambda entry: [entry.digest_note] if entry.digest_note else [],
}


def bag_lines(part: Part, indent: str = "  ") -> Iterator[str]:
    """Write the members of a bag, with their weights by target and their chunk plans."""
    from bandsplit.separation.chunks import describe_chunks
    from bandsplit.separation.members import Mean

    if not isinstance(part, Mean):
        return
    if part.mixer is not None:
        yield f"{indent}mixer: {', '.join(part.mixer.targets)}, from all of them and the mixture"
    for child, weights in part.parts:
        given = ", ".join(f"{target} {weight:g}" for target, weight in weights.items() if weight)
        if isinstance(child, Mean):
            yield f"{indent}{child.name} ({given})"
            yield from bag_lines(child, indent + "  ")
        else:
            minus = f"; sees the mixture minus {', '.join(target for _, target in child.minus)}" if child.minus else ""
            yield f"{indent}{child.name} ({given}): {describe_chunks(child.chunks)}{minus}"


def architectures_rows() -> list[dict[str, Any]]:
    """List the networks that can be trained, as plain data."""
    from bandsplit.models.tensors import count_parameters
    from bandsplit.recipes.catalogue import RECIPES

    recipes = [recipe for recipe in RECIPES.values() if recipe.architecture]
    models = {recipe.id: [config.model for config in recipe.all_run_configs()] for recipe in recipes}
    return [
        {
            "recipe": recipe.id,
            "family": models[recipe.id][0].family,
            "targets": [target for model in models[recipe.id] for target in model.targets],
            "parameters_m": round(sum(map(count_parameters, models[recipe.id])) / 1e6, 3),
            "published_parameters_m": recipe.parameters_m,
            "shared": recipe.shared,
            "row": recipe.row,
            "about": recipe.about,
            "unknown": dict(recipe.unknown),
        }
        for recipe in recipes
    ]


def architectures_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Make the table of the networks that can be trained."""
    from bandsplit.core.screen import lean_table
    from bandsplit.core.text import counted

    title = "Architectures: parameters of all targets, in millions"
    table = lean_table(title=title, title_justify="left")
    for heading, place in (
        ("recipe", "left"),
        ("ours", "right"),
        ("published", "right"),
        ("models", "left"),
        ("row", "left"),
    ):
        table.add_column(heading, justify=place, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("what it is")
    for row in rows:
        digits = 2 if row["shared"] else 1
        published, targets = row["published_parameters_m"], len(row["targets"])
        table.add_row(
            row["recipe"],
            f"{row['parameters_m']:.{digits}f}",
            "-" if published is None else f"{published:.{digits}f}",
            f"1 of {counted(targets, 'target')}" if row["shared"] else f"{targets} of 1 target",
            row["row"] or "-",
            [row["about"], *([f"not published: {', '.join(row['unknown'])}"] if row["unknown"] else [])],
        )
    return table
