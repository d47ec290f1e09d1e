from __future__ import annotations

import random
import re

import pytest

from lookalike.backends.milvus_walk import MOST_ROWS, Row, rows_in_order


class Engine:
    """Answers a range of keys as Milvus does: with any rows, if there are too many."""

    def __init__(self, rows: list[Row], *, in_order: bool = False) -> None:
        self.rows = rows
        self.in_order = in_order
        self.asked: list[int] = []

    def ask(self, expression: str, most: int) -> list[Row]:
        self.asked.append(most)
        over = re.search(r'key > "(\w+)"', expression)
        upto = re.search(r'key <= "(\w+)"', expression)
        found = [
            row
            for row in self.rows
            if (over is None or row[0] > over[1])
            and (upto is None or row[0] <= upto[1])
        ]
        if self.in_order:
            found.sort()
        else:
            random.Random(len(self.asked)).shuffle(found)
        return found[:most]


def rows(count: int) -> list[Row]:
    source = random.Random(count)
    return [(f"{source.getrandbits(128):032x}", number) for number in range(count)]


def walked(engine: Engine, limit: int) -> list[Row]:
    found: list[Row] = []
    after: str | None = None
    while page := rows_in_order(engine.ask, after, limit, None):
        assert len(page) <= limit
        found += page
        after = page[-1][0]
    return found


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 11, 12, 500])
@pytest.mark.parametrize("limit", [1, 2, 10])
def test_every_row_comes_once_and_in_order(
    count: int, limit: int, *, in_order: bool
) -> None:
    engine = Engine(rows(count), in_order=in_order)

    found = walked(engine, limit)

    assert found == sorted(engine.rows)


def test_keys_that_lie_close_together_are_found_too() -> None:
    engine = Engine([(f"{number:032x}", 1) for number in range(300)])

    found = walked(engine, 7)

    assert found == sorted(engine.rows)
    assert len(engine.asked) < 44 * 12


def test_a_full_page_is_given_while_there_are_so_many_rows() -> None:
    engine = Engine(rows(100))

    page = rows_in_order(engine.ask, None, 30, None)

    assert page == sorted(engine.rows)[:30]


def test_a_range_with_no_more_rows_than_the_limit_costs_one_query() -> None:
    engine = Engine(rows(1_000))
    start, end = (sorted(engine.rows)[place][0] for place in (99, 199))

    page = rows_in_order(engine.ask, start, 100, end)

    assert page == sorted(engine.rows)[100:200]
    assert len(engine.asked) == 1


def test_no_query_asks_for_more_than_a_server_gives() -> None:
    engine = Engine(rows(20_000))

    page = rows_in_order(engine.ask, None, 100_000, None)

    assert page == sorted(engine.rows)
    assert max(engine.asked) == MOST_ROWS + 1 == 16_384


def test_a_key_that_an_engine_gives_twice_comes_once_with_its_newest_gen() -> None:
    engine = Engine([("a", 1), ("a", 3), ("a", 2), ("b", 1)])

    page = rows_in_order(engine.ask, None, 10, None)

    assert page == [("a", 3), ("b", 1)]


def test_an_engine_that_repeats_one_key_without_end_ends_the_walk() -> None:
    page = rows_in_order(lambda _, most: [("a", 1)] * most, None, 1, "a")

    assert page == [("a", 1)]


def test_a_key_cannot_break_out_of_the_expression() -> None:
    said: list[str] = []

    def ask(expression: str, _: int) -> list[Row]:
        said.append(expression)
        return []

    rows_in_order(ask, 'a" or "b', 1, None)

    assert said == ['(key > "a\\" or \\"b")']
