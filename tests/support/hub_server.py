"""A real web server on this machine with the part of the Hub's API that fetching and publishing use.

Repositories are in memory: each has commits, which are the files at that time. Files of models are kept apart, by their
sha256, as the Hub keeps them, and downloads of them are led to another address.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"
CUT = 70_000  # bytes after which a download breaks


def git_name(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """A page: its commits, oldest first."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str = "files") -> str:
        name = hashlib.sha1(f"{len(self.messages)}{message}".encode()).hexdigest()
        self.commits[name] = dict(files)
        self.messages.append(message)
        return name

    @property
    def head(self) -> dict[str, bytes]:
        return [*self.commits.values()][-1] if self.commits else {}

    def find(self, revision: str) -> str | None:
        if revision == "main":
            return [*self.commits][-1] if self.commits else "0" * 40
        return next((name for name in self.commits if name.startswith(revision)), None)


class Hub(ThreadingHTTPServer):
    """The server; ``lies`` changes what the API says of a file, ``after_listing`` runs after it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        """Method, path, and the token that was sent."""
        self.lies: dict[str, dict[str, Any]] = {}
        self.serves: dict[str, bytes] = {}
        """Other content than the right one, by the name of the file."""
        self.after_listing: Callable[[], object] = lambda: None
        self.cuts = 0
        """Downloads that break, from now on."""
        self.refuses: dict[str, int] = {}
        """Status by the beginning of a path."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def has(self, name: str, files: dict[str, bytes], private: bool = False, gated: bool = False) -> str:
        """Commit files to a page; return the commit."""
        page = self.pages.setdefault(name, Repository(private, gated))
        return page.commit(files)

    def paths(self, method: str = "GET") -> list[str]:
        return [path for how, path, _ in self.asked if how == method]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are meant to."""


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ") or None
        self.server.asked.append((method, path, token))
        length = self.headers["Content-Length"]
        self.body = self.rfile.read(int(length)) if length else self._chunks()
        for start, status in self.server.refuses.items():
            if path.startswith(start):
                return self._json({"error": "refused"}, status)
        for pattern, act in _ROUTES[method]:
            if found := re.fullmatch(pattern, path):
                return act(self, *found.groups())
        return self._json({"error": "unknown"}, 404)

    def _chunks(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, content: Any, status: int = 200, **headers: str) -> None:
        body = json.dumps(content).encode()
        self._head(status, len(body), **headers)
        self.wfile.write(body)

    def _head(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _repository(self, name: str, write: bool = False) -> Repository | None:
        """Return a page that the client may see; otherwise refuse as the Hub does."""
        page = self.server.pages.get(name)
        token = self.headers["Authorization"]
        right = token == f"Bearer {TOKEN}"
        if token and not right:
            self._json(
                {"error": "Invalid username or password."},
                401,
                X_Error_Message="Invalid credentials in Authorization header",
            )
        elif page is None or (page.private and not right) or (write and not right):
            self._json({"error": "Repository not found"}, 401 if not right else 404, X_Error_Code="RepoNotFound")
        elif page.gated and not right:
            self._json({"error": "gated"}, 401, X_Error_Code="GatedRepo")
        else:
            return page
        return None

    # --- reading -----------------------------------------------------------------------------------------------------

    def _info(self, name: str, revision: str | None) -> None:
        page = self._repository(name)
        if page is None:
            return
        commit = page.find(revision or "main")
        if commit is None:
            self._json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
            return
        files = page.commits.get(commit, {})
        siblings = [self._sibling(path, content) for path, content in files.items()]
        self._json({"id": name, "sha": commit, "private": page.private, "siblings": siblings,
                    "cardData": {"license": "cc0-1.0"}})  # fmt: skip
        self.server.after_listing()

    def _sibling(self, path: str, content: bytes) -> dict[str, Any]:
        facts: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git_name(content)}
        if path.endswith(".safetensors"):
            facts["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        lies = self.server.lies.get(path, {})
        if "lfs" in lies and lies["lfs"] and "lfs" in facts:
            lies = {**lies, "lfs": facts["lfs"] | lies["lfs"]}
        return facts | lies

    def _resolve(self, name: str, revision: str, file: str) -> None:
        page = self._repository(name)
        if page is None:
            return
        content = page.commits.get(page.find(revision) or "", {}).get(file)
        if content is None:
            self._json({"error": "not found"}, 404, X_Error_Code="EntryNotFound")
            return
        content = self.server.serves.get(file, content)
        self.server.stored[hashlib.sha256(content).hexdigest()] = content
        self._head(
            302,
            0,
            Location=f"http://localhost:{self.server.server_address[1]}/store/{hashlib.sha256(content).hexdigest()}",
        )

    def _stored(self, digest: str) -> None:
        content = self.server.stored[digest]
        start = int((self.headers["Range"] or "bytes=0-")[len("bytes=") : -1])
        if start >= len(content):
            self._head(416, 0)
            return
        self._head(206 if start else 200, len(content) - start)
        if self.server.cuts:
            self.server.cuts -= 1
            self.wfile.write(content[start : start + CUT])
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    # --- writing -----------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._json({"error": "You don't have the rights"}, 403)
        elif name in self.server.pages:
            self._json({"error": "exists", "url": f"{self.server.url}/{name}"}, 409)
        else:
            self.server.pages[name] = Repository(
                private=asked.get("visibility") == "private" or bool(asked.get("private"))
            )
            self._json({"url": f"{self.server.url}/{name}"})

    def _validate(self) -> None:
        self._json({"errors": [], "warnings": []})

    def _preupload(self, name: str, _: str) -> None:
        if self._repository(name, write=True) is not None:
            files = [{"path": file["path"], "shouldIgnore": False,
                      "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
                     for file in json.loads(self.body)["files"]]  # fmt: skip
            self._json({"files": files})

    def _batch(self, name: str) -> None:
        if self._repository(name, write=True) is None:
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.server.url}/upload/{wanted['oid']}"}
            there = wanted["oid"] in self.server.stored
            objects.append(wanted if there else wanted | {"actions": {"upload": upload}})
        self._json({"transfer": "basic", "objects": objects})

    def _upload(self, digest: str) -> None:
        if hashlib.sha256(self.body).hexdigest() == digest:
            self.server.stored[digest] = self.body
            self._head(200, 0)
        else:
            self._head(400, 0)

    def _commit(self, name: str, _: str) -> None:
        page = self._repository(name, write=True)
        if page is None:
            return
        files, message = dict(page.head), ""
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = page.commit(files, message)
        self._json({"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit,
                    "pullRequestUrl": None})  # fmt: skip

    def log_message(self, format: str, *args: object) -> None: ...


_ROUTES: dict[str, list[tuple[str, Callable[..., None]]]] = {
    "GET": [
        (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", _Handler._info),
        (r"/store/([0-9a-f]{64})", _Handler._stored),
        (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", _Handler._resolve),
    ],
    "POST": [
        (r"/api/repos/create", _Handler._create),
        (r"/api/validate-yaml", _Handler._validate),
        (r"/api/models/([^/]+/[^/]+)/preupload/(.+)", _Handler._preupload),
        (r"/api/models/([^/]+/[^/]+)/commit/(.+)", _Handler._commit),
        (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler._batch),
    ],
    "PUT": [(r"/upload/([0-9a-f]{64})", _Handler._upload)],
}
