"""The one checker: what must hold after every scenario, whatever was broken.

I1 what was acknowledged is there, indexed or failed with a reason; I2 it is there once,
as the newest bytes and metadata; I3 what was deleted is not; I4 every job counts each
image once; I6 every call was answered in time, every error with a stable code.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from sqlalchemy import Row

from faults import specimens
from faults.clients import COLLECTION, upload
from faults.index_rows import Row as IndexRow
from faults.model import Model, State
from faults.records import Records

SHOWN = 5  # of each kind of breach
SAME = 0.998  # cosine of two vectors of one picture; others are below 0.993


@dataclass
class Findings:
    """What was found to be wrong, and a few figures that are no breach.

    Attributes:
        breaches: by invariant, in words; none is how it should be.
        figures: what else is worth knowing.
    """

    breaches: dict[str, list[str]] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)

    def broken(self, invariant: str, what: str) -> None:
        """Note a breach."""
        self.breaches.setdefault(invariant, []).append(what)

    def count(self, *invariants: str) -> int:
        """How many breaches of these there are."""
        return sum(len(self.breaches.get(name, ())) for name in invariants)

    def lines(self) -> Iterator[str]:
        """The first breaches of each kind."""
        for name, found in sorted(self.breaches.items()):
            yield from (f"{name}: {what}" for what in found[:SHOWN])
            if len(found) > SHOWN:
                yield f"{name}: and {len(found) - SHOWN} more"


def check_records(model: Model, found: Records, findings: Findings) -> None:
    """The ledger against the model."""
    rows = {row.image_id: row for row in found.images}
    for image_id, possible in model.states.items():
        _check_image(image_id, possible, rows.get(image_id), findings)
    for image_id in rows.keys() - model.states.keys():
        findings.broken("I2 unknown", f"{image_id} is there, and nobody sent it")
    jobs = {row.id: row for row in found.jobs}
    for job, total in model.jobs.items():
        if job not in jobs:
            findings.broken("I1 lost", f"job {job} was acknowledged, and is not there")
        elif jobs[job].total != total:
            findings.broken("I4 counts", f"{total} images were sent: {jobs[job]}")
        elif jobs[job].failed < model.broken[job]:
            findings.broken("I4 counts", f"broken files did not fail: {jobs[job]}")
    for row in found.jobs:
        _check_job(row, found.ends.get(row.id, Counter()), findings)
    for what in model.contradictions:
        findings.broken("I4 keys", what)
    findings.figures |= {
        "failed images": sum(found.failures.values()) - sum(model.broken.values()),
        "repeated claims": found.repeats,
        "repairs": found.repairs,
    }


def _check_image(
    image_id: str,
    possible: frozenset[State | None],
    row: Row[Any] | None,
    findings: Findings,
) -> None:
    if row is None or row.want == "absent":
        if None not in possible:
            findings.broken("I1 lost", f"{image_id} is not there; it is {possible}")
        return
    if row.indexed_gen != row.gen and row.failed is None:
        findings.broken("I1 lost", f"{image_id} never came to an end: {row}")
    if possible == {None}:
        findings.broken("I3 stale", f"{image_id} was deleted, and is there")
    elif state_of(image_id, possible, row) is None:
        findings.broken("I2 wrong", f"{image_id} is none of {possible}: {row}")


def state_of(
    image_id: str, possible: frozenset[State | None], row: Row[Any]
) -> State | None:
    """Which of the states an image can be in, it is in."""
    tag = json.loads(row.metadata).get("tag")
    for state in possible:
        if (
            state is not None
            and state.tag == tag
            and specimens.digest(image_id, state.version) == row.digest
        ):
            return state
    return None


def _check_job(row: Row[Any], ends: Counter[str], findings: Findings) -> None:
    counted = row.done + row.unchanged + row.failed + row.superseded
    if row.open:
        return  # its request was never answered; it is closed after an hour
    if counted != row.total or row.finished_at is None:
        findings.broken("I4 counts", f"job {row.id} is not at its end: {row}")
    for state in ("done", "failed", "superseded"):
        if getattr(row, state) != ends[state]:
            findings.broken(
                "I4 counts", f"job {row.id} says {row}, but its work says {ends}"
            )


def check_index(
    model: Model,
    found: Records,
    index: dict[str, list[IndexRow]],
    findings: Findings,
) -> None:
    """The index against ledger and model."""
    rows = {row.key: row for row in found.images}
    for key, row in rows.items():
        stored = index.get(key, [])
        if len(stored) > 1:
            findings.broken("I2 twice", f"{row.image_id} has {len(stored)} vectors")
        if row.want == "present" and row.failed is None:
            _check_vector(model, row, stored, findings)
    ghosts = [key for key in index if key not in rows or rows[key].want == "absent"]
    # No search returns them, as the ledger verifies every hit; but they should be gone.
    findings.figures["ghosts in the index"] = len(ghosts)
    findings.figures["rows in the index"] = len(index)


def _check_vector(
    model: Model, row: Row[Any], stored: Sequence[IndexRow], findings: Findings
) -> None:
    if not stored:
        findings.broken("I1 lost", f"{row.image_id} is indexed, but has no vector")
        return
    vector = stored[0]
    if vector.gen != row.gen:
        findings.broken(
            "I2 vector", f"{row.image_id} is of gen {row.gen}, its vector {vector}"
        )
        return
    state = state_of(row.image_id, model.states.get(row.image_id, frozenset()), row)
    if state is None:
        return  # said already
    expected = specimens.number_of(row.image_id, state.version)
    if vector.picture != expected or vector.score < SAME:
        findings.broken(
            "I2 vector", f"{row.image_id} is picture {expected}, its vector {vector}"
        )


def check_api(url: str, model: Model, findings: Findings) -> None:
    """What the API lists, gives and finds, against the model."""
    with httpx.Client(
        base_url=f"{url}/v1/collections/{COLLECTION}", timeout=60
    ) as http:
        listed = set(_listed(http))
        for image_id, possible in model.states.items():
            if None not in possible and image_id not in listed:
                findings.broken("I1 lost", f"{image_id} is not listed")
            if possible == {None} and image_id in listed:
                findings.broken("I3 stale", f"{image_id} was deleted, and is listed")
        gone = [one for one, states in model.states.items() if states == {None}]
        for image_id in gone[:: max(1, len(gone) // 50)]:
            _look_for(http, image_id, set(gone), findings)
        for key in list(model.puts)[:: max(1, len(model.puts) // 20)]:
            _repeat(http, model, key, findings)


def _repeat(http: httpx.Client, model: Model, key: str, findings: Findings) -> None:
    """The same request again is the same job; another one with its key is refused."""
    items = model.puts[key].items
    headers = {"Idempotency-Key": key}
    same = http.post("/images", headers=headers, **upload(items))
    if same.status_code != 202 or same.json()["job"]["id"] != model.keys[key]:
        findings.broken("I4 keys", f"{key} again: {same.status_code} {same.text[:200]}")
    others = [replace(item, tag=item.tag + 1) for item in items]
    other = http.post("/images", headers=headers, **upload(others))
    if other.status_code != 422:
        findings.broken("I4 keys", f"{key} otherwise: {other.status_code}")


def _look_for(
    http: httpx.Client, image_id: str, gone: set[str], findings: Findings
) -> None:
    if http.get(f"/images/{image_id}").status_code != 404:
        findings.broken("I3 stale", f"{image_id} was deleted, and is given")
    answer = http.post(
        "/search?limit=200",
        content=specimens.picture(specimens.number_of(image_id, 1)),
        headers={"Content-Type": "image/png"},
    )
    if answer.status_code != 200:
        findings.broken("I6 answers", f"a search fails: {answer.text[:200]}")
        return
    matches = {match["id"] for match in answer.json()["matches"]}
    for stale in matches & gone:
        findings.broken("I3 stale", f"{stale} was deleted, and is found")


def _listed(http: httpx.Client) -> Iterator[str]:
    cursor = None
    while True:
        where = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
        answer = http.get("/images", params=where)
        answer.raise_for_status()
        page = answer.json()
        yield from (image["id"] for image in page["images"])
        if not (cursor := page["next_cursor"]):
            return
