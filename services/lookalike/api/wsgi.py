"""The application for gunicorn: ``gunicorn lookalike.api.wsgi:app``.

It connects when it is imported, so each gunicorn worker must import it for itself:
without ``--preload``, since clients do not survive a fork.
"""

from __future__ import annotations

from lookalike.api import create_app
from lookalike.bootstrap import connect
from lookalike.config import Settings

backends = connect(Settings())
backends.warm_up()
app = create_app(backends)
