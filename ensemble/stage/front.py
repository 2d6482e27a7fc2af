"""The front of a shard: all that other threads ask of its loop, and how they wait for it.

Owns which questions there are, and when they are refused; what comes of them is done in the loop's turns. What goes in goes
through the inbox, and comes back when it is durable. With a manual clock there is no thread: who asks takes the turns.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ensemble.broker.broker import Broker
from ensemble.broker.outbox import Parcel
from ensemble.broker.state import State
from ensemble.broker.words import Publication
from ensemble.errors import EnsembleError, ScoreError, Unavailable
from ensemble.event import Frame
from ensemble.evolution import faults, recorded
from ensemble.listening import policy
from ensemble.log.base import EventLog
from ensemble.player import hearing_of
from ensemble.score import Score, load
from ensemble.score.finding import nearest
from ensemble.score.lifts import Lifts
from ensemble.score.personal import spoken_of
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.base import Clock, HandClock
from ensemble.stage.commit import Commit
from ensemble.stage.inbox import Accept, Ask, Forget, Inbox, Publish, Reply, Rescore, Role, Roll, Settle
from ensemble.stage.pump import Pump
from ensemble.stage.seat import Seat
from ensemble.stage.view import Question, StateView, standing_of
from ensemble.status import SectionStatus, Standing

if TYPE_CHECKING:
    from ensemble.log.forgetting.ring import Ring

OURS = "ensemble-"
"""How the threads are called in which players, sources and guests run."""

T = TypeVar("T")


class Front(ABC):
    """What a loop is to all others. Each method may be called from any thread."""

    publication_most = (500, 4 << 20)

    broker: Broker
    log: EventLog
    seats: dict[str, Seat]
    _hand: HandClock | None
    _clock: Clock | HandClock
    _inbox: Inbox
    _commit: Commit
    _pumps: dict[str, Pump]
    _rescores: deque[Rescore]
    _forgets: deque[Forget]
    _failed: BaseException | None
    _is_closing: bool
    _is_closed: bool
    _is_left: bool
    _playing_in: int | None
    _thread: threading.Thread | None
    _turning: threading.RLock
    _grown: threading.Condition

    def now_us(self) -> int:
        return self._clock.now_us()

    def publish(self, publication: Publication, *, wait: bool = True) -> Reply:
        """Have these events said. The reply brings their offsets, once they are durable.

        Errors: Overloaded if the inbox is full and `wait` is False; Unavailable if the band is closed or its log failed;
                EnsembleError where a player of this band calls it: that would be said outside of its frame, once a try.
        """
        self._check_open()
        if self._is_heard():
            raise EnsembleError("a player can't publish while it hears an event; let it answer with emit(topic, ...)")
        reply = Reply()
        if self._hand is not None:
            with self._turning:
                self._publish([Publish(publication, reply)])
                self._flush_here()
        else:
            self._inbox.admit(len(publication.said), wait=wait, check=self._check_open)
            self._inbox.put(Publish(publication, reply))
            self._refuse_late()
        return reply

    def _is_heard(self) -> bool:
        """Whether whoever asks is a player that hears an event of this log just now, or of its past."""
        heard_in = hearing_of.get()
        return heard_in is not None and heard_in in (self.log.id, *(before for _, before in self.log.past))

    def accept(self, shard: int, first: int, parcels: Sequence[Parcel]) -> Reply:
        """Take in what another shard has sent, from parcel `first` on.

        The reply brings the number of the first parcel that is not here yet, once those before it are durable.
        Errors: Unavailable if the band is closed or its log failed.
        """
        self._check_open()
        reply = Reply()
        self._inbox.put(Accept(shard, first, parcels, reply))
        self._refuse_late()
        return reply

    def ask(self, question: Callable[[], T]) -> T:
        """What `question` answers in the loop, once all that it could have seen is durable; of a closed band, at once."""
        if threading.current_thread() is self._thread or self._is_left:
            return question()
        self._check_open()
        reply = Reply()
        if self._hand is not None:
            with self._turning:
                self._answer(Ask(question, reply))
                self._flush_here()
        else:
            self._inbox.put(Ask(question, reply))
            self._refuse_late()
        value: T = reply.wait()
        return value

    def settle(self, timeout: float | None = None) -> None:
        """Wait until nothing is left to react to. TimeoutError; or what made that impossible.

        Under a clock moved by hand: play all that is due now.
        """
        self._check_open()
        if self._playing_in == threading.get_ident() or threading.current_thread().name.startswith(OURS):
            raise EnsembleError("a player can't settle while it hears an event: the band waits for it; leave settle to others")
        if self._hand is not None:
            self._play_due()
            self._check_open()
        else:
            reply = Reply()
            self._inbox.put(Settle(reply))
            self._refuse_late()
            reply.wait(timeout)
        self._raise_trouble()

    def has_room(self, count: int) -> bool:
        """Whether so many events can be published now without waiting."""
        return self._inbox.has_room(count)

    def wait_beyond(self, offsets: Sequence[int], timeout: float) -> bool:
        """See `Stage.wait_beyond`."""
        while not self.grows_beyond(offsets[0], timeout):
            if self._is_closed or self._failed is not None:
                return False
        return True

    def grows_beyond(self, offset: int, timeout: float) -> bool:
        """Whether the log is durable beyond an offset, now or the next time that it grows, within a timeout."""
        with self._grown:
            if self._commit.durable_end <= offset and not self._is_closed:
                self._grown.wait(timeout)
        return self._commit.durable_end > offset

    def again(self, section: str | None, place: tuple[int, int] | None) -> int:
        """See `Stage.again`."""
        offset = None if place is None else place[1]

        def again() -> int:
            count = 0
            for name, state in self.broker.state.sections.items():
                offsets = [each for each in state.dead if offset in (None, each)]
                if offsets and section in (None, name):
                    self.seal(self.broker.again(name, offsets, self.now_us()))
                    count += len(offsets)
            return count

        self._check_open()
        return self.ask(again)

    def rescore(
        self,
        score: dict[str, Any],
        roles: Mapping[str, Role],
        changed: Iterable[str],
        *,
        plan: bytes = b"",
        writes: Mapping[str, Callable[[], Mapping[str, bytes | None]]] | None = None,
    ) -> None:
        """Play another score from here on, while the band plays. Returns when all players have changed over.

        Players that are new come in, those that are gone leave, and those in `changed` are replaced: one by one, each when
        what it has in flight is done, while the others go on. `writes` gives, of players in `changed`, what their tables get in
        the same frame.
        Errors: PlayerError if one can't be built; the players before it have changed over. ScoreError if the log has events
                that the score can't lift, or of whose schema it made another: then all is as it was.
        """
        self._check_open()
        changed = set(changed)
        made = load(score)
        self.refuse_other_personal(made)
        words = Vocabulary(made)
        rolls = [
            Roll(name, role, policy(role.spec, words), (writes or {}).get(name))
            for name, role in roles.items()
            if name not in self.seats or name in changed
        ]
        rolls += [Roll(name, None) for name in self.seats if name not in roles]
        reply = Reply()
        lifts = self._lifts_of(made, words)
        if lifts is not None and (found := self.ask(lambda: faults(self.broker.state, made, words))):
            raise ScoreError(found)
        rescore = Rescore(recorded(made, words), plan, rolls, reply, made, lifts)
        if self._hand is not None:
            with self._turning:
                self._rescores.append(rescore)
            self._play_due()
        else:
            self._inbox.put(rescore)
            self._refuse_late()
        reply.wait()

    def refuse_other_personal(self, score: Score) -> None:
        """Nothing, if a score says of the same data whose it is as the one that is played. Unavailable."""
        document = self.broker.state.score
        if spoken_of(score) != (spoken_of(load(document)) if document else {}):
            raise Unavailable(
                f"band {self.broker.name}: what is personal can't be changed while it plays, since what it has in memory "
                "would not be encrypted by it; close it, and open it again with this score"
            )

    def forget(self, subject: str) -> int:
        """See `Stage.forget`."""
        from ensemble.log.forgetting import forgetting_of

        self._check_open()
        if self._is_heard():
            raise EnsembleError("a player can't have somebody forgotten while it hears an event: the band waits for it")
        log = forgetting_of(self.log)
        if log is None:
            raise KeyError(
                f"band {self.broker.name}: its score says of no data whose it is, so nobody can be forgotten; write personal: "
                "in its events: (docs/forget.md)"
            )
        if self.log.fork is None:  # else what it has in memory of them may be of its parent's
            refuse_unknown(subject, [log.ring], f"band {self.broker.name}")
        reply = Reply()
        if self._hand is not None:
            with self._turning:
                self._forgets.append(Forget(subject, reply))
            self._play_due()
        else:
            self._inbox.put(Forget(subject, reply))
            self._refuse_late()
        count: int = reply.wait()
        return count

    def _lifts_of(self, score: Score, words: Vocabulary) -> Lifts | None:
        """What lifts events by a score, if that is other than by the one before it."""
        known = self.broker.state.score
        before = None if known is None else load(known).events
        return None if before == score.events else Lifts(words)

    def totals(self) -> dict[str, int | None]:
        """Bytes of each source's file, where known."""
        return {name: pump.source.total for name, pump in self._pumps.items()}

    def _check_open(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._is_closing:
            raise self._closed()

    def _refuse_late(self) -> None:
        """Answer what was put into the inbox when the loop had ended already."""
        if self._is_closed or self._failed is not None:
            self._refuse_all(self._failed or self._closed())

    def _closed(self) -> Unavailable:
        return Unavailable(f"band {self.broker.name} is closed; open it again")

    def _raise_trouble(self) -> None:
        """What ended a source before its time; told once."""
        for pump in self._pumps.values():
            if pump.trouble is not None:
                trouble, pump.trouble = pump.trouble, None
                raise trouble

    # What the turns do

    @abstractmethod
    def seal(self, frame: Frame) -> None: ...

    @abstractmethod
    def _publish(self, requests: Sequence[Publish]) -> None: ...

    @abstractmethod
    def _answer(self, request: Ask) -> None: ...

    @abstractmethod
    def _flush_here(self) -> None: ...

    @abstractmethod
    def _play_due(self) -> None: ...

    @abstractmethod
    def _refuse_all(self, error: BaseException) -> None: ...


def refuse_unknown(subject: str, rings: Sequence[Ring], where: str) -> None:
    """Nothing, if a subject has a key in one of these. KeyError, which says what is near."""
    if not any(ring.knows(subject) for ring in rings):
        near = nearest(subject, {each for ring in rings for each in ring.subjects()})
        hint = f"did you mean {near!r}? " if near else ""
        raise KeyError(
            f"{where}: it has no data of a subject {subject!r:.80}; {hint}a subject is what personal: {{subject: ...}} "
            "reads, and has a key from its first event until it is forgotten"
        )


class FrontView(StateView):
    """What can be asked of a shard that plays."""

    def __init__(self, front: Front) -> None:
        super().__init__(self._ask_front)
        self._front = front

    def _ask_front(self, question: Question) -> Any:
        return self._front.ask(lambda: question(self._front.broker.state))

    def _standing(self, state: State) -> Standing:
        return standing_of(state, {name: self._section(state, name) for name in state.sections}, self._front.totals())

    def _section(self, state: State, name: str) -> SectionStatus:
        quiet = super()._section(state, name)
        seat = self._front.seats.get(name)
        if seat is None:
            return quiet
        return msgspec.structs.replace(
            quiet, lag=self._front.broker.lag(name), instances=seat.workers.count, waiting=seat.section.waiting
        )
