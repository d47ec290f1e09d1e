"""The application for gunicorn: ``gunicorn lookalike.api.wsgi:app``.

It connects when it is imported, so each gunicorn worker must import it for itself:
without ``--preload``, since clients do not survive a fork.
"""

from __future__ import annotations

import sys

from lookalike.api import create_app
from lookalike.bootstrap import connect
from lookalike.config import Settings

# Threads that come back from inference or a server wait this long for one that runs
# Python to let go. With the default of 5 ms, searches are slow while others upload.
sys.setswitchinterval(0.0005)
backends = connect(Settings())
backends.warm_up()
app = create_app(backends)
