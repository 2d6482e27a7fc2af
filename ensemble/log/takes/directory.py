"""The takes of a directory store: a folder each.

    STORE/takes/NAME     a take, with all that is its own
    STORE/takes/.NAME    one that is being made or dropped: nobody's

Who makes a take, drops one or makes one current has the folder `takes` locked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from ensemble.errors import Unavailable
from ensemble.log import division, manifest
from ensemble.log.files import Files, refusal
from ensemble.log.takes import CURRENT, NAME


class TakesInDirectory:
    """See `ensemble.log.takes.Takes`."""

    def __init__(self, store: str, path: str) -> None:
        self._store = store
        self._folder = Path(path).absolute()
        self._takes = self._folder / "takes"

    def names(self) -> list[str]:
        try:
            return sorted(each.name for each in self._takes.iterdir() if NAME.fullmatch(each.name) and _is_store(each))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise refusal(f"{self._takes}: can't be read", error) from error

    def strays(self) -> list[str]:
        try:
            return sorted(str(each) for each in _filled(self._takes) if not each.name.startswith(".") and not _is_store(each))
        except OSError as error:
            raise refusal(f"{self._takes}: can't be read", error) from error

    def pointer(self) -> bytes | None:
        path = self._folder / CURRENT
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError as error:
            raise Unavailable(
                f"{path}: a folder is where the name of the current take should be; put it away, then make a take current: "
                "ensemble take use main"
            ) from error
        except OSError as error:
            raise refusal(f"{path}: can't be read", error) from error

    def point(self, data: bytes) -> None:
        try:
            Files().replace(self._folder / CURRENT, data)
        except OSError as error:
            raise refusal(f"store {self._store}: its current take can't be changed", error) from error

    def make(self, take: str, build: Callable[[str], None]) -> None:
        made, begun = self._takes / take, self._left(take)
        try:
            Files().make_folder(self._takes)
            with self.alone():
                if made.is_file() or (made.is_dir() and any(made.iterdir())):
                    raise Unavailable(
                        f"store {self._store}: there is something in {made} already: somebody else made this take just now, or "
                        "it is no take; choose another name, or see what is in it, and remove it"
                    )
                self.sweep(take)
                try:
                    build(str(begun))
                    Files().rename(begun, made)
                except BaseException:
                    shutil.rmtree(begun, ignore_errors=True)
                    raise
                Files().sync_folder(self._takes)
        except OSError as error:
            raise refusal(f"store {self._store}: the take {take} can't be made", error) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        if not self._takes.is_dir():
            yield
            return
        with ExitStack() as stack:
            try:
                fd = _opened(stack, self._takes)
                fcntl.flock(fd, fcntl.LOCK_EX)
            except OSError as error:
                raise refusal(f"{self._takes}: can't be locked", error) from error
            yield

    def dropping(self, take: str) -> AbstractContextManager[None]:
        return self.alone()

    def is_dropped(self, take: str) -> bool:
        return False  # who would look is kept out until it is done

    def remove(self, take: str) -> None:
        gone = self._left(take)
        try:
            _clear(gone)
            Files().rename(self._takes / take, gone)
            Files().sync_folder(self._takes)
        except OSError as error:
            raise refusal(f"store {self._store}: the take {take} can't be dropped", error) from error

    def sweep(self, take: str) -> None:
        left = self._left(take)
        try:
            _clear(left)
        except OSError as error:
            raise refusal(f"{left}: can't be removed", error) from error

    def _left(self, take: str) -> Path:
        """Where a take lies that is being made or dropped."""
        return self._takes / f".{take}"


@contextmanager
def stand_on(folder: Path, *, is_held: bool = False) -> Iterator[bool]:
    """Whether there are takes of a store in a folder, or somebody makes one now: what they need must stay.

    So must what may be one that was damaged. What is left of one that was never finished, or was dropped, is taken away.
    Where nobody has made a take yet there is nothing to lock. If the answer `is_held`, the folder `takes` is made there: who
    begins to make one waits until this is left.
    Errors: OSError.
    """
    takes = folder / "takes"
    if is_held:
        with suppress(FileExistsError):  # a file of that name: then no takes can be made either
            takes.mkdir()
    with ExitStack() as stack:
        try:
            fd = _opened(stack, takes)
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            found = _is_taken(takes)
        except (FileNotFoundError, NotADirectoryError):
            found = False
        except BlockingIOError:
            found = True
        yield found


def _is_taken(takes: Path) -> bool:
    """Whether there is a take, or what may be one, before which nothing is left of others. The folder is locked. OSError."""
    for each in _filled(takes):
        if not each.name.startswith("."):
            return True
        shutil.rmtree(each, ignore_errors=True)
    return False


def _filled(takes: Path) -> list[Path]:
    """Folders there that are called as takes are, or as what is left of them, and are not empty. OSError."""
    if not takes.is_dir():
        return []
    found = [each for each in takes.iterdir() if NAME.fullmatch(each.name.removeprefix(".")) and each.is_dir()]
    return [each for each in found if any(each.iterdir())]


def _is_store(folder: Path) -> bool:
    """Whether a store was made there, of one shard or several; it may be damaged."""
    return (folder / manifest.NAME).is_file() or (folder / division.NAME).is_file()


def _opened(stack: ExitStack, folder: Path) -> int:
    """A folder, to be locked until the stack is left. OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def _clear(folder: Path) -> None:
    with suppress(FileNotFoundError):  # another may do the same
        shutil.rmtree(folder)
