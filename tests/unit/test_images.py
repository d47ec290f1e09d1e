from __future__ import annotations

import importlib.util
import io
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

import pictures
from lookalike.errors import BadImage, Misconfigured
from lookalike.images import (
    Geometry,
    Header,
    Limits,
    decode_square,
    media_type,
    read_header,
    thumbnail,
)

GEOMETRY = Geometry(side=64, resize=72)
LIMITS = Limits()
WITH_TIFF = Limits(formats=("JPEG", "PNG", "WEBP", "GIF", "TIFF"))
FORMATS = ["JPEG", "PNG", "WEBP", "GIF"]
WHITE = 250  # at least this bright in every channel


def header(data: bytes, limits: Limits = LIMITS) -> Header:
    return read_header(io.BytesIO(data), limits)


def square(data: bytes, limits: Limits = WITH_TIFF) -> pictures.Array:
    return decode_square(data, GEOMETRY, limits)


def exactly(image: Image.Image) -> pictures.Array:
    """The square by the plain way: everything decoded, resized, then cropped."""
    scale = GEOMETRY.resize / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    left, top = (small.width - GEOMETRY.side) // 2, (small.height - GEOMETRY.side) // 2
    box = (left, top, left + GEOMETRY.side, top + GEOMETRY.side)
    return np.asarray(small.crop(box))


def decibel(one: pictures.Array, other: pictures.Array) -> float:
    """Peak signal to noise ratio."""
    error = np.square(one.astype(np.float64) - other).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def refused(data: bytes, limits: Limits = LIMITS) -> BadImage:
    with pytest.raises(BadImage) as caught:
        header(data, limits)
    return caught.value


# --- headers -------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_header_says_format_and_size(name: str) -> None:
    data = pictures.encoded(pictures.photograph(width=123, height=77), name)

    found = header(data)

    assert found == Header(name, 123, 77)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("JPEG", {"progressive": True}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        ("PNG", {"interlace": True}),
        ("GIF", {"interlace": True}),
    ],
)
def test_variants_of_a_format_are_measured_alike(
    name: str, options: dict[str, object]
) -> None:
    image = pictures.photograph(width=131, height=60)

    found = header(pictures.encoded(image, name, **options))

    assert found == Header(name, 131, 60)


def test_the_size_is_the_stored_one_before_exif_orientation() -> None:
    data = pictures.with_orientation(pictures.quadrants(200, 120), 6, "JPEG")

    assert header(data) == Header("JPEG", 120, 200)


def test_a_tiff_is_read_once_it_is_switched_on() -> None:
    data = pictures.encoded(pictures.quadrants(), "TIFF")

    assert header(data, WITH_TIFF) == Header("TIFF", 200, 120)


if importlib.util.find_spec("pillow_heif"):

    def test_a_heif_is_read_once_it_is_switched_on() -> None:
        importlib.import_module("pillow_heif").register_heif_opener()
        limits = Limits(formats=("JPEG", "HEIF"))
        data = pictures.encoded(pictures.quadrants(), "HEIF", quality=95)

        assert header(data, limits) == Header("HEIF", 200, 120)
        assert decibel(square(data, limits), exactly(pictures.quadrants())) > 30
        assert refused(data[:-100], limits).code == "image_truncated"

else:

    def test_heif_without_its_decoder_names_the_extra_to_install() -> None:
        with pytest.raises(Misconfigured, match=r"lookalike\[heif\]"):
            Limits(formats=("JPEG", "HEIF"))


def test_an_empty_file_is_refused_by_name() -> None:
    assert refused(b"").code == "image_empty"


def test_a_file_over_the_limit_is_refused_and_told_the_limit() -> None:
    error = refused(pictures.jpeg(), Limits(max_bytes=1000))

    assert error.code == "image_too_large"
    assert error.extra["limit"] == 1000
    assert "1000 bytes" in error.detail


def test_text_is_refused_and_told_what_is_accepted() -> None:
    error = refused(b"this is not a picture at all")

    assert error.code == "image_unsupported"
    assert error.extra["accepted"] == FORMATS
    assert "JPEG, PNG, WEBP, GIF" in error.detail


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"BM\x46\0\0\0", "BMP"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIF"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "MP4"),
        (b'<?xml version="1.0"?>\n<svg width="1"/>', "SVG"),
        (b"  <svg width='1'/>", "SVG"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
        (b"PK\x03\x04", "ZIP"),
    ],
)
def test_a_known_format_that_is_not_accepted_is_named(data: bytes, name: str) -> None:
    error = refused(data)

    assert error.code == "image_unsupported"
    assert error.extra["detected"] == name
    assert f"{name} is not accepted" in error.detail


def test_a_png_bomb_is_refused_at_once_and_without_memory() -> None:
    bomb = pictures.png_bomb(13_000, 13_000)
    tracemalloc.start()
    begun = time.perf_counter()

    error = refused(bomb)

    taken = time.perf_counter() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.code == "image_too_large"
    assert "13000 x 13000" in error.detail
    assert error.extra["limit"] == LIMITS.max_pixels
    assert taken < 0.1
    assert peak < 2 * 2**20


def test_decoding_a_bomb_is_refused_before_any_pixel() -> None:
    bomb = pictures.png_bomb(13_000, 13_000)

    with pytest.raises(BadImage) as caught:
        square(bomb)

    assert caught.value.code == "image_too_large"


def test_a_side_over_the_limit_is_refused() -> None:
    data = pictures.encoded(Image.new("L", (20_000, 2)), "PNG")

    error = refused(data)

    assert error.code == "image_too_large"
    assert error.extra["limit"] == LIMITS.max_side


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.98])
def test_a_truncated_file_is_refused_by_name(name: str, kept: float) -> None:
    whole = pictures.encoded(pictures.photograph(), name)

    error = refused(whole[: int(len(whole) * kept)])

    assert error.code == "image_truncated"


def test_a_truncated_tiff_is_refused_by_name() -> None:
    whole = pictures.encoded(pictures.photograph(), "TIFF")
    moved = whole[:-50_000]  # Pillow writes the pixels last

    error = refused(moved, WITH_TIFF)

    assert error.code == "image_truncated"


def test_a_jpeg_that_ends_within_its_header_is_truncated() -> None:
    assert refused(pictures.jpeg()[:100]).code == "image_truncated"


def test_a_jpeg_cut_short_is_truncated_although_its_preview_is_whole() -> None:
    preview = pictures.jpeg(width=80, height=60)
    exif = b"\xff\xe1" + (len(preview) + 2).to_bytes(2) + preview
    whole = pictures.jpeg()

    error = refused(whole[:2] + exif + whole[2:-5000])

    assert error.code == "image_truncated"


def test_bytes_after_the_end_of_a_picture_are_no_fault() -> None:
    trailer = b"\0" * 100_000 + b"a video of the same moment"
    files = [pictures.encoded(pictures.quadrants(), name) for name in FORMATS]

    found = [header(file + trailer) for file in files]

    assert [each.format for each in found] == FORMATS


def test_a_picture_without_height_is_broken() -> None:
    data = bytearray(pictures.encoded(pictures.quadrants(), "PNG"))
    data[20:24] = bytes(4)

    assert refused(bytes(data)).code == "image_broken"


def test_a_file_of_a_million_empty_parts_is_refused_quickly() -> None:
    data = b"\xff\xd8" + b"\xff\xfe\0\x02" * 1_000_000
    begun = time.perf_counter()

    error = refused(data)

    assert error.code == "image_broken"
    assert time.perf_counter() - begun < 2


def test_an_unknown_format_in_the_settings_is_named() -> None:
    with pytest.raises(Misconfigured, match="'PCX' is not among JPEG"):
        Limits(formats=("JPEG", "PCX"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("?", "application/octet-stream")],
)
def test_each_format_has_its_media_type(name: str, expected: str) -> None:
    assert media_type(name) == expected


# --- squares -------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_square_has_the_shape_the_network_wants(name: str) -> None:
    pixels = square(pictures.encoded(pictures.photograph(), name))

    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (1632, 1224), (72, 72)])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_fast_decode_of_a_jpeg_is_close_to_the_plain_one(
    size: tuple[int, int], progressive: bool
) -> None:
    image = pictures.photograph(3, *size)
    data = pictures.encoded(image, "JPEG", quality=92, progressive=progressive)

    pixels = square(data)

    plain = exactly(Image.open(io.BytesIO(data)))
    assert decibel(pixels, plain) >= 40


@pytest.mark.parametrize(
    "size", [(1, 5000), (5000, 1), (1, 1), (2, 3), (16_384, 100), (100, 16_384)]
)
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_every_shape_gives_a_square(size: tuple[int, int], name: str) -> None:
    data = pictures.encoded(Image.new("RGB", size, (200, 100, 50)), name)

    pixels = square(data)

    assert pixels.shape == (64, 64, 3)
    assert np.abs(pixels.astype(int) - [200, 100, 50]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_upright(orientation: int, name: str) -> None:
    upright = pictures.quadrants(200, 120)

    pixels = square(pictures.with_orientation(upright, orientation, name))

    assert decibel(pixels, exactly(upright)) > 30


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_thumbnail_is_turned_upright(orientation: int) -> None:
    data = pictures.with_orientation(pictures.quadrants(200, 120), orientation, "JPEG")

    small = Image.open(io.BytesIO(thumbnail(data, 100, LIMITS)))

    assert small.size == (100, 60)
    red, _, _ = np.asarray(small.convert("RGB"), int)[5, 5]
    assert red > 180


def test_broken_exif_does_not_refuse_a_good_picture() -> None:
    junk = b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 50
    data = pictures.encoded(pictures.quadrants(), "JPEG", exif=junk)

    pixels = square(data)

    assert decibel(pixels, exactly(pictures.quadrants())) > 25


def test_transparency_becomes_white() -> None:
    data = pictures.encoded(Image.new("RGBA", (100, 100), (255, 0, 0, 0)), "PNG")

    assert square(data).min() >= WHITE


def test_half_transparent_red_on_white_is_pink() -> None:
    data = pictures.encoded(Image.new("RGBA", (100, 100), (255, 0, 0, 128)), "PNG")

    pixels = square(data)

    assert np.abs(pixels[32, 32].astype(int) - [255, 127, 127]).max() <= 2


def test_the_colour_under_full_transparency_does_not_bleed() -> None:
    image = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    image.paste((0, 200, 0, 255), (0, 0, 100, 200))

    pixels = square(pictures.encoded(image, "PNG")).astype(int)

    # From green to white, green itself only grows: no dark seam in between.
    assert pixels[32, :, 1].min() >= 198


def test_a_palette_with_transparency_is_put_on_white() -> None:
    image = Image.new("P", (100, 100), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (0, 0, 50, 100))
    data = pictures.encoded(image, "PNG", transparency=0)

    pixels = square(data)

    assert pixels[32, 10].tolist() == [0, 0, 255]
    assert pixels[32, 60].min() >= WHITE


def test_a_palette_whose_every_colour_has_its_transparency_is_put_on_white() -> None:
    image = Image.new("P", (100, 100), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    data = pictures.encoded(image, "PNG", transparency=b"\x80\x00")

    assert square(data).min() >= WHITE


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_of_a_png_becomes_white(mode: str) -> None:
    colour = 7 if mode == "L" else (7, 7, 7)
    image = Image.new(mode, (100, 100), colour)

    data = pictures.encoded(image, "PNG", transparency=colour)

    assert square(data).min() >= WHITE


@pytest.mark.parametrize(
    ("mode", "colour", "name", "expected"),
    [
        ("L", 99, "PNG", (99, 99, 99)),
        ("L", 99, "JPEG", (99, 99, 99)),
        ("LA", (99, 255), "PNG", (99, 99, 99)),
        ("LA", (99, 0), "PNG", (255, 255, 255)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("1", 0, "PNG", (0, 0, 0)),
        ("P", 3, "GIF", (3, 3, 3)),
        ("CMYK", (0, 255, 255, 0), "JPEG", (255, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("YCbCr", (76, 85, 255), "JPEG", (254, 0, 0)),
        ("RGBA", (9, 8, 7, 255), "WEBP", (9, 8, 7)),
        ("LAB", (255, 128, 128), "TIFF", (255, 255, 255)),
    ],
)
def test_every_mode_becomes_its_colour(
    mode: str, colour: object, name: str, expected: tuple[int, int, int]
) -> None:
    image = Image.new(mode, (90, 90), colour)  # type: ignore[arg-type]
    if mode == "P":
        image.putpalette([v for grey in range(256) for v in (grey, grey, grey)])

    pixels = square(pictures.encoded(image, name))

    assert np.abs(pixels[32, 32].astype(int) - expected).max() <= 4


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
@pytest.mark.parametrize("value", [0, 257, 32_768, 65_535])
def test_16_bit_grey_is_scaled_and_not_clipped(name: str, value: int) -> None:
    image = Image.fromarray(np.full((90, 90), value, np.uint16))

    pixels = square(pictures.encoded(image, name))

    assert np.abs(pixels.astype(int) - value / 257).max() <= 1


def test_16_bit_colour_is_scaled_and_not_clipped() -> None:
    pixels = square(pictures.png_16_bit_rgb(40_000))

    assert np.abs(pixels.astype(int) - 40_000 / 257).max() <= 1


def test_big_endian_16_bit_grey_is_read_alike() -> None:
    image = Image.frombytes("I;16B", (90, 90), (30_000).to_bytes(2) * 8100)

    pixels = square(pictures.encoded(image, "TIFF"))

    assert np.abs(pixels.astype(int) - 30_000 / 257).max() <= 1


def test_numbers_without_a_range_are_stretched_to_what_there_is() -> None:
    ramp = np.tile(np.linspace(-2.0, 3.0, 90, dtype=np.float32), (90, 1))

    pixels = square(pictures.encoded(Image.fromarray(ramp), "TIFF"))

    assert pixels[32, 0, 0] < 20
    assert pixels[32, 63, 0] > 235


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(name: str) -> None:
    first, *others = (Image.new("RGB", (80, 80), c) for c in ("red", "blue", "lime"))
    data = pictures.encoded(first, name, save_all=True, append_images=others)

    pixels = square(data)

    assert np.abs(pixels[32, 32].astype(int) - [255, 0, 0]).max() <= 4


def test_a_camera_file_of_several_pictures_gives_its_first() -> None:
    first, second = pictures.quadrants(), pictures.photograph()
    data = pictures.encoded(first, "MPO", save_all=True, append_images=[second])

    assert header(data).format == "JPEG"
    assert decibel(square(data), exactly(first)) > 25


def test_a_jpeg_of_a_thousand_scans_is_refused_before_it_is_decoded() -> None:
    data = pictures.jpeg_of_many_scans(1000)

    with pytest.raises(BadImage, match="scans") as caught:
        square(data)

    assert caught.value.code == "image_broken"


def fuzz_seeds() -> list[bytes]:
    image = pictures.photograph(width=160, height=120)
    return [
        pictures.encoded(image, "JPEG"),
        pictures.encoded(image, "JPEG", progressive=True),
        pictures.encoded(image.convert("CMYK"), "JPEG"),
        pictures.with_orientation(image, 6, "JPEG"),
        pictures.encoded(image, "PNG"),
        pictures.encoded(image.quantize(), "PNG"),
        pictures.encoded(image.convert("RGBA"), "WEBP", lossless=True),
        pictures.encoded(image, "WEBP"),
        pictures.encoded(image, "GIF"),
        pictures.with_orientation(image, 6, "PNG"),
    ]


@pytest.mark.parametrize("act", [square, lambda data: thumbnail(data, 64, LIMITS)])
def test_300_damaged_files_raise_nothing_but_bad_image(
    act: Callable[[bytes], object],
) -> None:
    seeds = fuzz_seeds()
    codes = set()

    for seed in range(300):
        data = pictures.mutated(seeds[seed // 3 % len(seeds)], seed)
        begun = time.perf_counter()
        try:
            act(data)
        except BadImage as error:
            codes.add(error.code)
        assert time.perf_counter() - begun < 5, f"seed {seed} hung"

    assert codes >= {"image_broken", "image_truncated", "image_unsupported"}


# --- thumbnails ----------------------------------------------------------------------


def test_a_thumbnail_fits_the_side_and_keeps_the_shape() -> None:
    data = pictures.jpeg(width=1600, height=1200)

    small = Image.open(io.BytesIO(thumbnail(data, 256, LIMITS)))

    assert small.size == (256, 192)
    assert small.format == "JPEG"


def test_a_small_picture_is_not_enlarged() -> None:
    data = pictures.jpeg(width=40, height=30)

    small = Image.open(io.BytesIO(thumbnail(data, 256, LIMITS)))

    assert small.size == (40, 30)


def test_a_very_long_picture_keeps_at_least_one_pixel() -> None:
    data = pictures.encoded(Image.new("RGB", (1, 5000)), "PNG")

    small = Image.open(io.BytesIO(thumbnail(data, 256, LIMITS)))

    assert small.size == (1, 256)


def test_a_thumbnail_carries_nothing_of_the_original_but_its_pixels() -> None:
    data = pictures.with_orientation(pictures.quadrants(), 6, "JPEG")

    small = thumbnail(data, 100, LIMITS)

    assert b"Lookalike Test Camera" in data
    assert b"Lookalike" not in small
    assert b"Exif" not in small


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_a_thumbnail_is_made_of_every_mode(mode: str) -> None:
    name = "TIFF" if mode == "CMYK" else "PNG"
    data = pictures.encoded(Image.new(mode, (300, 200)), name)

    small = Image.open(io.BytesIO(thumbnail(data, 100, WITH_TIFF)))

    assert small.size == (100, 67)


def test_a_thumbnail_of_a_truncated_file_is_refused() -> None:
    with pytest.raises(BadImage) as caught:
        thumbnail(pictures.jpeg()[:5000], 100, LIMITS)

    assert caught.value.code == "image_truncated"
