"""A picture as SVG: one element a part, with its kind as class, its id as `data-id` and its title as tooltip.

Owns SVG. Texts are squeezed into the room that they were measured for (`textLength`), so that they fit whatever font there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape, quoteattr

from visualize.measure import FONT, width
from visualize.palette import LIGHT, Role, Theme
from visualize.picture import Block, Label, Mark, Outline, Part, Picture, Point, Stroke, arrowhead, rounded, shortened

Colour = Callable[[Role], str]
FONTS = f"'{FONT}', Verdana, sans-serif"


def svg(picture: Picture, theme: Theme = LIGHT) -> str:
    """The picture as a whole SVG document."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(picture.width)} {_n(picture.height)}" '
        f'width="{_n(picture.width)}" height="{_n(picture.height)}" font-family={quoteattr(FONTS)} role="img">'
    )
    ground = f'<rect width="100%" height="100%" fill="{theme["page"]}"/>'
    title = f"<title>{_text(picture.title)}</title>"
    return "\n".join([head, title, ground, *elements(picture, theme.__getitem__), "</svg>", ""])


def elements(picture: Picture, colour: Colour) -> Sequence[str]:
    """Its parts as SVG elements, without the document around them."""
    return [_part(part, colour) for part in picture.parts]


def _part(part: Part, colour: Colour) -> str:
    given = {"class": part.kind, "data-id": part.id}
    if part.ends is not None:
        given.update({"data-from": part.ends[0], "data-to": part.ends[1]})
    attributes = "".join(f" {name}={quoteattr(_plain(value))}" for name, value in given.items() if value)
    title = f"<title>{_text(part.title)}</title>" if part.title else ""
    return f"<g{attributes}>{title}{''.join(_mark(mark, colour) for mark in part.marks)}</g>"


def _mark(mark: Mark, colour: Colour) -> str:
    if isinstance(mark, Block):
        at = mark.at
        place = f'x="{_n(at.x)}" y="{_n(at.y)}" width="{_n(at.width)}" height="{_n(at.height)}"'
        corner = f' rx="{_n(mark.radius)}"' if mark.radius else ""
        return f"<rect {place}{corner}{_paint(mark, colour)}/>"
    if isinstance(mark, Outline):
        return f'<polygon points="{_points(mark.points)}"{_paint(mark, colour)}/>'
    if isinstance(mark, Label):
        return _label(mark, colour)
    return _stroke(mark, colour)


def _label(mark: Label, colour: Colour) -> str:
    # The middle of the letters stands at 0.36 of the size above the line on which they stand.
    place = f'x="{_n(mark.at.x)}" y="{_n(mark.at.y + mark.size * 0.36)}" font-size="{_n(mark.size)}"'
    room = width(mark.text, mark.size, bold=mark.bold)
    fitted = f' textLength="{_n(room)}" lengthAdjust="spacingAndGlyphs"' if room else ""
    anchor = "" if mark.anchor == "start" else f' text-anchor="{mark.anchor}"'
    bold = ' font-weight="bold"' if mark.bold else ""
    return f'<text {place}{fitted}{anchor}{bold} fill="{colour(mark.colour)}">{_text(mark.text)}</text>'


def _stroke(mark: Stroke, colour: Colour) -> str:
    points = shortened(mark.points, mark.head * 0.8)
    dash = f' stroke-dasharray="{" ".join(map(_n, mark.dash))}"' if mark.dash else ""
    hue = colour(mark.line)
    line = f'<path d="{_path(points, mark.radius)}" fill="none" stroke="{hue}" stroke-width="{_n(mark.line_width)}"{dash}/>'
    head = f'<polygon points="{_points(arrowhead(mark.points, mark.head))}" fill="{hue}"/>' if mark.head else ""
    return line + head


def _path(points: Sequence[Point], radius: float) -> str:
    steps = [f"M{_at(points[0])}"]
    for begin, corner, end in rounded(points, radius):
        steps.append(f"L{_at(begin)}Q{_at(corner)} {_at(end)}")
    return "".join([*steps, f"L{_at(points[-1])}"])


def _paint(mark: Block | Outline, colour: Colour) -> str:
    fill = "none" if mark.fill is None else colour(mark.fill)
    if mark.line is None:
        return f' fill="{fill}"'
    dash = f' stroke-dasharray="{" ".join(map(_n, mark.dash))}"' if mark.dash else ""
    return f' fill="{fill}" stroke="{colour(mark.line)}" stroke-width="{_n(mark.line_width)}"{dash}'


def _points(points: Sequence[Point]) -> str:
    return " ".join(_at(point) for point in points)


def _at(point: Point) -> str:
    return f"{_n(point.x)},{_n(point.y)}"


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _text(text: str) -> str:
    return escape(_plain(text))


_UNWRITABLE = re.compile("[^\t\n\\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 can't hold."""


def _plain(text: str) -> str:
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
