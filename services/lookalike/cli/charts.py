"""A report on searches as one picture: SVG, written by hand, for any browser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from lookalike.evaluate import Band, ByLabel, Report

WIDTH, HEIGHT = 340, 220  # of one panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 34, 40  # around what is drawn in it
# Told apart by everyone, also in print (Okabe and Ito, Color Universal Design).
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#e69f00", "#009e73", "#777777"

MOST_LETTERS = 16  # of a field's name

Points = Sequence[tuple[float, float]]  # 0 to 1, from the lower left


def chart(report: Report) -> str:
    """The report as an SVG document: recall, latency and, with labels, precision."""
    panels = [_recall(report.bands, report.k), _latency(report.bands)]
    if report.labels is not None:
        panels.append(_precision(report.labels, report.k))
        if report.labels.tenths:
            panels.append(_chances(report.labels))
    title = (
        f"{report.collection}: {report.images:,} images, {report.metric}, "
        f"{report.backbone}, {report.made_at:%Y-%m-%d}"
    )
    width, height = WIDTH * len(panels), HEIGHT + 24
    body = [
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(8, 17, title, size=13),
    ]
    for place, panel in enumerate(panels):
        body += [f'<g transform="translate({place * WIDTH},24)">', *panel, "</g>"]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif">\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


# --- panels --------------------------------------------------------------------------


def _recall(bands: Sequence[Band], k: int) -> Iterator[str]:
    low = min(0.9, *(band.recall for band in bands))
    low = 0.0 if low < 0.5 else (0.5 if low < 0.9 else 0.9)
    span = 1 - low
    yield _text(LEFT, 20, f"recall@{k} by what the filter keeps", size=12)
    yield from _axis([(low, 0), ((1 + low) / 2, 0.5), (1, 1)], "{:g}")
    yield from _names(bands)
    for place, band in enumerate(bands):
        height = max(0.0, (band.recall - low) / span)
        yield _bar(place, len(bands), height, BLUE, f"{band.recall:.4f}")


def _latency(bands: Sequence[Band]) -> Iterator[str]:
    most = _rounded_up(max(band.p99_ms for band in bands))
    yield _text(LEFT, 20, "time of a search, ms: p50 orange, p99 grey", size=12)
    yield from _axis([(0, 0), (most / 2, 0.5), (most, 1)], "{:g}")
    yield from _names(bands)
    for place, band in enumerate(bands):
        told = f"p50 {band.p50_ms:.1f} ms, p99 {band.p99_ms:.1f} ms"
        yield _bar(place, len(bands), band.p99_ms / most, GREY, told)
        yield _bar(place, len(bands), band.p50_ms / most, ORANGE, told)


def _precision(labels: ByLabel, k: int) -> Iterator[str]:
    values = {
        "precision@1": labels.precision_at_1,
        f"precision@{k}": labels.precision_at_k,
        "mAP": labels.mean_average_precision,
    }
    yield _text(LEFT, 20, f"by {_short(labels.label)}", size=12)
    yield from _axis([(0, 0), (0.5, 0.5), (1, 1)], "{:g}")
    for place, (name, value) in enumerate(values.items()):
        yield _bar(place, len(values), value, GREEN, f"{value:.3f}")
        x = _x((place + 0.5) / len(values))
        yield _text(x, HEIGHT - BOTTOM + 16, name, middle=True)
        yield _text(x, _y(value) - 4, f"{value:.3f}", middle=True)


def _chances(labels: ByLabel) -> Iterator[str]:
    title = f"same {_short(labels.label)}: stated chance across, seen upwards"
    yield _text(LEFT, 20, title, size=12)
    yield from _axis([(0, 0), (0.5, 0.5), (1, 1)], "{:g}")
    yield _line([(0, 0), (1, 1)], GREY)
    yield _line([(one.stated, one.seen) for one in labels.tenths], BLUE)
    for tenth in labels.tenths:
        yield (
            f'<circle cx="{_x(tenth.stated):.1f}" cy="{_y(tenth.seen):.1f}" r="3.5" '
            f'fill="{BLUE}"><title>stated {tenth.stated:.3f}, seen {tenth.seen:.3f}'
            "</title></circle>"
        )


# --- what panels are made of ---------------------------------------------------------


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axis(marks: Sequence[tuple[float, float]], form: str) -> Iterator[str]:
    """Lines across at heights of 0 to 1, each with its value."""
    for value, height in marks:
        yield _line([(0, height), (1, height)], "#dddddd")
        yield _text(LEFT - 5, _y(height) + 4, form.format(value), end=True)


def _names(bands: Sequence[Band]) -> Iterator[str]:
    for place, band in enumerate(bands):
        name = "all" if band.wanted == 1 else f"{band.share * 100:.2g} %"
        x = _x((place + 0.5) / len(bands))
        yield _text(x, HEIGHT - BOTTOM + 16, name, middle=True)


def _bar(place: int, places: int, height: float, colour: str, told: str) -> str:
    left = _x((place + 0.2) / places)
    width = _x((place + 0.8) / places) - left
    return (
        f'<rect x="{left:.1f}" y="{_y(height):.1f}" width="{width:.1f}" '
        f'height="{_y(0) - _y(height):.1f}" fill="{colour}"><title>{escape(told)}'
        "</title></rect>"
    )


def _line(points: Points, colour: str) -> str:
    drawn = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 11,
    middle: bool = False,
    end: bool = False,
) -> str:
    anchor = "middle" if middle else "end" if end else "start"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _short(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else name[: MOST_LETTERS - 1] + "…"


def _rounded_up(value: float) -> float:
    """The least of 1, 2 and 5 times a power of ten that is not less."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    while power >= value and power > 1e-3:
        power /= 10
    return next((power * one for one in (1, 2, 5, 10) if power * one >= value), value)
