"""What a run came to: counts that add up, what was refused and why, where the log is and what to type next.

Owns the sum and its two forms, for people and for programs. `before` is how the store stood when the run began: a store
that is played again is told in whole, with what this run added.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from ensemble.broker.failure import DEAD
from ensemble.cli.codes import Code
from ensemble.cli.terminal import counted, grouped, quoted, requests_line, result, result_columns, shown, sized
from ensemble.stage.sources import REFUSED

if TYPE_CHECKING:
    from ensemble.reader import Reader
    from ensemble.status import Status

REFUSED_SHOWN = 10
DEAD_SHOWN = 5


class Before(msgspec.Struct, frozen=True):
    """How a store stood before the run."""

    events: int = 0
    topics: Mapping[str, int] = {}
    requests: Mapping[str, int] = {}
    cost: float | None = None


class Refused(msgspec.Struct, frozen=True):
    """A line of the input that is no event, or breaks its schema."""

    file: str
    line: int
    reason: str


class Dead(msgspec.Struct, frozen=True):
    """An event that became a dead letter."""

    player: str
    id: str
    error: str
    place: str | None
    """`file:line` of the player's own code where it failed."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in numbers. Counts are those of the whole log; `*_now` are of this run alone."""

    name: str
    store: str
    seconds: float
    interrupted: bool
    error: str | None
    events: int
    events_now: int
    topics: Mapping[str, int]
    players: Mapping[str, Mapping[str, int]]
    sources: Mapping[str, Mapping[str, Any]]
    dead: int
    dead_now: int
    dead_letters: tuple[Dead, ...]
    """The first of this run."""
    refused: int
    refused_now: int
    refused_lines: tuple[Refused, ...]
    """The first of this run."""
    bytes: int | None
    requests: Mapping[str, int] = {}
    """What was asked of an object store."""
    requests_now: Mapping[str, int] = {}
    cost: float | None = None
    """What that cost, by the prices in the score."""
    cost_now: float | None = None

    @property
    def code(self) -> Code:
        if self.interrupted:
            return Code.INTERRUPTED
        if self.error is not None or self.refused_now:
            return Code.WRONG
        return Code.DEAD if self.dead_now else Code.DONE

    def as_json(self) -> dict[str, Any]:
        return {**msgspec.to_builtins(self), "exit": int(self.code)}


def summarise(reader: Reader, before: Before, now: Status, *, seconds: float, interrupted: bool, error: str | None) -> Summary:
    """The sum of a run. `now` is its last status, and `reader` still reads its log."""
    dead = sum(each.dead for each in now.sections.values())
    refused = now.topics.get(REFUSED, 0)
    refused_now = refused - before.topics.get(REFUSED, 0)
    lines: list[Refused] = []
    if refused_now:
        for event in islice(reader.events(REFUSED, since=before.events), REFUSED_SHOWN):
            lines.append(Refused(str(event.data["file"]), int(event.data["line"]), str(event.data["reason"])))
    dead_now = now.topics.get(DEAD, 0) - before.topics.get(DEAD, 0)
    letters: list[Dead] = []
    if dead_now:
        for event in islice(reader.events(DEAD, since=before.events), DEAD_SHOWN):
            letters.append(Dead(event.data["player"], str(event.causationid), event.data["error"], _place(event.data)))
    return Summary(
        name=now.name,
        store=now.url,
        seconds=round(seconds, 3),
        interrupted=interrupted,
        error=error,
        events=now.events,
        events_now=now.events - before.events,
        topics=dict(sorted(now.topics.items())),
        players={
            name: {
                "heard": each.heard,
                "emitted": each.emitted,
                "failed": each.failed,
                "dead": each.dead,
                "lag": each.lag,
                "held": each.held,
            }
            for name, each in now.sections.items()
        },
        sources={name: {"said": each.said, "refused": each.refused, "done": each.done} for name, each in now.sources.items()},
        dead=dead,
        dead_now=dead_now,
        dead_letters=tuple(letters),
        refused=refused,
        refused_now=refused_now,
        refused_lines=tuple(lines),
        bytes=now.bytes,
        requests=now.requests,
        requests_now={kind: count - before.requests.get(kind, 0) for kind, count in now.requests.items()},
        cost=now.cost,
        cost_now=None if now.cost is None else now.cost - (before.cost or 0.0),
    )


def _place(obituary: Mapping[str, Any]) -> str | None:
    from ensemble import whereabouts

    return whereabouts.in_traceback(obituary["traceback"])


def show(summary: Summary) -> None:
    """Write a summary for people."""
    result(_headline(summary), style="bold")
    said = [(topic, count) for topic, count in summary.topics.items() if not topic.startswith("_")]
    if said:
        result()
        own = sum(count for topic, count in summary.topics.items() if topic.startswith("_"))
        rows: list[tuple[str, int]] = [*said]
        if own:
            rows.append(("(the band's own)", own))
        result_columns(("said", "events"), [*rows, ("in all", summary.events)])
    if summary.players:
        result()
        rest = sum(each["lag"] for each in summary.players.values())
        counts = ("heard", "emitted", "failed", "dead", *(["lag"] if rest else []))
        result_columns(
            ("player", *counts), [(name, *(each[count] for count in counts)) for name, each in summary.players.items()]
        )
    spoken = [
        (name, each["said"], each["refused"], "" if each["done"] else "not at its end")
        for name, each in summary.sources.items()
    ]
    if spoken:
        result()
        result_columns(("source", "said", "refused", ""), spoken)
    result()
    for line in summary.refused_lines:
        result(f"refused  {shown(line.file)}:{line.line}: {shown(line.reason)}", style="yellow")
    more = summary.refused_now - len(summary.refused_lines)
    if more > 0:
        where = "" if _is_gone(summary) else f": ensemble events {REFUSED} --store {quoted(summary.store)}"
        result(f"refused  {counted(more, 'more line')}{where}")
    for letter in summary.dead_letters:
        place = "" if letter.place is None else f" ({shown(letter.place)})"
        result(f"dead     {letter.player}: {shown(letter.id)}: {shown(letter.error)}{place}", style="bold red")
    if summary.dead:
        result(f"dead     {_dead(summary)}", style="bold red")
    if any(each["held"] for each in summary.players.values()):
        result(f"held     {_held(summary)}", style="yellow")
    if _is_gone(summary):
        result("log      was in memory, and is gone; --store .ensemble/NAME keeps it")
    else:
        size = "" if summary.bytes is None else f" ({sized(summary.bytes)})"
        result(f"log      {summary.store}{size}")
        if summary.requests_now:
            result(f"requests {requests_line(summary.requests_now, summary.cost_now)}")
        result(f"next     {_next(summary)}")


def _headline(summary: Summary) -> str:
    if summary.error is not None:
        how = "stopped by an error"
    elif summary.interrupted:
        how = "interrupted"
        if any(each["lag"] for each in summary.players.values()):
            how += "; what is left is " + ("gone" if _is_gone(summary) else "heard when it is played again")
    else:
        how = "played to the end"
    now, all_ = summary.events_now, summary.events
    count = counted(now, "event") if now == all_ else f"{counted(now, 'new event')}, {grouped(all_)} in all"
    return f"{summary.name}: {how}; {count} in {summary.seconds:.{2 if summary.seconds < 10 else 0}f} s"


def _dead(summary: Summary) -> str:
    letters = counted(summary.dead, "dead letter")
    return letters if _is_gone(summary) else f"{letters}: ensemble dead list --store {quoted(summary.store)}"


def _held(summary: Summary) -> str:
    """How many keys wait, and how many events behind them; of a run that was ended early that is not known."""
    holding = [each for each in summary.players.values() if each["held"]]
    keys = counted(sum(each["held"] for each in holding), "key")
    if summary.interrupted or summary.error is not None:
        return f"{keys}, each by its dead letter"
    behind = sum(each["lag"] - each["held"] for each in holding)
    return f"{keys}, each by its dead letter; {counted(behind, 'event')} wait{'s' * (behind == 1)} behind"


def _next(summary: Summary) -> str:
    """The command that most likely helps now."""
    store = f"--store {quoted(summary.store)}"
    if summary.dead:
        return f"ensemble dead list {store}"
    if summary.refused_now:
        return f"ensemble events {REFUSED} {store}"
    if summary.interrupted:
        return f"ensemble status {store}"
    return f"ensemble events {store} --limit 20"


def _is_gone(summary: Summary) -> bool:
    return summary.store.startswith("memory:")
