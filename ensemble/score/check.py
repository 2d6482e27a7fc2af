"""Checking: everything that can be known of a score before it plays.

Owns which findings there are, and silencing; `codes` names them. `load` has already refused what is no score. An error here is
one that would end the playing at once; a warning is what can't be right though it would play. Players' modules are imported,
and none of their functions is called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ensemble.motif import Motif, is_pattern, matches, overlap, repeated
from ensemble.score import reactions
from ensemble.score.codes import CODES
from ensemble.score.finding import Finding, Where, nearest, path_text, sentence
from ensemble.score.lookup_check import say_of_lookups
from ensemble.score.model import Emit, Score, SourceSpec
from ensemble.score.obituary import FIELDS, misfit
from ensemble.score.schemas import KEYWORDS, unknown_keywords

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
    checker.say_of_failures(imports=imports)
    say_of_lookups(score, checker.add)
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
        self._say_of_topics()
        self._say_of_motifs()
        self._say_of_players()
        self._say_of_sources()
        self._say_of_personal()
        for topic, event in self._score.events.items():
            for where, word in unknown_keywords(event.schema):
                wrong = f"JSON Schema has no keyword {word!r}, so it checks nothing"
                self.add("schema-keyword", ("events", topic, "schema", *where), wrong, word=word, known=KEYWORDS)

    def _say_of_topics(self) -> None:
        """Who says what nobody hears, and who waits for what nobody says. One slip of the pen is told once."""
        events = self._score.events
        told: set[str] = set()
        for heard, known in reactions.unsaid(self._score):
            near = nearest(heard.pattern, known)
            if near is not None:
                told.add(near)
            if events:
                wrong = f"nobody says {heard.pattern}, and events: does not declare it"
                cure = "if it comes from outside, declare it under events:"
            else:
                wrong, cure = f"nobody says {heard.pattern}", "if it comes from outside, silence this with a reason"
            if events or near is not None:  # without events: anything may come from outside
                self.add("never-said", heard.where, wrong, cure, word=heard.pattern, known=known)
        for said in reactions.said(self._score) if events else ():
            if not self._is_declared(said.pattern):
                if nearest(said.pattern, events):
                    told.add(said.pattern)
                wrong, cure = f"events: does not declare {said.pattern}", "if it is right, declare it there"
                self.add("emits-unknown", said.where, wrong, cure, word=said.pattern, known=events)
        for where, topic in reactions.unheard(self._score):
            if topic not in told:
                cure = "let a player listen to it, or silence this with a reason"
                self.add("unheard-event", where, f"nobody hears {topic}", cure)
        for name in reactions.unused(self._score):
            cure = "write its name under a player's on:, or remove it"
            self.add("unused-motif", ("motifs", name), f"no player listens for {name}, so it is not matched", cure)

    def _say_of_motifs(self) -> None:
        """Parts that are the same are fulfilled by the same events: two of them ask for no more than one."""
        motifs: dict[Where, Motif] = {("motifs", name): motif for name, motif in self._score.motifs.items()}
        motifs |= {("players", name, "on"): player.on for name, player in self._score.players.items()}
        for where, motif in motifs.items():
            for part in repeated(motif):
                wrong = f"all: asks for {part.pattern} more than once, and one event is all of these"
                cure = f"for two of them write {{count: {part.pattern}, times: 2}}, else remove all but one"
                self.add("same-event", where, wrong, cure)

    def _say_of_personal(self) -> None:
        """Keys are never encrypted, so they should be pseudonyms."""
        for topic, event in self._score.events.items():
            if event.personal is None or event.key is None:
                continue
            key, subject = event.key.removeprefix("data."), event.personal.subject.removeprefix("data.")
            fields = [field.removeprefix("data.") for field in event.personal.fields]
            is_covered = any(key == field or key.startswith(field + ".") for field in fields) if fields else key != subject
            if is_covered:
                wrong = f"the key, {key}, is personal, and an event's key is not encrypted: it stays when they are forgotten"
                cure = "let the key be a number that says nothing by itself, or silence this with a reason"
                self.add("personal-key", ("events", topic, "key"), wrong, cure)

    def _is_declared(self, pattern: str) -> bool:
        if is_pattern(pattern):
            return any(overlap(pattern, topic) for topic in self._score.events)
        return self._score.event_spec(pattern) is not None

    def _say_of_players(self) -> None:
        if not self._score.players:
            cure = "write players: {NAME: {play: module:function, on: TOPIC}}, or silence this with a reason"
            self.add("no-players", ("players",), "there are none, so nobody hears anything", cure)
        for name, player in self._score.players.items():
            most = player.section.max
            if player.order == "all" and most > 1:
                wrong = f"order: all hears one event at a time, so {most - 1} of {most} instances have nothing to do"
                self.add("idle-instances", ("players", name, "section", "max"), wrong, "remove max:, or order: all")
            if player.play is None and name not in self._players:
                cure = f"write play: module:function, or give it to ensemble.open(..., players={{{name!r}: ...}})"
                self.add("no-play", ("players", name), "it has no play:", cure)

    def _say_of_sources(self) -> None:
        for name, source in self._score.sources.items():
            if source.file is None or source.file == "-":
                continue
            if not Path(source.file).is_file():
                what = "is a folder" if Path(source.file).is_dir() else "is not there"
                cure = "a path is relative to the score's own folder"
                self.add("source-file", ("sources", name, "file"), f"{source.file} {what}", cure)
            waiting = self._without_key(source)
            if waiting:
                wrong = (
                    f"its lines are data alone and have no key, so all of {source.topic} wait in one lane of "
                    f"{', '.join(waiting)}"
                )
                cure = (
                    f"name the field that tells one from the other under events[{source.topic}].key, or give the player "
                    "a by: or order: none"
                )
                self.add("no-key", ("sources", name, "topic"), wrong, cure)

    def _without_key(self, source: SourceSpec) -> list[str]:
        """The players in whose one lane all lines of a file would wait."""
        if source.topic is None:  # each line is a whole event, and may have a key
            return []
        spec = self._score.event_spec(source.topic)
        if spec is not None and spec.key is not None:
            return []
        hearing = {each.player for each in reactions.heard(self._score) if matches(each.pattern, source.topic)}
        players = self._score.players
        return sorted(name for name in hearing if players[name].order == "key" and players[name].by is None)

    def say_of_failures(self, *, imports: bool) -> None:
        """What is said when a player fails has fields of its own, which the event should be able to have."""
        for name, player in self._score.players.items():
            if not isinstance(player.on_failure, Emit):
                continue
            topic = player.on_failure.topic
            wrong = misfit(self._score, topic, imports=imports)
            if wrong is not None:
                cure = f"what is said of a failure has {', '.join(FIELDS)}, and no other field"
                where: Where = ("players", name, "on_failure", "emit")
                self.add("failure-schema", where, f"{topic} can't tell of a failure: {wrong}", cure)

    # Code

    def say_of_code(self) -> None:
        from ensemble.score.code_check import say_of_code

        say_of_code(self._score, self._players, self.add)


def _is_silenced(finding: Finding, code: str, at: str | None) -> bool:
    if finding.severity == "error" or finding.code != code:
        return False
    return at is None or finding.path == at or finding.path.startswith((at + ".", at + "["))
