"""Parts of a running server that its routes use."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from bandsplit.core.errors import BandsplitError
from bandsplit.core.fetching import in_gb
from bandsplit.serve.dispatcher import Dispatcher
from bandsplit.serve.jobs import Jobs
from bandsplit.serve.offers import Offers


class TooLargeError(BandsplitError):
    """An upload is larger than the limit."""


class FullDiskError(BandsplitError):
    """The disk has no room for an upload and its stems."""


@dataclass(frozen=True)
class Limits:
    """Limits of uploads."""

    most_bytes: int
    """Size of an upload."""
    keep_free_bytes: int
    """Space that stays free on the disk."""

    def check_size(self, size_bytes: int) -> None:
        """Check the size of an upload, or of the part that has arrived.

        Raises:
            TooLargeError: it is above the limit.
        """
        if size_bytes > self.most_bytes:
            raise TooLargeError(
                f"the upload is larger than {self.most_bytes / 1e6:g} MB, the limit of this server (--max-upload)"
            )


@dataclass
class Service:
    """Queue, models, dispatcher and limits."""

    jobs: Jobs
    offers: Offers
    dispatcher: Dispatcher
    limits: Limits
    token: str | None
    closing: threading.Event = field(default_factory=threading.Event)
    """Set when the server stops, so that streams of events end."""

    def check_disk(self, size_bytes: int) -> None:
        """Check that there is room for an upload.

        Raises:
            FullDiskError: there is not.
        """
        free_bytes = shutil.disk_usage(self.jobs.folder).free
        if free_bytes - size_bytes < self.limits.keep_free_bytes:
            raise FullDiskError(
                f"the disk of the server has {in_gb(free_bytes)} free, and {in_gb(self.limits.keep_free_bytes)} must "
                f"stay free (--keep-free); delete results"
            )


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


Served = Annotated[Service, Depends(_service)]
"""Parameter of a route: the service."""
