"""What can be checked of a server, from outside."""

from __future__ import annotations

from collections.abc import Iterator

from lookalike.cli.checks import Check, Verdict
from lookalike.client import DEFAULT_URL, Client, CollectionInfo
from lookalike.errors import LookalikeError, Unavailable
from lookalike.interfaces import ImageState

# Milvus Lite compares a query with every vector: 4 ms at 10,000, 28 ms at 100,000.
EMBEDDED_IMAGES = 100_000


def server_checks(url: str | None) -> Iterator[Check]:
    """The parts and the collections of a server.

    Without an address, the usual one is tried, and its silence is no failure.
    """
    with Client(url or DEFAULT_URL) as client:
        try:
            parts = client.parts()
        except Unavailable as error:
            if url is None:
                found = f"none at {DEFAULT_URL}"
                yield Check("server", Verdict.OK, found)
            else:
                yield Check("server", Verdict.FAIL, "no answer", error.detail)
            return
        except LookalikeError as error:
            advice = "Name another address with --url." if url else ""
            verdict = Verdict.FAIL if url else Verdict.WARN
            yield Check("server", verdict, error.detail, advice)
            return
        yield Check("server", Verdict.OK, client.url)
        for name, part in parts.items():
            yield _part(name, bool(part.get("ok")), part)
        try:
            yield from _collections(client)
        except LookalikeError as error:
            yield Check("collections", Verdict.FAIL, error.code, error.detail)


def _part(name: str, is_ok: bool, part: object) -> Check:
    known = part if isinstance(part, dict) else {}
    if is_ok:
        return Check(f"server {name}", Verdict.OK, f"{known.get('took_ms', 0):.0f} ms")
    return Check(
        f"server {name}",
        Verdict.FAIL,
        str(known.get("code", "not working")),
        str(known.get("detail", "See the log of the server.")),
    )


def _collections(client: Client) -> Iterator[Check]:
    counted = [client.collection(found.name) for found in client.collections()]
    for found in counted:
        yield _collection(found)
    total = sum(found.counts.get(ImageState.INDEXED, 0) for found in counted)
    yield size_check(total)


def _collection(found: CollectionInfo) -> Check:
    counts = found.counts
    indexed, pending, failed = (
        counts.get(state, 0)
        for state in (ImageState.INDEXED, ImageState.PENDING, ImageState.FAILED)
    )
    words = f"{indexed:,} indexed, {pending:,} pending, {failed:,} failed"
    name = f"collection {found.name}"
    if failed:
        return Check(
            name,
            Verdict.WARN,
            words,
            "Images failed. Their jobs say why: `lookalike jobs list` and `lookalike "
            "jobs show ID`; `lookalike jobs retry ID` tries again what can succeed.",
        )
    return Check(name, Verdict.OK, words)


def size_check(total: int) -> Check:
    """Whether that many images are still right for the embedded index."""
    if total <= EMBEDDED_IMAGES:
        return Check("size", Verdict.OK, f"{total:,} images in all")
    return Check(
        "size",
        Verdict.WARN,
        f"{total:,} images in all",
        f"The embedded index, Milvus Lite, is made for up to about "
        f"{EMBEDDED_IMAGES:,} images; the time of a search grows with their number. "
        f"If this server uses it, set LOOKALIKE_MILVUS_URI to a Milvus server "
        f"(http://HOST:19530) and ingest again.",
    )
