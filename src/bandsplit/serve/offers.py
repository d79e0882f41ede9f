"""Models that a client can choose, with what is known of each, and their prices on this machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bandsplit.core.config import Config, hash8
from bandsplit.core.errors import BandsplitError, ConfigError
from bandsplit.core.files import write_atomically
from bandsplit.core.machine import cpu_name, cpu_threads
from bandsplit.core.text import numbered
from bandsplit.core.version import __version__
from bandsplit.evaluation.results import METRICS
from bandsplit.models.card import ModelCard, read_card
from bandsplit.models.pretrained import registry
from bandsplit.models.pretrained.entries import Entry
from bandsplit.separation.members import members_of
from bandsplit.separation.outputs import OutputConfig
from bandsplit.separation.systems import read_system
from bandsplit.serve.timing import Price

_VALIDATION = "validation_"
_LOSS = "validation_loss"
"""In cards, but of no use for a comparison of models."""
_GPU = Path("/proc/driver/nvidia/version")

_log = logging.getLogger("bandsplit")


class ModelView(Config):
    """A model or bag that can be chosen."""

    id: str
    """Its name, unique on this server."""
    about: str
    """What it is."""
    targets: tuple[str, ...]
    """Its stems."""
    sample_rate_hz: int
    """Its sample rate; songs of other rates are resampled to it and back."""
    scores: tuple[str, ...]
    """Its scores, as published or as its card states them."""
    licence: str
    """Licence of its weights."""
    training_data: str
    """The songs that it was trained on."""
    bytes: int
    """Size of its files."""
    seconds_per_minute: float | None = None
    """Time of the separation of a minute of stereo music on this machine; null until it is measured."""
    measured: bool = False
    """Whether that was tried."""


class Offer(Config):
    """A model, and its files."""

    view: ModelView
    files: tuple[Path, ...]
    """Its models or bags, as `Separator` takes them."""
    parts: tuple[Path, ...]
    """All its files, with those of bags."""
    key: str
    """Identifies the files, the machine and the settings that a price is of."""

    @property
    def id(self) -> str:
        """Its name."""
        return self.view.id

    def signals(self, two_stems: str | None) -> int:
        """Return the number of signals to listen to: the song and its stems."""
        return 1 + len(OutputConfig(two_stems=two_stems).stems(self.view.targets))


class Offers:
    """The models, and their prices, which a file keeps for the next start."""

    def __init__(self, offers: Sequence[Offer], prices: Path) -> None:
        """Take the models and read the prices."""
        self._offers = {offer.id: offer for offer in offers}
        self._path = prices
        self._prices: dict[str, Price | None] = {}
        self.version = 0
        """Number of changes of prices."""
        with suppress(OSError, ValueError, TypeError, AttributeError):  # other versions have other prices
            known = json.loads(prices.read_text(encoding="utf-8"))
            self._prices.update({str(key): Price(*map(float, price)) for key, price in known.items()})

    def views(self) -> list[ModelView]:
        """Return the models as clients see them."""
        prices = self._prices
        views = []
        for offer in self._offers.values():
            price = prices.get(offer.key)
            facts = {"seconds_per_minute": price and price.separate_s, "measured": offer.key in prices}
            views.append(offer.view.model_copy(update=facts))
        return views

    def find(self, offer_id: str) -> Offer | None:
        """Return the model with this id, if there is one."""
        return self._offers.get(offer_id)

    def check(self, offer_id: str, two_stems: str | None) -> Offer:
        """Return a model that has a target.

        Raises:
            ConfigError: there is no such model, or it lacks the target.
        """
        offer = self.find(offer_id)
        if offer is None:
            raise ConfigError(f"model: {offer_id!r} is not offered here; legal: {', '.join(self._offers)}")
        if two_stems is not None and two_stems not in offer.view.targets:
            legal = ", ".join(offer.view.targets)
            raise ConfigError(f"two_stems: {two_stems!r} is not estimated by {offer_id}; legal: {legal}")
        return offer

    def price(self, offer_id: str) -> Price | None:
        """Return the price of a model, if it is known."""
        offer = self.find(offer_id)
        return self._prices.get(offer.key) if offer else None

    def unmeasured(self) -> Offer | None:
        """Return a model whose price was not measured yet."""
        return next((offer for offer in self._offers.values() if offer.key not in self._prices), None)

    def set_price(self, offer_id: str, price: Price | None) -> None:
        """Store a price; None if it cannot be measured, which the next start tries again."""
        prices = {**self._prices, self._offers[offer_id].key: price}
        known = {key: price for key, price in prices.items() if price is not None}
        try:
            write_atomically(self._path, json.dumps(known, indent=1).encode())
        except OSError as error:
            _log.warning("%s: cannot be written (%s); prices are measured again", self._path, error.strerror)
        self._prices = prices  # once they are in the file, which others may read then
        self.version += 1


def find_offers(names: Sequence[str], device: str, say: Callable[[str], None] = lambda text: None) -> list[Offer]:
    """Find the models that are named, and those in the cache; without any, the default of `bandsplit separate`.

    Args:
        names: model files, bags, folders of models, and registered names.
        device: the device that computes.
        say: called with a line about a model of the cache that is left out, or about the default.

    Raises:
        ModelFileError: a named model does not exist or is not a model, or no model is found at all.
    """
    found = [registry.find_models([name]) for name in names]
    for entry in registry.entries():
        if (files := registry.cached_files(entry)) and files not in found:
            try:
                read_system(files)
            except BandsplitError as error:
                say(f"{entry.name}: is left out: {error}")
                continue
            found.append(files)
    offers: dict[str, Offer] = {}
    for files in found or [registry.find_models((), say=say)]:
        offer = _describe(files, device, offers)
        offers[offer.id] = offer
    return list(offers.values())


def _describe(files: Sequence[Path], device: str, others: dict[str, Offer]) -> Offer:
    system = read_system(files)
    entry = next((entry for entry in registry.entries() if registry.cached_files(entry) == list(files)), None)
    configs = {member.name: member.config for member in members_of(system.mean)}
    facts = _published(entry) if entry else _from_cards([read_card(name)[1] for name in configs], len(configs))
    name = entry.name if entry else system.mean.name
    number = next(number for number in range(1, len(others) + 2) if numbered(name, number) not in others)
    offer_id = numbered(name, number)
    sizes = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in system.files]
    machine = [cpu_name(), cpu_threads(), device, _GPU.exists(), __version__]
    view = ModelView(
        id=offer_id, targets=system.mean.targets, bytes=sum(size for _, size, _ in sizes),
        sample_rate_hz=next(iter(configs.values())).sample_rate_hz, **facts,
    )  # fmt: skip
    return Offer(view=view, files=tuple(files), parts=system.files, key=hash8([sizes, machine]))


def _published(entry: Entry) -> dict[str, Any]:
    return {
        "about": entry.about, "scores": tuple(scores.summary() for scores in entry.scores), "licence": entry.licence,
        "training_data": entry.data_note,
    }  # fmt: skip


def _from_cards(cards: Sequence[ModelCard], models: int) -> dict[str, Any]:
    """Describe models by their cards, each fact once."""

    def join(facts: Sequence[str]) -> str:
        return "; ".join(dict.fromkeys(facts))

    scores = [_score(*score) for score in cards[0].scores.items() if score[0] != _LOSS] if models == 1 else []
    return {
        "about": f"{f'{models} models, ' * (models > 1)}{join([card.source for card in cards])}",
        "scores": tuple(scores), "licence": join([card.licence for card in cards]),
        "training_data": join([card.training_data for card in cards]),
    }  # fmt: skip


def _score(name: str, value: float) -> str:
    """Write a score of a card."""
    key = name.removeprefix(_VALIDATION)
    if key not in METRICS:
        return f"{name} {value:g}"
    metric = METRICS[key]
    return f"{metric.name} {value:.2f} {metric.unit}{' on its validation songs' * (key != name)}"
