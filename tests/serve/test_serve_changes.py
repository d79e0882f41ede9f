"""Lists of jobs are made and sent again only after a change: there may be a thousand, and many pages."""

import asyncio
import json
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bandsplit.serve import events, offers
from bandsplit.serve.dispatcher import Dispatcher
from bandsplit.serve.engine import Engine, Measurement
from bandsplit.serve.job import Job, JobView, Progress, Wish
from bandsplit.serve.jobs import Jobs
from bandsplit.serve.offers import Offers, find_offers
from bandsplit.serve.service import Limits, Service
from bandsplit.serve.timing import Price

PERIODS = 10


@pytest.fixture
def service(tmp_path: Path, model: Path) -> Iterator[Service]:
    """The parts of a server whose dispatcher does not run."""
    jobs = Jobs(tmp_path)
    dispatcher = Dispatcher(jobs, Offers(find_offers([str(model)], "cpu"), tmp_path / "prices.json"), "cpu", 0)
    yield Service(jobs, dispatcher.offers, dispatcher, Limits(10**6, 0), None)
    jobs.close()


def add(jobs: Jobs, about_s: float) -> Job:
    with jobs.scratch() as folder:
        (folder / "song").write_bytes(b"abc")
        return jobs.add(folder / "song", "song", Wish(model="small"), about_s)


def left(service: Service) -> list[float | None]:
    return [view.left_s for view in service.dispatcher.views()]


def test_the_list_is_made_again_after_each_change_and_only_then(service: Service):
    views = service.dispatcher.views
    first, _ = add(service.jobs, 60), add(service.jobs, 120)
    assert views() is views() and left(service) == [None, None]
    service.offers.set_price("small", Price(separate_s=30, listen_s=2))
    assert views() is views() and left(service) == [30 + 3 * 2, 3 * 30 + 9 * 2]
    service.jobs.cancel(first.id)
    assert views() is views() and [view.state for view in views()] == ["cancelled", "queued"]
    assert left(service) == [None, 2 * 30 + 6 * 2]
    service.jobs.remove(first.id)
    assert left(service) == [2 * 30 + 6 * 2]


def test_pages_that_wait_cost_nothing_until_something_changes(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "_PERIOD_S", 0.001)
    looks = periods = 0
    sent: list[str] = []

    def look() -> Sequence[JobView]:
        nonlocal looks
        looks += 1
        return service.dispatcher.views()

    def is_over() -> bool:
        nonlocal periods
        periods += 1
        if periods == PERIODS:
            add(service.jobs, 60)
        return periods == 2 * PERIODS

    async def follow() -> None:
        async for block in events.stream(service, look, is_over).body_iterator:
            sent.append(str(block))

    asyncio.run(follow())
    assert (looks, periods) == (2, 2 * PERIODS)
    assert sent[0] == "data: []\n\n" and '"position":1' in sent[1] and len(sent) == 2


def test_a_cancel_just_before_the_beginning_of_a_job_counts(
    service: Service, model: Path, monkeypatch: pytest.MonkeyPatch
):
    jobs, begun = service.jobs, threading.Event()
    take = jobs.next

    def take_late(timeout_s: float) -> Job | None:
        found = take(timeout_s)
        if found is not None:
            jobs.cancel(found.id)
        elif jobs.all():
            begun.set()
        return found

    monkeypatch.setattr(jobs, "next", take_late)
    service.offers.set_price("small", None)
    job = add(jobs, 60)
    service.dispatcher.start()
    begun.wait()
    service.dispatcher.close()
    assert jobs.get(job.id).state == "cancelled"


def test_a_job_moves_only_from_the_state_that_is_known(service: Service):
    jobs, job = service.jobs, add(service.jobs, 60)
    assert not jobs.move(job.id, "running", "queued") and jobs.get(job.id).state == "queued"
    assert jobs.move(job.id, "queued", "running") and jobs.get(job.id).state == "running"
    jobs.cancel(job.id)
    assert not jobs.move(job.id, "running", "queued", deaths=1) and jobs.get(job.id).deaths == 0
    jobs.remove(job.id)
    assert not jobs.move(job.id, "cancelled", "queued") and jobs.all() == []


def test_a_cancel_just_after_the_death_of_the_process_counts(service: Service, monkeypatch: pytest.MonkeyPatch):
    jobs, job = service.jobs, add(service.jobs, 60)
    jobs.move(job.id, "queued", "running")
    look, cancels = jobs.get, []

    def look_and_wait(job_id: str) -> Job:
        found = look(job_id)
        if not cancels:
            cancels.append(threading.Thread(target=jobs.cancel, args=[job_id]))
            cancels[0].start()
            cancels[0].join(0.5)  # longer, if it has to wait until the job has moved
        return found

    monkeypatch.setattr(jobs, "get", look_and_wait)
    service.dispatcher._bury(look(job.id))
    cancels[0].join()
    assert look(job.id).state == "cancelled"


def test_a_job_that_runs_has_a_progress_from_the_first_moment(service: Service):
    first, second = add(service.jobs, 60), add(service.jobs, 120)
    service.offers.set_price("small", Price(separate_s=30, listen_s=2))
    for job, left_s in ((first, 36), (second, 72)):
        service.jobs.move(job.id, "queued", "running")
        view = service.dispatcher.view(job.id)
        assert view.progress == Progress(stage="load", share=0, left_s=left_s) and view.left_s == left_s
        service.dispatcher._progress = job.id, Progress(stage="separate", share=0.5, left_s=1)
        assert service.dispatcher.view(job.id).left_s == 1
        service.jobs.end(job.id, "failed")


def test_a_price_is_in_the_file_once_it_is_shown(service: Service, monkeypatch: pytest.MonkeyPatch):
    write, shown = offers.write_atomically, []

    def look_and_write(path: Path, content: bytes) -> None:
        shown.append(service.offers.price("small"))
        write(path, content)

    monkeypatch.setattr(offers, "write_atomically", look_and_write)
    service.offers.set_price("small", Price(3.5, 0.25))
    assert shown == [None] and service.offers.price("small") == Price(3.5, 0.25)


def test_a_measurement_without_room_does_not_speak_of_stems(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    ended = Engine("cpu").do(Measurement((model,)), lambda *_: None)
    assert (ended.kind, ended.error) == ("failed", "No such file or directory")


def test_prices_of_other_versions_are_measured_again(tmp_path: Path, model: Path):
    (offer,), prices = find_offers([str(model)], "cpu"), tmp_path / "prices.json"
    for stored in (3.5, [3.5], [3.5, 0.2, 1], "3.5", None):
        prices.write_text(json.dumps({offer.key: stored}))
        assert Offers([offer], prices).unmeasured() == offer
    Offers([offer], prices).set_price("small", Price(3.5, 0.25))
    again = Offers([offer], prices)
    assert again.unmeasured() is None and again.price("small") == Price(3.5, 0.25)
