"""Ids and metadata of any characters: kept exactly, or refused; never mixed up."""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api_site import Site, open_site, photo
from ledgers import DATABASES, a_collection, an_image, index_all, new_database, opened
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import Collection, FieldType, check_metadata
from lookalike.errors import BadMetadata
from lookalike.filters import parse
from lookalike.ingest import MAX_ID_BYTES, check_image_id
from lookalike.interfaces import ImageId, IndexRow, VectorIndex, image_key

FIELDS = {"text": FieldType.STRING, "tags": FieldType.STRINGS}
SPECIAL = [
    *("\0", "a\0", "\x1b[2J", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffe", "\uffff"),
    # Right to left, and of no width.
    *("\u202eexe.gpj", "\u2066a\u2069", "a\u200bb", "a\u200db", "\u05e2\u05d1"),
    # Emoji: joined, coloured, a flag, the last character there is.
    *("\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e8\U0001f1ed"),
    *("\U0001f600", "\U0010ffff", "\U0001d56c"),
    # Composed and decomposed; alike to the eye, to normalisation or to case.
    *("\u00e9", "e\u0301", "\u00c5", "\u212b", "A\u030a", "\ufb01", "fi", "\u00df"),
    *("\u0130", "\u0131", "i", "I", "K", "\u212a", "a" + "\u0301" * 200),
    # Halves of characters.
    *("\ud800", "a\udfff", "\ud83d\ude00"),
    *(
        "日本語",
        "a/b",
        "a//b",
        "a/../b",
        ".",
        "%2e",
        "%00",
        "a b",
        " a",
        "a ",
        "A",
        "a",
    ),
    *("x" * 512, "x" * 513, "é" * 256, "é" * 257, "x" * 65_536),
    *('"', "'", "\\", "%", "_", "' OR 1=1 --", "{x}", "null", "NaN"),
]
ANYTHING = st.one_of(
    st.sampled_from(SPECIAL),
    st.text(st.characters(exclude_categories=[]), max_size=40),
    st.text(st.characters(), max_size=40).map(
        lambda text: unicodedata.normalize("NFD", text)
    ),
)
TEXTS = st.lists(ANYTHING, min_size=1, max_size=30, unique=True)

many = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
names = itertools.count()


def refusal(check: Callable[[], object]) -> str | None:
    """The code with which something is refused."""
    try:
        check()
    except BadMetadata as error:
        return error.code
    return None


def is_id(text: str) -> bool:
    """Whether it is accepted as an id; if not, it is refused by its code."""
    code = refusal(lambda: check_image_id(text))
    assert code in (None, "id_invalid")
    return code is None


def metadata_of(text: str) -> dict[str, object]:
    return {"text": text, "tags": [text, "b"]}


def is_text(text: str) -> bool:
    """Whether it is accepted as metadata; if not, it is refused by its code."""
    code = refusal(lambda: check_metadata(FIELDS, metadata_of(text)))
    assert code in (None, "metadata_wrong_type", "metadata_too_large")
    return code is None


@pytest.fixture(params=DATABASES, scope="module")
def ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SqlLedger]:
    folder = tmp_path_factory.mktemp("unicode")
    with opened(new_database(request.param, folder)) as made:
        yield made


@given(texts=TEXTS)
@many
def test_the_ledger_keeps_every_id_that_is_accepted_exactly(
    ledger: SqlLedger, texts: list[str]
) -> None:
    shop = a_collection(f"shop{next(names)}")
    ledger.create_collection(shop)
    ids = [text for text in texts if is_id(text)]

    accepted = ledger.accept(
        shop, [an_image(text, position=n) for n, text in enumerate(ids)]
    )
    worked = index_all(ledger, accepted)

    assert accepted.job.total == len(ids)
    assert {work.image_id for work in worked} == set(ids)
    assert len({work.key for work in worked}) == len(ids)
    listed = [image.id for image in ledger.images(shop, None, 1_000)]
    assert listed == sorted(ids, key=str.encode)
    for text in ids:
        assert ledger.image(shop, ImageId(text)).id == text


@given(texts=TEXTS)
@many
def test_the_ledger_keeps_metadata_exactly(ledger: SqlLedger, texts: list[str]) -> None:
    shop = a_collection(f"shop{next(names)}")
    ledger.create_collection(shop)
    kept = [
        check_metadata(FIELDS, metadata_of(text)) for text in texts if is_text(text)
    ]

    ledger.accept(
        shop, [an_image(str(n), position=n, metadata=m) for n, m in enumerate(kept)]
    )

    for number, metadata in enumerate(kept):
        assert ledger.image(shop, ImageId(str(number))).metadata == metadata


@given(texts=TEXTS)
@settings(many, max_examples=4)
def test_the_index_finds_by_exactly_the_text_that_was_stored(
    index: VectorIndex, texts: list[str]
) -> None:
    shop = replace(a_collection(f"shop{next(names)}"), fields=FIELDS, dimension=8)
    index.create(shop)
    kept = [text for text in texts if is_text(text)]
    vectors = np.random.default_rng(0).normal(size=(len(kept), 8)).astype(np.float32)
    keys = {text: image_key(shop.team, shop.uid, ImageId(text)) for text in kept}

    index.upsert(
        shop,
        [
            IndexRow(keys[text], 1, vector, check_metadata(FIELDS, metadata_of(text)))
            for text, vector in zip(kept, vectors, strict=True)
        ],
    )

    assert len(set(keys.values())) == len(kept)
    assert index.count(shop) == len(kept)
    for text, vector in zip(kept, vectors, strict=True):
        for asked in ({"text": text}, {"tags": text}):
            assert found(index, shop, vector, asked) == {keys[text]}
    index.drop(shop)


def found(
    index: VectorIndex, shop: Collection, vector: np.ndarray, asked: object
) -> set[str]:
    """The keys that a filter finds."""
    hits = index.search(shop, vector, 100, parse(asked, FIELDS))
    return {hit.key for hit in hits}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("unicode")) as made:
        made.client.post(
            "/v1/collections",
            json={"name": "things", "fields": {"text": {"type": "string"}}},
        )
        yield made


@given(text=ANYTHING)
@settings(many, max_examples=150)
def test_over_http_an_id_comes_back_exactly_or_is_refused(
    site: Site, text: str
) -> None:
    # As ASCII JSON: so halves of characters can be sent at all.
    items = json.dumps([{"id": text, "metadata": {"text": text}}])

    answer = site.form([photo("a")], items=items)

    assert answer.json is not None
    is_good = is_id(text) and is_text(text)
    assert answer.status_code == (202 if is_good else 422), answer.json
    if not is_good:
        return
    address = f"/v1/collections/things/images/{quote(text, safe='/')}"
    image = site.client.get(address).json
    assert image is not None
    assert image["id"] == text
    assert image["metadata"] == {"text": text}
    assert site.client.get(image["image_url"]).status_code == 200
    assert site.client.delete(address).status_code == 200
    assert site.client.get(address).status_code == 404


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_the_length_of_an_id_counts_in_bytes(letter: str) -> None:
    longest = letter * (MAX_ID_BYTES // len(letter.encode()))

    assert is_id(longest)
    assert not is_id(longest + letter)
