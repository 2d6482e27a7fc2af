"""Who may write a directory store: one writer, and never again one that was replaced.

Owns the lock (two processes of one machine) and the epoch (a writer that outlived its lock: a lock can be lost with a
network file system or a deleted file).

    epoch on disk >= epoch of every frame
"""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakSet

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.files import Files

FREE = b"free\n"
"""What the lock's file says when its holder let go of it."""


_held: WeakSet[Lock] = WeakSet()


def _let_go_in_child() -> None:
    """A forked child must not keep the lock alive when its parent dies: it plays nothing."""
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_let_go_in_child)


class Busy(Unavailable):
    """Nobody plays the store, but somebody changes it, which does not take long."""


class Lock:
    """The store's lock, held. It ends with `release` or with the process; a child that was forked off does not hold it.

    `was_left` says that whoever held it before did not let go of it: it died, or it lives and does not know that it
    lost the lock.
    """

    def __init__(self, folder: Path, doing: str = "") -> None:
        """Take it. `doing` says what for, if not to play: `divides it anew`.

        Errors: Unavailable if somebody holds it, naming who; OSError if the disk refuses.
        """
        self.path = folder / "lock"
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.was_left = os.pread(self._fd, len(FREE), 0) != FREE
            since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            self._say(f"process {os.getpid()} on {socket.gethostname()} since {since}{doing and f', which {doing}'}\n".encode())
        except BlockingIOError as error:
            holder = os.pread(self._fd, 400, 0).decode(errors="replace").strip()
            os.close(self._fd)
            if ", which " in holder:
                raise Busy(f"store {folder}: it is in use, by {holder}; wait until that is done") from error
            raise Unavailable(
                f"store {folder}: it is being played already, by {holder or 'a process that has just begun'}; "
                "publish to it with ensemble.connect, read it with ensemble.read, or stop that process"
            ) from error
        except OSError:
            os.close(self._fd)
            raise
        _held.add(self)

    def release(self) -> None:
        if self._fd < 0:
            return
        with suppress(OSError):  # then it looks as if it was left, which is looked into the next time
            self._say(FREE)
        self.forget()

    def forget(self) -> None:
        """Close it as a crash would: what it says stays."""
        _held.discard(self)
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _say(self, text: bytes) -> None:
        """Have the file say this, where there is room for it: what keeps others out is the lock, not what stands there.

        OSError if it can't be made to say nothing: what stands there may say that nobody holds it.
        """
        os.ftruncate(self._fd, 0)
        with suppress(OSError):
            os.pwrite(self._fd, text, 0)


class Ground:
    """The folder that a writer began to write in, held open so that no other can come to be the same."""

    def __init__(self, folder: Path) -> None:
        """OSError if there is none."""
        self._path = os.fspath(folder)
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def refuse_other(self) -> None:
        """Nothing, if the folder's name still leads to it.

        Errors: Unavailable if it was removed, or moved away, and perhaps made anew.
        """
        try:
            is_same = os.path.samestat(os.fstat(self._fd), os.stat(self._path))  # noqa: PTH116 - twice a group
        except OSError:
            is_same = False
        if not is_same:
            raise Unavailable(
                f"store {Path(self._path).parent}: it was removed, or moved away, while it was being played; what may be "
                "there now is another's: close this band; what it had not yet acknowledged is in no log"
            )

    def close(self) -> None:
        os.close(self._fd)


def read_epoch(shard: Path) -> int:
    """The epoch of the newest writer; 0 if there was none.

    Errors: LogCorrupt if the file is damaged; OSError if it can't be read.
    """
    path = os.path.join(shard, "epoch")  # noqa: PTH118 - twice a group: pathlib takes three times as long
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        text = os.read(fd, 64)
    finally:
        os.close(fd)
    digits = text.removesuffix(b"\n")
    if not digits.isdigit() or len(digits) > 19 or text == digits:
        raise LogCorrupt(f"{path}: byte 0: {text[:40]!r} is no epoch; restore this file from a copy of the store")
    return int(digits)


def raise_epoch(shard: Path, above: int, files: Files) -> int:
    """The next epoch, above `above` and the one on disk, durably. OSError if the disk refuses."""
    epoch = max(above, read_epoch(shard)) + 1
    files.replace(shard / "epoch", b"%d\n" % epoch)
    return epoch


def refuse_older(shard: Path, epoch: int) -> None:
    """Nothing, if this epoch is the newest.

    Errors: Unavailable if a newer one is on disk, or none can be read.
    """
    try:
        newest = read_epoch(shard)
    except (OSError, LogCorrupt) as error:
        raise Unavailable(
            f"store {shard.parent}: its epoch can't be read any more ({error}), so another writer may have it; close this "
            "band and see whether the folder is still there"
        ) from error
    if newest != epoch:
        raise Unavailable(
            f"store {shard.parent}: it was taken over by another writer (its epoch is {newest}, ours {epoch}); close this "
            "band; what it had not yet acknowledged is not in the log"
        )
