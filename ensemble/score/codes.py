"""The codes of findings: stable names for what can be wrong, which scores silence by and docs/check-codes.md explains."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Code(NamedTuple):
    severity: Literal["error", "warning"]
    about: str


CODES = {
    "score-file": Code("error", "the score's file can't be read"),
    "score-text": Code("error", "the score's file is not text"),
    "score-yaml": Code("error", "the text is not YAML, or goes beyond a bound"),
    "duplicate-key": Code("error", "a key is there twice"),
    "interpolation": Code("error", "${NAME} can't be filled in"),
    "include": Code("error", "an included score is missing, or says what is said already"),
    "unknown-key": Code("error", "a key that scores don't have"),
    "missing-key": Code("error", "a key that can't be left out is missing"),
    "wrong-value": Code("error", "a value that its key can't have"),
    "motif": Code("error", "a motif that can't be read"),
    "composite-motif": Code("error", "a motif of more than one event, which this version can't play"),
    "condition": Code("error", "a condition that is no CEL, or names what it does not know"),
}
