"""The kinds of vector index that a collection can ask for, and their parameters.

What each parameter means, and its range: https://milvus.io/docs/index.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lookalike.collections import (
    AUTOMATIC,
    IndexKind,
    IndexSpec,
    nearest,
    shorten,
)
from lookalike.errors import BadRequest

LARGE = 10_000_000  # so many images at 512 numbers are 22 GB of HNSW, 6 GB of IVF_SQ8


@dataclass(frozen=True)
class Range:
    """What a parameter of an index may be, both ends included."""

    least: int
    most: int


PARAMS: Mapping[IndexKind, Mapping[str, Range]] = {
    IndexKind.FLAT: {},
    IndexKind.HNSW: {"M": Range(2, 2_048), "efConstruction": Range(8, 4_096)},
    IndexKind.IVF_FLAT: {"nlist": Range(1, 65_536)},
    IndexKind.IVF_SQ8: {"nlist": Range(1, 65_536)},
    IndexKind.IVF_PQ: {
        "nlist": Range(1, 65_536),
        "m": Range(1, 32_768),
        "nbits": Range(1, 12),
    },
    IndexKind.SCANN: {"nlist": Range(1, 65_536)},
    IndexKind.DISKANN: {},
    IndexKind.GPU_CAGRA: {
        "intermediate_graph_degree": Range(8, 512),
        "graph_degree": Range(8, 512),
    },
}

_DEFAULTS: Mapping[IndexKind, Mapping[str, int]] = {
    IndexKind.HNSW: {"M": 16, "efConstruction": 200},
    # Four times the square root of the 60,000 vectors in a segment of 512 numbers.
    IndexKind.IVF_FLAT: {"nlist": 1_024},
    IndexKind.IVF_SQ8: {"nlist": 1_024},
    IndexKind.IVF_PQ: {"nlist": 1_024, "nbits": 8},
    IndexKind.SCANN: {"nlist": 1_024},
    IndexKind.GPU_CAGRA: {"intermediate_graph_degree": 64, "graph_degree": 32},
}


def check_index(raw: object, dimension: int) -> IndexSpec:
    """The vector index that a new collection asks for.

    Accepts ``{"type": "HNSW", "params": {"M": 32}}``, both optional, and instead of a
    type ``{"images": 5000000}``: how many there are going to be.

    Raises:
        BadRequest: code ``index_invalid``: an unknown kind or parameter, or a value
            out of its range.
    """
    if raw is None:
        return AUTOMATIC
    if not isinstance(raw, Mapping) or not set(raw) <= {"type", "params", "images"}:
        raise _invalid(
            'An index is an object such as {"type": "HNSW", "params": {"M": 32}} or '
            f'{{"images": 5000000}}; got {shorten(raw)}.'
        )
    kind = _kind(raw.get("type"))
    images = raw.get("images")
    if images is not None:
        if kind is not None or isinstance(images, bool) or not isinstance(images, int):
            raise _invalid(
                "'images' is a whole number, given instead of an index 'type'."
            )
        return choose(images)
    params = raw.get("params") or {}
    return IndexSpec(kind, _params(kind, params, dimension))


def choose(images: int) -> IndexSpec:
    """A sensible index for so many images.

    The engine's own up to ten million: on a server HNSW, which scans segments below
    about a thousand rows as they are, on Milvus Lite a scan of everything. Beyond that
    a quarter of the memory matters more than a few milliseconds.
    """
    return AUTOMATIC if images <= LARGE else IndexSpec(IndexKind.IVF_SQ8)


def params_of(
    kind: IndexKind, given: Mapping[str, int], dimension: int
) -> dict[str, int]:
    """The parameters an index is built with: those given, and ours for the others."""
    made = {**_DEFAULTS.get(kind, {}), **given}
    if kind is IndexKind.IVF_PQ and "m" not in made:
        made["m"] = _parts(dimension)
    return made


def unsupported(kind: IndexKind, known: Iterable[IndexKind]) -> BadRequest:
    """The error for a kind of index that this engine does not have."""
    names = sorted(kind.value for kind in known)
    return BadRequest(
        f"This engine has no {kind.value} index; it has {', '.join(names)}.",
        code="index_unsupported",
        extra={"type": kind.value, "supported": names},
    )


def _kind(name: object) -> IndexKind | None:
    if name is None or name == "automatic":
        return None
    known = [kind.value for kind in IndexKind]
    if isinstance(name, str) and name in known:
        return IndexKind(name)
    guess = nearest(name, known) if isinstance(name, str) else None
    hint = f"; did you mean {guess!r}?" if guess else "."
    raise _invalid(
        f"Unknown index type {shorten(name)}{hint} Accepted: automatic, "
        f"{', '.join(known)}.",
        {"nearest": guess, "accepted": ["automatic", *known]},
    )


def _params(kind: IndexKind | None, params: object, dimension: int) -> dict[str, int]:
    ranges = {} if kind is None else PARAMS[kind]
    if not isinstance(params, Mapping):
        raise _invalid(f"Index 'params' are an object; got {shorten(params)}.")
    for name, value in params.items():
        if name not in ranges:
            accepted = ", ".join(ranges) or "none"
            kind_name = "automatic" if kind is None else kind.value
            raise _invalid(
                f"An index of type {kind_name} has no parameter {shorten(name)}; "
                f"accepted: {accepted}."
            )
        allowed = ranges[name]
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not allowed.least <= value <= allowed.most:
            raise _invalid(
                f"Index parameter {name!r} is a whole number from {allowed.least} to "
                f"{allowed.most}; got {shorten(value)}."
            )
    if "m" in params and dimension % params["m"]:
        raise _invalid(
            f"Index parameter 'm' divides the {dimension} numbers of a vector; got "
            f"{params['m']}."
        )
    return dict(params)


def _parts(dimension: int) -> int:
    """Into how many parts a vector is cut for product quantisation, of 8 if it can."""
    return max(part for part in range(1, dimension // 8 + 2) if dimension % part == 0)


def _invalid(detail: str, extra: Mapping[str, object] | None = None) -> BadRequest:
    return BadRequest(detail, code="index_invalid", extra=extra)
