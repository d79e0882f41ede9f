"""Budgets: the price at which a run stops, in counted operations, energy or time."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from bandsplit.core.config import Config
from bandsplit.core.errors import ConfigError

_UNITS: dict[str, tuple[Literal["flop", "energy", "time"], float]] = {
    "flop": ("flop", 1.0), "kwh": ("energy", 1.0), "wh": ("energy", 1e-3),
    "h": ("time", 3600.0), "min": ("time", 60.0), "s": ("time", 1.0),
}  # fmt: skip
_FORM = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]+)\s*(?:/\s*([0-9]+))?\s*")


class Budget(Config):
    """The price of a system: all models of a recipe with one seed, each of which gets an equal share."""

    kind: Literal["flop", "energy", "time"]
    """Counted operations of the training steps; or energy without PUE, or time, both of all attempts, with preparation
    and validations."""
    amount: PositiveFloat
    """In floating-point operations, kWh or seconds."""
    models: PositiveInt = 1
    """Models of the system."""

    @property
    def share(self) -> float:
        """The amount for one model."""
        return self.amount / self.models

    @property
    def price(self) -> str:
        """The amount with its unit, which `parse_budget` reads: ``2e15flop``, ``0.5kWh``, ``20min``."""
        match self.kind:
            case "flop":
                return f"{_digits(self.amount)}flop"
            case "energy":
                return f"{_digits(self.amount)}kWh"
            case "time":
                minutes = self.amount / 60
                whole = minutes >= 1 and float(f"{minutes:g}") * 60 == self.amount
                return f"{_digits(minutes)}min" if whole else f"{_digits(self.amount)}s"

    def __str__(self) -> str:
        """The price, and the models that share it: ``2e15flop/4``."""
        return self.price + (f"/{self.models}" if self.models > 1 else "")

    def too_small(self, what: str, least: float) -> ConfigError:
        """Make the error of a budget that does not pay for ``what`` with the share ``least``."""
        fitting = self.model_copy(update={"amount": _rounded_up(least * self.models)})
        return ConfigError(f"budget {self}: does not pay for {what}; the smallest that does is {fitting}")


def parse_budget(text: str) -> Budget:
    """Read an amount and a unit; ``/N`` is the share of one of N models.

    Raises:
        ConfigError: it is not a budget.
    """
    found = _FORM.fullmatch(text.lower())
    try:
        if found is None:
            raise ValueError
        kind, factor = _UNITS[found[2]]
        return Budget(kind=kind, amount=float(found[1]) * factor, models=int(found[3] or 1))
    except (KeyError, ValueError):
        raise ConfigError(
            f"--budget {text}: is not a budget; give a positive number and one of the units flop, kWh, Wh, h, min and "
            f"s, for example 2e15flop, 0.5kWh or 20min"
        ) from None


def _digits(value: float) -> str:
    """Write all digits of a number, as few as there are."""
    short = f"{value:g}"
    return re.sub(r"e\+?(-?)0*", r"e\1", short if float(short) == value else repr(value))


def _rounded_up(value: float) -> float:
    """Round up to three digits."""
    exponent = math.floor(math.log10(value)) - 2
    return float(f"{math.ceil(round(value / 10.0**exponent, 6))}e{exponent}")
