"""Requests that may be sent twice: their key, and what tells one from another."""

from __future__ import annotations

import hashlib
import json
import re

from lookalike.errors import BadRequest, IdempotencyInUse

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255

_KEY = re.compile(rf"[!-~]{{1,{MAX_KEY_LENGTH}}}")


def check_key(key: str | None) -> str | None:
    """Give back a key that can be remembered; None stays None.

    Raises:
        BadRequest: code ``idempotency_key_invalid``.
    """
    if key is None or _KEY.fullmatch(key):
        return key
    raise BadRequest(
        f"An {HEADER} is 1 to {MAX_KEY_LENGTH} visible ASCII characters, for example "
        "a UUID.",
        code="idempotency_key_invalid",
    )


def overtaken() -> IdempotencyInUse:
    """The error for a request whose key another one has taken over meanwhile."""
    return IdempotencyInUse(
        f"Another request with this {HEADER} came in between; send it again."
    )


class RequestDigest:
    """SHA-256 of what a request asks for, taken in piece by piece.

    It stands for the meaning, not for the bytes: the same images in the same order
    have one digest, whether they come as a form, as JSON or as NDJSON.
    """

    def __init__(self, operation: str, subject: str) -> None:
        self._hash = hashlib.sha256()
        self.add(operation, subject)

    def add(self, *facts: object) -> None:
        """Take in JSON-able facts; where one piece ends is part of the digest."""
        # ASCII, since an id that was refused may hold what has no UTF-8.
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        self._hash.update(text.encode("ascii") + b"\n")

    def text(self) -> str:
        """The digest of all that was taken in so far, 64 hex characters."""
        return self._hash.hexdigest()


def digest_of(operation: str, subject: str, *facts: object) -> str:
    """The digest of a request that is known as a whole."""
    digest = RequestDigest(operation, subject)
    digest.add(*facts)
    return digest.text()
