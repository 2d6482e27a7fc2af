"""`ensemble publish`: say events to a band that plays, or leave them in a store for when it plays next."""

from __future__ import annotations

import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ensemble.cli.codes import Code
from ensemble.cli.options import Json, Store, Take, store_url, usage
from ensemble.cli.terminal import quoted, result, result_json, talk

if TYPE_CHECKING:
    from ensemble.band import Band
    from ensemble.stage.door import Guest

CHUNK = 500
"""Lines that are said at a time, at the most: no more than one request to a band that plays in another process."""
FAILED_ITEM = re.compile(r"item (\d+): (.*) \(\d+ before it were published\)", re.DOTALL)
"""How `publish_many` says which item was refused."""


def publish(
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", help="The topic; - if each line of stdin has its own.", show_default=False)
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA|-", help="The data, in JSON; - reads stdin, one event a line. Left out: null.", show_default=False
        ),
    ] = None,
    store: Store = None,
    take: Take = None,
    key: Annotated[
        str | None, typer.Option("--key", help="The event's key; left out, as the score says.", show_default=False)
    ] = None,
    id: Annotated[
        str | None,
        typer.Option("--id", help="The event's id: saying it again with the same id is one event.", show_default=False),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first line that is refused.", show_default=False)
    ] = False,
    json: Json = False,
) -> None:
    """Say an event, or many.

    It is durable when this returns. If the band plays, it hears at once; else when it plays next.
    """
    if topic == "-" and data is not None:
        usage("with - for TOPIC each line of stdin is a whole event; leave DATA out, or name the topic")
    if "-" in (topic, data):
        if key is not None or id is not None:
            usage("--key and --id are for one event; in lines, each event says its own")
        _lines(None if topic == "-" else topic, store_url(store, take), strict, json)
        return
    import ensemble

    if data is None and _is_piped():
        usage(f"what is piped in is not read: write - for DATA (ensemble publish {quoted(topic)} -), or null for no data")
    value = None if data is None else _value(data)
    url = store_url(store, take)
    with ensemble.connect(url) as speaker:
        receipt = speaker.publish(topic, value, key=key, id=id)
        _warn_of_topic(speaker, topic)
        if json:
            result_json({"id": receipt.id, "shard": receipt.shard, "offset": receipt.offset})
        else:
            result(receipt.id)
        if data is None:
            talk("DATA was left out, so its data is null", style="dim")
        _say_who_hears(speaker, url)


def _is_piped() -> bool:
    """Whether somebody gives us something on stdin: a pipe or a file, not a terminal, nor nothing at all."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _warn_of_topic(speaker: Band | Guest, topic: str) -> None:
    """Say so if nobody in the score that was played last listens to a topic."""
    from ensemble.motif import matches
    from ensemble.score import reactions
    from ensemble.score.finding import nearest
    from ensemble.score.model import Score

    score = getattr(speaker, "score", None)
    if not isinstance(score, Score) or not score.players:
        return
    heard = {each.pattern for each in reactions.heard(score)}
    if any(matches(pattern, topic) for pattern in heard):
        return
    near = nearest(topic, heard | set(score.events))
    hint = f"; did you mean {near}?" if near not in (None, topic) else ""
    talk(f"nobody listens to {topic}{hint}", sign="warning", style="yellow")


def _value(data: str) -> Any:
    import msgspec

    from ensemble.errors import InvalidEvent

    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidEvent(
            f"DATA is not JSON: {error}; found {data!r:.80}; a text needs quotes of its own: '\"hello\"'"
        ) from None


def _lines(topic: str | None, url: str, strict: bool, json: bool) -> None:
    import ensemble

    said = refused = 0

    def refuse(number: int, why: str) -> None:
        nonlocal refused
        refused += 1
        talk(f"<stdin>:{number}: {why}", sign="refused", style="yellow")

    with ensemble.connect(url) as speaker:
        for chunk in _chunks(sys.stdin.buffer):
            said += _say(speaker, topic, chunk, refuse, strict)
            if strict and refused:
                break
        if json:
            result_json({"published": said, "refused": refused})
        else:
            result(f"{said:,} published" + (f", {refused:,} refused" if refused else ""))
        if topic is not None and said:
            _warn_of_topic(speaker, topic)
        _say_who_hears(speaker, url)
    if refused:
        raise typer.Exit(Code.WRONG)


def _say(
    speaker: Band | Guest,
    topic: str | None,
    lines: list[tuple[int, bytes]],
    refuse: Callable[[int, str], None],
    strict: bool,
) -> int:
    """Publish lines, those that are refused left out; how many were published."""
    import msgspec

    from ensemble.errors import InvalidEvent

    numbers: list[int] = []
    items: list[Any] = []
    broken: tuple[int, str] | None = None
    for number, line in lines:
        try:
            items.append(msgspec.json.decode(line))
            numbers.append(number)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if strict:
                broken = (number, f"not JSON: {error}")
                break
            refuse(number, f"not JSON: {error}")
    said = 0
    while items:
        try:
            return said + speaker.publish_many(items, topic=topic)
        except InvalidEvent as error:
            found = FAILED_ITEM.fullmatch(str(error))
            if found is None:
                raise
            at = int(found[1])
            said += at - 1
            refuse(numbers[at - 1], found[2])
            if strict:
                return said
            items, numbers = items[at:], numbers[at:]
    if broken is not None:
        refuse(*broken)
    return said


def _chunks(stream: IO[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """The lines of a stream with their numbers, as many at a time as are there: nobody waits for the next to hear the last."""
    queue: SimpleQueue[tuple[int, bytes] | None] = SimpleQueue()
    room = threading.Semaphore(20 * CHUNK)

    def read() -> None:
        for number, line in enumerate(stream, 1):
            if line.strip():
                room.acquire()
                queue.put((number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line))
        queue.put(None)

    threading.Thread(target=read, name="ensemble-stdin", daemon=True).start()
    at: tuple[int, bytes] | None
    while (at := queue.get()) is not None:
        chunk = [at]
        try:
            while len(chunk) < CHUNK and (at := queue.get_nowait()) is not None:
                chunk.append(at)
        except Empty:
            pass
        room.release(len(chunk))
        yield chunk
        if at is None:
            return


def _say_who_hears(speaker: Band | Guest, url: str) -> None:
    from ensemble.band import Band

    if isinstance(speaker, Band) and not url.startswith("ray:"):
        talk(f"nobody plays {url} now: it is heard when the store is played next (ensemble run SCORE)", style="dim")


COMMANDS = (
    ("publish", publish, """ensemble publish order.placed '{"order_id": "o-1", "total": 39.5}' --store .ensemble/shop"""),
)
