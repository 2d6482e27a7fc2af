"""Who says what and who hears it: the score's reaction graph, as far as the score alone tells.

Owns the places at which topics are said and heard, and what they tell about each other: unheard events, motifs that nobody can
fulfil or listens for, circles with no way out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from ensemble.motif import Motif, Topic, alternatives, is_pattern, leaves, matches, overlap, walk
from ensemble.score.finding import Where
from ensemble.score.model import Emit, PlayerSpec, Score


class Said(msgspec.Struct, frozen=True):
    """A topic or pattern that somebody in the score may say."""

    pattern: str
    where: Where
    player: str | None = None


class Heard(msgspec.Struct, frozen=True):
    """A topic pattern that a player listens for."""

    pattern: str
    where: Where
    player: str
    condition: str | None = None
    is_part: bool = False
    """Whether it is one of several events that are awaited together."""


def said(score: Score) -> tuple[Said, ...]:
    return tuple(_said(score))


def _said(score: Score) -> Iterator[Said]:
    for name, player in score.players.items():
        at: Where = ("players", name)
        yield from (Said(topic, (*at, "emits", i), name) for i, topic in enumerate(player.emits))
        if isinstance(player.on_failure, Emit):
            yield Said(player.on_failure.topic, (*at, "on_failure", "emit"))
    for name, source in score.sources.items():
        at = ("sources", name)
        if source.topic is not None:
            yield Said(source.topic, (*at, "topic"))
        yield from (Said(topic, (*at, "emits", i)) for i, topic in enumerate(source.emits))


def heard(score: Score) -> tuple[Heard, ...]:
    return tuple(each for name in score.players for each in heard_by(score, name))


def heard_by(score: Score, name: str) -> tuple[Heard, ...]:
    """What a player listens for, with the place of each pattern; what motifs with a name are made of stands at that name."""
    names: list[str] = []
    found = list(_heard(score, score.players[name].on, ("players", name, "on"), name, names, is_part=False))
    for each in names:  # it grows: motifs may hear others
        found += _heard(score, score.motifs[each], ("motifs", each), name, names, is_part=True)
    return tuple(found)


def _heard(score: Score, motif: Motif, at: Where, player: str, names: list[str], *, is_part: bool) -> Iterator[Heard]:
    """The patterns in a motif, each with its place. Motifs of several events that it names are added to `names`."""
    parts = [(leaf, is_part or not isinstance(each, Topic)) for each in alternatives(motif) for leaf in walk(each)]
    places = [where for where, _ in _written(score, _at(score.document, at), at)]
    if len(places) != len(parts):  # a score that was not read from a document
        places = [at] * len(parts)
    for (leaf, is_of_several), where in zip(parts, places, strict=True):
        yield Heard(leaf.pattern, where, player, leaf.where, is_of_several)
        for name, named in score.motifs.items():
            if name not in names and matches(leaf.pattern, name) and leaves(named) is None:
                names.append(name)


def _written(score: Score, value: Any, where: Where) -> Iterator[tuple[Where, str]]:
    """The topics of a motif as the document has it, simple motifs that it names looked up."""
    if isinstance(value, str):
        named = _at(score.document, ("motifs", value))
        is_simple = value in score.motifs and leaves(score.motifs[value]) is not None
        if named is not None and is_simple and where != ("motifs", value):
            yield from _written(score, named, ("motifs", value))
        else:
            yield where, value
    elif isinstance(value, Mapping):
        if isinstance(value.get("event"), str):
            yield (*where, "event"), value["event"]
        for key in ("any", "all", "seq", "not", "next", "optional", "count", "of"):
            if key in value:
                yield from _written(score, value[key], (*where, key))
    elif isinstance(value, (list, tuple)):
        for i, each in enumerate(value):
            yield from _written(score, each, (*where, i))


def _at(value: Any, where: Where) -> Any:
    for part in where:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def unheard(score: Score) -> Iterator[tuple[Where, str]]:
    """Topics that are declared or said, and that nobody hears: their places."""
    patterns = [each.pattern for each in heard(score)]
    told = set()
    for topic in score.events:
        if not is_pattern(topic) and not any(matches(pattern, topic) for pattern in patterns):
            told.add(topic)
            yield ("events", topic), topic
    for each in said(score):
        if each.pattern not in told and not any(overlap(pattern, each.pattern) for pattern in patterns):
            told.add(each.pattern)
            yield each.where, each.pattern


def unsaid(score: Score) -> Iterator[tuple[Heard, Collection[str]]]:
    """What players listen for though nobody says it: with the topics that are known.

    Anybody may publish from outside what `events:` declares, and anything at all where it declares nothing.
    """
    known = {each.pattern for each in said(score)} | set(score.events)
    known |= {name for name, motif in score.motifs.items() if leaves(motif) is None}
    for each in heard(score):
        if not each.pattern.startswith("_band") and not any(overlap(each.pattern, pattern) for pattern in known):
            yield each, known


def unused(score: Score) -> Iterator[str]:
    """The named motifs that no player listens for, neither itself nor by way of another motif.

    Nothing where there are no players at all: such a score is there for others to include.
    """
    heard = [text for name in score.players for text in _texts(_at(score.document, ("players", name, "on")))]
    left = dict.fromkeys(score.motifs if heard else ())
    for text in heard:  # it grows: motifs may hear others
        # The matches of a motif of several events are events, which a pattern may fit; a simple one is there by its name only.
        found = [name for name in left if text == name or (leaves(score.motifs[name]) is None and matches(text, name))]
        for name in found:
            del left[name]
            heard += _texts(_at(score.document, ("motifs", name)))
    yield from left


def _texts(value: Any) -> Iterator[str]:
    """The topics, patterns and names in a motif as the document has it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key in ("event", "any", "all", "seq", "not", "next", "optional", "count", "of"):
            yield from _texts(value.get(key))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def circles(score: Score, always_answer: Collection[str]) -> list[list[str]]:
    """Players that answer each other for ever, given those that always answer.

    The largest set S of players in which each always answers, and each topic it may say is heard, without a condition, by some
    player in S. Whoever leaves S has a way out: it may stay silent, or say what nobody in S hears. What is left goes round for
    ever, whatever is said.
    """
    left = {name for name in always_answer if score.players[name].emits}
    hearing = {
        name: [each.pattern for each in heard_by(score, name) if each.condition is None and not each.is_part]
        for name in score.players
    }
    while True:
        out = {name for name in left if not _is_kept(score.players[name], left, hearing)}
        if not out:
            break
        left -= out
    if not left:
        return []
    import networkx as nx  # type: ignore[import-untyped]

    graph = nx.DiGraph()
    for name in sorted(left):
        for other in sorted(left):
            if any(matches(pattern, topic) for topic in score.players[name].emits for pattern in hearing[other]):
                graph.add_edge(name, other)
    rings = []
    for component in sorted(map(sorted, nx.strongly_connected_components(graph))):
        inner = graph.subgraph(component)
        if inner.number_of_edges():
            rings.append([edge[0] for edge in nx.find_cycle(inner, component[0])])
    return rings


def _is_kept(player: PlayerSpec, left: Collection[str], hearing: Mapping[str, list[str]]) -> bool:
    return all(
        not is_pattern(topic) and any(matches(pattern, topic) for name in left for pattern in hearing[name])
        for topic in player.emits
    )
