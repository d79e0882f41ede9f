"""The order of the package: every module knows those below it, never those above or beside its branch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "bandsplit"

# Lowest layer first. Each string is a branch: its modules may import one another and every lower layer, but no other
# branch of their layer. A folder stands for all its modules.
LAYERS = (
    (
        "core config run_config mixing strict errors bands settings extras",
    ),  # bands: plain numbers that the config's schemes are checked against
    (
        "recipes results tables published recipes_mini studies comparison agreement arithmetic",
    ),  # records: data about experiments
    (
        "audio containers decoding opening streams writing spectral spectral_numpy losses metrics",
        "fetching archives",
        "matrix_rate",
    ),  # signal; the network; speed
    ("data", "models"),
    ("pretrained pickled registry model_store",),
    ("inference",),
    (
        "training evaluation estimates yardsticks export onnx_graph onnx_layers onnx_nodes separation_speed doctor "
        "self_test plots plots_runs plots_study label_places study_rows study_cells study_tables evaluation_tables "
        "demo studying report",
    ),
    ("terminal",),
    (
        "cli cli_bench cli_data cli_doctor cli_energy cli_evaluate cli_export cli_launch cli_models cli_runs "
        "cli_separate cli_study cli_study_run cli_study_tables cli_study_tell cli_train __main__",
    ),
)
BRANCHES = {name: (rank, branch) for rank, layer in enumerate(LAYERS) for branch in layer for name in branch.split()}
WITHOUT_TORCH = {name for name, (rank, _) in BRANCHES.items() if rank <= 1} | {"__init__"}
TORCH = {"torch", "lightning_fabric"}


def imported_names(module: str, source: str) -> Iterator[str]:
    """Yields everything that a module imports, also inside functions, as absolute dotted names."""
    # A folder's own __init__ is named with it ("bandsplit.data.__init__"), so a relative import drops one part per dot.
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def complaints(sources: dict[str, str]) -> list[str]:
    """Lists what breaks the order in modules given as {"bandsplit.data.musdb": source code}."""
    found = []
    for module, source in sources.items():
        name = module.split(".")[1]
        if name not in BRANCHES and name != "__init__":
            found.append(f"{module} has no layer: decide what it may know and add {name!r} to LAYERS in this test")
            continue
        rank, branch = BRANCHES.get(name, (len(LAYERS), ""))  # the facade stands above all, and loads nothing by itself
        for imported in imported_names(module, source):
            parts = imported.split(".")
            if name in WITHOUT_TORCH and TORCH.intersection(parts):
                found.append(f"{module} imports {imported}: {name} is read without torch, move what needs it higher up")
            if parts[0] != "bandsplit" or imported == "bandsplit.__version__":
                continue
            other = parts[1] if len(parts) > 1 else ""
            if other not in BRANCHES:
                if f"bandsplit.{other}" not in sources:  # else its own lack of a layer is named
                    found.append(f"{module} imports {imported}: import a name from the module that defines it")
                continue
            other_rank, other_branch = BRANCHES[other]
            if other_rank > rank or (other_rank == rank and other_branch != branch):
                side = "above" if other_rank > rank else "beside"
                found.append(f"{module} imports {imported}: {other} is {side} {name}, imports only point down")
    return found


def test_imports_only_point_down():
    files = sorted(PACKAGE.rglob("*.py"))
    assert files, f"no modules in {PACKAGE}"
    names = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files}
    found = complaints({names[path]: path.read_text(encoding="utf-8") for path in files})
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("bandsplit.metrics", "from bandsplit.models.build import build", "models is above metrics"),
        ("bandsplit.metrics", "from .models import build", "models is above metrics"),
        ("bandsplit.models.build", "from ..training import loop", "training is above models"),
        ("bandsplit.models.__init__", "from ..data import musdb", "data is beside models"),
        ("bandsplit.data.dataset", "import bandsplit.models.model", "models is beside data"),
        ("bandsplit.audio", "def late():\n    from bandsplit.cli import main", "cli is above audio"),
        ("bandsplit.audio", "from bandsplit import metrics, inference", "inference is above audio"),
        ("bandsplit.audio", "from bandsplit import Separator", "import a name from the module that defines it"),
        ("bandsplit.__init__", "from torch import nn", "__init__ is read without torch"),
        ("bandsplit.recipes", "import torch.nn", "recipes is read without torch"),
        ("bandsplit.tables", "def late():\n    from safetensors import torch", "tables is read without torch"),
        ("bandsplit.results", "from .spectral import stft", "spectral is above results"),
        ("bandsplit.helpers", "", "bandsplit.helpers has no layer"),
    ],
)
def test_a_wrong_import_is_named(module: str, source: str, complaint: str):
    (found,) = complaints({module: source})
    assert found.startswith(module)
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bandsplit.metrics", "import torch\nfrom bandsplit import __version__\nfrom .config import ModelConfig"),
        (
            "bandsplit.models.build",
            "from . import blocks\nfrom bandsplit.models import coders\nfrom ..spectral import stft",
        ),
        ("bandsplit.demo", "from .training.loop import train\nfrom .evaluation import evaluate"),
        ("bandsplit.cli", "def run():\n    from .demo import demo"),
    ],
)
def test_imports_that_point_down_pass(module: str, source: str):
    assert complaints({module: source}) == []
