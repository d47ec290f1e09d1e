"""Jobs: how they stand, what failed, and their progress as it happens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

from flask import Blueprint, Response

from lookalike.api import addresses
from lookalike.api.context import backends, context, team
from lookalike.api.images import MAX_PAGE, answered, check_limit
from lookalike.api.operations import operation, tell
from lookalike.api.schemas import (
    Failure,
    FailureList,
    Job,
    JobAnswer,
    JobList,
    JobPage,
)
from lookalike.errors import (
    BadQuery,
    JobNotFound,
    LookalikeError,
    NothingToRetry,
    Overloaded,
    StorageFull,
    Unavailable,
)
from lookalike.ingest import retry_failures
from lookalike.interfaces import JobId

bp = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

EVENTS = "text/event-stream"
POLL_SECONDS = 0.25
HEARTBEAT_SECONDS = 15.0  # proxies commonly cut what is silent for 30 s
LONGEST_SECONDS = 1_800.0  # then the stream closes, and a browser opens it again


@bp.get("")
@operation("List jobs", "jobs", {200: JobList}, query=JobPage, raises=(BadQuery,))
def list_jobs(query: JobPage) -> Response:
    """Jobs, newest first, page by page."""
    limit = check_limit(query.limit, MAX_PAGE)
    before = addresses.from_cursor(query.cursor)
    found = backends().ledger.jobs(
        team(), None if before is None else JobId(before), limit + 1
    )
    page = [Job.of(job) for job in found[:limit]]
    last = page[-1].id if len(found) > limit else None
    return tell(JobList(jobs=page, next_cursor=addresses.to_cursor(last)))


@bp.get("/<job_id>")
@operation("Get a job", "jobs", {200: Job}, raises=(JobNotFound,))
def get_job(job_id: str) -> Response:
    """How a job stands; finished when `finished_at` is set."""
    return tell(Job.of(backends().ledger.job(team(), JobId(job_id))))


@bp.get("/<job_id>/failures")
@operation(
    "List a job's failures",
    "jobs",
    {200: FailureList},
    query=JobPage,
    raises=(JobNotFound, BadQuery),
)
def list_failures(job_id: str, query: JobPage) -> Response:
    """Which images failed, why, and whether sending them again can help."""
    limit = check_limit(query.limit, MAX_PAGE)
    after = addresses.from_number_cursor(query.cursor)
    found = backends().ledger.failures(team(), JobId(job_id), after, limit + 1)
    page = [Failure.of(failure) for failure in found[:limit]]
    last = page[-1].position if len(found) > limit else None
    return tell(FailureList(failures=page, next_cursor=addresses.to_cursor(last)))


@bp.post("/<job_id>/retry")
@operation(
    "Retry a job's failures",
    "jobs",
    {202: JobAnswer},
    keyed=True,
    raises=(JobNotFound, NothingToRetry, Overloaded, StorageFull),
)
def retry_job(job_id: str, key: str | None) -> Response:
    """Try again what failed and can succeed, as a new job; nothing is sent again.

    These are the failures marked `retryable` whose image has not changed since. The
    counts of this job stay as they are.
    """
    parts, whose = backends(), team()
    parts.ledger.job(whose, JobId(job_id))
    context().admission.check_backlog(whose)
    retried = retry_failures(
        parts.ledger,
        parts.queue,
        whose,
        JobId(job_id),
        parts.settings.chunk_images,
        key,
    )
    return answered(retried, HTTPStatus.ACCEPTED)


@bp.post("/<job_id>/cancel")
@operation("Cancel a job", "jobs", {200: JobAnswer}, raises=(JobNotFound, StorageFull))
def cancel_job(job_id: str) -> Response:
    """End what of a job no worker has begun; a finished job stays as it is.

    Those images fail with the code `cancelled` and can be retried. Deletions hold
    already and are not taken back.
    """
    return tell(JobAnswer(job=Job.of(backends().ledger.cancel(team(), JobId(job_id)))))


@bp.get("/<job_id>/events")
@operation("Follow a job", "jobs", {200: EVENTS}, raises=(JobNotFound, Unavailable))
def follow_job(job_id: str) -> Response:
    """Server-sent events: `progress` with the job whenever it changes, then `end`."""
    ledger, whose = backends().ledger, team()
    ledger.job(whose, JobId(job_id))
    place = contextlib.ExitStack()
    place.enter_context(context().event_stream())
    response = Response(
        events(lambda: Job.of(ledger.job(whose, JobId(job_id)))),
        mimetype=EVENTS,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    # Called however the stream ends, also when the client is gone before it began.
    response.call_on_close(place.close)
    return response


def events(
    read: Callable[[], Job],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """The progress of a job as server-sent events, until it is finished.

    If the ledger fails meanwhile the stream ends early, without `end`; a client opens
    it again, as browsers do by themselves.
    """
    opened = spoken = clock()
    before: Job | None = None
    while clock() - opened < LONGEST_SECONDS:
        try:
            job = read()
        except LookalikeError:
            return
        if job != before:
            yield f"event: progress\ndata: {job.model_dump_json()}\n\n"
            before, spoken = job, clock()
        if job.finished_at is not None:
            yield f"event: end\ndata: {job.model_dump_json()}\n\n"
            return
        if clock() - spoken >= HEARTBEAT_SECONDS:
            yield ": still here\n\n"
            spoken = clock()
        sleep(POLL_SECONDS)
