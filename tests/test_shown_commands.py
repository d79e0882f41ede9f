"""Every command that README and docs show: it is parsed, and it runs, on small stand-ins for what it names."""

import dataclasses
import re
import shutil
import sys
from collections.abc import Callable
from glob import glob
from pathlib import Path

import pytest
import typer

from bandsplit.cli import main as cli
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.recipes.recipe import apply_changes
from matrices import multiply_small_everywhere
from places import ROOT
from shown_commands import Shown, shown_commands
from songs import STEMS
from stand_ins import furnish, write_first_model, write_runs, write_small_songs
from tiny_models import write_tiny_model

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
# One step on half a second.
ONE_STEP = [
    "--set", "training.examples_per_epoch=2", "--set", "training.global_batch=2", "--set", "training.max_epochs=1",
    "--set", "training.batch_size=2", "--set", "training.excerpt_s=0.5",
    "--set", "training.mixing.activity=null",  # songs are shorter than its segments
]  # fmt: skip
SMALL = {"model.n_features": 8, "model.n_blocks": 1, "model.mask.hidden_factor": 1}
"""What the recipe `base` becomes: its commands run as they stand, on a network of the same kind."""
SHORTER = {
    "train": ONE_STEP,
    "plan": ONE_STEP,
    "bench train": ["demo", "--steps", "1"],
    "bench separate": ["--recipe", "demo", "--rounds", "1", "--chunk", "0.5", "--runtime", "plain,torch"],
    "bench data": ["--examples", "10"],
    "data synth": ["--songs", "1", "--valid", "1", "--test", "1", "--minutes", "0.02"],
    "separate song.mp3 --start": ["--start", "0.2", "--duration", "0.5"],
    "separate song.m4a": ["--start", "0.2", "--duration", "0.5"],
}
RENAMED = {"Song 105*": "Song *", "song.m4a": "song.mp3"}
"""Names that depend on more than stand-ins have: the 105th song, an encoder."""


def _remove(*names: str) -> Callable[[], None]:
    def remove() -> None:
        for name in names:
            Path(name).unlink()

    return remove


def _write_small_songs() -> None:
    write_small_songs()
    write_tiny_model("first.safetensors", *STEMS, seed=1)


def _write_a_run_with_its_model() -> None:
    write_tiny_model(_folder("runs/base/vocals/seed-0-0123abcd") / "best.safetensors", *STEMS)


def _folder(name: str) -> Path:
    Path(name).mkdir(parents=True)
    return Path(name)


PREPARED: dict[str, Callable[[], None]] = {
    "data.md": lambda: Path("ROOT").symlink_to("musdb18hq"),
    "energy.md": write_runs,
    "evaluation.md": _write_a_run_with_its_model,
    "models.md": _remove("bass.safetensors", "model.safetensors"),
    "own-stems.md": write_first_model,
    "runs.md": write_runs,
    "scores.md": _write_small_songs,
    "tour.md": _remove("bass.safetensors"),
    "training.md": write_runs,
}


def all_shown() -> list[Shown]:
    return [shown for page in PAGES for shown in shown_commands(page)]


def run_pages() -> list[Path]:
    return [page for page in PAGES if any(shown.is_ours and shown.needs is None for shown in shown_commands(page))]


def test_pages_show_many_commands():
    shown = [shown for shown in all_shown() if shown.is_ours]
    assert len(shown) > 100
    assert sum(command.needs is None for command in shown) > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_of_a_page_has_the_options_that_it_shows(page: Path):
    for shown in shown_commands(page):
        if shown.is_ours:
            command, name, arguments = typer.main.get_command(cli.app), "bandsplit", shown.arguments
            if arguments[0] in {option for parameter in command.params for option in parameter.opts}:
                continue
            while inner := getattr(command, "commands", None):
                assert arguments and arguments[0] in inner, shown
                command, name, arguments = inner[arguments[0]], f"{name} {arguments[0]}", arguments[1:]
            command.make_context(name, list(arguments))  # raises, and names the option that it does not know


@pytest.mark.parametrize("page", ["own-stems.md", "scores.md"])
def test_a_model_that_a_page_starts_from_is_kept_on_the_page_of_ten_steps_or_explained(page: str):
    steps = shown_commands(ROOT / "docs" / "first-model.md")
    kept = {shown.text.split()[2] for shown in steps if shown.text.startswith("cp ")}
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    used = {word for shown in shown_commands(ROOT / "docs" / page) for word in shown.arguments
            if word.endswith(".safetensors") and "/" not in word}  # fmt: skip
    assert kept & used == {"first.safetensors"} and "](first-model.md)" in text
    assert all(f"`{name}` stands for" in text for name in used - kept)


def test_programs_of_others_are_known_and_their_arguments_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = set(re.findall(r"^([a-z]+) = \[$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    others = [shown for shown in all_shown() if not shown.is_ours and shown.needs is None]
    assert others
    for shown in others:
        program, *arguments = shown.text.partition("#")[0].split()
        if program == "make":
            assert arguments[0] in targets, shown
        elif program == "cp":
            assert len(arguments) == 2, shown
        else:
            assert program == "pip", shown
            assert {*re.findall(r"\[([a-z,]+)\]", shown.text)} <= extras, shown


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
@pytest.mark.parametrize("page", run_pages(), ids=lambda path: path.name)
def test_every_command_of_a_page_runs_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    furnish(tmp_path, monkeypatch)
    PREPARED.get(page.name, lambda: None)()
    base = RECIPES["base"]
    monkeypatch.setitem(RECIPES, "base", dataclasses.replace(base, settings=apply_changes(base.settings, SMALL)))
    monkeypatch.setattr("bandsplit.training.plan.TRIAL_S", 0.3)
    multiply_small_everywhere(monkeypatch)
    for shown in shown_commands(page):
        if shown.text.startswith("cp "):
            (source,) = glob(shown.text.split()[1])
            shutil.copy(source, shown.text.split()[2])
        elif shown.is_ours and shown.needs is None:
            monkeypatch.setattr(sys, "argv", ["bandsplit", *_arguments(shown)])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert not stop.value.code, shown
    if page.name == "README.md":
        assert {path.name for path in Path("separated/song").iterdir()} == {f"{stem}.wav" for stem in STEMS}


def _arguments(shown: Shown) -> list[str]:
    """Return the arguments as a shell expands them, with those that make the command small."""
    words = [RENAMED.get(word, word) for word in shown.arguments]
    for old, new in RENAMED.items():
        words = [word.replace(old, new) for word in words]
    expanded = [name for word in words for name in (sorted(glob(word)) or [word])]
    command = " ".join(shown.arguments)
    return expanded + next((more for start, more in SHORTER.items() if command.startswith(start)), [])


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("```sh\nbandsplit doctor  # a remark\n```", [("bandsplit doctor  # a remark", None)]),
        ("    bandsplit runs \\\n        --json\n", [("bandsplit runs --json", None)]),
        ("    pip install .\n    A=b bandsplit runs\n", [("pip install .", None), ("A=b bandsplit runs", None)]),
        (
            "<!-- needs: a GPU -->\n\n    bandsplit runs\n\nText\n\n    bandsplit doctor\n",
            [("bandsplit runs", "a GPU"), ("bandsplit doctor", None)],
        ),
        ("```python\nbandsplit runs\n```\n    code of no command\n", []),
    ],
)
def test_commands_of_a_page(page: str, expected: list[tuple[str, str | None]], tmp_path: Path):
    (tmp_path / "page.md").write_text(page)
    assert [(shown.text, shown.needs) for shown in shown_commands(tmp_path / "page.md")] == expected
