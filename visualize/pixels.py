"""A picture as PNG or PDF.

Owns the one place that knows matplotlib. It draws into memory: no display is needed, and what the user set up stays as it is.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from typing import Any, Literal

from visualize.measure import FONT, width
from visualize.palette import LIGHT, Theme
from visualize.picture import Block, Label, Mark, Outline, Picture, Point, Stroke, arrowhead, rounded, shortened

DPI = 96
"""Of a picture's units."""
SHARP = 2.0
"""Pixels of a PNG to a unit of the picture."""
MOST_PIXELS = 120_000_000
"""A picture beyond is drawn with fewer pixels to the unit: 150 nodes in one row would not fit into memory."""


def pixels(picture: Picture, theme: Theme = LIGHT, *, form: Literal["png", "pdf"] = "png") -> bytes:
    """The picture as a file's bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    figure = Figure(figsize=(picture.width / DPI, picture.height / DPI), facecolor=theme["page"])
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, picture.width)
    axes.set_ylim(picture.height, 0)
    axes.axis("off")
    order = 0
    for part in picture.parts:
        for mark in part.marks:
            order += 1
            for artist in _artists(mark, theme):
                artist.set_zorder(order)
                axes.add_artist(artist)
    sharp = min(SHARP, (MOST_PIXELS / (picture.width * picture.height)) ** 0.5)
    out = io.BytesIO()
    with warnings.catch_warnings():
        # What DejaVu Sans has no letters for is shown as boxes, as by every viewer without the font. SVG keeps the text itself.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        meta: dict[str, Any] = {"Title": picture.title} if form == "pdf" else {}
        figure.savefig(out, format=form, dpi=DPI * sharp, facecolor=theme["page"], metadata=meta | _undated(form))
    return out.getvalue()


def _undated(form: str) -> dict[str, Any]:
    """The same picture is the same file, whenever it is drawn."""
    return {"CreationDate": None, "ModDate": None} if form == "pdf" else {"Software": None}


def _artists(mark: Mark, theme: Theme) -> Sequence[Any]:
    if isinstance(mark, Block):
        return [_block(mark, theme)]
    if isinstance(mark, Outline):
        return [_polygon(mark.points, theme, mark)]
    if isinstance(mark, Label):
        return _label(mark, theme)
    return _stroke(mark, theme)


def _paint(mark: Block | Outline, theme: Theme) -> dict[str, Any]:
    return {
        "facecolor": "none" if mark.fill is None else theme[mark.fill],
        "edgecolor": "none" if mark.line is None else theme[mark.line],
        "linewidth": 0 if mark.line is None else _points(mark.line_width),
        "linestyle": _dashes(mark.dash, mark.line_width),
    }


def _points(units: float) -> float:
    return units * 72 / DPI


def _dashes(dash: Sequence[float], wide: float) -> Any:
    # matplotlib measures dashes in line widths.
    return (0, [each / max(wide, 0.1) for each in dash]) if dash else "solid"


def _block(mark: Block, theme: Theme) -> Any:
    from matplotlib.patches import FancyBboxPatch, Rectangle

    at = mark.at
    radius = min(mark.radius, at.width / 2, at.height / 2)
    if radius <= 0:
        return Rectangle((at.x, at.y), at.width, at.height, **_paint(mark, theme))
    style = f"round,pad=0,rounding_size={radius}"
    return FancyBboxPatch((at.x, at.y), at.width, at.height, boxstyle=style, mutation_aspect=1, **_paint(mark, theme))


def _polygon(points: Sequence[Point], theme: Theme, mark: Outline) -> Any:
    from matplotlib.patches import Polygon

    return Polygon([tuple(point) for point in points], closed=True, joinstyle="round", **_paint(mark, theme))


def _label(mark: Label, theme: Theme) -> Sequence[Any]:
    from matplotlib.patches import PathPatch
    from matplotlib.text import Text
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    if not mark.text.strip():
        return []
    place = (mark.at.x, mark.at.y + mark.size * 0.36)
    if mark.text.isascii():
        # As a path it is exactly as wide as it was measured, whatever the resolution rounds letters to.
        path = TextPath((0, 0), mark.text, size=mark.size, prop=_font(mark), usetex=False)
        left = place[0] - {"start": 0.0, "middle": 0.5, "end": 1.0}[mark.anchor] * mark.room.width
        moved = path.transformed(Affine2D().scale(1, -1).translate(left, place[1]))
        return [PathPatch(moved, facecolor=theme[mark.colour], linewidth=0)]
    anchor = {"start": "left", "middle": "center", "end": "right"}[mark.anchor]
    size = mark.size * 72 / DPI
    written = mark.text.replace("$", r"\$")
    text = Text(*place, written, color=theme[mark.colour], fontproperties=_font(mark), ha=anchor, va="baseline")
    text.set_fontsize(size)
    return [text]


def _font(mark: Label) -> Any:
    from matplotlib.font_manager import FontProperties

    return FontProperties(family=FONT, weight="bold" if mark.bold else "normal", size=mark.size)


def _stroke(mark: Stroke, theme: Theme) -> Sequence[Any]:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    points = shortened(mark.points, mark.head * 0.8)
    steps, codes = [points[0]], [Path.MOVETO]
    for begin, corner, end in rounded(points, mark.radius):
        steps += [begin, corner, end]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    path = Path([*map(tuple, steps), tuple(points[-1])], [*codes, Path.LINETO])
    hue = theme[mark.line]
    line = PathPatch(
        path, facecolor="none", edgecolor=hue, linewidth=_points(mark.line_width),
        linestyle=_dashes(mark.dash, mark.line_width), capstyle="butt", joinstyle="round",
    )  # fmt: skip
    if not mark.head:
        return [line]
    return [line, Polygon([tuple(point) for point in arrowhead(mark.points, mark.head)], facecolor=hue, linewidth=0)]


def measured(text: str, size: float, *, bold: bool = False) -> float:
    """How wide matplotlib draws a line of text: what `measure.width` is held to."""
    from matplotlib.textpath import TextPath

    label = Label(at=Point(0, 0), text=text, size=size, bold=bold)
    extents = TextPath((0, 0), text, size=size, prop=_font(label)).get_extents()
    return float(extents.width) if text.strip() else width(text, size, bold=bold)
