"""Uploads: streamed to the disk within limits, and looked at before they enter the queue."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
from starlette.requests import Request

from bandsplit.audio import files as audio
from bandsplit.audio.opening import UnknownFormatError
from bandsplit.core.errors import AudioError, BandsplitError
from bandsplit.serve.disk import FullDiskError
from bandsplit.serve.job import Job, Wish, clean_name, suffix_of
from bandsplit.serve.service import Service
from bandsplit.serve.wording import name_song

SILENCE_S = 60.0
"""Longest time without a byte of an upload: a client may go away without a word."""
_CHECK_BYTES = 4_000_000
"""After so much of an upload the disk is looked at again: others fill it, too."""


class StalledUploadError(BandsplitError):
    """A client stopped in the middle of an upload."""


def refuse_forms(request: Request) -> None:
    """Refuse a body that is a form.

    Raises:
        AudioError: it is one.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise AudioError(
            "the body must be the file itself, not a form: send it with `curl -X POST -T song.mp3 ADDRESS`, not with -F"
        )


async def receive(request: Request, service: Service, name: str, wish: Wish) -> Job:
    """Take a song into the queue; if that fails, or the client goes away, nothing of it remains.

    Raises:
        TooLargeError: it is above the limit.
        FullDiskError: the disk has no room.
        AudioError: it is not audio.
        StalledUploadError: the client stopped.
        ClientDisconnect: the client went away.
    """
    length = request.headers.get("content-length", "")
    stated_bytes = int(length) if length.isdecimal() else 0
    service.limits.check_size(stated_bytes)
    service.check_disk(stated_bytes)
    try:
        with service.jobs.scratch() as folder:
            name = clean_name(name)
            song = folder / f"song{suffix_of(name)}"
            await _store(request, service, song, stated_bytes)
            about_s = await anyio.to_thread.run_sync(_look, song, name)
            return await anyio.to_thread.run_sync(service.jobs.add, song, name, wish, about_s)
    except OSError as error:
        raise FullDiskError(f"the upload cannot be stored ({error.strerror}); delete results") from None


async def _store(request: Request, service: Service, song: Path, stated_bytes: int) -> None:
    size_bytes = checked_bytes = 0
    with song.open("wb") as file:
        async for block in _blocks(request):
            size_bytes += len(block)
            service.limits.check_size(size_bytes)
            await anyio.to_thread.run_sync(file.write, block)
            if size_bytes - checked_bytes >= _CHECK_BYTES:
                await anyio.to_thread.run_sync(service.check_disk, max(0, stated_bytes - size_bytes))
                checked_bytes = size_bytes


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body of a request."""
    blocks = aiter(request.stream())
    while True:
        try:
            with anyio.fail_after(SILENCE_S):
                block = await anext(blocks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise StalledUploadError(f"nothing of the upload arrived for {SILENCE_S:g} s; send it again") from None
        yield block


def _look(song: Path, name: str) -> float | None:
    """Return the length of a song in seconds as its header states it; None if that takes decoding.

    Raises:
        AudioError: it is not audio.
    """
    try:
        found = audio.info(song)
    except AudioError as error:
        if isinstance(error, UnknownFormatError) and not _is_text(song):
            return None  # other decoders may know it, which the separation tries
        raise AudioError(name_song(str(error), song, name)) from None
    return found.samples / found.sample_rate_hz


def _is_text(path: Path) -> bool:
    """Return whether a file begins with text; audio soon has bytes that text has not."""
    with path.open("rb") as file:
        begin = file.read(4096)
    try:
        text = getincrementaldecoder("utf-8")().decode(begin)  # the last letter may be cut
    except UnicodeDecodeError:
        return False
    return "\0" not in text
