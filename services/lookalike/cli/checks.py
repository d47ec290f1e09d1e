"""What can be checked of this machine and its settings."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import features

from lookalike import backbones
from lookalike.cli.settings import load
from lookalike.config import Settings
from lookalike.errors import LookalikeError, Misconfigured
from lookalike.interfaces import Embedder

PACKAGES = ("lookalike", "flask", "numpy", "onnxruntime", "pillow", "pymilvus")
EMBEDDED_PACKAGES = ("milvus-lite", "sqlalchemy", "celery", "tritonclient")
FREE_BYTES = 2 * 2**30  # below this an ingest of some size soon stops
PROBE_SECONDS = 3.0
CPU_INFO = Path("/proc/cpuinfo")
MIB, GIB = 2**20, 2**30


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, what was found, and what to do about it."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def here() -> Iterator[Check]:
    """Everything that can be checked without a server."""
    yield python()
    yield packages()
    yield codecs()
    yield cpu()
    yield sqlite()
    try:
        settings = load()
    except Misconfigured as error:
        yield Check("settings", Verdict.FAIL, "not valid", error.detail)
        return
    yield Check("settings", Verdict.OK, _layout(settings))
    yield from backbone(settings)
    yield data_folder(settings.data_dir)
    yield from servers(settings)


def _layout(settings: Settings) -> str:
    parts = {
        "embedding": "in this process" if settings.is_embedded_embedder else "Triton",
        "index": "Milvus Lite" if settings.is_embedded_index else "a Milvus server",
        "queue": "threads" if settings.is_embedded_queue else "Celery",
        "ledger": "a database server" if _database(settings) else "SQLite",
    }
    return ", ".join(f"{name}: {kind}" for name, kind in parts.items())


def _database(settings: Settings) -> str:
    url = settings.database_url.get_secret_value()
    return "" if url.startswith("sqlite") else url


# --- the machine ---------------------------------------------------------------------


def python() -> Check:
    """The interpreter."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", Verdict.OK, found)  # an older one cannot install this


def packages(names: tuple[str, ...] = PACKAGES + EMBEDDED_PACKAGES) -> Check:
    """The versions of the main packages."""
    versions, missing = [], []
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    found = ", ".join(versions)
    if not missing:
        return Check("packages", Verdict.OK, found)
    advice = f"Not installed: {', '.join(missing)}. Install Lookalike again."
    return Check("packages", Verdict.FAIL, found, advice)


def codecs() -> Check:
    """What Pillow can decode, and how fast."""
    missing = [name for name in ("jpg", "zlib", "webp") if not features.check(name)]
    versions = {
        "JPEG": features.version("jpg"),
        "WebP": features.version("webp"),
    }
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    if missing:
        advice = f"Pillow was built without {', '.join(missing)}. Install its wheel."
        return Check("codecs", Verdict.FAIL, found, advice)
    if not features.check_feature("libjpeg_turbo"):
        advice = "Pillow has no libjpeg-turbo and decodes slowly. Install its wheel."
        return Check("codecs", Verdict.WARN, found, advice)
    return Check("codecs", Verdict.OK, found.replace("JPEG", "JPEG turbo"))


def cpu(info: Path = CPU_INFO) -> Check:
    """Whether the processor has what makes the bundled network fast."""
    cores = os.cpu_count() or 1
    try:
        flags = set(info.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return Check("processor", Verdict.OK, f"{cores} cores, {platform.machine()}")
    if flags & {"avx512_vnni", "avx_vnni", "asimddp"}:
        return Check("processor", Verdict.OK, f"{cores} cores, int8 instructions")
    return Check(
        "processor",
        Verdict.WARN,
        f"{cores} cores, no AVX512-VNNI",
        "An int8 network gains little here; everything works, embedding is slower.",
    )


def sqlite() -> Check:
    """Whether SQLite keeps what was committed, and lets others read meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "probe.sqlite3")
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        finally:
            connection.close()
    found = f"{sqlite3.sqlite_version}, journal {str(mode).upper()}"
    if sqlite3.sqlite_version_info < (3, 35):
        advice = "SQLite 3.35 or newer is needed; a newer Python brings one."
        return Check("sqlite", Verdict.FAIL, found, advice)
    if str(mode).lower() != "wal":
        advice = "The temporary folder cannot hold a WAL journal; use a local disk."
        return Check("sqlite", Verdict.WARN, found, advice)
    return Check("sqlite", Verdict.OK, found)


# --- what the settings name ----------------------------------------------------------


def backbone(settings: Settings) -> Iterator[Check]:
    """Whether the network is there, is the right one, and answers."""
    try:
        found = backbones.find(settings.backbone, [settings.backbones])
    except LookalikeError as error:
        yield Check("backbone", Verdict.FAIL, settings.backbone, error.detail)
        return
    size = found.model_path.stat().st_size / MIB
    words = f"{found.name} {found.version}, {found.dimension} numbers, {size:.0f} MiB"
    yield Check("backbone", Verdict.OK, f"{words}, digest right")
    # Here, because these imports take a while.
    from lookalike.bootstrap import open_embedder

    yield inference(open_embedder(settings, found))


def inference(embedder: Embedder) -> Check:
    """One real picture through the network, wherever that is."""
    side = embedder.geometry.side
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    picture = np.stack([np.add.outer(ramp // 2, ramp // 2)] * 3, axis=-1)[None]
    try:
        embedder.embed(picture)
        started = time.perf_counter()
        embedder.embed(picture)
    except LookalikeError as error:
        return Check("inference", Verdict.FAIL, error.code, error.detail)
    took = (time.perf_counter() - started) * 1000
    return Check("inference", Verdict.OK, f"{took:.1f} ms for one picture")


def data_folder(folder: Path) -> Check:
    """Whether the data folder can be written to, and how much fits in."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        advice = "Give another with --data-dir or LOOKALIKE_DATA_DIR."
        return Check("data folder", Verdict.FAIL, f"{folder}: {error.strerror}", advice)
    words = f"{folder}, {free / GIB:.1f} GiB free"
    if free < FREE_BYTES:
        advice = "The disk is nearly full: ingesting stops when originals do not fit."
        return Check("data folder", Verdict.WARN, words, advice)
    new = "" if folder.exists() else " (made on first use)"
    return Check("data folder", Verdict.OK, words + new)


def servers(settings: Settings) -> Iterator[Check]:
    """Whether each server that the settings name answers."""
    if not settings.is_embedded_queue:
        # Here, because only a cluster needs that client.
        from lookalike.cli.redis_checks import redis_checks

        yield from redis_checks(settings)
    if not settings.is_embedded_index:
        yield probe("milvus", "LOOKALIKE_MILVUS_URI", lambda: _ask_milvus(settings))
    if _database(settings):
        yield probe(
            "database", "LOOKALIKE_DATABASE_URL", lambda: _ask_database(settings)
        )


def probe(name: str, setting: str, ask: Callable[[], str]) -> Check:
    """Whether a server answers; ``ask`` gives back what it says of itself."""
    try:
        return Check(name, Verdict.OK, ask())
    except Exception as error:  # each client has errors of its own
        said = str(error).strip().splitlines()
        cause = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
        return Check(
            name, Verdict.FAIL, cause[:200], f"Start it, or correct {setting}."
        )


def _ask_milvus(settings: Settings) -> str:
    from pymilvus import MilvusClient

    client = MilvusClient(
        settings.milvus_uri,
        token=settings.milvus_token.get_secret_value(),
        timeout=PROBE_SECONDS,
    )
    try:
        version = client.get_server_version(timeout=PROBE_SECONDS)
    finally:
        client.close()
    return f"Milvus {version} at {place(settings.milvus_uri)}"


def _ask_database(settings: Settings) -> str:
    import sqlalchemy

    engine = sqlalchemy.create_engine(settings.ledger_url, pool_timeout=PROBE_SECONDS)
    try:
        with engine.connect() as connection:
            numbers = connection.dialect.server_version_info or ()
            where = f"{engine.url.host}:{engine.url.port or 'default port'}"
    finally:
        engine.dispose()
    return f"{engine.dialect.name} {'.'.join(map(str, numbers))} at {where}"


def place(url: str) -> str:
    """Host and port of a URL, without its password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
