"""A real web server on this machine that serves, stalls, cuts, refuses."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CUT = 200_000  # bytes after which a bad server falters


class _Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Range"]))
        page = self.server.pages.get(self.path, [])
        behave = page.pop(0) if len(page) > 1 else page[0] if page else refuse(404)
        behave(self)

    def head(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


class Server(ThreadingHTTPServer):
    """Answers each path with the behaviours listed for it, one per request, and the last for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, list[Behaviour]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are meant to."""


Behaviour = Callable[[_Handler], None]


def serve(body: bytes, ranges: bool = True) -> Behaviour:
    def behave(handler: _Handler) -> None:
        start = int((handler.headers["Range"] or "bytes=0-")[len("bytes=") : -1]) if ranges else 0
        if start >= len(body):
            handler.head(416, 0)
            return
        handler.head(206 if start else 200, len(body) - start)
        handler.wfile.write(body[start:])

    return behave


def cut(body: bytes) -> Behaviour:
    """Announces the whole body, sends some, hangs up."""

    def behave(handler: _Handler) -> None:
        handler.head(200, len(body))
        handler.wfile.write(body[:CUT])

    return behave


def stall(body: bytes) -> Behaviour:
    """Announces the whole body, sends some, then nothing for ever."""

    def behave(handler: _Handler) -> None:
        cut(body)(handler)
        handler.wfile.flush()
        handler.server.closing.wait()

    return behave


def refuse(status: int) -> Behaviour:
    return lambda handler: handler.head(status, 0)


def damaged(body: bytes) -> bytes:
    return body[:1000] + bytes([body[1000] ^ 1]) + body[1001:]
