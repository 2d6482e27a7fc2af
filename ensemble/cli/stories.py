"""`ensemble why`: where an event comes from, and what it led to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.cli.draw import Dark, Out, chain_of, draw_chain, ready
from ensemble.cli.look import event_json
from ensemble.cli.options import Json, Store, Take, store_url, usage
from ensemble.cli.terminal import json_text, result_json, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from ensemble.event import Event
    from ensemble.status import Chain, Reaction


def why(
    id: Annotated[str, typer.Argument(metavar="EVENT-ID", help="The event's id, or its offset.", show_default=False)],
    store: Store = None,
    take: Take = None,
    output: Out = None,
    dark: Dark = False,
    json: Json = False,
) -> None:
    """Tell where an event comes from.

    Its causes stand above it, what was said in answer to it below, with how long after the first of them, and how often
    players failed at it. With -o FILE it is drawn, as by `ensemble timeline --why`.
    """
    import ensemble

    if json and output is not None:
        usage("--json writes the chain as text, and -o draws it; give one of them")
    if output is not None:
        ready(output)
    with ensemble.read(store_url(store, take)) as reader:
        chain = chain_of(reader, id)
        if output is not None:
            draw_chain(reader.history(), chain, output, dark=dark)
        elif json:
            result_json({
                "event": event_json(chain.event),
                "causes": [event_json(cause) for cause in chain.causes],
                "tree": _tree_json(chain.tree),
            })  # fmt: skip
        else:
            _draw(chain, reader.failures(_all_of(chain)))


def _tree_json(root: Reaction) -> Any:
    """The tree as nested lists, built from its leaves, since a chain may be longer than the stack."""
    order = [root]
    for each in order:
        order.extend(each.said)
    made: dict[int, Any] = {}
    for each in reversed(order):
        made[id(each)] = {
            "event": event_json(each.event),
            "player": each.player,
            "said": [made[id(answer)] for answer in each.said],
        }
    return made[id(root)]


def _all_of(chain: Chain) -> list[Event]:
    reactions = [chain.tree]
    for each in reactions:
        reactions.extend(each.said)
    return [*chain.causes, *(each.event for each in reactions)]


def _draw(chain: Chain, failures: Mapping[tuple[int, int], Mapping[str, Sequence[str]]]) -> None:
    from rich.console import Console
    from rich.tree import Tree

    from ensemble.event import Match

    console = Console(highlight=False)
    if not console.is_terminal:  # programs cut lines themselves
        console.width = 10_000
    tops: list[Tree] = []
    drawn: dict[str, Tree] = {}
    last: Tree | None = None
    begin = min(event.written_at for event in (*chain.causes, chain.event))

    def label_of(event: Event, player: str | None, style: str) -> Any:
        return _label(event, player, style, begin, failures.get((event.shard, event.offset), {}))

    for event in (*chain.causes, chain.event):
        label = label_of(event, _speaker(event), "bold" if event is chain.event else "")
        parts = [part.id for part in event.events if part.id in drawn] if isinstance(event, Match) else []
        for part in parts[:-1]:
            drawn[part].add(f"[dim]… is part of {event.topic}  {event.id}[/dim]")
        cause = event.causationid
        above = drawn[parts[-1]] if parts else None if cause is None else drawn.get(cause, last)
        at = Tree(label) if above is None else above.add(label)
        if above is None:
            tops.append(at)
        drawn[event.id] = last = at
    waiting = [(at, reaction) for reaction in reversed(chain.tree.said)]
    while waiting:
        above, reaction = waiting.pop()
        here = above.add(label_of(reaction.event, reaction.player, ""))
        waiting += [(here, answer) for answer in reversed(reaction.said)]
    for top in tops:
        console.print(top)


def _speaker(event: Event) -> str | None:
    return event.source.split("/")[2] if event.source.count("/") == 2 else None


def _label(event: Event, player: str | None, style: str, begin: datetime, failures: Mapping[str, Sequence[str]]) -> Any:
    from rich.text import Text

    text = Text()
    text.append(event.topic, style=style or "cyan")
    text.append(f"  {shown(event.key, 40)}" if event.key else "")
    text.append(f"  {shown(json_text(event.data), 80)}", style="dim")
    is_match = bool(event._rows.parts(event._ix))
    text.append(
        f"  by {player}" if player else "  a match" if is_match else "  from outside", style="green" if player else "magenta"
    )
    text.append(f"  {event.id}", style="dim")
    later = event.written_at - begin
    text.append(f"  +{_short(later)}" if later else f"  {event.written_at:%Y-%m-%d %H:%M:%S}", style="dim")
    for name, errors in failures.items():
        times = "once" if len(errors) == 1 else f"{len(errors)} times"
        text.append(f"  {name} failed {times}: {shown(errors[-1], 60)}", style="red")
    return text


def _short(time: timedelta) -> str:
    seconds = time.total_seconds()
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1000:.3g} ms"


COMMANDS = (("why", why, "ensemble why us2000crkq --store scores/quakes.yaml"),)
