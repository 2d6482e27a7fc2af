"""The reaction graph in DOT, for those who have Graphviz and layouts of their own."""

from __future__ import annotations

from visualize.graph import Graph, Node, links, nodes
from visualize.palette import LIGHT

SHAPES = {"event": "box", "player": "box", "motif": "hexagon", "source": "cds", "table": "cylinder", "dead": "note"}


def dot(graph: Graph) -> str:
    """A digraph, each node once, in the order of the score; a cluster for each group."""
    told = [
        f"digraph {_text(graph.graph['name'])} {{",
        "  rankdir=LR",
        '  node [fontname="DejaVu Sans", fontsize=11, style=filled]',
    ]
    groups: dict[str, list[Node]] = {}
    for _, node in nodes(graph):
        groups.setdefault(node.group, []).append(node)
    for number, (group, members) in enumerate(groups.items()):
        inset = "  "
        if group:
            told += [f"  subgraph cluster_{number} {{", f"    label={_text(group)}"]
            inset = "    "
        told += [f"{inset}{_node(node)}" for node in members]
        told += ["  }"] if group else []
    for a, b, link in links(graph):
        style = {"fails": " [style=dotted]", "fits": " [style=dashed, dir=none]", "keeps": " [dir=none]", "dies": " [dir=none]"}
        if link.is_drawn:
            told.append(f"  {_text(a)} -> {_text(b)}{' [arrowhead=tee]' if link.is_negated else style.get(link.kind, '')}")
    return "\n".join([*told, "}", ""])


def _node(node: Node) -> str:
    colours = LIGHT.colours
    fill, line = colours[f"{node.kind}.fill"], colours[f"{node.kind}.line"]  # type: ignore[index]
    label = "\\n".join(_inner(text) for text in (node.name, *node.lines))
    style = ', style="filled,rounded"' if node.kind == "event" else ""
    return f'{_text(node.id)} [label="{label}", shape={SHAPES[node.kind]}, fillcolor="{fill}", color="{line}"{style}]'


def _text(text: str) -> str:
    return f'"{_inner(text)}"'


def _inner(text: str) -> str:
    """Inside of quotes, where backslash and quote are DOT's own."""
    return "".join(each if each.isprintable() else " " for each in text).replace("\\", "\\\\").replace('"', '\\"')
