"""Scores: the YAML file that says which player listens to what, read, checked and made ready.

    score = load("score.yaml")       # or a text, or a mapping; ScoreError tells all that is wrong with it
    check(score)                     # what can't be right, though it would play

Nothing is imported before it is needed, so that a small score is there at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.score.check import check
    from ensemble.score.code import Code, code_of
    from ensemble.score.document import json_schema
    from ensemble.score.finding import Finding
    from ensemble.score.load import load
    from ensemble.score.model import EventSpec, PlayerSpec, Score, SourceSpec
    from ensemble.score.units import duration_text
    from ensemble.score.vocabulary import Vocabulary, Word

_HOMES = {
    "check": "check",
    "Code": "code",
    "code_of": "code",
    "json_schema": "document",
    "Finding": "finding",
    "load": "load",
    "EventSpec": "model",
    "PlayerSpec": "model",
    "Score": "model",
    "SourceSpec": "model",
    "duration_text": "units",
    "Vocabulary": "vocabulary",
    "Word": "vocabulary",
}

__all__ = [
    "Code",
    "EventSpec",
    "Finding",
    "PlayerSpec",
    "Score",
    "SourceSpec",
    "Vocabulary",
    "Word",
    "check",
    "code_of",
    "duration_text",
    "json_schema",
    "load",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ensemble.score' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"ensemble.score.{home}"), name)
    globals()[name] = value
    return value
