"""Checks of a network's tensors before it is built: of their number, and of names and shapes against a file.

The family computes the shapes from the configuration, one by one, so that a reader can stop where a file has no more.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import prod

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.contract import ModelConfig, Shape
from bandsplit.models.families import tensor_shapes

MOST_TENSORS = 100_000
MOST_PARAMETERS = 1 << 31
"""Limit for any network; the largest of the paper has 1.1e8."""


_NOT_LEARNED = (".running_mean", ".running_var", ".rotary.frequencies", "bank.analysis", "bank.synthesis")
"""Ends of the names of tensors that belong to a model, but are no parameters: statistics, and constants."""


def count_parameters(config: ModelConfig, names: Iterable[str] | None = None) -> int:
    """Count the parameters of the network, or of some of its tensors, without building it."""
    counted = {name: prod(shape) for name, shape in tensor_shapes(config) if is_parameter(name)}
    return sum(counted.values()) if names is None else sum(counted.get(name, 0) for name in names)


def is_parameter(name: str) -> bool:
    """Return whether a tensor of a model is one that is trained."""
    return not name.endswith(_NOT_LEARNED)


def cover(names: Iterable[str], among: Iterable[str]) -> list[str]:
    """Describe tensors by the shortest beginnings of names that no other tensor ``among`` all shares."""
    wanted = set(names)
    others = {prefix for name in among if name not in wanted for prefix in _beginnings(name)}
    return list(dict.fromkeys(next(part for part in _beginnings(name) if part not in others) for name in names))


def find_tensors(config: ModelConfig, patterns: Iterable[str]) -> frozenset[str]:
    """Find the tensors of a model by beginnings of their names, up to a dot, or by patterns with ``*`` and ``?``.

    Raises:
        ConfigError: a pattern matches nothing; the message names the nearest part.
    """
    names = [name for name, _ in tensor_shapes(config)]
    found: set[str] = set()
    for pattern in patterns:
        some = {name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")}
        if not some:
            parts = dict.fromkeys(part for name in names for part in _beginnings(name))
            near = difflib.get_close_matches(pattern, parts, n=1, cutoff=0.4)
            tops = dict.fromkeys(name.split(".")[0] for name in names)
            hint = f"did you mean {near[0]!r}?" if near else f"its parts: {', '.join(tops)}"
            raise ConfigError(f"{pattern!r} matches no tensor of the model; {hint}")
        found |= some
    return frozenset(found)


def _beginnings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def shapes_in(config: ModelConfig, found: Iterable[Sequence[int]]) -> dict[str, Shape]:
    """List the tensors that ``config`` needs, in time and memory proportional to the shapes ``found`` in a file.

    Raises:
        ConfigError: ``config`` needs far more tensors or numbers.
    """
    sizes = [prod(shape) for shape in found]
    most_tensors, most_numbers = 1000 + 2 * len(sizes), 1_000_000 + 2 * sum(sizes)
    shapes: dict[str, Shape] = {}
    numbers = 0
    for name, shape in tensor_shapes(config):
        shapes[name] = shape
        numbers += prod(shape)
        # Some slack: the file may be damaged, and the message should name what is missing.
        if len(shapes) > most_tensors or numbers > most_numbers:
            raise ConfigError(
                f"its configuration needs {numbers:.1e} numbers or more in {len(shapes)} tensors or more, but the file "
                f"has {sum(sizes):.1e} in {len(sizes)}"
            )
    return shapes


def check_size(config: ModelConfig) -> None:
    """Refuse a network that is too large for the machines of today's users, before any of it is built.

    Raises:
        ConfigError: it has too many tensors or parameters.
    """
    parameters = 0
    for tensors, (_, shape) in enumerate(tensor_shapes(config), 1):
        parameters += prod(shape)
        if tensors > MOST_TENSORS or parameters > MOST_PARAMETERS:
            counts = [f"{name} {value}" for name, value in config if name.startswith("n_")]
            sizes = ", ".join([*counts, f"{len(config.targets)} target(s)"])
            raise ConfigError(
                f"model: has more than {MOST_PARAMETERS:,} parameters or {MOST_TENSORS:,} tensors with {sizes}; make "
                f"it smaller (the paper's largest has 108,730,000 parameters)"
            )


def check_shapes(config: ModelConfig, found: Mapping[str, Shape]) -> None:
    """Compare names and shapes of tensors with those that ``config`` needs, before anything is built.

    Raises:
        ModelFileError: one is missing, unexpected or misshapen.
        ConfigError: ``config`` needs far more than the file has.
    """
    compare_shapes(shapes_in(config, found.values()), found)


def compare_shapes(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> None:
    """Compare names and shapes of tensors.

    Raises:
        ModelFileError: one is missing, unexpected or misshapen.
    """
    problems = [f"missing: {name}" for name in expected if name not in found]
    problems += [f"unexpected: {name}" for name in found if name not in expected]
    problems += [
        f"misshapen: {name} is {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        raise ModelFileError(describe_problems(problems))


def describe_problems(problems: Iterable[str], shown: int = 10) -> str:
    """Summarise problems with tensors.

    Args:
        problems: a kind, a colon, the name of a tensor, and more if there is more to say.
        shown: groups that are described. Tensors whose names differ only in numbers are one group, of which the first
            is named.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        kind, _, rest = problem.partition(": ")
        pattern = re.sub(r"\d+", "*", rest.partition(" ")[0])
        groups.setdefault((kind, pattern), []).append(problem)
    texts = [
        f"{first} (and {len(others)} more {pattern})" if others else first
        for (_, pattern), (first, *others) in groups.items()
    ]
    hidden = sum(len(group) for group in [*groups.values()][shown:])
    more = f"; and {hidden} more" if hidden else ""
    count = sum(map(len, groups.values()))
    return f"{count} tensor(s) do not fit the configuration: " + "; ".join(texts[:shown]) + more
