"""Parts of a running server that its routes use."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from bandsplit.core.errors import BandsplitError
from bandsplit.serve.disk import check_room
from bandsplit.serve.dispatcher import Dispatcher
from bandsplit.serve.jobs import Jobs
from bandsplit.serve.offers import Offers


class TooLargeError(BandsplitError):
    """An upload is larger than the limit."""


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
        """Check that there is room for an upload, or for the part that has not arrived.

        Raises:
            FullDiskError: there is not.
        """
        check_room(self.jobs.folder, size_bytes, self.limits.keep_free_bytes)


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


Served = Annotated[Service, Depends(_service)]
"""Parameter of a route: the service."""
