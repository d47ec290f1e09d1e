"""Use case: what collections there are, and what is in them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from lookalike.backbones import Backbone
from lookalike.collections import (
    Collection,
    CollectionUid,
    DuplicatePolicy,
    Metric,
    Team,
    check_fields,
    check_metadata,
    check_name,
    shorten,
)
from lookalike.deletion import Deletion
from lookalike.errors import (
    BadFilter,
    BadRequest,
    CollectionExists,
    CollectionNotFound,
    LookalikeError,
    Unavailable,
)
from lookalike.filters import And, Filter, matches, parse
from lookalike.idempotency import digest_of
from lookalike.index_kinds import check_index
from lookalike.ingest import check_image_id, ring
from lookalike.interfaces import (
    Accepted,
    Image,
    ImageId,
    JobQueue,
    Ledger,
    VectorIndex,
)

log = logging.getLogger(__name__)

SCROLL_PAGE = 500
SCROLL_SCAN = 50_000  # images looked at by one filtered scroll before it gives a cursor


def create_collection(
    ledger: Ledger,
    index: VectorIndex,
    backbone: Backbone,
    team: Team,
    name: object,
    fields: object = None,
    metric: object = None,
    wanted_index: object = None,
    duplicates: object = None,
) -> Collection:
    """Make an empty collection for the backbone that runs.

    Raises:
        BadRequest: an invalid name, metric, policy for duplicates or index, or an
            index that this engine does not have.
        BadMetadata: invalid fields.
        CollectionExists: the team has a collection of this name.
    """
    collection = Collection(
        uid=CollectionUid(uuid.uuid4().hex),
        team=team,
        name=check_name(name),
        fields=check_fields(fields if fields is not None else {}),
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        dimension=backbone.dimension,
        metric=_metric(metric),
        created_at=datetime.now(UTC),
        index=check_index(wanted_index, backbone.dimension),
        duplicates=_policy(duplicates),
    )
    _refuse_existing(ledger, collection)
    index.create(collection)
    try:
        ledger.create_collection(collection)
    except LookalikeError:
        _drop(index, collection)
        raise
    return collection


def _metric(metric: object) -> Metric:
    try:
        return Metric.COSINE if metric is None else Metric(metric)  # type: ignore[arg-type]
    except ValueError:
        accepted = ", ".join(kind.value for kind in Metric)
        raise BadRequest(
            f"Unknown metric {shorten(metric)}; accepted: {accepted}.",
            code="metric_invalid",
        ) from None


def _policy(policy: object) -> DuplicatePolicy:
    try:
        return DuplicatePolicy.KEEP if policy is None else DuplicatePolicy(policy)  # type: ignore[arg-type]
    except ValueError:
        accepted = ", ".join(kind.value for kind in DuplicatePolicy)
        raise BadRequest(
            f"Unknown policy for duplicates {shorten(policy)}; accepted: {accepted}.",
            code="duplicates_invalid",
        ) from None


def _refuse_existing(ledger: Ledger, collection: Collection) -> None:
    try:
        ledger.collection(collection.team, collection.name)
    except CollectionNotFound:
        return
    raise CollectionExists(f"There is a collection {collection.name!r} already.")


def delete_collection(
    ledger: Ledger, index: VectorIndex, team: Team, name: str
) -> None:
    """Delete a collection with all its images.

    Raises:
        CollectionNotFound: there is none.
    """
    collection = ledger.collection(team, name)
    ledger.delete_collection(collection)
    _drop(index, collection)


def _drop(index: VectorIndex, collection: Collection) -> None:
    try:
        index.drop(collection)
    except Unavailable as error:
        # Its uid is never used again, so the vectors can be found by nobody.
        log.warning("Vectors of %s are left behind: %s", collection.uid, error.detail)


def delete_images(
    ledger: Ledger,
    queue: JobQueue,
    collection: Collection,
    ids: Sequence[object],
    chunk_images: int,
    idempotency_key: str | None = None,
) -> Accepted:
    """Delete images by id; from the return on no search finds them.

    Raises:
        BadMetadata: an id that no image can have.
        IdempotencyConflict: the key is that of another request.
        IdempotencyInUse: another request with this key is running.
    """
    checked = [check_image_id(one) for one in ids]
    deletion = Deletion(ledger, queue, collection, chunk_images)
    if idempotency_key is not None:
        digest = digest_of("delete", collection.uid, {"ids": checked})
        deletion.identify(idempotency_key, digest)
    return deletion.end(checked)


def delete_matching(
    ledger: Ledger,
    queue: JobQueue,
    collection: Collection,
    raw: object,
    chunk_images: int,
    idempotency_key: str | None = None,
) -> Accepted:
    """Delete every image that satisfies a filter, as one job.

    From the return on no search finds them. An image that comes or changes while the
    collection is walked through may stay. The time grows with the number of images in
    the collection.

    Raises:
        BadFilter: it cannot be evaluated, or is empty.
        IdempotencyConflict: the key is that of another request.
        IdempotencyInUse: another request with this key is running.
    """
    condition = parse(raw, collection.fields)
    if condition is None or condition == And(()):
        raise BadFilter(
            "An empty filter would delete every image. To do that, delete the "
            "collection."
        )
    deletion = Deletion(ledger, queue, collection, chunk_images)
    if idempotency_key is not None:
        digest = digest_of("delete", collection.uid, {"filter": raw})
        deletion.identify(idempotency_key, digest)
    with deletion:
        return deletion.walk(_pages(ledger, collection), condition)


def _pages(ledger: Ledger, collection: Collection) -> Iterator[list[Image]]:
    after: ImageId | None = None
    while page := ledger.images(collection, after, SCROLL_PAGE):
        yield page
        after = page[-1].id


def update_metadata(
    ledger: Ledger,
    queue: JobQueue,
    collection: Collection,
    image_id: ImageId,
    metadata: object,
    max_bytes: int,
) -> Image:
    """Replace an image's metadata, without embedding it again.

    Raises:
        ImageNotFound: there is no such image.
        BadMetadata: undeclared or wrongly typed fields.
    """
    checked = check_metadata(collection.fields, metadata, max_bytes)
    accepted = ledger.update_metadata(collection, image_id, checked)
    ring(queue, accepted.work, chunk_images=1)
    return ledger.image(collection, image_id)


def scroll(
    ledger: Ledger,
    collection: Collection,
    condition: Filter | None,
    after: ImageId | None,
    limit: int,
) -> tuple[list[Image], ImageId | None]:
    """The next images that satisfy the filter, in order of id, and where to go on.

    The second value is the id to give as ``after`` for the next page, None at the
    end. A page can be short before the end: one call looks at 50,000 images at most.
    """
    found: list[Image] = []
    scanned = 0
    while scanned < SCROLL_SCAN:
        page = ledger.images(collection, after, SCROLL_PAGE if condition else limit + 1)
        for image in page:
            if len(found) == limit:
                return found, after
            after = image.id
            if condition is None or matches(condition, image.metadata):
                found.append(image)
        scanned += len(page)
        if len(page) < (SCROLL_PAGE if condition else limit + 1):
            return found, None
    return found, after
