"""Results of jobs: stems as files and as a zip, and the player with its pieces and pictures."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from bandsplit.core.errors import BandsplitError
from bandsplit.reports.player.markup import templates
from bandsplit.reports.player.song import MIXTURE, PlayerSong, Version
from bandsplit.serve.job import Job, Result
from bandsplit.serve.jobs import Jobs
from bandsplit.serve.listening import FOLDER, PIECE_S

_BLOCK_BYTES = 1 << 18


class NoResultError(BandsplitError):
    """A job has no such result, or none yet."""


def result_of(job: Job) -> Result:
    """Return the result of a job that is done.

    Raises:
        NoResultError: it is not done.
    """
    if job.state != "done" or job.result is None:
        raise NoResultError(f"the job is {job.state}; it has stems once it is done")
    return job.result


def stem_file(jobs: Jobs, job: Job, stem: str) -> Path:
    """Return the file of a stem.

    Raises:
        NoResultError: there is no such file.
    """
    stems = result_of(job).stems
    if stem not in stems:
        raise NoResultError(f"{stem!r} is not a stem of this job; legal: {', '.join(stems)}")
    return jobs.result(job) / stems[stem]


def listening_file(jobs: Jobs, job: Job, signal: int, piece: int | None = None) -> Path:
    """Return a piece of a signal, or its picture.

    Raises:
        NoResultError: there is no such file.
    """
    result = result_of(job)
    if 0 <= signal <= len(result.stems) and 0 <= (piece or 0) <= result.audio_s / PIECE_S:  # longer ones are no names
        path = jobs.result(job) / FOLDER / (f"{signal}.svg" if piece is None else f"{signal}/{piece}.flac")
        if path.is_file():
            return path
    raise NoResultError("the player of this job has no such file")


def player_html(job: Job) -> str:
    """Return the player of a job as HTML."""
    result = result_of(job)
    base = f"/jobs/{job.id}/listen"
    tracks = {MIXTURE: (Version("0", "the song as it was uploaded", f"{base}/0.svg"),)}
    for number, (stem, file) in enumerate(result.stems.items(), start=1):
        tracks[stem] = (Version(str(number), file, f"{base}/{number}.svg"),)
    song = PlayerSong(f"job-{job.id}", job.name, result.audio_s, result.listen_gain_db, (), tracks)
    data = {"listen": base, "rate": result.listen_hz, "piece": PIECE_S}
    return templates("bandsplit.serve").get_template("song.html").render(song=song, data=data)


def zip_blocks(jobs: Jobs, job: Job) -> Iterator[bytes]:
    """Open the stems of a job; return a zip archive of them in blocks.

    The files are open from the start, so that a deletion does not truncate the archive.

    Raises:
        NoResultError: the job is not done.
        OSError: a stem was deleted.
    """
    stack = ExitStack()
    try:
        files = {
            f"{job.track}/{name}": stack.enter_context((jobs.result(job) / name).open("rb"))
            for name in result_of(job).stems.values()
        }
    except BaseException:
        stack.close()
        raise
    return _zip(stack, files)


def _zip(stack: ExitStack, files: Mapping[str, BinaryIO]) -> Iterator[bytes]:
    with stack:
        buffer = _Buffer()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, source in files.items():
                with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                    while block := source.read(_BLOCK_BYTES):
                        member.write(block)
                        yield buffer.take()
        yield buffer.take()


class _Buffer(io.RawIOBase):
    """Output of a zip archive until it is sent; it cannot be sought."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: object, /) -> int:
        """Keep some bytes."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        self._held += view
        return len(view)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        held, self._held = bytes(self._held), bytearray()
        return held
