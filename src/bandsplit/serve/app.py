"""The web application: routes, the page and its files, refusals, and the guard in front of all."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from bandsplit.core.errors import AudioError, BandsplitError, ConfigError
from bandsplit.core.version import __version__
from bandsplit.reports.player.markup import ASSETS, read_asset
from bandsplit.serve.disk import FullDiskError
from bandsplit.serve.guard import Guard
from bandsplit.serve.jobs import UnknownJobError
from bandsplit.serve.results import NoResultError
from bandsplit.serve.routes import router
from bandsplit.serve.service import Service, TooLargeError
from bandsplit.serve.uploads import StalledUploadError

_STATUS: dict[type[BandsplitError], int] = {
    UnknownJobError: 404, NoResultError: 404, StalledUploadError: 408, TooLargeError: 413, AudioError: 415,
    ConfigError: 422, FullDiskError: 507,
}  # fmt: skip
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_ABOUT = (
    "Upload songs, follow their separation, and fetch the stems. With `--token` every request needs "
    "`Authorization: Bearer TOKEN`."
)


def make_app(service: Service, names: frozenset[str] | None) -> FastAPI:
    """Build the application.

    Args:
        service: what it serves.
        names: names of this machine that browsers may call it by; None for any.
    """
    # FastAPI's own pages of documentation load scripts from elsewhere.
    app = FastAPI(title="bandsplit serve", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None)
    app.state.service = service
    app.include_router(router)
    _add_heads(app)
    for address, name in (("/", "index.html"), ("/docs", "docs.html")):
        _add_file(app, address, name, read_asset(name, "bandsplit.serve"))
    for name in ("serve.css", "page.js", "serve.js", "uploads.js", "docs.js"):
        _add_file(app, f"/static/{name}", name, read_asset(name, "bandsplit.serve"))
    for name in ASSETS:
        _add_file(app, f"/static/{name}", name, read_asset(name))
    app.add_exception_handler(BandsplitError, _refuse)
    app.add_exception_handler(RequestValidationError, _explain)
    app.add_exception_handler(OSError, _fail)
    app.add_exception_handler(ClientDisconnect, _forget)
    app.add_middleware(Guard, token=service.token, names=names)
    return app


def _add_heads(app: FastAPI) -> None:
    """Answer HEAD where GET has an answer that ends; FastAPI does not by itself, and would document each twice."""
    for route in router.routes:
        if isinstance(route, APIRoute) and route.methods == {"GET"}:
            endpoint = _refuse_head if route.response_class is StreamingResponse else route.endpoint
            app.add_api_route(
                route.path, endpoint, methods=["HEAD"], include_in_schema=False, response_class=route.response_class
            )


def _refuse_head() -> Response:
    raise HTTPException(405, headers={"Allow": "GET"})


def _add_file(app: FastAPI, address: str, name: str, text: str) -> None:
    media_type = _TYPES[name[name.rindex(".") :]]

    def send() -> Response:
        return Response(text, media_type=media_type, headers={"Cache-Control": "no-cache"})

    app.add_api_route(address, send, methods=["GET", "HEAD"], include_in_schema=False, response_class=Response)


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    return JSONResponse({"detail": str(error)}, status)


async def _explain(_: Request, error: Exception) -> JSONResponse:
    """Answer a request with a parameter that is missing or illegal in one line."""
    assert isinstance(error, RequestValidationError)
    lines = [f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors()]
    return JSONResponse({"detail": "; ".join(lines)}, 422)


async def _fail(_: Request, error: Exception) -> JSONResponse:
    reason = getattr(error, "strerror", None) or "the disk cannot be used"
    return JSONResponse({"detail": f"the server cannot read or write a file ({reason})"}, 500)


async def _forget(_: Request, error: Exception) -> Response:
    """Answer nobody: the client went away."""
    return Response(status_code=400)
