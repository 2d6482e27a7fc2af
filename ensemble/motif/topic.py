"""Topics and topic patterns: which topic fits which pattern, and what is wrong with a text that is neither.

`*` is exactly one token, `>` at the end one or more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST_TOPIC = 255

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic fits a pattern: `*` is exactly one token, a last `>` one or more.

    A topic whose first token begins with `_` (the band's own) fits only a pattern that spells that token.
    """
    wanted, said = pattern.split("."), topic.split(".")
    if topic[:1] == "_" and wanted[0] != said[0]:
        return False
    for i, token in enumerate(wanted):
        if token == ">" and i == len(wanted) - 1:
            return len(said) > i
        if i >= len(said) or token not in ("*", said[i]):
            return False
    return len(wanted) == len(said)


def overlap(a: str, b: str) -> bool:
    """Whether some topic fits both patterns."""
    return _overlap(a.split("."), b.split("."))


def _overlap(a: Sequence[str], b: Sequence[str]) -> bool:
    if a and b and (a[0].startswith("_") or b[0].startswith("_")) and a[0] != b[0]:
        return False
    for i in range(max(len(a), len(b))):
        if i >= len(a) or i >= len(b):
            return False
        if a[i] == ">" or b[i] == ">":
            return True
        if a[i] != b[i] and "*" not in (a[i], b[i]):
            return False
    return True


def is_pattern(text: str) -> bool:
    """Whether a topic pattern has wildcards."""
    return "*" in text or ">" in text


def pattern_fault(text: str, *, wildcards: bool = True) -> tuple[str, str] | None:
    """What is wrong with a topic or topic pattern, and what to do; None if nothing is."""
    if not text:
        return "an empty topic", "write one such as order.placed, and '>' or '*' alone in quotes"
    if len(text) > LONGEST_TOPIC:
        return f"a topic of {len(text)} characters", f"the longest is {LONGEST_TOPIC}"
    tokens = text.split(".")
    if "" in tokens:
        if text.startswith("."):
            return f"{text!r} begins with a dot", f"write {text.lstrip('.')!r}" if text.strip(".") else "write a name"
        if text.endswith("."):
            return f"{text!r} ends with a dot", f"write {text.rstrip('.') + '.>'!r} for all below it, or remove the dot"
        return f"{text!r} has an empty part between two dots", "remove a dot, or write '*' for any one token"
    for place, token in enumerate(tokens):
        if token in ("*", ">"):
            if not wildcards:
                return f"{text!r} has the wildcard '{token}'", "one topic is needed here; write it out"
            if token == ">" and place != len(tokens) - 1:
                return (
                    f"{text!r} has '>' before its end",
                    "'>' stands for all the rest, so it comes last; '*' is any one token",
                )
        elif not _TOKEN.fullmatch(token):
            return _token_fault(text, token)
    return None


def _token_fault(text: str, token: str) -> tuple[str, str]:
    if token in ("#", "**", "+"):  # as MQTT, RabbitMQ and globs write them
        meant = "'*' for exactly one token" if token == "+" else "'>' for all the rest"
        return f"{text!r} has {token!r}, which is no wildcard here", f"write {meant}"
    if "*" in token or ">" in token:
        return (
            f"{text!r} has a wildcard inside the token {token!r}",
            "'*' stands for a whole token: order.*, not order.pl*",
        )
    odd = next(each for each in token if not _TOKEN.fullmatch(each))
    shown = "a space" if odd == " " else repr(odd)
    return (
        f"{text!r} has {shown} in it",
        "a topic has letters, digits, '_' and '-' in tokens with dots between them, as in order.placed",
    )
