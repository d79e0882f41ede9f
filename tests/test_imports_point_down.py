"""The order of the rooms: each knows those below it; no file is in a circle; what is read without torch stays so."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "bandsplit"

# Lowest floor first. Rooms of one floor do not know each other.
FLOORS = (
    ("core",),
    ("audio", "published"),
    ("models", "data"),
    ("separation",),
    ("evaluation", "runs"),
    ("recipes", "reports"),
    ("training",),
    ("studies", "tools"),
    ("serve",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
WITHOUT_TORCH = (
    "__init__",
    "core",
    "published",
    "recipes",
    "audio.stft_numpy",
    "evaluation.comparison",
    "evaluation.groups",
    "evaluation.results",
    "evaluation.tables",
    "models.arrays",
    "models.bs_roformer.bands",
    "models.bs_roformer.config",
    "models.bs_roformer.flop",
    "models.bs_roformer.onnx_core",
    "models.bs_roformer.shapes",
    "models.bsrnn.bands",
    "models.bsrnn.config",
    "models.bsrnn.flop",
    "models.bsrnn.native",
    "models.bsrnn.native_coders",
    "models.bsrnn.onnx_core",
    "models.bsrnn.shapes",
    "models.card",
    "models.chunk_config",
    "models.contract",
    "models.demucs.config",
    "models.demucs.flop",
    "models.demucs.levels",
    "models.demucs.shapes",
    "models.demucs.time_config",
    "models.demucs.time_flop",
    "models.demucs.time_shapes",
    "models.dttnet.config",
    "models.dttnet.flop",
    "models.dttnet.shapes",
    "models.families",
    "models.layers.bands",
    "models.layers.epsilon",
    "models.layers.kernel_packing",
    "models.layers.tfc_tdf_v2_config",
    "models.layers.unet_model_config",
    "models.layers.unet_model_onnx",
    "models.mdx_net.config",
    "models.mdx_net.flop",
    "models.mdx_net.shapes",
    "models.onnx.core",
    "models.presunet.config",
    "models.presunet.flop",
    "models.presunet.shapes",
    "models.pretrained.registry",
    "models.tensors",
    "models.tfc_tdf.config",
    "models.tfc_tdf.flop",
    "models.tfc_tdf.onnx_core",
    "models.tfc_tdf.shapes",
    "runs.config",
    "runs.losses",
    "runs.optimisers",
    "runs.records",
    "runs.schema",
    "separation.native_network",
    "separation.network",
    "separation.opening",
    "separation.onnx_network",
    "separation.pooled",
    "serve",
    "studies.agreement",
    "studies.figures",
    "studies.plans",
    "studies.systems_figure",
    "studies.tables",
    "tools.loading",
)
"""Rooms and files; `core.machine` describes torch where it is installed."""
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
    """Lists what breaks the order in modules given as {"bandsplit.data.songs.musdb": source code}."""
    found = []
    for module, source in sources.items():
        room, inside = module.split(".")[1], module.removeprefix("bandsplit.")
        if room in ("__init__", "__main__"):
            floor = len(FLOORS)  # the facade and the start of the command line stand above all
        elif room in FLOOR:
            floor = FLOOR[room]
        else:
            found.append(f"{module} is in no room: move it into one of {', '.join(FLOOR)}")
            continue
        torchless = inside.startswith(tuple(f"{name}." for name in WITHOUT_TORCH)) or inside in WITHOUT_TORCH
        for imported in imported_names(module, source):
            parts = imported.split(".")
            if torchless and inside != "core.machine" and TORCH.intersection(parts):
                found.append(f"{module} imports {imported}: {inside} is read without torch, move what needs it higher")
            if parts[0] != "bandsplit":
                continue
            other = parts[1] if len(parts) > 1 else ""
            if other not in FLOOR:
                found.append(f"{module} imports {imported}: import a name from the module that defines it")
            elif other != room and FLOOR[other] >= floor:
                side = "above" if FLOOR[other] > floor else "beside"
                found.append(f"{module} imports {imported}: {other} is {side} {room}, imports only point down")
    return found


def find_circle(sources: dict[str, str]) -> list[str]:
    """Returns the modules of a circle, if there is one; functions count too, type checking alone does not."""
    modules = {name.removesuffix(".__init__"): name for name in sources}
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        known = set()
        for imported in imported_names(module, _without_type_checking(source)):
            while imported and imported not in modules:
                imported = imported.rpartition(".")[0]
            known.add(imported)
        graph[module] = {modules[name] for name in known if name} - {module, "bandsplit.__init__"}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def _without_type_checking(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return ast.unparse(tree)


def read_sources() -> dict[str, str]:
    files = sorted(PACKAGE.rglob("*.py"))
    assert files, f"no modules in {PACKAGE}"
    names = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files}
    return {names[path]: path.read_text(encoding="utf-8") for path in files}


def test_imports_only_point_down():
    found = complaints(read_sources())
    assert not found, "\n" + "\n".join(found)


def test_no_file_is_in_a_circle():
    assert find_circle(read_sources()) == []


def test_the_root_holds_the_facade_the_start_and_rooms():
    assert {path.name for path in PACKAGE.iterdir() if path.is_file()} == {"__init__.py", "__main__.py"}
    assert {name.split(".")[1] for name in read_sources()} == {"__init__", "__main__", *FLOOR}


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("bandsplit.audio.files", "from bandsplit.models.bsrnn.build import build", "models is above audio"),
        ("bandsplit.audio.files", "from ..models import files", "models is above audio"),
        ("bandsplit.models.bsrnn.build", "from ...training import loop", "training is above models"),
        ("bandsplit.models.__init__", "from ..data import songs", "data is beside models"),
        ("bandsplit.data.examples.dataset", "import bandsplit.models.bsrnn.network", "models is beside data"),
        ("bandsplit.audio.files", "def late():\n    from bandsplit.cli.main import main", "cli is above audio"),
        ("bandsplit.audio.files", "from bandsplit import evaluation", "evaluation is above audio"),
        ("bandsplit.audio.files", "from bandsplit import Separator", "import a name from the module that defines it"),
        ("bandsplit.__init__", "from torch import nn", "__init__ is read without torch"),
        ("bandsplit.recipes.paper", "import torch.nn", "recipes.paper is read without torch"),
        ("bandsplit.evaluation.tables", "def late():\n    from safetensors import torch", "is read without torch"),
        ("bandsplit.helpers", "", "bandsplit.helpers is in no room"),
    ],
)
def test_a_wrong_import_is_named(module: str, source: str, complaint: str):
    (found,) = complaints({module: source})
    assert found.startswith(module)
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bandsplit.evaluation.metrics", "import torch\nfrom bandsplit.core.version import __version__"),
        ("bandsplit.models.bsrnn.build", "from . import blocks\nfrom bandsplit.models.layers import lstm"),
        ("bandsplit.__main__", "from bandsplit.cli.main import main"),
    ],
)
def test_imports_that_point_down_are_fine(module: str, source: str):
    assert complaints({module: source}) == []


def test_a_circle_is_named():
    circle = find_circle({"bandsplit.audio.a": "from . import b", "bandsplit.audio.b": "def f(): from . import a"})
    assert set(circle) == {"bandsplit.audio.a", "bandsplit.audio.b"}
    late = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a"
    assert find_circle({"bandsplit.audio.a": "from . import b", "bandsplit.audio.b": late}) == []
