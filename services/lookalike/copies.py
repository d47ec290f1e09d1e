"""Which images are copies of each other, and of which older one a new image is.

Copies are exact (the same bytes) or near (a picture that was encoded again, resized,
cropped a little, or made brighter; see ``lookalike.signatures``). Near copies are
looked for among the nearest vectors and confirmed by their signatures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lookalike.alignment import similarities
from lookalike.interfaces import (
    Hit,
    Image,
    ImageKey,
    Ledger,
    Original,
    Pair,
    VectorIndex,
    Vectors,
    Work,
    WorkId,
)
from lookalike.signatures import Look, is_readable

NEAR = 0.96  # similarity from which on two are near copies: see benchmarks.duplicates
CANDIDATES = 16  # nearest vectors among which near copies are looked for
COPIES = 100  # images with the same bytes that are looked at


@dataclass(frozen=True)
class Newcomer:
    """An image that is about to be indexed for the first time, and its vector."""

    work: Work
    signature: bytes


@dataclass(frozen=True)
class Found:
    """What new images are duplicates of, and which of them have to wait.

    Attributes:
        originals: by work id, the image that was there before.
        waiting: ids of work that may be a duplicate of something still being written.
    """

    originals: Mapping[WorkId, Image]
    waiting: frozenset[WorkId]


def pair_of(a: ImageKey, b: ImageKey) -> Pair:
    """Two images as a pair, the lesser key first."""
    return (a, b) if a < b else (b, a)


def likeness(pairs: Sequence[tuple[Image, Image]]) -> list[float]:
    """How alike the images of each pair are, from 0 to 1; from ``NEAR`` on copies.

    1 if they have the same bytes, 0 if it is not known how one looks.
    """
    found = [float(a.digest == b.digest) for a, b in pairs]
    looks: dict[bytes, Look] = {}
    known: list[int] = []
    seen: list[tuple[Look, Look]] = []
    for at, (a, b) in enumerate(pairs):
        if found[at] or a.signature is None or b.signature is None:
            continue
        both = (a.signature, b.signature)
        if not (is_readable(both[0]) and is_readable(both[1])):
            continue
        for signature in both:
            if signature not in looks:
                looks[signature] = Look(signature)
        known.append(at)
        seen.append((looks[both[0]], looks[both[1]]))
    for at, value in zip(known, similarities(seen), strict=True):
        found[at] = max(0.0, float(value))
    return found


def exact_originals(ledger: Ledger, new: Sequence[Work]) -> Found:
    """The images that have the same bytes as new ones, of one collection.

    A new image waits while one that was accepted before it is still to be indexed: so
    of several with the same bytes the first is the original, whoever writes them.
    """
    if not new:
        return Found({}, frozenset())
    collection = new[0].collection
    copies = ledger.copies(collection, [work.digest for work in new], COPIES)
    originals: dict[WorkId, Image] = {}
    waiting: set[WorkId] = set()
    for work in new:
        others = [one for one in copies.get(work.digest, ()) if one.key != work.key]
        indexed = [one for one in others if one.is_searchable]
        if indexed:
            originals[work.id] = indexed[0]
        elif any(one.is_waiting and _is_before(one, work) for one in others):
            waiting.add(work.id)
    return Found(originals, frozenset(waiting))


def near_originals(
    ledger: Ledger, index: VectorIndex, new: Sequence[Newcomer], vectors: Vectors
) -> Found:
    """The images that new ones, of one collection, are near copies of.

    Of several new ones that are copies of each other the first goes on, and the others
    wait for it.

    Args:
        ledger: knows what is indexed, and how it looks.
        index: where near copies are looked for.
        new: what is to be indexed.
        vectors: of each of these, ``[N, D]``.
    """
    if not new:
        return Found({}, frozenset())
    collection = new[0].work.collection
    answers = index.search_many(collection, vectors, CANDIDATES + 1)
    known = ledger.verified(collection, _once(hit for hits in answers for hit in hits))
    pairs: list[tuple[Newcomer, Image]] = []
    looks: list[tuple[Look, Look]] = []
    for one, hits in zip(new, answers, strict=True):
        own = Look(one.signature)
        for image in (known[hit.key] for hit in hits if hit.key in known):
            is_other = image.key != one.work.key and image.is_searchable
            if is_other and image.signature and is_readable(image.signature):
                pairs.append((one, image))
                looks.append((own, Look(image.signature)))
    originals: dict[WorkId, Image] = {}
    best: dict[WorkId, float] = {}
    for (one, image), value in zip(pairs, similarities(looks), strict=True):
        if value >= max(NEAR, best.get(one.work.id, 0.0)):
            best[one.work.id] = float(value)
            originals[one.work.id] = image
    return Found(originals, _behind(one for one in new if one.work.id not in originals))


def original_of(image: Image) -> Original:
    """What a duplicate says of the image that was there before."""
    return Original(image.key, image.digest)


def _behind(new: Iterable[Newcomer]) -> frozenset[WorkId]:
    """Those of new images that are near copies of one before them."""
    ordered = sorted(new, key=lambda one: (one.work.born_gen, one.work.key))
    looks = [Look(one.signature) for one in ordered]
    pairs = list(itertools.combinations(range(len(ordered)), 2))
    values = similarities([(looks[a], looks[b]) for a, b in pairs])
    return frozenset(
        ordered[second].work.id
        for (_, second), value in zip(pairs, values, strict=True)
        if value >= NEAR
    )


def _is_before(image: Image, work: Work) -> bool:
    return (image.born_gen, image.key) < (work.born_gen, work.key)


def _once(hits: Iterable[Hit]) -> list[Hit]:
    newest: dict[ImageKey, Hit] = {}
    for hit in hits:
        if hit.key not in newest or newest[hit.key].gen < hit.gen:
            newest[hit.key] = hit
    return list(newest.values())
