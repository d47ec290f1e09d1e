"""Gunicorn's configuration: what its parent process imports.

A process that answers requests is made by fork, also after one has died. With these
modules in its parent it can answer some tenths of a second later; importing them takes
seconds. Modules only: clients do not survive a fork, and are made in each process by
``lookalike.api.wsgi``. ONNX Runtime is left out, because it starts a thread when it is
imported.
"""

from __future__ import annotations

import importlib

MODULES = (
    "lookalike.api",
    "lookalike.bootstrap",
    "lookalike.backends.triton",
    "milvus_lite",  # pymilvus imports it, whatever it connects to
)

for _module in MODULES:
    importlib.import_module(_module)
