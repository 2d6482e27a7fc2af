"""A picture as one HTML file that needs nothing else: pan, zoom, search, and a panel for what is clicked.

Owns what goes into `page.html`: the picture as SVG in colours of both themes, and what is known of each node as JSON. Its
content security policy forbids the page any network.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import msgspec

from visualize.graph import Graph, links, nodes
from visualize.palette import DARK, LIGHT, Role, Theme
from visualize.picture import Picture
from visualize.svg import elements


def page(picture: Picture, graph: Graph | None = None, theme: Theme | None = None) -> str:
    """The picture as a whole HTML document; of a reaction graph, with what is known of its nodes.

    Shapes: without a theme it is that which the reader's browser prefers.
    """
    data: dict[str, Any] = {"nodes": [], "edges": [], "theme": None if theme is None else theme.name}
    if graph is not None:
        data["nodes"] = [msgspec.to_builtins(node) for _, node in nodes(graph)]
        data["edges"] = [(a, b) for a, b, _ in links(graph)]
    filled: Mapping[str, str] = {
        "title": html.escape(picture.title),
        "light": variables(LIGHT),
        "dark": variables(DARK),
        "width": f"{picture.width:.1f}",
        "height": f"{picture.height:.1f}",
        "svg": "\n".join(elements(picture, variable)),
        # In a script nothing may look like its end.
        "data": json.dumps(data, ensure_ascii=False, default=str).replace("<", "\\u003c"),
    }
    template = files("visualize").joinpath("page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], template)


def variable(role: Role) -> str:
    """A colour as the page's variable of that role."""
    return f"var(--{role.replace('.', '-')})"


def variables(theme: Theme) -> str:
    """What gives these variables the colours of a theme, as CSS."""
    return " ".join(f"--{role.replace('.', '-')}: {colour};" for role, colour in theme.colours.items())
