"""A small HTTP client of a Lookalike server, as the commands and the tests use it."""

from __future__ import annotations

import email.utils
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from lookalike import errors
from lookalike.answers import (
    NO_OPTIONS,
    Answer,
    Example,
    Facet,
    Query,
    SearchOptions,
)
from lookalike.collections import (
    AUTOMATIC,
    Fields,
    FieldType,
    IndexKind,
    IndexSpec,
    Metadata,
)
from lookalike.errors import (
    IdempotencyInUse,
    LookalikeError,
    NotFound,
    Overloaded,
    StorageFull,
    TooLarge,
    Unavailable,
)
from lookalike.idempotency import HEADER as KEY_HEADER
from lookalike.interfaces import Failure, ImageId, ImageState, Job, JobId

DEFAULT_URL = "http://127.0.0.1:8080"
PAGE = 1_000  # entries asked for at once when scrolling
GROUPS = 200  # of duplicates, the most that one page can have
TIMEOUT = httpx.Timeout(120, connect=5)  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.4, 20.0  # seconds between attempts
# What a status means when its code is not known here, if a repeat can help at all.
BY_STATUS: Mapping[int, type[LookalikeError]] = {
    429: Overloaded,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: StorageFull,
}
MAX_RETRY_AFTER = 120.0  # seconds; a server that asks for more is not waited for


@dataclass(frozen=True)
class CollectionInfo:
    """A collection as the server tells it; ``counts`` is empty in a list."""

    name: str
    fields: Fields
    backbone: str
    counts: Mapping[ImageState, int] = field(default_factory=dict)
    dimension: int = 0
    index: IndexSpec = AUTOMATIC


@dataclass(frozen=True)
class StoredImage:
    """An image that the server has."""

    id: ImageId
    digest: str  # SHA-256 of the original, in hex
    state: ImageState
    metadata: Metadata


@dataclass(frozen=True)
class Upload:
    """An image to send: its bytes, under which id, with which metadata."""

    data: bytes
    id: str | None = None
    metadata: Mapping[str, object] | None = None


class Client:
    """Talks to one server; safe to share between threads.

    Every method raises what the server refused as the error class of
    ``lookalike.errors`` that fits, with the server's code and sentence, and
    ``Unavailable`` (code ``server_unreachable``) when nothing answers.

    Args:
        url: address of the server.
        patience: for how many seconds a call is tried again while the server is
            down, starting or without room. Every call can be repeated safely: what
            makes a job has an Idempotency-Key, so that a repeat after a lost answer
            gets the same job.
        busy_patience: the same, if it is more, while the server answers that too much
            waits already.
        waiting: is told each time what was refused, and the seconds until the next
            attempt; called from the thread that waits.
        sleep: waits; by default until ``stop`` is called at most.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        patience: float = 0.0,
        busy_patience: float = 0.0,
        waiting: Callable[[LookalikeError, float], object] | None = None,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self._busy_patience = max(patience, busy_patience)
        self._waiting = waiting
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        # The proxy settings of the environment are not for a server of one's own.
        self._http = httpx.Client(base_url=self.url, timeout=TIMEOUT, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def stop(self) -> None:
        """Let calls of other threads that wait for the server give up now."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    # --- collections ---

    def collections(self) -> list[CollectionInfo]:
        """All collections, by name."""
        answer = self._call("GET", "/v1/collections")
        return [_collection(entry) for entry in answer["collections"]]

    def collection(self, name: str) -> CollectionInfo:
        """One collection with its counts.

        Raises:
            CollectionNotFound: there is none of this name.
        """
        return _collection(self._call("GET", _path(name)))

    def create_collection(self, name: str, fields: Fields) -> None:
        """Create a collection with those metadata fields.

        Raises:
            CollectionExists: there is one of this name.
        """
        declared = {key: {"type": kind.value} for key, kind in fields.items()}
        document = {"name": name, "fields": declared}
        self._call("POST", "/v1/collections", json=document)

    # --- images ---

    def images(self, collection: str) -> Iterator[StoredImage]:
        """Every image of a collection, in order of id."""
        pages = self._pages(_path(collection, "images"), "images")
        return (_stored(entry) for entry in pages)

    def ingest(
        self, collection: str, uploads: Sequence[Upload], key: str | None = None
    ) -> Job:
        """Send images in one request; gives back the job that indexes them.

        With a ``key`` of one's own the same call can be made again by another process
        and gets the same job; without, each call has a new one.

        Raises:
            BadInput: every image was refused; nothing was recorded.
            TooLarge: more than the server takes in one request.
            Overloaded: too many images wait; patience has ended.
            StorageFull: the server has no room.
        """
        files: list[tuple[str, tuple[str, bytes, str]]] = [
            # The id says which image it is; a name of a file may not fit a header.
            ("image", (str(number), upload.data, "application/octet-stream"))
            for number, upload in enumerate(uploads)
        ]
        items = json.dumps([_item(upload) for upload in uploads])
        answer = self._make(
            _path(collection, "images"), key, files=files, data={"items": items}
        )
        return _job(answer["job"])

    def delete_images(
        self,
        collection: str,
        *,
        ids: Sequence[str] | None = None,
        filter: object = None,
        key: str | None = None,
    ) -> Job:
        """Delete images by id, or all that satisfy a filter; gives back the job.

        Raises:
            BadRequest: not exactly one of the two was given.
            BadFilter: the filter cannot be evaluated, or is empty.
        """
        given = {"ids": None if ids is None else list(ids), "filter": filter}
        asked = {name: value for name, value in given.items() if value is not None}
        answer = self._make(_path(collection, "images/delete"), key, json=asked)
        return _job(answer["job"])

    # --- duplicates ---

    def duplicates(
        self, collection: str, tier: str = "near", threshold: float | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """Every group of duplicates of a tier, as the API tells it.

        Raises:
            CollectionNotFound: there is no such collection.
            BadInput: there is no such tier, or the threshold is not from 0.5 to 1.
        """
        asked = {} if threshold is None else {"threshold": str(threshold)}
        path = _path(collection, "duplicates")
        return self._pages(path, "groups", GROUPS, tier=tier, **asked)

    def judge(self, collection: str, ids: Sequence[str], verdict: str) -> None:
        """Remember that images are each a ``duplicate`` of the others, or not.

        Raises:
            ImageNotFound: one of them is not there.
            BadInput: not 2 to 50 different ids, or another verdict than
                ``duplicate`` and ``not_duplicate``.
        """
        document = {"ids": list(ids), "verdict": verdict}
        path = _path(collection, "duplicates/verdicts")
        self._call("POST", path, json=document)

    # --- jobs ---

    def jobs(self) -> Iterator[Job]:
        """Every job, newest first."""
        return (_job(entry) for entry in self._pages("/v1/jobs", "jobs"))

    def job(self, job_id: JobId) -> Job:
        """A job as it stands.

        Raises:
            JobNotFound: there is none.
        """
        return _job(self._call("GET", _job_path(job_id)))

    def retry(self, job_id: JobId, key: str | None = None) -> Job:
        """Try a job's failures again; gives back the new job.

        Raises:
            JobNotFound: there is none.
            NothingToRetry: none of its failures can be tried again.
        """
        return _job(self._make(_job_path(job_id, "retry"), key)["job"])

    def cancel(self, job_id: JobId) -> Job:
        """End what of a job no worker has begun; gives back the job.

        Raises:
            JobNotFound: there is none.
        """
        return _job(self._call("POST", _job_path(job_id, "cancel"))["job"])

    def wait(self, job_id: JobId, timeout: float = 600.0) -> Job:
        """A job when it has finished.

        Raises:
            TimeoutError: it did not within that many seconds.
        """
        deadline, pause = time.monotonic() + timeout, 0.02
        while True:
            job = self.job(job_id)
            if job.finished_at is not None:
                return job
            if time.monotonic() > deadline:
                raise TimeoutError(f"Job {job_id} has {job.pending} images to go.")
            self._sleep(pause)
            pause = min(pause * 1.5, 1.0)

    def failures(self, job_id: JobId) -> Iterator[Failure]:
        """Every failure of a job, in order of position."""
        pages = self._pages(_job_path(job_id, "failures"), "failures")
        return (failure(entry) for entry in pages)

    # --- search ---

    def search(
        self,
        collection: str,
        query: Query | None,
        options: SearchOptions = NO_OPTIONS,
        cursor: str | None = None,
    ) -> Answer:
        """What looks like the positive examples of a query, unlike the negative ones.

        With a ``cursor`` what comes after that page; the query may then be None, and
        the options are those of the page before.
        """
        asked = options.document()
        if query is not None:
            asked["query"] = query.document()
        if cursor is not None:
            asked["cursor"] = cursor
        return Answer.of(self._call("POST", _path(collection, "search"), json=asked))

    def search_pages(
        self, collection: str, query: Query, options: SearchOptions = NO_OPTIONS
    ) -> Iterator[Answer]:
        """Every page of a search, none repeating or leaving out an image.

        Raises:
            BadInput: code ``page_too_deep``: more pages than a search has.
        """
        answer = self.search(collection, query, options)
        yield answer
        later = replace(options, facets=())
        while answer.next_cursor is not None:
            answer = self.search(collection, None, later, answer.next_cursor)
            yield answer

    def search_many(
        self, collection: str, searches: Sequence[tuple[Query, SearchOptions]]
    ) -> list[Answer | LookalikeError]:
        """What each of up to 100 searches finds, or why it cannot be; in one call."""
        asked = [
            {**options.document(), "query": query.document()}
            for query, options in searches
        ]
        path = _path(collection, "search/batch")
        told = self._call("POST", path, json={"searches": asked})
        return [
            Answer.of(each["answer"])
            if each["answer"] is not None
            else told_error(each["error"])
            for each in told["answers"]
        ]

    def search_by_image(
        self, collection: str, data: bytes, options: SearchOptions = NO_OPTIONS
    ) -> Answer:
        """Lookalikes of a picture."""
        return self.search(collection, Query([Example(image=data)]), options)

    def search_by_file(
        self, collection: str, file: Path, options: SearchOptions = NO_OPTIONS
    ) -> Answer:
        """Lookalikes of a picture in a file."""
        return self.search_by_image(collection, file.read_bytes(), options)

    def search_by_id(
        self, collection: str, image_id: str, options: SearchOptions = NO_OPTIONS
    ) -> Answer:
        """Lookalikes of a stored image, itself left out."""
        return self.search(collection, Query([Example(id=image_id)]), options)

    def search_by_vector(
        self,
        collection: str,
        vector: Sequence[float],
        options: SearchOptions = NO_OPTIONS,
    ) -> Answer:
        """What lies nearest to a vector."""
        return self.search(collection, Query([Example(vector=vector)]), options)

    def facets(
        self,
        collection: str,
        fields: Sequence[str],
        filter: object = None,
        limit: int = 20,
    ) -> Mapping[str, Facet]:
        """How many images that satisfy a filter have which values of those fields."""
        asked = {"fields": list(fields), "filter": filter, "limit": limit}
        told = self._call("POST", _path(collection, "facets"), json=asked)
        return {name: Facet.of(entry) for name, entry in told["facets"].items()}

    # --- health ---

    def parts(self) -> Mapping[str, Mapping[str, Any]]:
        """The parts of the server, each with ``ok``, ``took_ms`` and a ``detail``."""
        document = _document(self._attempt("GET", "/readyz"), self.url)
        if not isinstance(document, dict) or "parts" not in document:
            raise _not_lookalike(self.url)
        parts: Mapping[str, Mapping[str, Any]] = document["parts"]
        return parts

    # --- how ---

    def _pages(
        self, path: str, key: str, limit: int = PAGE, **asked: str
    ) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            params = {**asked, "limit": str(limit)}
            params |= {"cursor": cursor} if cursor else {}
            page = self._call("GET", path, params=params)
            yield from page[key]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _make(self, path: str, key: str | None, **content: Any) -> Any:
        """What a call answers that makes a job, once however often it is sent."""
        headers = {KEY_HEADER: key if key is not None else str(uuid.uuid4())}
        return self._call("POST", path, headers=headers, **content)

    def _call(self, method: str, path: str, **content: Any) -> Any:
        """The JSON that a call answers, after as many attempts as patience allows."""
        started = time.monotonic()
        attempt = 0
        while True:
            pause = _pause(attempt)
            try:
                response = self._attempt(method, path, **content)
            except Unavailable as error:
                refused: LookalikeError = error
            else:
                if response.is_success:
                    return _document(response, self.url)
                refused = problem(response)
                if not refused.retryable:
                    raise refused
                # On top, so that those who were all told the same come one by one.
                pause += retry_after(response.headers.get("Retry-After"))
            if time.monotonic() + pause > started + self._patience_with(refused):
                raise refused
            self._wait(refused, pause)
            attempt += 1

    def _patience_with(self, refused: LookalikeError) -> float:
        is_busy = isinstance(refused, Overloaded | IdempotencyInUse)
        return self._busy_patience if is_busy else self._patience

    def _wait(self, refused: LookalikeError, pause: float) -> None:
        if self._waiting is not None:
            self._waiting(refused, pause)
        self._sleep(pause)
        if self._stopped.is_set():
            raise refused

    def _attempt(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **content)
        except httpx.InvalidURL as error:
            raise errors.BadRequest(
                f"{self.url!r} is not an address: {error}."
            ) from error
        except httpx.UnsupportedProtocol as error:
            raise errors.BadRequest(
                f"{self.url!r} is not an address; it starts with http:// or https://."
            ) from error
        except httpx.TransportError as error:
            raise Unavailable(
                f"No server answers at {self.url} ({_cause(error)}). "
                f"Start one with `lookalike up`, or name another with --url.",
                code="server_unreachable",
            ) from error


def problem(response: httpx.Response) -> LookalikeError:
    """What a server refused, as the error class that fits."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict) or "detail" not in document:
        document = {
            "code": "http_error",
            "detail": f"{response.url} answered {response.status_code} "
            f"{response.reason_phrase}, not as Lookalike does.",
        }
    return told_error({**document, "status": response.status_code})


def told_error(document: Mapping[str, Any]) -> LookalikeError:
    """A problem document of a server as the error class that fits."""
    status, code = int(document["status"]), str(document.get("code", "http_error"))
    named = ("type", "title", "detail", "code", "retryable", "instance")
    extra = {key: value for key, value in document.items() if key not in named}
    return _error_class(status, code)(str(document["detail"]), code=code, extra=extra)


def _error_class(status: int, code: str) -> type[LookalikeError]:
    for kind in vars(errors).values():
        is_ours = isinstance(kind, type) and issubclass(kind, LookalikeError)
        if is_ours and vars(kind).get("code") == code:
            found: type[LookalikeError] = kind
            return found
    if status in BY_STATUS:
        return BY_STATUS[status]
    if status == 404:
        return NotFound
    if status == 413:
        return TooLarge
    return errors.BadInput if 400 <= status < 500 else LookalikeError


def failure(entry: Mapping[str, Any]) -> Failure:
    """One failure, as the server tells it."""
    image_id = entry.get("id")
    return Failure(
        int(entry["position"]),
        ImageId(image_id) if image_id is not None else None,
        str(entry["code"]),
        str(entry["detail"]),
        bool(entry.get("retryable", False)),
    )


def retry_after(header: str | None) -> float:
    """The seconds a Retry-After header asks for; 0 without one that can be read."""
    if header is None:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if seconds == seconds else 0.0


def _pause(attempt: int) -> float:
    """Twice as long each time, and never the same for two clients."""
    longest = min(FIRST_PAUSE * 2.0**attempt, LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1.0)


def _document(response: httpx.Response, url: str) -> Any:
    try:
        return response.json()
    except ValueError:
        raise _not_lookalike(url) from None


def _not_lookalike(url: str) -> LookalikeError:
    return LookalikeError(
        f"What answers at {url} is not a Lookalike server.", code="not_lookalike"
    )


def _cause(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def _path(collection: str, *rest: str) -> str:
    return "/".join(["/v1/collections", quote(collection, safe=""), *rest])


def _job_path(job_id: JobId, *rest: str) -> str:
    return "/".join(["/v1/jobs", quote(job_id, safe=""), *rest])


def _item(upload: Upload) -> dict[str, object]:
    item: dict[str, object] = {}
    if upload.id is not None:
        item["id"] = upload.id
    if upload.metadata:
        item["metadata"] = dict(upload.metadata)
    return item


def _collection(entry: Mapping[str, Any]) -> CollectionInfo:
    return CollectionInfo(
        entry["name"],
        {name: FieldType(spec["type"]) for name, spec in entry["fields"].items()},
        entry["backbone"],
        {ImageState(state): n for state, n in entry.get("counts", {}).items()},
        entry.get("dimension", 0),
        _index(entry.get("index", {"type": "automatic"})),  # none on older servers
    )


def _index(entry: Mapping[str, Any]) -> IndexSpec:
    if entry["type"] == "automatic":
        return AUTOMATIC
    return IndexSpec(IndexKind(entry["type"]), entry["params"])


def _stored(entry: Mapping[str, Any]) -> StoredImage:
    return StoredImage(
        ImageId(entry["id"]),
        entry["digest"],
        ImageState(entry["state"]),
        entry["metadata"],
    )


def _job(entry: Mapping[str, Any]) -> Job:
    finished = entry.get("finished_at")
    return Job(
        JobId(entry["id"]),
        entry["collection"],
        entry["total"],
        entry["done"],
        entry["unchanged"],
        entry["failed"],
        entry["superseded"],
        datetime.fromisoformat(entry["created_at"]),
        datetime.fromisoformat(finished) if finished else None,
    )
