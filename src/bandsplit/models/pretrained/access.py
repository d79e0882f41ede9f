"""Address of the Hub, and the token that it asks for where a model is private."""

from __future__ import annotations

import os
import re

from bandsplit.core.errors import ConfigError

_HUB = "https://huggingface.co"


def endpoint() -> str:
    """Return the address of the Hub, or that of a mirror of it: ``HF_ENDPOINT``.

    Raises:
        ConfigError: it is not an address.
    """
    value = (os.environ.get("HF_ENDPOINT") or _HUB).rstrip("/")
    if not re.match(r"https?://[^/]", value):
        raise ConfigError(f"HF_ENDPOINT: {value!r} is not an address; legal: one as {_HUB}, or not set")
    return value


def token() -> str | None:
    """Return the user's token for the Hub: ``HF_TOKEN``, or the one that ``hf auth login`` stored.

    Raises:
        ModuleNotFoundError: the extra ``hub`` is not installed.
    """
    from huggingface_hub import get_token

    return get_token()


def authorization(url: str) -> dict[str, str]:
    """Return the header that proves who the user is: for the Hub alone, not for a mirror of files."""
    if not url.startswith(f"{endpoint()}/"):
        return {}
    try:
        known = token()
    except ModuleNotFoundError:
        return {}
    return {"Authorization": f"Bearer {known}"} if known else {}
