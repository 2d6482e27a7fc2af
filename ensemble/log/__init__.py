"""Logs: where events are kept. `open_log` to write one, `read_log` to read one; a url says where it is.

    URL         a store, of the kinds that `url.py` names; of its takes the current one, which is `main` as a rule
    URL#NAME    a take of that store (docs/takes.md)

docs/log-format.md has the format, `base.py` the promises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Literal

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import takes
from ensemble.log.base import EventLog, Fork, LogReader, Position, Snapshot
from ensemble.log.branch import Branch, BranchLog
from ensemble.log.own import BLOBS, CHANGES_TAKES, RING, Terms, new_id, own_at
from ensemble.log.url import environment, linger_us, place_of

if TYPE_CHECKING:
    from ensemble.log.blobs import Blobs
    from ensemble.score.personal import Personal

__all__ = [
    "BLOBS", "CHANGES_TAKES", "RING", "EventLog", "Fork", "LogReader", "Position", "Snapshot", "Terms", "blobs_at",
    "count_shards", "environment", "fork_of", "has_log", "hold", "linger_us", "lost_current", "make_take", "new_id", "open_log",
    "open_take", "own_logs", "place_of", "read_log", "refuse_archive", "shut", "take_of", "where",
]  # fmt: skip


def open_log(
    url: str,
    *,
    name: str,
    durability: Literal["disk", "memory"] = "disk",
    id: str | None = None,
    create: bool = True,
    shard: int = 0,
    shards: int = 1,
    personal: Personal | None = None,
    blob_above: int | None = None,
    takes_over: bool = True,
) -> EventLog:
    """The log at `url`, to write and read; made there if there is none and `create`. Of a store in several shards: one of them.

    `name` and `id` are what a new log gets; one that is there keeps its own. With `durability="memory"` a commit is
    written but not synced: it survives the death of the process, not of the machine. What is `personal` is encrypted.
    Of an object store nobody can know whether who opened the log before, and has not closed it, still plays: unless this one
    `takes_over`, it is refused then.
    Data of more than `blob_above` bytes is kept beside the log, once.
    Errors: Unavailable if it can't be used (in use, read-only, no store, a newer format, another number of shards);
            LogCorrupt if it is damaged.
    """
    terms = Terms(name, durability, id, create, shard, shards, personal, blob_above, takes_over)
    return open_take(url, terms)[0]


def open_take(url: str, terms: Terms) -> tuple[EventLog, str]:
    """What `open_log` opens, and which take that is."""
    while True:
        store, take = take_of(url, is_wanted=terms.create)
        log = _open(store, take, terms)
        if takes.split(url)[1] is not None or takes.current(store) == take:
            return log, take
        log.close()  # another was made current while this process came to hold it: that one is meant now


def _open(store: str, take: str, terms: Terms) -> EventLog:
    with ExitStack() as stack:
        own = own_at(takes.place(store, take)).open(terms if take == takes.MAIN else terms._replace(create=False))
        stack.callback(own.close)
        log = own
        if own.fork is not None:
            from ensemble.log.forgetting import forgetting_of

            parent = stack.enter_context(closing(_parent(store, take, own, terms.shard)))
            log = BranchLog(own, parent, own.fork)
            forgetting = forgetting_of(log)
            if forgetting is not None:
                forgetting.look_through(log.frame_at)
        stack.pop_all()
        return log


def read_log(url: str, shard: int = 0) -> LogReader:
    """The log at `url`, to read only: whether it is being written at the moment or not, and without disturbing it.

    Of a store in several shards: one of them.

    Errors: Unavailable if there is none or it can't be read; LogCorrupt if it is damaged.
    """
    store, take = take_of(url)
    with ExitStack() as stack:
        own = stack.enter_context(closing(own_at(takes.place(store, take)).read(shard)))
        log = own
        if own.fork is not None:
            parent = stack.enter_context(closing(_parent(store, take, own, shard)))
            log = Branch(own, parent, own.fork)
        stack.pop_all()
        return log


def _parent(store: str, take: str, own: LogReader, shard: int) -> LogReader:
    assert own.fork is not None, "only main has none"
    if take == takes.MAIN:
        raise Unavailable(f"store {store}: this is the own log of a take, which begins in another store; name it as STORE#NAME")
    return read_log(f"{store}#{own.fork.take}", shard)


def blobs_at(url: str, shard: int = 0) -> Blobs | None:
    """Where a shard of the log at `url` puts large data (docs/size.md), to get it without the log; None: only its process can.

    Errors: Unavailable if that can't be found out here; LogCorrupt.
    """
    return own_at(where(url)).blobs(shard)


def count_shards(url: str) -> int | None:
    """How many shards the store at `url` has; None if there is no store, or it is in the memory of another process."""
    store, take = _named(url)
    return own_at(takes.place(store, take)).count()


def has_log(url: str) -> bool:
    """Whether there is a log at `url`; it may be damaged.

    Errors: Unavailable if this version knows no such kind of store; LogCorrupt if it can't be told which take is current.
    """
    return _has_own(*_named(url))


def _has_own(store: str, take: str) -> bool:
    try:
        return own_at(takes.place(store, take)).count() is not None
    except LogCorrupt:  # what is damaged is there: it is left, and dropped, as it is
        return True


def take_of(url: str, *, is_wanted: bool = False) -> tuple[str, str]:
    """The store and the take that a url means: the take that it names, else the current one. It may be damaged.

    Errors: Unavailable if it names one that is not there; with how it is made, if it `is_wanted`.
    """
    store, take = _named(url)
    if take != takes.MAIN and not _has_own(store, take):
        from ensemble.score.finding import nearest

        if not _has_own(store, takes.MAIN):
            raise Unavailable(f"store {store}: there is no store; check the url, or play a score into it first, without a take")
        if takes.split(url)[1] is None:
            raise Unavailable(f"store {store}: {_gone(take)}")
        there = [takes.MAIN, *takes.names(store)]
        near = nearest(take, there)
        hint = f"did you mean {near!r}?" if near else f"there is {', '.join(there)}"
        if is_wanted and not near:
            hint += f"; make it with: ensemble take new {take}"
        raise Unavailable(f"store {store}: there is no take {take!r}; {hint}")
    return store, take


def lost_current(store: str) -> str | None:
    """What is to be said of a store whose current take is not there, so that there is nothing to play; None: it is there.

    Errors: LogCorrupt if the pointer is damaged; Unavailable.
    """
    take = takes.current(store)
    return None if take == takes.MAIN or _has_own(store, take) else _gone(take)


def _gone(take: str) -> str:
    return f"take {take!r} is current, and is not there any more; make another one current: ensemble take use main"


def _named(url: str) -> tuple[str, str]:
    if url.startswith("ray:"):
        raise Unavailable(
            f"store {url}: this is a band that is up on Ray, and what is asked for is done at a store; name the one that it "
            "plays: --store URL"
        )
    store, take = takes.split(url)
    if store == "memory:" and take not in (None, takes.MAIN):
        raise Unavailable(f"store {url!r}: a log in memory without a name has no takes; call it memory:NAME")
    return store, take or takes.current(store)


def where(url: str) -> str:
    """The url at which the own log of what a url means is kept."""
    return takes.place(*_named(url))


def fork_of(store: str, take: str) -> Fork | None:
    """Where a take leaves its parent, in its first shard; None: it is `main`, or was never finished.

    Errors: Unavailable if it can't be read; LogCorrupt if its manifest is damaged.
    """
    return own_at(takes.place(store, take)).fork()


def own_logs(store: str, take: str) -> list[LogReader]:
    """The own logs of a take, shard by shard, to read what it has said itself: without its past.

    Errors: Unavailable if there is no such take, or it can't be read; LogCorrupt.
    """
    own = own_at(takes.place(store, take))
    return [own.read(shard) for shard in range(own.count() or 1)]


@contextmanager
def hold(store: str, take: str, doing: str = "") -> Iterator[list[EventLog]]:
    """Keep everybody from playing a take meanwhile: the own logs of all its shards, held for writing. `doing` says what for.

    Errors: Unavailable if somebody plays it; Busy if somebody holds it for what others are told.
    """
    own = own_at(takes.place(store, take))
    shards = own.count() or 1
    with ExitStack() as stack:
        logs = []
        for shard in range(shards):
            logs.append(own.open(Terms(create=False, shard=shard, shards=shards, takes_over=False, doing=doing)))
            stack.callback(logs[-1].close)
        yield logs


def shut(store: str, take: str) -> AbstractContextManager[None]:
    """Keep everybody from playing a take meanwhile; it may be damaged, or never finished. In a directory without its logs: the
    disk may be full.

    Errors: Unavailable if somebody plays it, or may, where it is damaged and no lock says so; Busy if somebody else changes
            the takes of the store.
    """
    url, is_take = takes.place(store, take), take != takes.MAIN
    if is_take:
        by_hand = f"remove {url}/ensemble.json: then there is no such take, and who plays it is told"
    else:
        by_hand = f"write the name of another take and a newline into {store}/{takes.CURRENT}"
    return own_at(url).shut(is_take=is_take, by_hand=by_hand)


def refuse_archive(store: str) -> None:
    """Nothing, if takes can be made in the store at this url. Unavailable; LogCorrupt."""
    known = own_at(store).archived()
    if known:
        raise Unavailable(
            f"store {store}: this is the archive of {known}, and is only read; a take, or a replay, which makes one, is of "
            f"that store: --store {known}"
        )


def make_take(url: str, take: str, name: str, forks: Sequence[Fork]) -> None:
    """Make a take in the store of this url, which leaves its parent there, shard by shard. It has no frames of its own yet.

    Errors: Unavailable if there is one of this name, the parent is dropped meanwhile, or the store refuses.
    """
    store, _ = takes.split(url)
    takes.check_name(take)
    if take == takes.MAIN or own_at(takes.place(store, take)).count() is not None:
        raise takes.is_there(store, take)

    def build(place: str) -> None:
        for shard, fork in enumerate(forks):
            id_ = new_id()
            terms = Terms(name, id=id_, shard=shard, shards=len(forks), takes_over=False)
            own = own_at(place).open(terms, fork)
            own.close()
            if own.id != id_:  # it may play already: who did not make it neither takes it over nor away
                raise Unavailable(f"store {store}: somebody else made a take {take!r} just now; choose another name")
        try:
            _check_parent(store, forks)
        except BaseException:
            if place == takes.place(store, take):  # else whoever makes the place takes it away
                takes.remove(store, take)
                takes.sweep(store, take)
            raise

    takes.make(store, take, build)


def _is_going(log: LogReader, at: Position) -> bool:
    """Whether retention may be about to take what is before a place, since who takes it looked before this take was there."""
    from ensemble.log.retention import said_begin  # which needs the broker: only who makes a take asks

    return said_begin(log.frames(at.seq)) > at.seq


def _check_parent(store: str, forks: Sequence[Fork]) -> None:
    """Nothing, if what a take that was just made stands on is there still: from now on it stays."""
    parent = forks[0].take
    if takes.is_dropped(store, parent):
        raise Unavailable(
            f"store {store}: take {parent!r} is being dropped, or somebody was ended while he did; drop it again (ensemble "
            f"take drop {parent}), or make this take of another one"
        )
    kept = own_at(takes.place(store, parent))
    for shard, fork in enumerate(forks):
        if parent != takes.MAIN and kept.count() is None:
            raise Unavailable(f"store {store}: take {parent!r} was dropped just now; make this take of another one")
        with closing(kept.read(shard)) as log:
            if log.id != fork.id:
                raise Unavailable(f"store {store}: {parent!r} was made anew just now; try again")
            if log.fork is not None:  # what a take has said itself is kept whole
                continue
            if log.begin().seq > fork.at.seq:
                raise Unavailable(f"store {store}: retention took what was before this place just now; choose a later one")
            if not kept.keeps_out_retention and _is_going(log, fork.at):
                raise Unavailable(
                    f"store {store}: retention has said in the log that it takes what was before this place, and may be "
                    "about to; choose a later one"
                )
