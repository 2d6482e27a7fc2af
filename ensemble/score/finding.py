"""A finding: one thing that is wrong in a score, or that can't be right; and where it stands.

Owns the shape and its wording as a line, places in a document (`Where`), and the nearest valid word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

Where = tuple["str | int", ...]
"""A place in a document: the keys and indices that lead there, `("players", "payment", "emits", 0)`."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong (error) or can't be right (warning).

    Units: line and column count from 1; None where the score was no text.
    """

    code: str
    message: str
    """Sentences: what is wrong, what was found, what to do."""
    path: str = ""
    """Place in the document, `players.payment.emits[0]`; empty for the whole of it."""
    file: str = "<score>"
    line: int | None = None
    column: int | None = None
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}:{self.column}"
        kind = "" if self.severity == "error" else f"{self.severity} [{self.code}] "
        return f"{place}: {kind}{self.path + ': ' if self.path else ''}{self.message}"


def path_text(where: Sequence[str | int]) -> str:
    """A place as text: `events[order.placed].key`, `players.payment.emits[0]`."""
    text = ""
    for part in where:
        if isinstance(part, str) and re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{part}]"
    return text


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known word that is most likely meant; None if none is like it.

    At most one letter in four may differ, among the tokens that differ: `order.sent` is not like `order.lost`.
    """
    if not known or not word or len(word) > 200:
        return None
    from rapidfuzz.distance import DamerauLevenshtein

    lower = word.lower()
    by_case = {each.lower(): each for each in sorted(known)}
    if lower in by_case:
        return by_case[lower]
    like = []
    for each in by_case:
        mine, other = _differing(lower, each)
        distance = DamerauLevenshtein.distance(mine, other)
        if distance <= min(3, max(len(mine) // 4, len(mine) + len(other) > 4)):  # of two letters none may differ
            like.append((distance, each))
    if like:
        return by_case[min(like)[1]]
    begun = [each for each in by_case if min(len(each), len(lower)) >= 3 and (each.startswith(lower) or lower.startswith(each))]
    return by_case[begun[0]] if len(begun) == 1 else None


def _differing(a: str, b: str) -> tuple[str, str]:
    """Two topics without the tokens that they begin or end with alike."""
    left, right = a.split("."), b.split(".")
    while len(left) > 1 and len(right) > 1 and left[0] == right[0]:
        del left[0], right[0]
    while len(left) > 1 and len(right) > 1 and left[-1] == right[-1]:
        del left[-1], right[-1]
    return ".".join(left), ".".join(right)


def sentence(wrong: str, near: str | None, cure: str) -> str:
    """What is wrong, the nearest valid word, and what to do."""
    if near is None:
        return f"{wrong}; {cure}" if cure else wrong
    hint = f"{wrong}; did you mean {near}?"
    return f"{hint} {cure[:1].upper()}{cure[1:]}" if cure else hint
