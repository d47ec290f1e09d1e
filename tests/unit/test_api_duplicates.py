from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from werkzeug.test import TestResponse

from api_site import Site, open_site
from copied import encoded_again
from pictures import jpeg

THINGS = "/v1/collections/things"
DUPLICATES = f"{THINGS}/duplicates"
VERDICTS = f"{DUPLICATES}/verdicts"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with three copies of one picture, two of another, and one alone."""
    with open_site(tmp_path) as site:
        site.create()
        first, second = jpeg(1), jpeg(2)
        again = encoded_again(first, np.random.default_rng(1))
        site.ingest({"a/1": first, "a/2": first, "a/3": again})
        site.ingest({"b 1": second, "b 2": second, "c": jpeg(3)})
        yield site


def groups(site: Site, query: str = "") -> dict[str, Any]:
    answer = site.client.get(DUPLICATES + query)
    assert answer.status_code == 200, answer.json
    assert answer.json is not None
    told: dict[str, Any] = answer.json
    return told


def ids(told: dict[str, Any]) -> list[list[str]]:
    return [
        sorted(one["image"]["id"] for one in group["members"])
        for group in told["groups"]
    ]


def judge(site: Site, verdict: str, *names: str) -> TestResponse:
    return site.client.post(VERDICTS, json={"ids": names, "verdict": verdict})


def policy(site: Site, name: str) -> None:
    """Have an empty collection with this policy in place of the other."""
    site.client.delete(THINGS)
    made = site.client.post(
        "/v1/collections", json={"name": "things", "duplicates": name}
    )
    assert made.json is not None
    assert made.json["duplicates"] == name


def test_near_copies_are_listed_with_what_is_told_of_images(site: Site) -> None:
    told = groups(site)

    group = told["groups"][0]
    assert ids(told) == [["a/1", "a/2", "a/3"], ["b 1", "b 2"]]
    assert told["next_cursor"] is None
    assert (group["tier"], group["more"]) == ("near", False)
    assert [one["tier"] for one in group["members"]] == ["exact", "exact", "near"]
    assert [one["similarity"] for one in group["members"]][:2] == [1, 1]
    assert group["members"][0]["image"]["thumbnail_url"].endswith("a/1/thumbnail")


def test_exact_copies_are_listed_by_themselves(site: Site) -> None:
    assert sorted(ids(groups(site, "?tier=exact"))) == [["a/1", "a/2"], ["b 1", "b 2"]]


def test_similar_images_are_listed_from_a_threshold_on(site: Site) -> None:
    assert len(ids(groups(site, "?tier=similar&threshold=0.5"))[0]) == 6


@pytest.mark.parametrize("tier", ["exact", "near"])
def test_groups_come_page_by_page(site: Site, tier: str) -> None:
    first = groups(site, f"?tier={tier}&limit=1")
    cursor = first["next_cursor"]
    second = groups(site, f"?tier={tier}&limit=1&cursor={cursor}")

    assert len(first["groups"]) == len(second["groups"]) == 1
    assert ids(first) + ids(second) == ids(groups(site, f"?tier={tier}"))


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?tier=close", "request_invalid"),
        ("?limit=0", "limit_invalid"),
        ("?limit=201", "limit_invalid"),
        ("?threshold=2", "threshold_invalid"),
        ("?cursor=x", "cursor_invalid"),
        ("?cursor=ZXhhY3QgYQ", "cursor_invalid"),  # of the exact tier
    ],
)
def test_a_page_that_cannot_be_is_refused(site: Site, query: str, code: str) -> None:
    answer = site.client.get(DUPLICATES + query)

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["code"] == code


def test_a_verdict_is_told_listed_kept_to_and_deleted(site: Site) -> None:
    told = judge(site, "not_duplicate", "b 2", "b 1").json
    listed = site.client.get(VERDICTS).json

    assert told is not None
    assert told["verdicts"][0]["ids"] == ["b 1", "b 2"]
    assert told["verdicts"][0]["verdict"] == "not_duplicate"
    assert listed == told
    assert ids(groups(site)) == [["a/1", "a/2", "a/3"]]

    gone = site.client.post(f"{VERDICTS}/delete", json={"ids": ["b 1", "b 2"]})

    assert gone.json == {"withdrawn": 1}
    assert ["b 1", "b 2"] in ids(groups(site))


def test_a_verdict_on_three_images_is_on_each_pair(site: Site) -> None:
    told = judge(site, "duplicate", "a/1", "a/2", "a/3").json

    assert told is not None
    assert len(told["verdicts"]) == 3
    assert ids(groups(site)) == [["b 1", "b 2"]]


def test_verdicts_come_page_by_page(site: Site) -> None:
    judge(site, "duplicate", "a/1", "a/2", "a/3")
    found: list[object] = []
    cursor = ""
    while True:
        told = site.client.get(f"{VERDICTS}?limit=1{cursor}").json
        assert told is not None
        found += told["verdicts"]
        if told["next_cursor"] is None:
            break
        cursor = f"&cursor={told['next_cursor']}"

    whole = site.client.get(VERDICTS).json
    assert whole is not None
    assert found == whole["verdicts"]


def test_a_verdict_that_cannot_be_is_refused(site: Site) -> None:
    one = judge(site, "duplicate", "c")
    unknown = judge(site, "duplicate", "c", "nothing")
    unclear = judge(site, "perhaps", "c", "b 1")

    assert one.json is not None
    assert (one.status_code, one.json["code"]) == (400, "verdict_invalid")
    assert unknown.status_code == 404
    assert unclear.status_code == 400


def test_a_linked_image_tells_what_was_there_before(site: Site) -> None:
    policy(site, "link")
    site.ingest({"old": jpeg(1)})

    job = site.ingest({"new": encoded_again(jpeg(1), np.random.default_rng(1))})

    listed = site.client.get(f"{THINGS}/images").json
    single = site.client.get(f"{THINGS}/images/new").json
    assert job["total"] == 1
    assert single is not None
    assert single["duplicate_of"] == "old"
    assert listed is not None
    told = {image["id"]: image["duplicate_of"] for image in listed["images"]}
    assert told == {"new": "old", "old": None}


def test_a_rejected_image_fails_by_name(site: Site) -> None:
    policy(site, "reject")
    site.ingest({"old": jpeg(1)})

    job = site.ingest({"new": jpeg(1)})

    told = site.client.get(f"/v1/jobs/{job['id']}/failures").json
    assert told is not None
    (failure,) = told["failures"]
    assert (failure["code"], failure["retryable"]) == ("duplicate", False)
    assert "'old'" in failure["detail"]


def test_an_unknown_policy_is_refused(site: Site) -> None:
    made = site.client.post(
        "/v1/collections", json={"name": "other", "duplicates": "merge"}
    )

    assert made.status_code == 400
    assert made.json is not None
    assert made.json["code"] == "duplicates_invalid"
