"""The table of registered models, written from the registry when the site is built."""

from __future__ import annotations

from collections.abc import Iterator

from bandsplit.core.fetching import in_gb
from bandsplit.models.pretrained.entries import Entry
from bandsplit.models.pretrained.registry import entries
from site_tables import cell

INTRODUCTION = """# Registered models

What `bandsplit models fetch` can install, written from the registry when the site is built. Scores are their
publishers'; none was measured here. **Only equal metrics on the same songs can be compared.** [Which model for which
ear](which-model.md) helps to choose, [models.md](models.md) says what a fetch does.
"""


def models_page() -> str:
    """Return the page, in Markdown."""
    return "\n".join([INTRODUCTION, *(line for entry in entries() for line in _section(entry))])


def _section(entry: Entry) -> Iterator[str]:
    yield f"## {entry.name}\n\n{entry.about}\n\n| | |\n|---|---|"
    rows = {
        "other names": ", ".join(f"`{alias}`" for alias in entry.aliases),
        "family": f"`{entry.family}`",
        "targets": ", ".join(entry.targets) or "named by its configuration file",
        "download": f"{in_gb(entry.source.bytes)}, of which {in_gb(entry.kept_bytes)} are kept",
        "needs": f"`--{entry.lack}`" if entry.lack else "",
        "licence of the weights": entry.licence,
        "training data": entry.data_note,
        "published scores": "<br>".join(f"{scores.summary()} ({scores.source})" for scores in entry.scores),
    }
    yield from (f"| {name} | {cell(value)} |" for name, value in rows.items() if value)
    yield ""
