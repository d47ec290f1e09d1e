"""What every ledger must know of images that are, or look, the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledgers import a_collection, an_image, days_pass, done, images, index_all
from lookalike.backends import ledger_duplicates, ledger_states
from lookalike.backends.ledger import SqlLedger
from lookalike.collections import Collection, DuplicatePolicy, IndexKind, IndexSpec
from lookalike.errors import CollectionNotFound
from lookalike.interfaces import (
    DUPLICATE,
    Digest,
    Image,
    ImageId,
    ImageKey,
    ImageState,
    Original,
    Outcome,
    Pair,
    Result,
    Verdict,
    Work,
    image_key,
)

SIGNATURE = bytes(range(255)) + b"\0"
SAME = Digest("5" * 64)
DUP, NOT = Verdict.DUPLICATE, Verdict.NOT_DUPLICATE


def key_of(collection: Collection, image_id: str) -> ImageKey:
    return image_key(collection.team, collection.uid, ImageId(image_id))


def pair(collection: Collection, one: str, other: str) -> Pair:
    a, b = sorted((key_of(collection, one), key_of(collection, other)))
    return a, b


def take_in(ledger: SqlLedger, collection: Collection, *names: str) -> None:
    """Images with the bytes their names end with: a1 and b1 are the same."""
    new = [
        replace(an_image(name, position=position), digest=Digest(name[-1] * 64))
        for position, name in enumerate(names)
    ]
    index_all(ledger, ledger.accept(collection, new))


def claimed(ledger: SqlLedger, collection: Collection, name: str) -> Work:
    accepted = ledger.accept(collection, images(name))
    (work,) = ledger.claim(accepted.work)
    return work


def ended(
    work: Work, outcome: Outcome = Outcome.DONE, original: Image | None = None
) -> Result:
    return Result(
        work.id,
        outcome,
        code=DUPLICATE if outcome is Outcome.FAILED else None,
        signature=SIGNATURE,
        duplicate_of=Original(original.key, original.digest) if original else None,
    )


def image(ledger: SqlLedger, collection: Collection, name: str) -> Image:
    return ledger.image(collection, ImageId(name))


# --- collections ---------------------------------------------------------------------


def test_a_collection_keeps_its_options(ledger: SqlLedger) -> None:
    made = replace(
        a_collection("chosen"),
        index=IndexSpec(IndexKind.HNSW, {"M": 32}),
        duplicates=DuplicatePolicy.LINK,
    )

    ledger.create_collection(made)

    assert ledger.collection(made.team, "chosen") == made
    assert made in ledger.collections(made.team)


# --- signatures and links ------------------------------------------------------------


def test_a_signature_is_kept_with_its_picture(
    ledger: SqlLedger, shop: Collection
) -> None:
    work = claimed(ledger, shop, "a")

    ledger.finish([ended(work)])

    found = image(ledger, shop, "a")
    assert found.signature == SIGNATURE
    assert found.state is ImageState.INDEXED
    assert found.born_gen == work.born_gen == found.gen
    assert not found.is_waiting


def test_other_metadata_leave_the_signature(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.finish([ended(claimed(ledger, shop, "a"))])

    accepted = ledger.update_metadata(shop, ImageId("a"), {"category": "new"})
    waiting = image(ledger, shop, "a")
    ledger.finish(done(ledger.claim(accepted.work)))

    assert waiting.signature == SIGNATURE
    assert image(ledger, shop, "a").signature == SIGNATURE
    assert waiting.is_searchable


def test_another_picture_takes_the_signature_away(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.finish([ended(claimed(ledger, shop, "a"))])

    ledger.accept(shop, [replace(an_image("a"), digest=SAME)])

    found = image(ledger, shop, "a")
    assert found.signature is None
    assert found.is_waiting


def test_a_signature_of_an_overtaken_picture_is_not_kept(
    ledger: SqlLedger, shop: Collection
) -> None:
    work = claimed(ledger, shop, "a")
    ledger.accept(shop, [replace(an_image("a"), digest=SAME)])

    ledger.finish([ended(work)])

    assert image(ledger, shop, "a").signature is None


def test_a_link_is_kept_until_the_image_is_taken_in_anew(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.finish([ended(claimed(ledger, shop, "a"))])
    first = image(ledger, shop, "a")

    ledger.finish([ended(claimed(ledger, shop, "b"), original=first)])
    linked = image(ledger, shop, "b")
    ledger.delete_images(shop, [ImageId("b")])
    ledger.accept(shop, images("b"))

    assert linked.duplicate_of == first.key
    assert image(ledger, shop, "b").duplicate_of is None


@pytest.mark.parametrize("change", ["deleted", "replaced"])
@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.FAILED])
def test_a_duplicate_of_what_has_gone_meanwhile(
    ledger: SqlLedger, shop: Collection, change: str, outcome: Outcome
) -> None:
    ledger.finish([ended(claimed(ledger, shop, "a"))])
    first = image(ledger, shop, "a")
    work = claimed(ledger, shop, "b")
    if change == "deleted":
        ledger.delete_images(shop, [ImageId("a")])
    else:
        ledger.accept(shop, [replace(an_image("a"), digest=SAME)])

    ledger.finish([ended(work, outcome, first)])

    found = image(ledger, shop, "b")
    assert found.duplicate_of is None
    if outcome is Outcome.DONE:
        assert found.state is ImageState.INDEXED
    else:
        assert found.state is ImageState.PENDING
        assert [again.id for again in ledger.claim([work.id])] == [work.id]


def test_a_duplicate_of_an_image_with_waiting_metadata_fails(
    ledger: SqlLedger, shop: Collection
) -> None:
    ledger.finish([ended(claimed(ledger, shop, "a"))])
    first = image(ledger, shop, "a")
    ledger.update_metadata(shop, ImageId("a"), {"category": "new"})

    ledger.finish([ended(claimed(ledger, shop, "b"), Outcome.FAILED, first)])

    assert image(ledger, shop, "b").state is ImageState.FAILED


def test_giving_back_a_duplicate_uses_up_no_attempt(
    ledger: SqlLedger, shop: Collection
) -> None:
    gone = Image(**{**vars(_made(ledger, shop)), "key": ImageKey("0" * 32)})
    work = claimed(ledger, shop, "b")

    for _ in range(10):
        ledger.finish([ended(work, Outcome.FAILED, gone)])
        (work,) = ledger.claim([work.id])

    ledger.finish(done([work]))
    assert image(ledger, shop, "b").state is ImageState.INDEXED


def _made(ledger: SqlLedger, shop: Collection) -> Image:
    ledger.finish([ended(claimed(ledger, shop, "made"))])
    return image(ledger, shop, "made")


# --- bytes ---------------------------------------------------------------------------


def test_images_are_found_by_key(ledger: SqlLedger, shop: Collection) -> None:
    other = a_collection("other")
    ledger.create_collection(other)
    take_in(ledger, shop, "a1", "b1")
    take_in(ledger, other, "c1")
    ledger.delete_images(shop, [ImageId("b1")])
    keys = [key_of(shop, "a1"), key_of(shop, "b1"), key_of(other, "c1")]

    found = ledger.by_key(shop, keys)

    assert [one.id for one in found.values()] == ["a1"]


def test_copies_come_in_the_order_in_which_they_came(
    ledger: SqlLedger, shop: Collection
) -> None:
    other = a_collection("other")
    ledger.create_collection(other)
    take_in(ledger, other, "x1")
    for name in ("c1", "a1", "b2", "b1"):
        take_in(ledger, shop, name)
    ledger.delete_images(shop, [ImageId("b2")])
    asked = [Digest(one * 64) for one in "123"]

    found = ledger.copies(shop, asked, 10)
    first = ledger.copies(shop, asked, 2)

    ids = {digest[0]: [one.id for one in each] for digest, each in found.items()}
    assert ids == {"1": ["c1", "a1", "b1"]}
    assert [one.id for one in first[asked[0]]] == ["c1", "a1"]


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("scan", [50_000, 3])
def test_repeated_digests_come_page_by_page(
    ledger: SqlLedger,
    shop: Collection,
    monkeypatch: pytest.MonkeyPatch,
    is_large: bool,
    scan: int,
) -> None:
    monkeypatch.setattr(ledger_duplicates, "SCAN", scan)
    monkeypatch.setattr(ledger_states, "SORTED_IMAGES", 0 if is_large else 100)
    other = a_collection("other")
    ledger.create_collection(other)
    take_in(ledger, other, "x1", "x2", "y2", "x4")
    names = ("a1", "b1", "a2", "a3", "b3", "c3", "d3", "a4", "a5", "b5", "gone4")
    take_in(ledger, shop, *names)
    ledger.delete_images(shop, [ImageId("gone4")])

    found: list[str] = []
    after: Digest | None = None
    for _ in range(50):
        page, after = ledger.repeated(shop, after, 1)
        assert len(page) <= 1
        found += [digest[0] for digest in page]
        if after is None:
            break

    assert after is None
    assert found == ["1", "3", "5"]


# --- verdicts ------------------------------------------------------------------------


def test_a_verdict_is_remembered_in_place_of_an_earlier_one(
    ledger: SqlLedger, shop: Collection
) -> None:
    take_in(ledger, shop, "a1", "b2", "c3")
    both = pair(shop, "a1", "b2")

    (first,) = ledger.judge(shop, [both], DUP)
    ledger.judge(shop, [both], NOT)

    (kept,) = ledger.verdicts(shop, None, 10)
    assert (first.pair, first.verdict) == (both, DUP)
    assert (kept.pair, kept.verdict) == (both, NOT)
    assert kept.created_at >= first.created_at


def test_verdicts_are_found_among_images(ledger: SqlLedger, shop: Collection) -> None:
    take_in(ledger, shop, "a1", "b2", "c3")
    ledger.judge(shop, [pair(shop, "a1", "b2"), pair(shop, "b2", "c3")], DUP)
    asked = [key_of(shop, "a1"), key_of(shop, "b2")]

    assert ledger.judged(shop, asked) == {pair(shop, "a1", "b2"): DUP}
    assert ledger.judged(shop, []) == {}


def test_verdicts_come_page_by_page(ledger: SqlLedger, shop: Collection) -> None:
    names = ("a1", "b2", "c3", "d4")
    take_in(ledger, shop, *names)
    pairs = [pair(shop, a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
    ledger.judge(shop, pairs, DUP)

    found: list[Pair] = []
    while page := ledger.verdicts(shop, found[-1] if found else None, 4):
        found += [one.pair for one in page]

    assert found == sorted(pairs)


def test_a_verdict_that_was_withdrawn_is_forgotten(
    ledger: SqlLedger, shop: Collection
) -> None:
    take_in(ledger, shop, "a1", "b2", "c3")
    pairs = [pair(shop, "a1", "b2"), pair(shop, "b2", "c3")]
    ledger.judge(shop, pairs, DUP)

    gone = ledger.withdraw(shop, [pairs[0], pair(shop, "a1", "c3")])

    assert gone == 1
    assert [one.pair for one in ledger.verdicts(shop, None, 10)] == [pairs[1]]


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_a_verdict_does_not_hold_for_other_pictures(
    ledger: SqlLedger, shop: Collection, change: str
) -> None:
    take_in(ledger, shop, "a1", "b2")
    both = pair(shop, "a1", "b2")
    ledger.judge(shop, [both], DUP)

    if change == "deleted":
        ledger.delete_images(shop, [ImageId("a1")])
    else:
        ledger.accept(shop, [replace(an_image("a1"), digest=SAME)])

    assert ledger.verdicts(shop, None, 10) == []
    assert ledger.judged(shop, list(both)) == {}


def test_a_verdict_holds_again_when_the_picture_is_back(
    ledger: SqlLedger, shop: Collection
) -> None:
    take_in(ledger, shop, "a1", "b2")
    both = pair(shop, "a1", "b2")
    ledger.judge(shop, [both], NOT)
    ledger.delete_images(shop, [ImageId("a1")])

    take_in(ledger, shop, "a1")

    assert ledger.judged(shop, list(both)) == {both: NOT}


def test_there_is_no_verdict_on_an_unknown_image(
    ledger: SqlLedger, shop: Collection
) -> None:
    take_in(ledger, shop, "a1")

    assert ledger.judge(shop, [pair(shop, "a1", "b2")], DUP) == []
    assert ledger.verdicts(shop, None, 10) == []


def test_a_verdict_is_of_one_collection_and_goes_with_it(
    ledger: SqlLedger, shop: Collection
) -> None:
    other = a_collection("other")
    ledger.create_collection(other)
    take_in(ledger, shop, "a1", "b2")
    both = pair(shop, "a1", "b2")
    ledger.judge(shop, [both], DUP)

    assert ledger.verdicts(other, None, 10) == []
    assert ledger.judge(other, [both], NOT) == []
    ledger.delete_collection(shop)
    with pytest.raises(CollectionNotFound):
        ledger.judge(shop, [both], DUP)


def test_verdicts_on_forgotten_images_are_forgotten(
    ledger: SqlLedger, shop: Collection, url: str
) -> None:
    take_in(ledger, shop, "a1", "b2", "c3")
    pairs = [pair(shop, "a1", "b2"), pair(shop, "b2", "c3")]
    ledger.judge(shop, pairs, DUP)
    index_all(ledger, ledger.delete_images(shop, [ImageId("a1")]))
    days_pass(url, 10)

    ledger.prune(keep_days=5)
    take_in(ledger, shop, "a1")

    assert [one.pair for one in ledger.verdicts(shop, None, 10)] == [pairs[1]]
