"""Pages of the Hub: the model files that one has, with sizes and digests, as its API describes them.

Nothing of a page is trusted: names must be plain, sizes and digests are checked after the download, and a file is read
as data. Needs the extra ``hub``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PureWindowsPath
from typing import Any, NamedTuple

from bandsplit.core.config import shorten
from bandsplit.core.errors import ConfigError, DownloadError
from bandsplit.core.fetching import CHECK_CONNECTION, PATIENCE
from bandsplit.core.settings import is_offline
from bandsplit.models.bags import BAG_FILE
from bandsplit.models.documents import MOST_BYTES
from bandsplit.models.pretrained.access import endpoint
from bandsplit.models.pretrained.entries import Entry, ModelFile, ModelFiles
from bandsplit.models.pretrained.registry import HUB

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REVISION = r"[\w.-]+(?:/[\w.-]+)*"
FILE = re.compile(r"[A-Za-z0-9_][\w.+-]{0,200}", re.ASCII)
"""Form of the names of files."""
_MOST_FILES = 100
_TOKEN = "set HF_TOKEN, or run: hf auth login"


class HubName(NamedTuple):
    """A model on the Hub: ``hf:OWNER/NAME@REVISION``."""

    owner: str
    name: str
    revision: str | None = None
    """A branch, tag or commit; None for the newest state."""

    @property
    def repository(self) -> str:
        """The name that the Hub uses."""
        return f"{self.owner}/{self.name}"

    @property
    def page(self) -> str:
        """Address of its page."""
        return f"{endpoint()}/{self.repository}"

    def __str__(self) -> str:
        """Write it as users do."""
        return f"{HUB}{self.repository}{f'@{self.revision}' if self.revision else ''}"


def parse_hub_name(text: str) -> HubName:
    """Read ``hf:OWNER/NAME`` or ``hf:OWNER/NAME@REVISION``.

    Raises:
        DownloadError: it has another form.
    """
    found = re.fullmatch(rf"{HUB}({_PART})/({_PART})(?:@({_REVISION}))?", text, re.ASCII)
    if found is None or ".." in text or "--" in text.partition("@")[0]:
        raise DownloadError(
            f"{text}: must be {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION, as on the address of its page"
        )
    return HubName(*found.groups())


def look_up(text: str) -> Entry:
    """Ask the Hub which files a model has, and describe it.

    Raises:
        DownloadError: the name is malformed, the Hub cannot be reached or does not have or show the model, or the page
            has no model files, or describes them in a way that cannot be right.
        ModuleNotFoundError: the extra ``hub`` is not installed.
    """
    name = parse_hub_name(text)
    if is_offline():
        raise DownloadError(
            f"{name}: is not in the cache, and BANDSPLIT_OFFLINE forbids downloads; unset it, or copy its .safetensors "
            f"files to this machine and name them: -n FILE.safetensors"
        )
    from huggingface_hub import HfApi

    with explained(name):
        info = HfApi(endpoint=endpoint()).model_info(
            name.repository, revision=name.revision, files_metadata=True, timeout=PATIENCE.timeout_s
        )
        commit, licence = str(info.sha), getattr(info.card_data, "license", None)
        listed = [(sibling.rfilename, sibling) for sibling in info.siblings or ()]
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise DownloadError(f"{name}: {name.page} does not say which commit it shows ({shorten(commit, 80)!r})")
    files = tuple(_describe(name, commit, path, sibling) for path, sibling in _wanted(name, listed))
    source = ModelFiles(page=f"{name.page}/tree/{commit}", commit=commit, files=files)
    return Entry(
        name=str(name),
        aliases=(),
        family="",
        about="a model on the Hub, whose facts its publisher states",
        targets=(),
        source=source,
        kept_bytes=source.bytes,
        training_data="see its card: bandsplit models show, once it is fetched",
        saw_test_songs=None,
        licence=f"{shorten(str(licence), 80)}, as its page states" if licence else "not stated on its page",
    )


def is_of_model(path: str) -> bool:
    """Return whether a file of a page is a model or the bag, which are at its top level."""
    return "/" not in path and (path.endswith(".safetensors") or path == BAG_FILE)


def _wanted(name: HubName, listed: list[tuple[Any, Any]]) -> list[tuple[str, Any]]:
    """Return the model files and the bag at the top level of a page.

    Raises:
        DownloadError: a name leads out of its folder or is not plain, or there are no model files, or too many.
    """
    for path, _ in listed:
        parts = PureWindowsPath(str(path))  # knows both kinds of slash
        if not isinstance(path, str) or parts.anchor or ".." in parts.parts or not path:
            raise DownloadError(
                f"{name}: {name.page} has a file {shorten(str(path), 80)!r}, which leads out of its folder; nothing "
                f"was fetched"
            )
    found = [(path, sibling) for path, sibling in listed if is_of_model(path)]
    if strange := [path for path, _ in found if not FILE.fullmatch(path)]:
        raise DownloadError(
            f"{name}: {name.page} has a file {shorten(strange[0], 80)!r}; names of model files may have letters, "
            f"digits and ._+-; nothing was fetched"
        )
    models = [path.lower() for path, _ in found if path != BAG_FILE]
    if not models:
        others = ", ".join(path for path, _ in listed[:5]) or "none"
        raise DownloadError(
            f"{name}: {name.page} has no .safetensors file at its top level (files: {shorten(others, 200)}); fetch a "
            f"checkpoint of other software by its address: bandsplit models fetch URL --sha256 DIGEST"
        )
    if len(models) > _MOST_FILES or len(set(models)) < len(models):
        raise DownloadError(
            f"{name}: {name.page} has {len(models)} model files, more than {_MOST_FILES} or two of a name"
        )
    return found


def _describe(name: HubName, commit: str, path: str, sibling: Any) -> ModelFile:
    from huggingface_hub import hf_hub_url

    sha256 = getattr(sibling.lfs, "sha256", None)
    size_bytes = getattr(sibling.lfs, "size", None) if sha256 else sibling.size
    small = path == BAG_FILE and not sha256
    if not sha256 and not small:
        raise DownloadError(f"{name}: {name.page} has no sha256 of {path}, so a download could not be checked")
    if sibling.size not in (None, size_bytes) or (small and (size_bytes or 0) > MOST_BYTES):
        raise DownloadError(f"{name}: {name.page} states sizes of {path} that cannot be right ({sibling.size} bytes)")
    try:
        return ModelFile.parse(
            {
                "file": path,
                "address": hf_hub_url(name.repository, path, revision=commit, endpoint=endpoint()),
                "mirrored": f"{name.repository}/{path}",
                "bytes": size_bytes,
                "sha256": sha256,
                "git": sibling.blob_id if small else None,
            }
        )
    except ConfigError as error:
        raise DownloadError(f"{name}: {name.page} describes {path} in a way that cannot be right: {error}") from None


@contextmanager
def explained(name: HubName) -> Iterator[None]:
    """Turn the errors of the Hub and its library into messages.

    Raises:
        DownloadError: with one of these messages.
    """
    from huggingface_hub import errors

    network: tuple[type[Exception], ...] = errors.HfHubHTTPError.__bases__  # its HTTP client's error, and OSError
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise DownloadError(f"{name}: HF_HUB_OFFLINE forbids to ask the Hub; unset it") from None
    except errors.GatedRepoError:
        raise DownloadError(
            f"{name}: its publisher wants terms to be accepted; do so on {name.page}, then {_TOKEN}"
        ) from None
    except errors.RevisionNotFoundError:
        raise DownloadError(
            f"{name}: {name.page} has no revision {name.revision or 'main'} (any more); its page lists those "
            f"that it has"
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"{name}: the Hub has no such model, or shows it only to some; check the name, and if it is private, "
            f"{_TOKEN}"
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        fix = "try again later" if status >= 500 or status == 429 else "check HF_ENDPOINT"
        fix = f"the token is not accepted or lacks the right: {_TOKEN}" if status in (401, 403) else fix
        said = f" ({shorten(error.server_message, 200)})" if error.server_message else ""
        raise DownloadError(f"{name}: {endpoint()} answers {status}{said}; {fix}") from None
    except RuntimeError as error:
        reason = shorten(str(error.__cause__ or error), 200)
        raise DownloadError(
            f"{name}: a file was not sent ({reason}); run the same command again: what arrived is not sent twice"
        ) from None
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        reason = shorten(f"{type(error).__name__}: {error}", 200)
        raise DownloadError(
            f"{name}: the answer of {endpoint()} is not that of a Hub ({reason}); check HF_ENDPOINT"
        ) from None
    except network as error:
        reason = shorten(str(error) or type(error).__name__, 200)
        raise DownloadError(
            f"{name}: {endpoint()} cannot be reached ({reason}); {CHECK_CONNECTION}, or name a mirror of the Hub with "
            f"HF_ENDPOINT"
        ) from None
