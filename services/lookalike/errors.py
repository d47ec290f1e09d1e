"""Everything Lookalike raises on purpose.

LookalikeError
├── BadInput                 the caller's fault; a repeat fails the same way
│   ├── BadRequest           the request as a whole cannot be read
│   ├── BadImage             these bytes are not an image we accept
│   ├── BadMetadata          metadata that the collection does not declare
│   ├── BadFilter            a filter that cannot be evaluated
│   ├── BadQuery             a search that asks for something impossible
│   ├── TooLarge             more than a limit allows
│   ├── UnsupportedMedia     a content type that this address does not take
│   └── IdempotencyConflict  an Idempotency-Key of another request
├── NotFound
│   ├── CollectionNotFound
│   ├── ImageNotFound
│   └── JobNotFound
├── CollectionExists
├── IdempotencyInUse         the request of this Idempotency-Key is still running
├── NothingToRetry           no failure of the job can be tried again
├── Overloaded               too much is waiting already; a repeat can help
├── BackboneMismatch         vectors of different backbones never mix
├── BadEmbedding             a network answered with something that is no vector
├── Misconfigured            the installation's fault; names the setting to change
└── Unavailable              a part is down; a repeat can help
    ├── EmbedderUnavailable
    ├── IndexUnavailable
    ├── LedgerUnavailable
    └── StorageUnavailable
        ├── OriginalMissing  one is not there, others are
        └── StorageFull      no room for more

Only ``lookalike.api.errors`` knows the HTTP status of each.
"""

from __future__ import annotations

from collections.abc import Mapping


class LookalikeError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        code: stable, machine-readable, snake_case; never changes once released.
        detail: a sentence for a person: what was wrong and what is accepted.
        retryable: whether the same call can succeed later, unchanged.
        extra: JSON-able facts beside the sentence (the nearest field name, a limit).
    """

    code = "error"
    retryable = False

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra: dict[str, object] = dict(extra or {})
        if code is not None:
            self.code = code


class BadInput(LookalikeError):
    """The caller sent something that can never succeed."""

    code = "bad_input"


class BadRequest(BadInput):
    """The request as a whole cannot be read."""

    code = "bad_request"


class BadImage(BadInput):
    """These bytes are not an image that is accepted.

    Codes: ``image_empty``, ``image_unsupported`` (not an image, or a format that is
    switched off), ``image_truncated``, ``image_broken``, ``image_too_large`` (bytes,
    pixels or side; refused from the header, before any pixel is decoded).
    """

    code = "image_broken"


class BadMetadata(BadInput):
    """Metadata, an id or a declared field that cannot be stored.

    Codes: ``metadata_unknown_field``, ``metadata_wrong_type``,
    ``metadata_too_large``, ``id_invalid``, ``field_invalid``.
    """

    code = "metadata_wrong_type"


class BadFilter(BadInput):
    """A filter that cannot be evaluated.

    Codes: ``filter_invalid``, ``filter_unknown_field``, ``filter_wrong_type``,
    ``filter_too_large``.
    """

    code = "filter_invalid"


class BadQuery(BadInput):
    """A search that asks for something impossible.

    Codes: ``query_invalid``, ``query_unknown_field``, ``query_wrong_type``,
    ``query_cancels`` (examples that leave no direction), ``vector_invalid``,
    ``crop_invalid``, ``limit_invalid``, ``threshold_invalid``, ``batch_invalid``,
    ``url_queries_off``, ``cursor_mismatch`` (it belongs to another search),
    ``page_too_deep``, ``explain_unsupported`` (the backbone has no feature map),
    ``too_few_images`` (to say what scores mean).
    """

    code = "query_invalid"


class TooLarge(BadInput):
    """More than a limit allows; ``extra["limit"]`` says the limit."""

    code = "too_large"


class UnsupportedMedia(BadInput):
    """A content type that this address does not take."""

    code = "unsupported_media"


class IdempotencyConflict(BadInput):
    """The Idempotency-Key was used for a request with other content."""

    code = "idempotency_key_reused"


class NotFound(LookalikeError):
    """Something named in the request does not exist (or is not yours to see)."""

    code = "not_found"


class CollectionNotFound(NotFound):
    """No such collection."""

    code = "collection_not_found"


class ImageNotFound(NotFound):
    """No such image."""

    code = "image_not_found"


class JobNotFound(NotFound):
    """No such job."""

    code = "job_not_found"


class CollectionExists(LookalikeError):
    """A collection of this name exists already."""

    code = "collection_exists"


class IdempotencyInUse(LookalikeError):
    """The first request with this Idempotency-Key is still being read."""

    code = "idempotency_key_in_use"
    retryable = True


class NothingToRetry(LookalikeError):
    """No failure of the job can be tried again as it is."""

    code = "nothing_to_retry"


class Overloaded(LookalikeError):
    """More images wait already than are taken; the same call can succeed later."""

    code = "backlog_full"
    retryable = True


class BackboneMismatch(LookalikeError):
    """The collection was embedded with another backbone than the one that runs."""

    code = "backbone_mismatch"


class BadEmbedding(LookalikeError):
    """The network answered with something that is no vector."""

    code = "bad_embedding"


class Misconfigured(LookalikeError):
    """The installation cannot work as it is set up; names what to change."""

    code = "misconfigured"


class Unavailable(LookalikeError):
    """A part is down or too slow; the same call can succeed later."""

    code = "unavailable"
    retryable = True


class EmbedderUnavailable(Unavailable):
    """The network that embeds images does not answer."""

    code = "embedder_unavailable"


class IndexUnavailable(Unavailable):
    """The vector index does not answer."""

    code = "index_unavailable"


class LedgerUnavailable(Unavailable):
    """The database does not answer."""

    code = "ledger_unavailable"


class StorageUnavailable(Unavailable):
    """Original images cannot be read or written."""

    code = "storage_unavailable"


class OriginalMissing(StorageUnavailable):
    """One original is not there, although others are; a backup may have it."""

    code = "original_missing"


class StorageFull(StorageUnavailable):
    """There is no room for more originals or records."""

    code = "storage_full"
