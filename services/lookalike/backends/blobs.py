"""Originals in a directory: content-addressed, per team, surviving a power cut.

An original is written to ``incoming``, fsynced, renamed, and its folder fsynced: under
its final name a file is always whole. A small picture stays in memory until it is kept,
so that one which is refused, or is there already, costs no write at all.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lookalike.backends.blob_layout import MOVES, Layout, storage_errors
from lookalike.backends.blob_sweep import Sweeper
from lookalike.collections import Team
from lookalike.errors import OriginalMissing
from lookalike.failpoints import failpoint
from lookalike.interfaces import Digest, Named, StagedBlob, Stop, Swept

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

LEFTOVER_SECONDS = 24 * 3600
SPOOL_BYTES = 64 * 2**10  # a picture up to this stays in memory until it is kept


class DirectoryBlobs:
    """Keeps originals as files below one directory. Safe to use from many threads.

    Args:
        root: the directory; made if missing.
        fsync: what makes a file or folder durable; tests watch it.

    Raises:
        StorageUnavailable: the directory cannot be made or read.
    """

    def __init__(self, root: Path, *, fsync: Callable[[int], None] = os.fsync) -> None:
        self._layout = Layout(root)
        self._sweeper = Sweeper(self._layout)
        self._fsync = fsync
        self._teams: set[Path] = set()  # whose folders are there for sure
        with storage_errors():
            self._make_lasting(root)
            self._remove_leftovers()

    def stage(self, team: Team) -> StagedFile:
        """Start to take in the bytes of one image.

        Raises:
            StorageUnavailable: no file can be made.
        """
        folder = self._layout.incoming(team)
        if folder not in self._teams:
            with storage_errors():
                self._make_lasting(folder.parent)
                folder.mkdir(exist_ok=True)
            self._teams.add(folder)
        return StagedFile(team, folder / secrets.token_hex(16))

    def keep(self, staged: Sequence[StagedBlob]) -> None:
        """Put bytes under their digests; on return they survive a power cut.

        They count as new from now on, even those that were there already.

        Raises:
            StorageFull: there is no room for them; none is half kept.
            StorageUnavailable: not all could be kept; none is half kept.
        """
        files = [blob for blob in staged if isinstance(blob, StagedFile)]
        if len(files) != len(staged):
            raise TypeError("these blobs were staged elsewhere")
        with storage_errors():
            targets = {
                self._layout.original(file.team, file.digest()): file for file in files
            }
            new = {
                target: file
                for target, file in targets.items()
                if not _is_kept(target, file)
            }
            # First all are sent on their way to the disk, then each is waited for: one
            # commit of the file system's journal then serves them all.
            for file in new.values():
                file.write_out()
                failpoint("blob.written")
            for file in new.values():
                self._sync_one(file.path)
                failpoint("blob.synced")
            # Folders of what is there already too: who put it there may not have
            # come to the fsync of the folder yet.
            folders = {target.parent for target in targets}
            for target, file in new.items():
                folders |= _make(target.parent)
                file.move(target)
                failpoint("blob.renamed")
            for folder in folders:
                self._sync_one(folder)
        for file in files:
            file.discard()

    def read(self, team: Team, digest: Digest) -> bytes:
        """The bytes of an original; one that was set aside comes back by this.

        Raises:
            OriginalMissing: it is not there, although others of the team are.
            StorageUnavailable: it cannot be read.
        """
        place = self._layout.original(team, digest)
        with storage_errors():
            for _ in range(MOVES):
                with suppress(FileNotFoundError):
                    return place.read_bytes()
                # If nothing lies aside, another reader may just have brought it back.
                self._layout.bring_back(team, digest)
            try:
                return place.read_bytes()
            except FileNotFoundError as error:
                if not self._layout.team(team).is_dir():
                    raise  # is the disk not mounted?
                raise OriginalMissing(f"The original {digest} is not there.") from error

    def missing(self, team: Team, digests: Sequence[Digest]) -> set[Digest]:
        """Those of the digests under which nothing can be read.

        Raises:
            StorageUnavailable: that cannot be found out.
        """
        with storage_errors():
            return {one for one in digests if not self._layout.is_there(team, one)}

    def sweep(self, named: Named, older_than_seconds: float, stop: Stop) -> Swept:
        """Set aside old originals that nothing names, and remove those set aside.

        Raises:
            StorageUnavailable: the disk fails; some may have been swept.
        """
        with storage_errors():
            self._remove_leftovers()
            return self._sweeper.run(named, older_than_seconds, stop)

    def free_bytes(self) -> int:
        """How much room there is for more.

        Raises:
            StorageUnavailable: that cannot be found out.
        """
        with storage_errors():
            disk = os.statvfs(self._layout.root)
        return disk.f_bavail * disk.f_frsize

    def check(self, team: Team) -> None:
        """Return if originals can be written now.

        Raises:
            StorageUnavailable: they cannot.
        """
        staged = self.stage(team)
        try:
            staged.file.write(b"checked")
            staged.write_out()
        finally:
            staged.discard()

    def cached(self, team: Team, name: str) -> bytes | None:
        """A derived file if it was stored before.

        Raises:
            StorageUnavailable: it is there and cannot be read.
        """
        path = self._layout.cached(team, name)
        with storage_errors():
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def cache(self, team: Team, name: str, data: bytes) -> None:
        """Store a derived file; whoever reads it reads all of it.

        Raises:
            StorageUnavailable: it cannot be written.
        """
        path = self._layout.cached(team, name)
        staged = self.stage(team)
        try:
            staged.file.write(data)
            with storage_errors():
                path.parent.mkdir(parents=True, exist_ok=True)
                staged.move(path)
        finally:
            staged.discard()

    def _make_lasting(self, folder: Path) -> None:
        """Make a folder with its parents, unless there, to survive a power cut."""
        if not folder.is_dir():
            self._make_lasting(folder.parent)
            folder.mkdir(exist_ok=True)
            self._sync_one(folder.parent)

    def _sync_one(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self._fsync(descriptor)
        finally:
            os.close(descriptor)

    def _remove_leftovers(self) -> None:
        """Delete what crashed requests left behind."""
        oldest = time.time() - LEFTOVER_SECONDS
        for path in self._layout.root.glob("*/incoming/*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


class StagedFile:
    """Bytes on their way in: in memory while they are few, else in ``incoming``.

    Holds no file descriptor between calls, so that one request may stage a thousand.
    """

    def __init__(self, team: Team, path: Path) -> None:
        self.team = team
        self.path = path
        self._raw = _Spool(path)
        self._file = io.BufferedRandom(self._raw)
        self._is_moved = False

    @property
    def file(self) -> BinaryIO:
        """The file to write to and to read back from; seekable."""
        return self._file

    def digest(self) -> Digest:
        """SHA-256 of all that was written.

        Raises:
            StorageUnavailable: it cannot be written or read back.
        """
        self._flush()
        return Digest(self._raw.digest())

    def discard(self) -> None:
        """Forget the bytes; does nothing once they were kept."""
        self._raw.forget()
        self._file.close()
        if self._raw.is_on_disk and not self._is_moved:
            with storage_errors(), suppress(FileNotFoundError):
                self.path.unlink()

    def write_out(self) -> None:
        """Have all bytes in the file under ``path``, on their way to the disk."""
        self._flush()
        self._raw.spill()

    def move(self, target: Path) -> None:
        """Rename the file to its final place; it stays in this file system."""
        self._flush()
        self._raw.spill()
        os.utime(self.path)  # its age counts from here, however long its request took
        self.path.replace(target)
        self._is_moved = True

    def size(self) -> int:
        """How many bytes were written."""
        self._flush()
        return self._raw.size()

    def _flush(self) -> None:
        if not self._file.closed:
            self._file.flush()


class _Spool(io.RawIOBase):
    """Bytes in memory, then in a file that is opened for each read and write.

    They are hashed as they are written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory: io.BytesIO | None = io.BytesIO()  # None once it is a file
        self._place = 0
        self._hash = hashlib.sha256()
        self._hashed: int | None = 0  # None once written to out of order
        self._forgotten = False

    @property
    def is_on_disk(self) -> bool:
        return self._memory is None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        if self._memory is not None:
            return self._memory.getbuffer().nbytes
        with storage_errors():
            return self._path.stat().st_size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place}.get(whence)
        self._place = max(0, (self.size() if base is None else base) + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._memory is not None:
            self._memory.seek(self._place)
            count = self._memory.readinto(buffer)
        else:
            with storage_errors(), self._path.open("rb", buffering=0) as file:
                file.seek(self._place)
                count = file.readinto(buffer) or 0
        self._place += count
        return count

    def write(self, data: ReadableBuffer) -> int:
        view = memoryview(data).cast("B")
        if self._forgotten:  # what the buffer above still held when it was closed
            return len(view)
        count = self._put(view)
        if self._hashed == self._place:
            self._hash.update(view[:count])
            self._hashed += count
        else:
            self._hashed = None
        self._place += count
        return count

    def _put(self, view: memoryview) -> int:
        end = self._place + len(view)
        if self._memory is not None and end <= SPOOL_BYTES:
            self._memory.seek(self._place)
            return self._memory.write(view)
        self.spill()
        with storage_errors(), self._path.open("r+b", buffering=0) as file:
            file.seek(self._place)
            return file.write(view)

    def spill(self) -> None:
        """Move what is in memory to the file."""
        if self._memory is not None:
            with storage_errors():
                try:
                    self._write_file(self._memory.getbuffer())
                except OSError:
                    self._path.unlink(missing_ok=True)
                    raise
            self._memory = None

    def _write_file(self, data: memoryview) -> None:
        with self._path.open("xb", buffering=0) as file:
            while data:  # the last room of a disk takes a part, and says no error
                data = data[file.write(data) :]
            if hasattr(os, "posix_fadvise"):
                # Linux starts to write what it is told will not be needed soon.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def truncate(self, size: int | None = None) -> int:
        length = self._place if size is None else size
        self.spill()
        with storage_errors():
            os.truncate(self._path, length)
        self._hashed = None
        return length

    def digest(self) -> str:
        if self._hashed is not None:
            return self._hash.hexdigest()
        self.spill()
        with storage_errors(), self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def forget(self) -> None:
        self._forgotten = True
        if self._memory is not None:
            self._memory = io.BytesIO()


def _is_kept(target: Path, file: StagedFile) -> bool:
    """Whether the original is there, and from now on as new as this one."""
    with suppress(FileNotFoundError):
        # In this order: a sweep that moves it away comes before both, or it will find
        # the new time, or it lets the file lie aside until what names it is recorded.
        os.utime(target)
        return target.stat().st_size == file.size()
    return False


def _make(folder: Path) -> set[Path]:
    """Make a folder of originals; gives back the folders that this changed."""
    if folder.is_dir():
        return set()
    with suppress(FileExistsError):
        folder.mkdir()
    return {folder.parent}
