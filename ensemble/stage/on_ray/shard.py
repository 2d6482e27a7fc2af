"""The actor of a shard: the loop and its log in a process of their own, and what may be asked of them.

Owns the verbs. An answer is [value], or [kind of error, its text]. Ray makes the actor anew when its process dies; it then
opens the store again and goes on, like a solo band that was killed.

An actor may be told to rest: it plays nothing then, and does not hold its log. Who asks it something waits, until it plays on
in the take that is current by then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ensemble.broker.outbox import Parcel
from ensemble.errors import EnsembleError, Unavailable
from ensemble.event import Frame, encode
from ensemble.log import LogReader, Terms, linger_us, open_take, read_log
from ensemble.log.takes import MAIN
from ensemble.log.url import from_anywhere
from ensemble.score import Score, load
from ensemble.score.personal import personal
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.begin import begin, recover
from ensemble.stage.inbox import Reply, Role
from ensemble.stage.loop import Loop
from ensemble.stage.on_ray import precedence
from ensemble.stage.on_ray.crew import Instances
from ensemble.stage.on_ray.hiring import RayCrew
from ensemble.stage.on_ray.line import Moved
from ensemble.stage.on_ray.peers import Peers
from ensemble.stage.on_ray.plan import Kind, Plan, check_versions
from ensemble.stage.on_ray.switching import Switches
from ensemble.stage.on_ray.turns import Turns
from ensemble.stage.on_ray.wire import pack_frame, unpack_publication
from ensemble.stage.workers import AsyncThread

RESTS_MOST_S = 90.0
"""How long it rests; then who told it to is taken for gone. Longer than its fellows may take to come to rest."""
TRY_EVERY_S = 1.0
"""How often who could not go on tries to, if it is asked for something."""

FETCHING = 4
"""How many get large data at a time through the shard."""

_parcels = msgspec.msgpack.Decoder(list[Parcel])

T = TypeVar("T", bound=LogReader)

log = logging.getLogger("ensemble.stage")


class ShardActor:
    """One shard, playing. Asynchronous: many may wait at once for what they asked."""

    def __init__(self, plan: bytes, number: int) -> None:
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
        precedence.take(is_shard=True)
        self._number = number
        self._async = AsyncThread()
        self._loop: Loop | None = None
        self._error: EnsembleError | None = None
        self._plan = plan
        self._turns: dict[str, Turns] = {}
        self._switches = Switches()
        self._fetching = ThreadPoolExecutor(FETCHING, "ensemble-fetching")
        self._awake = asyncio.Event()
        self._awake.set()
        self._rests_for: str | None = None
        """Who told it to rest; None: it does not."""
        self._told = 0
        """How often it was told to rest, or to go on."""
        self._is_owed = False
        """Whether it was told to go on, and could not."""
        self._next_try = 0.0
        self._changing = asyncio.Lock()
        self._waking: asyncio.Task[None] | None = None
        self._take = MAIN
        self._open()

    def _open(self, *, is_told: bool = False) -> None:
        """Open the store and begin to play. What is wrong is told to who asks: it would be lost with the constructor.

        `is_told`: by this plan, whatever was recorded.
        """
        try:
            plan = Plan.load(self._plan)
            check_versions(plan, "the cluster")
            peers = Peers(plan.called, self._number)
            self._crew = RayCrew(self._plan, self._async.loop(), peers)
            loop, self._take = _play(plan, self._crew, peers, is_told=is_told)
            self._plan = self._crew.plan
            self._loop, self._error = loop, None
        except EnsembleError as error:
            self._error = error
        except Exception as error:
            log.exception("shard %s can't begin", self._number)
            self._error = Unavailable(f"shard {self._number} can't begin: {type(error).__name__}: {error}")

    async def ask(self, verb: str, *given: Any) -> bytes:
        """The answer to a question, or what came of a request."""
        try:
            return encode([await self._answer(verb, given)])
        except (EnsembleError, KeyError, TimeoutError) as error:
            return encode([type(error).__name__, str(error.args[0]) if error.args else str(error)])

    async def _answer(self, verb: str, given: Sequence[Any]) -> Any:
        if verb == "reopen":
            if self._loop is not None:
                raise Unavailable(
                    f"log {self._loop.log.name!r} in the cluster's memory is being played already; close that band first, "
                    "or read it with ensemble.read"
                )
            self._plan = given[0]
            await asyncio.to_thread(self._open)
            return await self._answer("hello", ())
        if verb == "crew":
            return self._crew.hear(*given)
        if verb == "accept":
            return await self._accept(*given)
        if verb == "rest":
            return await self._rest(*given)
        if verb == "act":
            return await asyncio.to_thread(given[0], Plan.load(self._plan).url)
        if verb == "go_on":
            return await self._go_on(*given)
        if verb == "data" and self._loop is not None:  # a player waits for it, and may be what all the others wait for
            return await asyncio.get_running_loop().run_in_executor(self._fetching, partial(self._look, verb, *given))
        while True:
            await self._awake.wait()
            loop = self._loop
            try:
                return await self._answer_of(loop, verb, given)
            except Unavailable:
                if loop is None or (loop is self._loop and self._awake.is_set()):
                    raise
                # It was told to rest, and what was refused for that is in no log: it is asked again when it plays on.

    async def _answer_of(self, loop: Loop | None, verb: str, given: Sequence[Any]) -> Any:
        if verb in LOG_VERBS:
            return await asyncio.to_thread(self._look, verb, *given)
        if verb == "plan":  # also of who could not begin: who takes the band down asks
            return self._plan
        if loop is None:
            loop = await self._begun()
        if verb == "publish":
            return await self._publish(loop, *given)
        if verb == "scale":
            return await asyncio.to_thread(self._scale, *given)
        if verb == "forget":
            return await asyncio.to_thread(self._forget, loop, *given)
        if verb == "pids":
            return self._section(*given).pids
        if verb == "rescore":
            return await asyncio.to_thread(self._rescore, loop, *given)
        if verb == "rebuild":
            return await asyncio.to_thread(self._rebuild, loop, *given)
        if verb == "come":
            token, player, timeout_s = given
            return await asyncio.to_thread(self._switches.of(token, player).come, timeout_s)
        if verb == "give":
            token, player, writes = given
            return self._switches.of(token, player).give(writes)
        if verb == "close":
            await asyncio.to_thread(loop.close)
            self._loop = None
            # A log without a name is gone with this process: its state is all that the closed band can still be asked for.
            return loop.broker.state.dump() if Plan.load(self._plan).url == "memory:" else None
        return await asyncio.to_thread(partial(VERBS[verb], loop, *given))

    # Resting

    async def _rest(self, who: str) -> tuple[int, bytes]:
        """Play nothing from here on, until `go_on`: what is under way is finished first. This process comes back, and the plan.

        Unavailable if somebody else has it rest.
        """
        async with self._changing:
            if self._rests_for not in (None, who):
                raise Unavailable(
                    f"shard {self._number}: the band rests already, since somebody else rolls it back, or changes its take, "
                    "just now; try again when that is done"
                )
            self._rests_for = who
            self._awake.clear()
            try:
                if self._loop is not None:
                    await asyncio.to_thread(self._loop.close)
                    self._loop = None
            finally:  # also if it could not be closed: who asks it something waits for that
                self._told += 1
                self._waking = asyncio.create_task(self._wake(self._told))
        return os.getpid(), self._plan

    async def _wake(self, told: int) -> None:
        """Play on by itself. Which take is current is the same for all shards, however far who is gone had come."""
        while self._told == told:
            await asyncio.sleep(RESTS_MOST_S)
            async with self._changing:
                if self._told != told:
                    return
                await asyncio.to_thread(self._open, is_told=True)
                if self._loop is not None:  # else the store is held: somebody is at it still
                    log.warning("shard %s: who told it to rest has not been heard of since; it plays on", self._number)
                    self._stop_resting()

    async def _go_on(self, who: str, plan: bytes) -> bool:
        """Play on, by this plan, what is current now; False: it rests for somebody else, or not at all."""
        async with self._changing:
            if self._rests_for != who:
                return False
            self._plan = plan
            await asyncio.to_thread(self._open, is_told=True)
            self._stop_resting()
            self._is_owed = self._error is not None
            if self._error is not None:
                raise self._error
            return True

    async def _begun(self) -> Loop:
        """The loop, where it can begin by now: it could not go on before, and a disk that was full may have room again.

        Errors: why it can't.
        """
        async with self._changing:
            if self._is_owed and self._rests_for is None and time.monotonic() >= self._next_try:
                await asyncio.to_thread(self._open, is_told=True)
                self._is_owed, self._next_try = self._error is not None, time.monotonic() + TRY_EVERY_S
            if self._loop is None:
                raise self._error or Unavailable("the band is closed; open it again")
            return self._loop

    def _stop_resting(self) -> None:
        self._told += 1
        self._rests_for = None
        self._awake.set()

    async def _accept(self, shard: int, take: str, first: int, parcels: bytes) -> int:
        """Take in what another shard sends. While it rests nothing: what is still on its way may be of the take before."""
        loop = self._loop
        if loop is None and self._awake.is_set():
            loop = await self._begun()
        if loop is None or not self._awake.is_set():
            raise self._error or Unavailable(f"shard {self._number} does not play now")
        if take != self._take:
            raise Unavailable(f"shard {self._number} plays take {self._take}, and this is said in take {take}")
        number: int = await _durable(loop.accept(shard, first, _parcels.decode(parcels)))
        return number

    def _section(self, name: str) -> Instances:
        if name not in self._crew.sections:
            raise KeyError(f"no player {name!r} plays here; there are {', '.join(self._crew.sections) or 'none'}")
        return self._crew.sections[name]

    def _scale(self, section: str, count: int | None) -> None:
        self._section(section).scale(count)

    def _forget(self, loop: Loop, subject: str) -> list[Any]:
        """How many keys of a subject were destroyed; none, and why, if it has none in this shard."""
        try:
            count = loop.forget(subject)
        except KeyError as error:
            return [0, str(error.args[0])]
        self._crew.forget()
        return [count, ""]

    def _rebuild(self, loop: Loop, data: bytes, player: str, token: str) -> None:
        """Play by a plan in which a player is another, over a table that is given when it is asked for."""
        switch = self._switches.of(token, player)
        try:
            self._rescore(loop, data, [player], {player: switch.writes})
        finally:
            self._switches.end(token)

    def _rescore(
        self,
        loop: Loop,
        data: bytes,
        changed: Sequence[str],
        writes: Mapping[str, Callable[[], Mapping[str, bytes | None]]] | None = None,
    ) -> None:
        """Play by another plan from here on; each player in `changed` is replaced when it has nothing in flight.

        PlayerError if one of them can't be built: then all is as it was. `writes` as in `Loop.rescore`.
        """
        plan = Plan.load(data)
        check_versions(plan, "the cluster")
        score = load(plan.document)
        roles = _roles(score, plan)
        loop.refuse_other_personal(score)
        before, self._crew.plan = self._crew.plan, data
        try:
            self._crew.audition(roles[name] for name in changed)
        except EnsembleError:
            self._crew.plan = before
            raise
        try:
            loop.rescore(dict(score.document), roles, changed, plan=data, writes=writes)
        except EnsembleError:
            if writes:  # nothing was written, so nobody has changed over
                self._crew.plan = before
            raise
        self._plan = data

    def _look(self, verb: str, id: str, *given: Any) -> Any:
        """Something about the log of this id: of who plays it; of one that is in this memory also when nobody does."""
        loop, url = self._loop, Plan.load(self._plan).url
        if loop is not None:
            return LOG_VERBS[verb](_still(loop.log, id), *given)
        if not url.startswith("memory:"):
            raise self._error or Unavailable("the band is closed; open it again")
        with closing(read_log(url)) as event_log:
            return LOG_VERBS[verb](event_log, *given)

    async def _publish(self, loop: Loop, data: bytes, wait: bool, publisher: str, number: int, oldest: int) -> Any:
        """The log, and the offsets there, once durable. One that finds no room waits on a thread: others are answered."""
        turns = self._turns.setdefault(publisher, Turns())
        await turns.come(number, oldest)
        publication = unpack_publication(data)
        if not wait:
            reply = loop.publish(publication, wait=False)
        else:
            async with turns.door:
                if loop.has_room(len(publication.said)):
                    reply = loop.publish(publication)
                else:
                    reply = await asyncio.to_thread(loop.publish, publication)
        offsets = await _durable(reply)
        return loop.log.id, [offsets.start, len(offsets)] if isinstance(offsets, range) else {"each": list(offsets)}


async def _durable(reply: Reply) -> Any:
    """What the loop answers, once it does. No thread waits for it."""
    aio = asyncio.get_running_loop()
    done = aio.create_future()
    reply.then(lambda: aio.call_soon_threadsafe(done.set_result, None))
    await done
    return reply.wait()


def _play(plan: Plan, crew: RayCrew, peers: Peers, *, is_told: bool) -> tuple[Loop, str]:
    """The loop of a plan, begun or gone on with, and the take that it plays.

    `is_told`: by this plan, though the log may have one of another time.
    """
    score = load(plan.document)
    number, shards = peers.number, len(peers)
    terms = Terms(
        score.name,
        plan.durability,  # type: ignore[arg-type]
        shard=number,
        shards=shards,
        personal=personal(score, Vocabulary(score)),
        blob_above=score.store.blob_above,
    )
    event_log, take = open_take(plan.url, terms)
    crew.epoch = event_log.epoch
    try:
        recorded = b"" if is_told else recover(event_log).plan
        is_restarted = bool(recorded) and Plan.load(recorded).run == plan.run
        if is_restarted:  # the band may have changed its score since Ray was told how to make this actor
            plan = Plan.load(recorded)
            score, crew.plan = load(plan.document), recorded
        roles = _roles(score, plan)
        crew.audition(roles[name] for name, kind in plan.kinds.items() if kind.is_class)
        loop = begin(
            _at_home(score, plan),
            event_log,
            roles,
            crew,
            overlapping=list(score.players),
            calls={name: pickle.loads(plan.calls[name]) for name in score.sources if name in plan.calls},
            inputs=plan.inputs,
            again=plan.again and not (is_restarted or is_told),
            strict=plan.strict,
            breaking=plan.breaking,
            plan=crew.plan,
            shards=shards,
            linger_us=linger_us(plan.url, score.store.linger_us),
            carry=lambda shard, first, parcels: int(peers.ask(shard, "accept", number, take, first, encode(parcels))),
        )
        return loop, take
    except BaseException:
        crew.close()
        event_log.close()
        raise


def _at_home(score: Score, plan: Plan) -> Score:
    """The score with its files, and the places outside of its store, as they are found from here."""
    if not plan.home:
        return score
    sources = {
        name: spec if spec.file in (None, "-") else msgspec.structs.replace(spec, file=str(Path(plan.home, spec.file)))
        for name, spec in score.sources.items()
    }
    retain, audit, home = score.retain, score.audit, plan.home
    if retain is not None and retain.archive:
        retain = msgspec.structs.replace(retain, archive=from_anywhere(retain.archive, home))
    if audit is not None:
        audit = msgspec.structs.replace(audit, anchor=from_anywhere(audit.anchor, home), key=str(Path(home, audit.key)))
    return msgspec.structs.replace(score, sources=sources, retain=retain, audit=audit)


def _roles(score: Score, plan: Plan) -> dict[str, Role]:
    kinds = {name: plan.kinds.get(name, Kind()) for name in score.players}
    return {name: Role(spec, kinds[name].is_async, kinds[name].hears_batches) for name, spec in score.players.items()}


# What may be asked


def _still(event_log: T, id: str) -> T:
    """The log, if it is the one of this id; empty: any. Moved."""
    if id and event_log.id != id:
        raise Moved(
            f"band {event_log.name}: it goes on in another log now, since it was rolled back or another take was made current; "
            "what was asked is of the one before: ask again"
        )
    return event_log


def _about(event_log: LogReader) -> dict[str, Any]:
    fork = event_log.fork
    return {
        "id": event_log.id,
        "name": event_log.name,
        "shard": event_log.shard,
        "fork": None if fork is None else fork.entry(),
        "past": event_log.past,
    }


def _hello(loop: Loop) -> dict[str, Any]:
    return {**_about(loop.log), "notes": list(loop.notes), "pid": os.getpid(), "folder": str(Path.cwd())}


def _some(found: Iterator[Frame], most: int) -> list[bytes]:
    """Frames as bytes, until they are as large as that."""
    out: list[bytes] = []
    size = 0
    for frame in found:
        out.append(pack_frame(frame))
        size += len(out[-1])
        if size >= most:
            break
    return out


def _data(event_log: LogReader, offset: int) -> bytes:
    """The data of an event, fetched and decrypted."""
    frame = event_log.frame_at(offset)
    assert frame.rows is not None, "a frame that holds an event has rows"
    return frame.rows.data[offset - frame.first]


def _settle(loop: Loop, timeout: float) -> int:
    """Wait until the shard is quiet; how many frames it has then."""
    loop.settle(timeout)
    return loop.broker.state.frames


VERBS: dict[str, Callable[..., Any]] = {
    "hello": _hello,
    "settle": _settle,
    "again": lambda loop, section, place: loop.again(section, place),
    "beyond": lambda loop, id, offset, timeout: _still(loop.log, id) and loop.grows_beyond(offset, timeout),
    # the state
    "sections": lambda loop: loop.view.sections(),
    "seen": lambda loop, id: loop.view.seen(id),
    "dead": lambda loop: loop.view.dead(),
    "table_keys": lambda loop, name: loop.view.table_keys(name),
    "table_value": lambda loop, name, key: loop.view.table_value(name, key),
    "table_items": lambda loop, name, prefix: loop.view.table_items(name, prefix),
    "digests": lambda loop: loop.view.digests(),
    "standing": lambda loop: msgspec.structs.asdict(loop.view.standing()),
}
"""What may be asked of a shard that plays, beside publishing and closing: each is answered on a thread of its own."""

LOG_VERBS: dict[str, Callable[..., Any]] = {
    "log": _about,
    "begin": lambda event_log: tuple(event_log.begin()),
    "base": lambda event_log: event_log.base(),
    "end": lambda event_log: tuple(event_log.end()),
    "frames": lambda event_log, seq, most: _some(event_log.frames(seq), most),
    "rows": lambda event_log, offset, most: _some(event_log.rows(offset), most),
    "frame_at": lambda event_log, offset: pack_frame(event_log.frame_at(offset)),
    "data": _data,
    "snapshot": lambda event_log, upto: event_log.snapshot(upto),
    "forgotten": lambda event_log: event_log.forgotten(),
    "size_bytes": lambda event_log: event_log.size_bytes(),
    "requests": lambda event_log: dict(event_log.requests()),
}
"""What may be asked of its log, whether it plays or not."""
