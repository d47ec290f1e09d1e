from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow

import pictures
from lookalike.crops import Crop, parse_crop
from lookalike.errors import BadQuery
from lookalike.images import Geometry, Limits, decode_square

GEOMETRY = Geometry(side=64, resize=72)


@pytest.mark.parametrize("raw", [None, [0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0]])
def test_the_whole_picture_is_no_crop(raw: object) -> None:
    assert parse_crop(raw) is None


def test_a_crop_is_read_in_the_order_left_top_right_bottom() -> None:
    assert parse_crop([0.1, 0.2, 0.5, 1]) == Crop(0.1, 0.2, 0.5, 1.0)


@pytest.mark.parametrize(
    "raw",
    [
        [],
        "0,0,1,1",
        [0, 0, 1],
        [0, 0, 1, 1, 1],
        [0, 0, 1, "1"],
        [0, 0, 1, None],
        [False, 0, 1, True],
        [-0.1, 0, 1, 1],
        [0, 0, 1.1, 1],
        [0, 0, float("nan"), 1],
        [0.5, 0, 0.5, 1],
        [0.6, 0, 0.4, 1],
        [0, 0.2, 1, 0.205],
        {"x0": 0},
    ],
)
def test_what_is_no_crop_is_refused(raw: object) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_crop(raw)

    assert caught.value.code == "crop_invalid"
    assert "[x0, y0, x1, y1]" in caught.value.detail


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_crop_is_of_the_upright_picture(orientation: int, format: str) -> None:
    upright = pictures.quadrants(200, 120)
    data = pictures.with_orientation(upright, orientation, format)
    blue = Crop(0.05, 0.6, 0.4, 0.95)

    square = decode_square(data, GEOMETRY, Limits(), blue)

    assert np.abs(square.mean(axis=(0, 1)) - (30, 30, 220)).max() < 12


def test_a_crop_is_as_if_it_were_the_whole_picture() -> None:
    picture = pictures.photograph(3, 400, 300)
    part = picture.crop((100, 60, 300, 240))

    square = decode_square(
        pictures.encoded(picture, "PNG"), GEOMETRY, Limits(), Crop(0.25, 0.2, 0.75, 0.8)
    )

    alone = decode_square(pictures.encoded(part, "PNG"), GEOMETRY, Limits())
    apart = np.abs(square.astype(int) - alone.astype(int))
    # Only the border differs: a crop sees the pixels around it when it is resized.
    assert apart.mean() < 1


def test_a_small_crop_of_a_large_jpeg_keeps_its_pixels() -> None:
    large = Pillow.new("RGB", (3200, 2400), "white")
    checks = np.indices((128, 128)).sum(axis=0) // 4 % 2 * 255
    large.paste(Pillow.fromarray(checks.astype(np.uint8)).convert("RGB"), (1600, 1200))
    file = io.BytesIO()
    large.save(file, "JPEG", quality=95)
    crop = Crop(1600 / 3200, 1200 / 2400, 1728 / 3200, 1328 / 2400)

    square = decode_square(file.getvalue(), GEOMETRY, Limits(), crop)

    # Decoded at an eighth, as the whole picture would be, all of it were grey.
    assert square.std() > 60
