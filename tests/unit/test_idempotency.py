from __future__ import annotations

import pytest

from lookalike.errors import BadRequest
from lookalike.idempotency import RequestDigest, check_key, digest_of


@pytest.mark.parametrize("key", ["a", "!~", "x" * 255, "0b5f-11", None])
def test_a_key_of_visible_ascii_is_taken(key: str | None) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ü", "a\n", "a\0", "\x7f"])
def test_another_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_key(key)

    assert caught.value.code == "idempotency_key_invalid"


def test_the_order_of_keys_in_metadata_says_nothing() -> None:
    first = digest_of("ingest", "uid", {"a": 1, "b": [1.5, "x"]})

    assert digest_of("ingest", "uid", {"b": [1.5, "x"], "a": 1}) == first


@pytest.mark.parametrize(
    ("operation", "subject", "facts"),
    [
        ("delete", "uid", ({"a": 1},)),
        ("ingest", "other", ({"a": 1},)),
        ("ingest", "uid", ({"a": 2},)),
        ("ingest", "uid", ({"a": 1}, None)),
        ("ingest", "uid", ()),
    ],
)
def test_whatever_differs_gives_another_digest(
    operation: str, subject: str, facts: tuple[object, ...]
) -> None:
    assert digest_of(operation, subject, *facts) != digest_of("ingest", "uid", {"a": 1})


def test_where_one_entry_ends_is_part_of_the_digest() -> None:
    together, apart = RequestDigest("ingest", "uid"), RequestDigest("ingest", "uid")

    together.add("a", "b")
    apart.add("a")
    apart.add("b")

    assert together.text() != apart.text()


def test_an_id_that_has_no_utf_8_has_a_digest() -> None:
    assert digest_of("ingest", "uid", "\ud800") != digest_of("ingest", "uid", "?")
