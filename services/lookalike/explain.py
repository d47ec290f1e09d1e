"""Use case: why did it match? Which regions agree, and what each example adds.

A network with global pooling sums up what it sees in each cell of its feature map, and
the similarity of two pictures is a sum over the cells of either. So a cell's cosine
with the mean of the other picture's map says how much that place is like the other
picture (as class activation maps do for a class: Zhou et al., CVPR 2016).

One map of a whole picture is coarse, so each picture is looked at ten times: whole,
and through nine windows half as wide, a quarter of its side apart. A cell is compared
with what the network saw in each of the other's ten views, and the best counts, so
that a detail in one picture is found where it fills the other. Of what the views say
about a place the mean counts; what is below the median place is background, and the
rest is squared. Chosen by measuring (tests/benchmarks/explain.py): of photographs whose
part was pasted into another, 3.9 times as much of the heat lies in the pasted region as
its area would get by chance, and at least twice as much in 98 of 100 pairs. The whole
picture's map alone gives 2.5 times, and twice in 81 of 100; comparing cell with cell,
instead of cell with view, 1.5 to 2.3 times.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from lookalike import metrics
from lookalike.collections import Collection
from lookalike.crops import WHOLE, Crop
from lookalike.errors import BadQuery
from lookalike.images import Geometry, Limits, decode_square, thumbnail
from lookalike.interfaces import (
    BlobStore,
    Embedder,
    ImageId,
    Ledger,
    Maps,
    Pixels,
    VectorIndex,
)
from lookalike.probes import Probe, Vector, combined, parts
from lookalike.queries import Example, Numbers, Picture, Query, Stored, Strategy
from lookalike.reading import Reader

Grid = npt.NDArray[np.float32]  # [G, G]; 0 to 1

STEPS = 3  # windows across and down, each half as wide, a quarter apart
MAX_PICTURES = 8  # of one query; each is ten squares for the network
OVERLAY_SIDE = 512  # pixels of an overlay's longer side
DARKNESS = 0.7  # where nothing agrees
LEAST_AGREEMENT = 1e-8  # of squared cosines
GLOW = (255, 176, 0)  # where all agrees; told from darkness by every eye
GLOW_SHARE = 0.35


@dataclass(frozen=True)
class Region:
    """Where a picture agrees with another.

    Attributes:
        grid: float32 ``[G, G]``, 0 to 1; row 0 is the top. All zero: nowhere.
        box: the square of the upright picture that the grid lies over: what the
            network was shown of it.
        overlay: the picture as a PNG, dark where it does not agree, glowing where it
            does.
    """

    grid: Grid
    box: Crop
    overlay: bytes


@dataclass(frozen=True)
class Part:
    """What one example of the query has to do with the match.

    Attributes:
        example: of the query.
        is_positive: or else negative.
        score: between this example alone and the match.
        part: what it adds to the score of the whole query; all of them sum up to it.
            None where the score is no such sum.
        own: the regions of the example's picture that agree with the match.
        other: the regions of the match that agree with the example.
    """

    example: Example
    is_positive: bool
    score: float
    part: float | None
    own: Region | None = None
    other: Region | None = None


@dataclass(frozen=True)
class Explanation:
    """Why an image matches: its score, and the part of each example in it."""

    match: ImageId
    score: float
    parts: list[Part]


class Explainer:
    """Says why an image matches a query."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        embedder: Embedder,
        index: VectorIndex,
        limits: Limits,
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._embedder = embedder
        self._limits = limits
        self._reader = Reader(ledger, blobs, embedder, index, limits)

    def explain(
        self, collection: Collection, query: Query, match: ImageId
    ) -> Explanation:
        """Why an image is a match of a query, or would be one.

        An example that is a vector has no regions, because it has no picture.

        Raises:
            BackboneMismatch: the collection was embedded by another backbone.
            BadImage: the bytes of an example are not an accepted image.
            BadQuery: code ``explain_unsupported`` if the backbone has no feature map,
                ``query_invalid`` if more than 8 examples are pictures, or as in a
                search.
            ImageNotFound: there is no such image.
        """
        shown = _pictures(query)
        target = Example(Stored(match))
        probe, _ = self._reader.read(collection, query)
        vector = self._reader.read(collection, Query((target,)))[0].vectors[0]
        added = parts(probe, vector, collection.metric)
        scores = metrics.score(vector, probe.vectors, collection.metric)
        regions = iter(self._regions(collection, shown, target) if shown else ())
        found = []
        for place, example in enumerate(query.examples):
            own, other = next(regions) if example in shown else (None, None)
            part = None if added is None else added[place]
            is_positive = place < probe.positives
            score = float(scores[place])
            found.append(Part(example, is_positive, score, part, own, other))
        return Explanation(match, _score(probe, vector, scores, collection), found)

    def _regions(
        self, collection: Collection, shown: Sequence[Example], target: Example
    ) -> list[tuple[Region, Region]]:
        """For each example that is a picture, where it and the target agree."""
        geometry = self._embedder.geometry
        examples = [*shown, target]
        files = [self._bytes(collection, example) for example in examples]
        squares = np.concatenate(
            [
                views(data, geometry, self._limits, example.crop)
                for data, example in zip(files, examples, strict=True)
            ]
        )
        maps = self._embedder.feature_maps(squares)
        *seen, wanted = maps.reshape(len(examples), -1, *maps.shape[1:])
        found = []
        for one, data, example in zip(seen, files, shown, strict=False):
            own, other = agreement(one, wanted)
            pair = ((own, data, example.crop), (other, files[-1], None))
            made = [region(*each, geometry, self._limits) for each in pair]
            found.append((made[0], made[1]))
        return found

    def _bytes(self, collection: Collection, example: Example) -> bytes:
        if isinstance(example.source, Picture):
            return example.source.data
        assert isinstance(example.source, Stored)
        image = self._ledger.image(collection, example.source.id)
        return self._blobs.read(collection.team, image.digest)


def _pictures(query: Query) -> list[Example]:
    """The examples of a query that are pictures.

    Raises:
        BadQuery: there are too many to be looked at.
    """
    found = [one for one in query.examples if not isinstance(one.source, Numbers)]
    if len(found) > MAX_PICTURES:
        raise BadQuery(
            f"At most {MAX_PICTURES} examples of an explained query are pictures; got "
            f"{len(found)}.",
            extra={"limit": MAX_PICTURES},
        )
    return found


def _score(
    probe: Probe, vector: Vector, scores: Vector, collection: Collection
) -> float:
    """What a search by the whole query scores the image."""
    if probe.strategy is Strategy.AVERAGE:
        whole = combined(probe, collection.metric)
        return float(metrics.score(whole, vector[np.newaxis], collection.metric)[0])
    weighted = probe.weights * scores
    worst = weighted[probe.positives :].max(initial=0.0)
    return float(weighted[: probe.positives].max() - worst)


# --- agreement -----------------------------------------------------------------------


def views(
    data: bytes, geometry: Geometry, limits: Limits, crop: Crop | None = None
) -> Pixels:
    """A picture as a network sees it, and closer: uint8 ``[10, S, S, 3]``.

    First all that is embedded of it, then nine windows of that, row by row.

    Raises:
        BadImage: the bytes are not an accepted image.
    """
    side = geometry.side
    whole = decode_square(data, geometry, limits, crop)
    closer = Geometry(side=2 * side, resize=2 * geometry.resize)
    large = decode_square(data, closer, limits, crop)
    starts = [step * side // 2 for step in range(STEPS)]
    windows = [
        large[top : top + side, left : left + side] for top in starts for left in starts
    ]
    return np.stack([whole, *windows])


def agreement(own: Maps, other: Maps) -> tuple[Grid, Grid]:
    """Where two pictures agree, from the feature maps of their ``views``.

    Args:
        own: float32 ``[10, h, w, C]``.
        other: the same of the other picture.

    Returns:
        A grid over each picture, float32 ``[4h, 4w]``, 0 to 1, its greatest value 1;
        all zero if no place of it agrees more than any other.
    """
    return _grid(own, other), _grid(other, own)


def _grid(own: Maps, other: Maps) -> Grid:
    # What the network makes of each view of the other picture.
    means = _unit(other.mean(axis=(1, 2)))
    likeness = (_unit(own) @ means.T).max(axis=-1)  # [10, h, w]
    height, width = likeness.shape[1:]
    total = np.zeros((4 * height, 4 * width), np.float32)
    count = np.zeros_like(total)
    for view, (top, left, scale) in zip(likeness, _places(height, width), strict=True):
        size = (scale * width, scale * height)
        large = Pillow.fromarray(view).resize(size, Pillow.Resampling.BILINEAR)
        here = np.s_[top : top + size[1], left : left + size[0]]
        total[here] += np.asarray(large)
        count[here] += 1
    mean = total / count
    above = np.maximum(mean - np.median(mean), 0) ** 2
    most = float(above.max())
    # Rounding alone makes some places of an even picture a little likelier.
    agrees = most > LEAST_AGREEMENT
    return (above * (1 / most if agrees else 0.0)).astype(np.float32)


def _places(height: int, width: int) -> list[tuple[int, int, int]]:
    """Top, left and scale of each view in a grid of four times the map's size."""
    windows = [
        (row * height, column * width, 2)
        for row in range(STEPS)
        for column in range(STEPS)
    ]
    return [(0, 0, 4), *windows]


def _unit(vectors: Maps) -> Maps:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Maps = vectors / np.maximum(lengths, 1e-12)
    return unit


# --- showing it ----------------------------------------------------------------------


def region(
    grid: Grid, data: bytes, crop: Crop | None, geometry: Geometry, limits: Limits
) -> Region:
    """A grid over a picture, ready to be shown.

    Args:
        grid: float32 ``[H, W]``, 0 to 1.
        data: the image file.
        crop: the part of it that was looked at.
        geometry: how it was looked at.
        limits: what is accepted as an image.

    Raises:
        BadImage: the bytes are not an accepted image.
    """
    small = thumbnail(data, OVERLAY_SIDE, limits)
    with Pillow.open(io.BytesIO(small), formats=["JPEG"]) as opened:
        picture = opened.convert("RGB")
    box = seen(picture.size, geometry, crop)
    return Region(grid, box, _png(overlaid(picture, grid, box)))


def seen(size: tuple[int, int], geometry: Geometry, crop: Crop | None) -> Crop:
    """The square of a picture that a network is shown, in fractions of its sides.

    Args:
        size: width and height of the upright picture, in any unit.
        geometry: of the network.
        crop: the part of the picture that is looked at.
    """
    part = crop or WHOLE
    width, height = size
    wide, high = (part.right - part.left) * width, (part.bottom - part.top) * height
    half = min(wide, high) * geometry.side / geometry.resize / 2
    x, y = (part.left + part.right) / 2, (part.top + part.bottom) / 2
    across, down = half / width, half / height
    return Crop(x - across, y - down, x + across, y + down)


def overlaid(picture: Pillow.Image, grid: Grid, box: Crop) -> Pillow.Image:
    """A picture, dark where the grid over its box is low, glowing where it is high."""
    width, height = picture.size
    left, top = round(box.left * width), round(box.top * height)
    right, bottom = round(box.right * width), round(box.bottom * height)
    heat = Pillow.fromarray(np.rint(grid * 255).astype(np.uint8))
    heat = heat.resize((right - left, bottom - top), Pillow.Resampling.BICUBIC)
    mask = Pillow.new("L", picture.size, 0)
    mask.paste(heat, (left, top))
    dark = picture.point(lambda value: value * (1 - DARKNESS))
    glow = Pillow.blend(picture, Pillow.new("RGB", picture.size, GLOW), GLOW_SHARE)
    return Pillow.composite(glow, dark, mask)


def _png(picture: Pillow.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
