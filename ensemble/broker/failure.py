"""How failures are told and timed: the same failure gives the same words and the same moments, always."""

from __future__ import annotations

from typing import Any

import msgspec

from ensemble.broker.words import Failure, Policy
from ensemble.errors import InvalidEvent
from ensemble.event import digest, writable
from ensemble.score.model import Emit, RetryPolicy

DEAD = "_band.dead"
"""The topic of the event that tells of a dead letter."""
ERROR_MOST = 500
"""Longest text of an error that is kept, in characters."""


class End(msgspec.Struct, frozen=True):
    """What is said when an event will not be tried again."""

    topic: str
    data: dict[str, Any]
    is_held: bool = False
    """Whether its key waits."""


def end_of(player: str, failure: Failure, attempts: int, policy: Policy) -> End:
    """How an event ends: by the topic that the policy names, if that can have such data; else as a dead letter."""
    if not isinstance(policy.on_failure, Emit):
        is_held = policy.on_failure == "hold"
        return End(DEAD, obituary(player, failure, attempts, is_held=is_held), is_held)
    topic, data = policy.on_failure.topic, obituary(player, failure, attempts)
    try:
        if policy.check is not None:
            policy.check(data)
    except InvalidEvent as error:
        return End(DEAD, {**data, "error": f"{failure.error}; and {topic} can't tell of it: {one_line(error, named=False)}"})
    return End(topic, data)


def obituary(player: str, failure: Failure, attempts: int, *, is_held: bool = False) -> dict[str, Any]:
    """The data of the event that tells of an event's end: `ensemble.score.obituary.FIELDS`."""
    return {
        "player": player,
        "offset": failure.offset,
        "topic": failure.topic,
        "attempts": attempts,
        "error": failure.error,
        "traceback": failure.traceback,
        "held": is_held,
    }


def token_of(event: str, player: str) -> str:
    """The same text on every run of the same event by the same player: an idempotency key for the outside.

    The event goes by the name that it got where it was written first: in whatever log or shard it is heard.
    """
    return digest(f"{event}/{player}", 16)


def backoff_us(policy: RetryPolicy, token: str, attempt: int) -> int:
    """How long to wait after this attempt. The jitter follows from the token, so that a replay waits as long."""
    try:
        delay = min(policy.most_us, policy.first_us * policy.factor ** (attempt - 1))
    except OverflowError:  # beyond what a float holds, and so beyond any bound
        delay = policy.most_us
    share = int(digest(f"{token}/{attempt}", 4), 16) / 0xFFFFFFFF
    return max(0, round(delay * (1 + policy.jitter * (2 * share - 1))))


def one_line(error: BaseException, *, named: bool = True) -> str:
    """The error on one line: `ValueError: no such card`; its text alone where it is not to be `named`."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # a player's own exception may be broken in itself
        text = "(its text can't be shown)"
    if len(text) > ERROR_MOST:
        text = text[:ERROR_MOST] + "..."
    if named:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return writable(text)
