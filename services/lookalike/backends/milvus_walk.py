"""Walks all rows of a Milvus collection in order of key.

A query with a limit gives the smallest keys on a server, but any rows on Milvus Lite.
So no order is relied on: a query that gives fewer rows than it may has given all rows
of its range of keys, and a range with more of them is cut in two.
"""

from __future__ import annotations

from collections.abc import Callable

from lookalike.backends.milvus_filter import EVERYTHING, KEY, literal

Row = tuple[str, int]  # key and gen
Ask = Callable[[str, int], list[Row]]  # a filter expression, and how many rows at most

MOST_ROWS = 16_383  # a server gives one more in one answer


def rows_in_order(
    ask: Ask, after: str | None, limit: int, upto: str | None
) -> list[Row]:
    """The next rows in order of key, each key once: ``limit`` of them, or the rest.

    Args:
        ask: gives some rows that satisfy an expression, any if there are too many.
        after: the rows of greater keys; None: all.
        limit: how many at most.
        upto: the greatest key that may come; None: any.
    """
    found: list[Row] = []
    most = min(limit, MOST_ROWS)
    ends = [upto]  # ranges still to be read, the next one last; each begins at `after`
    while ends and len(found) < limit:
        gens: dict[str, int] = {}
        for key, gen in ask(_between(after, ends[-1]), most + 1):
            gens[key] = max(gen, gens.get(key, gen))
        middle = sorted(gens)[(len(gens) - 1) // 2] if gens else None
        if len(gens) > most and middle != ends[-1]:
            ends.append(middle)
            continue
        found += sorted(gens.items())
        after = ends.pop()
    return found[:limit]


def _between(after: str | None, upto: str | None) -> str:
    bounds = []
    if after is not None:
        bounds.append(f"({KEY} > {literal(after)})")
    if upto is not None:
        bounds.append(f"({KEY} <= {literal(upto)})")
    return " and ".join(bounds) or EVERYTHING
