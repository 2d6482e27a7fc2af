"""What is done beside a log that plays: anchoring, making it smaller, merging. A slip of ours in it must not end the play.

Owns how such a fault is told. What a store refuses is no slip: that is said by who asked it.
"""

from __future__ import annotations

from logging import Logger


def told_fault(log: Logger, who: str, what: str, error: Exception, then: str) -> str:
    """Tell of a fault that nobody expected, with its lines, where it is caught: what it kept from being done, and what is next.

    The sentence, without `who`.
    """
    sentence = f"{what}, by a fault that nobody expected: {type(error).__name__}: {error}; {then}"
    log.exception("%s: %s; please report it with these lines", who, sentence)
    return sentence
