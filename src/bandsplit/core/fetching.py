"""Download of one large file over a bad connection: the file gets its name once its digest is verified.

Until then it is called ``<file>.part``. After a broken or stalled connection the same call, or a later one, resumes
where the download stopped if the server supports that; otherwise the download starts again.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import pooch
import requests

from bandsplit.core.errors import DownloadError
from bandsplit.core.version import __version__

BLOCK_BYTES = 1 << 16

# Zenodo slows down clients without a User-Agent; a compressed response could not be resumed in the middle.
HEADERS = {"User-Agent": f"bandsplit/{__version__}", "Accept-Encoding": "identity"}

_DIGITS = {"md5": 32, "sha256": 64, "git": 40}

CHECK_CONNECTION = "check the connection (behind a proxy, set HTTPS_PROXY)"

ByteProgress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done_bytes, total_bytes)``; in this module the stage is download or check."""

T = TypeVar("T")


class Digest(NamedTuple):
    """Digest of a complete file."""

    kind: str
    """md5, sha256, or git: the name that git gives to a file with this content."""
    value: str
    """Hexadecimal, in lower case; its first digits, if no more are known."""

    def fits(self, found: str) -> bool:
        """Return whether a complete digest has the known digits."""
        return found.startswith(self.value)

    def __str__(self) -> str:
        """Write it, and how many digits are known unless all are."""
        known = len(self.value)
        return self.value if known == _DIGITS[self.kind] else f"{self.value}... (its first {known} digits)"


class Patience(NamedTuple):
    """Time limit and retries of a download."""

    timeout_s: float = 60.0
    """Time without data after which a connection counts as broken."""
    retries: int = 4
    """Consecutive retries without a new byte before the download fails."""
    pause_s: float = 2.0
    """Wait before the first retry; each further retry waits this much longer."""


PATIENCE = Patience()


def fetch(
    url: str,
    path: Path,
    digest: Digest,
    fix: str,
    progress: ByteProgress,
    patience: Patience = PATIENCE,
    *,
    most_bytes: int,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Download ``url`` to ``path``, resuming where an earlier call stopped; an existing complete file is kept.

    Args:
        url: http or https; proxies are taken from the environment.
        path: the file; its folder must exist.
        digest: of the complete file.
        fix: what to do if the download fails, for the error message.
        progress: called often.
        patience: time limit and retries.
        most_bytes: the download stops if the server announces or sends more, so that it cannot fill the disk.
        headers: sent with the request, but to no other server that it leads to.

    Raises:
        DownloadError: the download fails, or the server sends a different file.
        OSError: the file cannot be written.
    """
    if path.exists():
        if not digest.fits(found := _digest(path, digest.kind, progress)):
            raise DownloadError(
                f"{path}: its {digest.kind} is {found}, not {digest}: it is truncated, damaged or another file; "
                f"remove it and run the same command again to download it"
            )
        return
    part = part_of(path)
    try:
        persist(
            lambda: _receive(url, part, patience.timeout_s, progress, most_bytes, headers or {}),
            patience,
            lambda: size_of(part),
        )
    except requests.RequestException as error:
        check = "" if isinstance(error, requests.HTTPError) else f"{CHECK_CONNECTION}, or "
        kept = f"; the {in_gb(size_of(part))} that arrived are kept, run the same command again to continue from there"
        raise DownloadError(f"{url}: {failure_of(error)}; {check}{fix}{kept if size_of(part) else ''}") from error
    if not digest.fits(found := _digest(part, digest.kind, progress)):
        size_bytes = size_of(part)
        part.unlink()
        raise DownloadError(
            f"{url}: the download ({in_gb(size_bytes)}) has {digest.kind} {found}, not {digest}: it was damaged "
            f"in transit or is another file; it was removed; run the same command again, or {fix}"
        )
    part.replace(path)


def persist(action: Callable[[], T], patience: Patience, arrived_bytes: Callable[[], int] = lambda: 0) -> T:
    """Repeat an action after network errors, until too many consecutive failures bring no new byte.

    Raises:
        requests.RequestException: the last failure, or one that no retry can fix.
    """
    failures = 0
    while True:
        before = arrived_bytes()
        try:
            return action()
        except requests.RequestException as error:
            failures = 1 if arrived_bytes() > before else failures + 1
            if failures > patience.retries or not _may_pass(error):
                raise
        time.sleep(patience.pause_s * failures)


def failure_of(error: requests.RequestException) -> str:
    """Describe a failure in a few words."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be reached or refuses"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted (REQUESTS_CA_BUNDLE can name a file of trusted ones)"
    if isinstance(error, ValueError):
        return f"unexpected answer or address ({error})"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    return "cannot be reached"


def part_of(path: Path) -> Path:
    """Name the unfinished file."""
    return path.with_name(f"{path.name}.part")


def size_of(path: Path) -> int:
    """Return a file's size in bytes, 0 if the file does not exist."""
    return path.stat().st_size if path.exists() else 0


def missing_bytes(path: Path, size_bytes: int) -> int:
    """Return how much of a file of about ``size_bytes`` is still to be downloaded to ``path``."""
    return 0 if path.exists() else max(size_bytes - size_of(part_of(path)), 0)


def in_gb(size_bytes: int) -> str:
    """Write a size in gigabytes, small ones in megabytes."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"


def check_source(mirror: str | None, md5: str | None = None) -> None:
    """Check a user's mirror and md5.

    Raises:
        DownloadError: the mirror is not the address of a folder, or the md5 is malformed.
    """
    if mirror is not None and not re.match(r"https?://[^/]", mirror):
        raise DownloadError(f"--mirror {mirror}: must be the address of a folder, as in https://example.org/data")
    if md5 is not None and not re.fullmatch(r"[0-9a-fA-F]{32}", md5):
        raise DownloadError(f"--md5 {md5}: must be 32 digits of 0-9 and a-f")


def require_space(folder: Path, needed_bytes: int, what: str, fix: str) -> None:
    """Check that the disk of ``folder`` has enough free space.

    Args:
        folder: folder to be written to; it may be missing.
        needed_bytes: space needed.
        what: what needs the space and why, for the error message.
        fix: an alternative to freeing space, for the error message.

    Raises:
        DownloadError: the disk has too little space.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise DownloadError(
            f"{folder}: {what}, the disk has {in_gb(free_bytes)} free; free {in_gb(needed_bytes - free_bytes)}, "
            f"or {fix}"
        )


def _receive(
    url: str, part: Path, timeout_s: float, progress: ByteProgress, most_bytes: int, more: Mapping[str, str]
) -> None:
    """Download to ``part``, resuming at its end if the server supports it."""
    done = size_of(part)
    headers = {**HEADERS, **more, **({"Range": f"bytes={done}-"} if done else {})}
    with requests.get(url, headers=headers, stream=True, timeout=timeout_s) as answer:
        if done and answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # no byte is missing; the digest shows whether they are the right ones
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        done = done if goes_on else 0
        total = done + int(answer.headers.get("Content-Length", 0))
        if total > most_bytes:
            raise _too_big(url, part, total, most_bytes)
        with part.open("ab" if goes_on else "wb") as file:
            for block in answer.iter_content(BLOCK_BYTES):
                done += len(block)
                if done > most_bytes:
                    raise _too_big(url, part, done, most_bytes)
                file.write(block)
                progress("download", done, total)
    if done < total:  # urllib3 1 accepts a truncated response as complete
        raise requests.exceptions.ChunkedEncodingError(f"{done} of {total} bytes")


def _too_big(url: str, part: Path, size_bytes: int, most_bytes: int) -> DownloadError:
    part.unlink(missing_ok=True)
    return DownloadError(
        f"{url}: is another file: it has {in_gb(size_bytes)} or more, the expected maximum is {in_gb(most_bytes)}; "
        f"nothing was kept; check the address of the mirror"
    )


def _may_pass(error: requests.RequestException) -> bool:
    """Return whether a retry can help; it cannot for an address that is wrong or refused."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return not isinstance(error, ValueError)


def _digest(path: Path, kind: str, progress: ByteProgress) -> str:
    size_bytes = size_of(path)
    progress("check", 0, size_bytes)
    digest = _git_name(path) if kind == "git" else pooch.file_hash(str(path), alg=kind)
    progress("check", size_bytes, size_bytes)
    return digest


def _git_name(path: Path) -> str:
    content = path.read_bytes()  # git holds only small files by themselves
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
