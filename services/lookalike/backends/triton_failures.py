"""What a failed call to Triton means, from its status and its words."""

from __future__ import annotations

from enum import StrEnum

from tritonclient.utils import InferenceServerException

from lookalike.errors import (
    BadEmbedding,
    EmbedderUnavailable,
    LookalikeError,
    Misconfigured,
)


class Failure(StrEnum):
    """Why a call gave nothing; the names that counters go by."""

    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    DEADLINE = "deadline"
    UNREACHABLE = "unreachable"
    UNHEALTHY = "unhealthy"  # the process that runs the model has died
    NOT_READY = "not_ready"  # the model is not loaded now
    UNKNOWN_MODEL = "unknown_model"
    INVALID = "invalid"
    FAILED = "failed"


# Triton says UNAVAILABLE for a full queue, a late request and a model that is not
# loaded, and so does gRPC when there is no server. These words are Triton's own.
_WORDS = {
    "exceeds maximum queue size": Failure.QUEUE_FULL,
    "request timeout expired": Failure.QUEUE_TIMEOUT,
    "has no available versions": Failure.NOT_READY,
    "is not ready": Failure.NOT_READY,
    "stopped accepting": Failure.NOT_READY,
    "is stopping": Failure.NOT_READY,
    "is not healthy": Failure.UNHEALTHY,
    "is unhealthy": Failure.UNHEALTHY,
    "explicit model load": Failure.FAILED,
    "is restricted": Failure.FAILED,
}

_STATUSES = {
    "StatusCode.DEADLINE_EXCEEDED": Failure.DEADLINE,
    "StatusCode.INVALID_ARGUMENT": Failure.INVALID,
    "StatusCode.NOT_FOUND": Failure.UNKNOWN_MODEL,
    "StatusCode.UNAVAILABLE": Failure.UNREACHABLE,
}

_SENTENCES = {
    Failure.QUEUE_FULL: "is overloaded: its queue is full",
    Failure.QUEUE_TIMEOUT: "is overloaded: the request waited too long in its queue",
    Failure.DEADLINE: "did not answer in time",
    Failure.UNREACHABLE: "cannot be reached",
    Failure.UNHEALTHY: "has lost the process that runs the model",
    Failure.NOT_READY: "has not loaded the model now",
    Failure.UNKNOWN_MODEL: "does not know the model",
    Failure.INVALID: "refused the pictures",
    Failure.FAILED: "failed",
}


def kind_of(error: InferenceServerException) -> Failure:
    """What kind of failure this is."""
    words = str(error.message()).lower()
    for known, kind in _WORDS.items():
        if known in words:
            return kind
    return _STATUSES.get(str(error.status()), Failure.FAILED)


def error_of(
    kind: Failure, error: InferenceServerException, url: str, model: str
) -> LookalikeError:
    """The same as an error of ours; what can succeed later is retryable."""
    said = str(error.message()).strip()[:300]
    detail = f"Triton at {url} {_SENTENCES[kind]} ({model}): {said}"
    if kind is Failure.INVALID:
        return BadEmbedding(detail)
    if kind is Failure.UNKNOWN_MODEL:
        return Misconfigured(
            f"{detail}. Put it into Triton's repository with `lookalike backbone "
            "build`, or correct LOOKALIKE_TRITON_MODEL."
        )
    return EmbedderUnavailable(detail, extra={"reason": kind.value})
