"""Settings of other software: none is dropped silently."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from bandsplit.core.config import shorten
from bandsplit.core.errors import ModelFileError

_NEEDED = object()


class Options:
    """One section of settings; `close` refuses those that were neither taken nor named as without effect."""

    def __init__(self, section: Any, where: str) -> None:
        """Take the settings of the section that errors call ``where``.

        Raises:
            ModelFileError: it is not a mapping from names to values.
        """
        if not isinstance(section, Mapping) or not all(isinstance(name, str) for name in section):
            raise ModelFileError(f"{where}: must map names of options to values, is {shorten(repr(section), 80)}")
        self.where, self._section, self._known = where, section, set[str]()

    def take(self, name: str, default: Any = _NEEDED) -> Any:
        """Return an option's value.

        Args:
            name: the option.
            default: value of an absent one; without it, the option is needed.

        Raises:
            ModelFileError: a needed option is missing.
        """
        self._known.add(name)
        if name not in self._section and default is _NEEDED:
            raise ModelFileError(f"{self.where}: needs the option {name!r}")
        return self._section.get(name, default)

    def skip(self, *names: str) -> None:
        """Name options that change no estimate."""
        self._known.update(names)

    def require(self, name: str, *legal: Any) -> None:
        """Name an option that has a counterpart only at some values, of which the first is the default.

        Raises:
            ModelFileError: it has another value.
        """
        value = self.take(name, legal[0])
        if value not in legal:
            values = ", ".join(map(repr, legal))
            raise ModelFileError(f"{self.where}: {name} = {shorten(repr(value), 80)} is not supported; legal: {values}")

    def close(self) -> None:
        """Make sure that every option was taken, or changes nothing.

        Raises:
            ModelFileError: some are unknown; the message names each with its value and its nearest known option.
        """
        unknown = sorted(self._section.keys() - self._known)
        if not unknown:
            return
        near = {name: difflib.get_close_matches(name, self._known, n=1) for name in unknown}
        named = ", ".join(
            f"{name} = {shorten(repr(self._section[name]), 80)}" + (f" (did you mean {found[0]}?)" if found else "")
            for name, found in near.items()
        )
        raise ModelFileError(f"{self.where}: unknown option(s): {named}; known: {', '.join(sorted(self._known))}")


def open_sections(document: Mapping[str, Any], *without_effect: str) -> tuple[Options, Options, Options, Options]:
    """Open a configuration file of Music-Source-Separation-Training, whose options have four sections.

    Args:
        document: its content; a section may be absent.
        without_effect: other sections, which change no estimate.

    Returns:
        The sections ``audio``, ``model``, ``training`` and ``inference``, for the caller to take options and close.

    Raises:
        ModelFileError: there is another section.
    """
    top = Options(document, "configuration")
    audio, model, training, inference = (
        Options(top.take(name, {}), name) for name in ("audio", "model", "training", "inference")
    )
    top.skip("model_type", *without_effect)
    top.close()
    return audio, model, training, inference


def require_facts(facts: Mapping[str, Any], what: str) -> None:
    """Make sure that everything is known that tensors and options must say together.

    Args:
        facts: place of an option -> value; None if neither says it.
        what: description of the network, for the error.

    Raises:
        ModelFileError: something is unknown; the message names the options.
    """
    if missing := [name for name, value in facts.items() if value is None]:
        raise ModelFileError(
            f"is {what}, but its tensors do not say: {', '.join(missing)}; name the configuration file that came with "
            f"it, or one with these options, with --config"
        )
