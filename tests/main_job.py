"""The main job over HTTP, the same for every way to run the platform."""

from __future__ import annotations

import collections
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

import photographs
from photographs import Photograph

Json = dict[str, Any]
DEADLINE_SECONDS = 240.0


class Api:
    """The HTTP API of a running platform, as a client's few lines would use it."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=120)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def create(self, name: str) -> None:
        fields = {"category": {"type": "string"}, "number": {"type": "int"}}
        answer = self.http.post(
            "/v1/collections", json={"name": name, "fields": fields}
        )
        assert answer.status_code == 201, answer.text

    def post(
        self, name: str, files: Sequence[tuple[str, bytes]], items: object
    ) -> Json:
        answer = self.http.post(
            f"/v1/collections/{name}/images",
            files=[("image", (f"{n}.jpg", data)) for n, (_, data) in enumerate(files)],
            data={"items": json.dumps(items)},
        )
        assert answer.status_code == 202, answer.text
        job: Json = answer.json()["job"]
        return job

    def ingest(self, name: str, photos: Sequence[Photograph]) -> Json:
        """All photographs in one request: one job."""
        items = [
            {"id": photo.id, "metadata": {"category": photo.category, "number": n}}
            for n, photo in enumerate(photos)
        ]
        files = [(photo.id, photo.read()) for photo in photos]
        return self.wait(self.post(name, files, items))

    def wait(self, job: Json) -> Json:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            job = self.http.get(f"/v1/jobs/{job['id']}").json()
            if job["finished_at"] is not None:
                return job
            time.sleep(0.1)
        raise AssertionError(f"the job did not finish: {job}")

    def search(self, name: str, data: bytes, **request: object) -> Json:
        answer = self.http.post(
            f"/v1/collections/{name}/search",
            files={"image": ("query.jpg", data)},
            data={"request": json.dumps(request)},
        )
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found


def until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.1)


def counts(job: Json) -> dict[str, int]:
    names = ("total", "done", "unchanged", "failed", "superseded", "pending")
    return {name: job[name] for name in names}


def expected(**known: int) -> dict[str, int]:
    zero = dict.fromkeys(
        ("total", "done", "unchanged", "failed", "superseded", "pending"), 0
    )
    return zero | known


def check_own_bytes(api: Api, name: str, photos: Sequence[Photograph]) -> None:
    for photo in photos[::10]:
        best = api.search(name, photo.read(), limit=3)["matches"][0]
        assert best["id"] == photo.id
        assert best["score"] > 0.999


def share_of_altered_found(api: Api, name: str, photos: Sequence[Photograph]) -> int:
    """Of 100 photographs, how many are in the first 3 for an altered copy."""
    found = 0
    for photo in photos[::10]:
        answer = api.search(name, photographs.altered(photo.read()), limit=3)
        found += photo.id in {match["id"] for match in answer["matches"]}
    return found


def check_categories(api: Api, name: str, photos: Sequence[Photograph]) -> None:
    """Ten matches of the right category, for every category and several queries."""
    by_category = collections.Counter(photo.category for photo in photos)
    assert len(by_category) == 10
    for category, number in by_category.items():
        for photo in photos[::250]:
            answer = api.search(
                name, photo.read(), limit=10, filter={"category": category}
            )
            categories = [m["metadata"]["category"] for m in answer["matches"]]
            assert categories == [category] * min(10, number)
            assert answer["complete"]


def check_narrow_filters(api: Api, name: str, photos: Sequence[Photograph]) -> None:
    """Exactly as many matches as there are, down to one image in a thousand."""
    for width in (1, 5, 10, 50):
        condition = {"number": {"$gte": 400, "$lt": 400 + width}}
        answer = api.search(name, photos[0].read(), limit=10, filter=condition)
        numbers = {match["metadata"]["number"] for match in answer["matches"]}
        assert len(answer["matches"]) == len(numbers) == min(10, width)
        assert numbers <= set(range(400, 400 + width))
