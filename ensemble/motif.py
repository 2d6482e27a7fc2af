"""The motif: the pattern of events that a player listens for.

Owns the pattern's tree, its grammar (`parse`), topic patterns and which topics they match. Knows no score file, broker
or clock. Meaning of each operator: design of the score, "motifs".

A simple motif is one that a single event fulfils: a topic pattern, `{event:, where:}`, or a list of these.
"""

from __future__ import annotations

import msgspec

Motif = "Topic | AnyOf | AllOf | Seq | Not | Count | Window"


class Topic(msgspec.Struct, frozen=True):
    """One event whose topic matches `pattern` and for which `where` (CEL) holds."""

    pattern: str
    where: str | None = None
    label: str | None = None


class AnyOf(msgspec.Struct, frozen=True):
    parts: tuple[Motif, ...]  # type: ignore[valid-type]


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
