"""A bar that tells how far something is, on a terminal or in a notebook, for who asks for one.

Owns the bar, and when there is none: where nobody would see it, in a pipe or a file, nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Self

from ensemble.status import Status

LOOK_EVERY_S = 0.2
COUNT_EVERY = 256
"""A bar that is moved for each event would cost more than the event."""


class Bar:
    """A progress bar, there as long as its `with`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None
        self._task: Any = None

    @property
    def is_seen(self) -> bool:
        return self._bar is not None

    def show(self, done: int, total: int | None) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

    def over(self, items: Iterable[Any]) -> Iterator[Any]:
        """The same items; the bar counts those that were taken."""
        total = len(items) if isinstance(items, Sized) else None
        count = 0
        self.show(0, total)
        for item in items:
            yield item
            count += 1
            if count % COUNT_EVERY == 0:
                self.show(count, total)
        self.show(count, count)

    def __enter__(self) -> Self:
        console = _console()
        if console is not None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            # A name is text, whatever brackets it has.
            told = TextColumn("{task.description}", markup=False)
            self._bar = Progress(told, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console)
            self._task = self._bar.add_task(self._what, total=None)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.refresh()  # in a notebook the end would not show its last state
            self._bar.stop()


def settle_seen(settle: Callable[[float | None], None], status: Callable[[], Status], what: str, timeout: float | None) -> None:
    """Settle, and tell meanwhile how much of what is there to hear has been heard: more comes while players answer.

    Errors: those of `settle`.
    """
    with Bar(what) as bar:
        if not bar.is_seen:
            settle(timeout)
            return
        until = None if timeout is None else time.monotonic() + timeout
        before, _ = _heard(status())
        while True:
            try:
                settle(LOOK_EVERY_S if until is None else max(0.0, min(LOOK_EVERY_S, until - time.monotonic())))
            except TimeoutError:
                if until is not None and time.monotonic() >= until:
                    raise
                heard, lag = _heard(status())
                bar.show(heard - before, heard + lag - before)
            else:
                heard, _ = _heard(status())
                bar.show(heard - before, heard - before)
                return


def _heard(status: Status) -> tuple[int, int]:
    """How many events all players have dealt with, and how many not yet."""
    sections = status.sections.values()
    return sum(each.heard + each.dead for each in sections), sum(each.lag for each in sections)


def _console() -> Any:
    """Where a bar would be seen; None: nowhere."""
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal) else None
