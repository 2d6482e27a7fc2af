"""`ensemble take` and `ensemble rollback`: branches of a log, and which of them is played."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ensemble.cli.codes import Code
from ensemble.cli.options import Json, Store, is_id, moment, store_url, take_name
from ensemble.cli.terminal import counted, quoted, result, result_columns, result_json, sized, talk

if TYPE_CHECKING:
    from ensemble.takes import Take, When

ABOUT = "Takes: branches of a log, which share its past and cost nothing."

Name = Annotated[str, typer.Argument(metavar="NAME", help="The take.", callback=take_name, show_default=False)]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="WHEN",
        help="What was written before: an offset, a time (2011-11-01T08:16:00Z), how long ago (30m), or the id of an event. "
        "Left out: all that there is.",
        show_default=False,
    ),
]


def new(name: Name, at: At = None, store: Store = None, json: Json = False) -> None:
    """Make a take: a branch that has all that was written before a place, and goes on by itself.

    A take of a take: --store URL#NAME.
    """
    from ensemble import takes

    url, asked = store_url(store), place(at, "--at")
    made = takes.new(url, name, asked)
    if json:
        result_json(_json(made))
        return
    result(_line(made))
    _tell_of_frame(asked, made)
    talk(f"play it: ensemble run SCORE --take {name}; look into it: --take {name}, or --store {quoted(f'{_bare(url)}#{name}')}")


def show_all(store: Store = None, json: Json = False) -> None:
    """List the takes of a store, `main` first."""
    from ensemble import takes
    from ensemble.log import lost_current

    url = store_url(store)
    looked_at = takes.looked_at(url)
    found = [each for each in looked_at if isinstance(each, takes.Take)]
    _show(found, json=json)
    for each in looked_at:
        if not isinstance(each, takes.Take):
            talk(str(each), style="bold red", sign="error")
    if (lost := lost_current(_bare(url))) is not None:
        talk(lost, sign="warning", style="yellow")
    if len(found) < len(looked_at):
        raise typer.Exit(Code.STORE)


def _show(found: list[Take], *, json: bool) -> None:
    if json:
        for each in found:
            result_json(_json(each))
        return
    result_columns(
        ("take", "", "leaves", "at offset", "left at (UTC)", "own events", "size"),
        [
            (
                each.name, "current" * each.is_current, each.parent or "", "" if each.parent is None else each.offset,
                "" if each.left_at is None else f"{each.left_at:%Y-%m-%d %H:%M:%S}", each.events, sized(each.bytes),
            )
            for each in found
        ],
    )  # fmt: skip


def use(name: Name, store: Store = None, json: Json = False) -> None:
    """Make a take the current one: it is played, live, where none is named.

    A band that is up on Ray (--store ray:NAME) goes on in it; else nobody may play what is current now.
    """
    from ensemble import takes

    url = given_store(store, name)
    takes.use(url, name)
    _tell_current(url, name, json)


def drop(name: Name, store: Store = None, json: Json = False) -> None:
    """Take a take away, with all that was said in it alone."""
    from ensemble import takes

    url = given_store(store, name)
    takes.drop(url, name)
    if json:
        result_json({"dropped": name, "store": url})
    else:
        result(f"take {name} of {url} is dropped")


def rollback(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="WHEN",
            help="What was written before stays: an offset, a time (2011-11-01T08:16:00Z), how long ago (30m), or the id of an "
            "event.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="What the take is called. Left out: rollback-1, and so on.", callback=take_name, show_default=False
        ),
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Go back: make a take at this place and make it current. What was current stays, under its name.

    A band that is up on Ray (--store ray:NAME) stops meanwhile and goes on from there; else nobody may play the store. What was
    done outside stays done.
    """
    from ensemble import takes

    url = store_url(store)
    asked = place(to, "--to")
    made = takes.rollback(url, asked, name)
    if json:
        result_json(_json(made))
        return
    result(_line(made))
    _tell_of_frame(asked, made)
    talk(f"it is current now; {made.parent} stays as it is, and `ensemble take use {made.parent}` goes back to it", sign="note")


def given_store(given: str | None, name: str) -> str:
    """The url of the store that is meant by `--store`, which may name this take, and no other one."""
    return _bare(store_url(given, name))


def place(text: str | None, option: str) -> When:
    """A place in a log: an offset, a time, or the id of an event."""
    if text is None or not is_id(text):
        return moment(text, option)
    return text


def _tell_of_frame(asked: When, made: Take) -> None:
    if isinstance(asked, int) and asked != made.offset:
        talk(f"offset {asked} stands inside of a frame, so the take begins before that frame", sign="note")


def _tell_current(url: str, name: str, json: bool) -> None:
    if json:
        result_json({"current": name, "store": url})
    else:
        result(f"take {name} of {url} is current")


def _bare(url: str) -> str:
    from ensemble.log.takes import split

    return split(url)[0]


def _line(take: Take) -> str:
    shared = "" if take.left_at is None else f", after what was written at {take.left_at:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"take {take.name} leaves {take.parent} at offset {take.offset:,}{shared}; {counted(take.events, 'event')} of its own"
    )


def _json(take: Take) -> dict[str, object]:
    import msgspec

    return msgspec.structs.asdict(take)


COMMANDS = (
    ("new", new, "ensemble take new what-if --at 2011-11-09T12:00:00Z"),
    ("list", show_all, "ensemble take list --store .ensemble/acme-fitness"),
    ("use", use, "ensemble take use main"),
    ("drop", drop, "ensemble take drop what-if"),
)
ROLLBACK = (("rollback", rollback, "ensemble rollback --to 2011-11-09T12:00:00Z"),)
