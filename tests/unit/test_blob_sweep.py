"""Originals that nothing names go; none that is wanted ever does."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from lookalike.backends.blob_layout import Layout
from lookalike.backends.blob_sweep import BATCH, Sweeper
from lookalike.backends.blobs import DirectoryBlobs
from lookalike.collections import Team
from lookalike.errors import StorageUnavailable
from lookalike.interfaces import Digest, Swept

TEAM = Team("default")
DATA = b"the bytes of a picture"
DIGEST = Digest(hashlib.sha256(DATA).hexdigest())
HOUR = 3600.0


class Names:
    """What a ledger would say that images need."""

    def __init__(self) -> None:
        self.named: set[Digest] = set()
        self.most_asked = 0

    def __call__(self, team: Team, digests: Sequence[Digest]) -> set[Digest]:
        self.most_asked = max(self.most_asked, len(digests))
        return self.named & set(digests)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "originals"


@pytest.fixture
def blobs(root: Path) -> DirectoryBlobs:
    return DirectoryBlobs(root)


@pytest.fixture
def names() -> Names:
    return Names()


def keep(blobs: DirectoryBlobs, data: bytes = DATA, team: Team = TEAM) -> Digest:
    staged = blobs.stage(team)
    staged.file.write(data)
    blobs.keep([staged])
    return staged.digest()


def sweep(blobs: DirectoryBlobs, names: Names) -> Swept:
    return blobs.sweep(names, HOUR, lambda: False)


def two_hours_pass(root: Path) -> None:
    """Make every file two hours older than it is."""
    for path in root.rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - 2 * HOUR
            os.utime(path, (moment, moment))


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*/**/*") if path.is_file())


def test_what_nothing_names_is_set_aside_and_removed_after_as_long_again(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    keep(blobs)

    young = sweep(blobs, names)
    two_hours_pass(root)
    old = sweep(blobs, names)
    soon_after = sweep(blobs, names)
    two_hours_pass(root)
    long_after = sweep(blobs, names)

    assert (young, soon_after) == (Swept(), Swept())
    assert old == Swept(set_aside=1)
    assert long_after == Swept(removed=1)
    assert files(root) == []


def test_what_is_named_stays_where_it_is(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    names.named.add(keep(blobs))
    two_hours_pass(root)

    swept = sweep(blobs, names)

    assert swept == Swept()
    assert Layout(root).original(TEAM, DIGEST).read_bytes() == DATA


def test_what_was_set_aside_can_be_read_and_is_back_by_that(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    keep(blobs)
    two_hours_pass(root)
    sweep(blobs, names)

    missing = blobs.missing(TEAM, [DIGEST])
    data = blobs.read(TEAM, DIGEST)

    assert missing == set()
    assert data == DATA
    assert Layout(root).original(TEAM, DIGEST).exists()
    assert not Layout(root).set_aside(TEAM, DIGEST).exists()


def test_what_was_set_aside_and_is_named_by_then_comes_back(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    names.named.add(keep(blobs))
    two_hours_pass(root)
    blobs.sweep(lambda *_: set(), HOUR, lambda: False)  # asked before it was recorded
    two_hours_pass(root)

    swept = sweep(blobs, names)

    assert swept == Swept(brought_back=1)
    assert Layout(root).original(TEAM, DIGEST).read_bytes() == DATA


def test_what_was_kept_again_since_is_not_covered_by_what_lies_aside(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    keep(blobs)
    Layout(root).original(TEAM, DIGEST).write_bytes(b"spoiled")
    two_hours_pass(root)
    sweep(blobs, names)
    names.named.add(keep(blobs))

    swept = sweep(blobs, names)

    assert swept == Swept()
    assert blobs.read(TEAM, DIGEST) == DATA
    assert files(root) == [DIGEST]


def test_keeping_what_is_there_makes_it_new(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    keep(blobs)
    two_hours_pass(root)
    keep(blobs)

    swept = sweep(blobs, names)

    assert swept == Swept()


def test_a_request_that_took_hours_brings_a_new_original(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    staged = blobs.stage(TEAM)
    staged.file.write(os.urandom(100_000))
    staged.write_out()
    two_hours_pass(root)
    blobs.keep([staged])

    swept = sweep(blobs, names)

    assert swept == Swept()


def test_thumbnails_of_removed_originals_go_and_others_stay(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    names.named.add(keep(blobs, b"another"))
    for digest in (keep(blobs), *names.named):
        blobs.cache(TEAM, f"{digest}-256.jpg", b"small")
    blobs.cache(TEAM, "logo.png", b"of no original")
    two_hours_pass(root)

    sweep(blobs, names)
    while_aside = blobs.cached(TEAM, f"{DIGEST}-256.jpg")
    two_hours_pass(root)
    sweep(blobs, names)
    sweep(blobs, names)  # the first may have come to the thumbnail too early

    assert while_aside == b"small"
    assert blobs.cached(TEAM, f"{DIGEST}-256.jpg") is None
    (other,) = names.named
    assert files(root) == sorted([other, f"{other}-256.jpg", "logo.png"])


def test_each_team_is_asked_for_its_own(blobs: DirectoryBlobs, root: Path) -> None:
    keep(blobs, team=Team("one"))
    keep(blobs, team=Team("two"))
    two_hours_pass(root)

    def named(team: Team, digests: Sequence[Digest]) -> set[Digest]:
        return set(digests) if team == "one" else set()

    swept = blobs.sweep(named, HOUR, lambda: False)

    assert swept == Swept(set_aside=1)
    assert Layout(root).original(Team("one"), DIGEST).exists()
    assert Layout(root).set_aside(Team("two"), DIGEST).exists()


def test_files_that_are_no_originals_are_left_alone(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    keep(blobs)
    stray = root / "default" / DIGEST[:2] / "README"
    stray.touch()
    (root / "lost+found").mkdir()
    two_hours_pass(root)

    sweep(blobs, names)

    assert stray.exists()


def test_the_ledger_is_asked_about_so_many_at_once(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    keep(blobs)
    folder = root / "default" / "ab"
    folder.mkdir()
    for number in range(BATCH + 5):
        (folder / f"ab{number:062x}").touch()
    two_hours_pass(root)

    swept = sweep(blobs, names)

    assert swept.set_aside == BATCH + 6
    assert names.most_asked <= BATCH


def test_a_large_store_is_swept_over_several_calls(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    for number in range(40):
        keep(blobs, bytes([number]))
    two_hours_pass(root)
    sweeper = Sweeper(Layout(root), most_files=10)

    calls = [sweeper.run(names, HOUR, lambda: False).set_aside for _ in range(6)]

    assert sum(calls) == 40
    assert all(10 <= count < 20 for count in calls[:2])


def test_a_sweep_comes_to_an_end_when_told_to(
    blobs: DirectoryBlobs, root: Path, names: Names
) -> None:
    keep(blobs)
    two_hours_pass(root)

    swept = blobs.sweep(names, HOUR, lambda: True)

    assert swept == Swept()


def test_a_second_sweep_at_the_same_time_does_nothing(
    blobs: DirectoryBlobs, root: Path
) -> None:
    keep(blobs)
    two_hours_pass(root)
    inner: list[Swept] = []

    def named(team: Team, digests: Sequence[Digest]) -> set[Digest]:
        inner.append(DirectoryBlobs(root).sweep(Names(), HOUR, lambda: False))
        return set()

    outer = blobs.sweep(named, HOUR, lambda: False)

    assert inner == [Swept()]
    assert outer == Swept(set_aside=1)


@pytest.mark.parametrize("sweeps_before", [0, 1])
def test_a_request_between_the_answer_of_the_ledger_and_the_act_loses_nothing(
    blobs: DirectoryBlobs, root: Path, names: Names, sweeps_before: int
) -> None:
    keep(blobs)
    two_hours_pass(root)
    for _ in range(sweeps_before):  # it lies aside then, and would be removed next
        sweep(blobs, names)
        two_hours_pass(root)

    def named(team: Team, digests: Sequence[Digest]) -> set[Digest]:
        answer = names(team, digests)
        names.named.add(keep(blobs))
        return answer

    blobs.sweep(named, HOUR, lambda: False)
    kept = blobs.read(TEAM, DIGEST)
    two_hours_pass(root)
    sweep(blobs, names)

    assert kept == DATA
    assert blobs.read(TEAM, DIGEST) == DATA


def test_a_request_that_counted_on_an_original_just_before_it_moved_loses_nothing(
    blobs: DirectoryBlobs, root: Path, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(blobs)
    two_hours_pass(root)
    replace = Path.replace

    def late(self: Path, target: Path) -> Path:
        """Keep the same bytes at the last moment before they are moved aside."""
        monkeypatch.undo()
        keep(blobs)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", late)
    swept = sweep(blobs, names)
    names.named.add(DIGEST)

    assert swept == Swept(set_aside=1)
    assert blobs.read(TEAM, DIGEST) == DATA


def test_accepting_and_sweeping_the_same_bytes_for_long_loses_nothing(
    root: Path,
) -> None:
    """Four threads accept and delete, one makes files old, two sweep; all at random."""
    recording, stop = threading.Lock(), threading.Event()
    pool = [bytes([number]) * 9 for number in range(6)]
    digests = [Digest(hashlib.sha256(data).hexdigest()) for data in pool]
    needed_by = dict.fromkeys(digests, 0)
    problems: list[Exception] = []
    moved: list[Swept] = []
    deadline = time.monotonic() + 60

    def has_enough() -> bool:
        """Whether originals were set aside often enough, beside all this."""
        return sum(swept.set_aside for swept in moved) > 200

    def named(team: Team, asked: Sequence[Digest]) -> set[Digest]:
        with recording:
            return {digest for digest in asked if needed_by[digest]}

    def change(digest: Digest, by: int) -> None:
        with recording:
            needed_by[digest] += by

    def accept(seed: int) -> None:
        blobs, source = DirectoryBlobs(root), random.Random(seed)
        try:
            while not has_enough() and time.monotonic() < deadline:
                data = source.choice(pool)
                digest = keep(blobs, data)
                change(digest, 1)
                assert blobs.read(TEAM, digest) == data
                assert blobs.missing(TEAM, [digest]) == set()
                change(digest, -1)
        except Exception as error:
            problems.append(error)

    def make_old() -> None:
        layout, moment = Layout(root), time.time() - 2 * HOUR
        while not stop.wait(0.0005):
            for digest in digests:
                try:
                    os.utime(layout.original(TEAM, digest), (moment, moment))
                except FileNotFoundError:
                    continue

    def sweep_on() -> None:
        blobs = DirectoryBlobs(root)
        while not stop.is_set():
            moved.append(blobs.sweep(named, HOUR, lambda: False))

    accepting = [threading.Thread(target=accept, args=(seed,)) for seed in range(4)]
    others = [threading.Thread(target=each) for each in (make_old, sweep_on, sweep_on)]
    for thread in (*accepting, *others):
        thread.start()
    for thread in accepting:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()

    assert problems == []
    assert has_enough()


def test_an_original_that_is_gone_is_told_from_a_disk_that_is(
    blobs: DirectoryBlobs, root: Path
) -> None:
    keep(blobs)
    Layout(root).original(TEAM, DIGEST).unlink()

    with pytest.raises(StorageUnavailable) as gone:
        blobs.read(TEAM, DIGEST)
    (root / "default").rename(root.parent / "elsewhere")
    with pytest.raises(StorageUnavailable) as unmounted:
        blobs.read(TEAM, DIGEST)

    assert gone.value.code == "original_missing"
    assert unmounted.value.code == "storage_unavailable"


def test_what_is_missing_is_told(blobs: DirectoryBlobs) -> None:
    keep(blobs)
    other = Digest("a" * 64)

    assert blobs.missing(TEAM, [DIGEST, other]) == {other}


def test_the_free_room_is_that_of_the_disk(blobs: DirectoryBlobs, root: Path) -> None:
    disk = os.statvfs(root)

    assert blobs.free_bytes() == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.5)


def test_a_file_that_did_not_fit_is_not_kept_in_part(root: Path) -> None:
    """A write that ends early says no error; only the next one does."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from lookalike.backends.blobs import DirectoryBlobs\n"
        "from lookalike.errors import StorageUnavailable\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "blobs = DirectoryBlobs(Path(sys.argv[1]))\n"
        "staged = blobs.stage('default')\n"
        "staged.file.write(bytes(40_000))\n"
        "try:\n"
        "    blobs.keep([staged])\n"
        "except StorageUnavailable as error:\n"
        "    print(error.code)\n"
        "staged.discard()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(root)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.strip() == "storage_unavailable"
    assert files(root) == []
