"""How much room a text takes, in DejaVu Sans, the font that matplotlib ships and all pictures are set in.

Owns the widths of its characters, so that a picture can be laid out where there is no matplotlib. What a picture's writer draws
with another font is squeezed into the same room (SVG's `textLength`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

FONT = "DejaVu Sans"
HEIGHT = 1.2
"""Of a line, in sizes."""

_REGULAR = (
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636, 636,
    636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863,
    748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635,
    615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636,
    337, 636, 838,
)  # fmt: skip
_BOLD = (
    348, 456, 521, 838, 696, 1002, 872, 306, 457, 457, 523, 838, 380, 415, 380, 365, 696, 696, 696, 696, 696, 696, 696,
    696, 696, 696, 400, 400, 838, 838, 838, 580, 1000, 774, 762, 734, 830, 683, 683, 821, 837, 372, 372, 775, 637, 995,
    837, 850, 733, 850, 770, 720, 682, 812, 774, 1103, 771, 724, 725, 457, 365, 457, 838, 500, 500, 675, 716, 593, 716,
    678, 435, 716, 712, 343, 343, 665, 343, 1042, 712, 687, 716, 716, 493, 595, 478, 712, 652, 924, 645, 652, 582, 712,
    365, 712, 838,
)  # fmt: skip
"""Thousandths of the size, of the characters 32 to 126."""

_OTHER = 700
_WIDE = 1000


def width(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a line of text is."""
    widths = _BOLD if bold else _REGULAR
    return sum(widths[ord(each) - 32] if " " <= each <= "~" else _unlisted(each) for each in text) * size / 1000


def _unlisted(each: str) -> int:
    if unicodedata.combining(each) or unicodedata.category(each) in ("Cf", "Mn"):
        return 0
    return _WIDE if unicodedata.east_asian_width(each) in ("W", "F") else _OTHER


def cut(text: str, room: float, size: float, *, bold: bool = False) -> str:
    """The text, or as much of its beginning and end as there is room for, with … between them."""
    text = "".join(each if each.isprintable() else " " for each in text)
    if width(text, size, bold=bold) <= room:
        return text
    for kept in range(len(text) - 1, 0, -1):
        shorter = f"{text[: kept - kept // 3]}…{text[len(text) - kept // 3 :]}"
        if width(shorter, size, bold=bold) <= room:
            return shorter
    return "…"


def lines(text: str, room: float, size: float, *, most: int) -> Sequence[str]:
    """The text broken at its spaces into lines of a width; the last of so many ends with … where more would follow."""
    made: list[str] = []
    for word in text.split():
        longer = f"{made[-1]} {word}" if made else word
        if made and width(longer, size) <= room:
            made[-1] = longer
        elif len(made) < most:
            made.append(cut(word, room, size))
        else:
            made[-1] = cut(f"{made[-1]} …", room, size)
            break
    return made
