"""`ensemble replay`, `take diff` and `take promote`: what comes out otherwise, shown and made the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.cli.options import Json, Store, store_url, take_name, usage
from ensemble.cli.takes import Name, given_store, place
from ensemble.cli.terminal import counted, json_text, result, result_columns, result_json, shown, talk, width

if TYPE_CHECKING:
    from ensemble.event import Event
    from ensemble.replay import Change, Difference

EXAMPLES = 3
"""Changes of a player that are shown side by side."""


def replay(
    score: Annotated[Path, typer.Argument(metavar="SCORE", help="Today's score, a YAML file.", show_default=False)],
    since: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WHEN",
            help="From here on: an offset, a time (2011-11-01T08:16:00Z), how long ago (30m), or the id of an event.",
            show_default=False,
        ),
    ],
    players: Annotated[
        str | None,
        typer.Option(
            "--players", metavar="A,B", help="Only these play anew; what others said is taken as it was.", show_default=False
        ),
    ] = None,
    take: Annotated[
        str | None,
        typer.Option(
            "--take",
            metavar="NAME",
            help="What the take is called that is made. Left out: replay-1, and so on.",
            callback=take_name,
        ),
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Run yesterday's events through today's code, and tell what comes out otherwise.

    Nothing is done outside: ctx.live is false, and the score's outside: holds. What comes out otherwise is in a take, which
    `ensemble take promote` makes the truth. If nothing does, no take is made.
    """
    import ensemble
    from ensemble.progress import Bar
    from ensemble.replay import replay

    loaded = ensemble.load(score)
    url = store_url(str(score) if store is None else store)
    with Bar(f"{loaded.name}: replay") as bar:
        made = replay(
            loaded, place(since, "--from"), players=None if players is None else _names(players), take=take, store=url,
            progress=bar.show,
        )  # fmt: skip
    found = made.difference
    if json:
        result_json({
            "store": made.store, "parent": made.parent, "take": made.take, "since": made.since, "upto": made.upto,
            "replayed": made.events, "players": made.players, "unsteady": made.unsteady, "unheard": made.unheard,
            "took_s": round(made.took_s, 3), **_json(found),
        })  # fmt: skip
        return
    where = f"from offset {made.since:,} on" if made.shards == 1 else f"in {made.shards} shards, from {since} on"
    result(f"{loaded.name}: {counted(made.events, 'event')} {where}, replayed in {made.took_s:.1f} s", style="bold")
    _show(found)
    for name, times in made.unsteady.items():
        talk(f"player {name} is not deterministic: asked again, it answered otherwise {counted(times, 'time')}", sign="warning")
    for name, count in made.unheard.items():
        talk(f"player {name} did not play, and would have heard {counted(count, 'event')} more", sign="note")
    if made.take is not None:
        result(
            f"\nnext  ensemble take promote {made.take} makes it the truth of {made.parent}; --take {made.take} looks into it"
        )


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A take, such as main.", callback=take_name, show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.", callback=take_name, show_default=False)],
    store: Store = None,
    json: Json = False,
) -> None:
    """Tell what two takes say differently since they parted, event by event and table by table."""
    from ensemble.replay import difference_of

    if a == b:
        usage(f"{a} differs from itself in nothing; name two takes: ensemble take list tells which there are")
    found = difference_of(store_url(store), a, b)
    if json:
        result_json({"a": a, "b": b, **_json(found)})
    else:
        _show(found)


def promote(name: Name, store: Store = None, json: Json = False) -> None:
    """Make what a take says the truth of the take that it left: append corrections, set tables. Nothing written is changed.

    Refused if the parent has moved on in what the take rests on: replay again then. Nobody may play either meanwhile.
    """
    import msgspec

    from ensemble.replay import promote

    done = promote(given_store(store, name), name)
    if json:
        result_json(msgspec.structs.asdict(done))
        return
    states = counted(done.states, "state")
    result(f"{counted(done.corrections, 'correction')} and {states} of take {done.take} are in {done.parent} now")
    since = f" --since {done.offset}" if done.shards == 1 else ""  # an offset is one shard's own
    talk(f"ensemble events _band.corrected{since}", sign="next")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        usage("--players names nobody; write --players pricing,stock, or leave it out for all")
    return names


def _show(found: Difference) -> None:
    if not found:
        result(f"nothing differs; {counted(found.same, 'event')} the same")
        return
    changed = [(name or "from outside", each["new"], each["gone"], each["different"]) for name, each in found.counts().items()]
    if changed:
        result()
        result_columns(("player", "new", "gone", "different"), changed)
    by_player: dict[str, list[Change]] = {}
    for change in found.events:
        by_player.setdefault(change.player, []).append(change)
    for name, changes in by_player.items():
        result(f"\n{name or 'from outside'}", style="bold")
        for change in changes[:EXAMPLES]:
            result(f"  {change.kind:<9}  {change.topic}  {shown(change.key, 40)}")
            for sign, event, data in zip("-+", (change.was, change.now), change.apart(), strict=True):
                if event is not None:
                    result(_cut(f"    {sign} {event.topic}  {json_text(data)}"))
        if len(changes) > EXAMPLES:
            result(f"  and {len(changes) - EXAMPLES:,} more")
    tables: dict[str, list[Any]] = {}
    for each in found.tables:
        tables.setdefault(each.player, []).append(each)
    for name, keys in tables.items():
        result(f"\ntable {name}: {counted(len(keys), 'key')}", style="bold")
        for each in keys[:EXAMPLES]:
            was, now = each.apart()
            result(_cut(f"  {shown(each.key, 40)}  - {_state(was)}"))
            result(_cut(f"  {' ' * len(shown(each.key, 40))}  + {_state(now)}"))
        if len(keys) > EXAMPLES:
            result(f"  and {len(keys) - EXAMPLES:,} more")
    result(f"\n{counted(found.same, 'event')} the same")


def _cut(line: str) -> str:
    room = width()
    return line if room is None else shown(line, max(40, room))


def _state(value: Any) -> str:
    return "nothing" if value is None else json_text(value)


def _json(found: Difference) -> dict[str, Any]:
    return {
        "same": found.same,
        "players": found.counts(),
        "events": [
            {"kind": each.kind, "player": each.player, "was": _event(each.was), "now": _event(each.now)}
            for each in found.events
        ],
        "tables": [{"player": each.player, "key": each.key, "was": each.was, "now": each.now} for each in found.tables],
    }


def _event(event: Event | None) -> Mapping[str, Any] | None:
    if event is None:
        return None
    return {"id": event.id, "topic": event.topic, "key": event.key, "data": event.data, "offset": event.offset}


COMMANDS: Sequence[tuple[str, Any, str]] = (("replay", replay, "ensemble replay scores/acme_fitness.yaml --from 2011-11-09"),)
OF_TAKES: Sequence[tuple[str, Any, str]] = (
    ("diff", diff, "ensemble take diff main what-if"),
    ("promote", promote, "ensemble take promote replay-1"),
)
