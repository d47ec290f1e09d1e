from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from lookalike.answers import Answer, Match
from lookalike.cli.folders import Picture
from lookalike.cli.uploads import FileFailure, Report
from lookalike.demo.__main__ import choose, is_ci
from lookalike.demo.tour import Pick, Tour, altered, wrong
from lookalike.interfaces import ImageId
from pictures import jpeg

PICK = Pick(ImageId("p"), Path("p.jpg"), "dots", "plaid", in_wanted=20)


def answer(*ids: str, category: str = "dots") -> Answer:
    matches = [Match(ImageId(one), 0.9, {"category": category}) for one in ids]
    return Answer(matches, True, {}, {})


def right() -> Tour:
    ten = [f"r{number}" for number in range(10)]
    in_category = answer(*ten, category="plaid")
    return Tour(answer("r0", "r1", "p"), in_category, answer(*ten))


def problems(report: Report, tour: Tour) -> list[str]:
    return list(wrong(report, PICK, tour, swatches=True))


def test_right_answers_are_not_complained_about() -> None:
    assert problems(Report(3, done=2, unchanged=1), right()) == []


def test_a_failed_image_is_complained_about() -> None:
    report = Report(3, done=2, failures=[FileFailure("x", "image_broken", "")])

    assert problems(report, right()) == ["1 of 3 images failed, 0 never ended"]


def test_an_image_that_never_ended_is_complained_about() -> None:
    assert problems(Report(3, done=2), right()) == [
        "0 of 3 images failed, 1 never ended"
    ]


@pytest.mark.parametrize(
    ("part", "found", "said"),
    [
        ("by_picture", answer("a", "b", "c", "p"), "not in the first 3"),
        ("in_category", answer("a", category="plaid"), "found 1, not 10"),
        ("in_category", answer(*"abcdefghij"), "other categories"),
        ("by_id", answer("p", *"abcdefghi"), "found the picture itself"),
        ("by_id", answer(*"abcdefghij", category="plaid"), "only 0 of 10 relatives"),
    ],
)
def test_each_wrong_answer_is_complained_about(
    part: str, found: Answer, said: str
) -> None:
    tour = Tour(**{**vars(right()), part: found})

    (complaint,) = problems(Report(1, done=1), tour)

    assert said in complaint


def test_a_category_of_fewer_than_ten_is_right_with_all_of_them() -> None:
    few = Pick(PICK.id, PICK.path, "dots", "plaid", in_wanted=2)
    tour = Tour(answer("p"), answer("q", "r", category="plaid"), answer("q"))

    assert list(wrong(Report(1, done=1), few, tour, swatches=False)) == []


def test_an_altered_copy_is_smaller_and_not_the_same_bytes(tmp_path: Path) -> None:
    file = tmp_path / "p.jpg"
    file.write_bytes(jpeg(1, 400, 300))

    copy = altered(file)

    with Image.open(io.BytesIO(copy)) as picture:
        assert picture.size == (320, 240)
    assert copy != file.read_bytes()


def test_the_second_search_looks_in_the_largest_other_category() -> None:
    ids = ["a/1.jpg", "b/1.jpg", "c/1.jpg", "c/2.jpg", "top.jpg"]
    pictures = [Picture(Path(one), one) for one in ids]

    pick = choose(pictures, "a/1.jpg")

    assert (pick.category, pick.wanted, pick.in_wanted) == ("a", "c", 2)
    assert choose(pictures[:1], "a/1.jpg").wanted == "a"
    assert choose(pictures[4:], "top.jpg").wanted is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", False), ("0", False), ("false", False), ("1", True), ("true", True)],
)
def test_the_demo_ends_by_itself_only_where_nobody_watches(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: bool
) -> None:
    monkeypatch.setenv("CI", value)

    assert is_ci() is expected
