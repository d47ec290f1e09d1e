"""The process that embeds images: a Celery app and its one task."""
