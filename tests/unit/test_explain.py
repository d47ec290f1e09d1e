from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from fakes import FakeEmbedder
from lookalike.backends.vectors import no_feature_maps
from lookalike.collections import Metric
from lookalike.crops import Crop
from lookalike.errors import BadQuery, ImageNotFound
from lookalike.explain import (
    Explainer,
    Grid,
    Part,
    Region,
    agreement,
    overlaid,
    region,
    seen,
    views,
)
from lookalike.images import Geometry, Limits
from lookalike.interfaces import ImageId, Maps, Pixels
from lookalike.queries import Example, Numbers, Picture, Query, Stored, Strategy
from lookalike.results import Want
from small import Small, picture

GEOMETRY = Geometry(side=64, resize=64)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small.build(tmp_path)
    made.ingest({name: picture(seed) for seed, name in enumerate("abcd")})
    yield made
    made.ledger.close()


def explainer(small: Small, embedder: FakeEmbedder | None = None) -> Explainer:
    return Explainer(
        *(small.ledger, small.blobs, embedder or small.embedder, small.index),
        small.limits,
    )


def explained(small: Small, query: Query, match: str = "b") -> list[Part]:
    return explainer(small).explain(small.collection, query, ImageId(match)).parts


def stored(name: str, weight: float = 1.0, crop: Crop | None = None) -> Example:
    return Example(Stored(ImageId(name)), weight, crop)


def png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def coloured(columns: list[tuple[int, int, int]]) -> bytes:
    """A square picture of upright stripes."""
    return png(np.tile(np.repeat(np.array(columns, np.uint8), 32, 0), (96, 1, 1)))


def maps_of(data: bytes) -> Maps:
    """Of each view, the colours of its cells, less their mean."""
    squares = views(data, GEOMETRY, Limits())
    return FakeEmbedder().feature_maps(squares) - np.float32(128)


# --- which regions agree -------------------------------------------------------------


def test_a_region_that_is_in_both_pictures_agrees_most() -> None:
    red, green, blue = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    one, other = coloured([red, green, green]), coloured([blue, blue, red])

    own, found = agreement(maps_of(one), maps_of(other))

    assert own.shape == found.shape == (32, 32)
    assert own[:, :8].mean() > 5 * own[:, 16:].mean()
    assert found[:, 24:].mean() > 5 * found[:, :16].mean()


def test_agreement_is_0_to_1() -> None:
    one, other = picture(1), picture(2)

    grids = agreement(maps_of(one), maps_of(other))

    for grid in grids:
        assert grid.dtype == np.float32
        assert (grid.min(), grid.max()) == (0, 1)


def test_in_an_even_picture_no_region_agrees_more_than_another() -> None:
    even = coloured([(90, 120, 150)] * 3)

    own, other = agreement(maps_of(even), maps_of(even))

    assert own.max() == 0
    assert other.max() == 0


def test_views_are_the_whole_and_nine_windows() -> None:
    data = coloured([(0, 0, 0), (100, 100, 100), (200, 200, 200)])

    found = views(data, GEOMETRY, Limits())

    assert found.shape == (10, 64, 64, 3)
    assert np.ptp(found[0, 30, :, 0]) == 200
    lefts, middles, rights = (found[1 + n :: 3] for n in range(3))
    assert lefts[0, 0, 0, 0] == 0
    assert middles[0, 0, 32, 0] == 100
    assert rights[2, 63, 63, 0] == 200


# --- showing it ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "geometry", "crop", "box"),
    [
        ((100, 100), Geometry(64, 64), None, (0, 0, 1, 1)),
        ((200, 100), Geometry(64, 64), None, (0.25, 0, 0.75, 1)),
        ((100, 200), Geometry(64, 80), None, (0.1, 0.3, 0.9, 0.7)),
        ((100, 100), Geometry(64, 64), Crop(0, 0, 0.5, 1), (0, 0.25, 0.5, 0.75)),
    ],
)
def test_the_box_is_what_the_network_is_shown(
    size: tuple[int, int],
    geometry: Geometry,
    crop: Crop | None,
    box: tuple[float, float, float, float],
) -> None:
    found = seen(size, geometry, crop)

    assert (found.left, found.top, found.right, found.bottom) == pytest.approx(box)


def test_an_overlay_is_bright_where_it_agrees_and_dark_elsewhere() -> None:
    grid: Grid = np.zeros((8, 8), np.float32)
    grid[:, 4:] = 1
    grey = Pillow.new("RGB", (200, 100), (128, 128, 128))

    found = np.asarray(overlaid(grey, grid, Crop(0.25, 0, 0.75, 1))).astype(int)

    outside, dark, bright = found[50, 10], found[50, 60], found[50, 140]
    assert (outside == dark).all()
    assert (dark < 50).all()
    assert bright[0] > 128 > bright[2]  # amber


def test_a_region_is_a_png_of_the_upright_picture() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    file = io.BytesIO()
    Pillow.new("RGB", (1_200, 600), "green").save(file, "JPEG", exif=exif)

    found = region(
        np.ones((8, 8), np.float32), file.getvalue(), None, GEOMETRY, Limits()
    )

    with Pillow.open(io.BytesIO(found.overlay)) as overlay:
        assert (overlay.format, overlay.size) == ("PNG", (256, 512))
    assert found.box == Crop(0, 0.25, 1, 0.75)


# --- explaining a match --------------------------------------------------------------


def test_a_query_of_one_image_is_explained(small: Small) -> None:
    found = explainer(small).explain(
        small.collection, Query.of(Stored(ImageId("a"))), ImageId("b")
    )

    (part,) = found.parts
    assert found.match == "b"
    assert part.is_positive
    assert part.part == pytest.approx(found.score)
    assert isinstance(part.own, Region)
    assert isinstance(part.other, Region)
    assert part.own.grid.shape == part.other.grid.shape == (32, 32)


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.IP])
def test_parts_sum_up_to_the_score_that_a_search_gives(
    small: Small, metric: Metric
) -> None:
    collection = replace(small.collection, metric=metric)
    query = Query([stored("a"), stored("d", 0.5)], [stored("c", 0.4)])
    (match,) = (
        match
        for match in small.searcher.search(collection, query, Want()).matches
        if match.id == "b"
    )

    found = explainer(small).explain(collection, query, ImageId("b"))

    parts = [part.part or 0.0 for part in found.parts]
    assert [part.is_positive for part in found.parts] == [True, True, False]
    assert found.score == pytest.approx(match.score, abs=1e-5)
    assert sum(parts) == pytest.approx(found.score, abs=1e-5)
    assert parts[2] < 0 < parts[1] < parts[0]


def test_the_best_of_several_is_explained_by_scores_alone(small: Small) -> None:
    query = Query([stored("a"), stored("d")], [stored("c")], Strategy.BEST)
    found = small.searcher.search(small.collection, query, Want())
    score = {str(match.id): match.score for match in found.matches}["b"]

    told = explainer(small).explain(small.collection, query, ImageId("b"))

    best = max(part.score for part in told.parts if part.is_positive)
    assert [part.part for part in told.parts] == [None] * 3
    assert told.score == pytest.approx(score, abs=1e-5)
    assert told.score == pytest.approx(best - told.parts[2].score, abs=1e-5)


def test_a_vector_has_a_part_but_no_regions(small: Small) -> None:
    query = Query([stored("a"), Example(Numbers([1.0] * 192))])

    picture_part, vector_part = explained(small, query)

    assert picture_part.own is not None
    assert (vector_part.own, vector_part.other) == (None, None)
    assert vector_part.part is not None


def test_of_vectors_alone_nothing_is_looked_at(small: Small) -> None:
    class Blind(FakeEmbedder):
        def feature_maps(self, pixels: Pixels) -> Maps:
            raise AssertionError("nothing to see")

    query = Query.of(Numbers([1.0] * 192))

    found = explainer(small, Blind()).explain(small.collection, query, ImageId("b"))

    assert len(found.parts) == 1


def test_an_uploaded_picture_that_is_cropped_is_explained_by_its_part(
    small: Small,
) -> None:
    query = Query.of(Picture(picture(9)), Crop(0, 0, 0.5, 0.5))

    (part,) = explained(small, query)

    assert part.own is not None
    assert (part.own.box.right, part.own.box.bottom) <= (0.5, 0.5)
    assert part.other is not None
    assert part.other.box.bottom > 0.9


def test_without_a_feature_map_there_is_nothing_to_show(small: Small) -> None:
    class Unsupported(FakeEmbedder):
        def feature_maps(self, pixels: Pixels) -> Maps:
            raise no_feature_maps("plain")

    query = Query.of(Stored(ImageId("a")))

    with pytest.raises(BadQuery, match="'plain'") as raised:
        explainer(small, Unsupported()).explain(small.collection, query, ImageId("b"))

    assert raised.value.code == "explain_unsupported"


def test_an_unknown_match_is_refused(small: Small) -> None:
    with pytest.raises(ImageNotFound):
        explained(small, Query.of(Stored(ImageId("a"))), "nothing")


def test_more_than_8_pictures_are_too_many(small: Small) -> None:
    query = Query([stored("a") for _ in range(9)])

    with pytest.raises(BadQuery, match="At most 8"):
        explained(small, query)
