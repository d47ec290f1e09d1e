"""Files by HTTP that are known by their SHA-256, resumed where they broke off."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from lookalike.backbones import digest_of_file
from lookalike.errors import LookalikeError, Misconfigured, Unavailable

ATTEMPTS = 4  # in a row that bring nothing
TIMEOUT = httpx.Timeout(30)  # of a connection, and of each silence within the answer

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all if known


@dataclass(frozen=True)
class Remote:
    """A file that is published somewhere.

    ``sha256`` is the digest, or its first digits where no more is known. ``otherwise``
    is a sentence that says how to go on if the file cannot be had from there.
    """

    url: str
    sha256: str
    otherwise: str


def download(
    remote: Remote, target: Path, *, progress: Progress, pause_seconds: float = 1
) -> None:
    """Bring a file here; ``target`` appears only whole and with the right digest.

    A target that is there already, and right, is left as it is. What has come so far
    is in ``target`` with ``.part`` behind its name; a broken transfer goes on from
    there, in this call or in the next.

    Raises:
        Unavailable: the address cannot be reached, or breaks off again and again;
            ``download_failed``.
        Misconfigured: there is no such file (``download_refused``), it is another one
            (``checksum_mismatch``), or it cannot be written here.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and _matches(target, remote.sha256):
            return
        is_resumed = part.exists()
        _Transfer(remote, part, progress, pause_seconds).run()
        if is_resumed and not _matches(part, remote.sha256):
            # What was left there may have been of another file: once more, from zero.
            part.unlink()
            _Transfer(remote, part, progress, pause_seconds).run()
        check_digest(part, remote)
        part.replace(target)
    except LookalikeError as error:
        if error.code == "checksum_mismatch":
            part.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise Misconfigured(
            f"{target} cannot be written: {error.strerror or error}"
        ) from error


def check_digest(path: Path, remote: Remote) -> None:
    """Return if a file is the published one.

    Raises:
        Misconfigured: it is another one; ``checksum_mismatch``.
        OSError: it cannot be read.
    """
    if _matches(path, remote.sha256):
        return
    raise Misconfigured(
        f"{path} is not the file that {remote.url} should be: its SHA-256 is "
        f"{digest_of_file(path)} and should begin with {remote.sha256}. "
        f"{remote.otherwise}",
        code="checksum_mismatch",
    )


def _matches(path: Path, sha256: str) -> bool:
    return digest_of_file(path).startswith(sha256)


class _Transfer:
    """Brings all bytes of a file, however often the connection breaks."""

    def __init__(
        self, remote: Remote, part: Path, progress: Progress, pause_seconds: float
    ) -> None:
        self._remote = remote
        self._part = part
        self._progress = progress
        self._pause_seconds = pause_seconds

    def run(self) -> None:
        idle = 0
        with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
            while True:
                before = self._size()
                try:
                    self._attempt(client, before)
                except (httpx.TransportError, Unavailable) as error:
                    idle = 0 if self._size() > before else idle + 1
                    if idle >= ATTEMPTS:
                        raise self._failed(error) from error
                    time.sleep(self._pause_seconds * idle)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    raise self._failed(error) from error
                else:
                    return

    def _attempt(self, client: httpx.Client, start: int) -> None:
        # Compressed, the bytes could neither be counted nor gone on with.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with client.stream("GET", self._remote.url, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                if response.headers.get("Content-Range") == f"bytes */{start}":
                    return  # all of it is here; the digest tells whether it is right
                self._part.unlink()
                raise Unavailable("there is less of the file than is here already")
            self._check_status(response)
            self._receive(response, start)

    def _check_status(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            return
        if status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
            raise Unavailable(f"it answers {status}")
        raise Misconfigured(
            f"{self._remote.url} answers {status} {response.reason_phrase}. "
            f"{self._remote.otherwise}",
            code="download_refused",
        )

    def _receive(self, response: httpx.Response, start: int) -> None:
        described = response.headers.get("Content-Range", "")
        place = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", described)
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            start = 0  # a server without ranges sends all of it
        elif place is None or int(place[1]) != start:
            self._part.unlink(missing_ok=True)
            raise Unavailable("it answers with another part than was asked for")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        with self._part.open("r+b" if start else "wb") as file:
            file.seek(start)
            done = start
            self._progress(done, total)
            for piece in response.iter_raw():
                file.write(piece)
                done += len(piece)
                self._progress(done, total)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _failed(self, error: Exception) -> Unavailable:
        reason = str(error) or type(error).__name__
        return Unavailable(
            f"{self._remote.url} cannot be downloaded: {reason}. "
            f"{self._remote.otherwise}",
            code="download_failed",
        )
