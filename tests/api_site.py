"""The API over fakes, a real ledger and real originals, for tests without a server."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

import pictures
from fakes import FakeEmbedder, MemoryIndex
from lookalike.admission import Admission, Capacity
from lookalike.api import create_app, openapi, operations, schemas
from lookalike.api.context import EXTENSION, Context
from lookalike.backbones import Backbone
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.backends.ledger import SqlLedger
from lookalike.bootstrap import Backends
from lookalike.collections import DEFAULT_TEAM
from lookalike.config import Settings
from lookalike.ingest import index_images
from lookalike.interfaces import WorkId

FIELDS = {
    "category": {"type": "string"},
    "price": {"type": "float"},
    "tags": {"type": "string[]"},
}


class QueueThatWorks:
    """Does the work at once, as soon as it is told about it; or never, if held."""

    def __init__(self) -> None:
        self.parts: Backends | None = None
        self.is_held = False

    def ring(self, work: Sequence[WorkId]) -> None:
        assert self.parts is not None
        if not self.is_held:
            self.parts.index_images(work)

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


class CheckedClient(FlaskClient):
    """Holds every answer to the document and to the rules for all answers."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Request-Id"]
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        if response.status_code >= 400:
            assert response.mimetype == "application/problem+json"
            assert response.json is not None
            assert response.json["status"] == response.status_code
            assert set(response.json) >= set(schemas.Problem.model_fields)
        self._check_documented(response)
        return response

    def _check_documented(self, response: TestResponse) -> None:
        request = response.request
        urls = self.application.url_map.bind("localhost")
        try:
            endpoint, _ = urls.match(request.path, request.method)
        except HTTPException:
            return
        declared = operations.of(self.application.view_functions[endpoint])
        if declared is not None:
            assert response.status_code in openapi.statuses_of(declared, request.method)


@dataclass
class Site:
    """An application with everything behind it, and the few steps of most tests."""

    app: Flask
    parts: Backends
    queue: QueueThatWorks
    embedder: FakeEmbedder
    folder: Path
    client: CheckedClient

    def create(self, name: str = "things") -> None:
        answer = self.client.post(
            "/v1/collections", json={"name": name, "fields": FIELDS}
        )
        assert answer.status_code == 201

    def ingest(
        self, files: Mapping[str, bytes], metadata: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Take in files by id, as a form, and give back the job."""
        answer = self.form(
            list(files.values()),
            items=json.dumps([{"id": name} for name in files]),
            metadata=json.dumps(metadata or {}),
        )
        assert answer.status_code == 202, answer.json
        assert answer.json is not None
        job: dict[str, Any] = answer.json["job"]
        return job

    def form(self, files: Sequence[bytes], **fields: str) -> TestResponse:
        """The answer to a form with those files and fields."""
        parts = [(io.BytesIO(data), f"{n}.jpg") for n, data in enumerate(files)]
        return self.client.post(
            "/v1/collections/things/images", data={"image": parts, **fields}
        )

    def search(self, **asked: object) -> TestResponse:
        return self.client.post("/v1/collections/things/search", json=asked)

    def limit(self, **changes: int) -> None:
        """Have other limits for what may come, from now on."""
        capacity = Capacity(
            **{"max_pending_images": 1_000, "max_pending_images_per_team": 1_000}
            | {"min_free_bytes": 0}
            | changes
        )
        now: Context = self.app.extensions[EXTENSION]
        admission = Admission(self.parts.ledger, self.parts.blobs, capacity)
        self.app.extensions[EXTENSION] = replace(now, admission=admission)

    def ids(self) -> list[str]:
        """The ids of all images of the collection."""
        answer = self.client.get("/v1/collections/things/images?limit=1000")
        assert answer.json is not None
        return [image["id"] for image in answer.json["images"]]

    def state(self) -> object:
        """Everything that a request can change."""
        ledger = self.parts.ledger
        collections = ledger.collections(DEFAULT_TEAM)
        originals = self.parts.settings.originals
        return (
            [(one.uid, ledger.image_counts(one)) for one in collections],
            [self.parts.index.count(one) for one in collections],
            [job.id for job in ledger.jobs(DEFAULT_TEAM, None, 1_000)],
            sorted(path for path in originals.rglob("*") if path.is_file()),
        )


@contextlib.contextmanager
def open_site(folder: Path, **changes: Any) -> Iterator[Site]:
    """A site below that folder, empty; ``changes`` are settings."""
    usual: dict[str, Any] = {
        "chunk_images": 4,
        "http_threads": 4,
        "max_image_bytes": 2 * 2**20,
        "max_request_bytes": 4 * 2**20,
        "max_request_images": 20,
        "min_free_bytes": 0,  # a test may run on a disk that is nearly full
    }
    settings = Settings(data_dir=folder, **(usual | changes))
    embedder, queue = FakeEmbedder(), QueueThatWorks()
    ledger = SqlLedger(settings.ledger_url)
    blobs, index = DirectoryBlobs(settings.originals), MemoryIndex()
    backbone = Backbone(
        name="fake",
        version="1",
        geometry=embedder.geometry,
        dimension=embedder.dimension,
        fingerprint=embedder.fingerprint,
        directory=folder,
        model_path=folder,
        precision="fp32",
        variants={},
        manifest={},
    )

    def work(ids: Sequence[WorkId]) -> None:
        index_images(ledger, blobs, embedder, index, ids, limits=parts.limits)

    parts = Backends(
        settings=settings,
        backbone=backbone,
        ledger=ledger,
        blobs=blobs,
        embedder=embedder,
        index=index,
        queue=queue,
        index_images=work,
    )
    queue.parts = parts
    app = create_app(parts)
    app.test_client_class = CheckedClient
    client = app.test_client()
    assert isinstance(client, CheckedClient)
    yield Site(app, parts, queue, embedder, folder, client)
    parts.close()


@functools.cache
def photo(name: str) -> bytes:
    """The picture of an image of the shelf."""
    return pictures.jpeg(seed=ord(name), width=64, height=48)
