"""Settings that users make once, in their environment."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from bandsplit.core.errors import ConfigError


def cache_folder() -> Path:
    """Return the folder of fetched models and facts about data sets: ``BANDSPLIT_CACHE``, or the user's cache."""
    return Path(os.environ.get("BANDSPLIT_CACHE") or platformdirs.user_cache_dir("bandsplit")).expanduser()


def is_offline() -> bool:
    """Return whether ``BANDSPLIT_OFFLINE`` forbids downloads.

    Raises:
        ConfigError: its value means neither yes nor no.
    """
    value = os.environ.get("BANDSPLIT_OFFLINE", "").strip().lower()
    if value in ("", "0", "no", "false", "off"):
        return False
    if value in ("1", "yes", "true", "on"):
        return True
    raise ConfigError(f"BANDSPLIT_OFFLINE: {value!r} is neither yes nor no; legal: 1, 0, or not set")


def mirror_setting() -> str | None:
    """Return ``BANDSPLIT_MIRROR``, the address of a folder with the models' archives; None if not set."""
    return os.environ.get("BANDSPLIT_MIRROR") or None


def kernels_setting() -> str | None:
    """Return ``BANDSPLIT_KERNELS``, an instruction set of the CPU kernels or "off"; None if not set."""
    return os.environ.get("BANDSPLIT_KERNELS") or None
