"""Checking: everything that can be known of a score before it plays.

Owns which findings there are, and silencing; `codes` names them. `load` has already refused what is no score. An error here is
one that would end the playing at once; a warning is what can't be right though it would play. Players' modules are imported,
and none of their functions is called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ensemble.motif import is_pattern, matches, overlap
from ensemble.score import reactions
from ensemble.score.codes import CODES
from ensemble.score.finding import Finding, Where, nearest, path_text, sentence
from ensemble.score.model import Score

__all__ = ["Finding", "check"]


def check(
    score: Score, *, imports: bool = True, players: Mapping[str, Callable[..., Any]] | None = None
) -> tuple[Finding, ...]:
    """What is wrong with a score, or can't be right, in the order of its text.

    Shapes: `players` are callables that take the place of `play:`, as `ensemble.open` gets them.
    With `imports=False` no code is imported, and nothing is said about code.
    """
    checker = _Checker(score, dict(players or {}))
    checker.say_of_score()
    if imports:
        checker.say_of_code()
    return checker.told()


class _Checker:
    def __init__(self, score: Score, players: Mapping[str, Callable[..., Any]]) -> None:
        self._score = score
        self._players = players
        self._found: list[tuple[Where, Finding]] = []

    def add(self, code: str, where: Where, wrong: str, cure: str = "", *, word: str = "", known: Collection[str] = ()) -> None:
        near = nearest(word, known) if word else None
        place = self._score.places.of(where)
        file, line, column = place or ("<score>", None, None)
        finding = Finding(
            code=code,
            message=sentence(wrong, near, cure),
            path=path_text(where),
            file=file,
            line=line,
            column=column,
            severity=CODES[code].severity,
        )
        self._found.append((where, finding))

    def told(self) -> tuple[Finding, ...]:
        """The findings that are not silenced; and what was silenced though it is not there."""
        kept, used = [], set()
        for _, finding in self._found:
            silent = [i for i, each in enumerate(self._score.silence) if _is_silenced(finding, each.code, each.at)]
            used.update(silent)
            if not silent:
                kept.append(finding)
        self._found = []
        for i, silence in enumerate(self._score.silence):
            if i not in used:
                at = f" at {silence.at}" if silence.at else ""
                wrong = f"there is no {silence.code}{at} to silence"
                self.add("unused-silence", ("silence", i), wrong, "remove it, or mend its at:")
        kept += [finding for _, finding in self._found]
        return tuple(sorted(kept, key=lambda each: (each.file, each.line or 0, each.column or 0, each.path)))

    # The score alone

    def say_of_score(self) -> None:
        score = self._score
        for where, topic in reactions.unheard(score):
            self.add(
                "unheard-event", where, f"nobody hears {topic}", "let a player listen to it, or silence this with a reason"
            )
        for heard, known in reactions.unsaid(score):
            near = nearest(heard.pattern, known)
            if score.events or near:
                declared = ", and events: does not declare it" if score.events else ""
                self.add("never-said", heard.where, f"nobody says {heard.pattern}{declared}", "declare it, if it comes from outside", word=heard.pattern, known=known)  # fmt: skip
        if score.events:
            self._say_of_undeclared()
        for name, player in score.players.items():
            if player.order == "all" and player.section.max > 1:
                self.add("idle-instances", ("players", name, "section", "max"), f"order: all hears one event at a time, so {player.section.max - 1} of {player.section.max} instances have nothing to do", "remove max:, or order: all")  # fmt: skip
            if player.play is None and name not in self._players:
                self.add("no-play", ("players", name), "it has no play:", f"write play: module:function, or give it to ensemble.open(..., players={{{name!r}: ...}})")  # fmt: skip
        for name, source in score.sources.items():
            if source.file is not None and source.file != "-" and not Path(source.file).is_file():
                what = "is a folder" if Path(source.file).is_dir() else "is not there"
                self.add("source-file", ("sources", name, "file"), f"{source.file} {what}", "a path is relative to the score's own folder")  # fmt: skip
        self._say_of_keys()
        for topic, event in score.events.items():
            if event.schema is not None:
                for where, word, known in unknown_keywords(event.schema):
                    self.add("schema-keyword", ("events", topic, "schema", *where), f"JSON Schema has no keyword {word!r}, so it checks nothing", word=word, known=known)  # fmt: skip

    def _say_of_undeclared(self) -> None:
        declared = self._score.events
        for said in reactions.said(self._score):
            if is_pattern(said.pattern):
                is_known = any(overlap(said.pattern, topic) for topic in declared)
            else:
                is_known = self._score.event_spec(said.pattern) is not None
            if not is_known:
                self.add("emits-unknown", said.where, f"events: does not declare {said.pattern}", "declare it", word=said.pattern, known=tuple(declared))  # fmt: skip

    def _say_of_keys(self) -> None:
        """Data alone, as lines of a file, has no key but the one that its event's `key:` reads."""
        score = self._score
        for name, source in score.sources.items():
            spec = score.event_spec(source.topic) if source.topic else None
            if source.topic is None or source.file is None or (spec is not None and spec.key is not None):
                continue
            waiting = sorted(
                {
                    each.player
                    for each in reactions.heard(score)
                    if matches(each.pattern, source.topic)
                    and score.players[each.player].order == "key"
                    and score.players[each.player].by is None
                }
            )
            if waiting:
                self.add("no-key", ("sources", name, "topic"), f"the lines have no key, so all events {source.topic} wait in one lane of {', '.join(waiting)}", f"write events[{source.topic}].key: the field that tells one from the other, or order: none or by: for the player")  # fmt: skip

    # Code

    def say_of_code(self) -> None:
        from ensemble.score.code_check import say_of_code

        say_of_code(self._score, self._players, self.add)


def _is_silenced(finding: Finding, code: str, at: str | None) -> bool:
    if finding.severity == "error" or finding.code != code:
        return False
    return at is None or finding.path == at or finding.path.startswith((at + ".", at + "["))


_KEYWORDS = frozenset(
    "$schema $id $ref $anchor $dynamicRef $dynamicAnchor $vocabulary $comment $defs allOf anyOf oneOf not if then else "
    "dependentSchemas prefixItems items contains properties patternProperties additionalProperties propertyNames "
    "unevaluatedItems unevaluatedProperties type const enum multipleOf maximum exclusiveMaximum minimum exclusiveMinimum "
    "maxLength minLength pattern maxItems minItems uniqueItems maxContains minContains maxProperties minProperties required "
    "dependentRequired title description default deprecated readOnly writeOnly examples format contentEncoding "
    "contentMediaType contentSchema definitions dependencies".split()
)


def unknown_keywords(schema: Any, where: Where = ()) -> Iterator[tuple[Where, str, Collection[str]]]:
    """Keywords of a schema that are like a known one, but none: their places."""
    if isinstance(schema, list):
        for i, each in enumerate(schema):
            yield from unknown_keywords(each, (*where, i))
    if not isinstance(schema, Mapping):
        return
    for key, value in schema.items():
        if key not in _KEYWORDS:
            if not key.startswith("x-") and nearest(key, _KEYWORDS):
                yield (*where, key), key, _KEYWORDS
        elif key in ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"):
            for name, each in value.items() if isinstance(value, Mapping) else ():
                yield from unknown_keywords(each, (*where, key, name))
        elif key not in ("const", "enum", "default", "examples", "required", "dependentRequired", "type"):
            yield from unknown_keywords(value, (*where, key))
