"""Logging: one line for each event, on stderr."""

from __future__ import annotations

import logging
import time

# Libraries that tell an operator nothing below this level.
LEVELS = {
    "celery.app.trace": logging.WARNING,  # a line for every chunk
    "celery.worker.strategy": logging.WARNING,  # another one
    "faiss.loader": logging.WARNING,  # which of its builds fits this processor
    "grpc._server": logging.CRITICAL,  # Milvus Lite; its client is told as well
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
}


class _Lines(logging.Formatter):
    """Time in UTC, level, process, who, what."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


def configure(level: str) -> None:
    """Log to stderr from the given level on; replaces what was configured before."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Lines("%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s")
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name, least in LEVELS.items():
        logging.getLogger(name).setLevel(max(least, logging.root.level))
