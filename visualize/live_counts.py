"""What a live picture of a band is made of: the graph to draw once, and what is told of it at each look.

Owns which numbers stand at which node. Must not know when it is looked, nor what shows them.

    picture   the reaction graph as SVG, each node with room for what is told; drawn anew only when the score changes
    told      small: a line for the whole band, and by node a number that moves and the text that tells it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ensemble.motif import is_pattern, matches
from ensemble.score import Score
from ensemble.status import SectionStatus, Status
from visualize.graph import Graph, nodes, reaction_graph
from visualize.page import variable
from visualize.picture import Block, Label, Mark, Part, Picture
from visualize.played import MATCH, Played
from visualize.reaction import MARGIN, reaction_picture
from visualize.svg import FONTS, elements

ROOM: Mapping[str, str] = {
    "event": "8,888,888",
    "player": "888,888 heard · lag 88,888 · 8 at once",
    "motif": "888,888 matches",
    "source": "8,888,888 said",
}
"""By kind of node, a text that keeps the place of what is told."""


def live_graph(score: Score) -> Graph:
    return reaction_graph(score, players=score.callables, imports=True)


def live_svg(graph: Graph) -> str:
    """The graph with empty places for what is told, in colours that a page's variables give."""
    known = dict(nodes(graph))
    places = rooms(graph)
    picture = reaction_picture(graph, Played(badges=places, seen=frozenset(known)))
    parts = [_untold(part, places) for part in picture.parts if part.kind != "legend"]
    height = max(_bottom(mark) for part in parts for mark in part.marks) + MARGIN
    return _svg(msgspec.structs.replace(picture, parts=parts, height=height))


def _bottom(mark: Mark) -> float:
    if isinstance(mark, Block):
        return mark.at.bottom
    return mark.room.bottom if isinstance(mark, Label) else max(point.y for point in mark.points)


def rooms(graph: Graph) -> dict[str, str]:
    """By node the text that keeps the place of what is told of it. A condition on one event has none: nobody counts it."""
    told = [(id, node) for id, node in nodes(graph) if node.kind in ROOM and "event" not in node.facts.get("motif", ())]
    return {id: ROOM[node.kind] for id, node in told}


def _untold(part: Part, places: Mapping[str, str]) -> Part:
    """Without what its tooltip says of a moment."""
    last = "never seen" if part.ends else places.get(part.id, "")
    return msgspec.structs.replace(part, title=part.title.removesuffix(f"\n{last}"))


def _svg(picture: Picture) -> str:
    size = f"{picture.width:.0f} {picture.height:.0f}"
    body = "\n".join(elements(picture, variable))
    style = f'style="max-width:{picture.width:.0f}px" font-family="{FONTS}" role="img"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" {style}>{body}</svg>'


def told(graph: Graph, status: Status) -> dict[str, Any]:
    """What is told of each node: `counts`, numbers that only grow, and `texts`."""
    counts: dict[str, int] = {}
    texts: dict[str, str] = {}
    for id, node in nodes(graph):
        what = id.partition(":")[2]
        if node.kind == "event":
            counts[id] = _said(status, node.name)
            texts[id] = f"{counts[id]:,}"
        elif node.kind == "motif":
            topic = MATCH + what.removeprefix("@") if what.startswith("@") else what
            if topic in status.topics:
                counts[id] = status.topics[topic]
                texts[id] = f"{counts[id]:,} match{'' if counts[id] == 1 else 'es'}"
        elif node.kind == "source" and what in status.sources:
            counts[id] = status.sources[what].said
            texts[id] = f"{counts[id]:,} said"
        elif node.kind == "player" and what in status.sections:
            section = status.sections[what]
            counts[id] = section.heard + section.failed
            texts[id] = _heard(section)
        elif node.kind == "dead" and what in status.sections:
            counts[id] = status.sections[what].dead
            texts[id] = _letters(counts[id]) if counts[id] else node.name
    return {"counts": counts, "texts": texts, "also": _also(graph, status)}


def _said(status: Status, topic: str) -> int:
    if is_pattern(topic):
        return sum(count for each, count in status.topics.items() if matches(topic, each))
    return status.topics.get(topic, 0)


def _heard(section: SectionStatus) -> str:
    told = [f"{section.heard:,} heard"]
    told += [f"lag {section.lag:,}"] if section.lag else []
    told += [f"{section.failed:,} failed"] if section.failed else []
    told += [f"{section.instances} at once"] if section.instances > 1 else []
    return " · ".join(told)


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"


def _also(graph: Graph, status: Status) -> str:
    """Topics that were said and that the score does not know."""
    known = [node.name for _, node in nodes(graph) if node.kind in ("event", "motif")]
    rest = [
        f"{topic} {count:,}"
        for topic, count in sorted(status.topics.items())
        if not topic.startswith("_") and not any(matches(pattern, topic) for pattern in known if _is_topic(pattern))
    ]
    return f"also said: {', '.join(rest[:8])}{', …' if len(rest) > 8 else ''}" if rest else ""


def _is_topic(name: str) -> bool:
    return " " not in name


def line(status: Status, per_s: float) -> str:
    """The whole band in a line."""
    lag = sum(each.lag for each in status.sections.values())
    dead = sum(each.dead for each in status.sections.values())
    told = [f"{status.events:,} event{'' if status.events == 1 else 's'}", f"{per_s:,.0f} heard/s"]
    told += [f"lag {lag:,}"] if lag else []
    told += [_letters(dead)] if dead else []
    return " · ".join(told)


def plain(status: Status) -> str:
    """How a band stands as lines of text, for where there is nothing that could draw."""
    heads = ("player", "heard", "lag", "dead", "instances")
    rows: list[Sequence[str]] = [heads]
    for name, each in status.sections.items():
        rows.append((name, f"{each.heard:,}", f"{each.lag:,}", f"{each.dead:,}", f"{each.instances:,}"))
    widths = [max(len(row[ix]) for row in rows) for ix in range(len(heads))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(wide) for cell, wide in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([f"{status.name}: {status.events:,} events in {status.url}", *lines])
