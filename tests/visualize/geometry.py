"""What any picture must hold to, by its shapes: what is drawn over what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from visualize.picture import Block, Label, Outline, Picture, Point, Rect, Stroke

BOXES = {"event", "player", "motif", "source"}


def box_of(marks: Sequence[object]) -> Rect:
    """The box of a node: its first shape."""
    shape = marks[0]
    if isinstance(shape, Block):
        return shape.at
    assert isinstance(shape, Outline)
    xs, ys = [at.x for at in shape.points], [at.y for at in shape.points]
    return Rect(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def labels(picture: Picture) -> list[Label]:
    return [mark for part in picture.parts for mark in part.marks if isinstance(mark, Label)]


def faults(picture: Picture) -> list[str]:
    """What is wrong: boxes or texts over one another, texts out of their box, lines through either, any beyond the page."""
    found = []
    page = Rect(0, 0, picture.width, picture.height)
    boxes = {part.id: box_of(part.marks) for part in picture.parts if part.kind in BOXES}
    for part in picture.parts:
        for mark in part.marks:
            if isinstance(mark, Label) and not page.holds(mark.room):
                found.append(f"{mark.text!r} leaves the page")
            if isinstance(mark, Label) and part.kind in BOXES and mark.text != "!" and not boxes[part.id].holds(mark.room):
                found.append(f"{mark.text!r} leaves the box of {part.id}")
            if isinstance(mark, Label) and part.kind in ("table", "dead") and not box_of(part.marks).holds(mark.room):
                found.append(f"{mark.text!r} leaves the box of {part.id}")
            if isinstance(mark, Stroke) and not all(page.holds(Rect(*at, 0, 0)) for at in mark.points):
                found.append(f"{part.id} leaves the page")
    found += [f"{a} lies over {b}" for a, b in _overlapping(boxes.items())]
    texts = [(f"{mark.text!r}", mark.room) for mark in labels(picture)]
    found += [f"{a} is written over {b}" for a, b in _overlapping(texts)]
    shrunk = [(id, box.grown(-1.5)) for id, box in boxes.items()]
    free = [(f"{m.text!r}", m.room) for part in picture.parts if part.kind not in (*BOXES, "table", "dead") for m in part.marks
            if isinstance(m, Label)]  # fmt: skip
    for part in picture.parts:
        if part.ends is None:
            continue
        stroke = part.marks[0]
        assert isinstance(stroke, Stroke)
        for name, box in [*shrunk, *free]:
            if any(_meets(a, b, box) for a, b in pairwise(stroke.points)):
                found.append(f"{part.id} goes through {name}")
    return found


def _overlapping(named: Iterable[tuple[str, Rect]]) -> list[tuple[str, str]]:
    """Pairs that overlap, found along one axis."""
    found = []
    before: list[tuple[str, Rect]] = []
    for name, at in sorted(named, key=lambda each: each[1].x):
        before = [each for each in before if each[1].right > at.x]
        found += [(other, name) for other, box in before if box.overlaps(at)]
        before.append((name, at))
    return found


def _meets(a: Point, b: Point, box: Rect) -> bool:
    """Whether the way from a to b leads through a box (Liang and Barsky, 1984)."""
    begin, end = 0.0, 1.0
    for at, far, low, high in ((a.x, b.x - a.x, box.x, box.right), (a.y, b.y - a.y, box.y, box.bottom)):
        if far == 0:
            if not low < at < high:
                return False
            continue
        one, two = sorted(((low - at) / far, (high - at) / far))
        begin, end = max(begin, one), min(end, two)
    return begin < end
