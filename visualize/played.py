"""What was played, laid over what was declared: traffic, failures, lag, dead letters, and what is in one of them alone.

Owns the counts by node and edge. Must not know how they look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
import networkx as nx  # type: ignore[import-untyped]

from ensemble.history import History
from ensemble.motif import is_pattern, matches
from visualize.graph import Graph, Link, Node, nodes
from visualize.layout import Edge

MATCH = "_band.motif."
"""Before a player's name: the topic of the matches of its own motif."""

WIDEST = 6.0
"""How wide an edge may be. The layout does not depend on it, so that a band looks alike at any moment."""


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What a store tells of a score, by the ids of the reaction graph."""

    count: Mapping[Edge, int] = {}
    """Events that went over an edge."""
    rate: Mapping[str, float] = {}
    """Of each player's attempts, the share that failed."""
    dead: Mapping[str, int] = {}
    badges: Mapping[str, str] = {}
    """What stands under a name: how many events, lag."""
    seen: frozenset[str] = frozenset()
    undeclared: frozenset[str] = frozenset()
    """Nodes that were seen and that the score does not have."""
    undeclared_edges: frozenset[Edge] = frozenset()

    def width(self, a: str, b: str) -> float:
        """How wide an edge is: by a root of its share of the most traffic, since traffic spans powers of ten."""
        count, most = self.count.get((a, b), 0), max(self.count.values(), default=0)
        return 0.9 if not count else 0.9 + (WIDEST - 0.9) * (count / most) ** 0.4

    def edge_rate(self, a: str, b: str) -> float:
        """The share of failures of who hears, else of who says."""
        return self.rate.get(b, 0.0) if b.startswith("player:") else 0.0

    def told(self, a: str, b: str) -> str:
        count = self.count.get((a, b), 0)
        if not count:
            return "never seen"
        rate = self.edge_rate(a, b)
        return f"{count:,} event{'' if count == 1 else 's'}" + (f", {rate:.1%} of attempts failed" if rate else "")


def lay_over(graph: Graph, past: History) -> tuple[Graph, Played]:
    """The reaction graph with what was played: what the score does not declare is in it too."""
    return _Tally(graph.copy(), past).told()


class _Tally:
    def __init__(self, graph: Graph, past: History) -> None:
        self._graph = graph
        self._past = past
        self._count: Counter[Edge] = Counter()
        self._undeclared: set[str] = set()
        self._undeclared_edges: set[Edge] = set()
        self._patterns = [node for _, node in nodes(graph) if node.kind == "event" and is_pattern(node.name)]
        self._ways: dict[Edge, Sequence[Edge]] = {}

    def told(self) -> tuple[Graph, Played]:
        said = Counter((self._past.speakers.get((event.shard, event.offset)), event.topic) for event in self._past.events)
        for (speaker, topic), count in said.items():
            self._say(speaker, topic, count)
        topics = {(event.shard, event.offset): event.topic for event in self._past.events}
        for match, parts in self._past.parts.items():
            for place in parts:
                if match in topics and place in topics:
                    self._add(self._way(self._event(topics[place], None), self._event(topics[match], None)), 1)
        once = {(hearing.player, hearing.place) for hearing in self._past.hearings}
        heard = Counter((player, topics[place]) for player, place in once if place in topics)
        for (player, topic), count in heard.items():
            self._hear(player, topic, count)
        sections = self._past.sections
        for name in sections:
            self._player(name)
        return self._graph, Played(
            count=self._count,
            rate={f"player:{name}": each.failed / (each.heard + each.failed) for name, each in sections.items() if each.failed},
            dead={f"player:{name}": each.dead for name, each in sections.items()},
            badges=self._badges(said),
            seen=self._seen(),
            undeclared=frozenset(self._undeclared),
            undeclared_edges=frozenset(self._undeclared_edges),
        )

    def _say(self, speaker: str | None, topic: str, count: int) -> None:
        if self._is_own(topic):
            return
        event = self._event(topic, speaker)
        if speaker is None or event.startswith("motif:"):
            return
        source = f"source:{speaker}"
        is_source = source in self._graph and not self._graph.has_edge(f"player:{speaker}", event)
        who = source if is_source else self._player(speaker)
        self._add(self._way(who, event), count)

    def _hear(self, player: str, topic: str, count: int) -> None:
        if self._is_own(topic):
            return
        self._add(self._way(self._event(topic, player), self._player(player)), count)

    def _add(self, way: Sequence[Edge], count: int) -> None:
        for edge in way:
            self._count[edge] += count

    def _way(self, a: str, b: str) -> Sequence[Edge]:
        """The edges that lead from one to the other, over motifs and patterns between them; a new one if none do."""
        if (a, b) not in self._ways:
            between = {id for id, node in nodes(self._graph) if node.kind == "motif"} | {each.id for each in self._patterns}
            try:
                path = nx.shortest_path(self._graph.subgraph({a, b} | between), a, b)
            except nx.NetworkXNoPath:
                kind = "hears" if a.startswith("event:") else "says"
                self._graph.add_edge(a, b, link=Link(kind=kind))
                self._undeclared_edges.add((a, b))
                path = [a, b]
            self._ways[a, b] = list(pairwise(path))
        return self._ways[a, b]

    def _is_own(self, topic: str) -> bool:
        """Whether it is one of the band's own topics, which nobody in the score listens to."""
        return topic.startswith("_band") and not topic.startswith(MATCH) and f"event:{topic}" not in self._graph

    def _event(self, topic: str, near: str | None) -> str:
        """The node of a topic: for matches, the motif that was heard."""
        motif = f"motif:@{topic.removeprefix(MATCH)}" if topic.startswith(MATCH) else f"motif:{topic}"
        if motif in self._graph:
            return motif
        id = f"event:{topic}"
        if id not in self._graph:
            group = self._group(near)
            about = "Was said, and is not declared."
            self._graph.add_node(id, node=Node(id=id, kind="event", name=topic, group=group, about=about))
            for pattern in self._patterns:
                if matches(pattern.name, topic):
                    a, b = (pattern.id, id) if self._graph.in_degree(pattern.id) and pattern.is_unheard else (id, pattern.id)
                    self._graph.add_edge(a, b, link=Link(kind="fits", is_drawn=False))
            self._undeclared.add(id)
        return id

    def _player(self, name: str) -> str:
        id = f"player:{name}"
        if id not in self._graph:
            self._graph.add_node(id, node=Node(id=id, kind="player", name=name, about="Has played, and is not in the score."))
            self._undeclared.add(id)
        return id

    def _group(self, near: str | None) -> str:
        found = [self._graph.nodes[id]["node"].group for id in (f"player:{near}", f"source:{near}") if id in self._graph]
        return found[0] if found else ""

    def _badges(self, said: Mapping[tuple[str | None, str], int]) -> dict[str, str]:
        badges = {
            self._event(topic, None): f"{count:,}" for topic, count in self._past.topics.items() if not self._is_own(topic)
        }
        for name, each in self._past.sections.items():
            told = [f"{each.heard:,} heard"]
            told += [f"{each.failed:,} failed"] if each.failed else []
            told += [f"lag {each.lag:,}"] if each.lag else []
            badges[f"player:{name}"] = " · ".join(told)
        spoken: Counter[str] = Counter()
        for (speaker, _), count in said.items():
            if speaker is not None and f"source:{speaker}" in self._graph:
                spoken[speaker] += count
        return badges | {f"source:{name}": f"{count:,} said" for name, count in spoken.items()}

    def _seen(self) -> frozenset[str]:
        seen = {id for edge in self._count for id in edge}
        seen |= {self._event(topic, None) for topic in self._past.topics if not self._is_own(topic)}
        seen |= {f"player:{name}" for name, each in self._past.sections.items() if each.heard or each.failed}
        seen |= {f"{kind}:{id.partition(':')[2]}" for id in seen if id.startswith("player:") for kind in ("table", "dead")}
        return frozenset(seen)
