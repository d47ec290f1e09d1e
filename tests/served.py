"""The API of ``api_site`` behind a real port, as the command line meets it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from werkzeug.serving import make_server

from api_site import Site


@contextlib.contextmanager
def served(site: Site) -> Iterator[str]:
    """The address at which a site answers for the time of the block."""
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
