"""The reaction graph as a picture.

Owns how big each kind of node is and how it looks: a shape and a hue by kind, tables and dead letters within their player's
box, feedback dashed. With `Played`, what was played lies over it.

Invariants, held by tests: each node is drawn once; every text lies in its node's box, and every box within the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ensemble.motif import is_pattern
from visualize.graph import Graph, Link, Node, links, nodes
from visualize.layout import Edge, Layout, layout
from visualize.measure import cut, lines, width
from visualize.palette import Role
from visualize.picture import Block, Label, Mark, Outline, Part, Picture, Point, Rect, Stroke
from visualize.played import Played

NAME, SMALL, TINY = 12.0, 10.0, 9.0
"""Sizes of text."""
LONGEST = 230.0
"""How wide a name may be before its middle is left out."""
CHIP = 17.0
"""The height of a table or of dead letters in a player's box."""
PORT = 11.0
MARGIN = 24.0
HEAD = 6.5


def reaction_picture(graph: Graph, played: Played | None = None) -> Picture:
    """The reaction graph, laid out and drawn."""
    return _Drawing(graph, played).picture()


class _Drawing:
    def __init__(self, graph: Graph, played: Played | None) -> None:
        self._graph = graph
        self._played = played
        self._nodes = dict(nodes(graph))
        self._chips = {id: _chips_of(graph, id) for id, node in self._nodes.items() if node.kind == "player"}
        self._widths: dict[Edge, float] = {(a, b): self._width_of(a, b) for a, b, link in links(graph) if _is_drawn(link)}
        self._layout = self._lay_out()

    def _lay_out(self) -> Layout:
        inner = {chip for chips in self._chips.values() for chip in chips}
        boxes = {id: node for id, node in self._nodes.items() if id not in inner}
        sizes = {id: self._size(node) for id, node in boxes.items()}
        groups = {id: node.group for id, node in boxes.items() if node.group}
        return layout(sizes, list(self._widths), groups)

    def picture(self) -> Picture:
        name, about = self._graph.graph["name"], self._graph.graph["about"]
        legend, legend_wide, legend_high = _legend(self._legend_rows())
        title = [cut(name, 900, 20, bold=True)]
        gutter = self._gutter()
        wide = max(self._layout.width + gutter, width(title[0], 20, bold=True), legend_wide, 240.0) + 2 * MARGIN
        told = lines(about, wide - 2 * MARGIN, SMALL, most=3)
        top = MARGIN + 30 + len(told) * 14 + 10
        marks: list[Mark] = [Label(at=Point(MARGIN, MARGIN + 10), text=title[0], size=20, bold=True, anchor="start")]
        for i, line in enumerate(told):
            at = Point(MARGIN, MARGIN + 36 + i * 14)
            marks.append(Label(at=at, text=line, size=SMALL, colour="muted", anchor="start"))
        shift = Point(MARGIN + gutter + (wide - 2 * MARGIN - self._layout.width - gutter) / 2, top)
        parts = [
            Part(marks=marks, kind="title"),
            *self._lanes(shift, gutter),
            *self._edges(shift),
            *(part for id in self._layout.boxes for part in self._node(id, _moved(self._layout.boxes[id], shift))),
        ]
        bottom = top + self._layout.height + 22
        parts.append(Part(marks=[_shifted(mark, Point(MARGIN, bottom)) for mark in legend], kind="legend"))
        return Picture(width=wide, height=bottom + legend_high + MARGIN * 0.75, parts=parts, title=name)

    # Nodes

    def _size(self, node: Node) -> tuple[float, float]:
        badge = self._badge(node)
        text = width(_name(node), NAME, bold=node.kind == "player")
        if node.kind == "event":
            return text + 26, 25.0 + (13.0 if badge else 0.0)
        more = max((width(_line(line), SMALL) for line in (*node.lines, badge)), default=0.0)
        ports = max(len(list(self._drawn_edges(node.id, "in"))), len(list(self._drawn_edges(node.id, "out"))))
        if node.kind == "motif":
            return max(text, more) + 24, max(26.0 + 14 * (len(node.lines) + bool(badge)), ports * PORT + 16)
        if node.kind == "source":
            return max(text, more) + 34, max(26.0 + 13 * (len(node.lines) + bool(badge)), ports * PORT + 8)
        chips = [width(self._chip_text(chip), TINY) + 38 for chip in self._chips[node.id]]
        high = 28.0 + 13 * len(node.lines) + (CHIP + 3) * len(chips) + (14.0 if badge else 0.0)
        badge_wide = width(badge, TINY) + 16 if badge else 0.0
        return max(text + 24, more + 20, badge_wide, *chips, 76.0), max(high, ports * PORT + 8)

    def _drawn_edges(self, id: str, way: str) -> Iterator[Edge]:
        yield from (edge for edge in self._widths if edge[1 if way == "in" else 0] == id)

    def _node(self, id: str, at: Rect) -> Iterator[Part]:
        node = self._nodes[id]
        draw = {"event": self._event, "player": self._player, "motif": self._motif, "source": self._source}[node.kind]
        marks = draw(node, at)
        if node.warnings:
            marks += _warning(at)
        yield Part(marks=marks, kind=node.kind, id=id, title=self._title(node))
        yield from self._chip_parts(id, at)

    def _fill(self, node: Node) -> tuple[Role, Role, tuple[float, ...]]:
        """Fill, line and dash by kind and by what was played."""
        if self._played is not None:
            if node.id in self._played.undeclared:
                return "unseen.fill", "undeclared", (5, 3)
            if node.kind in ("event", "player", "source", "motif") and node.id not in self._played.seen:
                return "unseen.fill", "unseen.line", ()
        dash = (4.0, 3.0) if node.kind == "event" and is_pattern(node.name) else ()
        return f"{node.kind}.fill", f"{node.kind}.line", dash  # type: ignore[return-value]

    def _ink(self, node: Node) -> Role:
        is_pale = self._played is not None and node.id not in self._played.seen and node.id not in self._played.undeclared
        return "muted" if is_pale else "ink"

    def _event(self, node: Node, at: Rect) -> list[Mark]:
        fill, line, dash = self._fill(node)
        marks: list[Mark] = [Block(at=at, radius=12.0, fill=fill, line=line, line_width=1.2, dash=dash)]
        if node.is_outside and not is_pattern(node.name):  # it comes from outside: a notch where it comes in
            mid = at.y + at.height / 2
            marks.append(Outline(points=[Point(at.x + 1, mid - 5), Point(at.x + 8, mid), Point(at.x + 1, mid + 5)], fill=line))
        badge = self._badge(node)
        centre = Point(at.centre.x, at.y + 12.5)
        marks.append(Label(at=centre, text=_name(node), size=NAME, colour=self._ink(node)))
        if badge:
            marks.append(Label(at=Point(at.centre.x, at.y + 26.5), text=badge, size=TINY, colour="muted"))
        return marks

    def _player(self, node: Node, at: Rect) -> list[Mark]:
        fill, line, dash = self._fill(node)
        rate = None if self._played is None else self._played.rate.get(node.id)
        if rate and node.id not in self._played.undeclared:  # type: ignore[union-attr]
            line = rate_role(rate)
        marks: list[Mark] = [Block(at=at, radius=4.0, fill=fill, line=line, line_width=2.4 if rate else 1.6, dash=dash)]
        badge = self._badge(node)
        y = at.y + (at.height - self._content(node)) / 2 + 14.0
        ink = self._ink(node)
        marks.append(Label(at=Point(at.centre.x, y), text=_name(node), size=NAME, bold=True, colour=ink))
        y += 14
        for text in node.lines:
            marks.append(Label(at=Point(at.centre.x, y), text=_line(text), size=SMALL, colour="muted"))
            y += 13
        if badge:
            marks.append(Label(at=Point(at.centre.x, y), text=badge, size=TINY, colour="muted"))
        return marks

    def _content(self, node: Node) -> float:
        return 28.0 + 13 * len(node.lines) + (CHIP + 3) * len(self._chips[node.id]) + (14.0 if self._badge(node) else 0.0)

    def _chip_parts(self, id: str, at: Rect) -> Iterator[Part]:
        """A player's table and dead letters, in its box."""
        chips = self._chips.get(id, [])
        if not chips:
            return
        bottom = at.bottom - (at.height - self._content(self._nodes[id])) / 2
        y = bottom - (CHIP + 3) * len(chips) - 1
        for chip in chips:
            node = self._nodes[chip]
            text = self._chip_text(chip)
            box = Rect(at.x + 6, y, at.width - 12, CHIP)
            fill, line, _ = self._fill(node)
            is_empty = node.kind == "dead" and not (self._played is not None and self._played.dead.get(id))
            quiet: Role = "page" if is_empty else fill
            marks: list[Mark] = [Block(at=box, radius=3.0, fill=quiet, line="lane.line" if is_empty else line, line_width=0.8)]
            marks += _cylinder(box, line) if node.kind == "table" else _cross(box, line)
            colour: Role = "muted" if is_empty else "ink"
            marks.append(Label(at=Point(box.x + 18, box.centre.y), text=text, size=TINY, colour=colour, anchor="start"))
            yield Part(marks=marks, kind=node.kind, id=chip, title=self._title(node))
            y += CHIP + 3

    def _chip_text(self, chip: str) -> str:
        node = self._nodes[chip]
        player = f"player:{chip.partition(':')[2]}"
        count = 0 if self._played is None or node.kind != "dead" else self._played.dead.get(player, 0)
        if count:
            return f"{count:,} dead letter{'' if count == 1 else 's'}"
        return cut(node.name, LONGEST, TINY)

    def _motif(self, node: Node, at: Rect) -> list[Mark]:
        fill, line, dash = self._fill(node)
        marks: list[Mark] = [Outline(points=_octagon(at, 8.0), fill=fill, line=line, line_width=1.4, dash=dash)]
        badge = self._badge(node)
        lines = [_line(text) for text in node.lines] + ([badge] if badge else [])
        top = at.y + (at.height - 24.0 - 14 * len(lines)) / 2
        marks.append(Label(at=Point(at.centre.x, top + 12.5), text=_name(node), size=NAME, colour=self._ink(node)))
        for i, text in enumerate(lines):
            marks.append(Label(at=Point(at.centre.x, top + 27 + 14 * i), text=text, size=SMALL, colour="muted"))
        return marks

    def _source(self, node: Node, at: Rect) -> list[Mark]:
        fill, line, dash = self._fill(node)
        marks: list[Mark] = [Outline(points=_ribbon(at, 10.0), fill=fill, line=line, line_width=1.4, dash=dash)]
        badge = self._badge(node)
        lines = [_line(text) for text in node.lines] + ([badge] if badge else [])
        x, top = at.x + (at.width + 10.0) / 2, at.y + (at.height - 24.0 - 13 * len(lines)) / 2
        marks.append(Label(at=Point(x, top + 12.5), text=_name(node), size=NAME, colour=self._ink(node)))
        for i, text in enumerate(lines):
            marks.append(Label(at=Point(x, top + 26.5 + 13 * i), text=text, size=SMALL, colour="muted"))
        return marks

    def _badge(self, node: Node) -> str:
        return "" if self._played is None else self._played.badges.get(node.id, "")

    def _title(self, node: Node) -> str:
        told = [f"{node.kind} {node.name}", *node.lines, node.about, *(f"warning: {each}" for each in node.warnings)]
        return "\n".join(each for each in (*told, self._badge(node)) if each)

    # Edges and lanes

    def _width_of(self, a: str, b: str) -> float:
        return 1.3 if self._played is None else self._played.width(a, b)

    def _edges(self, shift: Point) -> Iterator[Part]:
        for edge, route in self._layout.routes.items():
            a, b = edge
            link: Link = self._graph.edges[edge]["link"]
            is_back = edge in self._layout.feedback
            line: Role = "feedback" if is_back else "line"
            dash: tuple[float, ...] = (8, 4) if is_back else ()
            wide = self._widths[edge]
            title = f"{self._nodes[a].name} → {self._nodes[b].name}"
            if link.kind == "fails":
                line, dash = "dead.line", (2.5, 3)
            if self._played is not None:
                title += f"\n{self._played.told(a, b)}"
                if edge in self._played.undeclared_edges:
                    line, dash = "undeclared", (5, 3)
                elif not self._played.count.get(edge):
                    line = "unseen.line"
                else:
                    line = rate_role(self._played.edge_rate(a, b))
            points = [Point(each.x + shift.x, each.y + shift.y) for each in route]
            marks: list[Mark] = [Stroke(points=points, line=line, line_width=wide, dash=dash, head=HEAD + wide)]
            if link.is_negated:
                marks.append(_bar(points, line))
            kind = f"{link.kind} feedback" if is_back else link.kind
            yield Part(marks=marks, kind=kind, id=f"{a}>{b}", title=title, ends=edge)

    def _gutter(self) -> float:
        """Room for the names of the lanes, left of all that is in them, as the staves of a score are named."""
        names = [_lane_name(lane.group) for lane in self._layout.lanes]
        return max(width(name, SMALL, bold=True) for name in names) + 20 if names else 0.0

    def _lanes(self, shift: Point, gutter: float) -> Iterator[Part]:
        for i, lane in enumerate(self._layout.lanes):
            inner = _moved(lane.at, shift)
            at = Rect(inner.x - gutter, inner.y, inner.width + gutter, inner.height)
            marks: list[Mark] = [Block(at=at, fill="lane" if i % 2 == 0 else None, line="lane.line")]
            if lane.group:
                where, text = Point(at.x + 10, at.centre.y), _lane_name(lane.group)
                marks.append(Label(at=where, text=text, size=SMALL, bold=True, colour="muted", anchor="start"))
            yield Part(marks=marks, kind="lane", title=lane.group)

    # What the signs mean

    def _legend_rows(self) -> list[tuple[str, str]]:
        """Kind of sign and what it says, of those that are in the picture."""
        kinds = {node.kind for node in self._nodes.values()}
        shown = [(kind, word) for kind, word in _WORDS.items() if kind in kinds]
        if any(node.is_outside and node.kind == "event" and not is_pattern(node.name) for node in self._nodes.values()):
            shown.append(("outside", "comes from outside"))
        if self._layout.feedback:
            shown.append(("feedback", "feedback"))
        if any(link.kind == "fails" for _, _, link in links(self._graph)):
            shown.append(("fails", "said of a failure"))
        if any(link.is_negated for _, _, link in links(self._graph)):
            shown.append(("not", "must not come"))
        if any(node.warnings for node in self._nodes.values()):
            shown.append(("warning", "warned of"))
        if self._played is not None:
            shown += [("traffic", "width: traffic"), ("rates", "failures: none to most"), ("unseen", "never seen")]
            if self._played.undeclared or self._played.undeclared_edges:
                shown.append(("undeclared", "not declared"))
        return shown


_WORDS = {
    "source": "source", "event": "event", "motif": "motif", "player": "player", "table": "table", "dead": "dead letters",
}  # fmt: skip


def rate_role(rate: float) -> Role:
    """The colour of a failure rate: none, up to 1 %, 10 %, 50 %, more."""
    steps = (0.0, 0.01, 0.1, 0.5)
    return f"rate.{sum(rate > step for step in steps)}"  # type: ignore[return-value]


def _is_drawn(link: Link) -> bool:
    return link.is_drawn and link.kind not in ("keeps", "dies")


def _chips_of(graph: Graph, id: str) -> list[str]:
    return [to for _, to in graph.out_edges(id) if graph.edges[id, to]["link"].kind in ("keeps", "dies")]


def _name(node: Node) -> str:
    return cut(node.name, LONGEST, NAME, bold=node.kind == "player")


def _line(text: str) -> str:
    return cut(text, LONGEST, SMALL)


def _lane_name(group: str) -> str:
    return cut(group, 160, SMALL, bold=True)


def _moved(rect: Rect, by: Point) -> Rect:
    return Rect(rect.x + by.x, rect.y + by.y, rect.width, rect.height)


def _octagon(at: Rect, cut: float) -> list[Point]:
    """A motif's shape: a box without corners."""
    x, y, right, bottom = at.x, at.y, at.right, at.bottom
    return [
        Point(x + cut, y), Point(right - cut, y), Point(right, y + cut), Point(right, bottom - cut), Point(right - cut, bottom),
        Point(x + cut, bottom), Point(x, bottom - cut), Point(x, y + cut),
    ]  # fmt: skip


def _ribbon(at: Rect, cut: float) -> list[Point]:
    """A source's shape: nothing comes into it, so it is cut in there."""
    middle = Point(at.x + cut, at.y + at.height / 2)
    return [Point(at.x, at.y), Point(at.right, at.y), Point(at.right, at.bottom), Point(at.x, at.bottom), middle]


def _warning(at: Rect) -> list[Mark]:
    x, y = at.right - 4, at.y - 5
    points = [Point(x, y), Point(x + 7, y + 12), Point(x - 7, y + 12)]
    return [
        Outline(points=points, fill="warning", line="page"),
        Label(at=Point(x, y + 7.6), text="!", size=TINY, bold=True, colour="page"),
    ]


def _cylinder(box: Rect, line: Role) -> list[Mark]:
    x, y = box.x + 6, box.y + 4
    return [
        Block(at=Rect(x, y + 1, 8, 8), radius=2.0, line=line, line_width=0.9),
        Stroke(points=[Point(x, y + 3.6), Point(x + 8, y + 3.6)], line=line, line_width=0.9),
    ]


def _cross(box: Rect, line: Role) -> list[Mark]:
    x, y = box.x + 6.5, box.y + 5
    return [
        Stroke(points=[Point(x, y), Point(x + 7, y + 7)], line=line, line_width=1.2),
        Stroke(points=[Point(x + 7, y), Point(x, y + 7)], line=line, line_width=1.2),
    ]


def _bar(points: Sequence[Point], line: Role) -> Mark:
    """A bar across the end of a line: what must not come."""
    tip, before = points[-1], points[-2]
    dx, dy = tip.x - before.x, tip.y - before.y
    far = (dx * dx + dy * dy) ** 0.5 or 1.0
    dx, dy = dx / far, dy / far
    x, y = tip.x - dx * (HEAD + 5), tip.y - dy * (HEAD + 5)
    return Stroke(points=[Point(x - dy * 5, y + dx * 5), Point(x + dy * 5, y - dx * 5)], line=line, line_width=2.0)


def _legend(rows: Sequence[tuple[str, str]]) -> tuple[list[Mark], float, float]:
    """The signs and their words in rows of one width, from (0, 0) on; how wide and high they are."""
    marks: list[Mark] = []
    x = y = widest = 0.0
    for kind, word in rows:
        wide = 34 + width(word, SMALL) + 18
        if x and x + wide > 760:
            x, y = 0.0, y + 20
        marks += _sign(kind, Rect(x, y + 2, 26, 13))
        marks.append(Label(at=Point(x + 33, y + 8.5), text=word, size=SMALL, colour="muted", anchor="start"))
        x += wide
        widest = max(widest, x)
    return marks, widest, y + 20


def _sign(kind: str, at: Rect) -> list[Mark]:
    mid = at.y + at.height / 2
    across = [Point(at.x, mid), Point(at.right, mid)]
    signs: Mapping[str, list[Mark]] = {
        "event": [Block(at=at, radius=6.5, fill="event.fill", line="event.line")],
        "player": [Block(at=at, radius=3, fill="player.fill", line="player.line", line_width=1.6)],
        "motif": [Outline(points=_octagon(at, 5), fill="motif.fill", line="motif.line")],
        "source": [Outline(points=_ribbon(at, 6), fill="source.fill", line="source.line")],
        "table": [Block(at=at, radius=3, fill="table.fill", line="table.line"),
                  *_cylinder(Rect(at.x + 3, at.y - 2, 20, 17), "table.line")],
        "dead": [Block(at=at, radius=3, fill="page", line="lane.line"), *_cross(Rect(at.x + 3, at.y - 2, 20, 17), "dead.line")],
        "outside": [Outline(
            points=[Point(at.x + 10, mid - 5), Point(at.x + 17, mid), Point(at.x + 10, mid + 5)], fill="event.line",
        )],
        "feedback": [Stroke(points=across, line="feedback", line_width=1.3, dash=(8, 4), head=HEAD)],
        "fails": [Stroke(points=across, line="dead.line", line_width=1.3, dash=(2.5, 3), head=HEAD)],
        "not": [Stroke(points=across, line="line", line_width=1.3, head=HEAD), _bar(across, "line")],
        "warning": _warning(Rect(at.x, at.y + 5, 17, 0)),
        "traffic": [Outline(points=[Point(at.x, mid), Point(at.right, mid - 4), Point(at.right, mid + 4)], fill="rate.0")],
        "rates": [
            Block(at=Rect(at.x + i * 5.2, at.y + 2, 5.2, 9), fill=f"rate.{i}") for i in range(5)  # type: ignore[arg-type]
        ],
        "unseen": [Block(at=at, radius=6.5, fill="unseen.fill", line="unseen.line")],
        "undeclared": [Block(at=at, radius=6.5, fill="unseen.fill", line="undeclared", dash=(5, 3))],
    }  # fmt: skip
    return signs[kind]


def _shifted(mark: Mark, by: Point) -> Mark:
    if isinstance(mark, Block):
        return msgspec.structs.replace(mark, at=_moved(mark.at, by))
    if isinstance(mark, Label):
        return msgspec.structs.replace(mark, at=Point(mark.at.x + by.x, mark.at.y + by.y))
    return msgspec.structs.replace(mark, points=[Point(each.x + by.x, each.y + by.y) for each in mark.points])
