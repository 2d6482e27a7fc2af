"""A picture: shapes and texts at places, before anybody writes them as SVG, PNG or PDF.

Owns what a picture is made of, and nothing of what it shows. Units are those of SVG at 96 to the inch; y grows downwards.
Colours are roles of the palette; a writer looks them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from visualize.measure import HEIGHT, width
from visualize.palette import Role


class Point(NamedTuple):
    x: float
    y: float


class Rect(NamedTuple):
    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def centre(self) -> Point:
        return Point(self.x + self.width / 2, self.y + self.height / 2)

    def grown(self, by: float) -> Rect:
        return Rect(self.x - by, self.y - by, self.width + 2 * by, self.height + 2 * by)

    def overlaps(self, other: Rect) -> bool:
        return self.x < other.right and other.x < self.right and self.y < other.bottom and other.y < self.bottom

    def holds(self, other: Rect) -> bool:
        return self.x <= other.x and self.y <= other.y and self.right >= other.right and self.bottom >= other.bottom


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A rectangle."""

    at: Rect
    radius: float = 0.0
    fill: Role | None = None
    line: Role | None = None
    line_width: float = 1.0
    dash: tuple[float, ...] = ()


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """A closed polygon."""

    points: Sequence[Point]
    fill: Role | None = None
    line: Role | None = None
    line_width: float = 1.0
    dash: tuple[float, ...] = ()


class Stroke(msgspec.Struct, frozen=True, kw_only=True):
    """A line through points, its bends rounded; with a head where it points."""

    points: Sequence[Point]
    line: Role
    line_width: float = 1.0
    dash: tuple[float, ...] = ()
    head: float = 0.0
    """The length of its arrowhead; 0: none."""
    radius: float = 10.0


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """A line of text. `at` is the middle of its height, at its beginning, middle or end."""

    at: Point
    text: str
    size: float
    colour: Role = "ink"
    bold: bool = False
    anchor: Literal["start", "middle", "end"] = "middle"

    @property
    def room(self) -> Rect:
        """The room that it takes."""
        wide = width(self.text, self.size, bold=self.bold)
        left = self.at.x - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        return Rect(left, self.at.y - self.size * HEIGHT / 2, wide, self.size * HEIGHT)


Mark: TypeAlias = Block | Outline | Stroke | Label


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Marks that show one thing. A writer keeps them together, and tells `title` to who points at them."""

    marks: Sequence[Mark]
    kind: str = ""
    """What it is, for who styles or reads the picture: player, event, says, lane ..."""
    id: str = ""
    """Of what it shows, unique in the picture; empty for what is there for the eye alone."""
    title: str = ""
    ends: tuple[str, str] | None = None
    """Of an edge: the ids of what it leads from and to."""


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    width: float
    height: float
    parts: Sequence[Part]
    title: str = ""

    def _repr_svg_(self) -> str:
        """Called by Jupyter when it is the last value of a cell."""
        from visualize.svg import svg

        return svg(self)


def rounded(points: Sequence[Point], radius: float) -> list[tuple[Point, Point, Point]]:
    """The bends of a line: where each begins, its corner, and where it ends."""
    bends = []
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        bends.append((_towards(corner, before, radius), corner, _towards(corner, after, radius)))
    return bends


def _towards(a: Point, b: Point, far: float) -> Point:
    """The point so far from a towards b, half of the way at the most."""
    length = ((b.x - a.x) ** 2 + (b.y - a.y) ** 2) ** 0.5
    share = min(0.5, far / length) if length else 0.0
    return Point(a.x + (b.x - a.x) * share, a.y + (b.y - a.y) * share)


def arrowhead(points: Sequence[Point], length: float) -> tuple[Point, Point, Point]:
    """The tip of a line, as a triangle."""
    tip = points[-1]
    before = next((point for point in reversed(points[:-1]) if point != tip), Point(tip.x - 1, tip.y))
    dx, dy = tip.x - before.x, tip.y - before.y
    far = (dx * dx + dy * dy) ** 0.5
    dx, dy = dx / far * length, dy / far * length
    return tip, Point(tip.x - dx - dy * 0.42, tip.y - dy + dx * 0.42), Point(tip.x - dx + dy * 0.42, tip.y - dy - dx * 0.42)


def shortened(points: Sequence[Point], by: float) -> list[Point]:
    """A line without so much of its end, for an arrowhead to stand there."""
    if by <= 0 or len(points) < 2:
        return list(points)
    before, tip = points[-2], points[-1]
    length = ((tip.x - before.x) ** 2 + (tip.y - before.y) ** 2) ** 0.5
    share = min(1.0, by / length) if length else 0.0
    return [*points[:-1], Point(tip.x + (before.x - tip.x) * share, tip.y + (before.y - tip.y) * share)]
