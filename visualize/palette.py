"""The colours, by what they are for. Light and dark.

The hues are those of Okabe and Ito, "Color Universal Design" (2008), which people with any of the common colour blindnesses
tell apart. No kind is told by its colour alone: each has a shape, or a dash, of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

Role = Literal[
    "page", "ink", "muted", "faint", "line", "feedback", "lane", "lane.line",
    "event.fill", "event.line", "player.fill", "player.line", "motif.fill", "motif.line", "source.fill", "source.line",
    "table.fill", "table.line", "dead.fill", "dead.line", "warning", "undeclared", "unseen.fill", "unseen.line",
    "rate.0", "rate.1", "rate.2", "rate.3", "rate.4", "wait", "work", "retry", "timer", "series.1", "series.2", "series.3",
]  # fmt: skip
ROLES: tuple[Role, ...] = get_args(Role)

ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip


class Theme(msgspec.Struct, frozen=True):
    """A colour for every role."""

    name: str
    colours: Mapping[Role, str]

    def __getitem__(self, role: Role) -> str:
        return self.colours[role]


def mixed(a: str, b: str, share: float) -> str:
    """A colour between two: `share` of the first."""
    parts = [(int(a[i : i + 2], 16), int(b[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(x * share + y * (1 - share)):02x}" for x, y in parts)


def _theme(name: str, page: str, ink: str, tint: float, edge: float) -> Theme:
    kinds: dict[str, str] = {
        "event": SKY, "player": ORANGE, "motif": PURPLE, "source": GREEN, "table": YELLOW, "dead": VERMILION,
    }  # fmt: skip
    colours: dict[Role, str] = {
        "page": page,
        "ink": ink,
        "muted": mixed(ink, page, 0.66),
        "faint": mixed(ink, page, 0.16),
        "line": mixed(ink, page, 0.62),
        "feedback": mixed(BLUE, ink, 0.85) if name == "light" else mixed(SKY, page, 0.95),
        "lane": mixed(ink, page, 0.035),
        "lane.line": mixed(ink, page, 0.14),
        "warning": ORANGE,
        "undeclared": mixed("#E0101F", ink, 0.9),
        "unseen.fill": mixed(ink, page, 0.03),
        "unseen.line": mixed(ink, page, 0.3),
        "rate.0": mixed(ink, page, 0.55),
        "rate.1": mixed(YELLOW, "#806000", 0.55),
        "rate.2": ORANGE,
        "rate.3": VERMILION,
        "rate.4": mixed(VERMILION, "#5A0000" if name == "light" else "#FFD0C0", 0.55),
        "wait": mixed(ink, page, 0.3),
        "work": BLUE if name == "light" else SKY,
        "retry": VERMILION,
        "timer": mixed(PURPLE, ink, 0.75),
        "series.1": BLUE if name == "light" else SKY,
        "series.2": ORANGE,
        "series.3": VERMILION,
    }
    for kind, hue in kinds.items():
        colours[f"{kind}.fill"] = mixed(hue, page, tint)  # type: ignore[index]
        colours[f"{kind}.line"] = mixed(hue, ink, edge)  # type: ignore[index]
    return Theme(name, colours)


LIGHT = _theme("light", "#ffffff", "#1c2430", 0.2, 0.72)
DARK = _theme("dark", "#12161d", "#e8ecf2", 0.24, 0.78)
THEMES = {theme.name: theme for theme in (LIGHT, DARK)}
