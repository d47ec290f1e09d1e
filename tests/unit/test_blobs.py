from __future__ import annotations

import errno
import hashlib
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lookalike.backends.blobs import (
    LEFTOVER_SECONDS,
    SPOOL_BYTES,
    DirectoryBlobs,
    StagedFile,
)
from lookalike.collections import Team
from lookalike.errors import StorageFull, StorageUnavailable
from lookalike.interfaces import BlobStore, Digest

TEAM = Team("default")
DATA = bytes(range(256)) * 500
DIGEST = Digest(hashlib.sha256(DATA).hexdigest())


class WatchedSync:
    """Does not sync, but notes what was synced and which originals were there then."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: list[tuple[Path, list[str]]] = []

    def __call__(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self.seen.append((path, originals(self.root)))

    @property
    def paths(self) -> list[Path]:
        return [path for path, _ in self.seen]


class FailingSync:
    """A disk that says an error at every sync."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, descriptor: int) -> None:
        raise OSError(self.number, os.strerror(self.number))


def originals(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*/??/*"))


def incoming(root: Path) -> list[Path]:
    return list(root.glob("*/incoming/*"))


def staged(blobs: DirectoryBlobs, data: bytes = DATA, team: Team = TEAM) -> StagedFile:
    blob = blobs.stage(team)
    blob.file.write(data)
    return blob


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "originals")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "originals"


def test_what_is_kept_can_be_read(blobs: DirectoryBlobs) -> None:
    store: BlobStore = blobs

    store.keep([staged(blobs)])

    assert store.read(TEAM, DIGEST) == DATA


def test_an_original_lies_under_its_digest(blobs: DirectoryBlobs, root: Path) -> None:
    blobs.keep([staged(blobs)])

    path = root / "default" / DIGEST[:2] / DIGEST
    assert path.read_bytes() == DATA
    assert incoming(root) == []


def test_the_digest_is_that_of_all_bytes_however_they_were_written(
    blobs: DirectoryBlobs,
) -> None:
    blob = blobs.stage(TEAM)
    for start in range(0, len(DATA), 777):
        blob.file.write(DATA[start : start + 777])

    assert blob.digest() == DIGEST


def test_the_digest_is_right_after_writing_over_what_was_there(
    blobs: DirectoryBlobs,
) -> None:
    blob = staged(blobs, b"x" * 100 + DATA[100:])
    blob.digest()
    blob.file.seek(0)
    blob.file.write(DATA[:100])

    assert blob.digest() == DIGEST


def test_the_digest_is_right_after_cutting_the_file(blobs: DirectoryBlobs) -> None:
    blob = staged(blobs, DATA + b"more")
    blob.file.truncate(len(DATA))

    assert blob.digest() == DIGEST


def test_a_staged_file_can_be_read_back_and_measured(blobs: DirectoryBlobs) -> None:
    blob = staged(blobs)

    length = blob.file.seek(0, io.SEEK_END)
    blob.file.seek(256)
    part = blob.file.read(4)

    assert length == len(DATA)
    assert part == DATA[:4]


def test_reading_in_between_does_not_disturb_the_writing(blobs: DirectoryBlobs) -> None:
    blob = staged(blobs, DATA[:1000])
    blob.file.seek(0)
    blob.file.read(10)
    blob.file.seek(0, io.SEEK_END)
    blob.file.write(DATA[1000:])

    assert blob.digest() == DIGEST


def test_a_file_that_was_closed_can_still_be_kept(blobs: DirectoryBlobs) -> None:
    blob = staged(blobs)
    blob.file.close()

    blobs.keep([blob])

    assert blobs.read(TEAM, DIGEST) == DATA


def test_2000_images_may_be_staged_at_once(blobs: DirectoryBlobs) -> None:
    before = len(os.listdir("/proc/self/fd"))

    many = [staged(blobs, bytes([i % 256]) * 10) for i in range(2000)]

    assert len(os.listdir("/proc/self/fd")) <= before + 1
    for blob in many:
        blob.discard()


def test_a_small_picture_is_not_written_before_it_is_kept(
    blobs: DirectoryBlobs, root: Path
) -> None:
    blob = staged(blobs, DATA[:SPOOL_BYTES])
    blob.file.seek(0)

    assert blob.file.read() == DATA[:SPOOL_BYTES]
    assert blob.size() == SPOOL_BYTES
    assert incoming(root) == []


@pytest.mark.parametrize("length", [0, 1, SPOOL_BYTES, SPOOL_BYTES + 1, len(DATA)])
def test_a_picture_of_any_length_is_kept_whole(
    blobs: DirectoryBlobs, length: int
) -> None:
    blob = staged(blobs, DATA[:length])

    blobs.keep([blob])

    assert blobs.read(TEAM, blob.digest()) == DATA[:length]


def test_a_discarded_blob_leaves_nothing(blobs: DirectoryBlobs, root: Path) -> None:
    blob = staged(blobs)

    blob.discard()
    blob.discard()

    assert incoming(root) == []
    assert originals(root) == []


def test_discarding_what_was_kept_does_nothing(blobs: DirectoryBlobs) -> None:
    blob = staged(blobs)
    blobs.keep([blob])

    blob.discard()

    assert blobs.read(TEAM, DIGEST) == DATA


def test_each_file_is_synced_before_any_is_renamed_and_each_folder_after(
    root: Path,
) -> None:
    sync = WatchedSync(root)
    blobs = DirectoryBlobs(root, fsync=sync)
    several = [staged(blobs, bytes([number]) * 100) for number in range(5)]
    files = {blob.path for blob in several}
    digests = sorted(blob.digest() for blob in several)
    sync.seen.clear()

    blobs.keep(several)

    before, after = sync.seen[:5], sync.seen[5:]
    assert {path for path, _ in before} == files
    assert all(there == [] for _, there in before)
    assert all(there == digests for _, there in after)
    folders = {path for path, _ in after}
    for digest in digests:
        assert {root / "default" / digest[:2], root / "default"} <= folders


def test_a_new_folder_of_a_team_is_synced_into_its_parents(tmp_path: Path) -> None:
    sync = WatchedSync(tmp_path)

    DirectoryBlobs(tmp_path / "a" / "b", fsync=sync).stage(TEAM).discard()

    assert sync.paths == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_what_is_there_already_is_not_written_again(root: Path) -> None:
    sync = WatchedSync(root)
    blobs = DirectoryBlobs(root, fsync=sync)
    blobs.keep([staged(blobs)])
    path = root / "default" / DIGEST[:2] / DIGEST
    written = path.stat().st_ino
    sync.seen.clear()

    blobs.keep([staged(blobs)])

    assert path.stat().st_ino == written
    assert incoming(root) == []
    # Its folder is synced all the same: the first writer may not have come to that.
    assert sync.paths == [path.parent]


def test_a_file_cut_short_by_other_hands_is_replaced(
    blobs: DirectoryBlobs, root: Path
) -> None:
    blobs.keep([staged(blobs)])
    path = root / "default" / DIGEST[:2] / DIGEST
    path.write_bytes(DATA[:10])

    blobs.keep([staged(blobs)])

    assert blobs.read(TEAM, DIGEST) == DATA


def test_the_same_bytes_twice_in_a_batch_are_kept_once(
    blobs: DirectoryBlobs, root: Path
) -> None:
    blobs.keep([staged(blobs), staged(blobs)])

    assert originals(root) == [DIGEST]
    assert incoming(root) == []


def test_the_same_bytes_from_many_threads_end_as_one_file(
    blobs: DirectoryBlobs, root: Path
) -> None:
    def keep(_: int) -> bytes:
        blobs.keep([staged(blobs), staged(blobs, b"other")])
        return blobs.read(TEAM, DIGEST)

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(keep, range(40)))

    assert read == [DATA] * 40
    assert len(originals(root)) == 2
    assert incoming(root) == []


def test_teams_do_not_share_originals(blobs: DirectoryBlobs) -> None:
    blobs.keep([staged(blobs, team=Team("one"))])

    with pytest.raises(StorageUnavailable):
        blobs.read(Team("two"), DIGEST)


def test_keeping_nothing_does_nothing(blobs: DirectoryBlobs, root: Path) -> None:
    blobs.keep([])

    assert originals(root) == []


@pytest.mark.parametrize(
    "team", ["", "..", "../x", "a/b", ".hidden", "a\0b", "x" * 300]
)
def test_a_team_cannot_name_another_folder(blobs: DirectoryBlobs, team: str) -> None:
    with pytest.raises(ValueError, match="not a team"):
        blobs.stage(Team(team))


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_only_a_digest_names_an_original(blobs: DirectoryBlobs, digest: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        blobs.read(TEAM, Digest(digest))


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden"])
def test_only_a_plain_name_is_cached(blobs: DirectoryBlobs, name: str) -> None:
    with pytest.raises(ValueError, match="not a cache name"):
        blobs.cache(TEAM, name, b"")


def test_a_missing_original_is_a_storage_error(blobs: DirectoryBlobs) -> None:
    with pytest.raises(StorageUnavailable) as caught:
        blobs.read(TEAM, DIGEST)

    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(root: Path, number: int) -> None:
    DirectoryBlobs(root).stage(TEAM).discard()
    blobs = DirectoryBlobs(root, fsync=FailingSync(number))

    with pytest.raises(StorageFull, match="full") as caught:
        blobs.keep([staged(blobs)])

    assert caught.value.code == "storage_full"
    assert originals(root) == []


def test_a_failing_disk_keeps_nothing_half(root: Path) -> None:
    DirectoryBlobs(root).stage(TEAM).discard()
    blobs = DirectoryBlobs(root, fsync=FailingSync(errno.EIO))
    several = [staged(blobs, bytes([number])) for number in range(20)]

    with pytest.raises(StorageUnavailable) as caught:
        blobs.keep(several)

    assert caught.value.code == "storage_unavailable"
    assert originals(root) == []
    for blob in several:
        blob.discard()
    assert incoming(root) == []


def test_writing_to_a_folder_that_went_away_is_a_storage_error(
    blobs: DirectoryBlobs, root: Path
) -> None:
    blob = staged(blobs)
    blob.path.unlink()

    with pytest.raises(StorageUnavailable):
        blob.file.write(b"x" * 100_000)

    blob.discard()


def test_a_root_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StorageUnavailable):
        DirectoryBlobs(tmp_path / "file")


def test_what_a_crash_left_is_swept_after_a_day_and_not_before(
    blobs: DirectoryBlobs, root: Path
) -> None:
    old, young = staged(blobs), staged(blobs)
    old.file.flush()
    young.file.flush()
    day_ago = time.time() - LEFTOVER_SECONDS - 60
    os.utime(old.path, (day_ago, day_ago))

    DirectoryBlobs(root)

    assert incoming(root) == [young.path]
    young.discard()
    old.discard()


def test_a_derived_file_comes_back(blobs: DirectoryBlobs, root: Path) -> None:
    blobs.cache(TEAM, f"{DIGEST}-256.jpg", b"small")

    assert blobs.cached(TEAM, f"{DIGEST}-256.jpg") == b"small"
    assert incoming(root) == []


def test_what_was_never_cached_is_none(blobs: DirectoryBlobs) -> None:
    assert blobs.cached(TEAM, "unknown.jpg") is None


def test_caching_again_replaces(blobs: DirectoryBlobs) -> None:
    blobs.cache(TEAM, "a.jpg", b"one")
    blobs.cache(TEAM, "a.jpg", b"two")

    assert blobs.cached(TEAM, "a.jpg") == b"two"


def test_nothing_is_synced_for_the_cache(root: Path) -> None:
    sync = WatchedSync(root)
    blobs = DirectoryBlobs(root, fsync=sync)
    blobs.stage(TEAM).discard()
    sync.seen.clear()

    blobs.cache(TEAM, "a.jpg", b"one")

    assert sync.seen == []


def test_the_cache_is_no_original(blobs: DirectoryBlobs, root: Path) -> None:
    blobs.cache(TEAM, DIGEST, b"x")

    assert originals(root) == []


def test_a_check_writes_and_leaves_nothing(blobs: DirectoryBlobs, root: Path) -> None:
    blobs.check(TEAM)

    assert incoming(root) == []


def test_a_check_says_that_nothing_can_be_written(
    blobs: DirectoryBlobs, root: Path
) -> None:
    blobs.check(TEAM)
    (root / "default" / "incoming").rmdir()

    with pytest.raises(StorageUnavailable):
        blobs.check(TEAM)
