"""The operations by which a store touches the disk, and what their failures are called.

Owns every write, sync, rename and cut of the directory store: `Files` has them as methods so that a test can give one
whose operations fail when told to. Reading is plain `os.pread` in `segment.py`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ensemble.errors import LogCorrupt, Unavailable

CURES = {
    errno.ENOSPC: "the disk is full; make room, then play again",
    errno.EDQUOT: "the disk quota is used up; make room or have it raised, then play again",
    errno.EFBIG: "the file would be larger than this process may write; raise the limit (ulimit -f), then play again",
    errno.EROFS: "the file system is read-only; choose another folder, or read the store with ensemble.read",
    errno.EACCES: "this user may not write there; choose another folder or change its permissions",
    errno.EPERM: "this user may not write there; choose another folder or change its permissions",
    errno.ENOENT: "a folder on the way to it is missing; check the path",
    errno.ENOTDIR: "something on the way to it is a file, not a folder; check the path",
    errno.EISDIR: "a folder is where a file should be; put it away, and restore the file from a copy of the store",
    errno.ENAMETOOLONG: "no path may be so long here; choose a shorter one",
    errno.EMFILE: "this process has too many files open; raise the limit (ulimit -n)",
    errno.ENOLCK: "this file system has no locks, or no more of them; choose a folder on another, or an object store",
    errno.ENOSYS: "this file system can't do that; choose a folder on another, or an object store",
    errno.EOPNOTSUPP: "this file system can't do that; choose a folder on another, or an object store",
    errno.EIO: "the disk failed; see the system's log, and copy the store to a sound disk",
}


def refusal(what: str, error: OSError) -> Unavailable:
    """The sentence for an operation that the system refused: what, what was found, what to do."""
    cure = CURES.get(error.errno or 0, "see the reason given")
    return Unavailable(f"{what}: {error.strerror or error}; {cure}")


def corrupt(path: Path | str, place: int, why: object) -> LogCorrupt:
    """The sentence for damage before the tail."""
    return LogCorrupt(f"{path}: byte {place}: {why}; nothing was changed: restore this file from a copy of the store")


class Gone(Unavailable):
    """A file of the log is there no more: it was written anew under another name, or somebody removed it."""


@contextmanager
def open_to_read(path: Path) -> Iterator[int]:
    """A file's descriptor. Whoever has it reads on when the file is replaced.

    Errors: Gone; Unavailable.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Gone(str(refusal(f"{path}: can't be read", error))) from error
    except OSError as error:
        raise refusal(f"{path}: can't be read", error) from error
    try:
        yield fd
    finally:
        os.close(fd)


class Files:
    """The disk as it is."""

    def create(self, path: Path) -> int:
        """Make a file that must not be there yet, open to read and write."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, fd: int, data: bytes, place: int) -> None:
        """Write all of it at this place."""
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, place)
            view = view[done:]
            place += done

    def sync(self, fd: int) -> None:
        """Returns once the bytes, and the length that is needed to read them, are on the disk."""
        os.fdatasync(fd)

    def cut(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        """Make a folder and those on the way to it; each one's entry is synced."""
        missing = [path, *path.parents]
        missing = missing[: next((i for i, folder in enumerate(missing) if folder.is_dir()), len(missing))]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            self.sync_folder(folder.parent)

    def sync_folder(self, path: Path) -> None:
        """Returns once the names in a folder are on the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def replace(self, path: Path, data: bytes) -> None:
        """Put a file in place whole, or leave what was there: temporary file, sync, rename, sync of the folder."""
        temporary = path.with_name(path.name + ".tmp")
        self.remove(temporary)
        try:
            fd = self.create(temporary)
            try:
                self.write(fd, data, 0)
                self.sync(fd)
            finally:
                os.close(fd)
            self.rename(temporary, path)
        except OSError:
            self.remove(temporary)
            raise
        self.sync_folder(path.parent)
