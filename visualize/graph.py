"""The reaction graph: what a score says of who says what and who hears it, as a networkx graph.

Owns which nodes and edges there are, their ids and what is known of each. Must not know how any of it looks.

    node id   kind     is                                     edge kind   from -> to
    event:T   event    a topic, or a pattern of topics        says        player or source -> event
    player:P  player   a player                               fails       player -> event (`on_failure: {emit: T}`)
    motif:M   motif    by its name, or @P of player P         hears       event -> player or motif, motif -> player or motif
    source:S  source   what starts the music                  fits        event -> event, the pattern that it fits
    table:P   table    the state that player P keeps          keeps       player -> its table
    dead:P    dead     the dead letters of player P           dies        player -> its dead letters

Invariants: an event hangs on no event but by `fits`; every table and dead letter has exactly one edge, from its player.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec
import networkx as nx  # type: ignore[import-untyped]

from ensemble.motif import (
    UNBOUNDED,
    AllOf,
    AnyOf,
    Count,
    Maybe,
    Motif,
    Next,
    Not,
    Seq,
    Topic,
    Window,
    alternatives,
    document,
    is_pattern,
    leaves,
    matches,
    overlap,
    topics,
)
from ensemble.score import Code, Finding, PlayerSpec, Score, SourceSpec, check, code_of, duration_text
from ensemble.score.model import Emit, Lookup

Graph: TypeAlias = "nx.DiGraph[str]"

MANY = 6
"""A pattern that more known topics fit stands as a node of its own: one line, not one from each of them."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a node, as its attribute `node`."""

    id: str
    kind: str
    name: str
    lines: tuple[str, ...] = ()
    """What stands under its name: the parts of a motif, how a player hears."""
    group: str = ""
    about: str = ""
    facts: Mapping[str, Any] = {}
    """What who clicks on it is told."""
    warnings: tuple[str, ...] = ()
    is_outside: bool = False
    """An event that nobody in the score says."""
    is_unheard: bool = False


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an edge, as its attribute `link`."""

    kind: str
    is_negated: bool = False
    """What must not come: `{not: A}`."""
    is_drawn: bool = True
    """False: it is told elsewhere, and one of many."""


def reaction_graph(score: Score, *, players: Mapping[str, Callable[..., Any]] | None = None, imports: bool = True) -> Graph:
    """The reaction graph of a score.

    Shapes: `players` are callables that take the place of `play:`, as `ensemble.open` gets them.
    With `imports=False` no code of the score is imported: tables and code places are not known then.
    """
    builder = _Builder(score, dict(players or {}), imports)
    return builder.build()


def focus(graph: Graph, name: str, depth: int = 2) -> Graph:
    """What lies around a node: all that can lead to it, and all that it can lead to, over so many edges.

    Errors: KeyError if no node has that name, with the nearest that there is.
    """
    centres = [id for id, node in nodes(graph) if name in (id, node.name) and node.kind not in ("table", "dead")]
    if not centres:
        from ensemble.score.finding import nearest

        known = list(dict.fromkeys(node.name for _, node in nodes(graph)))
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(known[:12])}{', …' if len(known) > 12 else ''}"
        raise KeyError(f"there is no {name!r} in this score; {hint}")
    kept: set[str] = set()
    for centre in centres:
        for way in (graph, graph.reverse(copy=False)):
            kept |= set(nx.single_source_shortest_path_length(way, centre, cutoff=depth))
    kept |= {f"{kind}:{id.partition(':')[2]}" for id in kept if id.startswith("player:") for kind in ("table", "dead")}
    return graph.subgraph([id for id in graph if id in kept]).copy()


def nodes(graph: Graph) -> Iterator[tuple[str, Node]]:
    """All nodes of a reaction graph with what is known of them, in the score's order."""
    yield from graph.nodes(data="node")


def links(graph: Graph) -> Iterator[tuple[str, str, Link]]:
    yield from graph.edges(data="link")


class _Builder:
    def __init__(self, score: Score, players: Mapping[str, Callable[..., Any]], imports: bool) -> None:
        self._score = score
        self._players = players
        self._imports = imports
        self._graph: Graph = nx.DiGraph(name=score.name, about=score.about)
        self._composite = {name for name, motif in score.motifs.items() if leaves(motif) is None}
        self._names = {motif: name for name, motif in score.motifs.items() if motif != Topic(getattr(motif, "pattern", ""))}
        """Of simple motifs, which stand for what they say. That of a motif of several events is the topic of its matches."""
        self._warnings = _by_place(check(score, imports=imports, players=players))
        self._known = self._topics()

    def build(self) -> Graph:
        for name, source in self._score.sources.items():
            self._source(name, source)
        for topic in self._known:
            self._event(topic)
        for name, player in self._score.players.items():
            self._player(name, player)
        for name, motif in self._score.motifs.items():  # named, and heard by nobody
            if f"motif:{name}" not in self._graph:
                self._motif(motif, name)
        self._patterns()
        self._mark_ends()
        self._give_groups()
        return self._graph

    def _topics(self) -> list[str]:
        """All single topics that the score names, in the order in which it does."""
        score = self._score
        named = [*score.events]
        for source in score.sources.values():
            named += [*source.emits, *([source.topic] if source.topic else [])]
        for player in score.players.values():
            named += topics(player.on)
            named += [*player.emits, *([player.on_failure.topic] if isinstance(player.on_failure, Emit) else [])]
        for motif in score.motifs.values():
            named += topics(motif)
        return [topic for topic in dict.fromkeys(named) if not is_pattern(topic) and topic not in self._composite]

    # Nodes

    def _add(self, node: Node) -> str:
        self._graph.add_node(node.id, node=node)
        return node.id

    def _link(self, a: str, b: str, kind: str, **more: Any) -> None:
        if not self._graph.has_edge(a, b):
            self._graph.add_edge(a, b, link=Link(kind=kind, **more))

    def _event(self, topic: str) -> str:
        id = f"event:{topic}"
        if id in self._graph:
            return id
        spec = self._score.event_spec(topic)
        facts: dict[str, Any] = {}
        if spec is not None:
            facts = {"key": spec.key, "schema": spec.schema, "type": spec.type}
        facts["declared at"] = self._place("events", topic) if topic in self._score.events else None
        return self._add(
            Node(
                id=id, kind="event", name=topic, about="" if spec is None else spec.about, facts=_told(facts),
                warnings=self._warned("events", topic),
            )
        )  # fmt: skip

    def _said(self, pattern: str) -> list[str]:
        """The events that somebody who may say a topic or pattern says."""
        if not is_pattern(pattern):
            return [self._event(pattern)]
        fitting = [topic for topic in self._known if matches(pattern, topic)]
        return [self._event(topic) for topic in fitting] if 0 < len(fitting) <= MANY else [self._event(pattern)]

    def _heard(self, pattern: str) -> list[str]:
        """The nodes whose coming is meant by a topic or pattern."""
        return [self._motif(self._score.motifs[pattern], pattern)] if pattern in self._composite else self._said(pattern)

    def _source(self, name: str, source: SourceSpec) -> None:
        if source.every_us is not None:
            how = f"every {duration_text(source.every_us)}"
        else:
            how = "file" if source.file is not None else "code"
        facts = {
            "file": source.file, "every": None if source.every_us is None else duration_text(source.every_us),
            "play": source.play, "rate": None if source.rate is None else f"{source.rate:g}/s",
            "code": self._code(source).place, "in the score": self._place("sources", name),
        }  # fmt: skip
        id = self._add(
            Node(
                id=f"source:{name}", kind="source", name=name, lines=(how,), about=source.about, facts=_told(facts),
                warnings=self._warned("sources", name),
            )
        )  # fmt: skip
        for pattern in dict.fromkeys([*([source.topic] if source.topic else []), *source.emits]):
            for event in self._said(pattern):
                self._link(id, event, "says")

    def _player(self, name: str, player: PlayerSpec) -> None:
        code = self._code(player)
        section = player.section
        lines = [f"by {player.by}"] if player.by else []
        lines += [f"order: {player.order}"] if player.order != "key" else []
        lines += [f"up to {section.max} instances"] if section.max > 1 else []
        read = [*player.reads, *(each.player for each in player.enrich.values())]
        lines += [f"reads {', '.join(dict.fromkeys(read))}"] if read else []
        failure = player.on_failure
        facts = {
            "play": player.play, "code": code.place, "in the score": self._place("players", name), "by": player.by,
            "order": player.order, "reads": ", ".join(player.reads) or None,
            "enriched with": ", ".join(f"{field}: {_lookup_text(each)}" for field, each in player.enrich.items()) or None,
            "instances": f"{section.min} to {section.max}", "with": dict(player.settings),
            "attempts": player.retry.attempts,
            "timeout": None if player.timeout_us is None else duration_text(player.timeout_us),
            "on failure": f"emit {failure.topic}" if isinstance(failure, Emit) else failure,
        }  # fmt: skip
        id = self._add(
            Node(
                id=f"player:{name}", kind="player", name=name, lines=(" · ".join(lines),) if lines else (), about=player.about,
                group=player.group, facts=_told(facts), warnings=self._warned("players", name),
            )
        )  # fmt: skip
        for source in self._motif_sources(player.on, f"@{name}"):
            self._link(source, id, "hears")
        for pattern in player.emits:
            for event in self._said(pattern):
                self._link(id, event, "says")
        if code.keeps_state:
            by = player.by or "key"
            self._add(Node(id=f"table:{name}", kind="table", name=f"state by {by}", group=player.group))
            self._link(id, f"table:{name}", "keeps")
        if isinstance(failure, Emit):
            self._link(id, self._event(failure.topic), "fails")
        else:
            label = "dead letters" if failure == "dead-letter" else "dead letters, held"
            self._add(Node(id=f"dead:{name}", kind="dead", name=label, group=player.group))
            self._link(id, f"dead:{name}", "dies")

    def _code(self, spec: PlayerSpec | SourceSpec) -> Code:
        call = self._players.get(spec.name)
        if call is None and not (self._imports and spec.play):
            return Code()
        return code_of(self._score, spec, call)

    # Motifs

    def _motif_sources(self, motif: Motif, at: str) -> list[str]:
        """The nodes whose coming fulfils a motif: events where it is simple, else a node of its own."""
        name = self._names.get(motif)
        if name is not None:
            return [self._motif(motif, name)]
        if isinstance(motif, Topic) and motif.where is None:
            return self._heard(motif.pattern)
        parts = alternatives(motif)
        if len(parts) > 1 or (isinstance(motif, AnyOf) and parts != (motif,)):
            return [id for i, part in enumerate(parts) for id in self._motif_sources(part, at if not i else f"{at}/{i + 1}")]
        return [self._motif(motif, at)]

    def _motif(self, motif: Motif, at: str) -> str:
        id = f"motif:{at}"
        if id in self._graph:
            return id
        name = at if at in self._score.motifs else self._names.get(motif, "")
        title, told = _operator(motif)
        if name:
            told = (f"where {motif.where}",) if isinstance(motif, Topic) else (title, *told)
        self._add(
            Node(
                id=id, kind="motif", name=name or title, lines=told, facts={"motif": document(motif)},
                warnings=self._warned("motifs", name) if name else (),
            )
        )  # fmt: skip
        for i, (part, is_negated) in enumerate(_parts(motif)):
            for source in self._part_sources(part, f"{at}.{i + 1}"):
                self._link(source, id, "hears", is_negated=is_negated)
        return id

    def _part_sources(self, part: Motif, at: str) -> list[str]:
        if isinstance(part, Topic):  # its condition is written in the motif's own node
            return self._heard(part.pattern)
        return self._motif_sources(part, at)

    # What follows from all nodes

    def _patterns(self) -> None:
        """What fits a pattern that stands as a node, and which patterns said meet which heard."""
        patterns = [node for _, node in nodes(self._graph) if node.kind == "event" and is_pattern(node.name)]
        for pattern in patterns:
            is_said = any(True for _ in self._graph.predecessors(pattern.id))
            is_heard = any(True for _ in self._graph.successors(pattern.id))
            for topic in self._known:
                if matches(pattern.name, topic):
                    a, b = (pattern.id, f"event:{topic}") if is_said and not is_heard else (f"event:{topic}", pattern.id)
                    self._link(a, b, "fits", is_drawn=False)
            for other in patterns:
                if is_said and other is not pattern and overlap(pattern.name, other.name):
                    self._link(pattern.id, other.id, "fits")

    def _mark_ends(self) -> None:
        for id, node in list(nodes(self._graph)):
            if node.kind == "event":
                is_outside = not any(True for _ in self._graph.predecessors(id))
                is_unheard = not any(True for _ in self._graph.successors(id))
                marked = msgspec.structs.replace(node, is_outside=is_outside, is_unheard=is_unheard)
                self._graph.nodes[id]["node"] = marked

    def _give_groups(self) -> None:
        """Events, motifs and sources stand with those who say them, or else with most of those who hear them."""
        for way in (self._graph.predecessors, self._graph.successors) * 3:
            for id, node in list(nodes(self._graph)):
                if node.kind == "player" or node.group:
                    continue
                near = Counter(group for other in way(id) if (group := self._graph.nodes[other]["node"].group))
                if near:
                    self._graph.nodes[id]["node"] = msgspec.structs.replace(node, group=near.most_common(1)[0][0])

    def _place(self, *where: str) -> str | None:
        place = self._score.places.of(where)
        return None if place is None else f"{place[0]}:{place[1]}"

    def _warned(self, *where: str) -> tuple[str, ...]:
        return tuple(self._warnings.get(where, ()))


_PLACE = re.compile(r"(\w+)(?:\.([\w-]+)|\[([^\]]+)\])")
"""A part of the score and the name in it, of a finding's path."""


def _by_place(findings: tuple[Finding, ...]) -> dict[tuple[str, ...], list[str]]:
    """(part of the score, name) -> what is found wrong there."""
    found: dict[tuple[str, ...], list[str]] = {}
    for each in findings:
        place = _PLACE.match(each.path)
        if place is not None:
            found.setdefault((place[1], place[2] or place[3]), []).append(each.message)
    return found


def _lookup_text(lookup: Lookup) -> str:
    return f"{lookup.player}[{'key' if lookup.path is None else 'data.' + lookup.path}]"


def _told(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, "", {}, ())}


def _parts(motif: Motif) -> list[tuple[Motif, bool]]:
    """The parts of a motif, and whether each is what must not come."""
    if isinstance(motif, (AllOf, Seq, AnyOf)):
        return [_bare(part) for part in motif.parts]
    if isinstance(motif, (Count, Window)):
        return [(motif.of, False)]
    return [_bare(motif)]


def _bare(part: Motif) -> tuple[Motif, bool]:
    """A part without what says how it is to come, and whether it must not."""
    if isinstance(part, (Not, Next, Maybe)):
        return part.part, isinstance(part, Not)
    return part, False


def _operator(motif: Motif) -> tuple[str, tuple[str, ...]]:
    """A motif's operator, and its parts in words."""
    if isinstance(motif, Topic):
        return "where", (motif.where,) if motif.where else (motif.pattern,)
    if isinstance(motif, AnyOf):
        return "any of", tuple(_in_words(part) for part in motif.parts)
    if isinstance(motif, Count):
        return f"{_times(motif)} times{_within(motif.within_us)}", (_in_words(motif.of),)
    if isinstance(motif, Window):
        return _window(motif), (_in_words(motif.of),)
    if isinstance(motif, (Not, Next, Maybe)):
        return _SIGNS[type(motif)], (_in_words(motif.part),)
    head = "all" if isinstance(motif, AllOf) else "seq"
    signs = [f"{i + 1}. " if head == "seq" else "+ " for i in range(len(motif.parts))]
    lines = [f"{sign}{_in_words(part)}" for sign, part in zip(signs, motif.parts, strict=True)]
    lines += [f"where {motif.where}"] if motif.where else []
    return f"{head}{_within(motif.within_us)}", tuple(lines)


_SIGNS: Mapping[type, str] = {Not: "no", Next: "next", Maybe: "maybe"}


def _times(motif: Count) -> str:
    if motif.most is None:
        return f"{motif.times}"
    return f"{motif.times} or more" if motif.most == UNBOUNDED else f"{motif.times} to {motif.most}"


def _window(motif: Window) -> str:
    if motif.every_us is not None and motif.sliding_us is not None:
        return f"last {duration_text(motif.sliding_us)}, every {duration_text(motif.every_us)}"
    if motif.every_us is not None:
        return f"every {duration_text(motif.every_us)}"
    return "window" if motif.gap_us is None else f"until {duration_text(motif.gap_us)} without"


def _within(us: int | None) -> str:
    return "" if us is None else f" within {duration_text(us)}"


def _in_words(motif: Motif) -> str:
    if isinstance(motif, Topic):
        label = f"{motif.label}: " if motif.label else ""
        return f"{label}{motif.pattern}" + (f" where {motif.where}" if motif.where else "")
    if isinstance(motif, (Not, Next, Maybe)):
        return f"{_SIGNS[type(motif)]} {_in_words(motif.part)}"
    if isinstance(motif, AnyOf):
        return " or ".join(_in_words(part) for part in motif.parts)
    return f"({_operator(motif)[0]})"
