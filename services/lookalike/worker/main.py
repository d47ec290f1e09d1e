"""The Celery app of a worker; ``lookalike worker`` runs it."""

from __future__ import annotations

from lookalike import bootstrap
from lookalike.config import Settings
from lookalike.worker.child import create_worker

app = create_worker(Settings(), bootstrap.connect)
