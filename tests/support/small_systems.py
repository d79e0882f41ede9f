"""A study of one small system in its three forms, and the command line that knows it and its registered weights."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from bandsplit.models.chunk_config import CrossfadeConfig
from bandsplit.models.pretrained import registry
from bandsplit.models.pretrained.entries import Entry
from bandsplit.published.paper import table1
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.recipes.table1 import StudySystem
from bandsplit.studies.plans import PUBLIC, STUDIES, Experiment, Study
from small_study import SMALL

COMMAND = (sys.executable, str(Path(__file__).resolve()))
ENTRIES = "BANDSPLIT_TEST_ENTRIES"
"""Environment variable: a file of registered models."""
STUDY = Study(
    "small-systems",
    "for tests",
    {PUBLIC: (), "trained": (Experiment("small", (1,)),)},
    ("vocals",),
    (StudySystem("HT Demucs", tuple(row for row in table1() if row.system == "HT Demucs"), ("tiny", "tiny-lost"),
                 ("small",), "for tests"),),
    CrossfadeConfig(chunk_s=0.5, geometry="even", normalise="none"),
)  # fmt: skip


def register(monkeypatch: Any, entries: tuple[Entry, ...], file: Path) -> None:
    """Make the study and these models known here, and to processes with this command."""
    monkeypatch.setitem(RECIPES, "small", SMALL["small"])
    monkeypatch.setitem(STUDIES, STUDY.id, STUDY)
    monkeypatch.setattr(registry, "entries", lambda: entries)
    file.write_text(json.dumps([entry.model_dump(mode="json") for entry in entries]))
    monkeypatch.setenv(ENTRIES, str(file))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


if __name__ == "__main__":
    import torch

    from bandsplit.cli import main as cli

    torch.set_num_threads(1)
    RECIPES["small"], STUDIES[STUDY.id] = SMALL["small"], STUDY
    known = tuple(map(Entry.parse, json.loads(Path(os.environ[ENTRIES]).read_text())))
    registry.entries = lambda: known
    cli.main()
