"""Where everything is: layers from left to right, lanes by group, lines that bend around boxes.

Owns the one place that knows the layout engine (graphlay; docs/decisions/0010). What comes out is plain data of ours.

Invariants, held by tests over many random graphs: no two boxes overlap; no line touches a box that it does not lead from or to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from visualize.picture import Point, Rect

Edge = tuple[str, str]


class Lane(msgspec.Struct, frozen=True):
    group: str
    at: Rect


class Layout(msgspec.Struct, frozen=True):
    width: float
    height: float
    boxes: Mapping[str, Rect]
    routes: Mapping[Edge, Sequence[Point]]
    """From the border of one box to that of the other."""
    feedback: frozenset[Edge]
    """Edges that lead back: without them there would be no circle."""
    lanes: Sequence[Lane] = ()


SPACING: Mapping[str, float] = {"node_gap": 20.0, "dummy_gap": 16.0, "port_gap": 11.0, "isolated_gap": 24.0}
STAVES: Mapping[str, Any] = {"group_lanes": "strict", "group_lane_budget_percent": 300, "group_lane_area_percent": 300}
TRIES = (
    ("diagonal", 56.0),
    ("diagonal", 76.0),
    ("orthogonal", 56.0),
    ("diagonal", 100.0),
    ("orthogonal", 80.0),
    ("diagonal", 140.0),
)
"""How lines run, and how far layers stand apart. In dense graphs a line may cut the corner of a box: the first layout counts
in which none does. Straight lines come first, since they are easier to follow.
"""


def layout(sizes: Mapping[str, tuple[float, float]], edges: Sequence[Edge], groups: Mapping[str, str] | None = None) -> Layout:
    """A layered layout.

    Shapes: `sizes` are width and height by id; `groups` are by id, those without one stand in a lane without a name.
    The same input gives the same layout, in every process.
    """
    import graphlay

    known = list(dict.fromkeys(group for group in (groups or {}).values() if group))
    graph = graphlay.Graph()
    for id, (width, height) in sizes.items():
        more: dict[str, Any] = {"group": known.index(group)} if len(known) > 1 and groups and (group := groups.get(id)) else {}
        graph.node(id, width=width, height=height, **more)
    for a, b in edges:
        graph.edge(a, b)
    order = {"order": STAVES} if len(known) > 1 else {}
    made = []
    for style, gap in TRIES:
        options = {"spacing": {**SPACING, "layer_gap": gap}, "routing": {"style": style}, **order}
        made.append(_read(graphlay.layout(graph, options=options).to_dict(), list(sizes), edges, known))
        if not _cuts(made[-1]):
            break
    return min(made, key=_cuts)


def _read(raw: Mapping[str, Any], ids: Sequence[str], edges: Sequence[Edge], groups: Sequence[str]) -> Layout:
    """What the engine answers, as ours: all of it from (0, 0) on."""
    left, top, right, bottom = _bounds(raw)

    def point(at: Mapping[str, float]) -> Point:
        return Point(at["x"] - left, at["y"] - top)

    boxes = {}
    for id, node in zip(ids, raw["nodes"], strict=True):
        centre, size = point(node["center"]), node["size"]
        boxes[id] = Rect(centre.x - size["width"] / 2, centre.y - size["height"] / 2, size["width"], size["height"])
    lanes = []
    for lane in raw.get("lanes", ()):
        a, b = point(lane["rect"]["min"]), point(lane["rect"]["max"])
        lanes.append(Lane("" if lane["group"] is None else groups[lane["group"]], Rect(a.x, a.y, b.x - a.x, b.y - a.y)))
    back = set(raw["reversed"])
    return Layout(
        right - left,
        bottom - top,
        boxes,
        {edge: [point(each) for each in drawn["points"]] for edge, drawn in zip(edges, raw["edges"], strict=True)},
        frozenset(edge for i, edge in enumerate(edges) if i in back),
        lanes,
    )


def _bounds(raw: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Of all boxes, lines and lanes."""
    corners = [raw["bounds"]["min"], raw["bounds"]["max"]]
    corners += [at for edge in raw["edges"] for at in edge["points"]]
    corners += [at for lane in raw.get("lanes", ()) for at in (lane["rect"]["min"], lane["rect"]["max"])]
    xs, ys = [at["x"] for at in corners], [at["y"] for at in corners]
    return min(xs), min(ys), max(xs), max(ys)


def _cuts(made: Layout) -> int:
    """How often a line leads through a box."""
    boxes = [box.grown(-1) for box in made.boxes.values()]
    return sum(_leads_through(a, b, box) for route in made.routes.values() for a, b in pairwise(route) for box in boxes)


def _leads_through(a: Point, b: Point, box: Rect) -> bool:
    """Whether the way from a to b has a part in common with the inside of a box."""
    if max(a.x, b.x) <= box.x or min(a.x, b.x) >= box.right or max(a.y, b.y) <= box.y or min(a.y, b.y) >= box.bottom:
        return False
    dx, dy = b.x - a.x, b.y - a.y
    corners = [Point(box.x, box.y), Point(box.right, box.y), Point(box.right, box.bottom), Point(box.x, box.bottom)]
    sides = [dx * (corner.y - a.y) - dy * (corner.x - a.x) for corner in corners]
    return min(sides) < 0 < max(sides)
