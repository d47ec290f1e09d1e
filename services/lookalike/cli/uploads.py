"""Sending many pictures to a server: in batches, several at a time, resumable."""

from __future__ import annotations

import hashlib
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lookalike.client import Client, Upload, failure
from lookalike.collections import Fields, check_metadata
from lookalike.errors import BadInput, BadMetadata, TooLarge
from lookalike.interfaces import Failure, ImageState, Job

BATCH_IMAGES = 100
BATCH_BYTES = 16 * 2**20
IN_FLIGHT = 4  # requests at once
LARGEST_FILE = 256 * 2**20  # bytes; no server accepts more, so it is not even read
POLLED_AT_ONCE = 8  # jobs asked after in one round
POLL_SECONDS = 0.25

Metadata = Mapping[str, object]


@dataclass(frozen=True)
class Entry:
    """A file to send, under which id, with which metadata."""

    path: Path
    id: str
    metadata: Metadata


@dataclass(frozen=True)
class FileFailure:
    """Why one file did not become searchable."""

    file: str
    code: str
    detail: str
    retryable: bool = False


@dataclass
class Report:
    """What became of the files, each counted once."""

    total: int
    sent: int = 0  # or found to be there already
    done: int = 0
    unchanged: int = 0
    superseded: int = 0
    seconds: float = 0.0
    failures: list[FileFailure] = field(default_factory=list)

    @property
    def settled(self) -> int:
        """How many files have come to their end."""
        return self.done + self.unchanged + self.superseded + len(self.failures)

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.settled / self.seconds if self.seconds > 0 else 0.0


class Watcher(Protocol):
    """Is shown the report each time it changes."""

    def update(self, report: Report) -> None:
        """Show how things stand."""


# --- what the server has already -----------------------------------------------------


class Known:
    """What a collection holds, so that only the rest is sent."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._prints: dict[str, bytes] = {}

    @classmethod
    def of(cls, client: Client, collection: str, fields: Fields) -> Known:
        """What is indexed in a collection now."""
        known = cls(fields)
        for image in client.images(collection):
            if image.state is ImageState.INDEXED:
                known._prints[image.id] = _print(image.digest, image.metadata)
        return known

    def has(self, entry: Entry, data: bytes) -> bool:
        """Whether these bytes with this metadata are indexed under the id."""
        stored = self._prints.get(entry.id)
        if stored is None:
            return False
        try:
            metadata = check_metadata(self._fields, entry.metadata)
        except BadMetadata:
            return False  # The server tells what is wrong with it.
        return stored == _print(hashlib.sha256(data).hexdigest(), metadata)


def _print(digest: str, metadata: Metadata) -> bytes:
    """32 bytes that stand for a picture with its metadata; millions fit in memory."""
    text = repr((digest, sorted(metadata.items())))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


# --- sending -------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Files that go into one request."""

    entries: Sequence[Entry]
    uploads: Sequence[Upload]

    def without_bytes(self) -> Batch:
        """The same files, once their bytes are no longer needed."""
        return Batch(self.entries, ())

    def halves(self) -> Iterator[Batch]:
        """The same files in two requests."""
        middle = len(self.entries) // 2
        yield Batch(self.entries[:middle], self.uploads[:middle])
        yield Batch(self.entries[middle:], self.uploads[middle:])


@dataclass(frozen=True)
class Sent:
    """A batch on its way: the job that indexes it, or why nothing of it was taken."""

    batch: Batch
    job: Job | None
    refused: Sequence[Failure] = ()


def send(client: Client, collection: str, batch: Batch) -> list[Sent]:
    """Send a batch, in smaller ones if the server wants it so.

    Raises:
        LookalikeError: the server refuses the request as a whole, or is down.
    """
    try:
        return [Sent(batch, client.ingest(collection, batch.uploads))]
    except TooLarge as error:
        if len(batch.entries) > 1:
            return [
                part
                for half in batch.halves()
                for part in send(client, collection, half)
            ]
        return [Sent(batch, None, [_refusal(error)])]
    except BadInput as error:
        listed = error.extra.get("failures")
        if error.code == "all_refused" and isinstance(listed, list):
            return [Sent(batch, None, _all_refused(batch, listed, error))]
        if len(batch.entries) == 1:
            return [Sent(batch, None, [_refusal(error)])]
        raise


def _refusal(error: BadInput, position: int = 0) -> Failure:
    return Failure(position, None, error.code, error.detail, error.retryable)


def _all_refused(
    batch: Batch, listed: Sequence[Mapping[str, Any]], error: BadInput
) -> list[Failure]:
    told = {one.position: one for one in map(failure, listed)}
    return [
        told.get(position, _refusal(error, position))
        for position in range(len(batch.entries))
    ]


class Uploader:
    """Sends files and follows them until the last one is indexed or has failed."""

    def __init__(
        self, client: Client, collection: str, known: Known, watcher: Watcher
    ) -> None:
        self._client = client
        self._collection = collection
        self._known = known
        self._watcher = watcher
        self._sending: set[Future[list[Sent]]] = set()
        self._open: deque[tuple[Job, Batch]] = deque()  # oldest first
        self._started = self._polled_at = time.monotonic()
        self.report = Report(0)

    def run(self, entries: Sequence[Entry]) -> Report:
        """Take every file to its end.

        After ``KeyboardInterrupt`` or an error ``report`` says how far it came; a new
        run with the same files goes on from there.

        Raises:
            LookalikeError: the server refuses to go on, or stays down.
        """
        self.report.total = len(entries)
        self._started = time.monotonic()
        pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="upload")
        try:
            for batch in self._batches(entries):
                self._sending.add(pool.submit(self._send, batch))
                self._collect(most=IN_FLIGHT)
                self._look()
            while self._sending or self._open:
                self._collect(most=0, patience=POLL_SECONDS)
                self._look()
        except BaseException:
            self._client.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            self._show()
        return self.report

    def _send(self, batch: Batch) -> list[Sent]:
        return send(self._client, self._collection, batch)

    # --- reading ---

    def _batches(self, entries: Iterable[Entry]) -> Iterator[Batch]:
        """The files that the server lacks, put together for sending."""
        chosen: list[Entry] = []
        uploads: list[Upload] = []
        size = 0
        for entry in entries:
            data = self._read(entry)
            if data is None:
                continue
            is_full = len(uploads) == BATCH_IMAGES or size + len(data) > BATCH_BYTES
            if uploads and is_full:
                yield Batch(chosen, uploads)
                chosen, uploads, size = [], [], 0
            chosen.append(entry)
            uploads.append(Upload(data, entry.id, entry.metadata))
            size += len(data)
        if uploads:
            yield Batch(chosen, uploads)

    def _read(self, entry: Entry) -> bytes | None:
        """The bytes of a file, unless there is nothing to send."""
        try:
            data = read_picture(entry)
        except BadInput as error:
            self._fail(entry, error.code, error.detail)
        else:
            if not self._known.has(entry, data):
                return data
            self.report.unchanged += 1
        self.report.sent += 1
        self._show()
        return None

    def _fail(
        self, entry: Entry, code: str, detail: str, *, retryable: bool = False
    ) -> None:
        self.report.failures.append(FileFailure(entry.id, code, detail, retryable))

    # --- taking in what was sent ---

    def _collect(self, *, most: int, patience: float | None = None) -> None:
        """Take in answers until no more than ``most`` requests are in flight."""
        if not self._sending and patience is not None:
            time.sleep(patience)
        while len(self._sending) > most:
            ready, self._sending = wait(
                self._sending, timeout=patience, return_when=FIRST_COMPLETED
            )
            for future in ready:
                for sent in future.result():
                    self._take(sent)
            if patience is not None:
                return

    def _take(self, sent: Sent) -> None:
        self.report.sent += len(sent.batch.entries)
        for one in sent.refused:
            self._record(sent.batch, one)
        if sent.job is not None:
            self._follow(None, sent.job, sent.batch)

    def _record(self, batch: Batch, one: Failure) -> None:
        entry = batch.entries[one.position]
        self._fail(entry, one.code, one.detail, retryable=one.retryable)

    # --- following the jobs ---

    def _look(self) -> None:
        if time.monotonic() - self._polled_at >= POLL_SECONDS:
            self._poll()
            self._polled_at = time.monotonic()
        self._show()

    def _show(self) -> None:
        self.report.seconds = time.monotonic() - self._started
        self._watcher.update(self.report)

    def _poll(self) -> None:
        """Ask after the oldest jobs; they end about in the order they came."""
        asked = [
            self._open.popleft() for _ in range(min(POLLED_AT_ONCE, len(self._open)))
        ]
        for before, batch in reversed(asked):
            self._follow(before, self._client.job(before.id), batch)

    def _follow(self, before: Job | None, job: Job, batch: Batch) -> None:
        """Count what a job has done since it was last looked at."""
        report = self.report
        report.done += job.done - (before.done if before else 0)
        report.unchanged += job.unchanged - (before.unchanged if before else 0)
        report.superseded += job.superseded - (before.superseded if before else 0)
        if job.finished_at is None and before is None:
            self._open.append((job, batch.without_bytes()))
        elif job.finished_at is None:
            self._open.appendleft((job, batch))
        elif job.failed:
            for one in self._client.failures(job.id):
                self._record(batch, one)


def read_picture(entry: Entry) -> bytes:
    """The bytes of a file.

    Raises:
        BadInput: it cannot be read, or is nothing that a server takes.
    """
    try:
        entry.id.encode()
    except UnicodeEncodeError:
        raise BadInput("The name is not UTF-8.", code="id_invalid") from None
    try:
        known = entry.path.stat()
        if not stat.S_ISREG(known.st_mode):
            raise BadInput("It cannot be read as a file.", code="file_unreadable")
        if known.st_size > LARGEST_FILE:
            raise BadInput(
                f"The file has {known.st_size:,} bytes.", code="image_too_large"
            )
        return entry.path.read_bytes()
    except OSError as error:
        raise BadInput(f"{error.strerror or error}.", code="file_unreadable") from error
