"""The pages together: their place in the site, and what is written from the code or must agree with it."""

import re

import pytest
import typer

from bandsplit.cli.main import app
from bandsplit.core.fetching import in_gb
from bandsplit.models.families import FAMILIES
from bandsplit.models.pretrained.registry import entries, find_entry
from bandsplit.runs.config import TrainingConfig
from commands_page import commands_page, leaves
from models_page import models_page
from places import PACKAGE, ROOT
from python_page import python_page
from settings_page import settings_page
from site_links import ELSEWHERE, in_the_site

WRITTEN = {"settings.md", "commands.md", "python.md", "registered.md"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation_once_and_every_place_of_it_is_a_page():
    named = re.findall(r": ([\w-]+\.md)$", read("mkdocs.yml").split("\nnav:")[1], re.MULTILINE)
    assert sorted(named) == sorted({path.name for path in ROOT.glob("docs/*.md")} | {*ELSEWHERE} | WRITTEN)


def test_the_page_of_settings_has_every_setting_and_family_and_says_what_each_is():
    page = settings_page()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    assert set(TrainingConfig.model_fields) <= {name for name, *_ in rows}
    assert [name for name, *_, meaning in rows if not meaning.strip()] == []
    assert re.findall(r"^## Model: (\w+)$", page, re.MULTILINE) == list(FAMILIES)
    anchors = set(re.findall(r"\{: #([\w-]+) \}", page))
    assert set(re.findall(r"\]\(#([\w-]+)\)", page)) == anchors and len(anchors) > 40


def test_the_page_of_settings_states_limits_defaults_and_kinds():
    page = settings_page()
    assert "| `learning_rate` | number > 0 | `0.001` | Learning rate at a global batch of 16. |" in page
    assert "| `precision` | `fp32`, `tf32`, `bf16`, `fp16` | `fp32` |" in page
    assert "### `training.decay.kind`: `cosine`" in page
    assert re.search(r"\| `every_updates` \| integer > 0 \| required \|", page)


def test_the_page_of_commands_has_every_command_and_option():
    page = commands_page()
    program = typer.main.get_command(app)
    assert "--version" in {option for parameter in program.params for option in parameter.opts}
    for path, command in [(("bandsplit",), program), *leaves(program)]:
        section = page.split(f"\n## {' '.join(path)}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            if not getattr(parameter, "hidden", False) and parameter.opts[0].startswith("-"):
                assert max(parameter.opts, key=len) in section, (path, parameter.opts)


def test_the_pages_of_models_and_of_python_have_every_name():
    models = models_page()
    assert re.findall(r"^## (.+)$", models, re.MULTILINE) == [entry.name for entry in entries()]
    assert all(entry.licence in models for entry in entries())
    assert {"bandsplit.Separator", "bandsplit.load_separator", "bandsplit.metrics.usdr"} <= {
        *re.findall(r"^###? (bandsplit\.[\w.]+)$", python_page(), re.MULTILINE)
    }


def test_the_page_of_python_shows_annotations_without_quotes_and_no_addresses():
    page = python_page()
    assert "Separator(model: Model | Sequence[Model], device: str | torch.device = 'auto'," in page
    assert "-> Separator\n" in page and not re.search(r"(: |-> )'|0x[0-9a-f]+", page)


def test_models_for_an_ear_are_registered_with_the_stems_and_licences_that_the_page_states():
    rows = re.findall(
        r"^\| [^|]+ \| (`[^|]+`) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", read("docs/which-model.md"), re.MULTILINE
    )
    assert len(rows) > 8
    for names, stems, licence in rows:
        for name in re.findall(r"`([^`]+)`", names):
            assert sorted(stems.split(", ")) == sorted(find_entry(name).targets), name
            assert licence in (find_entry(name).licence, "see `models list`"), name


def test_the_table_of_models_agrees_with_the_registry():
    rows = re.findall(
        r"^\| `([^`|]+)` \| ([^|]*)\| `(\w+)` \| (?:about )?([^|]+) \| ([^|]+) \| ([^|]+) \|$",
        read("docs/models.md"),
        re.MULTILINE,
    )
    expected = {
        entry.name: (
            " ".join(f"`{alias}`" for alias in entry.aliases),
            entry.family,
            in_gb(entry.source.bytes),
            in_gb(entry.kept_bytes),
        )
        for entry in entries()
    }
    assert {name: (aliases.strip(), *facts) for name, aliases, *facts, _ in rows} == expected
    for name, *_, about in rows:
        entry = find_entry(name)
        assert (f"needs `--{entry.lack}`" in about) == bool(entry.lack), name
        if 0 < len(entry.targets) < 4:
            assert all(target in about for target in entry.targets), name


def test_the_page_of_the_architecture_has_every_room():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert set(re.findall(r"^\| `(\w+)` \| ", read("docs/architecture.md"), re.MULTILINE)) == rooms
    assert set(re.findall(r">(\w+)</text>", read("docs/images/rooms.svg"))) == rooms


def test_the_pictures_of_the_help_are_those_of_this_command_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "images"))
    from draw_help import HERE, PICTURES, draw  # type: ignore[import-not-found]

    old = [name for name, arguments in PICTURES.items() if (HERE / name).read_text(encoding="utf-8") != draw(arguments)]
    assert old == [], "draw them anew: docs/images/draw_help.py"


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("[a](../CONTRIBUTING.md#habits)", "docs/", "[a](contributing.md#habits)"),
        ("[a](docs/data.md#errata) [b](README.md)", "CHANGELOG.md", "[a](data.md#errata) [b](index.md)"),
        ("[a](../docs/data.md)", "benchmarks/README.md", "[a](data.md)"),
        ("![a](images/x.png) [b](data.md) [c](#here) [d](https://e.org)", "docs/", None),
    ],
)
def test_links_to_files_outside_the_folder_lead_to_their_pages(text: str, place: str, expected: str | None):
    assert in_the_site(text, place) == (expected or text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[a](../kernels/src)", "docs/kernels.md"),
        ("[a](Makefile)", "CONTRIBUTING.md"),
        ("[a](../../elsewhere/data.md)", "docs/"),
    ],
)
def test_a_link_that_the_site_cannot_follow_is_an_error(text: str, place: str):
    with pytest.raises(ValueError, match=f"^{place}: .* is not in the site: write it as code"):
        in_the_site(text, place)
