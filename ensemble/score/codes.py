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
    "condition": Code("error", "a condition that is no CEL, or names what it does not know"),
    "event-type": Code("error", "an event's type: can't be imported, or is no type of data"),
    "event-upcast": Code("error", "what lifts an event from a version can't be imported"),
    "evolution": Code("error", "the store has events that the score can't play: nothing lifts them, or they may not fit"),
    "player-import": Code("error", "a player's code can't be imported"),
    "player-signature": Code("error", "a player's code can't be called as the score has it called"),
    "no-players": Code("warning", "a score without players, in which nobody hears anything"),
    "no-play": Code("warning", "a player without play:, which has to be given when the score is opened"),
    "source-file": Code("warning", "a source's file can't be read now"),
    "unheard-event": Code("warning", "an event that nobody hears"),
    "never-said": Code("warning", "a motif that nobody in the score, and no declared event, can fulfil"),
    "unused-motif": Code("warning", "a named motif that no player listens for"),
    "same-event": Code("warning", "parts of an all: that one event always fulfils together"),
    "emits-unknown": Code("warning", "an event that is said but not declared, while others are"),
    "emits-undeclared": Code("warning", "the code of a player or source says what its emits: does not allow"),
    "emits-schema": Code("warning", "what a player says does not fit the schema or type of the event"),
    "failure-schema": Code("warning", "an event that is said of failures can't have what is said of them"),
    "hears-type": Code("warning", "a player wants data that the event it hears does not have"),
    "unknown-field": Code("warning", "where:, key:, by: or personal: names a field that the event does not have"),
    "schema-keyword": Code("warning", "a schema has a keyword that JSON Schema does not know"),
    "endless-cycle": Code("warning", "players that answer each other for ever"),
    "no-key": Code("warning", "events without a key, which all wait in one lane"),
    "state-without-key": Code("warning", "a player keeps state but has no one key to keep it by"),
    "state-type": Code("error", "a player's state: type: can't be imported, or is no type that state can have"),
    "lookup-unknown": Code("warning", "reads: or enrich: names a player that is not in the score"),
    "reads-other-key": Code("warning", "a player reads the table of one that goes by another key"),
    "enrich-covers": Code("warning", "enrich: takes the place of a field that the event has itself"),
    "enrich-elsewhere": Code("error", "enrich: looks up what may lie in another shard than the event"),
    "personal-key": Code("warning", "a key is personal data, and keys are not encrypted"),
    "idle-instances": Code("warning", "more instances than can ever hear at a time"),
    "unused-silence": Code("warning", "a silenced warning that is not given any more"),
}
