"""The main job on real photographs, however the platform is run."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

import main_job
from main_job import Api, counts, expected
from photographs import Photograph
from servers.processes import running_up

WAYS = [
    "embedded",
    pytest.param(
        "cluster",
        marks=[
            pytest.mark.milvus_server,
            pytest.mark.redis_server,
            pytest.mark.postgres_server,
            pytest.mark.triton_server,
        ],
    ),
]
pytestmark = [pytest.mark.photographs, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=WAYS)
def api(request: pytest.FixtureRequest) -> Api:
    found: Api = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def clothing(api: Api, photos: list[Photograph]) -> str:
    """A collection with all photographs, ingested through the API as one job."""
    api.create("clothing")
    job = api.ingest("clothing", photos)
    assert counts(job) == expected(total=1000, done=1000)
    return "clothing"


def test_all_photographs_are_indexed(api: Api, clothing: str) -> None:
    collection = api.http.get(f"/v1/collections/{clothing}").json()

    assert collection["counts"] == {"indexed": 1000, "pending": 0, "failed": 0}


def test_the_same_again_is_unchanged(
    api: Api, clothing: str, photos: list[Photograph]
) -> None:
    job = api.ingest(clothing, photos)

    assert counts(job) == expected(total=1000, unchanged=1000)


def test_a_photograph_finds_itself_first(
    api: Api, clothing: str, photos: list[Photograph]
) -> None:
    main_job.check_own_bytes(api, clothing, photos)


def test_an_altered_copy_finds_its_original(
    api: Api, clothing: str, photos: list[Photograph]
) -> None:
    found = main_job.share_of_altered_found(api, clothing, photos)

    assert found >= 97


def test_every_match_is_in_the_category(
    api: Api, clothing: str, photos: list[Photograph]
) -> None:
    main_job.check_categories(api, clothing, photos)


def test_narrow_filters_give_all_there_is(
    api: Api, clothing: str, photos: list[Photograph]
) -> None:
    main_job.check_narrow_filters(api, clothing, photos)


def test_five_broken_files_are_five_failures(
    api: Api, photos: list[Photograph]
) -> None:
    api.create("broken")
    whole = [(photo.id, photo.read()) for photo in photos[:45]]
    broken = {
        "text": (b"this is a text file, not a picture", "image_unsupported"),
        "empty": (b"", "image_empty"),
        "truncated": (whole[0][1][: len(whole[0][1]) // 2], "image_truncated"),
        "noise": (whole[1][1][:20] + bytes(range(256)) * 40, "image_broken"),
        "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_unsupported"),
    }
    files = list(whole)
    for place, (name, (data, _)) in enumerate(broken.items()):
        files.insert(place * 10, (name, data))

    job = api.wait(api.post("broken", files, [{"id": name} for name, _ in files]))

    failures = api.http.get(f"/v1/jobs/{job['id']}/failures").json()["failures"]
    assert counts(job) == expected(total=50, done=45, failed=5)
    assert {f["id"] for f in failures} == set(broken)
    for failure in failures:
        allowed = {broken[failure["id"]][1], "image_broken", "image_truncated"}
        assert failure["code"] in allowed
        assert failure["retryable"] is False
        assert failure["detail"]


def test_a_deleted_image_is_gone_at_once(api: Api, photos: list[Photograph]) -> None:
    api.create("short")
    api.ingest("short", photos[:20])
    query = photos[3].read()
    # A Milvus server shows new rows some seconds late; deletions count at once.
    main_job.until(lambda: len(api.search("short", query, limit=20)["matches"]) == 20)

    answer = api.http.delete(f"/v1/collections/short/images/{photos[3].id}")

    assert answer.status_code in (200, 204)
    matches = api.search("short", query, limit=20)["matches"]
    assert len(matches) == 19
    assert photos[3].id not in {match["id"] for match in matches}


def test_new_metadata_filter_soon(api: Api, photos: list[Photograph]) -> None:
    api.create("changing")
    api.ingest("changing", photos[:20])

    api.http.patch(
        f"/v1/collections/changing/images/{photos[3].id}",
        json={"metadata": {"category": "special"}},
    ).raise_for_status()

    main_job.until(
        lambda: (
            [
                match["id"]
                for match in api.search(
                    "changing", photos[0].read(), filter={"category": "special"}
                )["matches"]
            ]
            == [photos[3].id]
        )
    )


def test_progress_comes_as_events(api: Api, photos: list[Photograph]) -> None:
    api.create("watched")
    items = [{"id": photo.id} for photo in photos[:64]]
    job = api.post("watched", [(p.id, p.read()) for p in photos[:64]], items)

    last: dict[str, int] = {}
    with api.http.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
        for line in events.iter_lines():
            if line.startswith("data:"):
                last = counts(json.loads(line.removeprefix("data:")))

    assert last == expected(total=64, done=64)


def test_the_page_shows_lookalikes_of_an_uploaded_picture(
    api: Api, clothing: str, photos: list[Photograph]
) -> None:
    shoe = next(photo for photo in photos if photo.category == "shoes")

    page = api.http.post(
        "/",
        data={"collection": clothing, "category": "shoes"},
        files={"image": ("query.jpg", shoe.read(), "image/jpeg")},
    )

    assert page.status_code == 200
    shown = re.findall(r'src="(/v1/[^"]+/thumbnail[^"]*)"', page.text)
    assert len(shown) >= 10
    assert all(f"/{clothing}/images/shoes/" in address for address in shown)
    thumbnail = api.http.get(html.unescape(shown[0]))
    assert thumbnail.headers["Content-Type"] == "image/jpeg"
    assert len(thumbnail.content) < 40_000


def test_an_original_comes_back_byte_for_byte(
    api: Api, clothing: str, photos: list[Photograph]
) -> None:
    answer = api.http.get(f"/v1/collections/{clothing}/images/{photos[5].id}/original")

    assert answer.content == photos[5].read()


def test_the_platform_says_that_it_is_ready(api: Api) -> None:
    assert api.http.get("/healthz").status_code == 200
    assert api.http.get("/readyz").status_code == 200


def test_everything_is_there_after_a_kill(
    tmp_path: Path, photos: list[Photograph]
) -> None:
    with running_up(tmp_path) as (process, url), Api(url) as api:
        api.create("clothing")
        items = [{"id": photo.id} for photo in photos[:200]]
        job = api.post("clothing", [(p.id, p.read()) for p in photos[:200]], items)
        process.kill()

    with running_up(tmp_path) as (_, url), Api(url) as api:
        job = api.wait(job)

        assert counts(job) == expected(total=200, done=200)
        best = api.search("clothing", photos[7].read(), limit=1)["matches"][0]
        assert best["id"] == photos[7].id
