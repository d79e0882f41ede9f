"""The systems of Table I: published rows, registered public weights, and the recipes that train them here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bandsplit.published.paper import SystemRow, table1
from bandsplit.recipes.protocol import under_protocol
from bandsplit.recipes.recipe import Recipe


@dataclass(frozen=True)
class StudySystem:
    """A system in its forms: as published, from public weights, and trained here."""

    name: str
    """Name in Table I."""
    published: tuple[SystemRow, ...]
    """Its rows of Table I: without and with extra data."""
    public: tuple[str, ...]
    """Registered names of public weights, its own and those of its relatives."""
    recipes: tuple[str, ...]
    note: str
    """Limits of its forms, for readers of tables."""

    @property
    def id(self) -> str:
        """The name as users type it: ``ht-demucs``."""
        return self.name.lower().replace(" ", "-")


# System of Table I -> registered names, recipes that the protocol is applied to, note.
_FORMS: Mapping[str, tuple[Sequence[str], Sequence[str], str]] = {
    "CWS-PResUNet": (
        ("presunet-vocals", "presunet-joint"), ("presunet",),
        "its networks for bass and drums were never released. Trained on mixtures of four stems, its networks may fall "
        "silent",
    ),
    "KUIELab-MDX-Net": (
        ("kuielab-mdx-net", "demucs-v2"), ("mdx-net",),
        "demucs-v2 is the half of the public bag; trained here: its networks without mixer and Demucs",
    ),
    "Hybrid Demucs": (
        ("mdx", "hdemucs_mmi", "mdx_extra"), ("hdemucs",), "trained here: one model, not a bag of four",
    ),
    "HT Demucs": (
        ("htdemucs", "htdemucs_ft", "htdemucs_6s"), ("htdemucs",),
        "the sparse network of the row with extra data is not public",
    ),
    "BSRNN": (
        ("bsrnn-large", "bsrnn-opt"), ("large", "optimised"),
        "public weights are of the paper's authors; those of the first publication are not public",
    ),
    "SIMO-BSRNN": (
        ("simo-bsrnn-opt",), ("simo-optimised",),
        "public weights are of the paper's authors; those of the first publication are not public",
    ),
    "TFC-TDF UNet v3": (
        ("mdx23c-instvoc-hq",), ("kuielab-c1",),
        "trained here: KUIELab's model 1 for clean stems; the network of the published row is not known; public "
        "weights are of a larger network and of other targets",
    ),
    "BS-RoFormer": (
        ("bs-roformer-musdb", "bs-roformer-1297", "bs-roformer-sw", "mel-roformer-kim"), ("bs-roformer",),
        "its authors published no weights; the public ones are of others",
    ),
    "DTTNet": (
        (), ("dttnet",),
        "public weights cannot be fetched, since no digest of them is published; import them yourself",
    ),
}  # fmt: skip


def table1_systems() -> tuple[StudySystem, ...]:
    """Return the systems in the order of Table I."""
    rows = table1()
    return tuple(
        StudySystem(
            name, tuple(row for row in rows if row.system == name), tuple(public),
            tuple(f"table1-{recipe}" for recipe in recipes), note,
        )
        for name in dict.fromkeys(row.system for row in rows)
        for public, recipes, note in (_FORMS[name],)
    )  # fmt: skip


def table1_recipes(recipes: Mapping[str, Recipe]) -> list[Recipe]:
    """Make the recipes of the systems from ``recipes``, by name."""
    return [under_protocol(recipes[id]) for _, parents, _ in _FORMS.values() for id in parents]
