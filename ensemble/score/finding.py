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
    """The known word that is most likely meant; None if none is like it."""
    if not known or not word or len(word) > 200:
        return None
    from rapidfuzz import fuzz, process
    from rapidfuzz.distance import DamerauLevenshtein

    by_case = {each.lower(): each for each in known}
    if word.lower() in by_case:
        return by_case[word.lower()]
    words = sorted(known)
    near = min(words, key=lambda each: DamerauLevenshtein.distance(word.lower(), each.lower()))
    distance = DamerauLevenshtein.distance(word.lower(), near.lower())
    if distance <= max(1, len(word) // 3):
        return near
    found = process.extractOne(word, words, scorer=fuzz.ratio, score_cutoff=75)
    return None if found is None else found[0]


def sentence(wrong: str, near: str | None, cure: str) -> str:
    """What is wrong, the nearest valid word, and what to do."""
    if near is None:
        return f"{wrong}; {cure}" if cure else wrong
    hint = f"{wrong}; did you mean {near}?"
    return f"{hint} {cure[:1].upper()}{cure[1:]}" if cure else hint
