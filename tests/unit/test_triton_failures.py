from __future__ import annotations

import pytest
from tritonclient.utils import InferenceServerException

from lookalike.backends.triton_failures import Failure, error_of, kind_of
from lookalike.errors import BadEmbedding, EmbedderUnavailable, Misconfigured

# As Triton 2.51 and gRPC 1.85 say it.
SAID = [
    ("UNAVAILABLE", "Exceeds maximum queue size", Failure.QUEUE_FULL),
    ("UNAVAILABLE", "Request timeout expired", Failure.QUEUE_TIMEOUT),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", Failure.DEADLINE),
    (
        "UNAVAILABLE",
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
        "Failed to connect to remote host: Connection refused",
        Failure.UNREACHABLE,
    ),
    ("UNAVAILABLE", "Socket closed", Failure.UNREACHABLE),
    (
        "UNAVAILABLE",
        "Request for unknown model: 'resnet18' has no available versions",
        Failure.NOT_READY,
    ),
    (
        "NOT_FOUND",
        "Request for unknown model: 'resnet19' is not found",
        Failure.UNKNOWN_MODEL,
    ),
    (
        "INTERNAL",
        "Stub process 'resnet18_0_1' is not healthy.",
        Failure.UNHEALTHY,
    ),
    (
        "INVALID_ARGUMENT",
        "[request id: <id_unknown>] inference request batch-size must be <= 64",
        Failure.INVALID,
    ),
    (
        "UNAVAILABLE",
        "explicit model load / unload is not allowed if polling is enabled",
        Failure.FAILED,
    ),
    (
        "UNAVAILABLE",
        "This protocol is restricted, expecting header 'triton-grpc-protocol-key'",
        Failure.FAILED,
    ),
    ("INTERNAL", "ONNX Runtime: out of memory", Failure.FAILED),
]


def said(status: str, message: str) -> InferenceServerException:
    return InferenceServerException(message, status=f"StatusCode.{status}")


@pytest.mark.parametrize(("status", "message", "kind"), SAID)
def test_the_kind_is_known_by_status_and_words(
    status: str, message: str, kind: Failure
) -> None:
    assert kind_of(said(status, message)) is kind


@pytest.mark.parametrize(
    "kind", set(Failure) - {Failure.INVALID, Failure.UNKNOWN_MODEL}
)
def test_most_failures_can_be_tried_again(kind: Failure) -> None:
    error = error_of(kind, said("UNAVAILABLE", "some words"), "host:8001", "resnet18")

    assert isinstance(error, EmbedderUnavailable)
    assert error.retryable
    assert error.extra == {"reason": kind.value}
    assert "host:8001" in error.detail
    assert "some words" in error.detail


def test_refused_pictures_are_not_sent_again() -> None:
    error = error_of(
        Failure.INVALID, said("INVALID_ARGUMENT", "bad"), "host:8001", "resnet18"
    )

    assert isinstance(error, BadEmbedding)
    assert not error.retryable


def test_a_model_that_is_not_there_names_what_to_do() -> None:
    error = error_of(
        Failure.UNKNOWN_MODEL, said("NOT_FOUND", "none"), "host:8001", "resnet18"
    )

    assert isinstance(error, Misconfigured)
    assert "lookalike backbone build" in error.detail
    assert "LOOKALIKE_TRITON_MODEL" in error.detail
