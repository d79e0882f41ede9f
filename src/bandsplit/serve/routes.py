"""REST API: models, jobs, and the results of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request, Response, Security
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse
from fastapi.security import HTTPBearer

from bandsplit.core.config import Config
from bandsplit.core.version import __version__
from bandsplit.separation.songs import SUFFIXES
from bandsplit.serve.events import stream
from bandsplit.serve.guard import cookie_name, cookie_value
from bandsplit.serve.job import Format, JobView, Wish
from bandsplit.serve.offers import ModelView
from bandsplit.serve.results import listening_file, player_html, result_of, stem_file, zip_blocks
from bandsplit.serve.service import Served
from bandsplit.serve.uploads import receive, refuse_forms

JobId = Annotated[str, Path(description="Id of a job.")]
_AUDIO = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events whose data is a JSON array of jobs.", "content": {"text/event-stream": {}}}
}
_LASTING = {"Cache-Control": "private, max-age=3600"}


class Detail(Config):
    """A refusal."""

    detail: str
    """The reason, and what is legal."""


class About(Config):
    """The server."""

    version: str
    """Version of bandsplit."""
    max_upload_bytes: int
    """Largest upload."""
    formats: tuple[Format, ...] = ("wav", "flac", "mp3")
    """Formats of stems."""
    suffixes: tuple[str, ...] = tuple(sorted(SUFFIXES))
    """Suffixes of the files that are taken from folders."""


_TOKEN = HTTPBearer(auto_error=False, description="The token, if the server was started with one.")
"""Only documents the header, which the guard checks."""
router = APIRouter(
    dependencies=[Security(_TOKEN)],
    responses={
        401: {"model": Detail, "description": "The token is missing or wrong."},
        403: {
            "model": Detail,
            "description": "The request is from a page elsewhere, or for a name of another machine.",
        },
        404: {"model": Detail, "description": "There is no such job, or it has no such result."},
        422: {"model": Detail, "description": "A parameter is missing or illegal."},
    },
)


@router.get("/about", tags=["models"])
def about(service: Served) -> About:
    """Return facts about the server."""
    return About(version=__version__, max_upload_bytes=service.limits.most_bytes)


@router.get("/models", tags=["models"])
def models(service: Served) -> list[ModelView]:
    """List the models and bags that can be chosen, with score, licence, size and price."""
    return service.offers.views()


@router.post("/session", tags=["token"], status_code=204)
def log_in(service: Served, request: Request) -> Response:
    """Exchange the token for a cookie, which browsers need for events, pictures and downloads."""
    response = Response(status_code=204)
    if service.token is not None:
        response.set_cookie(
            cookie_name(request.scope), cookie_value(service.token), httponly=True, samesite="strict", path="/"
        )
    return response


@router.post(
    "/jobs", tags=["jobs"], status_code=201, dependencies=[Depends(refuse_forms)],
    openapi_extra={"requestBody": {"content": _AUDIO, "required": True, "description": "The audio file itself."}},
    responses={
        408: {"model": Detail, "description": "Nothing of the file arrived for a minute."},
        413: {"model": Detail, "description": "The file is larger than the limit."},
        415: {"model": Detail, "description": "The file is not audio, or the body is a form."},
        507: {"model": Detail, "description": "The disk of the server is full."},
    },
)  # fmt: skip
async def create_job(
    service: Served,
    request: Request,
    name: Annotated[str, Query(description="Name of the file; its suffix helps to decode it.", max_length=4096)],
    model: Annotated[str, Query(description="Id of a model.")],
    format: Annotated[Format, Query(description="Format of the stems.")] = "wav",
    two_stems: Annotated[
        str | None, Query(description="A target of the model: the stems are this one and the rest of the song.")
    ] = None,
) -> JobView:
    """Upload a song and put it into the queue; the body is the file."""
    service.offers.check(model, two_stems)
    job = await receive(request, service, name, Wish(model=model, format=format, two_stems=two_stems))
    return service.dispatcher.view(job.id)


@router.get("/jobs", tags=["jobs"])
def list_jobs(service: Served) -> Sequence[JobView]:
    """List all jobs in the order of their arrival."""
    return service.dispatcher.views()


@router.get("/jobs/events", tags=["jobs"], response_class=StreamingResponse, responses=_EVENTS)
async def follow_jobs(service: Served) -> StreamingResponse:
    """Send all jobs, again whenever one changes, as server-sent events."""
    return stream(service, service.dispatcher.views, lambda: False)


@router.get("/jobs/{job_id}", tags=["jobs"])
def show_job(service: Served, job_id: JobId) -> JobView:
    """Show a job."""
    return service.dispatcher.view(job_id)


@router.get("/jobs/{job_id}/events", tags=["jobs"], response_class=StreamingResponse, responses=_EVENTS)
async def follow_job(service: Served, job_id: JobId) -> StreamingResponse:
    """Send a job, again whenever it changes, until it has ended, as server-sent events."""
    service.jobs.get(job_id)
    return stream(service, lambda: [service.dispatcher.view(job_id)], lambda: not service.jobs.get(job_id).active)


@router.post("/jobs/{job_id}/cancel", tags=["jobs"])
def cancel_job(service: Served, job_id: JobId) -> JobView:
    """Cancel a job that waits or runs; one that has ended stays as it is."""
    service.jobs.cancel(job_id)
    return service.dispatcher.view(job_id)


@router.delete("/jobs/{job_id}", tags=["jobs"], status_code=204)
def delete_job(service: Served, job_id: JobId) -> Response:
    """Delete a job with its song and its stems; if it runs, it is cancelled."""
    service.jobs.remove(job_id)
    return Response(status_code=204)


@router.get("/jobs/{job_id}/stems/{stem}", tags=["results"], response_class=FileResponse)
def download_stem(service: Served, job_id: JobId, stem: str) -> FileResponse:
    """Download a stem of a job that is done."""
    job = service.jobs.get(job_id)
    path = stem_file(service.jobs, job, stem)
    headers = _as_download(f"{job.track} - {path.name}")
    return FileResponse(path, media_type="application/octet-stream", headers=headers)


@router.get("/jobs/{job_id}/zip", tags=["results"], response_class=StreamingResponse)
def download_zip(service: Served, job_id: JobId) -> StreamingResponse:
    """Download all stems of a job that is done as one zip archive."""
    job = service.jobs.get(job_id)
    blocks = zip_blocks(service.jobs, job)
    return StreamingResponse(blocks, media_type="application/zip", headers=_as_download(f"{job.track}.zip"))


@router.head("/jobs/{job_id}/zip", include_in_schema=False)
def show_zip(service: Served, job_id: JobId) -> Response:
    """Answer as `download_zip` without reading the stems."""
    job = service.jobs.get(job_id)
    result_of(job)
    response = Response(media_type="application/zip", headers=_as_download(f"{job.track}.zip"))
    del response.headers["Content-Length"]  # it is not known
    return response


@router.get("/jobs/{job_id}/player", tags=["results"], response_class=HTMLResponse)
def show_player(service: Served, job_id: JobId) -> HTMLResponse:
    """Return the player of a job that is done, as HTML for the page."""
    return HTMLResponse(player_html(service.jobs.get(job_id)))


@router.get("/jobs/{job_id}/listen/{signal}.svg", tags=["results"], response_class=FileResponse)
def show_waveform(service: Served, job_id: JobId, signal: int) -> FileResponse:
    """Show the waveform of a signal; 0 is the song, the stems follow in their order."""
    path = listening_file(service.jobs, service.jobs.get(job_id), signal)
    return FileResponse(path, media_type="image/svg+xml", headers=_LASTING)


@router.get("/jobs/{job_id}/listen/{signal}/{piece}.flac", tags=["results"], response_class=FileResponse)
def play_piece(service: Served, job_id: JobId, signal: int, piece: int) -> FileResponse:
    """Return ten seconds of a signal in 16 bits, for the player."""
    path = listening_file(service.jobs, service.jobs.get(job_id), signal, piece)
    return FileResponse(path, media_type="audio/flac", headers=_LASTING)


def _as_download(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}"}
