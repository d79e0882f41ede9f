"""Server-sent events: what a client sees, again whenever it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from bandsplit.serve.jobs import UnknownJobError
from bandsplit.serve.service import Service

_PERIOD_S = 0.25
_QUIET_PERIODS = 60
"""After so many periods without an event a comment is sent, so that a broken connection is noticed."""


def stream(service: Service, look: Callable[[], Sequence[BaseModel]], is_over: Callable[[], bool]) -> StreamingResponse:
    """Answer with an event for each state of things.

    Args:
        service: the server; the events end with it.
        look: returns the state, which is sent as a JSON array if it differs from the last one.
        is_over: returns whether no further event will come.
    """
    return StreamingResponse(_events(service, look, is_over), media_type="text/event-stream")


async def _events(
    service: Service, look: Callable[[], Sequence[BaseModel]], is_over: Callable[[], bool]
) -> AsyncIterator[str]:
    seen, last, quiet = None, "", 0
    while not service.closing.is_set():
        try:
            over = is_over()
            version = service.dispatcher.version()
            text = last if version == seen else f"[{','.join(part.model_dump_json() for part in look())}]"
            seen = version
        except UnknownJobError:  # deleted
            return
        if text != last:
            yield f"data: {text}\n\n"
            last, quiet = text, 0
        elif quiet >= _QUIET_PERIODS:
            yield ": no change\n\n"
            quiet = 0
        if over:
            return
        quiet += 1
        await asyncio.sleep(_PERIOD_S)
