"""Models that a user names by the address of a file and its sha256."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import requests

from bandsplit.core.errors import DownloadError
from bandsplit.core.fetching import CHECK_CONNECTION, HEADERS, PATIENCE, failure_of, persist, size_of
from bandsplit.core.settings import is_offline
from bandsplit.models.bags import BAG_SUFFIXES
from bandsplit.models.card import MODEL_SUFFIXES
from bandsplit.models.pretrained.access import authorization
from bandsplit.models.pretrained.entries import MOST_MODEL_BYTES, Entry, ModelFile, ModelFiles
from bandsplit.models.pretrained.registry import is_registered, unlisted_entries
from bandsplit.models.pretrained.sources import Sources

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_COPY = "copy it to this machine and give it with --archive"


def is_address(text: str) -> bool:
    """Return whether a model is named by an address."""
    return text.lower().startswith(("http://", "https://"))


def entry_at(url: str, sha256: str | None, name: str | None, sources: Sources) -> Entry:
    """Describe the model at an address: a model file, or a checkpoint of other software.

    Args:
        url: the address of the file.
        sha256: its digest.
        name: the name that it gets; by default that of the file without its suffix.
        sources: a mirror, or a local copy.

    Raises:
        DownloadError: an argument is malformed, the name is taken, or the size of the file cannot be found out.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.password:
        raise DownloadError(f"{url}: must be the address of a file, without a user's name (.netrc can hold that)")
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256 or ""):
        given = f"--sha256 {sha256}: must be 64 digits of 0-9 and a-f" if sha256 else "--sha256 is missing"
        raise DownloadError(f"{url}: {given}; a download is compared with the digest that its publisher states")
    file = PurePosixPath(unquote(parts.path)).name
    if not _NAME.fullmatch(file):
        raise DownloadError(f"{url}: does not end with the plain name of a file, but with {file!r}")
    name = PurePosixPath(file).stem if name is None else name
    if found := _known(name, str(sha256).lower()):
        return found
    page = parts._replace(query="", fragment="").geturl()
    described = ModelFile(
        file=file, address=url, mirrored=file, bytes=1, sha256=str(sha256).lower()
    )  # without its size, which only the server or the copy has
    size_bytes = _size_of_copy(sources.archive) if sources.archive else _size_at(sources.address_of(described), name)
    if not 1 <= size_bytes <= MOST_MODEL_BYTES:
        raise DownloadError(f"{url}: has {size_bytes} bytes; a model has 1 to {MOST_MODEL_BYTES}")
    source = ModelFiles(page=page, files=(described.model_copy(update={"bytes": size_bytes}),))
    return Entry(
        name=name, aliases=(), family="", about="a model that was named by its address", targets=(), source=source,
        kept_bytes=size_bytes, training_data="see its card: bandsplit models show, once it is fetched",
        saw_test_songs=None, licence="see its card, and ask its publisher",
    )  # fmt: skip


def _known(name: str, sha256: str) -> Entry | None:
    """Return the model in the cache that has the name and the digest.

    Raises:
        DownloadError: the name cannot be used, or is that of another model.
    """
    if not _NAME.fullmatch(name) or name.endswith((*MODEL_SUFFIXES, *BAG_SUFFIXES)) or is_registered(name):
        why = "is a registered model" if is_registered(name) else "is not a valid name"
        raise DownloadError(
            f"{name}: {why}; choose another with --name: letters, digits and ._+-, and no suffix of a file"
        )
    for entry in unlisted_entries():
        if entry.folder == name:
            source = entry.source
            if isinstance(source, ModelFiles) and source.files[0].sha256 == sha256:
                return entry
            raise DownloadError(
                f"{name}: is in the cache already, from {source.page}; choose another name with --name, or remove it: "
                f"bandsplit models remove {name}"
            )
    return None


def _size_of_copy(path: Path) -> int:
    if not path.is_file():
        raise DownloadError(f"{path}: no such file; name a local copy of the file at the address")
    return size_of(path)


def _size_at(url: str, name: str) -> int:
    """Ask a server how large a file is.

    Raises:
        DownloadError: downloads are forbidden, or it does not say.
    """
    if is_offline():
        raise DownloadError(
            f"{name}: is not in the cache, and BANDSPLIT_OFFLINE forbids downloads; unset it, or for {url}: {_COPY}"
        )

    def ask() -> int:
        with requests.get(url, headers=HEADERS | authorization(url), stream=True, timeout=PATIENCE.timeout_s) as answer:
            answer.raise_for_status()
            return int(answer.headers.get("Content-Length", 0))

    try:
        size_bytes = persist(ask, PATIENCE)
    except requests.RequestException as error:
        check = "" if isinstance(error, requests.HTTPError) else f"{CHECK_CONNECTION}, or "
        raise DownloadError(
            f"{url}: {failure_of(error)}; {check}name another source with --mirror, or {_COPY}"
        ) from error
    if not size_bytes:
        raise DownloadError(f"{url}: the server does not say how large the file is; {_COPY}")
    return size_bytes
