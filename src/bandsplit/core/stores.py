"""Files by URI, such as ``s3://bucket/song.wav``, and folders for results: whatever fsspec can open."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import url2pathname

from bandsplit.core.errors import BandsplitError, ConfigError, NoRoomError, OutputError, StoreError
from bandsplit.core.files import write_atomically

_BUCKETS = ("s3", "s3a", "gs", "gcs", "abfs", "az")
"""Schemes of object stores: they have no folders to make, and making one could make a bucket."""
SILENCE_S = 30.0
"""Time without data after which a connection to a web server counts as broken."""
_EXTRA = ("s3", "s3a", "gs", "gcs")
"""Schemes whose packages the extra ``remote`` installs."""
_ALIASES = {"s3a": "s3", "gcs": "gs"}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WEB = re.compile(r"(https?://)(?:[^/?#]*@)?([^?#]*).*", re.IGNORECASE | re.DOTALL)
_WEB_IN_TEXT = re.compile(r"https?://(?:(?!https?://).)*", re.IGNORECASE)
_CREDENTIALS = {
    "s3": "credentials come from ~/.aws/credentials or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the address of a "
    "server that is not Amazon's from AWS_ENDPOINT_URL",
    "gs": "credentials come from `gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS",
}
_TAGS = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "updated", "created")
"""Properties that change with the content of a file, the best ones first."""


class Found(NamedTuple):
    """A file of a store."""

    uri: str
    facts: Mapping[str, Any]
    """Its size in bytes, and a tag that changes with its content, as far as the store reports them."""


def is_uri(name: str) -> bool:
    """Return whether this is a URI with a scheme, such as ``s3://bucket/song.wav``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


def local_path(name: str) -> Path | None:
    """Return the path of a local file or folder, given as a path or ``file://``; None for other URIs."""
    if not is_uri(name):
        return Path(name)
    scheme, _, rest = name.partition("://")
    return Path(url2pathname(rest)) if scheme.lower() == "file" else None


def shown(uri: str) -> str:
    """Return a URI without what may be secret: the user, query and fragment of a web address, which may be signed."""
    found = _WEB.fullmatch(uri)
    return found[1] + found[2] if found else uri


def shown_in(text: str) -> str:
    """Return a text with each web address as `shown` writes it.

    What follows a query in its line is left out, too: quotes and spaces may be part of an address.
    """
    return _WEB_IN_TEXT.sub(lambda found: shown(found[0]), text)


def canonical(uri: str) -> str:
    """Return a URI with the usual one of the names of its scheme, so that URIs of one file are equal."""
    scheme, sign, rest = uri.partition("://")
    return f"{_ALIASES.get(scheme.lower(), scheme.lower())}{sign}{rest}" if sign else uri


def is_pattern(uri: str) -> bool:
    """Return whether a URI is a pattern such as ``s3://bucket/*.flac``; a name that exists is not.

    Raises:
        ConfigError: nothing can open such URIs.
        StoreError: the store cannot be read.
    """
    signs = "*[" if _WEB.fullmatch(uri) else "*?["
    if not any(sign in shown(uri) for sign in signs):
        return False
    fs, path = _open(uri)
    with _reported(uri, StoreError):
        return not fs.exists(path)


def find_files(given: str, *, pattern: bool) -> list[Found]:
    """List the files of a folder, at any depth, or those that a pattern matches.

    A URI of neither is returned as it is, without facts: `facts_of` checks that it exists.

    Raises:
        ConfigError: nothing can open such URIs.
        StoreError: the store cannot be read.
    """
    fs, path = _open(given)
    with _reported(given, StoreError):
        if pattern:
            infos = fs.glob(path, detail=True)
        elif fs.isdir(path):
            infos = fs.find(path, detail=True)
        else:
            return [Found(given, {})]
    files = [info for info in dict(infos).values() if info["type"] == "file"]
    return sorted(Found(fs.unstrip_protocol(info["name"]), _facts(info)) for info in files)


def facts_of(uri: str) -> Mapping[str, Any]:
    """Return the facts of a file; see `Found`.

    Raises:
        StoreError: it does not exist, or the store cannot be read.
    """
    fs, path = _open(uri)
    with _reported(uri, StoreError):
        return _facts(fs.info(path))


def read_text(uri: str) -> str:
    """Read a file of text in UTF-8.

    Raises:
        StoreError: it does not exist, or the store cannot be read.
    """
    fs, path = _open(uri)
    with _reported(uri, StoreError):
        return fs.cat_file(path).decode("utf-8-sig", "surrogateescape")


def fetch_file(uri: str, folder: Path) -> Path:
    """Copy a file to a local folder, under its own name.

    Raises:
        StoreError: it does not exist, or the store cannot be read.
        NoRoomError: the folder has no room.
    """
    fs, path = _open(uri)
    local = folder / (shown(path).rstrip("/").rpartition("/")[2] or "song")
    with _reported(uri, StoreError):
        try:
            fs.get_file(path, str(local))
        except OSError as error:
            if error.errno in _FULL or error.filename == str(local):
                raise NoRoomError(
                    f"{shown(uri)}: cannot be copied to {folder} ({error.strerror}); "
                    f"set TMPDIR to a folder on another disk"
                ) from None
            raise
    return local


class Store:
    """A folder for results, local or remote. Every file appears complete or not at all."""

    def __init__(self, name: str) -> None:
        """Take a path or a URI; nothing is created yet.

        Raises:
            ConfigError: nothing can open such URIs.
        """
        self.local = local_path(name)
        self.name = name.rstrip("/") if self.local is None else str(self.local)
        if self.local is None:
            self._fs, self._root = _open(self.name)

    def names(self, folder: str) -> set[str]:
        """List the files in a folder below this one; none if it does not exist.

        Raises:
            StoreError: the store cannot be read.
        """
        with _reported(f"{self.name}/{folder}", StoreError):
            try:
                if self.local is not None:
                    return set(os.listdir(self.local / folder))
                return {name.rpartition("/")[2] for name in self._fs.ls(f"{self._root}/{folder}", detail=False)}
            except FileNotFoundError:
                return set()

    def write(self, name: str, content: bytes) -> None:
        """Write a file below this folder, replacing an older one.

        Raises:
            OutputError: the disk is full or gone, or the store refuses.
        """
        with _reported(f"{self.name}/{name}", OutputError):
            if self.local is not None:
                path = self.local / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)
            else:
                self._make_parent(name)
                self._fs.pipe_file(f"{self._root}/{name}", content)

    def put(self, path: Path, name: str) -> None:
        """Copy a local file to a place below this folder, which is remote.

        Raises:
            OutputError: the store refuses, or cannot be reached.
        """
        with _reported(f"{self.name}/{name}", OutputError):
            self._make_parent(name)
            self._fs.put_file(str(path), f"{self._root}/{name}")

    def remove(self, name: str) -> None:
        """Remove a file below this folder.

        Raises:
            OutputError: the store refuses, or cannot be reached.
        """
        with _reported(f"{self.name}/{name}", OutputError):
            if self.local is not None:
                (self.local / name).unlink(missing_ok=True)
            else:
                self._fs.rm_file(f"{self._root}/{name}")

    def _make_parent(self, name: str) -> None:
        if self.name.partition("://")[0].lower() not in _BUCKETS:
            self._fs.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)


def _facts(info: Mapping[str, Any]) -> dict[str, Any]:
    tag = next((info[name] for name in _TAGS if info.get(name)), None)
    return {"bytes": info.get("size"), "tag": None if tag is None else str(tag)}


def _open(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI, and the path in it."""
    import fsspec

    scheme = uri.partition("://")[0].lower()
    # Listings are not cached: other processes write, and a second listing must see it.
    options: dict[str, Any] = {"use_listings_cache": False}
    try:
        if scheme in ("http", "https"):
            import aiohttp

            # By default a download may take five minutes, and a server that never answers keeps its client as long.
            silence = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
            options["client_kwargs"] = {"timeout": silence}
        return fsspec.core.url_to_fs(uri, **options)
    except ImportError as error:
        fix = "pip install 'bandsplit[remote]'" if scheme in _EXTRA else str(error)
        raise ConfigError(f"{shown(uri)}: no package for {scheme}:// is installed; {fix}") from None
    except ValueError:
        raise ConfigError(
            f"{shown(uri)}: {scheme}:// is not a known scheme; legal: s3://, gs://, file://, http://, ..."
        ) from None


@contextmanager
def _reported(uri: str, kind: type[BandsplitError]) -> Iterator[None]:
    """Turn any failure of a store into one message: each library has error classes of its own."""
    try:
        yield
    except BandsplitError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            problem = "does not exist, or its folder or bucket does not"
        elif isinstance(error, PermissionError):
            problem = "access is refused"
        else:
            lines = (getattr(error, "strerror", None) or str(error)).splitlines()
            problem = f"failed ({': '.join([type(error).__name__, *map(shown_in, lines[:1])])})"
        name = uri.partition("://")[0].lower()
        credentials = _CREDENTIALS.get(_ALIASES.get(name, name))
        fix = (
            f"check the name and the connection; {credentials}" if credentials else "check the name and the connection"
        )
        raise kind(f"{shown(uri)}: {problem}; {fix}") from error
