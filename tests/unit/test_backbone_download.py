from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lookalike.backbones.download import Remote, check_digest, download
from lookalike.errors import LookalikeError, Misconfigured, Unavailable
from servers.files import FileServer, serving

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(CONTENT) as running:
        yield running


def remote(server: FileServer, sha256: str = DIGEST) -> Remote:
    return Remote(f"{server.url}/weights.pth", sha256, "Bring it by hand.")


def fetched(
    server: FileServer, target: Path, sha256: str = DIGEST
) -> list[tuple[int, int | None]]:
    seen: list[tuple[int, int | None]] = []
    download(
        remote(server, sha256),
        target,
        progress=lambda done, total: seen.append((done, total)),
        pause_seconds=0,
    )
    return seen


def test_a_file_arrives_whole_and_its_progress_is_told(
    server: FileServer, tmp_path: Path
) -> None:
    target = tmp_path / "new" / "weights.pth"

    seen = fetched(server, target)

    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_the_first_digits_of_a_digest_are_enough(
    server: FileServer, tmp_path: Path
) -> None:
    fetched(server, tmp_path / "w", DIGEST[:8])

    assert (tmp_path / "w").read_bytes() == CONTENT


def test_a_transfer_that_breaks_goes_on_where_it_stopped(
    server: FileServer, tmp_path: Path
) -> None:
    server.cuts = [300_000, 200_000]

    fetched(server, tmp_path / "w")

    assert (tmp_path / "w").read_bytes() == CONTENT
    assert server.asked == ["", "bytes=300000-", "bytes=500000-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(
    server: FileServer, tmp_path: Path
) -> None:
    server.cuts = [300_000, 0, 0, 0, 0]
    with pytest.raises(Unavailable, match="cannot be downloaded"):
        fetched(server, tmp_path / "w")
    assert (tmp_path / "w.part").stat().st_size == 300_000

    seen = fetched(server, tmp_path / "w")

    assert seen[0] == (300_000, len(CONTENT))
    assert (tmp_path / "w").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_of_it_again(
    server: FileServer, tmp_path: Path
) -> None:
    server.cuts, server.has_ranges = [300_000], False

    fetched(server, tmp_path / "w")

    assert (tmp_path / "w").read_bytes() == CONTENT


def test_a_file_that_was_all_there_but_not_in_place_is_not_fetched_again(
    server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "w.part").write_bytes(CONTENT)

    fetched(server, tmp_path / "w")

    assert server.asked == [f"bytes={len(CONTENT)}-"]
    assert (tmp_path / "w").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"of another file", CONTENT + b"and more"])
def test_what_was_left_of_another_file_is_dropped(
    server: FileServer, tmp_path: Path, left: bytes
) -> None:
    (tmp_path / "w.part").write_bytes(left)

    fetched(server, tmp_path / "w")

    assert (tmp_path / "w").read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_is_left(
    server: FileServer, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match="Bring it by hand") as caught:
        fetched(server, tmp_path / "w", "0" * 64)

    assert caught.value.code == "checksum_mismatch"
    assert DIGEST in caught.value.detail
    assert "0" * 64 in caught.value.detail
    assert list(tmp_path.iterdir()) == []


def test_a_passing_failure_of_the_server_is_waited_out(
    server: FileServer, tmp_path: Path
) -> None:
    server.statuses = [503, 429]

    fetched(server, tmp_path / "w")

    assert (tmp_path / "w").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, Misconfigured, "download_refused"),
        (403, Misconfigured, "download_refused"),
        (500, Unavailable, "download_failed"),
    ],
)
def test_a_lasting_refusal_names_the_address_and_what_to_do(
    server: FileServer,
    tmp_path: Path,
    status: int,
    kind: type[LookalikeError],
    code: str,
) -> None:
    server.statuses = [status] * 9

    with pytest.raises(kind, match=f"{status}.*Bring it by hand") as caught:
        fetched(server, tmp_path / "w")

    assert caught.value.code == code
    assert server.url in caught.value.detail


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # never listens, so connections are refused
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/w"

        with pytest.raises(Unavailable, match="Bring it by hand") as caught:
            download(
                Remote(address, DIGEST, "Bring it by hand."),
                tmp_path / "w",
                progress=lambda done, total: None,
                pause_seconds=0,
            )

    assert caught.value.code == "download_failed"


@pytest.mark.parametrize("address", ["no address", "ftp://host/file", "http://[::1/w"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(LookalikeError, match="Bring it by hand"):
        download(
            Remote(address, DIGEST, "Bring it by hand."),
            tmp_path / "w",
            progress=lambda done, total: None,
            pause_seconds=0,
        )


def test_a_folder_that_cannot_be_written_is_named(
    server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(Misconfigured, match=r"file/w cannot be written"):
        fetched(server, tmp_path / "file" / "w")


def test_a_file_brought_by_hand_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(CONTENT)
    known = Remote("http://host/w", DIGEST, "Bring it by hand.")

    check_digest(path, known)
    path.write_bytes(CONTENT[:-1])

    with pytest.raises(Misconfigured, match="Bring it by hand"):
        check_digest(path, known)
