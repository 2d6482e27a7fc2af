"""`ensemble dead`: the dead letters, what happened to them, and hearing them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.cli.look import event_json, event_line
from ensemble.cli.options import At, Json, Store, Take, place, store_url, usage
from ensemble.cli.terminal import counted, quoted, result, result_columns, result_json, shown, talk, width

if TYPE_CHECKING:
    from ensemble.status import DeadLetter

ABOUT = "The dead letters: events that a player could not hear, with their errors."

Player = Annotated[str | None, typer.Option("--player", help="Only those of this player.", show_default=False)]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of the event that failed.", show_default=False)]


def show_all(store: Store = None, take: Take = None, player: Player = None, at: At = None, json: Json = False) -> None:
    """List the dead letters, in the order in which they died."""
    import ensemble

    url, then = store_url(store, take), place(at)
    with ensemble.read(url) as reader:
        letters = reader.dead(player, at=then)
    if json:
        for letter in letters:
            result_json(_json(letter))
        return
    if not letters:
        talk(f"no dead letters in {url}" + ("" if then is None else " then"))
        return
    room = width()
    rows = [
        (each.id, each.player, each.event.topic, shown(each.event.key, 24), each.attempts, "held" * each.held, each.error)
        for each in letters
    ]
    taken = sum(max(len(str(row[ix])) for row in rows) + 2 for ix in range(6))
    most = None if room is None else max(24, room - max(taken, 30))
    result_columns(
        ("id", "player", "topic", "key", "attempts", "", "error"),
        [(*row[:6], shown(row[6], most)) for row in rows],
    )


def show(id: Id, store: Store = None, take: Take = None, player: Player = None, json: Json = False) -> None:
    """Show all of a dead letter: its event, its error and the traceback."""
    import ensemble

    url = store_url(store, take)
    with ensemble.read(url) as reader:
        letters = [letter for letter in reader.dead(player) if letter.id == id]
    if not letters:
        raise KeyError(f"there is no dead letter {id!r} in {url}; `ensemble dead list --store {quoted(url)}` lists them")
    for letter in letters:
        if json:
            result_json(_json(letter))
            continue
        result(f"{letter.player} could not hear {letter.id}", style="bold")
        result(f"attempts  {letter.attempts}, the last at {letter.at:%Y-%m-%d %H:%M:%S} UTC")
        if letter.held:
            result(f"held      later events of the key {shown(letter.event.key)} wait for it")
        result(f"event     {event_line(letter.event).strip()}")
        result(f"cause     {letter.event.causationid or 'published from outside'}")
        result()
        result(letter.traceback.rstrip() or letter.error)


def retry(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="The id of the event that failed.", show_default=False)] = None,
    store: Store = None,
    take: Take = None,
    player: Player = None,
    all: Annotated[bool, typer.Option("--all", help="All of them.", show_default=False)] = False,
    json: Json = False,
) -> None:
    """Have dead letters heard again: one, those of a player, or all."""
    import ensemble
    from ensemble.band import Band

    if id is None and player is None and not all:
        usage("which? Give an ID, --player NAME, or --all")
    if all and (id is not None or player is not None):
        usage("--all is all of them; leave it out to choose some")
    url = store_url(store, take)
    with ensemble.connect(url) as speaker:
        count = speaker.retry_dead(player=player, id=id)
        is_played = not isinstance(speaker, Band) or url.startswith("ray:")
    if json:
        result_json({"again": count, "playing": is_played})
    else:
        result(f"{counted(count, 'event')} to be heard again")
        if count and not is_played:
            talk(f"nobody plays {url} now; they are heard when it is played again (ensemble run SCORE)")
    if id is not None and not count:
        raise KeyError(f"there is no dead letter {id!r} in {url}; `ensemble dead list --store {quoted(url)}` lists them")


def _json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "player": letter.player,
        "attempts": letter.attempts,
        "error": letter.error,
        "at": letter.at,
        "held": letter.held,
        "event": event_json(letter.event),
        "traceback": letter.traceback,
    }


COMMANDS = (
    ("list", show_all, "ensemble dead list --player payment"),
    ("show", show, "ensemble dead show 7xk2m9qf4hzn-1042"),
    ("retry", retry, "ensemble dead retry --player payment"),
)
