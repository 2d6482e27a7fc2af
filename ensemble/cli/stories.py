"""`ensemble why`: where an event comes from, and what it led to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.cli.look import event_json
from ensemble.cli.options import Json, Store, store_url
from ensemble.cli.terminal import json_text, quoted, result_json, shown

if TYPE_CHECKING:
    from ensemble.event import Event
    from ensemble.reader import Reader
    from ensemble.status import Chain, Reaction


def why(
    id: Annotated[str, typer.Argument(metavar="EVENT-ID", help="The event's id, or its offset.", show_default=False)],
    store: Store = None,
    json: Json = False,
) -> None:
    """Tell where an event comes from.

    Its causes stand above it, what was said in answer to it below.
    """
    import ensemble

    with ensemble.read(store_url(store)) as reader:
        chain = _chain(reader, id)
        if json:
            result_json({
                "event": event_json(chain.event),
                "causes": [event_json(cause) for cause in chain.causes],
                "tree": _tree_json(chain.tree),
            })  # fmt: skip
        else:
            _draw(chain)


def _chain(reader: Reader, id: str) -> Chain:
    from ensemble.errors import OffsetError

    try:
        return reader.why(id)
    except OffsetError as unknown:
        if id.isdecimal() and int(id) < reader.status().events:
            return reader.why(f"{reader.id}-{id}")
        if next(reader.events(key=id), None) is not None:
            raise OffsetError(
                f"there is no event {id!r}, but {id} is a key; `ensemble events --key {quoted(id)} --store "
                f"{quoted(reader.url)}` lists its events, each with the offset by which `ensemble why` finds it"
            ) from None
        if not id.isdecimal():
            raise unknown
        return reader.why(f"{reader.id}-{id}")


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


def _draw(chain: Chain) -> None:
    from rich.console import Console
    from rich.tree import Tree

    from ensemble.event import Match

    console = Console(highlight=False)
    if not console.is_terminal:  # programs cut lines themselves
        console.width = 10_000
    tops: list[Tree] = []
    drawn: dict[str, Tree] = {}
    last: Tree | None = None
    for event in (*chain.causes, chain.event):
        label = _label(event, _speaker(event), "bold" if event is chain.event else "")
        parts = [part.id for part in event.events if part.id in drawn] if isinstance(event, Match) else []
        for part in parts[:-1]:
            drawn[part].add(f"[dim]… is part of {event.topic}  {event.id}[/dim]")
        above = drawn[parts[-1]] if parts else drawn.get(event.causationid or "", last if not len(tops) > 1 else None)
        at = Tree(label) if above is None else above.add(label)
        if above is None:
            tops.append(at)
        drawn[event.id] = last = at
    waiting = [(at, reaction) for reaction in reversed(chain.tree.said)]
    while waiting:
        above, reaction = waiting.pop()
        here = above.add(_label(reaction.event, reaction.player, ""))
        waiting += [(here, answer) for answer in reversed(reaction.said)]
    for top in tops:
        console.print(top)


def _speaker(event: Event) -> str | None:
    return event.source.split("/")[2] if event.source.count("/") == 2 else None


def _label(event: Event, player: str | None, style: str) -> Any:
    from rich.text import Text

    text = Text()
    text.append(event.topic, style=style or "cyan")
    text.append(f"  {shown(event.key, 40)}" if event.key else "")
    text.append(f"  {shown(json_text(event.data), 80)}", style="dim")
    text.append(f"  by {player}" if player else "  from outside", style="green" if player else "magenta")
    text.append(f"  {event.id}", style="dim")
    return text


COMMANDS = (("why", why, "ensemble why us2000crkq --store scores/quakes.yaml"),)
