"""What several logs are to get together (docs/object-log.md), checked: every order of every call of who proposes, who opens.

As in `test_object_protocol.py`: the steps are the product's, the store is a model of one, any answer may be lost, before the
call took effect, after it did, or it takes effect at any time later; every state is looked at, so a crash needs no step of its
own, and from each of them both logs are opened once more, to see what all come to have.
Bound: two logs; P and Q each open both, propose, append the parts, and take the proposal away; A and B each open one log,
settle, and say something. P has opened both before all others come. Nothing is merged: of that, `Follow` is explored there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from ensemble.log.objects.proposal import (
    PROPOSALS,
    YES,
    Accepted,
    Propose,
    Refused,
    Settle,
    Settled,
    decision,
    proposal,
)
from ensemble.log.objects.protocol import (
    Absent,
    Answer,
    Begun,
    Call,
    Done,
    Entry,
    Found,
    Kept,
    Log,
    Lost,
    Name,
    Open,
    Put,
    Taken,
    Unknown,
)
from tests.log.interleavings import Wrong, asked, took_effect_late, walk

LOGS = {"a": Log("a", 100), "b": Log("b", 100)}
Objects = frozenset[tuple[Name, Any]]


def groups(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return tuple(entry for entry in entries if entry.is_group)


def body(token: str) -> bytes:
    return b"part of " + token.encode()


class Player(NamedTuple):
    """Does its jobs in turn, as `ensemble.log.pending` and who opens a log do them; stops for good where it is refused."""

    name: str
    jobs: tuple[tuple[str, str], ...]
    """`open` a log, which settles, too; `say` something in one; `propose`, and append what was accepted; `clear`."""
    step: Open | Put | Settle | Propose | Call | None = None
    logs: tuple[tuple[str, tuple[Entry, ...]], ...] = ()
    """What it knows of the logs that it writes."""
    proposed: tuple[tuple[str, int], ...] = ()
    """Where its parts are to stand: the log, and after so many groups."""
    told_: str = ""
    """What it was told of its proposal."""
    gone: tuple[str, ...] = ()
    """What it is still to take away."""

    def wants(self) -> Call:
        assert self.step is not None
        return self.step if isinstance(self.step, Call) else self.step.wants()

    def told(self, answer: Answer) -> Player:
        step = self.step
        if isinstance(step, Call):  # the delete of a proposal: as often as it is asked
            return self if isinstance(answer, Unknown) else self._take_away(self.gone[1:])
        assert step is not None
        after = step.told(answer)
        match after:
            case Open() | Put() | Settle() | Propose():
                return self._replace(step=after)
            case Begun():
                assert isinstance(step, Open)
                begin = Entry(after.epoch, self.name, True, b"")
                return self._knows(step.log.id, (*step.seen, begin))._replace(step=Settle())
            case Settled():
                return self._settled(after)
            case Accepted():
                return self._replace(told_="accepted").done()
            case Refused():
                return self._replace(told_="refused", step=None)
            case Kept():
                assert isinstance(step, Put)
                return self._knows(step.log.id, (*dict(self.logs)[step.log.id], step.entry)).done()
            case Lost():
                return self._replace(step=None)
        raise AssertionError(f"{after} is no step")

    def _settled(self, settled: Settled) -> Player:
        if self.jobs[0][0] == "clear":
            has = {id_: len(groups(entries)) for id_, entries in self.logs}
            return self._take_away(tuple(token for token, parts in settled.accepted if all(n < has[id_] for id_, n in parts)))
        id_ = self.jobs[0][1]
        for token, parts in settled.accepted:
            if dict(parts)[id_] == len(groups(dict(self.logs)[id_])):
                return self._put(id_, body(token))
        return self.done()

    def _take_away(self, tokens: tuple[str, ...]) -> Player:
        if not tokens:
            return self.done()
        return self._replace(gone=tokens, step=Call("delete", proposal(tokens[0])))

    def done(self) -> Player:
        return self._replace(jobs=self.jobs[1:]).begin()

    def begin(self) -> Player:
        """Its next job."""
        if not self.jobs:
            return self._replace(step=None)
        what, log = self.jobs[0]
        match what:
            case "open":
                return self._replace(step=Open(0, 0, LOGS[log], self.name))
            case "say":
                return self._put(log, b"word of " + self.name.encode())
            case "part":
                return self._put(log, body(self.name))
            case "propose":
                proposed = tuple((id_, len(groups(entries))) for id_, entries in self.logs)
                ends = tuple((LOGS[id_], len(entries)) for id_, entries in self.logs)
                return self._replace(proposed=proposed, step=Propose(self.name, proposed, ends))
            case _:
                return self._replace(step=Settle())

    def _put(self, log: str, body: bytes) -> Player:
        entries = dict(self.logs)[log]
        epoch = max(entry.epoch for entry in entries)
        return self._replace(step=Put(len(entries), LOGS[log], Entry(epoch, self.name, False, body)))

    def _knows(self, log: str, entries: tuple[Entry, ...]) -> Player:
        return self._replace(logs=tuple(sorted({**dict(self.logs), log: entries}.items())))


PROMOTES = (("propose", ""), ("part", "a"), ("part", "b"), ("clear", ""))
JOBS: dict[str, tuple[tuple[str, str], ...]] = {
    "P": PROMOTES,
    "Q": (("open", "a"), ("open", "b"), *PROMOTES),
    "A": (("open", "a"), ("say", "a")),
    "a": (("open", "a"), ("say", "a")),
    "B": (("open", "b"), ("say", "b")),
}
BEGINS = tuple((id_, (Entry(1, "P", True, b""),)) for id_ in LOGS)


def player(name: str) -> Player:
    return Player(name, JOBS[name], logs=BEGINS if name == "P" else ()).begin()


class World(NamedTuple):
    players: tuple[Player, ...]
    objects: Objects
    late: frozenset[Call]
    losses: int


def act(objects: Objects, call: Call) -> tuple[Objects, Answer]:
    """The store: what a call does, and its answer."""
    held = dict(objects)
    match call.verb:
        case "get" | "look":
            return objects, Found(held[call.name]) if call.name in held else Absent()
        case "list":
            assert call.name == PROPOSALS
            return objects, Found(tuple(sorted(name.log for name in held if name.kind == "proposal")))
        case "delete":
            held.pop(call.name, None)
            return frozenset(held.items()), Done()
        case "create" if call.name not in held:
            return frozenset({*objects, (call.name, call.value)}), Done()
        case "create":
            return objects, Taken()
    raise AssertionError(f"nobody asks for {call}")


def act_in(world: World, call: Call) -> tuple[World, Answer]:
    objects, answer = act(world.objects, call)
    return world._replace(objects=objects), answer


def after(world: World) -> Iterator[World]:
    """Every world that can be next."""
    yield from took_effect_late(world, act_in)
    for ix, player in enumerate(world.players):
        if player.step is None:
            continue

        def told(world: World, answer: Answer, ix: int = ix, player: Player = player) -> World:
            return world._replace(players=(*world.players[:ix], player.told(answer), *world.players[ix + 1 :]))

        yield from asked(world, player.wants(), act_in, told)


def log_of(objects: Objects, id_: str) -> tuple[Entry, ...]:
    held = {name.number: value for name, value in objects if (name.kind, name.log) == ("entry", id_)}
    return tuple(held[number] for number in range(len(held)))


def check(world: World) -> None:
    """The invariants, in every world."""
    held = dict(world.objects)
    logs = {id_: [entry.body for entry in groups(log_of(world.objects, id_))] for id_ in LOGS}
    for player in world.players:
        is_decided, token = held.get(decision(player.name)), player.name
        if player.told_ == "accepted" and is_decided != YES:
            raise Wrong(f"{token} was told that it holds; it does not")
        if player.told_ == "refused" and is_decided == YES:
            raise Wrong(f"{token} was told that it does not hold; it does")
        for id_, place in player.proposed:
            said = logs[id_]
            if is_decided == YES and said[place : place + 1] not in ([], [body(token)]):
                raise Wrong(f"{id_} went on without the part of {token}: {said}")
            if said.count(body(token)) > (is_decided == YES):
                raise Wrong(f"{id_} has the part of {token}, which is decided as {is_decided}: {said}")


@cache
def opened_again(objects: Objects) -> Objects:
    """What there is once both logs were opened by one with whom nothing goes wrong."""
    last = Player("last", (("open", "a"), ("open", "b"))).begin()
    while last.step is not None:
        objects, answer = act(objects, last.wants())
        last = last.told(answer)
    return objects


def finish(world: World) -> str:
    """Whose parts all logs have at the end, if all who are under way are dead."""
    objects = opened_again(world.objects)
    check(world._replace(objects=objects))
    holds = []
    for player in world.players:
        have = [body(player.name) in (entry.body for entry in groups(log_of(objects, id_))) for id_ in LOGS]
        if len({*have, dict(objects).get(decision(player.name)) == YES}) > 1:
            raise Wrong(f"of {player.name} the logs have their part at the end: {have}")
        holds += [player.name] * have[0]
    return "".join(holds)


def explore(*players: Player, losses: int) -> tuple[int, set[str]]:
    """Look at every world there can be. How many there were, and what came to hold."""
    objects = frozenset((LOGS[id_].entry(0), begin) for id_, (begin,) in BEGINS)
    opened_again.cache_clear()
    ends = set()

    def look(world: World) -> None:
        check(world)
        ends.add(finish(world))  # whoever is still under way may be dead

    return walk(World(players, objects, frozenset(), losses), after, look), ends


@pytest.mark.parametrize(
    ("players", "losses", "worlds", "outcomes"),
    [
        # Who is alone gets through, whatever is lost.
        ("P", 2, 250, {"", "P"}),
        # One takes a log over, or two do, before, while or after it is decided.
        ("PA", 1, 2_500, {"", "P"}),
        ("PAB", 0, 5_000, {"", "P"}),
        ("PAa", 0, 13_000, {"", "P"}),
        # Two want to promote: one of them does, both do, one after the other, or none.
        ("PQ", 0, 1_300, {"", "P", "Q", "PQ"}),
        pytest.param("PQ", 1, 1, {"", "P", "Q", "PQ"}, marks=pytest.mark.everywhere("with lost answers")),
        pytest.param("PQA", 0, 1, {"", "P", "Q", "PQ"}, marks=pytest.mark.everywhere("three")),
        pytest.param("PB", 2, 1, {"", "P"}, marks=pytest.mark.everywhere("with two lost answers")),
    ],
)
def test_whatever_is_late_lost_or_stalled_all_logs_get_their_part_or_none(
    players: str, losses: int, worlds: int, outcomes: set[str]
) -> None:
    seen, ends = explore(*map(player, players), losses=losses)

    assert seen > worlds
    assert ends == outcomes


# Planted bugs: what the exploration is worth

propose, settle, asks = Propose.told, Settle.told, Propose.wants


def propose_without_a_look(step: Propose, answer: Answer) -> Propose | Accepted | Refused:
    after = propose(step, answer)
    return after._replace(phase="decide") if isinstance(after, Propose) and after.phase == "look" else after


def propose_that_looked_before(step: Propose, answer: Answer) -> Propose | Accepted | Refused:
    if step.phase == "propose" and step.looked < len(step.ends):
        after = propose(step._replace(phase="look"), answer)
        is_well = isinstance(after, Propose) and after.phase != "withdraw"
        return after._replace(phase="propose") if isinstance(after, Propose) and is_well else after
    after = propose(step, answer)
    return after._replace(phase="decide") if isinstance(after, Propose) and after.phase == "look" else after


def asks_to_look_first(step: Propose) -> Call:
    is_to_look = step.phase == "propose" and step.looked < len(step.ends)
    return asks(step._replace(phase="look") if is_to_look else step)


def propose_that_takes_what_is_decided_for_its_own(step: Propose, answer: Answer) -> Propose | Accepted | Refused:
    return Accepted() if step.phase == "decide" and isinstance(answer, Taken) else propose(step, answer)


def propose_that_takes_silence_for_yes(step: Propose, answer: Answer) -> Propose | Accepted | Refused:
    return Accepted() if step.phase == "decide" and isinstance(answer, Unknown) else propose(step, answer)


def settle_that_decides_nothing(step: Settle, answer: Answer) -> Settle | Settled:
    after = settle(step, answer)
    return after._replace(phase="compare") if isinstance(after, Settle) and after.phase == "refuse" else after


def settle_that_goes_on_undecided(step: Settle, answer: Answer) -> Settle | Settled:
    if step.phase == "compare" and isinstance(answer, Absent):
        return step._next()
    return settle_that_decides_nothing(step, answer)


def settle_that_takes_what_is_decided_for_its_own(step: Settle, answer: Answer) -> Settle | Settled:
    after = settle(step, answer)
    return after._replace(phase="clear") if isinstance(after, Settle) and after.phase == "compare" else after


def settle_that_takes_silence_for_done(step: Settle, answer: Answer) -> Settle | Settled:
    return settle(step, Done() if step.phase == "refuse" and isinstance(answer, Unknown) else answer)


@pytest.mark.parametrize(
    ("steps", "bug", "losses", "why"),
    [
        (Propose, propose_without_a_look, 0, "went on without the part of P"),
        (Propose, propose_that_looked_before, 0, "went on without the part of P"),
        (Propose, propose_that_takes_what_is_decided_for_its_own, 0, "was told that it holds; it does not"),
        (Propose, propose_that_takes_silence_for_yes, 1, "was told that it holds; it does not"),
        (Settle, settle_that_goes_on_undecided, 0, "went on without the part of P"),
        (Settle, settle_that_takes_what_is_decided_for_its_own, 0, "went on without the part of P|have their part at the end"),
        (Settle, settle_that_takes_silence_for_done, 1, "went on without the part of P|have their part at the end"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, steps: type, bug: Any, losses: int, why: str) -> None:
    monkeypatch.setattr(steps, "told", bug)
    if bug is propose_that_looked_before:
        monkeypatch.setattr(Propose, "wants", asks_to_look_first)

    with pytest.raises(Wrong, match=why):
        explore(*map(player, "PA"), losses=losses)


def test_a_decision_that_is_taken_away_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wants = Settle.wants

    def clearing(step: Settle) -> Call:
        return Call("delete", decision(step.tokens[0])) if step.phase == "clear" else wants(step)

    monkeypatch.setattr(Settle, "wants", clearing)

    with pytest.raises(Wrong, match=r"went on without the part of P|have their part at the end"):
        explore(*map(player, "PA"), losses=0)


def test_a_proposal_that_is_taken_away_before_all_have_their_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def settled(player: Player, settled: Settled) -> Player:
        if player.jobs[0][0] == "clear":
            return player._take_away(tuple(token for token, _ in settled.accepted))
        return told(player, settled)

    told = Player._settled
    monkeypatch.setattr(Player, "_settled", settled)
    monkeypatch.setitem(JOBS, "P", (("propose", ""), ("part", "a"), ("clear", "")))

    with pytest.raises(Wrong, match="have their part at the end"):
        explore(player("P"), losses=0)
