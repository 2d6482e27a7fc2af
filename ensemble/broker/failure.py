"""How failures are told and timed: the same failure gives the same words and the same moments, always."""

from __future__ import annotations

from typing import Any

from ensemble.broker.words import Failure
from ensemble.event import digest, writable
from ensemble.score.model import RetryPolicy

DEAD = "_band.dead"
"""The topic of the event that tells of a dead letter."""
ERROR_MOST = 500
"""Longest text of an error that is kept, in characters."""


def obituary(player: str, failure: Failure, attempts: int, *, is_held: bool) -> dict[str, Any]:
    """The data of the event that tells of an event's end."""
    return {
        "player": player,
        "offset": failure.offset,
        "topic": failure.topic,
        "attempts": attempts,
        "error": failure.error,
        "traceback": failure.traceback,
        "held": is_held,
    }


def token_of(log_id: str, offset: int, player: str) -> str:
    """The same text on every run of the same event by the same player: an idempotency key for the outside."""
    return digest(f"{log_id}-{offset}/{player}", 16)


def backoff_us(policy: RetryPolicy, token: str, attempt: int) -> int:
    """How long to wait after this attempt. The jitter follows from the token, so that a replay waits as long."""
    try:
        delay = min(policy.most_us, policy.first_us * policy.factor ** (attempt - 1))
    except OverflowError:  # beyond what a float holds, and so beyond any bound
        delay = policy.most_us
    share = int(digest(f"{token}/{attempt}", 4), 16) / 0xFFFFFFFF
    return max(0, round(delay * (1 + policy.jitter * (2 * share - 1))))


def one_line(error: BaseException) -> str:
    """The error on one line: `ValueError: no such card`."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # a player's own exception may be broken in itself
        text = "(its text can't be shown)"
    if len(text) > ERROR_MOST:
        text = text[:ERROR_MOST] + "..."
    return writable(f"{type(error).__name__}: {text}" if text else type(error).__name__)
