"""Pages of a search: how matches are ordered, left out, grouped and spread."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from lookalike import gathering
from lookalike.collections import Metadata, Metric
from lookalike.errors import BadQuery
from lookalike.filters import parse
from lookalike.interfaces import ImageId
from lookalike.queries import Example, Numbers, Query, Stored, Strategy
from lookalike.relevance import Calibration, Centre, Curve, Relevance
from lookalike.results import Shortage, Want
from vector_shelf import FIELDS, FIRST, VectorShelf, at, ids


@pytest.fixture
def shelf(tmp_path: Path) -> VectorShelf:
    return VectorShelf(tmp_path)


def ladder(count: int, start: int = 0) -> dict[str, np.ndarray]:
    """Vectors of which each is a little farther from the first axis."""
    return {f"{n:04}": at(1 - n / 10_000) for n in range(start, start + count)}


def flat(pages: list[list[str]]) -> list[str]:
    return [name for page in pages for name in page]


# --- order and pages -----------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_pages_show_everything_once_in_order(shelf: VectorShelf, limit: int) -> None:
    shelf.put(ladder(30))

    pages = shelf.pages(FIRST, Want(limit=limit))

    assert flat(pages) == sorted(ladder(30))
    assert all(len(page) == limit for page in pages[:-1])


def test_the_last_page_has_no_cursor_even_if_it_is_full(shelf: VectorShelf) -> None:
    shelf.put(ladder(6))

    pages = shelf.pages(FIRST, Want(limit=3))

    assert [len(page) for page in pages] == [3, 3]


def test_ties_are_in_order_of_id_on_every_page(shelf: VectorShelf) -> None:
    names = [f"{n:03}" for n in range(60)]
    shelf.put(dict.fromkeys(reversed(names), at(0.5)))

    pages = shelf.pages(FIRST, Want(limit=7))

    assert flat(pages) == names


def test_scores_that_differ_beyond_six_digits_are_ties(shelf: VectorShelf) -> None:
    shelf.put({"b": at(0.5), "a": at(0.5 - 1e-8), "c": at(0.5 + 1e-8)})

    assert ids(shelf.find(FIRST, Want())) == ["a", "b", "c"]


def test_an_image_that_comes_between_pages_is_on_a_later_one(
    shelf: VectorShelf,
) -> None:
    shelf.put(ladder(9, start=1))
    want = Want(limit=3)
    first = shelf.find(FIRST, want)
    shelf.put({"new": FIRST})

    second = shelf.go_on(first, want)
    third = shelf.go_on(second, want)

    assert ids(second) == ["new", "0004", "0005"]
    assert ids(third) == ["0006", "0007", "0008"]


def test_an_image_that_changed_place_between_pages_is_not_repeated(
    shelf: VectorShelf,
) -> None:
    shelf.put(ladder(9))
    want = Want(limit=3)
    first = shelf.find(FIRST, want)
    shelf.put({"0000": at(0.9995)}, content="another picture")

    second = shelf.go_on(first, want)

    assert ids(first) == ["0000", "0001", "0002"]
    assert ids(second) == ["0003", "0004", "0005"]


def test_nothing_is_left_out_when_shown_images_go(shelf: VectorShelf) -> None:
    shelf.put(ladder(9))
    want = Want(limit=3)
    first = shelf.find(FIRST, want)
    shelf.delete("0000", "0002")

    second = shelf.go_on(first, want)

    assert ids(second) == ["0003", "0004", "0005"]


def test_scores_that_waver_neither_repeat_nor_leave_out(shelf: VectorShelf) -> None:
    shelf.put(dict.fromkeys((f"{n:03}" for n in range(40)), at(0.5)))
    want = Want(limit=6)
    rng = np.random.default_rng(1)
    search_many = shelf.index.search_many

    def wavering(*asked: object) -> object:
        lists = search_many(*asked)  # type: ignore[arg-type]
        noise = rng.normal(0, 3e-7, (len(lists), len(lists[0])))
        return [
            [replace(hit, score=hit.score + noise[m, n]) for n, hit in enumerate(hits)]
            for m, hits in enumerate(lists)
        ]

    shelf.index.search_many = wavering  # type: ignore[assignment,method-assign]

    shown = flat(shelf.pages(FIRST, want))

    assert len(shown) == len(set(shown)) == 40


# --- fewer than asked for ------------------------------------------------------------


def test_why_there_are_fewer_is_told(shelf: VectorShelf) -> None:
    shelf.put(ladder(5), {"0001": {"size": 1, "product": "p"}})
    only = parse({"size": 1}, FIELDS)

    wants = {
        Shortage.COLLECTION: Want(limit=6),
        Shortage.FILTER: Want(limit=6, condition=only),
        Shortage.MIN_SCORE: Want(limit=6, min_score=0.9998),
        Shortage.GROUPS: Want(limit=6, group_by="product"),
    }

    for reason, want in wants.items():
        found = shelf.find(FIRST, want)
        assert (found.complete, found.because) == (False, reason)
        assert found.next_cursor is None
    whole = shelf.find(FIRST, Want(limit=5))
    assert (whole.complete, whole.because) == (True, None)


def test_a_min_score_counts_before_pages(shelf: VectorShelf) -> None:
    shelf.put(ladder(30))

    pages = shelf.pages(FIRST, Want(limit=4, min_score=1 - 9.5 / 10_000))

    assert flat(pages) == sorted(ladder(10))
    assert [len(page) for page in pages] == [4, 4, 2]


def test_a_search_that_had_to_stop_says_so(
    shelf: VectorShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MAX_HITS", 20)
    shelf.put(ladder(60))
    gone = [ImageId(name) for name in sorted(ladder(40))]
    shelf.ledger.delete_images(shelf.collection, gone)  # the index lags behind

    found = shelf.find(FIRST, Want(limit=5))

    assert found.because is Shortage.DEPTH
    assert not found.complete


def test_images_the_ledger_refuses_do_not_shorten_the_answer(
    shelf: VectorShelf,
) -> None:
    shelf.put(ladder(300))
    gone = [ImageId(name) for name in sorted(ladder(200))]
    shelf.ledger.delete_images(shelf.collection, gone)  # the index lags behind

    found = shelf.find(FIRST, Want(limit=5))

    assert ids(found) == [f"{n:04}" for n in range(200, 205)]
    assert found.complete


# --- images of the query -------------------------------------------------------------


def test_images_of_the_query_are_left_out_unless_wanted(shelf: VectorShelf) -> None:
    shelf.put(ladder(6))
    query = Query(
        (Example(Stored(ImageId("0000"))), Example(Stored(ImageId("0002")))),
        (Example(Stored(ImageId("0005"))),),
    )

    without = shelf.searcher.search(shelf.collection, query, Want())
    including = shelf.searcher.search(shelf.collection, query, Want(include_query=True))

    assert sorted(ids(without)) == ["0001", "0003", "0004"]
    assert len(ids(including)) == 6


def test_images_of_the_query_stay_out_of_later_pages(shelf: VectorShelf) -> None:
    shelf.put(ladder(6))
    query = Query.of(Stored(ImageId("0003")))
    first = shelf.searcher.search(shelf.collection, query, Want(limit=3))

    second = shelf.go_on(first, Want(limit=3))

    assert "0003" not in ids(first) + ids(second)
    assert len(ids(first) + ids(second)) == 5


# --- groups --------------------------------------------------------------------------


def products(
    count: int, each: int
) -> tuple[dict[str, np.ndarray], dict[str, Metadata]]:
    """So many products in turn, the first product's images all before the others."""
    vectors = ladder(count * each)
    names = sorted(vectors)
    metadata: dict[str, Metadata] = {
        name: {"product": f"p{place // each}"} for place, name in enumerate(names)
    }
    return vectors, metadata


def test_each_group_comes_once_by_its_best(shelf: VectorShelf) -> None:
    shelf.put(*products(6, each=5))

    found = shelf.find(FIRST, Want(limit=4, group_by="product"))

    assert ids(found) == ["0000", "0005", "0010", "0015"]
    assert found.complete


def test_all_groups_are_found_however_large_the_first_is(shelf: VectorShelf) -> None:
    vectors, metadata = products(1, each=400)
    shelf.put(vectors, metadata)
    others = {name: at(0.1 - n / 100) for n, name in enumerate("abcd")}
    shelf.put(others, {name: {"product": name} for name in others})

    found = shelf.find(FIRST, Want(limit=5, group_by="product"))

    assert ids(found) == ["0000", "a", "b", "c", "d"]
    assert found.complete


def test_an_image_without_the_field_is_a_group_of_its_own(shelf: VectorShelf) -> None:
    shelf.put(ladder(6), {"0001": {"product": "p"}, "0003": {"product": "p"}})

    found = shelf.find(FIRST, Want(group_by="product"))

    assert ids(found) == ["0000", "0001", "0002", "0004", "0005"]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_pages_of_groups_show_each_group_once(shelf: VectorShelf, limit: int) -> None:
    shelf.put(*products(7, each=9))
    shelf.put({"alone": at(0.2)})

    pages = shelf.pages(FIRST, Want(limit=limit, group_by="product"))

    best = [f"{n * 9:04}" for n in range(7)]
    assert flat(pages) == [*best, "alone"]


def test_a_group_whose_best_is_gone_is_not_shown_again(shelf: VectorShelf) -> None:
    shelf.put(*products(4, each=3))
    want = Want(limit=2, group_by="product")
    first = shelf.find(FIRST, want)
    shelf.delete("0000")

    second = shelf.go_on(first, want)

    assert ids(second) == ["0006", "0009"]


def test_a_group_shows_as_many_as_wanted(shelf: VectorShelf) -> None:
    shelf.put(*products(3, each=40))

    found = shelf.find(FIRST, Want(limit=3, group_by="product", group_size=2))

    assert ids(found) == ["0000", "0001", "0040", "0041", "0080", "0081"]
    assert found.complete


def test_a_group_is_filled_from_far_behind(shelf: VectorShelf) -> None:
    vectors = ladder(100)
    shelf.put(vectors, {"0000": {"product": "p"}, "0099": {"product": "p"}})

    found = shelf.find(
        FIRST, Want(limit=2, group_by="product", group_size=3, min_score=0.5)
    )

    assert ids(found) == ["0000", "0099", "0001"]


def test_a_min_score_counts_within_groups(shelf: VectorShelf) -> None:
    shelf.put(*products(2, each=4))

    found = shelf.find(
        FIRST,
        Want(limit=2, group_by="product", group_size=4, min_score=1 - 4.5 / 10_000),
    )

    assert ids(found) == ["0000", "0001", "0002", "0003", "0004"]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("size", [1, 2, 1]),
        ("is_new", [True, False, True]),
        ("product", ['a"b\\', "é", 'a"b\\']),
    ],
)
def test_groups_are_of_any_plain_field(
    shelf: VectorShelf, field: str, values: list[str | int | bool]
) -> None:
    names = sorted(ladder(3))
    metadata = {name: {field: value} for name, value in zip(names, values, strict=True)}
    shelf.put(ladder(3), metadata)  # type: ignore[arg-type]

    found = shelf.find(FIRST, Want(group_by=field))

    assert ids(found) == ["0000", "0001"]


# --- diversity -----------------------------------------------------------------------


@pytest.fixture
def heaps(shelf: VectorShelf) -> VectorShelf:
    """Three heaps of nearly equal vectors; the first is nearest to the first axis."""
    vectors = {
        f"{heap}{n}": at(score - n / 1000, axis=axis)
        for heap, score, axis in (("a", 0.9, 1), ("b", 0.8, 2), ("c", 0.7, 3))
        for n in range(4)
    }
    shelf.put(vectors)
    return shelf


def test_diversity_brings_the_best_of_each_heap_first(heaps: VectorShelf) -> None:
    plain = heaps.find(FIRST, Want(limit=3))

    spread = heaps.find(FIRST, Want(limit=3, diversity=0.5))

    assert ids(plain) == ["a0", "a1", "a2"]
    assert ids(spread) == ["a0", "b0", "c0"]
    assert spread.complete


def test_no_diversity_is_the_plain_order(heaps: VectorShelf) -> None:
    assert ids(heaps.find(FIRST, Want(diversity=0.0))) == ids(heaps.find(FIRST, Want()))


def test_diversity_is_maximal_marginal_relevance(heaps: VectorShelf) -> None:
    weight = 0.35
    stored = {
        str(match.id): vector.vector
        for match in heaps.find(FIRST, Want(limit=12)).matches
        for vector in [
            heaps.index.vectors(heaps.collection, [match.image.key])[match.image.key]
        ]
    }
    expected: list[str] = []
    while len(expected) < 8:

        def value(name: str) -> float:
            near = max((float(stored[name] @ stored[e]) for e in expected), default=0.0)
            return (1 - weight) * float(stored[name][0]) - weight * near

        expected.append(max(stored.keys() - set(expected), key=value))

    found = heaps.find(FIRST, Want(limit=8, diversity=weight))

    assert ids(found) == expected


def test_pages_of_a_diverse_search_show_everything_once(heaps: VectorShelf) -> None:
    pages = heaps.pages(FIRST, Want(limit=3, diversity=0.5))

    assert pages[0] == ["a0", "b0", "c0"]
    assert sorted(flat(pages)) == sorted(
        f"{heap}{n}" for heap in "abc" for n in range(4)
    )


def test_a_min_score_counts_before_diversity(heaps: VectorShelf) -> None:
    found = heaps.find(FIRST, Want(limit=10, diversity=0.9, min_score=0.75))

    assert {name[0] for name in ids(found)} == {"a", "b"}
    assert found.because is Shortage.MIN_SCORE


# --- the strategy best ---------------------------------------------------------------


def best_of(positive: list[np.ndarray], negative: list[np.ndarray]) -> Query:
    return Query(
        [Example(Numbers(one.tolist())) for one in positive],
        [Example(Numbers(one.tolist()), 1.0) for one in negative],
        Strategy.BEST,
    )


def test_the_best_example_counts(shelf: VectorShelf) -> None:
    rng = np.random.default_rng(5)
    drawn = rng.normal(size=(200, 8)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    shelf.put({f"{n:03}": vector for n, vector in enumerate(drawn)})
    good, bad = list(np.eye(8, dtype=np.float32)[:3]), [np.eye(8, dtype="f4")[5]]

    found = shelf.searcher.search(shelf.collection, best_of(good, bad), Want(limit=20))

    scores = (drawn @ np.stack(good).T).max(axis=1)
    scores -= (drawn @ bad[0]).clip(min=0)
    expected = [f"{n:03}" for n in np.argsort(-scores, kind="stable")[:20]]
    assert ids(found) == expected
    assert found.matches[0].score == pytest.approx(scores.max(), abs=1e-5)


def test_pages_of_the_strategy_best_show_everything_once(shelf: VectorShelf) -> None:
    shelf.put(ladder(40))
    query = best_of([at(1.0), at(0.0)], [at(0.5)])
    found = shelf.searcher.search(shelf.collection, query, Want(limit=9))
    shown = ids(found)

    while found.next_cursor is not None:
        found = shelf.go_on(found, Want(limit=9))
        shown += ids(found)

    assert sorted(shown) == sorted(ladder(40))
    assert len(shown) == 40


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.IP])
def test_the_strategy_best_avoids_nothing_by_a_length(
    tmp_path: Path, metric: Metric
) -> None:
    shelf = VectorShelf(tmp_path, metric=metric)

    with pytest.raises(BadQuery, match="average"):
        shelf.searcher.search(shelf.collection, best_of([FIRST], [FIRST]), Want())


# --- explained -----------------------------------------------------------------------


def test_each_score_is_the_sum_of_its_parts(heaps: VectorShelf) -> None:
    query = Query(
        (Example(Stored(ImageId("a0"))), Example(Stored(ImageId("b0")))),
        (Example(Stored(ImageId("c0"))),),
    )

    found = heaps.searcher.search(heaps.collection, query, Want(explain=True))

    for match in found.matches:
        assert match.parts is not None
        assert match.positives == 2
        assert sum(match.parts) == pytest.approx(match.score, abs=2e-6)
    worst = next(match for match in found.matches if match.id == "c1")
    assert worst.parts is not None
    assert worst.parts[2] < -0.1


# --- what a score means --------------------------------------------------------------


def test_what_a_score_means_comes_with_it_once_it_is_known(heaps: VectorShelf) -> None:
    def means(query: Query) -> list[Relevance | None]:
        found = heaps.searcher.search(heaps.collection, query, Want(limit=2))
        return [match.relevance for match in found.matches]

    one = Query.of(Stored(ImageId("a0")))
    two = Query((*one.positive, Example(Stored(ImageId("b0")))))
    unknown = VectorShelf(heaps.folder / "other")
    unknown.put(ladder(3))
    curve = Curve((-1.0, 1.0), (0.0, 1.0))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    centre = Centre(Metric.COSINE, np.zeros(8, np.float32), 1.0)
    known = Calibration(
        heaps.collection.fingerprint, moment, 12, 12, curve, centre=centre
    )
    heaps.ledger.keep_calibration(heaps.collection, known)

    assert unknown.find(FIRST, Want()).matches[0].relevance is None
    first, second = means(one)
    assert first is not None
    assert second is not None
    assert 0.9 < second.percentile <= first.percentile <= 1.0
    # The score of a mixture is not the score of a pair.
    assert means(two) == [None, None]


# --- refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("want", "code"),
    [
        (Want(diversity=1.5), "query_invalid"),
        (Want(diversity=float("nan")), "query_invalid"),
        (Want(limit=101, diversity=0.1), "limit_invalid"),
        (Want(limit=101, collapse_duplicates=True), "limit_invalid"),
        (Want(limit=21, explain=True), "limit_invalid"),
        (Want(group_size=2), "query_invalid"),
        (Want(group_by="product", group_size=0), "limit_invalid"),
        (Want(group_by="product", group_size=101), "limit_invalid"),
        (Want(limit=501, group_by="product", group_size=2), "limit_invalid"),
        (
            Want(group_by="product", group_size=2, collapse_duplicates=True),
            "query_invalid",
        ),
        (Want(group_by="produkt"), "query_unknown_field"),
        (Want(group_by="tags"), "query_wrong_type"),
        (Want(group_by="price"), "query_wrong_type"),
    ],
)
def test_what_cannot_be_is_refused(shelf: VectorShelf, want: Want, code: str) -> None:
    with pytest.raises(BadQuery) as caught:
        shelf.find(FIRST, want)

    assert caught.value.code == code


# --- many at once --------------------------------------------------------------------


def test_many_searches_with_one_filter_are_one_question(shelf: VectorShelf) -> None:
    shelf.put(ladder(20), {"0003": {"size": 1}})
    only = parse({"size": 1}, FIELDS)
    asked: list[int] = []
    search_many = shelf.index.search_many

    def counting(collection, vectors, limit, condition=None):  # type: ignore[no-untyped-def]
        asked.append(len(vectors))
        return search_many(collection, vectors, limit, condition)

    shelf.index.search_many = counting  # type: ignore[method-assign]
    query = Query.of(Numbers(FIRST.tolist()))
    wants = [Want(limit=3)] * 3 + [Want(limit=3, condition=only)]

    found = shelf.searcher.search_all(shelf.collection, [(query, one) for one in wants])

    assert sorted(asked) == [1, 3]
    names = [ids(one) for one in found if not isinstance(one, Exception)]
    assert names == [["0000", "0001", "0002"]] * 3 + [["0003"]]


def test_each_of_many_searches_fails_by_itself(shelf: VectorShelf) -> None:
    shelf.put(ladder(5))
    query = Query.of(Numbers(FIRST.tolist()))
    unknown = Query.of(Stored(ImageId("nobody")))

    found = shelf.searcher.search_all(
        shelf.collection,
        [(query, Want(limit=1)), (unknown, Want()), (query, Want(diversity=2))],
    )

    codes = [getattr(one, "code", None) for one in found]
    assert codes == [None, "image_not_found", "query_invalid"]
