"""Takes made, listed, dropped and made current (docs/takes.md).

Owns who is kept out meanwhile, and what is refused. At which place a take leaves its parent is the business of
`ensemble.cuts`, where takes are kept that of `ensemble.log.takes`, what one holds that of `ensemble.log.branch`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, closing, suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from ensemble.cuts import before_event, cut
from ensemble.errors import EnsembleError, LogCorrupt, OffsetError, Unavailable
from ensemble.event import EPOCH
from ensemble.log import (
    CHANGES_TAKES,
    Fork,
    count_shards,
    fork_of,
    has_log,
    hold,
    make_take,
    own_logs,
    read_log,
    refuse_archive,
    shut,
    take_of,
)
from ensemble.log import takes as kept
from ensemble.log.cut import place_of_offset, place_of_time, read_place
from ensemble.log.fence import Busy
from ensemble.log.takes import MAIN
from ensemble.opening import of_ray, read

if TYPE_CHECKING:
    from ensemble.stage.on_ray.bands import Act

When = int | datetime | str | None
"""An offset, a time, or the id of an event; None: the end."""


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """A take as it stands."""

    name: str
    id: str
    """That of its own log; of several shards, of the first."""
    parent: str | None
    """The take that it leaves; None: it is `main`."""
    offset: int
    """Where it leaves its parent, and so where its own events begin; of several shards, in the first."""
    left_at: datetime | None
    """When the last frame that it shares with its parent was written; None: it shares none."""
    events: int
    """Its own, in all shards."""
    bytes: int
    is_current: bool


def new(url: str, name: str, at: When = None) -> Take:
    """Make a take of the store, or of the take, at this url, which has all that was written before `at`.

    Errors: Unavailable if there is one of this name, or the store refuses; OffsetError if there is no such place or event;
            TypeError if `at` is none.
    """
    kept.check_name(name)
    asked = check_place(at)
    store, parent = take_of(_at_a_store(url))
    refuse_archive(store)
    with ExitStack() as stack:
        reader = stack.enter_context(read(f"{store}#{parent}"))
        logs = [shard.log for shard in reader._shards]
        if isinstance(asked, str):
            event = reader._event_of(asked)
            places = before_event(event._rows.time_us, event.shard, event.offset, logs)
        elif isinstance(asked, tuple):
            places = cut(logs, [place_of_time(log, asked[0]) for log in logs])
        elif asked is None:
            places = cut(logs, [log.end() for log in logs])
        elif len(logs) > 1:
            raise OffsetError(
                f"{url}: it has {len(logs)} shards, each with offsets of its own; name a time, or the id of an event"
            )
        else:
            places = [place_of_offset(logs[0], asked)]
        make_take(store, name, reader.name, [Fork(parent, log.id, place) for log, place in zip(logs, places, strict=True)])
    return _told(store, name, kept.current(store))


def listed(url: str) -> list[Take]:
    """The takes of a store, `main` first. LogCorrupt; Unavailable, also if one of them can't be read."""
    for each in (found := looked_at(url)):
        if isinstance(each, EnsembleError):
            raise each
    return [each for each in found if isinstance(each, Take)]


def looked_at(url: str) -> list[Take | EnsembleError]:
    """The takes of a store, `main` first; in place of one that can't be read, what is wrong with it. Of `main` it is raised."""
    store, _ = kept.split(_at_a_store(url))
    current = kept.current(store)
    found: list[Take | EnsembleError] = [_told(store, MAIN, current)]
    for name in kept.names(store):
        try:
            found.append(_told(store, name, current))
        except (LogCorrupt, Unavailable) as error:
            found.append(type(error)(f"take {name!r} can't be read: {error}; or drop it: ensemble take drop {name}"))
    return found


def drop(url: str, name: str) -> None:
    """Take a take away, with all that was said in it alone.

    Errors: Unavailable if it is `main`, current, being played, or others stand on it.
    """
    if name == MAIN:
        raise Unavailable(
            f"{url}: main is the trunk, on which all takes stand; it can't be dropped, but other takes can: ensemble take list"
        )
    store, _ = take_of(f"{store_naming(_at_a_store(url), name)}#{name}")
    with kept.dropping(store, name):
        take_of(f"{store}#{name}")  # still
        if kept.current(store) == name:
            raise Unavailable(f"{store}: take {name!r} is current; make another one so first: ensemble take use main")
        standing = _standing(store, name)
        if standing:
            alone = len(standing) == 1
            raise Unavailable(
                f"{store}: {', '.join(standing)} stand{'s' * alone} on take {name!r}; drop {'that' if alone else 'those'} first"
            )
        with _shut(store, name, "dropped"):
            kept.remove(store, name)
        kept.sweep(store, name)  # its writer, who was just let go, may have written that it ends


def use(url: str, name: str) -> None:
    """Make a take the current one: it is played where none is named, and it is played live.

    Shapes: `ray:NAME` is a band that is up on a cluster; it goes on in that take, in all its shards or in none.
            A pointer that names no take is mended so; as it may have been any, nobody may play any of them meanwhile.
    Errors: Unavailable if there is none of this name, or what is current is being played and not named as such a band.
    """
    store = store_naming(url, name)
    if url.startswith("ray:"):
        kept.check_name(name)
        with _at_rest(url) as act:
            act(partial(_used, name=name))
        return
    store, _ = take_of(f"{store}#{name}")
    now = _current(store)
    with ExitStack() as stack:
        for left in (MAIN, *kept.names(store)) if now is None else (now,):
            if left == name or has_log(f"{store}#{left}"):  # else it was removed by hand, so nobody plays it
                stack.enter_context(_shut(store, left, "left"))
        if now != name:
            _refuse_damaged(store, name)
        stack.enter_context(kept.alone(store))
        take_of(f"{store}#{name}")  # still
        _refuse_moved(store, now)
        kept.make_current(store, name)
        if kept.is_dropped(store, name):  # in an object store nobody is kept out: who drops it looks after his mark is there
            kept.make_current(store, now or MAIN)
            raise Unavailable(
                f"{store}: take {name!r} is being dropped, or somebody was ended while he did, and {now or MAIN!r} is current; "
                f"drop it again (ensemble take drop {name}), or use another one"
            )


def rollback(url: str, to: When, name: str | None = None) -> Take:
    """Make a take at this place of the current one, and make it current. What was current stays, under its name.

    Shapes: `ray:NAME` as in `use`.
    Errors: as `new` and `use`.
    """
    check_place(to)
    if url.startswith("ray:"):
        if name is not None:
            kept.check_name(name)
        with _at_rest(url) as act:
            before, name = act(partial(_planned, name=name))
            return msgspec.convert(act(partial(_rolled_back, to=to, name=name, before=before)), Take)
    store, named = kept.split(url)
    _, before = take_of(store)
    if named not in (None, before):
        raise Unavailable(
            f"{store}: {before!r} is current, and only that is rolled back; make {named!r} current first: ensemble take use "
            f"{named}"
        )
    with _kept_from_all(hold(store, before, CHANGES_TAKES), store, before, "rolled back"):
        _refuse_moved(store, before)
        made = new(f"{store}#{before}", name or _free_name(store), to)
        with kept.alone(store):
            take_of(f"{store}#{made.name}")  # still
            kept.make_current(store, made.name)
    return msgspec.structs.replace(made, is_current=True)


def check_place(at: When) -> int | tuple[int] | str | None:
    """An offset, a time in microseconds, the id of an event, or the end. Errors: as `read_place`."""
    return None if at is None else read_place(at, ids=True)


def store_naming(url: str, name: str) -> str:
    """The store at a url that may name this take, and no other one. TypeError."""
    store, named = kept.split(url)
    if named not in (None, name):
        raise TypeError(f"{url!r} names the take {named!r}, and {name!r} is asked for; name one")
    return store


def _at_a_store(url: str) -> str:
    """The url, if it is that of a store. Unavailable if it is that of a band."""
    if url.startswith("ray:"):
        raise Unavailable(f"{url}: takes are made, listed and dropped at the store of a band, also while it plays: --store URL")
    return url


def _free_name(store: str) -> str:
    taken = kept.names(store)
    return next(f"rollback-{n}" for n in count(1) if f"rollback-{n}" not in taken)


# Of a band that is up: what is done where its first shard is, while all of them rest; twice, where an answer was lost.


def _at_rest(url: str) -> AbstractContextManager[Act]:
    from ensemble.stage.on_ray.bands import at_rest

    return at_rest(*of_ray(url))


def _planned(url: str, name: str | None) -> tuple[str, str]:
    """What is current, and the name of the take that a rollback makes: there is none of that name yet. Unavailable."""
    store, _ = kept.split(url)
    if name is not None and (name == MAIN or name in kept.names(store)):
        raise kept.is_there(store, name)
    return kept.current(store), name or _free_name(store)


def _rolled_back(url: str, to: When, name: str, before: str) -> Take:
    store, _ = kept.split(url)
    if kept.current(store) == before:
        if name not in kept.names(store):
            return rollback(url, to, name)
        use(url, name)  # it was made before, and the process died before it was current
    return _told(store, name, kept.current(store))


def _used(url: str, name: str) -> None:
    store, named = kept.split(url)
    if named is not None:
        raise Unavailable(f"{store}: this band plays take {named!r}, whichever is current; take it down, and use {name!r} then")
    use(url, name)


def _shut(store: str, take: str, what: str) -> ExitStack:
    return _kept_from_all(shut(store, take), store, take, what)


def _kept_from_all(held: AbstractContextManager[object], store: str, take: str, what: str) -> ExitStack:
    """The take, held so that nobody plays it. Unavailable, with what to do, if somebody does, or there is no store."""
    if not has_log(f"{store}#{MAIN}"):
        raise Unavailable(f"store {store}: there is no store; check the path, or play a score into it first")
    with ExitStack() as stack:
        try:
            stack.enter_context(held)
        except Busy as error:
            raise Unavailable(
                f"take {take!r} can't be {what} now: {error}; then look which is current (ensemble take list), and try again"
            ) from error
        except Unavailable as error:
            up = "" if what == "dropped" else "; or, of a band that is up on Ray, name that one: --store ray:NAME"
            raise Unavailable(f"take {take!r} can't be {what} now: {error}{up}") from error
        return stack.pop_all()


def _refuse_damaged(store: str, take: str) -> None:
    """Nothing, if a take can be played. LogCorrupt; Unavailable."""
    try:
        with suppress(Unavailable), hold(store, take):  # else somebody plays it, so it can be
            pass
        for shard in range(count_shards(f"{store}#{take}") or 1):
            with closing(read_log(f"{store}#{take}", shard)) as log:  # which looks at what it stands on
                log.end()
    except LogCorrupt as error:
        raise LogCorrupt(f"take {take!r} is damaged, so what is current stays: {error}; or make another one current") from error


def _standing(store: str, take: str) -> list[str]:
    """The takes that leave this one. LogCorrupt if of one that can't be told.

    If the manifest of this one is damaged, what stands on it can't be read: another that is damaged loses nothing with it. Nor
    does one on which this one stands itself.
    """
    others = [each for each in kept.names(store) if each != take]
    lineage, is_lost = [take], False
    try:
        while (fork := fork_of(store, lineage[-1])) is not None and fork.take in others and fork.take not in lineage:
            lineage.append(fork.take)
    except LogCorrupt:
        is_lost = lineage == [take]
    found = []
    for each in others:
        try:
            fork = fork_of(store, each)
        except LogCorrupt as error:
            if is_lost or each in lineage:
                continue
            raise LogCorrupt(f"on which take {each!r} stands can't be read; drop that first, or mend it: {error}") from error
        if fork is not None and fork.take == take:
            found.append(each)
    return found


def _current(store: str) -> str | None:
    """The take that is current; None: the pointer names none. Unavailable."""
    try:
        return kept.current(store)
    except LogCorrupt:
        return None


def _refuse_moved(store: str, take: str | None) -> None:
    """Nothing, if this take, which is held, is still the current one: else somebody may play that which is."""
    now = _current(store)
    if now != take:
        raise Unavailable(
            f"{store}: somebody else made take {now!r} current just now, and nothing was changed; look (ensemble take list), "
            "and try again"
        )


def _told(store: str, name: str, current: str) -> Take:
    with ExitStack() as stack:
        logs = own_logs(store, name)
        for log in logs:
            stack.callback(log.close)
        fork, begins = logs[0].fork, [log.begin() for log in logs]
        last_us = max(begin.time_us for begin in begins)
        return Take(
            name=name,
            id=logs[0].id,
            parent=None if fork is None else fork.take,
            offset=begins[0].offset,
            left_at=EPOCH + timedelta(microseconds=last_us) if fork is not None and last_us else None,
            events=sum(log.end().offset - begin.offset for log, begin in zip(logs, begins, strict=True)),
            bytes=sum(log.size_bytes() for log in logs),
            is_current=name == current,
        )
