"""What is to be seen while a band plays: a live table on a terminal, else a line now and then. All of it on stderr.

Owns the pictures. They are made of what `Band.status()` says, and change nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from ensemble.cli.terminal import grouped, talk

if TYPE_CHECKING:
    from ensemble.status import Status

LINE_EVERY_S = 5.0
RATE_OVER_S = 2.0
"""Over how long a rate is measured."""


class View(Protocol):
    is_drawn: bool
    """Whether it is drawn over itself."""

    def show(self, status: Status) -> None:
        """Show how the band stands now. Called a few times a second."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def view() -> View:
    """A live table if stderr is a terminal, else lines."""
    return LiveTable() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Lines()


class Rates:
    """Events heard a second, by player, over the last moments."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Mapping[str, int]]] = deque()

    def add(self, now: float, heard: Mapping[str, int]) -> dict[str, float]:
        self._seen.append((now, dict(heard)))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_OVER_S:
            self._seen.popleft()
        then, before = self._seen[0]
        passed = now - then
        return {name: (count - before.get(name, 0)) / passed if passed else 0.0 for name, count in heard.items()}


class Lines:
    """A line every few seconds, for logs and pipes."""

    is_drawn = False

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._rates = Rates()

    def show(self, status: Status) -> None:
        now = time.monotonic()
        rates = self._rates.add(now, {name: each.heard for name, each in status.sections.items()})
        if now - self._told < LINE_EVERY_S:
            return
        self._told = now
        lags = sorted(((each.lag, name) for name, each in status.sections.items() if each.lag), reverse=True)
        behind = ", ".join(f"{name} {grouped(lag)}" for lag, name in lags[:3]) + (", …" if len(lags) > 3 else "")
        read = _share_read(status)
        talk(
            f"{now - self._began:.0f} s: {grouped(status.events)} events, {grouped(round(sum(rates.values())))} heard/s"
            + (f", input {read:.0%}" if read is not None else "")
            + (f", lag: {behind}" if lags else "")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class LiveTable:
    """A table that is drawn over itself: players, lag, rates; and how far the input has been read."""

    is_drawn = True

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._began = time.monotonic()
        self._rates = Rates()
        # What players print goes above the table, if it would be seen on the same terminal; never into a pipe's result.
        self._live = Live(
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=True,
        )

    def show(self, status: Status) -> None:
        now = time.monotonic()
        rates = self._rates.add(now, {name: each.heard for name, each in status.sections.items()})
        self._live.update(self._picture(status, rates, now - self._began), refresh=True)

    def _picture(self, status: Status, rates: Mapping[str, float], seconds: float) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        title = Text.assemble(
            (status.name, "bold"),
            f"  {grouped(status.events)} events  {grouped(round(sum(rates.values())))} heard/s  {seconds:.0f} s",
        )
        players = Table(box=None, pad_edge=False, header_style="bold")
        players.add_column("player", no_wrap=True)
        for name in ("lag", "heard/s", "heard", "emitted", "failed", "dead"):
            players.add_column(name, justify="right", no_wrap=True)
        for name, each in status.sections.items():
            players.add_row(
                Text(name),
                _number(each.lag, "yellow"),
                grouped(round(rates.get(name, 0.0))),
                grouped(each.heard),
                grouped(each.emitted),
                _number(each.failed, "yellow"),
                _number(each.dead, "bold red"),
            )
        bars = Table.grid(padding=(0, 1))
        for name, source in status.sources.items():
            if source.total:
                done = source.total if source.done else source.place
                bar = ProgressBar(total=source.total, completed=done, width=30)
                refused = Text(f"{grouped(source.refused)} refused" if source.refused else "", style="yellow")
                bars.add_row(Text(name[-40:]), bar, f"{done / source.total:.0%}", f"{grouped(source.said)} said", refused)
        return Group(title, bars, players) if bars.rows else Group(title, players)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()


def _number(number: int, style: str) -> Any:
    from rich.text import Text

    return Text(grouped(number), style=style if number else "dim")


def _share_read(status: Status) -> float | None:
    """How much of the files has been read, of 1; None where there are none."""
    files = [each for each in status.sources.values() if each.total]
    total = sum(each.total or 0 for each in files)
    return sum((each.total or 0) if each.done else each.place for each in files) / total if total else None
