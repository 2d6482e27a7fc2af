"""What several logs of one place are to get together, all of them or none: proposed by one, decided once (docs/object-log.md).

Owns the order of calls, as `protocol.py` does of one log. Knows no frame: what is proposed are bytes.

    a proposal holds  <=>  its decision says so; a decision is created once, and is there for ever
    who proposes decides for it only if nobody has begun in any of the logs since he did, and since the proposal is there
    who begins in a log looks for proposals before it writes, and decides against what is not decided
    a proposal that holds is deleted only once each log has its part
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from ensemble.log.objects.protocol import Absent, Answer, Call, Done, Follow, Found, Log, Name, Taken, Unknown

YES, NO = b"yes\n", b"no\n"

PROPOSALS = Name("proposal")


def proposal(token: str) -> Name:
    return Name("proposal", log=token)


def decision(token: str) -> Name:
    return Name("decision", log=token)


class Accepted(NamedTuple):
    """It holds: each log has its part, or gets it from whoever begins there next, before anything else."""


class Refused(NamedTuple):
    """It does not hold, and never will."""

    shard: int | None
    """Of the log in which another has begun; None: he was quicker, and decided it."""


class Propose(NamedTuple):
    """Having each of several logs get its part. Ends in `Accepted` or `Refused`.

    By who writes them all: `ends` is each log, and the entry that is next there for him. The commit point is the create of the
    decision. The logs are looked at after the proposal is there: who begins after that look finds it. Looked at before, one
    could begin in between, find nothing, and go on without its part.
    """

    token: str
    """A word that no other proposal ever had."""
    value: Any
    ends: tuple[tuple[Log, int], ...]
    phase: Literal["propose", "look", "decide", "compare", "withdraw"] = "propose"
    looked: int = 0
    """So many of the logs were looked at."""
    step: Follow | None = None

    @property
    def shard(self) -> int | None:
        """The log that the call is about; None: it is about what they have in common."""
        return self.looked if self.phase == "look" else None

    def wants(self) -> Call:
        match self.phase:
            case "propose":
                return Call("create", proposal(self.token), self.value)
            case "look":
                return self._follow().wants()
            case "decide":
                return Call("create", decision(self.token), YES)
            case "compare":
                return Call("get", decision(self.token))
            case "withdraw":
                return Call("delete", proposal(self.token))

    def told(self, answer: Answer) -> Propose | Accepted | Refused:
        if self.phase == "withdraw":  # whatever came of it: what is left is decided against by whoever finds it
            return Refused(self.looked)
        if isinstance(answer, Unknown):
            return self
        match self.phase:
            case "propose":
                assert isinstance(answer, Done | Taken), "a create has no other answer"
                return self._replace(phase="look")
            case "look":
                after = self._follow().told(answer)
                if isinstance(after, Follow):
                    return self._replace(step=after)
                if after.entries or not after.is_end:
                    return self._replace(phase="withdraw")
                looked = self.looked + 1
                return self._replace(looked=looked, step=None, phase="look" if looked < len(self.ends) else "decide")
            case "decide":
                return Accepted() if isinstance(answer, Done) else self._replace(phase="compare")
            case _:
                if not isinstance(answer, Found):  # nobody deletes a decision, but with the whole store
                    return self._replace(phase="decide")
                return Accepted() if answer.value == YES else Refused(None)

    def _follow(self) -> Follow:
        log, number = self.ends[self.looked]
        return self.step or Follow(number, log)


class Settled(NamedTuple):
    """What holds of all that was proposed, and may not be in all logs yet."""

    accepted: tuple[tuple[str, Any], ...]


class Settle(NamedTuple):
    """Deciding what is proposed, by who has begun in one of the logs and has not written yet. Ends in `Settled`.

    What holds and was deleted since it was listed is in each log.
    """

    tokens: tuple[str, ...] = ()
    accepted: tuple[tuple[str, Any], ...] = ()
    phase: Literal["list", "refuse", "compare", "get", "clear"] = "list"

    def wants(self) -> Call:
        match self.phase:
            case "list":
                return Call("list", PROPOSALS)
            case "refuse":
                return Call("create", decision(self.tokens[0]), NO)
            case "compare":
                return Call("get", decision(self.tokens[0]))
            case "get":
                return Call("get", proposal(self.tokens[0]))
            case "clear":
                return Call("delete", proposal(self.tokens[0]))

    def told(self, answer: Answer) -> Settle | Settled:
        if self.phase == "clear":  # whatever came of it: it is decided
            return self._next()
        if isinstance(answer, Unknown):
            return self
        match self.phase:
            case "list":
                assert isinstance(answer, Found), "a list is always answered"
                tokens: Any = answer.value
                return self._replace(tokens=("", *tokens))._next()
            case "refuse":
                return self._replace(phase="clear" if isinstance(answer, Done) else "compare")
            case "compare":
                if not isinstance(answer, Found):
                    return self._replace(phase="refuse")
                return self._replace(phase="get" if answer.value == YES else "clear")
            case _:
                found = () if isinstance(answer, Absent) else ((self.tokens[0], _value(answer)),)
                return self._replace(accepted=self.accepted + found)._next()

    def _next(self) -> Settle | Settled:
        tokens = self.tokens[1:]
        return self._replace(tokens=tokens, phase="refuse") if tokens else Settled(self.accepted)


def _value(answer: Answer) -> Any:
    assert isinstance(answer, Found), "a get has no other answer"
    return answer.value
