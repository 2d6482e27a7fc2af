"""`ensemble events`, `tail`, `table` and `status`: look into a store, whether it is played at the moment or not."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.cli.options import At, Json, Key, Since, Store, Take, moment, pattern, place, store_url
from ensemble.cli.terminal import (
    counted,
    flush,
    json_text,
    requests_line,
    result,
    result_columns,
    result_json,
    shown,
    sized,
    talk,
    width,
)

if TYPE_CHECKING:
    from ensemble.event import Event

LOOKED_AT = 200
"""How many events decide how wide the columns are, before the first is written."""

Pattern = Annotated[
    str,
    typer.Argument(metavar="PATTERN", help="Topics: * is one token, > all the rest (order.*).", show_default=False),
]
CloudEvents = Annotated[bool, typer.Option("--cloudevents", help="Write each event as a CloudEvent 1.0.", show_default=False)]


def events(
    topics: Pattern = ">",
    store: Store = None,
    take: Take = None,
    key: Key = None,
    since: Since = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Up to here, not included; as --since.", show_default=False)
    ] = None,
    lifted: Annotated[
        bool, typer.Option("--lifted", help="Data as players hear it now, not as it was said.", show_default=False)
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, help="So many at the most.", show_default=False)] = None,
    json: Json = False,
    cloudevents: CloudEvents = False,
) -> None:
    """List the events of a store.

    Times are the events' own, as they are shown. These may go back from one event to the next, so all of the log is looked
    through; offsets are faster.
    """
    import ensemble

    pattern(topics)
    begin, end = moment(since, "--since"), moment(until, "--until")
    with ensemble.read(store_url(store, take)) as reader:
        _write(islice(reader.events(topics, key=key, since=begin, until=end, lifted=lifted), limit), json, cloudevents)


def tail(
    topics: Pattern = ">",
    store: Store = None,
    take: Take = None,
    key: Key = None,
    since: Since = None,
    json: Json = False,
    cloudevents: CloudEvents = False,
) -> None:
    """List events as they come, until Ctrl-C."""
    import ensemble

    pattern(topics)
    begin = moment(since, "--since")
    with ensemble.read(store_url(store, take)) as reader:
        _write(reader.tail(topics, key=key, since=begin), json, cloudevents, at_once=True)


def table(
    player: Annotated[str, typer.Argument(metavar="PLAYER", help="Whose state.", show_default=False)],
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Only the state of this key.", show_default=False)] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="TEXT", help="Only keys that begin so, in order.", show_default=False)
    ] = None,
    at: At = None,
    store: Store = None,
    take: Take = None,
    json: Json = False,
) -> None:
    """Show the state that a player keeps, or kept at a moment of the past."""
    import ensemble

    if key is not None and prefix is not None:
        raise typer.BadParameter("name a KEY or a --prefix, not both")
    then = place(at)
    with ensemble.read(store_url(store, take)) as reader:
        table = reader.table(player, at=then)
        rows = dict(table.items()) if prefix is None else table.range(prefix)
        if key is not None:
            if key not in rows:
                keeps, has = ("keeps", "has") if then is None else ("kept", "had")
                raise KeyError(f"player {player} {keeps} no state for the key {key!r}; it {has} {_some(rows)}")
            rows = {key: rows[key]}
        if json:
            for name in rows:
                result_json({"key": name, "state": rows[name]})
        elif key is not None:
            result(json_text(rows[key]))
        else:
            widest = min(40, max((len(shown(name)) for name in rows), default=0))
            for name in rows:
                room = width()
                state = shown(json_text(rows[name]), None if room is None else max(20, room - widest - 2))
                result(f"{shown(name).ljust(widest)}  {state}")
            if not rows:
                talk(f"player {player} keeps no state" + (f" for keys that begin with {prefix!r}" if prefix else ""))


def status(at: At = None, store: Store = None, take: Take = None, json: Json = False) -> None:
    """Show how a band stands, or stood at a moment of the past: lag and counts."""
    import ensemble
    from ensemble.stage.door import knock, store_folder

    url, then = store_url(store, take), place(at)
    with ensemble.read(url) as reader:
        now = reader.status(at=then)
    folder = store_folder(url)
    is_up = url.startswith("ray:")
    guest = None if folder is None or is_up else knock(folder, url)
    if guest is not None:
        guest.close()
    if json:
        import msgspec

        result_json({**msgspec.to_builtins(now), "playing": guest is not None or is_up})
        return
    size = "" if now.bytes is None else f", {sized(now.bytes)}"
    how = "playing now" if guest or is_up else "not playing now"
    if then is not None:
        how = f"as it was {'at' if isinstance(then, datetime) else 'before'} {at}"
    count = counted(now.events, "event")
    result(f"{now.name}: {count} in {url}{size}; {how}", style="bold")
    if now.sections:
        result()
        result_columns(
            ("player", "lag", "heard", "emitted", "failed", "dead", "waiting", "held", "instances"),
            [
                (name, each.lag, each.heard, each.emitted, each.failed, each.dead, each.waiting, each.held, each.instances)
                for name, each in now.sections.items()
            ],
        )
    if now.sources:
        result()
        result_columns(
            ("source", "said", "refused", ""),
            [(name, each.said, each.refused, "" if each.done else "not at its end") for name, each in now.sources.items()],
        )
    if now.timers:
        result(f"\n{counted(now.timers, 'timer')} waiting")
    if now.requests:
        result(f"\nrequests {requests_line(now.requests, now.cost)}")
    for note in now.notes:
        talk(note, sign="note", style="yellow")


def event_json(event: Event) -> dict[str, Any]:
    """An event as `--json` writes it."""
    return {
        "id": event.id,
        "topic": event.topic,
        "key": event.key,
        "data": event.data,
        "time": event.time,
        "shard": event.shard,
        "offset": event.offset,
        "source": event.source,
        "causationid": event.causationid,
        "correlationid": event.correlationid,
        "traceparent": event.traceparent,
        "version": event.version,
        **({"forgotten": True} if event.forgotten else {}),
    }


class Columns:
    """How wide what stands before the data is. A terminal has no room to spare: there each column is as wide as it needs."""

    def __init__(self, room: int | None = None) -> None:
        self._room = room
        self.offset, self.topic, self.key = (8, 28, 12) if room is None else (1, 1, 1)

    def fit(self, event: Event) -> None:
        """Make room for an event."""
        self.offset = max(self.offset, len(str(event.offset)))
        self.topic = max(self.topic, min(28, len(event.topic)))
        self.key = max(self.key, min(12, len(shown(event.key))))

    def line(self, event: Event) -> str:
        time = event.time.strftime("%Y-%m-%d %H:%M:%S")
        line = (
            f"{event.offset:>{self.offset}}  {time}  {event.topic:<{self.topic}}  {shown(event.key, 40):<{self.key}}  "
            f"{shown(json_text(event.data))}"
        )
        return line if self._room is None else shown(line, max(40, self._room))


def event_line(event: Event) -> str:
    """An event as a person reads it, in one line."""
    return Columns().line(event)


def _write(events: Iterable[Event], json: bool, cloudevents: bool, *, at_once: bool = False) -> None:
    if cloudevents or json:
        for event in events:
            result_json(event.cloudevent() if cloudevents else event_json(event))
            if at_once:
                flush()
        return
    columns = Columns(width())
    coming = iter(events)
    # The first are looked at before they are written; who tails sees each at once, and widths that grow.
    first = list(islice(coming, 0 if at_once or width() is None else LOOKED_AT))
    for event in first:
        columns.fit(event)
    for event in chain(first, coming):
        columns.fit(event)
        result(columns.line(event))
        if at_once:
            flush()


def _some(rows: Iterable[str], most: int = 5) -> str:
    names = [shown(name, 40) for name in islice(rows, most + 1)]
    return ", ".join(names[:most]) + (", …" if len(names) > most else "") or "none"


COMMANDS = (
    ("events", events, 'ensemble events "order.*" --key 573744 --store .ensemble/acme-fitness'),
    ("tail", tail, 'ensemble tail "payment.>" --json'),
    ("table", table, "ensemble table stock 22423 --at 5000 --store scores/acme_fitness.yaml"),
    ("status", status, "ensemble status --store .ensemble/acme-fitness"),
)
